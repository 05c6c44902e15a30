"""Hosts with a meaning of their own, redirects to an origin, and documents that are checked."""

from __future__ import annotations

import pytest

from cosfs.emulator import Emulator
from tests.emulator.documents import DOCUMENTS
from tests.emulator.signed import Signed


def test_accelerated_host_needs_acceleration(timed: Emulator, wire: Signed) -> None:
    host = f"{wire.bucket}.cos.accelerate.myqcloud.com"
    wire.ok("PUT", "/a", b"data")
    assert wire("GET", "/a", host=host).code == (400, "BucketAccelerateNotEnabled")
    wire.ok("PUT", "/?accelerate", DOCUMENTS["accelerate"])
    assert wire.ok("GET", "/a", host=host).body == b"data"
    assert wire.ok("GET", "/", host=host).texts("Contents/Key") == ["a"]
    assert wire("GET", "/?lifecycle", host=host).code == (400, "ActionAccelerateNotSupported")
    wire.ok("PUT", "/?accelerate", DOCUMENTS["accelerate"].replace("Enabled", "Suspended"))
    assert wire("GET", "/a", host=host).code == (400, "BucketAccelerateNotEnabled")


def test_a_domain_of_the_owner_leads_to_its_bucket(timed: Emulator, wire: Signed) -> None:
    wire.ok("PUT", "/dir/a", b"data")
    host = f"cdn-{wire.bucket}.example.com:8080"
    assert wire("GET", "/dir/a", host=host).status in (403, 404)
    rule = DOCUMENTS["domain"].replace("www.example.com", host.partition(":")[0])
    wire.ok("PUT", "/?domain", rule)
    assert wire.ok("GET", "/dir/a", host=host).body == b"data"
    answer = wire.ok("GET", "/?domain")
    assert answer.body == rule.encode()
    assert answer.headers["x-cos-domain-txt-verification"]

    other = wire.other()
    assert other("PUT", "/?domain", rule).code == (409, "DomainConfigConflict")
    wire.ok("PUT", "/?domain", rule.replace("ENABLED", "DISABLED"))
    assert wire("GET", "/dir/a", host=host).status in (403, 404)
    wire.ok("DELETE", "/?domain")
    other.ok("PUT", "/?domain", rule)
    other.ok("DELETE", "/?domain")
    other.close()


def test_a_domain_of_type_website_shows_the_website(timed: Emulator, wire: Signed) -> None:
    index = "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>"
    wire.ok("PUT", "/?website", f"<WebsiteConfiguration>{index}</WebsiteConfiguration>")
    wire.ok("PUT", "/dir/index.html", b"page")
    host = f"www-{wire.bucket}.example.org"
    rule = DOCUMENTS["domain"].replace("www.example.com", host).replace("REST", "WEBSITE")
    wire.ok("PUT", "/?domain", rule)
    assert wire.ok("GET", "/dir/", host=host).body == b"page"


def test_missing_objects_are_redirected_to_the_origin(timed: Emulator, wire: Signed) -> None:
    parameter = (
        "<OriginParameter><Protocol>HTTPS</Protocol><HttpRedirectCode>307</HttpRedirectCode>"
        "<FollowQueryString>true</FollowQueryString></OriginParameter>"
    )
    document = (
        DOCUMENTS["origin"].replace("Mirror", "Redirect").replace("<Prefix></Prefix>", "<Prefix>o/</Prefix>")
    )
    wire.ok("PUT", "/?origin", document.replace("<OriginInfo>", parameter + "<OriginInfo>"))
    wire.ok("PUT", "/o/there", b"data")
    assert wire.ok("GET", "/o/there").body == b"data"
    answer = wire("GET", "/o/é?v=1")
    assert answer.status == 307
    assert answer.headers["Location"] == "https://origin.example.com/o/%C3%A9?v=1"
    assert wire("HEAD", "/o/x").status == 307
    assert wire("GET", "/x").code == (404, "NoSuchKey")
    wire.ok("PUT", "/?origin", document.replace("Redirect", "Mirror"))
    assert wire("GET", "/o/x").code == (404, "NoSuchKey")


REFUSED = [
    ("accelerate", "Enabled", "On", "MalformedXML"),
    ("accelerate", "COS", "CDN", "MalformedXML"),
    ("domain", "REST", "FTP", "MalformedXML"),
    ("domain", "ENABLED", "On", "MalformedXML"),
    ("domain", "www.example.com", "no domain", "UserCnameInvalid"),
    ("domain", "www.example.com", "b-1.cos.ap-guangzhou.myqcloud.com", "UserCnameInvalid"),
    ("domaincertificate", "CustomCert<", "Other<", "MalformedXML"),
    ("intelligenttiering", "30", "31", "MalformedXML"),
    ("intelligenttiering", "Enabled", "On", "MalformedXML"),
    ("origin", "Mirror", "Teleport", "MalformedXML"),
    ("origin", "404", "500", "InvalidArgument"),
    ("origin", "origin.example.com", "origin.example.com/x", "InvalidArgument"),
    ("origin", "<HostName>origin.example.com</HostName>", "", "MalformedXML"),
]


@pytest.mark.parametrize(("setting", "old", "new", "code"), REFUSED)
def test_documents_that_mean_nothing(wire: Signed, setting: str, old: str, new: str, code: str) -> None:
    assert old in DOCUMENTS[setting]
    assert wire("PUT", f"/?{setting}", DOCUMENTS[setting].replace(old, new)).code == (400, code)


def test_tierings_with_an_id(wire: Signed) -> None:
    document = (
        "<IntelligentTieringConfiguration><Id>default</Id><Status>Enabled</Status><Tiering>"
        "<AccessTier>INFREQUENT</AccessTier><Days>30</Days><RequestFrequent>1</RequestFrequent></Tiering>"
        "</IntelligentTieringConfiguration>"
    )
    wire.ok("PUT", "/?intelligent-tiering&id=default", document)
    assert wire.ok("GET", "/?intelligent-tiering&id=default").body == document.encode()
    assert wire("PUT", "/?intelligent-tiering&id=other", document).code == (400, "InvalidArgument")
    wrong = document.replace("INFREQUENT", "NEVER")
    assert wire("PUT", "/?intelligent-tiering&id=default", wrong).code == (400, "MalformedXML")
