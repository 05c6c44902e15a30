"""The admin path: what it does, and for whom it does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cosfs.emulator import Emulator, EmulatorError
from cosfs.emulator.addressing import split_target
from cosfs.emulator.admin import Admin
from cosfs.emulator.admin_api import Api
from tests.emulator.conftest import sdk_for
from tests.emulator.wire import exchange

BUCKET = "b-1250000000"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("admin"), buckets=["b"], admin=True) as emulator:
        yield emulator


@pytest.fixture
def admin(watched: Emulator) -> Iterator[Emulator]:
    watched.requests.reset()
    yield watched
    watched.faults.clear()


def api(emulator: Emulator, method: str, name: str, body: Any = None, **headers: str) -> requests.Response:
    url = f"{emulator.endpoint_url}/_emulator/api/{name}"
    return requests.request(method, url, json=body, headers=headers, timeout=90)


def cos(emulator: Emulator, method: str, data: bytes = b"", **query: str) -> requests.Response:
    return requests.request(
        method, f"{emulator.endpoint_url}/_emulator/cos", params=query, data=data, timeout=90
    )


# What it does


def test_requests_and_counters_are_told_and_reset(admin: Emulator) -> None:
    sdk_for(admin).put_object(Bucket=BUCKET, Key="k", Body=b"x" * 100)
    requests.get(f"{admin.endpoint_url}/b/none", timeout=90)
    told = api(admin, "GET", "requests").json()["requests"]
    assert [each["operation"] for each in told] == ["PutObject", "GetObject"]
    assert told[0]["key"] == "k" and told[0]["received"] == 100 and told[1]["status"] == 403
    assert api(admin, "GET", f"requests?since={told[0]['number']}").json()["requests"] == told[1:]
    assert api(admin, "GET", "requests?limit=1").json()["requests"] == told[1:]
    counters = api(admin, "GET", "counters").json()
    assert counters["operations"] == {"GetObject": 1, "PutObject": 1} and counters["total"] == 2
    assert counters["bytes_received"] == 100 and counters["errors"] == {"AccessDenied": 1}
    api(admin, "DELETE", "counters")
    assert api(admin, "GET", "counters").json()["total"] == 0
    assert api(admin, "GET", "requests").json() == {"requests": []}


def test_faults_are_added_listed_and_removed(admin: Emulator) -> None:
    given = {"kind": "error", "operation": "Get*", "code": "SlowDown", "count": 2, "share": 1}
    added = api(admin, "POST", "faults", given).json()
    url = f"{admin.endpoint_url}/b/none"
    assert requests.get(url, timeout=90).status_code == 503
    (listed,) = api(admin, "GET", "faults").json()["faults"]
    assert listed["id"] == added["id"] and listed["struck"] == 1 and listed["code"] == "SlowDown"
    api(admin, "DELETE", f"faults/{added['id']}")
    assert requests.get(url, timeout=90).status_code == 403
    assert api(admin, "DELETE", f"faults/{added['id']}").status_code == 404
    api(admin, "POST", "faults", {"kind": "latency", "seconds": 0.01})
    api(admin, "PUT", "bandwidth", {"total": 1_000_000})
    assert api(admin, "GET", "bandwidth").json() == {"connection": 0, "total": 1_000_000}
    api(admin, "DELETE", "faults")
    assert admin.faults.active() == [] and admin.faults.bandwidth.total == 0


@pytest.mark.parametrize(
    ("method", "name", "body", "status"),
    [
        ("POST", "faults", {"kind": "unknown"}, 400),
        ("POST", "faults", {"kind": "error", "colour": "red"}, 400),
        ("POST", "faults", {"kind": "error", "operation": 5}, 400),
        ("POST", "faults", {"kind": "error", "count": "many"}, 400),
        ("POST", "faults", {"kind": "error", "count": True}, 400),
        ("POST", "faults", {"kind": "error", "id": 7}, 400),
        ("POST", "faults", {}, 400),
        ("POST", "faults", [], 400),
        ("PUT", "bandwidth", {"total": -1}, 400),
        ("PUT", "bandwidth", {"other": 1}, 400),
        ("GET", "requests?since=x", None, 400),
        ("POST", "buckets", {"name": "No Such Name"}, 400),
        ("POST", "buckets", {}, 400),
        ("POST", "clock", {"advance": "soon"}, 400),
        ("PATCH", "faults", None, 405),
        ("GET", "nothing", None, 404),
    ],
)
def test_what_means_nothing_is_refused_in_words(
    admin: Emulator, method: str, name: str, body: Any, status: int
) -> None:
    answer = api(admin, method, name, body)
    assert (answer.status_code, len(answer.json()["error"]) > 10) == (status, True)
    assert admin.faults.active() == []


def test_the_clock_is_moved(admin: Emulator) -> None:
    before = api(admin, "GET", "clock").json()["now"]
    assert api(admin, "POST", "clock", {"advance": 86400}).json()["now"] >= before + 86400
    assert api(admin, "POST", "clock", {"set": "2030-01-01T00:00:00+00:00"}).json()["now"] >= 1893456000
    assert api(admin, "DELETE", "clock").json()["now"] < before + 1000


def test_buckets_are_made(admin: Emulator) -> None:
    made = api(admin, "POST", "buckets", {"name": "made", "region": "ap-beijing"}).json()
    assert made == {"name": "made-1250000000"}
    found = {each["name"]: each for each in api(admin, "GET", "buckets").json()["buckets"]}
    assert found["made-1250000000"]["region"] == "ap-beijing"
    assert cos(admin, "DELETE", bucket="made").status_code == 204


@pytest.mark.parametrize(
    "key", ["plain", "..", "a/../b", "<img src=x onerror=alert(1)>", "中 +&?#%41", "/x", "a\nb"]
)
def test_cos_answers_without_a_signature_and_is_not_counted(admin: Emulator, key: str) -> None:
    assert cos(admin, "PUT", b"content", bucket="b", key=key).status_code == 200
    assert cos(admin, "GET", bucket=BUCKET, key=key).content == b"content"
    assert cos(admin, "HEAD", bucket="b", key=key).headers["Content-Length"] == "7"
    admin.faults.error("*")
    assert cos(admin, "DELETE", bucket="b", key=key).status_code == 204
    assert cos(admin, "GET", bucket="b", key=key).status_code == 404
    assert admin.requests.total == 0 and admin.requests.log() == [] and admin.requests.bytes_sent == 0
    assert admin.requests.snapshot() == {} and not admin.requests.errors


def test_status_tells_no_keys(admin: Emulator) -> None:
    status = api(admin, "GET", "status")
    assert status.json()["endpoint_url"] == admin.endpoint_url
    assert admin.secret_key not in status.text and admin.secret_id not in status.text


# For whom it does nothing


def raw(emulator: Emulator, target: str, host: str, *lines: str, method: str = "GET") -> bytes:
    more = "".join(line + "\r\n" for line in lines)
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    return exchange(emulator, head.encode())


PATHS = ["/_emulator", "/_emulator/api/status", "/_emulator/cos?bucket=b"]


@pytest.mark.parametrize("path", PATHS)
def test_it_is_off_by_default(tmp_path: Path, path: str) -> None:
    with Emulator(tmp_path, buckets=["b"]) as emulator:
        answer = raw(emulator, path, "127.0.0.1")
        assert answer.startswith(b"HTTP/1.1 40")
        assert (b"cos emulator --admin" in answer) == (path == "/_emulator")
        assert b"endpoint_url" not in answer and b"<ListBucketResult>" not in answer
        assert emulator.info.admin_url == ""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "host", ["rebound.test", "127.0.0.1.rebound.test", "b-1250000000.localhost", "0.0.0.0", ""]
)
def test_another_name_of_this_machine_is_not_enough(admin: Emulator, path: str, host: str) -> None:
    """DNS rebinding: a foreign page's own name, made to mean 127.0.0.1."""
    answer = raw(admin, path, host)
    assert (
        answer.startswith(b"HTTP/1.1 40") and b"<RequestId>" in answer
    )  # COS answers: AccessDenied and such
    assert raw(admin, path, f"{host}:80").startswith(b"HTTP/1.1 40")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_its_own_names_are_heard(admin: Emulator, path: str, host: str) -> None:
    assert raw(admin, path, f"{host}:9").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "line",
    [
        *(
            "Origin: http://evil.test",
            "Origin: null",
            "Origin: http://127.0.0.1:1",
            "Origin: https://127.0.0.1:9",
        ),
        *("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"),
    ],
)
def test_pages_of_others_are_refused(admin: Emulator, path: str, method: str, line: str) -> None:
    """CSRF: whatever another site lets a browser send here."""
    answer = raw(admin, path, "127.0.0.1:9", line, "Content-Length: 0", method=method)
    assert answer.startswith(b"HTTP/1.1 403 ") and b"does not answer" in answer


def test_a_typed_address_may_read_and_not_change(admin: Emulator) -> None:
    assert raw(admin, "/_emulator", "127.0.0.1", "Sec-Fetch-Site: none").startswith(b"HTTP/1.1 200 ")
    answer = raw(admin, "/_emulator/api/faults", "127.0.0.1", "Sec-Fetch-Site: none", method="DELETE")
    assert answer.startswith(b"HTTP/1.1 403 ")
    own = raw(admin, "/_emulator/api/faults", "127.0.0.1:9", "Origin: http://127.0.0.1:9", method="DELETE")
    assert own.startswith(b"HTTP/1.1 200 ")


def test_no_answer_can_be_read_by_other_origins(admin: Emulator) -> None:
    rule = {"AllowedOrigin": ["*"], "AllowedMethod": ["GET"], "AllowedHeader": ["*"]}
    sdk_for(admin).put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRule": [rule]})
    for path in PATHS:
        answer = requests.get(f"{admin.endpoint_url}{path}", timeout=90)
        assert answer.status_code == 200
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7", "not an address"])
def test_programs_elsewhere_are_refused(admin: Emulator, address: str) -> None:
    """What listening off loopback would let in, whatever Host it claims."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def handle(*_args: Any, **_options: Any) -> None:
        raise AssertionError("it got through")

    scope = {"client": (address, 1), "scheme": "http", "method": "GET"}
    api = Api(admin.service, admin.clock, {}, admin.create_bucket)
    for path in (b"/_emulator", b"/_emulator/api/status", b"/_emulator/cos?bucket=b"):
        sent.clear()
        asyncio.run(Admin(api, handle).serve(scope, split_target(path), {"host": "localhost"}, receive, send))
        assert sent[0]["status"] == 403


def test_what_buckets_serve_is_no_page_of_ours(admin: Emulator) -> None:
    """The same origin as the page: without the sandbox its scripts could do all that the page can."""
    client = sdk_for(admin)
    client.put_object(Bucket=BUCKET, Key="evil.html", Body=b"<script>1</script>", ContentType="text/html")
    client.put_object_acl(Bucket=BUCKET, Key="evil.html", ACL="public-read")
    for url in (
        f"{admin.endpoint_url}/b/evil.html",
        f"{admin.endpoint_url}/_emulator/cos?bucket=b&key=evil.html",
    ):
        answer = requests.get(url, timeout=90)
        assert answer.content == b"<script>1</script>"
        assert answer.headers["Content-Security-Policy"] == "sandbox"
    other = requests.get(
        f"{admin.endpoint_url}/evil.html", headers={"Host": f"{BUCKET}.cos-website.x"}, timeout=90
    )
    assert "Content-Security-Policy" not in other.headers  # another origin


def test_it_needs_a_loopback_address(tmp_path: Path) -> None:
    with pytest.raises(EmulatorError, match="admin path needs"):
        Emulator(tmp_path, host="127.0.0.2", admin=True).start()
