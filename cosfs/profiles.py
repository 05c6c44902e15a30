"""The files ~/.cos/config and ~/.cos/credentials: read, and written without losing comments."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from cosfs.errors import ConfigError

__all__ = ["DEFAULT_PROFILE", "ROLE_KEYS", "SECRET_KEYS", "ConfigFile", "home_of", "split_key"]

log = logging.getLogger(__name__)

DEFAULT_PROFILE = "default"
# These live in ~/.cos/credentials, everything else in ~/.cos/config.
SECRET_KEYS = frozenset({"secret_id", "secret_key", "session_token", "assume_role"})
# Keys of a profile that say where its credentials come from.
ROLE_KEYS = (
    "source_profile",
    "role_session_name",
    "duration_seconds",
    "external_id",
    "mfa_serial",
    "sts_endpoint",
    "sts_region",
    "credential_source",
    "credential_process",
    "cvm_role_name",
    "metadata_endpoint",
    "web_identity_token_file",
    "provider_id",
    "secret_store",
)


def home_of(environ: Mapping[str, str]) -> Path:
    """Return the home directory that an environment means.

    It is `/` where neither it nor the machine knows one, as for the user of a container that no
    /etc/passwd names.
    """
    if home := environ.get("HOME"):
        return Path(home)
    try:
        return Path("~").expanduser()
    except RuntimeError:
        return Path("/")


_SECTION = re.compile(r"\s*\[([^\]]*)\]\s*(?:[#;].*)?")
_ENTRY = re.compile(r"(\s*)([^\s=:#;\[][^=:]*?)\s*[=:]\s*(.*)")
_SECRET = re.compile(r"\s*(?:secret_key|session_token)\s*[=:]\s*\S", re.IGNORECASE)
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
        home = home_of(environ)
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
            lines = file.read().lstrip("\ufeff").splitlines()
        # Whatever it is called: another file can be named, and keys are read from `config` too.
        if (
            stat.S_ISREG(mode)
            and mode & 0o077
            and (path.name == "credentials" or any(map(_SECRET.match, lines)))
        ):
            _warn_readable(path)
        return lines
    except (FileNotFoundError, NotADirectoryError):  # the home of a service may be /dev/null
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        names = "COS_SHARED_CREDENTIALS_FILE" if path.name == "credentials" else "COS_CONFIG_FILE"
        denied = isinstance(error, PermissionError)
        hint = f"Let this user read it, or set HOME or {names}" if denied else ""
        raise ConfigError(f"cannot read {path}: {reason}", hint=hint) from error


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
    started = False  # what stands before the first section would be read by nobody
    for number, line in enumerate(lines, 1):
        if _COMMENT.fullmatch(line):
            continue
        if section := _SECTION.fullmatch(line):
            inside, parent = _section_profile(section[1], is_config) == profile, ""
            started = True
            continue
        entry = _ENTRY.fullmatch(line)
        if entry is None:
            raise ConfigError(f"{path}, line {number}: neither [profile NAME] nor key = value")
        if not started:
            raise ConfigError(
                f"{path}, line {number}: belongs to no profile", hint=f"Write [{DEFAULT_PROFILE}] above it"
            )
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
