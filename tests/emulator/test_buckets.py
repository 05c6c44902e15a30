"""Buckets and their settings."""

from __future__ import annotations

import pytest

from cosfs.emulator import Limits
from cosfs.emulator.settings import SETTINGS
from tests.emulator.asking import BUCKET, HOST, Asker, code, texts, xml
from tests.emulator.documents import DOCUMENTS, inventory, replication

SERVICE = "service.cos.myqcloud.com"


def host(name: str) -> str:
    return f"{name}.cos.ap-shanghai.myqcloud.com"


def test_life_of_a_bucket(ask: Asker) -> None:
    new = host("new-1250000000")
    assert code(ask("GET", "/", host=new)) == (404, "NoSuchBucket")
    assert ask("HEAD", "/", host=new).status == 404
    assert ask("HEAD", "/", host=new).body == b""
    assert ask("PUT", "/", host=new).status == 200
    assert code(ask("PUT", "/", host=new)) == (409, "BucketAlreadyOwnedByYou")
    assert ask("HEAD", "/", host=new).headers["x-cos-bucket-region"] == "ap-shanghai"
    assert xml(ask("GET", "/?location", host=new)).text == "ap-shanghai"
    ask("PUT", "/k", b"x", host=new)
    assert code(ask("DELETE", "/", host=new)) == (409, "BucketNotEmpty")
    ask("DELETE", "/k", host=new)
    assert ask("DELETE", "/", host=new).status == 204
    assert code(ask("DELETE", "/", host=new)) == (404, "NoSuchBucket")


def test_buckets_are_listed_with_filters_and_pages(ask: Asker) -> None:
    for name in ("a-1250000000", "z-1250000000"):
        ask("PUT", "/", host=host(name), x_cos_tagging="team=x" if name[0] == "z" else "")

    def names(query: str = "", server: str = SERVICE) -> list[str]:
        answer = ask("GET", "/" + query, host=server)
        assert answer.status == 200
        return texts(answer, "Buckets/Bucket/Name")

    assert names() == ["a-1250000000", BUCKET, "z-1250000000"]
    assert names("?region=ap-guangzhou") == [BUCKET]
    assert names(server="cos.ap-guangzhou.myqcloud.com") == [BUCKET]
    assert names(server="127.0.0.1:9000") == names()
    assert names("?tagkey=team&tagvalue=x") == ["z-1250000000"]
    assert names(f"?create-time={int(ask.now)}&range=lte") == names()
    assert names(f"?create-time={int(ask.now)}&range=lt") == []
    page = ask("GET", "/?max-keys=1", host=SERVICE)
    assert texts(page, "IsTruncated") == ["true"]
    assert names(f"?max-keys=9&marker={texts(page, 'NextMarker')[0]}") == [BUCKET, "z-1250000000"]
    entry = {
        node.tag: node.text for node in xml(ask("GET", "/", host=SERVICE)).iterfind("Buckets/Bucket[1]/*")
    }
    assert entry["BucketType"] == "cos"
    assert entry["CreationDate"] == "2023-11-14T22:13:20Z"


def test_short_names_get_the_appid_in_path_style(ask: Asker) -> None:
    local = "127.0.0.1:9000"
    assert ask("PUT", "/short", host=local).status == 200
    assert ask("HEAD", "/", host=host("short-1250000000")).status == 200
    assert ask("PUT", "/short/k", b"x", host=local).status == 200
    assert ask("HEAD", "/short-1250000000/k", host=local).status == 200
    assert code(ask("PUT", "/short", host=local)) == (409, "BucketAlreadyOwnedByYou")


def test_bucket_names_and_counts_are_limited(ask: Asker) -> None:
    assert code(ask("PUT", "/Upper_case", host="127.0.0.1")) == (400, "InvalidBucketName")
    ask.service.emulation.limits = Limits(buckets=1)
    assert code(ask("PUT", "/", host=host("new-1250000000"))) == (400, "TooManyBuckets")


def test_a_body_can_choose_region_and_zones(ask: Asker) -> None:
    body = (
        b"<CreateBucketConfiguration xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        b"<LocationConstraint>eu-frankfurt</LocationConstraint><BucketAZConfig>MAZ</BucketAZConfig>"
        b"</CreateBucketConfiguration>"
    )
    ask("PUT", "/", body, host=host("maz-1250000000"))
    head = ask("HEAD", "/", host=host("maz-1250000000")).headers
    assert head["x-cos-bucket-region"] == "eu-frankfurt"
    assert head["x-cos-bucket-az-type"] == "MAZ"


NONE = {
    "cors": "NoSuchCORSConfiguration",
    "encryption": "NoSuchEncryptionConfiguration",
    "lifecycle": "NoSuchLifecycleConfiguration",
    "object-lock": "NoSuchObjectLockConfiguration",
    "origin": "OriginConfigurationNotFoundError",
    "policy": "NoSuchPolicy",
    "replication": "ReplicationConfigurationNotFoundError",
    "tagging": "NoSuchTagSet",
    "website": "NoSuchWebsiteConfiguration",
}
# The least that is taken of settings that are looked into.
VALID = {
    "cors": "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>",
    "encryption": "<Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>"
    "</ApplyServerSideEncryptionByDefault></Rule>",
    "object-lock": "<ObjectLockEnabled>Enabled</ObjectLockEnabled>",
    "referer": "<Status>Enabled</Status><RefererType>Black-List</RefererType>",
    "website": "<IndexDocument><Suffix>index.html</Suffix></IndexDocument>",
    "tagging": "<TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet>",
}


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"inventory", "intelligent-tiering"}))
def test_settings_are_kept_as_they_came(ask: Asker, name: str) -> None:
    root = SETTINGS[name].root
    document = f"<{root}>{VALID.get(name, '<Some>thing</Some>')}</{root}>".encode()
    document = DOCUMENTS[name].encode() if name in DOCUMENTS else document
    if name == "replication":
        document = replication("copies-1250000000").encode()
        ask.store.create_bucket("copies-1250000000", "ap-guangzhou")
        for bucket in ask.store.buckets():
            ask.store.update_bucket(bucket, versioning="Enabled")
    if name == "policy":
        document = b'{"version": "2.0", "statement": []}'
    if name == "object-lock":
        ask(
            "PUT",
            "/?versioning",
            b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        )
    empty = ask("GET", f"/?{name}")
    assert code(empty) == (404, NONE[name]) if name in NONE else xml(empty).tag == root
    assert ask("PUT", f"/?{name}", document).status == (204 if name in ("tagging", "policy") else 200)
    assert ask("GET", f"/?{name}").body == document
    if name == "object-lock":
        assert ask("DELETE", f"/?{name}").status == 405
        return
    for _ in range(2):
        assert ask("DELETE", f"/?{name}").status == 204
    assert (
        ask("GET", f"/?{name}").body.partition(b"<RequestId>")[0] == empty.body.partition(b"<RequestId>")[0]
    )


def test_settings_with_ids_are_listed(ask: Asker) -> None:
    assert code(ask("GET", "/?inventory&id=a")) == (404, "InventoryConfigurationNotFoundError")
    for name in ("a", "b"):
        document = inventory(name).encode()
        assert ask("PUT", f"/?inventory&id={name}", document).status == 200
        assert ask("GET", f"/?inventory&id={name}").body == document
    assert texts(ask("GET", "/?inventory"), "InventoryConfiguration/Id") == ["a", "b"]
    ask("DELETE", "/?inventory&id=a")
    assert texts(ask("GET", "/?inventory"), "InventoryConfiguration/Id") == ["b"]


def test_bad_documents_are_refused(ask: Asker) -> None:
    assert code(ask("PUT", "/?cors", b"<Other/>")) == (400, "MalformedXML")
    assert code(ask("PUT", "/?cors", b"")) == (400, "MissingRequestBodyError")
    assert code(ask("PUT", "/?policy", b"{")) == (400, "MalformedPolicy")
    ask.service.emulation.limits = Limits(document=10)
    assert code(ask("PUT", "/?cors", b"<CORSConfiguration/>")) == (400, "XMLSizeLimit")


def test_an_empty_referer_document_removes_it(ask: Asker) -> None:
    ask("PUT", "/?referer", b"<RefererConfiguration><Status>Enabled</Status></RefererConfiguration>")
    ask("PUT", "/?referer", b"")
    assert texts(ask("GET", "/?referer"), "Status") == []


def test_acl_always_names_the_owner(ask: Asker) -> None:
    assert texts(ask("GET", "/?acl"), "AccessControlList/Grant/Permission") == ["FULL_CONTROL"]
    ask("PUT", "/?acl", x_cos_acl="public-read-write")
    assert texts(ask("GET", "/?acl"), "AccessControlList/Grant/Permission") == [
        "READ",
        "WRITE",
        "FULL_CONTROL",
    ]


@pytest.mark.parametrize(("method", "target"), [("PATCH", "/k"), ("POST", "/?acl"), ("DELETE", "/?versions")])
def test_other_methods_are_not_allowed(ask: Asker, method: str, target: str) -> None:
    assert code(ask(method, target)) == (405, "MethodNotAllowed")


def test_requests_are_counted_by_name(ask: Asker) -> None:
    ask.service.requests.reset()
    ask("GET", "/?lifecycle")
    ask("GET", "/k")
    ask("HEAD", "/k", host=HOST)
    assert ask.service.requests.snapshot() == {"GetBucketLifecycle": 1, "GetObject": 1, "HeadObject": 1}
    assert ask.service.requests.errors["NoSuchKey"] == 2


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/k?uploadId=x&part-number-marker=99999999999999999999", b""),
        ("GET", "/?max-keys=99999999999999999999", b""),
        ("GET", "/?versions&key-marker=k&version-id-marker=LTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", b""),
        ("GET", "/?versions&key-marker=k&version-id-marker=====", b""),
        ("POST", "/k?restore", b"<RestoreRequest><Days>99999999999999999999</Days></RestoreRequest>"),
        ("GET", "/?prefix=%FF&marker=%00", b""),
        ("POST", "/k?append&position=99999999999999999999", b""),
    ],
)
def test_nonsense_is_never_an_internal_error(ask: Asker, method: str, target: str, body: bytes) -> None:
    ask("PUT", "/k", b"x", x_cos_storage_class="ARCHIVE")
    assert ask(method, target, body).status < 500
