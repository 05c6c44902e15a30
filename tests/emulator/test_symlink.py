"""Symbolic links: plain reads arrive at the target, everything else stays with the link."""

from __future__ import annotations

import pytest
from qcloud_cos import CosS3Client

from tests.emulator.asking import code, texts
from tests.emulator.signed import Signed


def test_reads_go_through_a_link(wire: Signed) -> None:
    target = wire("PUT", "/dir/target", b"hello", x_cos_meta_a="1")
    made = wire("PUT", "/link?symlink", x_cos_symlink_target="dir/target")
    assert made.status == 200 and made.headers["ETag"]
    got = wire("GET", "/link", Range="bytes=1-3")
    assert (got.body, got.headers["x-cos-meta-a"], got.headers["ETag"]) == (
        b"ell",
        "1",
        target.headers["ETag"],
    )
    assert wire("HEAD", "/link").headers["Content-Length"] == "5"
    assert wire("GET", "/link?symlink").headers["x-cos-symlink-target"] == "dir/target"
    assert texts(wire("GET", "/?prefix=link"), "Contents/Size") == ["0"]
    wire("DELETE", "/link")
    assert wire("GET", "/dir/target").body == b"hello"
    assert wire("GET", "/link").status == 404


def test_targets_of_any_name(wire: Signed) -> None:
    wire("PUT", "/中 %", b"x")
    for sent in ("%E4%B8%AD%20%25", "中 %25".encode().decode("latin-1")):
        assert wire("PUT", "/link?symlink", x_cos_symlink_target=sent).status == 200
        assert wire("GET", "/link").body == b"x"
        assert wire("GET", "/link?symlink").headers["x-cos-symlink-target"] == "%E4%B8%AD%20%25"


def test_links_may_dangle_and_follow_one_another_for_a_while(wire: Signed) -> None:
    wire("PUT", "/link1?symlink", x_cos_symlink_target="end")
    assert code(wire("GET", "/link1")) == (404, "NoSuchKey")
    wire("PUT", "/end", b"x")
    for number in range(2, 10):
        wire("PUT", f"/link{number}?symlink", x_cos_symlink_target=f"link{number - 1}")
    assert wire("GET", "/link8").body == b"x"
    assert code(wire("GET", "/link9")) == (400, "InvalidRequest")
    wire("PUT", "/link1?symlink", x_cos_symlink_target="link2")
    assert code(wire("GET", "/link2")) == (400, "InvalidRequest")


@pytest.mark.parametrize("target", ["", "link", "%FF", "k" * 851])
def test_targets_are_checked(wire: Signed, target: str) -> None:
    assert wire("PUT", "/link?symlink", x_cos_symlink_target=target).status == 400
    assert wire("GET", "/link?symlink").status == 404


def test_links_respect_what_is_there(wire: Signed) -> None:
    wire("PUT", "/k", b"x")
    forbidden = wire("PUT", "/k?symlink", x_cos_symlink_target="t", x_cos_forbid_overwrite="true")
    assert code(forbidden) == (409, "FileAlreadyExists")
    assert code(wire("GET", "/k?symlink")) == (400, "InvalidRequest")
    assert wire("PUT", "/new?symlink", x_cos_symlink_target="t", x_cos_forbid_overwrite="true").status == 200


def test_a_copy_of_a_link_is_a_link(wire: Signed) -> None:
    wire("PUT", "/t", b"x")
    wire("PUT", "/link?symlink", x_cos_symlink_target="t")
    for directive in ("Copy", "Replaced"):
        wire("PUT", "/copy", x_cos_copy_source=f"{wire.host}/link", x_cos_metadata_directive=directive)
        assert wire("GET", "/copy?symlink").headers["x-cos-symlink-target"] == "t"
        assert wire("GET", "/copy").body == b"x"


def test_metadata_that_looks_like_a_link_is_none(wire: Signed) -> None:
    wire("PUT", "/k", b"x", x_cos_meta_a="x-cos-symlink-target")
    assert wire("GET", "/k").body == b"x"


def test_a_link_opens_no_closed_door(wire: Signed) -> None:
    """Who may not read the target does not read it by way of a link."""
    wire("PUT", "/secret", b"x")
    wire("PUT", "/link?symlink", x_cos_symlink_target="secret", x_cos_acl="public-read")
    assert code(wire("GET", "/link", sign=False)) == (403, "AccessDenied")
    wire("PUT", "/secret?acl", x_cos_acl="public-read")
    assert wire("GET", "/link", sign=False).body == b"x"


def test_the_sdk_links(sdk: CosS3Client, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="t", Body=b"x")
    assert sdk.put_symlink(Bucket=bucket, SymlinkName="link", SymlinkTarget="t")["ETag"]
    assert sdk.get_symlink(Bucket=bucket, SymlinkName="link")["x-cos-symlink-target"] == "t"
    assert sdk.get_object(Bucket=bucket, Key="link")["Body"].get_raw_stream().read() == b"x"
