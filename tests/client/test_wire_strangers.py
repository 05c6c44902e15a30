"""Answers of servers that are not COS, no answers at all, and proxies."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from cosfs.client.client import CosClient
from cosfs.config import ClientSettings
from cosfs.errors import (
    CertificateError,
    NetworkError,
    NetworkTimeoutError,
    NotCosError,
    ServerError,
    ServiceError,
)
from tests.client.conftest import Start
from tests.client.scripted import Answer, B, whole
from tests.ports import refusing


@pytest.mark.parametrize(
    "answer",
    [
        Answer(
            200, b"<html>Sign in to the hotel network</html>", {"Content-Type": "text/html"}, from_cos=False
        ),
        Answer(302, b"", {"Location": "http://portal.example/"}, from_cos=False),
        Answer(404, b"<html>not found</html>", {"Content-Type": "text/html"}, from_cos=False),
        Answer(403, b"", from_cos=False),
        Answer(407, b"", from_cos=False),
        Answer(raw=b"SSH-2.0-OpenSSH_9.2\r\n", end="close"),
        Answer(raw=b"\x15\x03\x01\x00\x02\x02\x50", end="close"),
        Answer(raw=b"HTTP/2 200\r\n\r\n", end="close"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", end="close"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", end="close"),
    ],
    ids=lambda answer: f"{answer.status}-{(answer.raw or answer.body)[:20]!r}",
)
def test_answers_of_others_are_not_taken_for_objects(script: Start, answer: Answer) -> None:
    server, client = script(answer)
    for call in (
        lambda: client.get_range(B, "k", 0, 10),
        lambda: client.head_object(B, "k"),
        lambda: client.list_objects(B),
        lambda: client.put_object(B, "k", b"x"),
    ):
        with pytest.raises(NotCosError):
            call()
    # None was sent again; that a connection turned out to be closed before is something else.
    assert len(server.requests) == 4


def test_what_is_no_cos_is_named_with_its_port(script: Start) -> None:
    server, client = script(Answer(404, b"<html>", {"Content-Type": "text/html"}, from_cos=False))
    with pytest.raises(NotCosError) as caught:
        client.list_buckets()
    assert f":{server.port} is not COS" in str(caught.value)


def test_gateway_without_its_server(script: Start) -> None:
    _, client = script(Answer(502, b"<html></html>", from_cos=False), max_retries=1)
    with pytest.raises(ServerError, match="not COS that did"):
        client.list_objects(B)


def test_unreadable_document(script: Start) -> None:
    _, client = script(Answer(200, b"<ListBucketResult><Contents>"))
    with pytest.raises(ServiceError, match="cannot be read"):
        client.list_objects(B)


def _client(url: str, **settings: float | str | bool) -> CosClient:
    return CosClient(ClientSettings(endpoint_url=url, max_retries=0, **settings), None)  # type: ignore[arg-type]


def test_refused_connection() -> None:
    with (
        refusing() as port,
        _client(f"http://127.0.0.1:{port}") as client,
        pytest.raises(NetworkError) as caught,
    ):
        client.list_buckets()
    assert str(caught.value).startswith(f"127.0.0.1:{port} refuses connections. Check endpoint_url")


def test_proxy_that_refuses_is_named() -> None:
    with (
        refusing() as port,
        _client("http://cos.ap-x.myqcloud.com", proxy=f"http://127.0.0.1:{port}") as client,
        pytest.raises(NetworkError) as caught,
    ):
        client.list_buckets()
    assert str(caught.value).startswith(f"the proxy 127.0.0.1:{port} refuses connections. Check the proxy's")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with _client("http://nowhere.invalid") as client, pytest.raises(NetworkError) as caught:
        client.list_buckets()
    assert "the name of nowhere.invalid cannot be resolved" in str(caught.value)


def test_connection_that_is_never_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        crowd = [socket.socket() for _ in range(4)]
        for each in crowd:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        with _client(url, connect_timeout=0.3) as client, pytest.raises(NetworkTimeoutError, match="in time"):
            client.list_buckets()
        for each in crowd:
            each.close()


def test_tls_towards_plain_http(script: Start) -> None:
    server, _ = script(Answer(400, b"<html>", from_cos=False))
    url = server.url.replace("http:", "https:")
    with _client(url) as client, pytest.raises(NetworkError) as caught:
        client.list_buckets()
    assert isinstance(caught.value, NotCosError | CertificateError)


def test_plain_http_is_forwarded_by_a_proxy(script: Start) -> None:
    proxy, _ = script(whole(b""))
    settings = ClientSettings(
        endpoint_url="http://cos.ap-x.myqcloud.com", proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}"
    )
    with CosClient(settings, None) as client:
        client.head_object(B, "a/../b")
    (request,) = proxy.requests
    assert request.target == f"http://{B}.cos.ap-x.myqcloud.com/a/%2E%2E/b"
    assert request.headers["host"] == f"{B}.cos.ap-x.myqcloud.com"
    assert request.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01\x00\x02\x02\x50\r\n\r\n"])
def test_proxy_that_speaks_something_else(script: Start, greeting: bytes) -> None:
    proxy, _ = script(Answer(raw=greeting, end="close"))
    at = f"127.0.0.1:{proxy.port}"
    with (
        _client("https://cos.ap-x.myqcloud.com", proxy=f"http://{at}") as client,
        pytest.raises(NotCosError) as caught,
    ):
        client.list_buckets()
    assert str(caught.value).startswith(f"the proxy {at} does not speak HTTP. Check the proxy's address")


def test_proxy_that_refuses_a_tunnel(script: Start) -> None:
    proxy, _ = script(Answer(407, b"", from_cos=False))
    settings = ClientSettings(region="ap-x", proxy=proxy.url, max_retries=0)
    with CosClient(settings, None) as client, pytest.raises(NotCosError, match=r"refuses to connect.*407"):
        client.head_object(B, "k")
    assert proxy.requests[0].method == "CONNECT"
    assert proxy.requests[0].target == f"{B}.cos.ap-x.myqcloud.com:443"


def test_loopback_has_no_proxy(script: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server, client = script(whole(b""))
    client.head_object(B, "k")
    assert len(server.requests) == 1


def test_environment_names_the_proxy(script: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, _ = script(whole(b""))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "internal.example")
    resolve = socket.getaddrinfo

    def resolve_ours(host: str | bytes, *args: Any, **options: Any) -> Any:
        if "internal.example" in os.fsdecode(host):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_ours)
    with CosClient(ClientSettings(endpoint_url="http://cos.ap-x.example"), None) as client:
        client.head_object(B, "k")
    assert len(proxy.requests) == 1
    with (
        CosClient(ClientSettings(endpoint_url="http://internal.example", max_retries=0), None) as client,
        pytest.raises(NetworkError),
    ):
        client.head_object(B, "k")
    assert len(proxy.requests) == 1
