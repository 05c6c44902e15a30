"""File attributes as object metadata, and back. Pure.

The format is that of Tencent's cosfs, so that a file has the same mode, owner, mtime and extended
attributes in either (`x-cos-meta-` left out here):

    mode            st_mode with the type bits, decimal; rclone's octal text is read as well
    uid, gid        decimal; `owner` and `group` are read as well
    mtime           whole seconds, never negative, because cosfs reads anything else as garbage
    xattr           percent-encoded JSON {"user.name": "<base64>"}

Beside it, ignored by cosfs and only where needed, stand keys of our own:

    mtime-ns        mtime exactly, in nanoseconds; believed only while it agrees with mtime, so that
                    another program may change mtime without knowing of it
    atime, ctime    seconds with up to nine decimals, as s3fs writes them; atime is left out when it
                    is mtime; ctime when it is mtime and mtime-ns is there
    rdev            st_rdev of a device node, decimal
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import mimetypes
import re
import stat
from collections.abc import Mapping
from dataclasses import field, replace
from functools import lru_cache
from posixpath import splitext
from urllib.parse import quote, unquote

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import FilesystemError
from cosfs.records import dataclass

__all__ = [
    "METADATA_MAX",
    "Attributes",
    "Defaults",
    "content_type",
    "decode",
    "encode",
    "is_directory_object",
]

METADATA_MAX = 2048  # bytes of all x-cos-meta-* names and values of one object
DIRECTORY_TYPE = "application/x-directory"
DEFAULT_TYPE = "application/octet-stream"

_PREFIX_LENGTH = len("x-cos-meta-")
_OWN_KEYS = frozenset({"mode", "uid", "gid", "mtime", "mtime-ns", "atime", "ctime", "rdev", "xattr"})
TIME_KEYS = frozenset({"mtime", "mtime-ns", "atime", "ctime"})
_SECOND = 1_000_000_000
_MODE_MAX = 0o177777
_ID_MAX = 0xFFFFFFFE  # 0xFFFFFFFF means "leave it" to chown
_TIME_MAX = 10**12 * _SECOND - 1  # nanoseconds; over 31,000 years either way
_TYPES = frozenset(
    {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK}
)
_DIGITS = re.compile(r"[0-9]{1,20}", re.ASCII)
_SECONDS = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{0,30}))?", re.ASCII)
_NANOSECONDS = re.compile(r"-?[0-9]{1,21}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat and getxattr show besides size and inode; mode has its type bits."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    atime_ns: int
    ctime_ns: int
    rdev: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)  # user.* names


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for objects whose metadata does not say; modes are permission bits after umask."""

    uid: int
    gid: int
    file_mode: int = 0o644
    dir_mode: int = 0o755


def decode(info: ObjectInfo, defaults: Defaults, *, is_dir: bool) -> Attributes:
    """Read the attributes of an object; what is missing or nonsense gets its default.

    is_dir is the caller's knowledge from the key and wins over the mode's type bits.
    """
    modified_ns = round(info.last_modified * 1e6) * 1000
    metadata = info.headers.metadata if info.headers is not None else {}
    if not metadata:
        kind, permissions = (
            (stat.S_IFDIR, defaults.dir_mode) if is_dir else (stat.S_IFREG, defaults.file_mode)
        )
        return Attributes(
            kind | permissions, defaults.uid, defaults.gid, modified_ns, modified_ns, modified_ns
        )
    mode = _decode_mode(metadata.get("mode", ""), defaults, is_dir)
    mtime_ns, is_exact = _decode_mtime(metadata, modified_ns)
    atime_ns = _parse_seconds(metadata.get("atime", ""))
    ctime_ns = _parse_seconds(metadata.get("ctime", ""))
    if ctime_ns is None:
        ctime_ns = mtime_ns if is_exact else modified_ns
    return Attributes(
        mode=mode,
        uid=_decode_id(metadata, "uid", "owner", defaults.uid),
        gid=_decode_id(metadata, "gid", "group", defaults.gid),
        mtime_ns=mtime_ns,
        atime_ns=mtime_ns if atime_ns is None else atime_ns,
        ctime_ns=ctime_ns,
        rdev=_decode_rdev(metadata.get("rdev", ""), mode),
        xattrs=_user_only(_decode_xattrs(metadata.get("xattr", ""))),
    )


def encode(attributes: Attributes, base: Headers | None) -> Headers:
    """Return the full headers of an object with these attributes.

    base is what the object has now; all of it that is not ours is kept. Raises ENOSPC when the
    metadata would be more than COS takes.
    """
    base = base or Headers()
    metadata = {key: value for key, value in base.metadata.items() if key not in _OWN_KEYS}
    metadata["mode"] = str(attributes.mode)
    metadata["uid"] = str(attributes.uid)
    metadata["gid"] = str(attributes.gid)
    metadata.update(_encode_times(attributes))
    if attributes.rdev and _is_device(attributes.mode):
        metadata["rdev"] = str(attributes.rdev)
    # Names outside user.* (security.capability) are not ours to show, nor to lose.
    xattrs = _decode_xattrs(base.metadata.get("xattr", ""))
    for name in _user_only(xattrs):
        del xattrs[name]
    xattrs.update(attributes.xattrs)
    if xattrs:
        metadata["xattr"] = _encode_xattrs(xattrs)
    size = sum(_PREFIX_LENGTH + len(key) + len(value) for key, value in metadata.items())
    if size > METADATA_MAX:
        raise FilesystemError(
            errno.ENOSPC, f"the metadata would be {size} bytes, COS allows {METADATA_MAX} per object"
        )
    return replace(base, metadata=metadata)


def content_type(name: str, mode: int) -> str:
    """Return the Content-Type for a new object, by kind of file and extension."""
    if stat.S_ISDIR(mode):
        return DIRECTORY_TYPE
    if not stat.S_ISREG(mode):
        return DEFAULT_TYPE
    return _type_of_extension(splitext(name)[1])


def is_directory_object(info: ObjectInfo) -> bool:
    """Whether an object stands for a directory, also one that other tools made without a final slash."""
    if info.key.endswith("/"):
        return True
    if info.size or info.headers is None:
        return False
    if info.headers.content_type.partition(";")[0].strip().lower() == DIRECTORY_TYPE:
        return True
    return stat.S_ISDIR(_parse_mode(info.headers.metadata.get("mode", "")) or 0)


@lru_cache(maxsize=256)
def _type_of_extension(extension: str) -> str:
    # guess_type reads the system's table on first use; a compressed file is not of its content's type.
    kind, encoding = mimetypes.guess_type("name" + extension)
    if encoding:
        return {"gzip": "application/gzip"}.get(encoding, f"application/x-{encoding}")
    return kind or DEFAULT_TYPE


def _parse_mode(text: str) -> int | None:
    """Read cosfs' decimal mode or rclone's octal one; None if it is neither."""
    if not _DIGITS.fullmatch(text):
        return None
    octal = int(text, 8) if not {"8", "9"} & set(text) else -1
    if not (0 <= octal <= _MODE_MAX and _is_type(octal)):
        octal = -1
    decimal = int(text)
    if (text[0] == "0" and len(text) > 1) or decimal > _MODE_MAX or not _is_type(decimal):
        return octal if octal >= 0 else None
    return decimal


def _is_type(mode: int) -> bool:
    return stat.S_IFMT(mode) == 0 or stat.S_IFMT(mode) in _TYPES


def _is_device(mode: int) -> bool:
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _decode_mode(text: str, defaults: Defaults, is_dir: bool) -> int:
    mode = _parse_mode(text)
    if is_dir:
        return stat.S_IFDIR | (defaults.dir_mode if mode is None else stat.S_IMODE(mode))
    if mode is None:
        return stat.S_IFREG | defaults.file_mode
    kind = stat.S_IFMT(mode)
    # A key without a final slash that claims to be a directory would be one that can hold nothing.
    return mode if kind and kind != stat.S_IFDIR else stat.S_IFREG | stat.S_IMODE(mode)


def _decode_id(metadata: Mapping[str, str], key: str, other: str, default: int) -> int:
    for text in (metadata.get(key, ""), metadata.get(other, "")):
        if _DIGITS.fullmatch(text) and int(text) <= _ID_MAX:
            return int(text)
    return default


def _decode_rdev(text: str, mode: int) -> int:
    if not _is_device(mode) or not _DIGITS.fullmatch(text):
        return 0
    rdev = int(text)
    return rdev if rdev <= 0xFFFFFFFF else 0


def _decode_mtime(metadata: Mapping[str, str], modified_ns: int) -> tuple[int, bool]:
    """Return mtime and whether it is our own exact form."""
    mtime_ns = _parse_seconds(metadata.get("mtime", ""))
    if mtime_ns is None:
        return modified_ns, False
    text = metadata.get("mtime-ns", "")
    if _NANOSECONDS.fullmatch(text):
        exact = int(text)
        if abs(exact) <= _TIME_MAX and max(0, exact // _SECOND) == mtime_ns // _SECOND:
            return exact, True
    return mtime_ns, False


def _parse_seconds(text: str) -> int | None:
    """Read `1700000000` or `1700000000.123456789` as nanoseconds; None if it is neither."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction = match.groups()
    value = int(whole) * _SECOND + int(((fraction or "") + "000000000")[:9])
    if value > _TIME_MAX:
        return None
    return -value if sign else value


def _format_seconds(value: int) -> str:
    whole, fraction = divmod(abs(value), _SECOND)
    text = f"{whole}.{fraction:09d}".rstrip("0") if fraction else str(whole)
    return f"-{text}" if value < 0 else text


def _encode_times(attributes: Attributes) -> dict[str, str]:
    mtime_ns = _clamp(attributes.mtime_ns)
    atime_ns = _clamp(attributes.atime_ns)
    ctime_ns = _clamp(attributes.ctime_ns)
    times = {"mtime": str(max(0, mtime_ns // _SECOND))}
    is_exact = bool(mtime_ns % _SECOND) or mtime_ns < 0
    if is_exact:
        times["mtime-ns"] = str(mtime_ns)
    if atime_ns != mtime_ns:
        times["atime"] = _format_seconds(atime_ns)
    if ctime_ns != mtime_ns or not is_exact:
        times["ctime"] = _format_seconds(ctime_ns)
    return times


def _clamp(value: int) -> int:
    return max(-_TIME_MAX, min(value, _TIME_MAX))


def _encode_xattrs(xattrs: Mapping[str, bytes]) -> str:
    # ensure_ascii off: cosfs does not read \u escapes. Names that are not UTF-8 come as surrogates.
    values = {name: base64.b64encode(value).decode() for name, value in sorted(xattrs.items())}
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return quote(text, safe="", errors="surrogateescape")


def _decode_xattrs(text: str) -> dict[str, bytes]:
    if not text:
        return {}
    try:
        values = json.loads(unquote(text, errors="surrogateescape"))
    except (ValueError, RecursionError):
        return {}
    xattrs = {}
    for name, value in values.items() if isinstance(values, dict) else ():
        try:
            xattrs[name] = base64.b64decode(value, validate=True)
        except (TypeError, ValueError, binascii.Error):
            continue
    return xattrs


def _user_only(xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name: value for name, value in xattrs.items() if name.startswith("user.") and len(name) > 5}
