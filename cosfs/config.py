"""Settings: where they come from and what they are. Nothing below this layer reads the environment.

Every setting is taken from the first place that has it: an option of the command line, the
environment, the profile in ~/.cos/config, the default. Secrets are not settings: they stay in
~/.cos/credentials until `cosfs.client.credentials` asks for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cosfs.errors import ConfigError, COSError, UsageError
from cosfs.profiles import DEFAULT_PROFILE, ConfigFile, home_of
from cosfs.records import dataclass
from cosfs.units import MIB, exact_size, parse_duration, parse_rate, parse_size
from cosfs.version import __version__

__all__ = [
    "ClientSettings",
    "ConfigFile",
    "Settings",
    "TransferSettings",
    "load_settings",
    "setting_names",
    "stated_settings",
]


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach COS."""

    region: str = ""  # default region; may be empty
    endpoint_url: str = ""  # empty = the real service; else for example http://127.0.0.1:9000
    # Buckets that are reached elsewhere: a domain of their own, an internal host; {bucket} is its name.
    bucket_endpoints: tuple[tuple[str, str], ...] = ()
    addressing_style: str = (
        "auto"  # auto|virtual|path; auto = path if the endpoint is an address or localhost
    )
    accelerate: bool = False  # objects by the hosts of global acceleration; bucket settings never
    appid: str = ""  # appended to bucket names given without one
    verify_ssl: bool = True
    ca_bundle: str = ""  # PEM file; empty = the system's
    proxy: str = ""  # empty = HTTPS_PROXY, HTTP_PROXY, NO_PROXY; a loopback endpoint never has one
    connect_timeout: float = 10.0
    read_timeout: float = 30.0  # of silence, not of the whole answer
    max_retries: int = 5  # further tries after the first
    outage_timeout: float = 60.0  # of waiting for COS that went away; 0 = max_retries alone
    outage_at_start: bool = False  # whether that holds before the first answer as well: it was asked for
    max_connections: int = 256  # kept open per host; more are opened when needed and closed after use
    anonymous: bool = False  # send no signature
    regions_path: str = ""  # file that remembers the regions of buckets; empty = none does
    user_agent: str = f"cosmount/{__version__}"


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """How many bytes move at once."""

    max_concurrent_requests: int = 32  # of the whole process
    # ... and this many when they are so small that each is little more than a round trip
    max_small_requests: int = 256
    multipart_threshold: int = 16 * MIB  # objects from this size on are sent and fetched in parts
    multipart_chunksize: int = 8 * MIB  # raised where 10,000 parts would not do
    max_buffer_memory: int = 64 * MIB  # bytes held in memory by transfers, all together
    max_bandwidth: int = 0  # bytes a second of the whole process; 0 = no limit
    resume: bool = True  # keep what is needed to resume an interrupted transfer
    resume_threshold: int = 64 * MIB  # of objects from this size on


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one run; sources says where each came from."""

    profile: str = DEFAULT_PROFILE
    output: str = ""  # empty = chosen by whether a terminal looks on
    client: ClientSettings = field(default_factory=ClientSettings)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    config_path: Path = Path()
    credentials_path: Path = Path()
    resume_path: Path = Path()  # where interrupted transfers are remembered


# --- the table of settings -------------------------------------------------------------------


def _text(text: str) -> str:
    return text.strip()


def _flag(text: str) -> bool:
    word = text.strip().lower()
    if word in {"true", "yes", "on", "1"}:
        return True
    if word in {"false", "no", "off", "0"}:
        return False
    raise ValueError(f"not a yes or no: {text!r} (write true or false)")


def _negated_flag(text: str) -> bool:
    return not _flag(text)


def _count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text.strip())
        except ValueError:
            raise ValueError(f"not a whole number: {text!r}") from None
        if not least <= value <= most:
            raise ValueError(f"must be between {least} and {most}, not {value}")
        return value

    return parse


def _timeout(text: str) -> float:
    seconds = parse_duration(text)
    if seconds <= 0:
        raise ValueError(f"must be longer than nothing: {text!r}")
    return seconds


def _size(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = parse_size(text)
        if size < least:
            raise ValueError(f"must be at least {least} bytes, not {size}")
        return size

    return parse


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}, not {text!r}")
        return word

    return parse


_REGION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")


def _region(text: str) -> str:
    # It becomes part of a host name: "x.evil.example/" must not get there.
    region = text.strip()
    if region and not _REGION.fullmatch(region):
        raise ValueError(f"not a region: {text!r} (for example ap-guangzhou)")
    return region


def _appid(text: str) -> str:
    appid = text.strip()
    if appid and not (appid.isascii() and appid.isdigit()):
        raise ValueError(f"not an APPID: {text!r} (digits only, for example 1250000000)")
    return appid


def _endpoint(text: str) -> str:
    url = text.strip().rstrip("/")
    if url and not re.fullmatch(r"https?://[^/?#\s@]+", url, re.IGNORECASE):
        raise ValueError(
            f"not an endpoint: {text!r} (write for example https://cos.ap-guangzhou.myqcloud.com)"
        )
    return url


def _bucket_endpoints(text: str) -> tuple[tuple[str, str], ...]:
    found = {}
    for entry in filter(None, re.split(r"[,\s]+", text)):
        bucket, equals, url = entry.partition("=")
        if not equals or not re.fullmatch(r"[a-z0-9][a-z0-9-]*-\d+", bucket):
            raise ValueError(f"not BUCKET-APPID=URL: {entry!r}")
        found[bucket] = _endpoint(url)
    return tuple(sorted(found.items()))


def _proxy(text: str) -> str:
    url = text.strip()
    if url and "://" not in url:
        url = f"http://{url}"
    if url and not re.fullmatch(r"https?://[^/?#\s]+/?", url, re.IGNORECASE):
        raise ValueError(f"not a proxy: {text!r} (write for example http://proxy.example:3128)")
    return url


@dataclass(frozen=True, slots=True)
class _Setting:
    layer: str  # "client", "transfer" or "" for Settings itself
    name: str  # field of that dataclass
    key: str  # in the profile; "cos.x" is nested
    parse: Callable[[str], Any]
    env: str = ""
    option: str = ""  # name in the options mapping; empty = the name
    option_parse: Callable[[str], Any] | None = None


_SETTINGS = (
    _Setting("", "output", "output", _choice("json", "jsonl", "table", "text"), "COS_OUTPUT"),
    _Setting("client", "region", "region", _region, "COS_REGION"),
    _Setting("client", "endpoint_url", "endpoint_url", _endpoint, "COS_ENDPOINT_URL"),
    _Setting("client", "bucket_endpoints", "bucket_endpoints", _bucket_endpoints),
    _Setting("client", "addressing_style", "cos.addressing_style", _choice("auto", "virtual", "path")),
    _Setting("client", "accelerate", "cos.accelerate", _flag),
    _Setting("client", "appid", "appid", _appid, "COS_APPID"),
    _Setting("client", "verify_ssl", "verify_ssl", _flag, "", "no_verify_ssl", _negated_flag),
    _Setting("client", "ca_bundle", "ca_bundle", _text, "COS_CA_BUNDLE"),
    _Setting("client", "proxy", "proxy", _proxy),
    _Setting("client", "connect_timeout", "connect_timeout", _timeout),
    _Setting("client", "read_timeout", "read_timeout", _timeout),
    _Setting("client", "outage_timeout", "outage_timeout", parse_duration),
    _Setting("client", "max_retries", "max_retries", _count(0, 100)),
    _Setting("client", "max_connections", "cos.max_connections", _count(1, 4096)),
    _Setting("client", "anonymous", "no_sign_request", _flag, "", "no_sign_request"),
    _Setting(
        "transfer",
        "max_concurrent_requests",
        "cos.max_concurrent_requests",
        _count(1, 1024),
        "COS_MAX_CONCURRENT_REQUESTS",
    ),
    _Setting("transfer", "max_small_requests", "cos.max_small_requests", _count(1, 1024)),
    _Setting("transfer", "multipart_threshold", "cos.multipart_threshold", _size(1)),
    _Setting("transfer", "multipart_chunksize", "cos.multipart_chunksize", _size(MIB)),
    _Setting("transfer", "max_buffer_memory", "cos.max_buffer_memory", _size(MIB)),
    _Setting("transfer", "max_bandwidth", "cos.max_bandwidth", parse_rate),
    _Setting("transfer", "resume", "cos.resume", _flag),
    _Setting("transfer", "resume_threshold", "cos.resume_threshold", _size(1)),
)


_SIZES = ("multipart_threshold", "multipart_chunksize", "max_buffer_memory", "resume_threshold")


def setting_names() -> list[str]:
    """Return the keys a profile may hold, nested ones as "cos.<name>"."""
    return [setting.key for setting in _SETTINGS]


def stated_settings(settings: Settings) -> list[tuple[str, str, str]]:
    """Return the key of each setting in a profile, its value as one would write it there, and its source."""
    found = []
    for setting in _SETTINGS:
        layer = getattr(settings, setting.layer) if setting.layer else settings
        value, source = getattr(layer, setting.name), settings.sources.get(setting.name, "default")
        found.append((setting.key, _written(setting, value), source))
    return found


def _written(setting: _Setting, value: Any) -> str:
    """Return a value as text that is read as the same value again."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(f"{bucket}={url}" for bucket, url in value)
    if setting.parse is parse_rate:
        return f"{exact_size(value)}/s"
    if setting.name in _SIZES:
        return exact_size(value)
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".")  # seconds
    return str(value)


def option_names() -> frozenset[str]:
    """Return the names that load_settings, and what looks for credentials, know of options."""
    others = ("config_file", "profile", "secret_id", "secret_key", "session_token", "mfa_code")
    return frozenset((*(setting.option or setting.name for setting in _SETTINGS), *others))


def load_settings(
    options: Mapping[str, object] | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """Collect the settings of one run; raise ConfigError naming the place of a bad one.

    options are those of the command line; None means "not given". A profile or a file that was
    asked for by name must exist.
    """
    options = {name: value for name, value in (options or {}).items() if value is not None}
    environ = os.environ if environ is None else environ
    files = ConfigFile.locate(environ, str(options.get("config_file", "")))
    if options.get("config_file") and not files.config_path.exists():
        raise ConfigError(f"there is no settings file {files.config_path}", hint="--config-file names it")
    profile, profile_source = _profile(options, environ)
    values = files.items(profile)
    if profile_source != "default" and profile not in files.profiles():
        raise ConfigError(
            f"there is no profile {profile!r} in {files.config_path} or {files.credentials_path}",
            hint=f"Make it with: cos configure --profile {profile}",
        )
    found: dict[str, dict[str, Any]] = {"": {}, "client": {}, "transfer": {}}
    sources = {"profile": profile_source}
    for setting in _SETTINGS:
        taken = _look_up(setting, options, environ, values, f"profile {profile!r} of {files.config_path}")
        sources[setting.name] = taken[0] if taken else "default"
        if taken:
            found[setting.layer][setting.name] = taken[1]
    if "max_concurrent_requests" in found["transfer"]:
        # Whoever asks for 4 does not mean 256 small ones.
        found["transfer"].setdefault("max_small_requests", found["transfer"]["max_concurrent_requests"])
    found["client"]["outage_at_start"] = "outage_timeout" in found["client"]
    transfer = TransferSettings(**found["transfer"])
    found["client"]["regions_path"] = str(files.config_path.parent / "cache" / "regions.json")
    if "max_connections" not in found["client"]:
        # A connection for each request in flight, or keep-alive is lost.
        most = max(transfer.max_concurrent_requests, transfer.max_small_requests)
        found["client"]["max_connections"] = max(256, most)
    return Settings(
        profile=profile,
        **found[""],
        client=ClientSettings(**found["client"]),
        transfer=transfer,
        sources=MappingProxyType(sources),
        config_path=files.config_path,
        credentials_path=files.credentials_path,
        resume_path=home_of(environ) / ".cos" / "resume",
    )


def _profile(options: Mapping[str, object], environ: Mapping[str, str]) -> tuple[str, str]:
    if options.get("profile"):
        return str(options["profile"]), "option"
    if environ.get("COS_PROFILE"):
        return environ["COS_PROFILE"], "environment"
    return DEFAULT_PROFILE, "default"


def _look_up(
    setting: _Setting,
    options: Mapping[str, object],
    environ: Mapping[str, str],
    values: Mapping[str, str],
    place: str,
) -> tuple[str, Any] | None:
    """Return the source and value of a setting, None where only the default is left."""
    option = setting.option or setting.name
    # A switch that is off was not given: it must not hide the profile's value.
    if option in options and options[option] is not False:
        parse = setting.option_parse or setting.parse
        return "option", _parsed(parse, options[option], f"--{option.replace('_', '-')}", UsageError)
    if setting.env and environ.get(setting.env):
        return "environment", _parsed(setting.parse, environ[setting.env], setting.env)
    if values.get(setting.key):
        return "profile", _parsed(setting.parse, values[setting.key], f"{setting.key} in {place}")
    return None


def _parsed(
    parse: Callable[[str], Any], value: object, place: str, mistake: type[COSError] = ConfigError
) -> Any:
    try:
        return parse(str(value))
    except ValueError as error:
        raise mistake(f"{place}: {error}") from None
