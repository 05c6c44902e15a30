"""cos-python-sdk-v5: signatures, URLs and keys; and that no public method of it was forgotten."""

from __future__ import annotations

import ast
import inspect
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import requests
from qcloud_cos import CosConfig, CosS3Auth, CosS3Client

from cosfs.emulator import Credential, Emulator
from tests.emulator.clients.conftest import REGION, proxied
from tests.emulator.clients.test_python_sdk_objects import content, raised
from tests.emulator.conftest import sdk_for

CLIENTS = ("cos-python-sdk-v5",)


def host_of(bucket: str) -> str:
    return f"{bucket}.cos.{REGION}.myqcloud.com"


# URLs. An SDK that was told an address writes URLs without the bucket: it needs the Host header beside them.


def ask(emulator: Emulator, method: str, url: str, bucket: str, **more: object) -> requests.Response:
    parts = urlsplit(url)
    target = f"{emulator.endpoint_url}{parts.path}?{parts.query}"
    headers = {"Host": host_of(bucket), **dict(more.pop("headers", {}))}  # type: ignore[call-overload]
    return requests.request(method, target, headers=headers, timeout=90, **more)  # type: ignore[arg-type]


def test_presigned_urls(emulator: Emulator, bucket: str) -> None:
    sdk, proxies = proxied(emulator), {"http": emulator.endpoint_url}
    put = sdk.get_presigned_url(Bucket=bucket, Key="中 文", Method="PUT", Headers={"x-cos-meta-a": "1"})
    sent = requests.put(put, b"x", headers={"x-cos-meta-a": "1"}, proxies=proxies, timeout=90)
    assert sent.status_code == 200
    assert (
        requests.put(put, b"x", proxies=proxies, timeout=90).status_code == 403
    )  # what was signed must come
    params = {"response-content-type": "a/b"}
    url = sdk.get_presigned_download_url(Bucket=bucket, Key="中 文", Expired=60, Params=params)
    got = requests.get(url, proxies=proxies, timeout=90)
    assert (got.status_code, got.content, got.headers["Content-Type"]) == (200, b"x", "a/b")
    assert got.headers["x-cos-meta-a"] == "1"
    spoilt = url.replace("q-signature=", "q-signature=0")
    assert requests.get(spoilt, proxies=proxies, timeout=90).status_code == 403
    other = url.replace("a%2Fb", "c%2Fd")
    assert requests.get(other, proxies=proxies, timeout=90).status_code == 403


def test_presigned_urls_of_any_host_and_their_end(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = sdk.get_presigned_url(Bucket=bucket, Key="k", Method="GET", Expired=60, SignHost=False)
    assert ask(emulator, "GET", url, bucket).content == b"x"
    ended = sdk.get_presigned_url(Bucket=bucket, Key="k", Method="GET", Expired=-30, SignHost=False)
    refused = ask(emulator, "GET", ended, bucket)
    assert refused.status_code == 403
    assert "Request has expired" in refused.text


def test_a_signature_made_for_a_header(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    for_any = sdk.get_auth(Method="GET", Bucket=bucket, Key="k", SignHost=False, Params={"acl": ""})
    url = sdk.get_object_url(Bucket=bucket, Key="k") + "?acl"
    assert ask(emulator, "GET", url, bucket, headers={"Authorization": for_any}).status_code == 200
    assert ask(emulator, "PUT", url, bucket, headers={"Authorization": for_any}).status_code == 403


def test_any_request_of_ones_own(sdk: CosS3Client, bucket: str) -> None:
    url = sdk.get_conf().uri(bucket=bucket, path="own")
    auth = CosS3Auth(sdk.get_conf(), "own")
    assert sdk.send_request("PUT", url, bucket=bucket, auth=auth, data=b"x", headers={}).status_code == 200
    assert content(sdk, bucket, "own") == b"x"


def test_anonymous_reading(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    nobody = sdk_for(emulator, SecretId=None, SecretKey=None, Anonymous=True)
    sdk.put_object(Bucket=bucket, Key="public", Body=b"x", ACL="public-read")
    sdk.put_object(Bucket=bucket, Key="private", Body=b"x")
    assert content(nobody, bucket, "public") == b"x"
    assert raised(nobody.get_object, Bucket=bucket, Key="private") == (403, "AccessDenied")
    assert raised(nobody.put_object, Bucket=bucket, Key="public", Body=b"y") == (403, "AccessDenied")
    sdk.put_bucket_acl(Bucket=bucket, ACL="public-read-write")
    nobody.put_object(Bucket=bucket, Key="theirs", Body=b"y")
    assert content(nobody, bucket, "private") == b"x"


def test_keys_of_every_kind(emulator: Emulator, bucket: str) -> None:
    emulator.add_credential(Credential("AKIDtemporary", "secret", "token==", 4e9))
    emulator.add_credential(Credential("AKIDended", "secret", "token==", 1.0))
    for made in (sdk_for, proxied):
        good = made(emulator, SecretId="AKIDtemporary", SecretKey="secret", Token="token==")
        good.put_object(Bucket=bucket, Key="k", Body=b"x")
        ended = made(emulator, SecretId="AKIDended", SecretKey="secret", Token="token==")
        assert raised(ended.get_object, Bucket=bucket, Key="k") == (400, "ExpiredToken")
        forged = made(emulator, SecretId="AKIDtemporary", SecretKey="secret", Token="other")
        assert raised(forged.get_object, Bucket=bucket, Key="k")[0] == 403
        wrong = made(emulator, SecretKey="wrong")
        assert raised(wrong.get_object, Bucket=bucket, Key="k") == (403, "SignatureDoesNotMatch")
        unknown = made(emulator, SecretId="AKIDnobody")
        assert raised(unknown.get_object, Bucket=bucket, Key="k") == (403, "InvalidAccessKeyId")


def test_keys_changed_under_way(sdk: CosS3Client, emulator: Emulator, bucket: str) -> None:
    emulator.add_credential(Credential("AKIDrotated", "secret", "token==", 4e9))
    sdk.get_conf().set_credential("AKIDrotated", "secret", "token==")
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert content(sdk, bucket, "k") == b"x"


def test_the_clock_of_the_client(emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signature that begins in the future is refused like one that has ended."""
    sdk = sdk_for(emulator)
    ahead = SimpleNamespace(time=lambda: time.time() + 3600)
    monkeypatch.setattr(
        "qcloud_cos.cos_auth.time", ahead
    )  # in the SDK alone: the emulator is in this process
    url = sdk.get_presigned_url(Bucket=bucket, Key="k", Method="PUT", SignHost=False)
    monkeypatch.undo()
    assert ask(emulator, "PUT", url, bucket).status_code == 403


def test_path_style_signs_the_key_alone(emulator: Emulator, bucket: str) -> None:
    address = emulator.endpoint_url.removeprefix("http://")
    sdk = sdk_for(emulator, IP=None, Port=None, Domain=f"{address}/{bucket}")
    sdk.put_object(Bucket=bucket, Key="a b", Body=b"x")
    assert content(sdk, bucket, "a b") == b"x"


@pytest.mark.parametrize("code", ["SlowDown", "InternalError"])
def test_what_it_retries(emulator: Emulator, bucket: str, code: str) -> None:
    sdk = CosS3Client(proxied(emulator).get_conf(), retry=1)
    emulator.faults.error("PutObject", code, count=1)
    sdk.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert sdk.get_retry_exe_times() == 1


# Every public method is called here by its name, or stands in this list.

OTHER_PRODUCTS = (
    "ci_*", "file_hash", "get_media_info", "get_snapshot", "get_pm3u8",  # data processing (CI)
    "get_object_sensitive_content_recognition",
    "*live_channel*", "*vod_playlist", "get_rtmp_signed_url",  # live streaming
    "*_async_fetch_task",  # the migration service, on a host of its own
)  # fmt: skip
ABOUT_ITSELF = (
    "generate_built_in_connection_pool", "handle_built_in_connection_pool_by_pid", "inc_retry_exe_times",
    "should_switch_domain",
)  # fmt: skip


def called_names() -> set[str]:
    """Names of all methods that the modules about this SDK mention."""
    names = set()
    for module in Path(__file__).parent.glob("test_python_sdk_*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Attribute):
                names.add(node.attr)
    return names


def test_no_public_method_is_forgotten() -> None:
    public = {
        name
        for name, member in inspect.getmembers(CosS3Client, inspect.isfunction)
        if not name.startswith("_")
    }
    left_out = {
        name for name in public if any(Path(name).match(each) for each in (*OTHER_PRODUCTS, *ABOUT_ITSELF))
    }
    assert len(public) > 100
    assert sorted(public - left_out - called_names()) == []
    assert not left_out & called_names()


def test_the_configuration_is_the_vendors() -> None:
    """What these tests set are documented options; nothing of the SDK is replaced."""
    options = inspect.signature(CosConfig).parameters
    assert {"Region", "SecretId", "SecretKey", "Scheme", "IP", "Port", "ServiceDomain", "Proxies"} <= set(
        options
    )
