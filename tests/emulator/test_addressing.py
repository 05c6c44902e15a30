"""Where a request goes: every way to name a bucket, and keys that nothing may tidy up."""

from __future__ import annotations

import pytest

from cosfs.emulator.addressing import check_bucket_name, check_key, locate, split_target
from cosfs.emulator.errors import CosError
from cosfs.emulator.handlers_copy import copy_source

FULL = "examplebucket-1250000000"


def resolve(name: str) -> str:
    return {"examplebucket": FULL, FULL: FULL, "photos-2024": "photos-2024-1250000000"}.get(name, "")


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        (f"{FULL}.cos.ap-guangzhou.myqcloud.com", "/a/b", (FULL, "a/b")),
        (f"{FULL}.localhost:9000", "/a", (FULL, "a")),
        (f"{FULL.upper()}.anything", "/A", (FULL, "A")),
        ("other-1250000000.x", "/", ("other-1250000000", "")),
        ("examplebucket.localhost:9000", "/a", (FULL, "a")),
        ("photos-2024.localhost:9000", "/a", ("photos-2024-1250000000", "a")),
        ("-bad_name-1250000000.localhost:9000", "/", ("-bad_name-1250000000", "")),
        ("127.0.0.1:9000", "/", ("", "")),
        ("localhost", "/", ("", "")),
        ("service.cos.myqcloud.com", "/", ("", "")),
        ("cos.ap-guangzhou.myqcloud.com", "/", ("", "")),
        ("cos.ap-guangzhou.myqcloud.com", f"/{FULL}/a", (FULL, "a")),
        ("127.0.0.1:9000", f"/{FULL}/a", (FULL, "a")),
        ("127.0.0.1:9000", "/examplebucket/a", (FULL, "a")),
        ("127.0.0.1:9000", "/examplebucket", (FULL, "")),
        ("127.0.0.1:9000", "/examplebucket//x", (FULL, "/x")),
        ("[::1]:9000", "/examplebucket/a", (FULL, "a")),
        ("", "/examplebucket/a", (FULL, "a")),
        ("ignored", f"http://{FULL}.cos.ap-x.myqcloud.com/a?b", (FULL, "a")),
        ("ignored", f"http://{FULL}.cos.ap-x.myqcloud.com", (FULL, "")),
        ("ignored", "http://service.cos.myqcloud.com/", ("", "")),
    ],
)
def test_bucket_and_key_are_found(host: str, target: str, expected: tuple[str, str]) -> None:
    place = locate(split_target(target.encode()), host, resolve)
    assert (place.bucket, place.key) == expected


@pytest.mark.parametrize(
    ("host", "target", "expected"),
    [
        ("127.0.0.1:9000", "/", (FULL, "")),
        ("127.0.0.1:9000", "/examplebucket/a", (FULL, "examplebucket/a")),
        ("[::1]:9000", f"/{FULL}/a", (FULL, f"{FULL}/a")),
        ("localhost:9000", "/", ("", "")),
        ("localhost:9000", "/examplebucket/a", (FULL, "a")),
        ("service.cos.myqcloud.com", "/", ("", "")),
        ("other-1250000000.x", "/k", ("other-1250000000", "k")),
        ("ignored", "http://127.0.0.1:9000/a", (FULL, "a")),
    ],
)
def test_a_default_bucket_is_what_an_address_means(host: str, target: str, expected: tuple[str, str]) -> None:
    place = locate(split_target(target.encode()), host, resolve, FULL)
    assert (place.bucket, place.key) == expected


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/a//b", "a//b"),
        ("//x", "/x"),
        ("/../x", "../x"),
        ("/x/..%2Fa", "x/../a"),
        ("/dir%2Ffile", "dir/file"),
        ("/a+b", "a+b"),
        ("/a%2Bb%20c", "a+b c"),
        ("/%2541", "%41"),
        ("/%0A", "\n"),
        ("/%E4%B8%AD", "中"),
        ("/.", "."),
        ("/a%3Fb", "a?b"),
        ("/a/", "a/"),
        ("/%zz", "%zz"),
    ],
)
def test_keys_are_decoded_once_and_never_normalised(path: str, key: str) -> None:
    assert locate(split_target(path.encode()), f"{FULL}.x", resolve).key == key


def test_query_names_are_case_insensitive_and_plus_is_a_space() -> None:
    target = split_target(b"/k?VersionId=&A=b+c%2Bd&acl&x=%2f%2F&x=second")
    assert target.parameters() == {"versionid": "", "a": "b c+d", "acl": "", "x": "//"}


@pytest.mark.parametrize("target", ["ftp://x/y", "nonsense", "/%FF"])
def test_targets_that_mean_nothing_are_refused(target: str) -> None:
    with pytest.raises(CosError, match="InvalidURI"):
        locate(split_target(target.encode()), f"{FULL}.x", resolve)


@pytest.mark.parametrize(
    "name", ["Upper-1250000000", "-a-1250000000", "a_b-1250000000", "noappid", "-1250000000"]
)
def test_bad_bucket_names_are_refused(name: str) -> None:
    with pytest.raises(CosError, match="InvalidBucketName"):
        check_bucket_name(name)


def test_key_limits_are_those_of_cos() -> None:
    check_key("k" * 850)
    check_key("中" * 283)
    for key in ("k" * 851, "中" * 284):
        with pytest.raises(CosError, match="KeyTooLong"):
            check_key(key)
    with pytest.raises(CosError, match="InvalidObjectName"):
        check_key("a\x18b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FULL}.cos.ap-guangzhou.myqcloud.com/a%20b", ("a b", "")),
        (f"{FULL}.cos.ap-guangzhou.myqcloud.com/a?versionId=v1", ("a", "v1")),
        (f"http://{FULL}.localhost:9000/a/b", ("a/b", "")),
        (f"{FULL}.localhost:9000/a%2Fb", ("a/b", "")),
        (f"/{FULL}/a+b", ("a+b", "")),
        (f"{FULL}/a%3Fb?versionId=", ("a?b", "")),
        ("/examplebucket/a", ("a", "")),
        (f"127.0.0.1:9000/{FULL}/a", ("a", "")),
        (f"/{FULL}//a", ("/a", "")),
    ],
)
def test_copy_sources_come_in_many_forms(text: str, expected: tuple[str, str]) -> None:
    place, version = copy_source(text, resolve)
    assert (place.bucket, place.key, version) == (FULL, *expected)


@pytest.mark.parametrize("text", ["", "/", FULL, f"/{FULL}/", f"{FULL}.cos.ap-x.myqcloud.com"])
def test_copy_sources_without_a_key_are_refused(text: str) -> None:
    with pytest.raises(CosError, match="InvalidCopySource"):
        copy_source(text, resolve)
