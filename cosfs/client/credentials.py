"""Where credentials come from. A source is taken whole, never mixed with another one.

Order: options, environment, profile (keys, a program that prints them, or a role assumed through STS), the
identity of a pod of TKE, the role of a virtual machine of Tencent Cloud. A profile asked for with --profile
goes before the environment, if it has credentials.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from cosfs.client.auth import CredentialProvider, Credentials, StaticCredentials
from cosfs.client.roles import METADATA, AssumedRole, CvmRole, WebIdentityRole, is_cvm
from cosfs.client.sts import DEFAULT_ENDPOINT, Role, Sts
from cosfs.client.waiting import offload
from cosfs.config import ConfigFile, Settings
from cosfs.errors import ConfigError, CredentialsError, MissingCredentialsError
from cosfs.units import parse_duration

__all__ = ["checked", "find_credentials", "find_sts"]

_DEFAULT_DURATION = 7200
_TKE = ("TKE_PROVIDER_ID", "TKE_WEB_IDENTITY_TOKEN_FILE", "TKE_ROLE_ARN")
_ANY_OF = (
    "secret_id",
    "secret_key",
    "secret_store",
    "assume_role",
    "credential_source",
    "credential_process",
    "web_identity_token_file",
)
AskCode = Callable[[str], str]


def find_credentials(
    settings: Settings,
    options: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    ask_code: AskCode | None = None,
) -> CredentialProvider:
    """Return the first source that has credentials; raise CredentialsError if none has.

    ask_code is given the name of an MFA device and returns the code it shows; None: nobody can be asked.
    """
    options = {name: value for name, value in (options or {}).items() if value}
    return _Finder(settings, options, os.environ if environ is None else environ, ask_code).find()


def find_sts(
    settings: Settings, *, environ: Mapping[str, str] | None = None, profile: Mapping[str, str] | None = None
) -> Sts:
    """Return where STS is: as the profile says; beside an endpoint on this machine; Tencent Cloud's."""
    from cosfs.client.endpoint import endpoint_is_local

    environ = os.environ if environ is None else environ
    if profile is None:
        profile = ConfigFile(settings.config_path, settings.credentials_path).items(settings.profile)
    endpoint = environ.get("COS_STS_ENDPOINT", "") or profile.get("sts_endpoint", "")
    client = settings.client
    if not endpoint:
        # The keys of a server on this machine are nobody else's business.
        endpoint = client.endpoint_url if endpoint_is_local(client.endpoint_url) else DEFAULT_ENDPOINT
    return Sts(
        endpoint,
        profile.get("sts_region", "") or client.region or environ.get("TKE_REGION", "") or "ap-guangzhou",
        client.proxy,
        client.ca_bundle,
    )


def checked(credentials: Credentials, place: str) -> Credentials:
    """Refuse what cannot be a key: pasted quotes, blanks and line breaks are common."""
    for name in ("secret_id", "secret_key", "token"):
        value = getattr(credentials, name)
        if not value.isascii() or re.search(r"[\s\x00-\x1f\x7f]", value):
            raise CredentialsError(f"{name} from {place} holds a blank or another character no key has")
    return credentials


class _Finder:
    """One search for credentials."""

    def __init__(
        self,
        settings: Settings,
        options: Mapping[str, object],
        environ: Mapping[str, str],
        ask_code: AskCode | None,
    ) -> None:
        self._settings = settings
        self._options = options
        self._environ = environ
        self._files = ConfigFile(settings.config_path, settings.credentials_path)
        self._ask_code = _CodeOnce(str(options.get("mfa_code", "")), ask_code).ask
        self._may_ask_code = bool(options.get("mfa_code")) or ask_code is not None

    def find(self) -> CredentialProvider:
        settings, environ = self._settings, self._environ
        given = _from_options(self._options)
        if given is not None:
            return StaticCredentials(given, "options")
        profile = self._files.items(settings.profile)
        from_environment = _from_environment(environ)
        if settings.sources.get("profile") == "option" and _has_credentials(profile):
            return self._from_profile(settings.profile)
        role = environ.get("COS_ASSUME_ROLE", "")
        if from_environment is not None:
            base = StaticCredentials(from_environment, "environment")
            if not role:
                return base
            return self._assumed(base, {**profile, "assume_role": role}, "environment", "COS_ASSUME_ROLE")
        if role:
            profile = {**profile, "assume_role": role}
        if _has_credentials(profile):
            return self._from_profile(settings.profile, role)
        if any(environ.get(name) for name in _TKE):
            return self._tke()
        if environ.get("COS_METADATA_ENDPOINT") or is_cvm():
            return self._cvm(profile)
        raise MissingCredentialsError(
            "no credentials were found",
            hint="Run cos configure, or set COS_SECRET_ID and COS_SECRET_KEY",
        )

    def _from_profile(self, name: str, role: str = "", seen: tuple[str, ...] = ()) -> CredentialProvider:
        """Return the credentials of a profile, which may build on those of another one."""
        if name in seen:
            raise CredentialsError(f"the profiles {', '.join(seen)} name each other as source_profile")
        profile = self._files.items(name)
        if role:
            profile["assume_role"] = role
        if profile.get("web_identity_token_file"):
            return self._web_identity(profile, name)
        if not profile.get("assume_role"):
            return self._base(profile, name)
        source = profile.get("source_profile", "")
        if source and source != name:
            if source not in self._files.profiles():
                raise CredentialsError(f"the source_profile {source!r} of profile {name!r} does not exist")
            base = self._from_profile(source, seen=(*seen, name))
            return self._assumed(base, profile, f"profile {source!r}", f"profile {name!r}")
        return self._assumed(self._base(profile, name), profile, f"profile {name!r}", f"profile {name!r}")

    def _base(self, profile: Mapping[str, str], name: str) -> CredentialProvider:
        """Return the credentials a profile has of its own."""
        place = f"profile {name!r} in {self._files.credentials_path}"
        if profile.get("secret_id") or profile.get("secret_key") or profile.get("secret_store"):
            return ProfileKeys(self._files, name)
        if profile.get("credential_process"):
            from cosfs.client.credential_process import ProcessCredentials  # 6 ms, for few

            return ProcessCredentials(
                profile["credential_process"], source=f"credential_process of profile {name!r}"
            )
        source = profile.get("credential_source", "")
        match source.lower().replace("_", ""):
            case "cvmrole":
                return self._cvm(profile)
            case "tkerole":
                return self._tke()
            case "environment":
                found = _from_environment(self._environ)
                if found is None:
                    raise CredentialsError(
                        f"{place} takes its keys from the environment, where there are none",
                        hint="Set COS_SECRET_ID and COS_SECRET_KEY",
                    )
                return StaticCredentials(found, "environment")
        if source:
            raise CredentialsError(
                f"{place}: credential_source can only be CvmRole, TkeRole or Environment, not {source!r}"
            )
        raise CredentialsError(
            f"{place} has no keys to assume its role with",
            hint="Give secret_id and secret_key, or a source_profile",
        )

    def _cvm(self, profile: Mapping[str, str]) -> CvmRole:
        endpoint = self._environ.get("COS_METADATA_ENDPOINT") or profile.get("metadata_endpoint", "")
        return CvmRole(profile.get("cvm_role_name", ""), endpoint or METADATA)

    def _tke(self) -> WebIdentityRole:
        environ = self._environ
        missing = [name for name in _TKE if not environ.get(name)]
        if missing:
            raise CredentialsError(
                f"the identity of a pod needs {', '.join(missing)} as well",
                hint="TKE sets them where the service account of the pod is bound to a role",
            )
        provider, token_file, arn = (environ[name] for name in _TKE)
        role = Role(arn=arn, duration=_DEFAULT_DURATION)
        sts = find_sts(self._settings, environ=environ)
        return WebIdentityRole(
            role, provider, Path(token_file), sts, self._cache, source="the identity of this pod (TKE)"
        )

    def _web_identity(self, profile: Mapping[str, str], name: str) -> WebIdentityRole:
        for key in ("assume_role", "provider_id"):
            if not profile.get(key):
                raise CredentialsError(
                    f"profile {name!r} has web_identity_token_file, which needs {key} as well"
                )
        return WebIdentityRole(
            self._role(profile),
            profile["provider_id"],
            Path(profile["web_identity_token_file"]).expanduser(),
            find_sts(self._settings, environ=self._environ, profile=profile),
            self._cache,
            source=f"role {profile['assume_role']} of profile {name!r}, with a web identity",
        )

    def _assumed(
        self, base: CredentialProvider, profile: Mapping[str, str], keys: str, place: str
    ) -> AssumedRole:
        return AssumedRole(
            base,
            self._role(profile),
            find_sts(self._settings, environ=self._environ, profile=profile),
            self._cache,
            ask_code=self._ask_code if self._may_ask_code else None,
            source=f"role {profile['assume_role']} of {place}, assumed with the keys of {keys}",
        )

    def _role(self, profile: Mapping[str, str]) -> Role:
        try:
            duration = round(parse_duration(profile.get("duration_seconds") or str(_DEFAULT_DURATION)))
        except ValueError as error:
            raise ConfigError(f"duration_seconds in profile {self._settings.profile!r}: {error}") from None
        return Role(
            arn=profile["assume_role"],
            session_name=profile.get("role_session_name", "") or "cosmount",
            external_id=profile.get("external_id", ""),
            duration=duration,
            mfa_serial=profile.get("mfa_serial", ""),
        )

    @property
    def _cache(self) -> Path:
        return self._settings.config_path.parent / "cache"


class ProfileKeys:
    """The keys in a profile's file or its keyring; read again when COS refuses them."""

    def __init__(self, files: ConfigFile, profile: str) -> None:
        self._files = files
        self._profile = profile
        self._lock = threading.Lock()
        self.source = f"profile {profile!r}"
        self._current = self._read()

    def get(self) -> Credentials:
        return self._current

    def refresh(self) -> Credentials:
        return offload(self._refresh)

    def _refresh(self) -> Credentials:
        with self._lock:
            try:
                self._current = self._read()
            except ConfigError:
                pass  # in the middle of being written; COS's refusal is what the user must see
            return self._current

    def _read(self) -> Credentials:
        values = self._files.items(self._profile)
        place = f"profile {self._profile!r} in {self._files.credentials_path}"
        store = values.get("secret_store", "")
        if store:
            from cosfs.client import keyrings

            if store != keyrings.STORE:
                raise CredentialsError(f"{place}: secret_store can only be keyring, not {store!r}")
            values = keyrings.load(self._profile, self._files.credentials_path)
            place = f"the keyring for profile {self._profile!r}"
            self.source = f"profile {self._profile!r}, in the keyring"
        secret_id, secret_key = values.get("secret_id", ""), values.get("secret_key", "")
        if not secret_id or not secret_key:
            raise CredentialsError(f"{place} must have both secret_id and secret_key")
        token = values.get("session_token") or values.get("token", "")
        return checked(Credentials(secret_id, secret_key, token), place)


class _CodeOnce:
    """A code that was given is good once; after that somebody must be asked."""

    def __init__(self, given: str, ask: AskCode | None) -> None:
        self._given = given
        self._ask = ask

    def ask(self, device: str) -> str:
        code, self._given = self._given, ""
        if not code and self._ask is None:
            raise CredentialsError(
                f"a new code of the device {device} is needed, and nobody can be asked for it",
                hint="Start again with a new --mfa-code",
            )
        code = code or (self._ask(device) if self._ask else "")
        if not re.fullmatch(r"\d{4,10}", code):
            raise CredentialsError(f"the code of the device {device} must be digits")
        return code


def _from_options(options: Mapping[str, object]) -> Credentials | None:
    secret_id, secret_key = str(options.get("secret_id", "")), str(options.get("secret_key", ""))
    if not secret_id and not secret_key:
        if options.get("session_token"):
            raise CredentialsError("--session-token needs --secret-id and --secret-key beside it")
        return None
    if not secret_id or not secret_key:
        raise CredentialsError("--secret-id and --secret-key must be given together")
    return checked(Credentials(secret_id, secret_key, str(options.get("session_token", ""))), "the options")


def _from_environment(environ: Mapping[str, str]) -> Credentials | None:
    secret_id, secret_key = environ.get("COS_SECRET_ID", ""), environ.get("COS_SECRET_KEY", "")
    if not secret_id and not secret_key:
        return None
    if not secret_id or not secret_key:
        raise CredentialsError("COS_SECRET_ID and COS_SECRET_KEY must be set together")
    token = environ.get("COS_SESSION_TOKEN") or environ.get("COS_TOKEN", "")
    return checked(Credentials(secret_id, secret_key, token), "the environment")


def _has_credentials(profile: Mapping[str, str]) -> bool:
    return any(profile.get(name) for name in _ANY_OF)
