"""Who may do what: policies of users and buckets, ACLs, accounts among each other."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from cosfs.emulator.auth import Credential
from cosfs.emulator.members import Member
from cosfs.emulator.values import Peer
from tests.emulator.asking import BUCKET, Asker, code, texts
from tests.emulator.crew import OWNER_ARN, WHOLE, Crew, policy, statement

OTHER_BUCKET = "other-1250000000"
OTHER_HOST = f"{OTHER_BUCKET}.cos.ap-guangzhou.myqcloud.com"
SERVICE_HOST = "service.cos.myqcloud.com"
ANYONE = {"qcs": ["qcs::cam::anyone:anyone"]}


@pytest.fixture
def crew(ask: Asker) -> Crew:
    ask("PUT", "/k", b"hello")
    return Crew(ask)


def put_policy(ask: Asker, *statements: dict[str, Any]) -> None:
    response = ask("PUT", "/?policy", json.dumps(policy(*statements)).encode())
    assert response.status == 204, response.body


def delete_many(crew: Crew, who: Member, *keys: str) -> tuple[int, list[str], list[str]]:
    objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    body = f"<Delete>{objects}</Delete>".encode()
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    response = crew.send(who, "POST", "/?delete", body, content_md5=md5)
    if response.status != 200:
        return response.status, [], []
    return 200, texts(response, "Deleted/Key"), texts(response, "Error/Key")


# Users of the account


def test_a_user_without_policies_may_do_nothing(crew: Crew) -> None:
    user = crew.add_user()
    for method, target in (("GET", "/k"), ("PUT", "/n"), ("DELETE", "/k"), ("GET", "/"), ("HEAD", "/")):
        assert crew.status(user, method, target) == 403
    denied = crew.send(user, "GET", "/k")
    assert code(denied) == (403, "AccessDenied")
    assert texts(denied, "Message") == ["Access Denied."]
    assert crew.status(user, "GET", "/", host=SERVICE_HOST) == 403


def test_a_user_may_do_what_policies_allow(crew: Crew) -> None:
    user = crew.add_user(policies=[policy(statement("allow", ["GetObject", "HeadObject"]))])
    assert crew.status(user, "GET", "/k") == 200
    assert crew.status(user, "HEAD", "/k") == 200
    assert crew.status(user, "PUT", "/n", body=b"x") == 403
    assert crew.status(user, "GET", "/?acl") == 403
    crew.set_policies(user, [policy(statement("allow", "*"), statement("deny", "DeleteObject"))])
    assert crew.status(user, "PUT", "/n", body=b"x") == 200
    assert crew.status(user, "DELETE", "/n") == 403
    assert crew.status(user, "GET", "/k", host=OTHER_HOST) == 404


def test_reading_below_a_prefix_only(crew: Crew) -> None:
    inside = f"qcs::cos:*:uid/1250000000:{BUCKET}/docs/*"
    listing = statement("allow", "GetBucket", f"qcs::cos:*:uid/1250000000:{BUCKET}/")
    listing["condition"] = {"string_like": {"cos:prefix": "docs/*"}}
    user = crew.add_user(policies=[policy(statement("allow", "*", inside), listing)])
    assert crew.status(user, "PUT", "/docs/a", body=b"x") == 200
    assert crew.status(user, "GET", "/docs/a") == 200
    assert crew.status(user, "GET", "/k") == 403
    assert crew.status(user, "PUT", "/n", body=b"x") == 403
    assert crew.status(user, "GET", "/?prefix=docs%2Fa&delimiter=") == 200
    assert crew.status(user, "GET", "/?prefix=d") == 403
    assert crew.status(user, "GET", "/") == 403
    # Missing keys are told apart only from those who may see them.
    assert crew.status(user, "GET", "/docs/none") == 404
    assert crew.status(user, "GET", "/none") == 403


ACTIONS = {
    "GetService": ("GET", "/", SERVICE_HOST),
    "GetBucket": ("GET", "/", ""),
    "HeadBucket": ("HEAD", "/", ""),
    "GetBucketObjectVersions": ("GET", "/?versions", ""),
    "ListMultipartUploads": ("GET", "/?uploads", ""),
    "GetBucketLocation": ("GET", "/?location", ""),
    "GetBucketVersioning": ("GET", "/?versioning", ""),
    "GetBucketACL": ("GET", "/?acl", ""),
    "GetBucketPolicy": ("GET", "/?policy", ""),
    "GetBucketCORS": ("GET", "/?cors", ""),
    "DeleteBucketLifecycle": ("DELETE", "/?lifecycle", ""),
    "GetObject": ("GET", "/k", ""),
    "HeadObject": ("HEAD", "/k", ""),
    "PutObject": ("PUT", "/n", ""),
    "AppendObject": ("POST", "/n?append&position=0", ""),
    "DeleteObject": ("DELETE", "/k", ""),
    "GetObjectACL": ("GET", "/k?acl", ""),
    "PutObjectACL": ("PUT", "/k?acl", ""),
    "GetObjectTagging": ("GET", "/k?tagging", ""),
    "DeleteObjectTagging": ("DELETE", "/k?tagging", ""),
    "PostObjectRestore": ("POST", "/k?restore", ""),
    "InitiateMultipartUpload": ("POST", "/k?uploads", ""),
    "UploadPart": ("PUT", "/k?partNumber=1&uploadId=u", ""),
    "CompleteMultipartUpload": ("POST", "/k?uploadId=u", ""),
    "AbortMultipartUpload": ("DELETE", "/k?uploadId=u", ""),
    "ListParts": ("GET", "/k?uploadId=u", ""),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_each_call_needs_its_own_action(crew: Crew, action: str) -> None:
    method, target, host = ACTIONS[action]
    more = {"host": host} if host else {}
    only = crew.add_user(policies=[policy(statement("allow", action, "*"))])
    others = [name for name in ACTIONS if name != action]
    without = crew.add_user(policies=[policy(statement("allow", others, "*"))])
    assert crew.status(only, method, target, **more) != 403
    assert crew.status(without, method, target, **more) == 403


def test_deleting_many_is_asked_for_each_key(crew: Crew) -> None:
    for key in ("a", "b", "docs/a"):
        crew.ask("PUT", f"/{key}", b"x")
    docs = f"qcs::cos:*:uid/1250000000:{BUCKET}/docs/*"
    both = ["DeleteObject", "DeleteMultipleObjects"]
    user = crew.add_user(policies=[policy(statement("allow", both, docs))])
    assert delete_many(crew, user, "a", "docs/a", "b") == (200, ["docs/a"], ["a", "b"])
    assert crew.ask.get("a") == b"x"
    assert delete_many(crew, user, "a") == (403, [], [])
    crew.set_policies(user, [policy(statement("allow", "DeleteObject"))])
    assert delete_many(crew, user, "a") == (403, [], [])
    crew.set_policies(user, [policy(statement("allow", "DeleteMultipleObjects"))])
    assert delete_many(crew, user, "a") == (200, [], ["a"])
    crew.set_policies(
        user, [policy(statement("allow", "*"), statement("deny", "DeleteObject", WHOLE[:-1] + "a"))]
    )
    assert delete_many(crew, user, "a", "b") == (200, ["b"], ["a"])


def test_a_copy_needs_to_read_its_source(crew: Crew) -> None:
    crew.ask.store.create_bucket(OTHER_BUCKET, "ap-guangzhou")
    crew.ask("PUT", "/secret", b"x", host=OTHER_HOST)
    user = crew.add_user(policies=[policy(statement("allow", "*"))])
    foreign = {"x_cos_copy_source": f"{OTHER_HOST}/secret"}
    own = {"x_cos_copy_source": f"/{BUCKET}/k"}
    assert crew.status(user, "PUT", "/c", **own) == 200
    assert crew.status(user, "PUT", "/c", **foreign) == 403
    upload = texts(crew.ask("POST", "/big?uploads"), "UploadId")[0]
    part = f"/big?partNumber=1&uploadId={upload}"
    assert crew.status(user, "PUT", part, **own) == 200
    assert crew.status(user, "PUT", part, **foreign) == 403
    source = f"qcs::cos:*:uid/1250000000:{OTHER_BUCKET}/secret"
    crew.set_policies(user, [policy(statement("allow", "*"), statement("allow", "GetObject", source))])
    assert crew.status(user, "PUT", "/c", **foreign) == 200
    crew.set_policies(user, [policy(statement("allow", "GetObject", "*"))])
    assert crew.status(user, "PUT", "/c", **own) == 403
    missing = {"x_cos_copy_source": "/none-1250000000/k"}
    assert code(crew.ask("PUT", "/c", **missing)) == (404, "NoSuchBucket")


# Policies of buckets


def test_everyone_may_read_what_a_bucket_policy_shows(crew: Crew) -> None:
    assert crew.status(None, "GET", "/k") == 403
    put_policy(crew.ask, statement("allow", "GetObject", WHOLE[:-1] + "k", principal=ANYONE))
    assert crew.status(None, "GET", "/k") == 200
    assert crew.status(crew.add_user(), "GET", "/k") == 200
    assert crew.status(None, "GET", "/other") == 403
    assert crew.status(None, "PUT", "/k", body=b"x") == 403
    assert crew.ask("DELETE", "/?policy").status == 204
    assert crew.status(None, "GET", "/k") == 403


def test_a_bucket_policy_grants_to_one_user(crew: Crew) -> None:
    alice, bob = crew.add_user(), crew.add_user()
    put_policy(crew.ask, statement("allow", ["GetObject", "PutObject"], principal={"qcs": [alice.arn]}))
    assert crew.status(alice, "GET", "/k") == 200
    assert crew.status(alice, "PUT", "/n", body=b"x") == 200
    assert crew.status(alice, "DELETE", "/k") == 403
    assert crew.status(bob, "GET", "/k") == 403
    assert crew.status(None, "GET", "/k") == 403


def test_deny_beats_allow_wherever_it_stands(crew: Crew) -> None:
    everything = policy(statement("allow", "*"))
    user = crew.add_user(policies=[everything])
    put_policy(crew.ask, statement("deny", "GetObject", principal={"qcs": [user.arn]}))
    assert crew.status(user, "GET", "/k") == 403
    assert crew.status(user, "HEAD", "/k") == 200
    assert crew.ask("GET", "/k").status == 200
    crew.set_policies(user, [policy(statement("deny", "GetObject"))])
    put_policy(crew.ask, statement("allow", "*", principal={"qcs": [user.arn]}))
    assert crew.status(user, "GET", "/k") == 403
    assert crew.status(user, "HEAD", "/k") == 200
    crew.ask("PUT", "/k?acl", x_cos_acl="public-read")
    assert crew.status(user, "GET", "/k") == 403
    assert crew.status(None, "GET", "/k") == 200


def test_the_owner_can_be_denied_all_but_the_policy_itself(crew: Crew) -> None:
    put_policy(crew.ask, statement("deny", "*", principal="*"))
    assert crew.ask("GET", "/k").status == 403
    assert crew.ask("GET", "/").status == 403
    assert crew.ask("GET", "/?policy").status == 200
    assert crew.ask("DELETE", "/?policy").status == 204
    assert crew.ask("GET", "/k").status == 200


CONDITIONS: list[tuple[dict[str, Any], str, str, dict[str, Any], dict[str, Any]]] = [
    ({"ip_equal": {"qcs:ip": ["10.1.0.0/16"]}}, "GET", "/k", {"peer": Peer("10.1.2.3")}, {}),
    ({"ip_not_equal": {"qcs:ip": ["10.1.0.0/16"]}}, "GET", "/k", {}, {"peer": Peer("10.1.2.3")}),
    ({"bool_equal": {"cos:secure-transport": "true"}}, "GET", "/k", {"peer": Peer(tls="TLSv1.3")}, {}),
    (
        {"numeric_greater_than_equal": {"cos:tls-version": 1.3}},
        *("GET", "/k", {"peer": Peer(tls="TLSv1.3")}, {"peer": Peer(tls="TLSv1.2")}),
    ),
    ({"string_equal": {"cos:x-cos-storage-class": "STANDARD_IA"}}, "PUT", "/n",
     {"x_cos_storage_class": "STANDARD_IA"}, {"x_cos_storage_class": "ARCHIVE"}),
    ({"string_equal": {"cos:x-cos-acl": "private"}}, "PUT", "/n",
     {"x_cos_acl": "private"}, {"x_cos_acl": "public-read"}),
    ({"string_equal_if_exist": {"cos:x-cos-acl": "private"}}, "PUT", "/n", {}, {"x_cos_acl": "public-read"}),
    ({"string_like": {"cos:content-type": "image/*"}}, "PUT", "/n",
     {"content_type": "image/png"}, {"content_type": "text/plain"}),
    ({"numeric_less_than": {"cos:content-length": 4}}, "PUT", "/n", {"body": b"abc"}, {"body": b"abcd"}),
    ({"numeric_less_than": {"cos:content_length": 4}}, "PUT", "/n", {"body": b"abc"}, {"body": b"abcd"}),
    ({"string_equal": {"qcs:request_tag": "team&a"}}, "PUT", "/n",
     {"x_cos_tagging": "team=a&x=y"}, {"x_cos_tagging": "team=b"}),
    ({"string_equal": {"cos:x-cos-forbid-overwrite": "true"}}, "PUT", "/n",
     {"x_cos_forbid_overwrite": "true"}, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "method", "target", "good", "bad"), CONDITIONS, ids=[str(row[0]) for row in CONDITIONS]
)
def test_conditions_look_at_the_request(
    crew: Crew, condition: Any, method: str, target: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    user = crew.add_user()
    allowed = statement("allow", ["GetObject", "PutObject"], principal={"qcs": [user.arn]})
    put_policy(crew.ask, {**allowed, "condition": condition})
    assert crew.status(user, method, target, **bad) == 403
    assert crew.status(user, method, target, **good) == 200


def test_conditions_on_versions_and_overrides(crew: Crew) -> None:
    crew.ask(
        "PUT", "/?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    version = crew.ask("PUT", "/v", b"1").headers["x-cos-version-id"]
    other = crew.ask("PUT", "/v", b"2").headers["x-cos-version-id"]
    user = crew.add_user()
    allowed = statement("allow", ["GetObject", "DeleteObject"], principal={"qcs": [user.arn]})
    put_policy(crew.ask, {**allowed, "condition": {"string_equal": {"cos:versionid": version}}})
    assert crew.status(user, "GET", f"/v?versionId={version}") == 200
    assert crew.status(user, "GET", f"/v?versionId={other}") == 403
    assert crew.status(user, "GET", "/v?versionId=") == 403
    assert crew.status(user, "GET", "/v") == 403
    assert crew.status(user, "DELETE", f"/v?versionId={other}") == 403
    assert crew.status(user, "DELETE", f"/v?versionId={version}") == 204
    put_policy(
        crew.ask, {**allowed, "condition": {"string_equal": {"cos:response-content-type": "text/plain"}}}
    )
    assert crew.status(user, "GET", "/k?response-content-type=text%2Fplain") == 200
    assert crew.status(user, "GET", "/k?response-content-type=text%2Fhtml") == 403


def test_bad_policies_are_refused(crew: Crew) -> None:
    for document in (b"{", b"[]", json.dumps(policy(statement("allow", "GetObject"))).encode()):
        response = crew.ask("PUT", "/?policy", document)
        assert code(response) == (400, "MalformedPolicy")
    assert "principal" in texts(response, "Message")[0]


# ACLs

ACL_CALLS = {
    "list": ("GET", "/"),
    "read": ("GET", "/k"),
    "write": ("PUT", "/n"),
    "delete": ("DELETE", "/gone"),
    "read-acp": ("GET", "/?acl"),
    "write-acp": ("PUT", "/?acl"),
    "versioning": ("GET", "/?versioning"),
    "policy": ("GET", "/?policy"),
}


@pytest.mark.parametrize(
    ("grant", "allowed"),
    [
        ("x_cos_grant_read", {"list", "read"}),
        ("x_cos_grant_write", {"write", "delete"}),
        ("x_cos_grant_read_acp", {"read-acp"}),
        ("x_cos_grant_write_acp", {"write-acp"}),
        ("x_cos_grant_full_control", {"list", "read", "write", "delete", "read-acp", "write-acp"}),
    ],
)
def test_grants_of_a_bucket_acl(crew: Crew, grant: str, allowed: set[str]) -> None:
    alice, bob = crew.add_user(), crew.add_user()
    for spelling in (f'id="{alice.uin}"', f'id="{alice.account}/{alice.uin}"', f'id="{alice.arn}"'):
        for name, (method, target) in ACL_CALLS.items():
            assert crew.ask("PUT", "/?acl", **{grant: spelling}).status == 200
            assert (crew.status(alice, method, target) < 300) == (name in allowed), (name, spelling)
            assert crew.status(bob, method, target) == 403
            assert crew.status(None, method, target) == 403


def acl_document(*grants: tuple[str, str]) -> bytes:
    rows = "".join(
        f"<Grant><Grantee>{grantee}</Grantee><Permission>{permission}</Permission></Grant>"
        for grantee, permission in grants
    )
    return (
        f"<AccessControlPolicy><AccessControlList>{rows}</AccessControlList></AccessControlPolicy>".encode()
    )


def test_acl_documents_name_people_and_groups(crew: Crew) -> None:
    user = crew.add_user()
    for grantee, people in (
        ("<URI>http://cam.qcloud.com/groups/global/AllUsers</URI>", [None, user]),
        ("<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", [None, user]),
        ("<URI>http://cam.qcloud.com/groups/global/AuthenticatedUsers</URI>", [user]),
        ("<ID>qcs::cam::anyone:anyone</ID>", [None, user]),
        (f"<ID>{user.arn}</ID>", [user]),
        (f"<ID>{user.uin}</ID>", [user]),
    ):
        assert crew.ask("PUT", "/?acl", acl_document((grantee, "READ"))).status == 200
        allowed = [who for who in (None, user) if crew.status(who, "GET", "/k") == 200]
        assert allowed == people, grantee


def test_acls_that_cannot_be_read_are_refused(crew: Crew) -> None:
    other_group = "<URI>http://cam.qcloud.com/groups/global/LogDelivery</URI>"
    many = [(f"<ID>{number}</ID>", "READ") for number in range(200_000, 200_101)]
    assert crew.ask("PUT", "/?acl", acl_document(*many[:100])).status == 200
    for document, wanted in (
        (acl_document((other_group, "READ")), "InvalidArgument"),
        (acl_document(*many), "InvalidArgument"),
        (acl_document(("<ID>1</ID>", "ALL")), "MalformedXML"),
        (acl_document(("", "READ")), "MalformedXML"),
    ):
        assert code(crew.ask("PUT", "/?acl", document)) == (400, wanted)
    for headers in ({"x_cos_acl": "open"}, {"x_cos_grant_read": "everyone"}):
        assert code(crew.ask("PUT", "/k?acl", **headers)) == (400, "InvalidArgument")


def test_canned_acls_of_a_bucket(crew: Crew) -> None:
    user = crew.add_user()
    for canned, anonymous, signed in (
        ("private", set(), set()),
        ("public-read", {"list", "read"}, {"list", "read"}),
        ("public-read-write", {"list", "read", "write", "delete"}, {"list", "read", "write", "delete"}),
        ("authenticated-read", set(), {"list", "read"}),
    ):
        assert crew.ask("PUT", "/?acl", x_cos_acl=canned).status == 200
        for name, (method, target) in ACL_CALLS.items():
            assert (crew.status(None, method, target) < 300) == (name in anonymous), (canned, name)
            assert (crew.status(user, method, target) < 300) == (name in signed), (canned, name)


def test_acl_of_an_object_replaces_that_of_the_bucket(crew: Crew) -> None:
    user = crew.add_user()
    crew.ask("PUT", "/?acl", x_cos_acl="public-read")
    crew.ask("PUT", "/k?acl", x_cos_acl="private")
    assert crew.status(None, "GET", "/k") == 403
    crew.ask("PUT", "/k?acl", x_cos_grant_read=f'id="{user.uin}"', x_cos_grant_read_acp=f'id="{user.uin}"')
    assert crew.status(user, "GET", "/k") == 200
    assert crew.status(user, "GET", "/k?acl") == 200
    assert crew.status(user, "PUT", "/k?acl") == 403
    assert crew.status(None, "GET", "/k") == 403
    crew.ask("PUT", "/k?acl", x_cos_acl="default")
    assert crew.status(None, "HEAD", "/k") == 200


def test_versions_have_acls_of_their_own(crew: Crew) -> None:
    crew.ask(
        "PUT", "/?versioning", b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    )
    shown = crew.ask("PUT", "/v", b"1", x_cos_acl="public-read").headers["x-cos-version-id"]
    crew.ask("PUT", "/v", b"2")
    assert crew.status(None, "GET", f"/v?versionId={shown}") == 200
    assert crew.status(None, "GET", "/v") == 403


# Accounts among each other


def test_buckets_belong_to_the_account_in_their_name(crew: Crew) -> None:
    other = crew.add_account()
    assert other.appid == "1250000001"
    theirs = f"theirs-{other.appid}"
    host = f"{theirs}.cos.ap-guangzhou.myqcloud.com"
    assert crew.ask("PUT", "/", host=host).status == 403
    assert crew.status(other, "PUT", "/", host=host) == 200
    assert code(crew.send(other, "PUT", "/", host=host)) == (409, "BucketAlreadyOwnedByYou")
    assert crew.status(other, "PUT", "/") == 403
    assert texts(crew.send(other, "GET", "/", host=SERVICE_HOST), "Buckets/Bucket/Name") == [theirs]
    assert texts(crew.send(other, "GET", "/", host=SERVICE_HOST), "Owner/ID") == [other.arn]
    assert texts(crew.ask("GET", "/", host=SERVICE_HOST), "Buckets/Bucket/Name") == [BUCKET]
    assert texts(crew.send(other, "GET", "/?acl", host=host), "Owner/ID") == [other.arn]
    assert texts(crew.ask("GET", "/?acl"), "Owner/ID") == [OWNER_ARN]
    assert crew.status(other, "GET", "/k") == 403
    assert crew.ask("GET", "/", host=host).status == 403
    assert crew.status(other, "DELETE", "/", host=host) == 204


def test_a_user_needs_to_be_allowed_to_make_buckets(crew: Crew) -> None:
    host = "made-1250000000.cos.ap-guangzhou.myqcloud.com"
    user = crew.add_user()
    assert crew.status(user, "PUT", "/", host=host) == crew.status(None, "PUT", "/", host=host) == 403
    resource = "qcs::cos:*:uid/1250000000:made-*"
    crew.set_policies(user, [policy(statement("allow", "PutBucket", resource))])
    assert crew.status(user, "PUT", "/", host="own-1250000000.cos.ap-guangzhou.myqcloud.com") == 403
    assert crew.status(user, "PUT", "/", host=host) == 200
    assert crew.ask("HEAD", "/", host=host).status == 200
    assert crew.status(user, "HEAD", "/", host=host) == 403


def test_short_names_mean_the_buckets_of_the_one_who_asks(crew: Crew) -> None:
    other = crew.add_account()
    local = "127.0.0.1:9000"
    assert crew.status(other, "PUT", "/bucket", host=local) == 200
    assert crew.status(other, "PUT", "/bucket/k", body=b"theirs", host=local) == 200
    assert crew.ask.body(crew.send(other, "GET", "/bucket/k", host=local)) == b"theirs"
    assert crew.ask.get("k") == b"hello"
    names = [bucket.name for bucket in crew.ask.store.buckets()]
    assert names == [BUCKET, f"bucket-{other.appid}"]


def test_another_account_needs_a_grant_and_its_users_both(crew: Crew) -> None:
    other = crew.add_account()
    allowed = policy(statement("allow", "*", "*"))
    plain, able = crew.add_user(other), crew.add_user(other, [allowed])
    assert crew.status(other, "GET", "/k") == crew.status(able, "GET", "/k") == 403
    put_policy(crew.ask, statement("allow", "GetObject", principal={"qcs": [other.arn]}))
    assert crew.status(other, "GET", "/k") == 200
    assert crew.status(able, "GET", "/k") == 200
    assert crew.status(plain, "GET", "/k") == 403
    assert crew.status(able, "PUT", "/n") == 403
    put_policy(crew.ask, statement("allow", "GetObject", principal={"qcs": [plain.arn]}))
    assert crew.status(plain, "GET", "/k") == 200
    assert crew.status(able, "GET", "/k") == crew.status(other, "GET", "/k") == 403
    put_policy(crew.ask, statement("deny", "GetObject", principal={"qcs": [other.arn]}))
    crew.ask("PUT", "/?acl", x_cos_acl="public-read")
    assert crew.status(other, "GET", "/k") == crew.status(able, "GET", "/k") == 403
    assert crew.status(None, "GET", "/k") == 200


def test_an_acl_grants_to_another_account(crew: Crew) -> None:
    other = crew.add_account()
    able = crew.add_user(other, [policy(statement("allow", "*", "*"))])
    crew.ask("PUT", "/?acl", x_cos_grant_read=f'id="{other.uin}"')
    assert crew.status(other, "GET", "/k") == 200
    assert crew.status(able, "GET", "/k") == 200
    assert crew.status(crew.add_user(other), "GET", "/k") == 403
    assert crew.status(other, "PUT", "/n") == 403


def test_members_and_their_keys_survive_a_restart(crew: Crew) -> None:
    other = crew.add_account("1300000000")
    user = crew.add_user(policies=[policy(statement("allow", "GetObject"))])
    second = crew.add_key(user)
    role = crew.add_role("reader", trusted=[user])
    crew.ask.close()
    crew.ask.open()
    assert crew.status(user, "GET", "/k") == 200
    assert crew.status(second, "GET", "/k") == 200
    assert crew.status(user, "PUT", "/n") == 403
    assert crew.status(other, "GET", "/", host=SERVICE_HOST) == 200
    assert crew.service.emulation.accounts.role(role.arn) == role


def test_data_of_a_version_without_accounts_is_opened(crew: Crew) -> None:
    db = crew.ask.store.db
    for column in ("user", "session"):
        db.execute(f"ALTER TABLE credentials DROP COLUMN {column}")
    for table in ("accounts", "users", "roles", "providers"):
        db.execute(f"DROP TABLE {table}")
    crew.ask.close()
    crew.ask.open()
    assert crew.ask.get("k") == b"hello"
    user = crew.add_user(policies=[policy(statement("allow", "GetObject"))])
    assert crew.status(user, "GET", "/k") == 200


def test_a_setting_of_an_earlier_version_that_cannot_be_read_has_no_effect(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    store = crew.ask.store
    store.put_setting(store.bucket(BUCKET), "policy", "", b'{"statement": "nonsense"}')
    assert crew.ask("GET", "/k").status == 200
    assert crew.status(None, "GET", "/k") == 403
    assert "has no effect" in caplog.text


def test_a_key_without_a_known_user_may_do_nothing(crew: Crew) -> None:
    lost = Credential("AKIDlost", "k" * 32, user="42")
    crew.add_credential(lost)
    assert crew.status(lost, "GET", "/k") == 403
    assert crew.status(lost, "GET", "/", host=SERVICE_HOST) == 403


# Hotlinks


def referer_rules(kind: str, empty: str, *domains: str, status: str = "Enabled") -> bytes:
    listed = "".join(f"<Domain>{domain}</Domain>" for domain in domains)
    return (
        f"<RefererConfiguration><Status>{status}</Status><RefererType>{kind}</RefererType>"
        f"<DomainList>{listed}</DomainList><EmptyReferConfiguration>{empty}</EmptyReferConfiguration>"
        "</RefererConfiguration>"
    ).encode()


@pytest.mark.parametrize(
    ("domain", "referer", "listed"),
    [
        ("www.example.com", "http://www.example.com/page", True),
        ("www.example.com", "https://www.example.com.cn/", True),
        ("www.example.com", "http://www.example.com:8080/", True),
        ("www.example.com:8080", "http://www.example.com/", False),
        ("www.example.com/a", "http://www.example.com/b", False),
        ("*.example.com", "http://a.b.example.com/123", True),
        ("*.example.com", "http://example.com/", False),
        ("*.example.com", "http://evil.test/?www.example.com", False),
        ("10.10.10.10:8080", "http://10.10.10.10:8080/", True),
        ("http://www.example.com", "https://www.example.com/", True),
    ],
)
def test_referer_rules(crew: Crew, domain: str, referer: str, listed: bool) -> None:
    crew.ask("PUT", "/?acl", x_cos_acl="public-read")
    assert crew.ask("PUT", "/?referer", referer_rules("White-List", "Deny", domain)).status == 200
    assert (crew.status(None, "GET", "/k", referer=referer) == 200) == listed
    assert crew.status(None, "GET", "/k") == 403
    assert crew.ask("PUT", "/?referer", referer_rules("Black-List", "Allow", domain)).status == 200
    assert (crew.status(None, "GET", "/k", referer=referer) == 403) == listed
    assert crew.status(None, "GET", "/k") == 200


def test_referer_rules_are_for_the_unsigned_while_enabled(crew: Crew) -> None:
    crew.ask("PUT", "/?acl", x_cos_acl="public-read")
    crew.ask("PUT", "/?referer", referer_rules("White-List", "Deny", "www.example.com"))
    denied = crew.send(None, "GET", "/k", referer="http://other.test/")
    assert code(denied) == (403, "AccessDenied")
    assert texts(denied, "Message") == ["You are denied by bucket referer rule"]
    assert crew.ask("GET", "/k", referer="http://other.test/").status == 200
    crew.ask("PUT", "/?referer", referer_rules("White-List", "Deny", "www.example.com", status="Disabled"))
    assert crew.status(None, "GET", "/k") == 200
    for document in (b"<RefererConfiguration/>", referer_rules("Grey-List", "Allow"), referer_rules("", "x")):
        assert code(crew.ask("PUT", "/?referer", document)) == (400, "MalformedXML")


# Strict signatures


def test_strict_signatures(crew: Crew) -> None:
    def rules(actions: str, headers: str = "", parameters: str = "") -> bytes:
        return (
            f"<StrictSignatureConfiguration><Rule><ID>1</ID><actionlist><action>{actions}</action></actionlist>"
            f"<headerlist><header>{headers}</header></headerlist><paramlist><param>{parameters}</param>"
            "</paramlist></Rule></StrictSignatureConfiguration>"
        ).encode()

    def message(method: str, target: str, **headers: str) -> str:
        response = crew.ask(method, target, **headers)
        return texts(response, "Message")[0] if response.status == 403 else ""

    assert crew.ask("PUT", "/?strict-signature", rules("GetObject", "Host", "versionid")).status == 200
    assert message("GET", "/k") == ""
    assert message("GET", "/k?versionId=") == "Strict signature missing param that must be signed"
    assert message("DELETE", "/none?versionId=null") == ""
    crew.ask("PUT", "/?strict-signature", rules("*", "Content-Type"))
    assert message("PUT", "/k") == ""
    assert message("PUT", "/k", content_type="a/b") == "Strict signature missing header that must be signed"
    crew.ask("PUT", "/?strict-signature", rules("*", "", "all"))
    assert message("GET", "/k?x=1") == "Strict signature missing param that must be signed"
    assert code(crew.ask("PUT", "/?strict-signature", b"<Other/>"))[1] == "AccessDenied"
