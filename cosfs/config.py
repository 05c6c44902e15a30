"""Settings: where they come from and what they are. Nothing below this layer reads the environment.

Every setting is taken from the first place that has it: an option of the command line, the
environment, the profile in ~/.cos/config, the default. Secrets are not settings: they stay in
~/.cos/credentials until `cosfs.client.auth` asks for them.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cosfs.errors import ConfigError
from cosfs.units import MIB, parse_duration, parse_rate, parse_size
from cosfs.version import __version__

__all__ = [
    "ClientSettings",
    "ConfigFile",
    "Settings",
    "TransferSettings",
    "load_settings",
    "setting_names",
]

log = logging.getLogger(__name__)

DEFAULT_PROFILE = "default"
# These live in ~/.cos/credentials, everything else in ~/.cos/config.
SECRET_KEYS = frozenset({"secret_id", "secret_key", "session_token", "assume_role"})


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How to reach COS."""

    region: str = ""  # default region; may be empty
    endpoint_url: str = ""  # empty = the real service; else for example http://127.0.0.1:9000
    addressing_style: str = (
        "auto"  # auto|virtual|path; auto = path if the endpoint is an address or localhost
    )
    appid: str = ""  # appended to bucket names given without one
    verify_ssl: bool = True
    ca_bundle: str = ""  # PEM file; empty = the system's
    proxy: str = ""  # empty = HTTPS_PROXY, HTTP_PROXY, NO_PROXY; a loopback endpoint never has one
    connect_timeout: float = 10.0
    read_timeout: float = 30.0  # of silence, not of the whole answer
    max_retries: int = 5  # further tries after the first
    max_connections: int = 256  # kept open per host; more are opened when needed and closed after use
    anonymous: bool = False  # send no signature
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
    _Setting("client", "addressing_style", "cos.addressing_style", _choice("auto", "virtual", "path")),
    _Setting("client", "appid", "appid", _appid, "COS_APPID"),
    _Setting("client", "verify_ssl", "verify_ssl", _flag, "", "no_verify_ssl", _negated_flag),
    _Setting("client", "ca_bundle", "ca_bundle", _text, "COS_CA_BUNDLE"),
    _Setting("client", "proxy", "proxy", _proxy),
    _Setting("client", "connect_timeout", "connect_timeout", _timeout),
    _Setting("client", "read_timeout", "read_timeout", _timeout),
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


def setting_names() -> list[str]:
    """Return the keys a profile may hold, nested ones as "cos.<name>"."""
    return [setting.key for setting in _SETTINGS]


def load_settings(
    options: Mapping[str, object] | None = None, *, environ: Mapping[str, str] | None = None
) -> Settings:
    """Collect the settings of one run; raise ConfigError naming the place of a bad one.

    options are those of the command line; None means "not given". A profile that was asked
    for by name must exist.
    """
    options = {name: value for name, value in (options or {}).items() if value is not None}
    environ = os.environ if environ is None else environ
    files = ConfigFile.locate(environ, str(options.get("config_file", "")))
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
    transfer = TransferSettings(**found["transfer"])
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
        resume_path=_home(environ) / ".cos" / "resume",
    )


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path("~").expanduser())


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
        return "option", _parsed(parse, options[option], f"--{option.replace('_', '-')}")
    if setting.env and environ.get(setting.env):
        return "environment", _parsed(setting.parse, environ[setting.env], setting.env)
    if values.get(setting.key):
        return "profile", _parsed(setting.parse, values[setting.key], f"{setting.key} in {place}")
    return None


def _parsed(parse: Callable[[str], Any], value: object, place: str) -> Any:
    try:
        return parse(str(value))
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


# --- the two files ---------------------------------------------------------------------------

_SECTION = re.compile(r"\s*\[([^\]]*)\]\s*(?:[#;].*)?")
_ENTRY = re.compile(r"(\s*)([^\s=:#;\[][^=:]*?)\s*[=:]\s*(.*)")
_COMMENT = re.compile(r"\s*(?:[#;].*)?")
_INLINE_COMMENT = re.compile(r"(?:^|\s)[#;].*")


class ConfigFile:
    """Read and write ~/.cos/config and ~/.cos/credentials.

    Both are INI files; config names its sections [default] and [profile NAME] (plain [NAME] is
    read too), credentials [NAME]. Indented lines below `cos =` are nested keys, named "cos.<key>"
    here. Writing keeps comments and order, and is atomic.
    """

    def __init__(self, config_path: Path, credentials_path: Path) -> None:
        self.config_path = config_path
        self.credentials_path = credentials_path

    @classmethod
    def locate(cls, environ: Mapping[str, str] | None = None, config_file: str = "") -> ConfigFile:
        """Find the files: an explicit path, the environment's, those in the home directory."""
        environ = os.environ if environ is None else environ
        home = _home(environ)
        config = config_file or environ.get("COS_CONFIG_FILE", "")
        credentials = environ.get("COS_SHARED_CREDENTIALS_FILE", "")
        return cls(
            _expand(config, home) if config else home / ".cos" / "config",
            _expand(credentials, home) if credentials else home / ".cos" / "credentials",
        )

    def profiles(self) -> list[str]:
        """Return the names of all profiles, those of config first."""
        names: dict[str, None] = {}
        for path in (self.config_path, self.credentials_path):
            for line in _read_lines(path):
                match = _SECTION.fullmatch(line)
                if match and (name := _section_profile(match[1], self._is_config(path))):
                    names[name] = None
        return list(names)

    def items(self, profile: str = DEFAULT_PROFILE) -> dict[str, str]:
        """Return all entries of a profile from both files; credentials win."""
        entries: dict[str, str] = {}
        for path in (self.config_path, self.credentials_path):
            entries |= _entries(_read_lines(path), profile, self._is_config(path), path)
        return entries

    def get(self, key: str, profile: str = DEFAULT_PROFILE) -> str | None:
        """Return one entry; key may carry its profile, as in "work.cos.max_bandwidth"."""
        profile, key = split_key(key, profile)
        return self.items(profile).get(key)

    def set(self, key: str, value: str, profile: str = DEFAULT_PROFILE) -> None:
        """Write one entry into the file it belongs to, which is made if it does not exist."""
        profile, key = split_key(key, profile)
        if "\n" in value or "\r" in value or "\0" in value:
            raise ConfigError(f"the value of {key} holds a line break")
        self._edit(profile, key, value)

    def unset(self, key: str, profile: str = DEFAULT_PROFILE) -> bool:
        """Remove one entry; return whether it was there."""
        profile, key = split_key(key, profile)
        if key not in self.items(profile):
            return False
        self._edit(profile, key, None)
        return True

    def _is_config(self, path: Path) -> bool:
        return path == self.config_path

    def _edit(self, profile: str, key: str, value: str | None) -> None:
        if not profile.strip() or any(sign in profile for sign in "[]\n\r\0"):
            raise ConfigError(f"{profile!r} cannot be the name of a profile")
        in_credentials = key in SECRET_KEYS
        # An entry that sits in the other file would go on hiding (or outlive) the one written here.
        for path in (self.config_path, self.credentials_path):
            at_home = (path == self.credentials_path) == in_credentials
            lines = _read_lines(path)
            present = key in _entries(lines, profile, self._is_config(path), path)
            if at_home and value is not None:
                _write(path, _with_entry(lines, profile, key, value, self._is_config(path)))
            elif present:
                _write(path, _with_entry(lines, profile, key, None, self._is_config(path)))


def split_key(key: str, profile: str) -> tuple[str, str]:
    """Take "NAME.cos.key", "profile.NAME.key", "cos.key" or "key" apart into profile and key."""
    *before, last = key.strip().split(".")
    name = last.lower().replace("-", "_")
    if before and before[-1] == "cos":
        name = f"cos.{name}"
        before.pop()
    if len(before) > 1 and before[0] == "profile":
        before.pop(0)
    if not re.fullmatch(r"(cos\.)?[a-z0-9_]+", name) or name == "cos":
        raise ConfigError(f"{key!r} is not the name of a setting")
    return ".".join(before) or profile, name


def _expand(path: str, home: Path) -> Path:
    return home / path[2:] if path.startswith("~/") else Path(path)


def _section_profile(section: str, is_config: bool) -> str:
    """Return the profile a section header names; credentials have no "profile " before it."""
    name = section.strip()
    if is_config and name.startswith("profile") and name[7:8].isspace():
        name = name[7:].strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1]
    return name


def _read_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and mode & 0o077 and path.name == "credentials":
                _warn_readable(path)
            return file.read().lstrip("\ufeff").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read {path}: {reason}") from error


_warned: set[Path] = set()


def _warn_readable(path: Path) -> None:
    """Say once that others can read the secrets."""
    if path not in _warned:
        _warned.add(path)
        log.warning("%s can be read by other users of this machine; run: chmod 600 %s", path, path)


def _entries(lines: list[str], profile: str, is_config: bool, path: Path) -> dict[str, str]:
    """Read the entries of one profile."""
    entries: dict[str, str] = {}
    inside, parent = False, ""
    for number, line in enumerate(lines, 1):
        if _COMMENT.fullmatch(line):
            continue
        if section := _SECTION.fullmatch(line):
            inside, parent = _section_profile(section[1], is_config) == profile, ""
            continue
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise ConfigError(f"{path}, line {number}: neither [profile NAME] nor key = value")
        if not inside:
            continue
        indent, key, value = entry[1], entry[2].lower().replace("-", "_"), _value(entry[3])
        if indent and parent:
            entries[f"{parent}.{key}"] = value
        elif value:
            entries[key], parent = value, ""
        else:
            parent = key  # a nested block follows, or nothing does
    return entries


def _value(text: str) -> str:
    """Return what is meant by the text after the equals sign."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return _INLINE_COMMENT.sub("", text).strip()


def _quoted(value: str) -> str:
    plain = value.strip() == value and not _INLINE_COMMENT.search(value)
    return value if plain and not (len(value) > 1 and value[0] == value[-1] == '"') else f'"{value}"'


def _with_entry(lines: list[str], profile: str, key: str, value: str | None, is_config: bool) -> list[str]:
    """Return the lines with one entry set, or removed if value is None."""
    lines = list(lines)
    start, end = _section_extent(lines, profile, is_config)
    if start < 0:
        header = f"[profile {profile}]" if is_config and profile != DEFAULT_PROFILE else f"[{profile}]"
        lines += ["", header] if lines and lines[-1].strip() else [header]
        start = end = len(lines)
    parent, _, name = key.rpartition(".")
    if parent:
        block_start, block_end = _block_extent(lines, start, end, parent)
        if block_start < 0:
            at = _last_entry(lines, start, end)
            lines.insert(at, f"{parent} =")
            block_start = block_end = at + 1
        start, end = block_start, block_end
    at = _entry_line(lines, start, end, name, nested=bool(parent))
    if value is None:
        if at >= 0:
            del lines[at]
        return lines
    text = f"{'  ' if parent else ''}{name} = {_quoted(value)}"
    if at >= 0:
        lines[at] = text
    else:
        lines.insert(_last_entry(lines, start, end), text)
    return lines


def _section_extent(lines: list[str], profile: str, is_config: bool) -> tuple[int, int]:
    """Return the lines of a profile's last section without its header, (-1, -1) if it has none."""
    start, end = -1, -1
    for index, line in enumerate(lines):
        if section := _SECTION.fullmatch(line):
            if start >= 0 and end < 0:
                end = index
            if _section_profile(section[1], is_config) == profile:
                start, end = index + 1, -1
    return start, (len(lines) if start >= 0 and end < 0 else end)


def _block_extent(lines: list[str], start: int, end: int, parent: str) -> tuple[int, int]:
    """Return the indented lines below `parent =`, (-1, -1) if there is no such block."""
    first = _entry_line(lines, start, end, parent, nested=False)
    if first < 0:
        return -1, -1
    stop = first + 1
    while stop < end and (_COMMENT.fullmatch(lines[stop]) or lines[stop][:1].isspace()):
        stop += 1
    return first + 1, stop


def _entry_line(lines: list[str], start: int, end: int, name: str, *, nested: bool) -> int:
    for index in range(end - 1, start - 1, -1):
        entry = _ENTRY.fullmatch(lines[index])
        if entry and bool(entry[1]) == nested and entry[2].lower().replace("-", "_") == name:
            return index
    return -1


def _last_entry(lines: list[str], start: int, end: int) -> int:
    """Return where a new entry goes: behind the last one, before blank lines and comments."""
    while end > start and _COMMENT.fullmatch(lines[end - 1]):
        end -= 1
    return end


def _write(path: Path, lines: list[str]) -> None:
    """Replace a file in one step; only its owner can read it."""
    import tempfile  # 5 ms that only a write pays

    target = Path(os.path.realpath(path))  # a symlink (dotfiles) stays one
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".cos-")  # made 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write("\n".join(lines) + "\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
