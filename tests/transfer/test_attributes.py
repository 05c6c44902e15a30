from __future__ import annotations

import errno
import stat
from collections.abc import Mapping
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cosfs.client.model import Headers, ObjectInfo
from cosfs.errors import FilesystemError
from cosfs.transfer.attributes import (
    METADATA_MAX,
    Attributes,
    Defaults,
    content_type,
    decode,
    encode,
    is_directory_object,
)

DEFAULTS = Defaults(uid=1000, gid=1001, file_mode=0o640, dir_mode=0o750)
MODIFIED = 1_700_000_000.0
MODIFIED_NS = 1_700_000_000_000_000_000


def an_object(
    metadata: Mapping[str, str] | None, *, key: str = "a", size: int = 0, kind: str = ""
) -> ObjectInfo:
    headers = None if metadata is None else Headers(content_type=kind, metadata=metadata)
    return ObjectInfo(key=key, size=size, etag="e", last_modified=MODIFIED, headers=headers)


def read(metadata: Mapping[str, str] | None, *, is_dir: bool = False) -> Attributes:
    return decode(an_object(metadata), DEFAULTS, is_dir=is_dir)


_kinds = st.sampled_from(
    [stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK]
)
_times = st.one_of(
    st.integers(1 - 10**21, 10**21 - 1),
    st.integers(-(1 << 33), 1 << 33).map(lambda seconds: seconds * 1_000_000_000),
    st.sampled_from([0, 1, -1, 999_999_999, -1_000_000_000, MODIFIED_NS]),
)
_xattrs = st.dictionaries(
    st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=8).map(lambda name: "user." + name),
    st.binary(max_size=40),
    max_size=4,
)


@st.composite
def attributes(draw: st.DrawFn) -> Attributes:
    mode = draw(_kinds) | draw(st.integers(0, 0o7777))
    mtime = draw(_times)
    return Attributes(
        mode=mode,
        uid=draw(st.integers(0, 0xFFFFFFFE)),
        gid=draw(st.integers(0, 0xFFFFFFFE)),
        mtime_ns=mtime,
        atime_ns=draw(_times | st.just(mtime)),
        ctime_ns=draw(_times | st.just(mtime)),
        rdev=draw(st.integers(0, 0xFFFFFFFF)) if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0,
        xattrs=draw(_xattrs.filter(lambda names: all(_is_encodable(name) for name in names))),
    )


def _is_encodable(name: str) -> bool:
    try:
        return name.encode(errors="surrogateescape").decode(errors="surrogateescape") == name
    except UnicodeEncodeError:
        return False


@given(attributes(), st.integers(0, 1 << 33))
def test_everything_comes_back_exactly(wanted: Attributes, last_modified: int) -> None:
    try:
        headers = encode(wanted, None)
    except FilesystemError as error:
        assert error.errno == errno.ENOSPC
        assume(False)
    info = ObjectInfo("k", 0, "e", float(last_modified), headers=headers)
    assert decode(info, DEFAULTS, is_dir=stat.S_ISDIR(wanted.mode)) == wanted


@given(attributes())
def test_headers_are_what_cosfs_reads(wanted: Attributes) -> None:
    try:
        metadata = encode(wanted, None).metadata
    except FilesystemError:
        assume(False)
    assert int(metadata["mode"]) == wanted.mode
    assert metadata["mode"].isdecimal() and metadata["uid"].isdecimal() and metadata["gid"].isdecimal()
    assert metadata["mtime"].isdecimal()
    assert int(metadata["mtime"]) == max(0, wanted.mtime_ns // 1_000_000_000)
    for key, value in metadata.items():
        assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert value.isascii() and value.isprintable() and value.strip() == value != ""


_nonsense = st.dictionaries(
    st.sampled_from(
        ["mode", "uid", "gid", "owner", "group", "mtime", "mtime-ns", "atime", "ctime", "rdev", "xattr"]
    ),
    st.text(max_size=30)
    | st.sampled_from(
        ["-1", "٣", "1e9", "nan", "0x1f", "9" * 400, " 5", "5 ", "[1]", "%7B", '{"user.a":3}', ""]
    )
    | st.integers().map(str)
    | st.floats().map(str),
)


@given(_nonsense, st.booleans())
def test_nonsense_never_raises_and_can_be_written_again(metadata: dict[str, str], is_dir: bool) -> None:
    got = read(metadata, is_dir=is_dir)
    assert stat.S_ISDIR(got.mode) == is_dir
    assert stat.S_IFMT(got.mode)
    assert 0 <= got.uid < 0xFFFFFFFF and 0 <= got.gid < 0xFFFFFFFF
    again = encode(got, Headers(metadata=metadata))
    assert read(again.metadata, is_dir=is_dir) == got


def test_a_listing_gives_defaults() -> None:
    expected = Attributes(stat.S_IFREG | 0o640, 1000, 1001, MODIFIED_NS, MODIFIED_NS, MODIFIED_NS)
    assert read(None) == read({}) == expected
    assert read(None, is_dir=True).mode == stat.S_IFDIR | 0o750


def test_milliseconds_of_last_modified_are_exact() -> None:
    info = ObjectInfo("a", 0, "e", 1_700_000_000.123)
    assert decode(info, DEFAULTS, is_dir=False).mtime_ns == 1_700_000_000_123_000_000


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("33188", stat.S_IFREG | 0o644),
        ("41471", stat.S_IFLNK | 0o777),
        ("493", stat.S_IFREG | 0o755),  # cosfs without type bits
        ("4516", stat.S_IFIFO | 0o644),
        ("0100644", stat.S_IFREG | 0o644),  # rclone
        ("100644", stat.S_IFREG | 0o644),
        ("100755", stat.S_IFREG | 0o755),
        ("120777", stat.S_IFLNK | 0o777),
        ("0644", stat.S_IFREG | 0o644),
        ("0", stat.S_IFREG),
        ("16877", stat.S_IFREG | 0o755),  # a directory's mode on a key that is none
        ("40755", stat.S_IFREG | 0o755),
        ("", stat.S_IFREG | 0o640),
        ("rw-r--r--", stat.S_IFREG | 0o640),
        ("-33188", stat.S_IFREG | 0o640),
        ("099", stat.S_IFREG | 0o640),
        ("999999", stat.S_IFREG | 0o640),
    ],
)
def test_modes_of_other_tools(text: str, mode: int) -> None:
    assert read({"mode": text, "uid": "1"}).mode == mode


@pytest.mark.parametrize("text", ["16877", "493", "040755", "40755", "0755", "33261"])
def test_a_directory_stays_one_whatever_its_mode_says(text: str) -> None:
    assert read({"mode": text}, is_dir=True).mode == stat.S_IFDIR | 0o755


def test_owners_of_other_tools() -> None:
    assert (read({"uid": "5", "gid": "6", "owner": "7"}).uid, read({"owner": "7"}).uid) == (5, 7)
    assert read({"gid": "x", "group": "8"}).gid == 8
    assert read({"uid": "4294967295"}).uid == 1000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1600000000", 1_600_000_000_000_000_000),
        ("1600000000.5", 1_600_000_000_500_000_000),
        ("1600000000.123456789", 1_600_000_000_123_456_789),
        ("1600000000.1234567899", 1_600_000_000_123_456_789),
        ("1600000000.", 1_600_000_000_000_000_000),
        ("-5", -5_000_000_000),
        ("tomorrow", MODIFIED_NS),
        ("99999999999999", MODIFIED_NS),
    ],
)
def test_mtimes_of_other_tools(text: str, nanoseconds: int) -> None:
    got = read({"mtime": text})
    assert got.mtime_ns == got.atime_ns == nanoseconds
    assert got.ctime_ns == MODIFIED_NS


def test_mtime_changed_by_another_program_wins_over_our_exact_one() -> None:
    ours = encode(Attributes(0o100644, 0, 0, 5_500_000_000, 5_500_000_000, 5_500_000_000), None)
    assert ours.metadata["mtime-ns"] == "5500000000"
    assert read({**ours.metadata, "mtime": "9"}).mtime_ns == 9_000_000_000


def test_a_fresh_file_has_few_headers() -> None:
    now = MODIFIED_NS + 123_456_789
    assert encode(Attributes(0o100644, 0, 0, now, now, now), None).metadata == {
        "mode": "33188",
        "uid": "0",
        "gid": "0",
        "mtime": "1700000000",
        "mtime-ns": "1700000000123456789",
    }


def test_foreign_headers_are_kept() -> None:
    xattr = quote('{"user.old":"","security.x":"AAE="}')
    base = Headers(
        content_type="text/plain",
        cache_control="no-cache",
        storage_class="STANDARD_IA",
        metadata={
            "md5": "abc",
            "mode": "420",
            "rdev": "3",
            "xattr": xattr,
        },
        extra={"x-cos-acl": "private"},
    )
    wanted = Attributes(0o100600, 1, 2, 0, 0, 0, xattrs={"user.new": b"1"})
    got = encode(wanted, base)
    assert (got.content_type, got.cache_control, got.storage_class) == (
        "text/plain",
        "no-cache",
        "STANDARD_IA",
    )
    assert got.extra == {"x-cos-acl": "private"}
    assert got.metadata["md5"] == "abc"
    assert "rdev" not in got.metadata
    assert got.metadata["xattr"] == quote('{"security.x":"AAE=","user.new":"MQ=="}', safe="")
    assert read(got.metadata) == wanted


def test_attributes_beyond_the_limit_are_refused() -> None:
    fits = Attributes(0o100644, 0, 0, 0, 0, 0, xattrs={"user.a": b"x" * 1350})
    headers = encode(fits, None)
    assert sum(11 + len(key) + len(value) for key, value in headers.metadata.items()) <= METADATA_MAX
    with pytest.raises(FilesystemError) as caught:
        encode(Attributes(0o100644, 0, 0, 0, 0, 0, xattrs={"user.a": b"x" * 1500}), None)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("a.HTML", "text/html"),
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.tgz", "application/gzip"),
        ("data:x.png", "image/png"),
        (".png", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
        ("a.nosuch", "application/octet-stream"),
    ],
)
def test_content_types(name: str, kind: str) -> None:
    assert content_type(name, 0o100644) == kind


def test_content_type_follows_the_kind_of_file() -> None:
    assert content_type("a.txt", stat.S_IFDIR | 0o755) == "application/x-directory"
    assert content_type("a.txt", stat.S_IFLNK | 0o777) == "application/octet-stream"


def test_directories_of_other_tools() -> None:
    assert is_directory_object(an_object(None, key="a/"))
    assert is_directory_object(an_object({}, kind="application/x-directory"))
    assert is_directory_object(an_object({"mode": "16877"}))
    assert not is_directory_object(an_object(None))
    assert not is_directory_object(an_object({}, kind="text/plain"))
    assert not is_directory_object(an_object({}, kind="application/x-directory", size=3))
