"""Where credentials come from. A source is taken whole, never mixed with another one.

Order: options, environment, profile (keys, or a role assumed through STS), and the role of a
virtual machine only if the profile says `credential_source = CvmRole`. A profile asked for with
--profile goes before the environment, if it has credentials.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosfs.client.auth import CredentialProvider, Credentials, StaticCredentials
from cosfs.client.waiting import offload
from cosfs.config import ConfigFile, Settings
from cosfs.errors import ConfigError, CredentialsError
from cosfs.units import parse_duration

__all__ = ["AssumedRole", "CvmRole", "TemporaryCredentials", "assume_role", "find_credentials"]

log = logging.getLogger(__name__)

_METADATA = "http://metadata.tencentyun.com/latest/meta-data/cam/security-credentials/"
_STS = "https://sts.tencentcloudapi.com"
_DEFAULT_DURATION = 7200
# Renewed this long before the end, or after nine tenths of a short life.
_MARGIN = 300.0


def find_credentials(
    settings: Settings,
    options: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> CredentialProvider:
    """Return the first source that has credentials; raise CredentialsError if none has."""
    options = {name: value for name, value in (options or {}).items() if value}
    environ = os.environ if environ is None else environ
    given = _from_options(options)
    if given is not None:
        return StaticCredentials(given)
    files = ConfigFile(settings.config_path, settings.credentials_path)
    profile = files.items(settings.profile)
    from_environment = _from_environment(environ)
    if settings.sources.get("profile") == "option" and _has_credentials(profile):
        return _from_profile(settings, files, settings.profile)
    role = environ.get("COS_ASSUME_ROLE", "")
    if from_environment is not None:
        base = StaticCredentials(from_environment)
        return _assumed(base, {**profile, "assume_role": role}, settings) if role else base
    if role:
        profile = {**profile, "assume_role": role}
    if _has_credentials(profile):
        return _from_profile(settings, files, settings.profile, role)
    raise CredentialsError(
        "no credentials were found",
        hint="Run cos configure, or set COS_SECRET_ID and COS_SECRET_KEY",
    )


def _from_options(options: Mapping[str, object]) -> Credentials | None:
    secret_id, secret_key = str(options.get("secret_id", "")), str(options.get("secret_key", ""))
    if not secret_id and not secret_key:
        if options.get("session_token"):
            raise CredentialsError("--session-token needs --secret-id and --secret-key beside it")
        return None
    if not secret_id or not secret_key:
        raise CredentialsError("--secret-id and --secret-key must be given together")
    return _checked(Credentials(secret_id, secret_key, str(options.get("session_token", ""))), "the options")


def _from_environment(environ: Mapping[str, str]) -> Credentials | None:
    secret_id, secret_key = environ.get("COS_SECRET_ID", ""), environ.get("COS_SECRET_KEY", "")
    if not secret_id and not secret_key:
        return None
    if not secret_id or not secret_key:
        raise CredentialsError("COS_SECRET_ID and COS_SECRET_KEY must be set together")
    token = environ.get("COS_SESSION_TOKEN") or environ.get("COS_TOKEN", "")
    return _checked(Credentials(secret_id, secret_key, token), "the environment")


def _checked(credentials: Credentials, place: str) -> Credentials:
    """Refuse what cannot be a key: pasted quotes, blanks and line breaks are common."""
    for name in ("secret_id", "secret_key", "token"):
        value = getattr(credentials, name)
        if not value.isascii() or re.search(r"[\s\x00-\x1f\x7f]", value):
            raise CredentialsError(f"{name} from {place} holds a blank or another character no key has")
    return credentials


def _has_credentials(profile: Mapping[str, str]) -> bool:
    return any(profile.get(name) for name in ("secret_id", "secret_key", "assume_role", "credential_source"))


def _from_profile(
    settings: Settings, files: ConfigFile, name: str, role: str = "", seen: tuple[str, ...] = ()
) -> CredentialProvider:
    """Return the credentials of a profile, which may build on those of another one."""
    if name in seen:
        raise CredentialsError(f"the profiles {', '.join(seen)} name each other as source_profile")
    profile = files.items(name)
    if role:
        profile["assume_role"] = role
    if not profile.get("assume_role"):
        return _base(profile, name, files)
    source = profile.get("source_profile", "")
    if source and source != name:
        if source not in files.profiles():
            raise CredentialsError(f"the source_profile {source!r} of profile {name!r} does not exist")
        base = _from_profile(settings, files, source, seen=(*seen, name))
    else:
        base = _base(profile, name, files)
    return _assumed(base, profile, settings)


def _base(profile: Mapping[str, str], name: str, files: ConfigFile) -> CredentialProvider:
    """Return the credentials a profile has of its own."""
    secret_id, secret_key = profile.get("secret_id", ""), profile.get("secret_key", "")
    place = f"profile {name!r} in {files.credentials_path}"
    if secret_id and secret_key:
        token = profile.get("session_token") or profile.get("token", "")
        return StaticCredentials(_checked(Credentials(secret_id, secret_key, token), place))
    if secret_id or secret_key:
        raise CredentialsError(f"{place} must have both secret_id and secret_key")
    source = profile.get("credential_source", "")
    if source.lower().replace("_", "") == "cvmrole":
        return CvmRole(profile.get("cvm_role_name", ""), profile.get("metadata_endpoint", "") or _METADATA)
    if source:
        raise CredentialsError(f"{place}: credential_source can only be CvmRole, not {source!r}")
    raise CredentialsError(
        f"{place} has no keys to assume its role with",
        hint="Give secret_id and secret_key, or a source_profile",
    )


def _assumed(base: CredentialProvider, profile: Mapping[str, str], settings: Settings) -> CredentialProvider:
    try:
        duration = round(parse_duration(profile.get("duration_seconds") or str(_DEFAULT_DURATION)))
    except ValueError as error:
        raise ConfigError(f"duration_seconds in profile {settings.profile!r}: {error}") from None
    role = Role(
        arn=profile["assume_role"],
        session_name=profile.get("role_session_name", "") or "cosmount",
        external_id=profile.get("external_id", ""),
        duration=duration,
        endpoint=profile.get("sts_endpoint", "") or _STS,
        region=profile.get("sts_region", "") or settings.client.region or "ap-guangzhou",
    )
    return AssumedRole(base, role, settings.config_path.parent / "cache")


# --- credentials that end --------------------------------------------------------------------


class TemporaryCredentials:
    """Credentials that are fetched, kept, and fetched again shortly before they end. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._renew_at = 0.0
        self._refreshed_at = -math.inf

    def fetch(self) -> Credentials:
        """Get new credentials from where they come from."""
        raise NotImplementedError

    def get(self) -> Credentials:
        current = self._current
        if current is not None and self._clock() < self._renew_at:
            return current
        return offload(self._get)

    def _get(self) -> Credentials:
        with self._lock:
            if self._current is not None and self._clock() < self._renew_at:
                return self._current
            return self._renewed()

    def refresh(self) -> Credentials:
        return offload(self._refresh)

    def _refresh(self) -> Credentials:
        with self._lock:
            # Many requests fail at the same time with the old ones; one of them fetches.
            if self._current is None or self._clock() - self._refreshed_at >= 10:
                self._current = None
                self._renewed()
                self._refreshed_at = self._clock()
            assert self._current is not None
            return self._current

    def _renewed(self) -> Credentials:
        """Fetch; go on with the old ones for as long as they last if that fails."""
        now = self._clock()
        try:
            new = self.fetch()
        except CredentialsError as error:
            if self._current is None or now >= self._current.expires - 10:
                raise
            log.warning("%s; the old credentials are used for %d s more", error, self._current.expires - now)
            self._renew_at = now + 30
            return self._current
        self._current = new
        self._renew_at = renewal_time(new, now)
        return new


def renewal_time(credentials: Credentials, now: float) -> float:
    """Return when to fetch new credentials."""
    if not credentials.expires:
        return now + 3600
    return credentials.expires - min(_MARGIN, 0.1 * max(0.0, credentials.expires - now))


@dataclass(frozen=True, slots=True)
class Role:
    """A role and how to ask for it."""

    arn: str
    session_name: str
    external_id: str
    duration: int  # seconds
    endpoint: str
    region: str


class AssumedRole(TemporaryCredentials):
    """Credentials of a role, from STS; kept in a file so that each run does not ask again."""

    def __init__(
        self, base: CredentialProvider, role: Role, cache: Path | None, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
        self._base = base
        self._role = role
        self._cache = cache
        self._from_cache = False

    def fetch(self) -> Credentials:
        base = self._base.get()
        path = self._path(base)
        if path is not None and not self._from_cache:
            self._from_cache = True  # once: after that, what is there has been refused or is old
            kept = _read_cache(path)
            if kept is not None and self._clock() < renewal_time(kept, self._clock()) - 60:
                return kept
        new = assume_role(base, self._role)
        if path is not None:
            _write_cache(path, new)
        return new

    def _path(self, base: Credentials) -> Path | None:
        if self._cache is None:
            return None
        role = self._role
        parts = (base.secret_id, role.arn, role.session_name, role.external_id, role.duration, role.endpoint)
        return self._cache / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}.json"


def assume_role(base: Credentials, role: Role) -> Credentials:
    """Ask STS for credentials of a role."""
    try:
        from tencentcloud.common.credential import Credential
        from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
        from tencentcloud.common.profile.client_profile import ClientProfile
        from tencentcloud.common.profile.http_profile import HttpProfile
        from tencentcloud.sts.v20180813 import models, sts_client
    except ImportError as error:
        raise CredentialsError(
            "assuming a role needs the package tencentcloud-sdk-python-sts", hint="Install it with pip"
        ) from error
    protocol, host = _sts_endpoint(role.endpoint)
    http = HttpProfile(protocol=protocol, endpoint=host, reqTimeout=20)
    request = models.AssumeRoleRequest()
    request.RoleArn = role.arn
    request.RoleSessionName = role.session_name
    request.DurationSeconds = role.duration
    if role.external_id:
        request.ExternalId = role.external_id
    try:
        client = sts_client.StsClient(
            Credential(base.secret_id, base.secret_key, base.token or None),
            role.region,
            ClientProfile(httpProfile=http),
        )
        answer = client.AssumeRole(request)
    except TencentCloudSDKException as error:
        raise _sts_error(error, role, host) from error
    given = answer.Credentials
    return Credentials(given.TmpSecretId, given.TmpSecretKey, given.Token, float(answer.ExpiredTime))


def _sts_endpoint(text: str) -> tuple[str, str]:
    """Return protocol and host of an STS endpoint; plain HTTP is for this machine only."""
    match = re.fullmatch(r"(?:(https?)://)?([^/?#\s@]+)/?", text)
    if match is None:
        raise ConfigError(f"sts_endpoint is not an address: {text!r}")
    protocol, host = match[1] or "https", match[2]
    if protocol == "http" and host.partition(":")[0] not in ("127.0.0.1", "localhost"):
        raise ConfigError(f"sts_endpoint must be https, not {text!r}", hint="Keys would travel unprotected")
    return protocol, host


def _sts_error(error: Any, role: Role, host: str) -> CredentialsError:
    code, message = str(error.get_code() or ""), str(error.get_message() or "")
    if code in ("ClientNetworkError", "ClientError.NetworkError", "ServerNetworkError"):
        return CredentialsError(f"STS at {host} cannot be reached: {message}", hint="Check the network")
    hints = {
        "ResourceNotFound.RoleNotFound": "Check assume_role (COS_ASSUME_ROLE)",
        "UnauthorizedOperation": "The role's trust policy must allow this account",
    }
    hint = hints.get(code, "Check secret_id and secret_key" if code.startswith("AuthFailure") else "")
    notes = f"{code}, RequestId {error.get_request_id()}" if error.get_request_id() else code
    return CredentialsError(f"the role {role.arn} cannot be assumed: {message} ({notes})", hint=hint)


def _read_cache(path: Path) -> Credentials | None:
    """Return what an earlier run has kept; anything odd about the file means nothing was kept."""
    try:
        status = path.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        kept = json.loads(path.read_text())
        credentials = Credentials(kept["id"], kept["key"], kept["token"], float(kept["expires"]))
        return _checked(credentials, str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, CredentialsError):
        return None


def _write_cache(path: Path, credentials: Credentials) -> None:
    """Keep credentials for later runs; it is no error if that does not work."""
    kept = {
        "id": credentials.secret_id,
        "key": credentials.secret_key,
        "token": credentials.token,
        "expires": credentials.expires,
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(kept, file)
        temporary.replace(path)
    except OSError as error:
        log.debug("credentials are not kept in %s: %s", path, error)
        temporary.unlink(missing_ok=True)


class CvmRole(TemporaryCredentials):
    """Credentials of the role that is bound to this virtual machine."""

    def __init__(
        self, name: str = "", endpoint: str = _METADATA, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(clock)
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
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CredentialsError(
                f"the metadata service's answer for role {name!r} is unreadable"
            ) from error

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
