"""STS asked by Tencent's own SDK, and the keys that come of it used on COS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from qcloud_cos import CosServiceError
from tencentcloud.common.credential import Credential as Key
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.sts.v20180813 import models, sts_client

from cosfs.emulator import Credential, Emulator, EmulatorError, Member
from tests.emulator.conftest import sdk_for
from tests.emulator.crew import policy, statement

BUCKET = "sts-1250000000"
WHOLE = f"qcs::cos:*:uid/1250000000:{BUCKET}/*"
DEFAULT_ROLE = "qcs::cam::uin/100000000001:roleName/emulator"
Client = sts_client.StsClient


class Time:
    """A clock that can be moved."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture(scope="module")
def clock() -> Time:
    return Time()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, clock: Time) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("sts"), buckets=[BUCKET], clock=clock) as emulator:
        emulator.put_objects(BUCKET, [("k", b"hello"), ("docs/a", b"in docs")])
        yield emulator


@pytest.fixture(autouse=True)
def now(clock: Time) -> Iterator[None]:
    yield
    clock.ahead = 0.0


def sts(cloud: Emulator, key: Member | Credential | None = None) -> Client:
    """Point the SDK at the emulator, in the name of the default account if nobody is given."""
    if key is None:
        pair = Key(cloud.secret_id, cloud.secret_key)
    else:
        credential = key.credential if isinstance(key, Member) else key
        pair = Key(credential.secret_id, credential.secret_key, credential.token or None)
    http = HttpProfile(protocol="http", endpoint=cloud.endpoint_url.removeprefix("http://"))
    return Client(pair, "ap-guangzhou", ClientProfile(httpProfile=http))


def ask(client: Client, action: str, **values: Any) -> Any:
    request = getattr(models, f"{action}Request")()
    for name, value in values.items():
        setattr(request, name, value)
    return getattr(client, action)(request)


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        call()
    return str(caught.value.get_code())


def keys(answer: Any) -> Credential:
    given = answer.Credentials
    return Credential(given.TmpSecretId, given.TmpSecretKey, given.Token, float(answer.ExpiredTime))


def federation(cloud: Emulator, *statements: dict[str, Any], key: Any = None, **more: Any) -> Credential:
    text = quote(json.dumps(policy(*statements)))
    return keys(ask(sts(cloud, key), "GetFederationToken", Name="me", Policy=text, **more))


class Cos:
    """The COS SDK with some keys: the code that a call is answered with, or ok."""

    def __init__(self, cloud: Emulator, key: Credential) -> None:
        self.client = sdk_for(cloud, SecretId=key.secret_id, SecretKey=key.secret_key, Token=key.token)

    def code(self, name: str, **values: Any) -> str:
        try:
            getattr(self.client, name)(Bucket=BUCKET, **values)
        except CosServiceError as error:
            return f"{error.get_status_code()} {error.get_error_code()}"
        return "ok"


def test_a_federation_token_may_do_what_its_policy_says(cloud: Emulator) -> None:
    docs = f"qcs::cos:*:uid/1250000000:{BUCKET}/docs/*"
    key = federation(cloud, statement("allow", "GetObject", docs))
    assert key.secret_id.startswith("AKID")
    assert time.time() + 1700 < key.expires < time.time() + 1810
    cos = Cos(cloud, key)
    assert cos.code("get_object", Key="docs/a") == "ok"
    assert cos.code("get_object", Key="k") == "403 AccessDenied"
    assert cos.code("put_object", Key="docs/a", Body=b"x") == "403 AccessDenied"
    assert cos.code("list_objects") == "403 AccessDenied"
    assert Cos(cloud, Credential(key.secret_id, key.secret_key)).code("get_object", Key="docs/a") == (
        "403 InvalidAccessKeyId"
    )


def test_a_federation_token_may_not_do_more_than_its_caller(cloud: Emulator) -> None:
    reader = cloud.add_user(policies=[policy(statement("allow", "GetObject", WHOLE))])
    cos = Cos(cloud, federation(cloud, statement("allow", "*", "*"), key=reader))
    assert cos.code("get_object", Key="k") == "ok"
    assert cos.code("put_object", Key="k", Body=b"x") == "403 AccessDenied"
    # What the bucket grants to the caller is limited by the policy of the token too.
    cloud.service.emulation.store.put_setting(
        cloud.service.emulation.store.bucket(BUCKET), "policy", "",
        json.dumps(policy(statement("allow", "PutObject", WHOLE, principal={"qcs": [reader.arn]}))).encode(),
    )  # fmt: skip
    assert Cos(cloud, reader.credential).code("put_object", Key="n", Body=b"x") == "ok"
    assert cos.code("put_object", Key="n", Body=b"x") == "ok"
    narrow = Cos(cloud, federation(cloud, statement("allow", "GetObject", "*"), key=reader))
    assert narrow.code("put_object", Key="n", Body=b"x") == "403 AccessDenied"


def test_temporary_keys_end(cloud: Emulator, clock: Time) -> None:
    key = federation(cloud, statement("allow", "*", "*"), DurationSeconds=900)
    cos = Cos(cloud, key)
    assert cos.code("get_object", Key="k") == "ok"
    clock.ahead = 901
    # The SDK signs from a minute before its own time on, for 10,000 s.
    assert cos.code("get_object", Key="k") == "400 ExpiredToken"
    assert refused(lambda: ask(sts(cloud, key), "GetCallerIdentity")) == "AuthFailure.SignatureExpire"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"Name": "", "Policy": "{}"}, "MissingParameter"),
        ({"Name": "me"}, "MissingParameter"),
        ({"Name": "1 2", "Policy": "{}"}, "InvalidParameter.ParamError"),
        ({"Name": "me", "Policy": "nonsense"}, "InvalidParameter.StrategyFormatError"),
        ({"Name": "me", "Policy": "{}"}, "InvalidParameter.StrategyInvalid"),
        ({"Name": "me", "Policy": " " * 7000}, "InvalidParameter.PolicyTooLong"),
        ({"Name": "me", "DurationSeconds": 7201}, "InvalidParameter.OverTimeError"),
        ({"Name": "me", "DurationSeconds": 0}, "InvalidParameter.ParamError"),
    ],
)
def test_federation_refuses(cloud: Emulator, values: dict[str, Any], code: str) -> None:
    good = quote(json.dumps(policy(statement("allow", "*", "*"))))
    if "DurationSeconds" in values:
        values = {"Policy": good, **values}
    assert refused(lambda: ask(sts(cloud), "GetFederationToken", **values)) == code


def test_users_get_longer_tokens_than_the_account_itself(cloud: Emulator) -> None:
    user = cloud.add_user(policies=[policy(statement("allow", "*", "*"))])
    federation(cloud, statement("allow", "*", "*"), key=user, DurationSeconds=129_600)
    ask(sts(cloud, user), "GetSessionToken", DurationSeconds=129_600)
    assert refused(lambda: ask(sts(cloud, user), "GetSessionToken", DurationSeconds=129_601)) == (
        "InvalidParameter.OverTimeError"
    )


def test_a_session_token_may_do_what_its_caller_may(cloud: Emulator) -> None:
    reader = cloud.add_user(policies=[policy(statement("allow", "GetObject", WHOLE))])
    cos = Cos(cloud, keys(ask(sts(cloud, reader), "GetSessionToken")))
    assert cos.code("get_object", Key="k") == "ok"
    assert cos.code("put_object", Key="k", Body=b"x") == "403 AccessDenied"
    whole = keys(ask(sts(cloud), "GetSessionToken"))
    assert Cos(cloud, whole).code("list_objects") == "ok"
    assert refused(lambda: ask(sts(cloud, whole), "GetSessionToken")) == "FailedOperation.TempKeyNotAllowed"
    assert refused(lambda: federation(cloud, statement("allow", "*", "*"), key=whole)) == (
        "FailedOperation.TempKeyNotAllowed"
    )


# Roles


def assume(cloud: Emulator, arn: str = DEFAULT_ROLE, key: Any = None, **values: Any) -> Credential:
    values = {"RoleArn": arn, "RoleSessionName": "me", **values}
    return keys(ask(sts(cloud, key), "AssumeRole", **values))


def test_the_account_may_take_on_its_default_role(cloud: Emulator) -> None:
    key = assume(cloud)
    assert time.time() + 7100 < key.expires < time.time() + 7210
    assert Cos(cloud, key).code("put_object", Key="n", Body=b"x") == "ok"
    limited = assume(cloud, Policy=quote(json.dumps(policy(statement("allow", "GetObject", WHOLE)))))
    assert Cos(cloud, limited).code("get_object", Key="k") == "ok"
    assert Cos(cloud, limited).code("put_object", Key="n", Body=b"x") == "403 AccessDenied"


def test_a_role_may_do_what_its_policies_allow(cloud: Emulator) -> None:
    role = cloud.add_role("reader", [policy(statement("allow", "GetObject", WHOLE))])
    for name in role.arns:
        cos = Cos(cloud, assume(cloud, name))
        assert cos.code("get_object", Key="k") == "ok"
        assert cos.code("put_object", Key="n", Body=b"x") == "403 AccessDenied"
    more = quote(json.dumps(policy(statement("allow", "*", "*"))))
    assert Cos(cloud, assume(cloud, role.arn, Policy=more)).code("list_objects") == "403 AccessDenied"
    short = cloud.add_role("short", max_seconds=900)
    assert assume(cloud, short.arn).expires < time.time() + 910
    assert refused(lambda: assume(cloud, short.arn, DurationSeconds=901)) == "InvalidParameter.OverTimeError"


def test_only_those_whom_a_role_trusts_may_take_it_on(cloud: Emulator) -> None:
    alice, bob = cloud.add_user(), cloud.add_user()
    other = cloud.add_account()
    may_assume = policy({"effect": "allow", "action": "name/sts:AssumeRole", "resource": "*"})
    able = cloud.add_user(other, [may_assume])
    role = cloud.add_role("trusting", trusted=[alice, other])
    assert Cos(cloud, assume(cloud, role.arn, alice)).code("get_object", Key="k") == "ok"
    assert Cos(cloud, assume(cloud, role.arn, other)).code("get_object", Key="k") == "ok"
    assert Cos(cloud, assume(cloud, role.arn, able)).code("get_object", Key="k") == "ok"
    for nobody in (bob, None, cloud.add_user(other)):
        assert refused(lambda who=nobody: assume(cloud, role.arn, who)) == "UnauthorizedOperation"  # type: ignore[misc]
    # Within an account, too, a user needs to be allowed what only the account is trusted with.
    assert refused(lambda: assume(cloud, DEFAULT_ROLE, bob)) == "UnauthorizedOperation"
    resource = "qcs::sts::uin/100000000001:roleName/emulator"
    cloud.set_policies(bob, [policy({"effect": "allow", "action": "sts:*", "resource": resource})])
    assert Cos(cloud, assume(cloud, DEFAULT_ROLE, bob)).code("get_object", Key="k") == "ok"


def test_an_external_id_can_be_asked_for(cloud: Emulator) -> None:
    trust = {
        "version": "2.0",
        "statement": [
            {
                "effect": "allow",
                "action": "name/sts:AssumeRole",
                "principal": {"qcs": ["qcs::cam::uin/100000000001:root"]},
                "condition": {"string_equal": {"sts:external_id": "secret"}},
            }
        ],
    }
    role = cloud.add_role("external", trusted=trust)
    assume(cloud, role.arn, ExternalId="secret")
    assert refused(lambda: assume(cloud, role.arn)) == "UnauthorizedOperation"
    assert refused(lambda: assume(cloud, role.arn, ExternalId="other")) == "UnauthorizedOperation"


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"RoleArn": "qcs::cam::uin/100000000001:roleName/none"}, "ResourceNotFound.RoleNotFound"),
        ({"RoleArn": None}, "MissingParameter"),
        ({"RoleSessionName": "a"}, "InvalidParameter.ParamError"),
        ({"RoleSessionName": "a b"}, "InvalidParameter.ParamError"),
        ({"DurationSeconds": 43_201}, "InvalidParameter.OverTimeError"),
        ({"Policy": "%7B"}, "InvalidParameter.StrategyFormatError"),
    ],
)
def test_assuming_a_role_refuses(cloud: Emulator, values: dict[str, Any], code: str) -> None:
    assert refused(lambda: assume(cloud, **{"arn": DEFAULT_ROLE, **values})) == code


# Web identities


def token(key: Any, algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({"sub": "pod", "exp": int(time.time()) + 600, **claims}, key, algorithm)


def with_identity(cloud: Emulator, arn: str, provider: str, text: str) -> Credential:
    http = HttpProfile(protocol="http", endpoint=cloud.endpoint_url.removeprefix("http://"))
    client = Client(None, "ap-guangzhou", ClientProfile(httpProfile=http))
    values = {"RoleArn": arn, "RoleSessionName": "pod", "ProviderId": provider, "WebIdentityToken": text}
    answer = client.call_json("AssumeRoleWithWebIdentity", values, options={"SkipSign": True})
    response = models.AssumeRoleWithWebIdentityResponse()
    response._deserialize(answer["Response"])
    return keys(response)


def test_a_web_identity_is_checked_against_a_shared_secret(cloud: Emulator) -> None:
    secret = "s" * 32
    provider = cloud.add_identity_provider("tke", secret, audience="sts.cloud.tencent.com")
    role = cloud.add_role("pod", [policy(statement("allow", "GetObject", WHOLE))], [provider])
    good = token(secret, aud="sts.cloud.tencent.com")
    cos = Cos(cloud, with_identity(cloud, role.arn, "tke", good))
    assert cos.code("get_object", Key="k") == "ok"
    assert cos.code("put_object", Key="k", Body=b"x") == "403 AccessDenied"
    wrong = "InvalidParameter.WebIdentityTokenError"
    for text in (
        *(
            token("x" * 32, aud="sts.cloud.tencent.com"),
            token(secret),
            token(secret, aud="other"),
            "nonsense",
        ),
        *(token(secret, aud="sts.cloud.tencent.com", exp=int(time.time()) - 1),),
        *(token(secret, aud="sts.cloud.tencent.com", nbf=int(time.time()) + 100),),
        jwt.encode({"aud": "sts.cloud.tencent.com"}, None, "none"),
    ):
        assert refused(lambda text=text: with_identity(cloud, role.arn, "tke", text)) == wrong  # type: ignore[misc]
    assert refused(lambda: with_identity(cloud, role.arn, "unknown", good)) == wrong
    assert refused(lambda: with_identity(cloud, DEFAULT_ROLE, "tke", good)) == "UnauthorizedOperation"
    assert refused(lambda: assume(cloud, role.arn)) == "UnauthorizedOperation"


def test_a_web_identity_is_checked_against_a_public_key(cloud: Emulator) -> None:
    private = rsa.generate_private_key(65537, 2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    provider = cloud.add_identity_provider("rsa", public.decode())
    trust = {
        "version": "2.0",
        "statement": [
            {
                "effect": "allow",
                "action": "name/sts:AssumeRoleWithWebIdentity",
                "principal": {"federated": [provider]},
                "condition": {"string_equal": {"oidc:sub": "pod"}},
            }
        ],
    }
    role = cloud.add_role("rsa", trusted=trust)
    with_identity(cloud, role.arn, "rsa", token(private, "RS256"))
    other = rsa.generate_private_key(65537, 2048)
    assert refused(lambda: with_identity(cloud, role.arn, "rsa", token(other, "RS256"))) == (
        "InvalidParameter.WebIdentityTokenError"
    )
    assert refused(lambda: with_identity(cloud, role.arn, "rsa", token(private, "RS256", sub="x"))) == (
        "UnauthorizedOperation"
    )


def test_a_provider_without_a_key_believes_any_token(cloud: Emulator) -> None:
    provider = cloud.add_identity_provider("lenient")
    role = cloud.add_role("lenient", trusted=[provider])
    with_identity(cloud, role.arn, "lenient", token("k" * 32))
    assert refused(lambda: with_identity(cloud, role.arn, "lenient", "a.b.c")) == (
        "InvalidParameter.WebIdentityTokenError"
    )


# Who am I


def test_everyone_is_told_who_they_are(cloud: Emulator) -> None:
    def told(key: Any = None) -> tuple[str, str, str, str, str]:
        me = ask(sts(cloud, key), "GetCallerIdentity")
        return me.Arn, me.AccountId, me.UserId, me.PrincipalId, me.Type

    root = "100000000001"
    assert told() == (f"qcs::cam::uin/{root}:uin/{root}", root, root, root, "CAMUser")
    user = cloud.add_user()
    assert told(user) == (user.arn, root, user.uin, user.uin, "CAMUser")
    federated = federation(cloud, statement("allow", "*", "*"), key=user)
    arn = f"qcs::cam::uin/{root}:federatedUser/me"
    assert told(federated) == (arn, root, f"{user.uin}:me", user.uin, "FederatedUser")
    role = cloud.service.emulation.accounts.role(DEFAULT_ROLE)
    assert role is not None
    arn = f"qcs::sts:{root}:assumed-role/{role.id}"
    assert told(assume(cloud)) == (arn, root, f"{role.id}:me", root, "CAMRole")
    other = cloud.add_account()
    assert told(other)[1:3] == (other.uin, other.uin)


# The form of the API


def raw(cloud: Emulator, **headers: str) -> dict[str, Any]:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(f"{cloud.endpoint_url}/", b"{}", {"Content-Type": "application/json", **given})
    with urlopen(request) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        body: dict[str, Any] = json.load(answer)["Response"]
    return body


def test_errors_come_with_status_200(cloud: Emulator, clock: Time) -> None:
    version = {"X_TC_Version": "2018-08-13"}
    unknown = raw(cloud, X_TC_Action="MakeCoffee", **version)
    assert unknown["Error"]["Code"] == "InvalidAction"
    assert unknown["RequestId"]
    assert raw(cloud, X_TC_Action="AssumeRole", X_TC_Version="2017-03-12")["Error"]["Code"] == "NoSuchVersion"
    assert raw(cloud, X_TC_Action="AssumeRole", **version)["Error"]["Code"] == (
        "AuthFailure.InvalidAuthorization"
    )
    wrong = Credential(cloud.secret_id, "wrong")
    assert refused(lambda: ask(sts(cloud, wrong), "GetCallerIdentity")) == "AuthFailure.SignatureFailure"
    nobody = Credential("AKIDnobody", "k")
    assert refused(lambda: ask(sts(cloud, nobody), "GetCallerIdentity")) == "AuthFailure.SecretIdNotFound"
    no_token = assume(cloud)
    bare = Credential(no_token.secret_id, no_token.secret_key)
    assert refused(lambda: ask(sts(cloud, bare), "GetCallerIdentity")) == "AuthFailure.TokenFailure"
    clock.ahead = 200  # five minutes are the limit
    ask(sts(cloud), "GetCallerIdentity")
    for ahead in (400, -400):
        clock.ahead = ahead
        assert refused(lambda: ask(sts(cloud), "GetCallerIdentity")) == "AuthFailure.SignatureExpire"


def test_calls_are_counted_and_struck_by_faults(cloud: Emulator) -> None:
    cloud.requests.reset()
    cloud.faults.error("AssumeRole", "InternalError", count=1)
    assert refused(lambda: assume(cloud)) == "InternalError"
    assume(cloud)
    assert cloud.requests["AssumeRole"] == 2


def test_keys_of_a_role_survive_a_restart(tmp_path: Path) -> None:
    with Emulator(tmp_path, buckets=[BUCKET]) as cloud:
        key = assume(cloud)
        cloud.stop()
        cloud.start()
        assert Cos(cloud, key).code("list_objects") == "ok"


def test_what_cannot_be_made_is_refused(cloud: Emulator) -> None:
    for make in (
        lambda: cloud.add_user("42"),
        lambda: cloud.add_user(policies=["nonsense"]),
        lambda: cloud.add_account("1250000000"),
        lambda: cloud.add_account("letters"),
        lambda: cloud.add_role("x", trusted="nonsense"),
        lambda: cloud.add_role("x", trusted={"version": "2.0", "statement": [5]}),
        lambda: cloud.set_policies("42", []),
        lambda: cloud.set_instance_role("none"),
    ):
        with pytest.raises(EmulatorError):
            make()
