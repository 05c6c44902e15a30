"""What all requests share: the clock, credentials that end, buckets in other regions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cosfs.client.auth import CredentialProvider, Credentials, StaticCredentials
from cosfs.client.client import CosClient
from cosfs.config import ClientSettings
from cosfs.errors import (
    AuthenticationError,
    BucketNotFoundError,
    ClockSkewError,
    ConfigError,
    PermissionDeniedError,
    ServiceError,
)
from tests.client.conftest import KEY, Start
from tests.client.scripted import Answer, B, Request, Script, ScriptedServer, error

OK = Answer(200, b"", {"ETag": '"e"'})


def http_date(seconds: float) -> str:
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


def signed_from(request: Request) -> int:
    fields = dict(part.partition("=")[::2] for part in request.headers["authorization"].split("&"))
    return int(fields["q-sign-time"].split(";")[0])


# --- the clock


@pytest.mark.parametrize(
    "refusal",
    [error(403, "RequestTimeTooSkewed"), error(403, "AccessDenied", "Request has expired")],
    ids=["skewed", "expired"],
)
@pytest.mark.parametrize("skew", [-86400, 86400])
def test_clock_is_taken_from_the_answer(script: Start, refusal: Answer, skew: int) -> None:
    refusal.date = http_date(time.time() + skew)
    empty = Answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    server, client = script(refusal, empty)
    client.list_objects(B)
    first, second = map(signed_from, server.requests)
    assert abs(second - first - skew) < 600
    client.list_objects(B)
    assert abs(signed_from(server.requests[2]) - first - skew) < 600
    # A URL made now must be good by COS's clock.
    signed_at = int(client.presign("GET", B, "k", expires=9).split("q-sign-time=")[1].split("%3B")[0])
    assert abs(signed_at - time.time() - skew) < 600


def test_clock_that_is_right_is_not_to_blame(script: Start) -> None:
    server, client = script(error(403, "RequestTimeTooSkewed"))
    with pytest.raises(ClockSkewError, match="its clock and that of this machine agree"):
        client.list_objects(B)
    assert len(server.requests) == 1


def test_clock_is_corrected_after_a_head_too(script: Start) -> None:
    refusal = Answer(403, b"", date=http_date(time.time() + 86400))
    server, client = script(refusal, OK)
    client.head_object(B, "k")
    # The answer's date says enough: no GET is needed for the reason.
    assert [request.method for request in server.requests] == ["HEAD", "HEAD"]


# --- credentials


class Rotating:
    """Credentials that are replaced when asked."""

    def __init__(self) -> None:
        self.generation = 1
        self.refreshed = 0

    def get(self) -> Credentials:
        return Credentials(f"AKID{self.generation}", "key", f"token{self.generation}")

    def refresh(self) -> Credentials:
        self.refreshed += 1
        self.generation += 1
        return self.get()


def client_with(server: ScriptedServer, provider: CredentialProvider | None) -> CosClient:
    return CosClient(ClientSettings(endpoint_url=server.url, region="ap-x"), provider)


@pytest.mark.parametrize(
    "refusal",
    [error(400, "ExpiredToken"), error(403, "InvalidAccessKeyId")],
    ids=["expired", "unknown"],
)
def test_expired_token_is_replaced_once(refusal: Answer) -> None:
    provider = Rotating()
    empty = Answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    with ScriptedServer(refusal, empty) as server, client_with(server, provider) as client:
        client.list_objects(B)
        assert [request.headers["x-cos-security-token"] for request in server.requests] == [
            "token1",
            "token2",
        ]
        assert "x-cos-security-token" in server.requests[1].headers["authorization"]
        server.answers.clear()
        server.answers.append(refusal)
        with pytest.raises(AuthenticationError):
            client.list_objects(B)
    assert provider.refreshed == 2


def test_expired_token_is_replaced_after_a_head_too() -> None:
    provider = Rotating()
    answers = (Answer(400, b""), error(400, "ExpiredToken"), OK)
    with ScriptedServer(*answers) as server, client_with(server, provider) as client:
        assert client.head_object(B, "k") is not None
        assert [request.method for request in server.requests] == ["HEAD", "GET", "HEAD"]


def test_credentials_that_another_request_renewed_are_used() -> None:
    provider = Rotating()

    def answer(request: Request) -> Answer:
        if request.headers["x-cos-security-token"] == "token1":
            provider.generation = 2
            return error(400, "ExpiredToken")
        return OK

    with ScriptedServer(answer) as server, client_with(server, provider) as client:
        client.put_object(B, "k", b"")
    assert provider.refreshed == 0


def test_key_that_stays_the_same_is_not_tried_again(script: Start) -> None:
    server, client = script(error(400, "ExpiredToken"))
    with pytest.raises(AuthenticationError, match="have expired"):
        client.list_objects(B)
    assert len(server.requests) == 1


def test_unsigned_requests() -> None:
    with ScriptedServer(OK) as server, client_with(server, None) as client:
        client.head_object(B, "k")
        assert "authorization" not in server.requests[0].headers
        with pytest.raises(ConfigError, match="credentials"):
            client.presign("GET", B, "k", expires=1)


# --- the reason of a HEAD's refusal


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (error(403, "SignatureDoesNotMatch"), AuthenticationError),
        (error(403, "AccessDenied"), PermissionDeniedError),
        (error(416, "InvalidRange"), PermissionDeniedError),
        (Answer(206, b"x", {"Content-Range": "bytes 0-0/5"}), PermissionDeniedError),
    ],
    ids=["signature", "denied", "empty object", "GET is allowed"],
)
def test_reason_of_a_refused_head_is_asked_for(
    script: Start, reason: Answer, kind: type[ServiceError]
) -> None:
    server, client = script(Answer(403, b""), reason)
    with pytest.raises(kind):
        client.head_object(B, "k")
    assert [request.method for request in server.requests] == ["HEAD", "GET"]
    assert server.requests[1].headers["range"] == "bytes=0-0"


# --- regions


@pytest.fixture
def service() -> Iterator[Callable[..., tuple[ScriptedServer, CosClient]]]:
    """Stand in for the real service: its host names, reached through a tunnel."""
    certificate = Path(__file__).parent / "tls" / "localhost.pem"
    with ExitStack() as stack:

        def start(*answers: Script, region: str = "ap-wrong") -> tuple[ScriptedServer, CosClient]:
            server = stack.enter_context(ScriptedServer(*answers, certificate=certificate, tunnel=True))
            settings = ClientSettings(region=region, proxy=server.url, verify_ssl=False)
            return server, stack.enter_context(CosClient(settings, StaticCredentials(KEY)))

        yield start


BUCKETS = Answer(
    200,
    f"<ListAllMyBucketsResult><Buckets><Bucket><Name>{B}</Name><Location>ap-right</Location>"
    "<CreationDate>2019-05-24T11:49:50Z</CreationDate></Bucket></Buckets></ListAllMyBucketsResult>".encode(),
)
EMPTY = Answer(200, b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")


def world(request: Request) -> Answer:
    """Answer as COS would that has B in ap-right."""
    host = request.headers["host"]
    if host == "service.cos.myqcloud.com":
        return BUCKETS
    if host == f"{B}.cos.ap-right.myqcloud.com":
        return EMPTY if request.method == "GET" else OK
    return error(404, "NoSuchBucket")


def hosts(server: ScriptedServer) -> list[str]:
    return [
        request.headers["host"].split(".")[2] for request in server.requests if request.method != "CONNECT"
    ]


def test_bucket_in_another_region_is_found(service: Start) -> None:
    server, client = service(world)
    client.list_objects(B)
    client.put_object(B, "k", b"")
    assert hosts(server) == ["ap-wrong", "myqcloud", "ap-right", "ap-right"]
    assert server.requests[0].target == f"{B}.cos.ap-wrong.myqcloud.com:443"


def test_head_finds_the_region_too(service: Start) -> None:
    _, client = service(world)
    assert client.head_bucket(B).name == B
    _, client = service(world)
    assert client.head_object(B, "k") is not None


def test_region_is_looked_up_if_none_is_set(service: Start) -> None:
    server, client = service(world, region="")
    client.list_objects(B)
    assert hosts(server) == ["myqcloud", "ap-right"]
    assert client.region_of(B) == "ap-right"


def test_region_that_the_answer_names_is_followed(service: Start) -> None:
    def told(request: Request) -> Answer:
        if "ap-right" in request.headers["host"]:
            return EMPTY
        return error(400, "InvalidRegionName", x_cos_bucket_region="ap-right")

    server, client = service(told)
    client.list_objects(B)
    assert hosts(server) == ["ap-wrong", "ap-right"]


def test_redirection_of_cos_is_followed(service: Start) -> None:
    def moved(request: Request) -> Answer:
        if "ap-right" in request.headers["host"]:
            return EMPTY
        return Answer(307, b"", {"Location": f"https://{B}.cos.ap-right.myqcloud.com/"})

    server, client = service(moved)
    client.list_objects(B)
    assert hosts(server) == ["ap-wrong", "ap-right"]


def test_regions_that_name_each_other_do_not_go_on_for_ever(service: Start) -> None:
    def elsewhere(request: Request) -> Answer:
        other = "ap-one" if "ap-two" in request.headers["host"] else "ap-two"
        return error(400, "InvalidRegionName", x_cos_bucket_region=other)

    server, client = service(elsewhere)
    with pytest.raises(ServiceError):
        client.list_objects(B)
    assert len(hosts(server)) == 2


def test_bucket_that_is_nowhere_stays_missing(service: Start) -> None:
    server, client = service(world)
    with pytest.raises(BucketNotFoundError):
        client.list_objects("other-1250000000")
    assert len(hosts(server)) == 2
    with pytest.raises(BucketNotFoundError):
        client.list_objects("other-1250000000")
    assert len(hosts(server)) == 3  # the list of buckets is asked for once


def test_no_region_at_all_says_what_to_do(service: Start) -> None:
    _, client = service(world, region="")
    with pytest.raises(ConfigError, match="the region of cos://other-1250000000 is not known") as caught:
        client.list_objects("other-1250000000")
    assert "--region" in caught.value.hint


def test_new_bucket_goes_where_it_is_told(service: Start) -> None:
    server, client = service(OK)
    client.create_bucket(B, region="ap-new", acl="private")
    assert hosts(server) == ["ap-new"]
    assert server.requests[-1].headers["x-cos-acl"] == "private"
    assert client.region_of(B) == "ap-new"


def test_buckets_are_listed_in_pages(script: Start) -> None:
    def page(request: Request) -> Answer:
        more = "marker" not in request.target
        return Answer(
            200,
            f"<ListAllMyBucketsResult><Buckets><Bucket><Name>b{'1' if more else '2'}-1</Name>"
            f"<Location>ap-x</Location></Bucket></Buckets><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"<NextMarker>b1-1</NextMarker></ListAllMyBucketsResult>".encode(),
        )

    server, client = script(page)
    assert [bucket.name for bucket in client.list_buckets()] == ["b1-1", "b2-1"]
    assert server.requests[1].target == "/?marker=b1-1"


# --- counting


def test_stats_count_what_was_sent(script: Start) -> None:
    server, client = script(error(503, "SlowDown"), Answer(200, b"", {"ETag": '"e"'}))
    threads = [threading.Thread(target=client.put_object, args=(B, "k", b"12345")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shown = client.stats.snapshot()
    assert shown["requests"] == {"PutObject": 5}
    assert (shown["retries"], shown["errors"], shown["bytes_sent"]) == (1, 1, 25)
    assert len(server.requests) == 5
