"""Static websites: pages, error documents and redirections, by host name and by path."""

from __future__ import annotations

import pytest
import requests

from tests.emulator.asking import code
from tests.emulator.conftest import sdk_for
from tests.emulator.signed import Answer, Signed

INDEX = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
ERROR = "<ErrorDocument><Key>error.html</Key>{}</ErrorDocument>"
OLD = "<KeyPrefixEquals>old/</KeyPrefixEquals>"
MISSING = "<HttpErrorCodeReturnedEquals>404</HttpErrorCodeReturnedEquals>"
PAGES = {"index.html": b"home", "error.html": b"sorry", "dir/index.html": b"in dir", "page.html": b"page"}


def configure(wire: Signed, *inner: str) -> Answer:
    return wire("PUT", "/?website", f"<WebsiteConfiguration>{''.join(inner)}</WebsiteConfiguration>")


def rule(condition: str, redirect: str) -> str:
    parts = f"<Condition>{condition}</Condition><Redirect>{redirect}</Redirect>"
    return f"<RoutingRules><RoutingRule>{parts}</RoutingRule></RoutingRules>"


def site(wire: Signed) -> str:
    return wire.host.replace(".cos.", ".cos-website.")


def visit(wire: Signed, path: str, method: str = "GET", **headers: str) -> Answer:
    return wire(method, path, host=site(wire), sign=False, **headers)


@pytest.fixture
def pages(wire: Signed) -> Signed:
    """A public bucket with some pages."""
    wire("PUT", "/?acl", x_cos_acl="public-read")
    for key, body in PAGES.items():
        wire("PUT", f"/{key}", body, content_type="text/html")
    assert configure(wire, INDEX, ERROR.format("")).status == 200
    return wire


def test_pages_and_index_documents(pages: Signed) -> None:
    assert [visit(pages, path).body for path in ("/", "/page.html", "/dir/")] == [b"home", b"page", b"in dir"]
    moved = visit(pages, "/dir")
    assert (moved.status, moved.headers["Location"]) == (302, f"http://{site(pages)}/dir/")
    head = visit(pages, "/", "HEAD")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "4")
    assert visit(pages, "/page.html", Range="bytes=1-2").body == b"ag"
    etag = head.headers["ETag"]
    assert visit(pages, "/", If_None_Match=etag).status == 304
    assert visit(pages, "/?acl&prefix=x").body == b"home"


def test_only_reading_is_possible(pages: Signed) -> None:
    for method in ("PUT", "POST", "DELETE"):
        answer = visit(pages, "/page.html", method)
        assert (answer.status, answer.headers["Content-Type"]) == (405, "text/html; charset=utf-8")
    assert pages("GET", "/page.html").body == b"page"
    asked = {"Origin": "http://a", "Access_Control_Request_Method": "GET"}
    assert visit(pages, "/", "OPTIONS", **asked).status == 403
    cors = "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>"
    pages("PUT", "/?cors", f"<CORSConfiguration>{cors}</CORSConfiguration>")
    assert visit(pages, "/", "OPTIONS", **asked).headers["Access-Control-Allow-Origin"] == "*"
    assert visit(pages, "/", Origin="http://a").headers["Access-Control-Allow-Origin"] == "*"


def test_the_error_document_comes_with_the_error(pages: Signed) -> None:
    missing = visit(pages, "/missing", Range="bytes=0-1", If_None_Match="*")
    assert (missing.status, missing.body, missing.headers["Content-Type"]) == (404, b"sorry", "text/html")
    configure(pages, INDEX, ERROR.format("<OriginalHttpStatus>Disabled</OriginalHttpStatus>"))
    assert (visit(pages, "/missing").status, visit(pages, "/missing").body) == (200, b"sorry")
    assert visit(pages, "/missing", "HEAD").status == 200
    pages("DELETE", "/error.html")
    plain = visit(pages, "/missing<b>")
    assert (plain.status, plain.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert b"NoSuchKey" in plain.body and plain.headers["x-cos-request-id"].encode() in plain.body
    assert b"<b>" not in plain.body
    assert visit(pages, "/missing", "HEAD").body == b""


def test_private_pages_stay_private(pages: Signed) -> None:
    pages("PUT", "/page.html?acl", x_cos_acl="private")
    assert (visit(pages, "/page.html").status, visit(pages, "/page.html").body) == (403, b"sorry")
    pages("PUT", "/?acl", x_cos_acl="private")
    denied = visit(pages, "/index.html")
    assert denied.status == 403 and b"AccessDenied" in denied.body and b"sorry" not in denied.body
    signed = pages("GET", "/page.html", host=site(pages))
    assert (signed.status, signed.body) == (200, b"page")


def test_everything_can_be_redirected_to_https(pages: Signed) -> None:
    configure(pages, "<RedirectAllRequestsTo><Protocol>https</Protocol></RedirectAllRequestsTo>", INDEX)
    moved = visit(pages, "/dir/a b")
    assert (moved.status, moved.headers["Location"]) == (301, f"https://{site(pages)}/dir/a%20b")
    configure(pages, "<RedirectAllRequestsTo><HostName>other.com</HostName></RedirectAllRequestsTo>")
    assert visit(pages, "/x").headers["Location"] == "http://other.com/x"


@pytest.mark.parametrize(
    ("condition", "redirect", "path", "location"),
    [
        (OLD, "<ReplaceKeyPrefixWith>new/</ReplaceKeyPrefixWith>", "/old/a", "/new/a"),
        (OLD, "<ReplaceKeyPrefixWith/>", "/old/a", "/a"),
        (OLD, "<ReplaceKeyWith>page.html</ReplaceKeyWith>", "/old/a", "/page.html"),
        (MISSING, "<ReplaceKeyWith>index.html</ReplaceKeyWith>", "/missing", "/index.html"),
    ],
)
def test_rules_send_elsewhere(pages: Signed, condition: str, redirect: str, path: str, location: str) -> None:
    configure(pages, INDEX, ERROR.format(""), rule(condition, redirect))
    moved = visit(pages, path)
    assert (moved.status, moved.headers["Location"]) == (302, f"http://{site(pages)}{location}")
    assert visit(pages, "/page.html").body == b"page"
    secure = rule(condition, redirect + "<Protocol>https</Protocol>")
    configure(pages, INDEX, secure)
    assert visit(pages, path).headers["Location"] == f"https://{site(pages)}{location}"


def test_pages_without_their_ending(pages: Signed) -> None:
    assert visit(pages, "/page").status == 404
    configure(pages, INDEX, "<AutoAddressing><Status>Enabled</Status></AutoAddressing>")
    assert visit(pages, "/page").body == b"page"


def test_a_website_by_path_for_browsers_without_names(pages: Signed) -> None:
    base = f"{pages.emulator.endpoint_url}/_website/{pages.bucket}"
    assert requests.get(f"{base}/", timeout=90).content == b"home"
    followed = requests.get(f"{base}/dir", timeout=90)
    assert (followed.url, followed.content) == (f"{base}/dir/", b"in dir")
    short = pages.bucket.partition("-")[0]
    assert (
        requests.get(f"{pages.emulator.endpoint_url}/_website/{short}/page.html", timeout=90).content
        == b"page"
    )


def test_there_must_be_a_website(wire: Signed) -> None:
    answer = visit(wire, "/")
    assert answer.status == 404 and b"NoSuchWebsiteConfiguration" in answer.body
    nowhere = wire("GET", "/", host="none-1250000000.cos-website.ap-guangzhou.myqcloud.com", sign=False)
    assert nowhere.status == 404 and b"NoSuchBucket" in nowhere.body


@pytest.mark.parametrize(
    ("inner", "wanted"),
    [
        ("", "MalformedXML"),
        ("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>", "InvalidArgument"),
        (INDEX + rule("", "<ReplaceKeyWith>a</ReplaceKeyWith>"), "MalformedXML"),
        (
            INDEX + rule("<HttpErrorCodeReturnedEquals>500</HttpErrorCodeReturnedEquals>", ""),
            "InvalidArgument",
        ),
        (INDEX + rule("<KeyPrefixEquals>a</KeyPrefixEquals>", "<Protocol>ftp</Protocol>"), "MalformedXML"),
    ],
)
def test_configurations_are_checked(wire: Signed, inner: str, wanted: str) -> None:
    assert code(configure(wire, inner)) == (400, wanted)


def test_the_sdk_makes_a_website(pages: Signed) -> None:
    sdk = sdk_for(pages.emulator)
    moved = {"Condition": {"KeyPrefixEquals": "old/"}, "Redirect": {"ReplaceKeyPrefixWith": "new/"}}
    configuration = {"IndexDocument": {"Suffix": "page.html"}, "RoutingRules": [moved]}
    sdk.put_bucket_website(Bucket=pages.bucket, WebsiteConfiguration=configuration)
    assert sdk.get_bucket_website(Bucket=pages.bucket)["IndexDocument"] == {"Suffix": "page.html"}
    assert visit(pages, "/").body == b"page"
    assert visit(pages, "/old/x").headers["Location"].endswith("/new/x")


def test_a_version_that_is_public_does_not_open_the_newest(wire: Signed) -> None:
    wire(
        "PUT", "/?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    old = wire("PUT", "/page.html", b"old", x_cos_acl="public-read").headers["x-cos-version-id"]
    wire("PUT", "/page.html", b"secret", x_cos_acl="private")
    assert configure(wire, INDEX).status == 200
    assert visit(wire, f"/page.html?versionId={old}").status == 403
