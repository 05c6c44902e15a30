"""Credentials of roles: those that STS gives, and the one that is bound to this virtual machine."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cosfs.client.auth import CredentialProvider, Credentials
from cosfs.client.credential_cache import CredentialCache, Kept
from cosfs.client.sts import Role, Sts
from cosfs.client.temporary import TemporaryCredentials, renewal_time
from cosfs.errors import CredentialsError

__all__ = ["METADATA", "AssumedRole", "CvmRole", "SharedCredentials", "WebIdentityRole", "is_cvm"]

log = logging.getLogger(__name__)

METADATA = "http://metadata.tencentyun.com/latest/meta-data/cam/security-credentials/"


class SharedCredentials(TemporaryCredentials):
    """Temporary credentials of a role that all processes of a user share by way of a file."""

    def __init__(
        self,
        role: Role,
        sts: Sts,
        directory: Path | None,
        source: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock, source)
        self._role = role
        self._sts = sts
        self._directory = directory
        self._renewals: dict[Credentials, float] = {}
        self._last: Credentials | None = None

    def limited(self, policy: str, duration: int) -> Credentials:
        """Return credentials of the role that may do only what policy (JSON) allows; empty: all it may.

        duration 0 is that of the role.
        """
        if not policy and not duration:
            return self.get()
        return self._ask(replace(self._role, policy=policy, duration=duration or self._role.duration))

    def _ask(self, role: Role) -> Credentials:
        """Ask STS."""
        raise NotImplementedError

    def cache(self) -> CredentialCache | None:
        """Return where the credentials are kept."""
        raise NotImplementedError

    def renewal_of(self, credentials: Credentials, now: float) -> float:
        return self._renewals.get(credentials) or super().renewal_of(credentials, now)

    def fetch(self) -> Credentials:
        cache = self.cache()
        if cache is None:
            return self._asked(None)
        with cache.lock():
            kept = cache.read()
            # What another process has fetched will do; not what COS has refused us.
            if kept and kept.credentials != self._last and self._clock() < kept.renew_at:
                self._remember(kept)
                return kept.credentials
            return self._asked(cache)

    def _asked(self, cache: CredentialCache | None) -> Credentials:
        new = self._ask(self._role)
        kept = Kept(new, renewal_time(new, self._clock()))
        self._remember(kept)
        if cache is not None:
            cache.write(kept)
        return new

    def _remember(self, kept: Kept) -> None:
        self._last = kept.credentials
        self._renewals = {kept.credentials: kept.renew_at}


class AssumedRole(SharedCredentials):
    """Credentials of a role, asked for with other credentials; ask_code gets the code of an MFA device."""

    def __init__(
        self,
        base: CredentialProvider,
        role: Role,
        sts: Sts,
        directory: Path | None,
        *,
        ask_code: Callable[[str], str] | None = None,
        source: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(role, sts, directory, source, clock)
        self._base = base
        self._ask_code = ask_code

    def _ask(self, role: Role) -> Credentials:
        code = ""
        if role.mfa_serial:
            if self._ask_code is None:
                raise CredentialsError(
                    f"the role {role.arn} needs a code of the device {role.mfa_serial}",
                    hint="Give it with --mfa-code, or run a command such as cos whoami on a terminal first: "
                    "the keys are kept until they end",
                )
            code = self._ask_code(role.mfa_serial)
        return self._sts.assume_role(self._base.get(), role, code)

    def cache(self) -> CredentialCache | None:
        if self._directory is None:
            return None
        role = self._role
        parts = (
            *(self._base.get().secret_id, role.arn, role.session_name, role.external_id, role.duration),
            *(role.mfa_serial, role.policy, self._sts.endpoint),
        )
        return CredentialCache(self._directory, parts)


class WebIdentityRole(SharedCredentials):
    """Credentials of a role for the token in a file, which a pod of TKE gets and which changes there."""

    def __init__(
        self,
        role: Role,
        provider_id: str,
        token_file: Path,
        sts: Sts,
        directory: Path | None,
        *,
        source: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(role, sts, directory, source, clock)
        self._provider_id = provider_id
        self._token_file = token_file

    def _ask(self, role: Role) -> Credentials:
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no token"
            raise CredentialsError(
                f"the identity token {self._token_file} cannot be read: {reason}",
                hint="Check TKE_WEB_IDENTITY_TOKEN_FILE and the service account of the pod",
            ) from None
        return self._sts.assume_role_with_web_identity(role, self._provider_id, token)

    def cache(self) -> CredentialCache | None:
        if self._directory is None:
            return None
        role = self._role
        parts = (self._provider_id, str(self._token_file), role.arn, role.session_name, role.duration)
        return CredentialCache(self._directory, (*parts, self._sts.endpoint))


class CvmRole(TemporaryCredentials):
    """Credentials of the role that is bound to this virtual machine."""

    def __init__(
        self,
        name: str = "",
        endpoint: str = METADATA,
        clock: Callable[[], float] = time.time,
        source: str = "the role of this virtual machine",
    ) -> None:
        super().__init__(clock, source)
        self._name = name
        self._endpoint = endpoint if endpoint.endswith("/") else f"{endpoint}/"

    def fetch(self) -> Credentials:
        name = self._name or self._read("").split("\n")[0].strip()
        if not name:
            raise CredentialsError("no role is bound to this virtual machine", hint="Bind one in the console")
        try:
            answer = json.loads(self._read(name))
            if answer.get("Code", "Success") != "Success":
                raise CredentialsError(f"the metadata service gives no credentials: {answer['Code']}")
            return Credentials(
                answer["TmpSecretId"], answer["TmpSecretKey"], answer["Token"], float(answer["ExpiredTime"])
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            # Without the cause, which would show the answer and the secrets in it.
            raise CredentialsError(f"the metadata service's answer for role {name!r} is unreadable") from None

    def _read(self, name: str) -> str:
        from urllib.parse import quote
        from urllib.request import ProxyHandler, build_opener

        # Never through a proxy: the answer is about this machine, and secret.
        opener = build_opener(ProxyHandler({}))
        try:
            with opener.open(self._endpoint + quote(name, safe=""), timeout=3) as answer:
                return str(answer.read(65536).decode())
        except (OSError, ValueError) as error:
            raise CredentialsError(
                f"the metadata service of the virtual machine does not answer: {error}",
                hint="credential_source = CvmRole works on Tencent Cloud machines with a role only",
            ) from error


def is_cvm(root: Path = Path("/sys/class/dmi/id")) -> bool:
    """Return whether this is a virtual machine of Tencent Cloud, without asking the network."""
    for name in ("sys_vendor", "chassis_vendor", "board_vendor", "bios_vendor", "chassis_asset_tag"):
        try:
            if "tencent" in (root / name).read_text(errors="replace").lower():
                return True
        except OSError:
            continue
    return False
