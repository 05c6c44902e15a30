from __future__ import annotations

import pytest

from cosfs.client.endpoint import Endpoint, copy_source
from cosfs.client.url import CosUrl, is_cos_url, parse_url, quote_key
from cosfs.config import ClientSettings
from cosfs.errors import ConfigError, UsageError

B = "b-1250000000"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("cos://", CosUrl("", "")),
        (f"cos://{B}", CosUrl(B, "")),
        (f"cos://{B}/", CosUrl(B, "")),
        (f"cos://{B}/a/b", CosUrl(B, "a/b")),
        (f"cos://{B}//a", CosUrl(B, "/a")),
        (f"cos://{B}/a%20b", CosUrl(B, "a%20b")),
        (f"cos://{B}/a?b#c", CosUrl(B, "a?b#c")),
        (f"cos://{B}/../x", CosUrl(B, "../x")),
        (f"cos://{B}/dir/", CosUrl(B, "dir/")),
        (f"COS://{B}/中", CosUrl(B, "中")),
        ("cos://short/k", CosUrl("short", "k")),
    ],
)
def test_parse(text: str, url: CosUrl) -> None:
    assert parse_url(text) == url
    assert is_cos_url(text)
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b/k",
        "s3://b/k",
        "cos:/b/k",
        "cos:///k",
        "cos://Upper/k",
        "cos://a_b/k",
        "cos://a@b/k",
        "cos://-a/k",
    ],
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        parse_url(text)


@pytest.mark.parametrize(
    ("key", "quoted"),
    [
        ("a/b.txt", "a/b.txt"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        ("../x", "%2E%2E/x"),
        ("a/./b/../c", "a/%2E/b/%2E%2E/c"),
        ("a/...", "a/..."),
        ("a/.hidden", "a/.hidden"),
        (".hidden", ".hidden"),
        ("a/..b/c..", "a/..b/c.."),
        ("x/..", "x/%2E%2E"),
        ("./", "%2E/"),
        ("/lead", "/lead"),
        ("//", "//"),
        ("a//b", "a//b"),
        ("a b+c&d?e#f%g", "a%20b%2Bc%26d%3Fe%23f%25g"),
        ("中", "%E4%B8%AD"),
        ("\x01\n", "%01%0A"),
    ],
)
def test_key_in_a_path(key: str, quoted: str) -> None:
    assert quote_key(key) == quoted


def test_key_that_is_not_utf8() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        quote_key("a\udcff")


def test_real_service() -> None:
    endpoint = Endpoint(ClientSettings())
    address = endpoint.object(B, "ap-guangzhou", "a/../b")
    assert address.host_header == f"{B}.cos.ap-guangzhou.myqcloud.com"
    assert (address.scheme, address.port) == ("https", 443)
    assert address.path == "/a/%2E%2E/b"
    assert address.signed_path == "/a/../b"
    assert endpoint.service().host == "service.cos.myqcloud.com"


@pytest.mark.parametrize(
    ("url", "style", "host", "path"),
    [
        ("http://127.0.0.1:9000", "auto", "127.0.0.1:9000", f"/{B}/k"),
        ("http://localhost:9000", "auto", "localhost:9000", f"/{B}/k"),
        ("http://[::1]:9000", "auto", "[::1]:9000", f"/{B}/k"),
        ("http://127.0.0.1:9000", "virtual", f"{B}.127.0.0.1:9000", "/k"),
        ("https://cos.ap-x.myqcloud.com", "auto", f"{B}.cos.ap-x.myqcloud.com", "/k"),
        ("https://storage.example", "path", "storage.example", f"/{B}/k"),
        ("http://storage.example:80", "auto", f"{B}.storage.example", "/k"),
    ],
)
def test_custom_endpoint(url: str, style: str, host: str, path: str) -> None:
    endpoint = Endpoint(ClientSettings(endpoint_url=url, addressing_style=style))
    address = endpoint.object(B, "", "k")
    assert address.host_header == host
    assert address.path == path
    assert address.signed_path == "/k"


def test_region_is_needed_for_the_real_service() -> None:
    with pytest.raises(ConfigError, match="region"):
        Endpoint(ClientSettings()).bucket(B, "")


def test_path_style_needs_an_endpoint() -> None:
    with pytest.raises(ConfigError, match="endpoint_url"):
        Endpoint(ClientSettings(addressing_style="path"))


def test_empty_key_is_never_an_object() -> None:
    with pytest.raises(UsageError, match="bucket"):
        Endpoint(ClientSettings()).object(B, "ap-x", "")


@pytest.mark.parametrize("bucket", ["a/b", "a.evil.example/x", "a@b", "a:80", "", "a..b", "A"])
def test_bucket_cannot_leave_its_host(bucket: str) -> None:
    with pytest.raises(UsageError):
        Endpoint(ClientSettings()).bucket(bucket, "ap-x")


def test_copy_source_encodes_the_key() -> None:
    assert copy_source(B, "ap-x", "a b/../c", "id+1") == (
        f"{B}.cos.ap-x.myqcloud.com/a%20b/%2E%2E/c?versionId=id%2B1"
    )


def test_bucket_with_an_endpoint_of_its_own() -> None:
    own = (("photos-125", "https://img.example.com"), ("logs-125", "http://{bucket}.internal.example:81"))
    for settings in (ClientSettings(bucket_endpoints=own), ClientSettings("", "http://127.0.0.1:9", own)):
        endpoint = Endpoint(settings)
        photos = endpoint.object("photos-125", "", "a b")
        assert (photos.origin, photos.path, photos.signed_path) == (
            "https://img.example.com",
            "/a%20b",
            "/a b",
        )
        assert endpoint.bucket("logs-125", "ap-x").origin == "http://logs-125.internal.example:81"
        assert endpoint.bucket("logs-125", "ap-x").path == "/"
        assert not endpoint.needs_region("photos-125")
    assert endpoint.bucket(B, "ap-x").host_header == "127.0.0.1:9"
