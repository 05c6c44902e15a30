"""One request of COS from call to answer: address, signature, sending, errors, another try.

`client` says what to ask and what the answer means; everything all requests share is here.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, TypeVar
from xml.etree.ElementTree import Element

from cosfs.client import failures, xml
from cosfs.client.auth import CredentialProvider, Credentials, StaticCredentials, encode_query, sign
from cosfs.client.body import Body, body_length
from cosfs.client.dates import parse_http_date
from cosfs.client.endpoint import Address, Endpoint
from cosfs.client.http import Response, Transport
from cosfs.client.movement import COPIED, SLOWEST, WAITED, Movement
from cosfs.client.redaction import shown_answer, shown_request
from cosfs.client.regions import RegionFile
from cosfs.client.retry import Attempt, Retrier
from cosfs.client.stats import ClientStats
from cosfs.client.wire import Limits
from cosfs.config import ClientSettings
from cosfs.errors import (
    AuthenticationError,
    BucketNotFoundError,
    COSError,
    NetworkError,
    NotCosError,
    ServiceError,
)
from cosfs.units import KIB

__all__ = ["Call", "Known", "Session"]

log = logging.getLogger(__name__)

T = TypeVar("T")

NOTHING: Mapping[str, str] = MappingProxyType({})

# A request with all its tries. Bodies get time on top for a line as slow as this.
TIME_LIMIT = 120.0
# COS copies up to 5 GB before it answers a copy; joining parts takes long as well.
SLOW_TIME_LIMIT = 1200.0
SLOW_SILENCE = 300.0

# A signature is good this long before (for clocks ahead of COS) and after it was made.
_SIGNED_BEFORE = 300
_SIGNED_AFTER = 3600
_NO = frozenset({304, 404, 412})  # what was asked is answered, and nothing is wrong
_SIGNED = frozenset({"content-md5", "content-type", "host", "range", "if-match", "if-none-match"})


class Call:
    """What is asked for."""

    __slots__ = (
        "body",
        "bucket",
        "expects",
        "headers",
        "instead_of",
        "key",
        "method",
        "noes",
        "operation",
        "params",
        "redirected",
        "signed",
        "slow",
        "source",
        "work",
    )

    def __init__(
        self,
        operation: str,
        method: str,
        bucket: str = "",
        key: str | None = None,
        params: Mapping[str, str] = NOTHING,
        headers: Mapping[str, str] = NOTHING,
        body: Body | None = None,
        *,
        slow: bool = False,
        work: int = 0,
        expects: int = 0,
    ) -> None:
        self.operation = operation
        self.method = method
        self.bucket = bucket
        self.key = key  # None asks the bucket itself; an empty key never does
        self.params = params
        self.headers = headers
        self.body = body
        self.slow = slow  # COS works for minutes before it answers
        self.work = work  # bytes that it copies or joins meanwhile, as far as is known
        self.expects = expects  # bytes of the answer that are read within the time limit
        self.noes = _NO
        self.redirected = False
        self.signed = True
        self.source = ""  # what is copied, as the user writes it
        self.instead_of = ""  # the operation that failed without a reason, which this one is to tell

    @property
    def target(self) -> str:
        """Return what is asked for as the user writes it."""
        if not self.bucket:
            return "cos://"
        return f"cos://{self.bucket}/{self.key}" if self.key else f"cos://{self.bucket}"

    @property
    def time_limit(self) -> float:
        if self.slow:
            return SLOW_TIME_LIMIT
        length = body_length(self.body) if self.body is not None else 0
        return TIME_LIMIT + (length + self.expects) / SLOWEST


class Known(NamedTuple):
    """What answers have shown: credentials that work (None: none are needed), regions, COS's clock."""

    credentials: Credentials | None
    regions: Mapping[str, str]
    clock_offset: float


class _Moved(Exception):
    """The bucket is in another region than was thought; the map of regions knows it now."""

    def __init__(self, error: COSError) -> None:
        super().__init__()
        self.error = error


class Session:
    """Send calls and return their answers. Thread-safe."""

    def __init__(self, settings: ClientSettings, credentials: CredentialProvider | None) -> None:
        self.settings = settings
        self.credentials = credentials
        self.endpoint = Endpoint(settings)
        self.transport = Transport(settings)
        self.stats = ClientStats()
        self.regions: dict[str, str] = {}
        # With an endpoint of the user's own there is no region in any host name.
        self.region_file = RegionFile("" if self.endpoint.custom else settings.regions_path)
        # Buckets that are known to exist: a HEAD that finds nothing there means the object.
        self.seen: set[str] = set()
        # Finds the region of a bucket by other means; set by the client.
        self.find_region: Callable[[str], str] = lambda bucket: ""
        # Told when COS asks for fewer requests or does not answer in time.
        self.slow_listeners: list[Callable[[], None]] = []
        self._clock_offset = 0.0
        self._answered = False
        self._proved: Credentials | None = None  # that COS took in its last good answer
        self.movement = Movement()
        self.stall_limit = 0.0  # seconds; see CosClient.limit_stalls
        self.retrier = Retrier(
            settings.max_retries,
            self.transport.cancelled,
            correct_clock=self._correct_clock,
            renew_credentials=self._renew_credentials,
            on_stale=self.transport.forget_idle,
            on_retry=lambda: self.stats.add(retries=1),
            on_slow=self._tell_slow,
            reached=lambda: self._answered,
        )
        self.retrier.outage_patience = settings.outage_timeout
        self.retrier.outage_at_start = settings.outage_at_start
        self._constant_headers = {"User-Agent": settings.user_agent, "Accept-Encoding": "identity"}

    def _tell_slow(self) -> None:
        for listener in list(self.slow_listeners):
            listener()

    # --- calls

    def run(self, call: Call, finish: Callable[[Response, Attempt], T]) -> T:
        """Send a call, with retries; finish turns the answer into the result.

        finish runs inside the retries: a body that breaks off is asked for again.
        """

        def operation(attempt: Attempt) -> T:
            response = self.send(call, attempt)
            try:
                return finish(response, attempt)
            finally:
                response.close()

        return self.run_operation(call, operation)

    def parse(self, call: Call, parse: Callable[[bytes], T]) -> T:
        """Send a call, with retries, and parse the body of its answer."""
        return self.run(call, lambda response, _: self.parsed(call, response, parse))

    def run_operation(self, call: Call, operation: Callable[[Attempt], T], deadline: float = math.inf) -> T:
        """Run an operation with retries, and once more if its bucket turns out to be elsewhere.

        deadline is one of before (time.monotonic) that holds on, if that is earlier than what is usual.
        """
        limit = min(self._time_limit(call), deadline - time.monotonic())
        if call.work:
            self.movement.note(call.bucket, call.key, call.work / COPIED)
        try:
            return self.retrier.run(operation, limit, f"{call.operation} {call.target!r}")
        except _Moved as moved:
            error: COSError = moved.error
        except BucketNotFoundError as not_found:
            error = not_found
            if not self._relocate(call.bucket):
                raise
        call.redirected = True
        try:
            return self.retrier.run(operation, limit, f"{call.operation} {call.target!r}")
        except _Moved:
            raise error from None

    def _time_limit(self, call: Call) -> float:
        """Seconds that a call may take with all its tries; the bytes of bodies add to them, see Limits."""
        # Who has waited for long before it was sent gets a quarter of the time at least.
        stall = self.stall_limit - min(WAITED.get(), self.stall_limit * 3 / 4)
        return stall + call.work / COPIED if stall else call.time_limit

    def _limits(self, call: Call, attempt: Attempt) -> Limits:
        silence, stall = self.settings.read_timeout, self.stall_limit
        if call.slow:
            silence = max(SLOW_SILENCE, silence)
        limits = Limits(silence, attempt.deadline)
        if stall:
            movement, bucket, key = self.movement, call.bucket, call.key
            limits.stall = stall
            limits.sent_before = attempt.sent
            # All that is on its way shares a line.
            limits.pace = lambda: SLOWEST / max(1, self.transport.in_flight)
            if key is None:
                key = call.params.get("prefix", "")  # of a listing
            limits.on_moved = partial(movement.note, bucket, key)
        return limits

    def send(self, call: Call, attempt: Attempt) -> Response:
        """Send a call once and return the answer, whose body the caller reads; error answers raise."""
        region = self.region(call.bucket) if call.bucket else ""
        response = self._send(call, self._address(call, region), attempt)
        status = response.status
        if log.isEnabledFor(logging.DEBUG):
            request_id = response.headers.get("x-cos-request-id", "")
            log.debug("%s %r: HTTP %d, RequestId %s", call.operation, call.target, status, request_id)
            log.debug("%s", shown_answer(status, response.headers))
        if 200 <= status < 300 or status == 304:
            if not failures.is_cos(response.headers):
                with response:
                    raise NotCosError(
                        f"{response.host} is not COS: its answer has no request id",
                        hint="Check endpoint_url and the proxy; a captive portal may be on the way",
                    )
            if call.bucket:
                self.seen.add(call.bucket)
            self._answered = True
            self._proved = attempt.credentials
            if call.method != "GET":  # what a GET brings is in its body
                self.movement.note(call.bucket, call.key)
            return response
        raise self._failure(call, response, attempt, region)

    def is_answered(self, call: Call, timeout: float) -> bool:
        """Return whether a call is answered within timeout seconds, whatever with; one try.

        It is not signed: a refusal is an answer, and keys may have ended that cannot be renewed now.
        """
        self.transport.forget_idle()  # they may lead nowhere without knowing it
        call.signed = False
        try:
            self.send(call, Attempt(deadline=time.monotonic() + timeout)).close()
        except NetworkError:
            return False
        except (COSError, _Moved):
            pass
        return True

    def last_heard(self, bucket: str) -> float:
        """When the last bytes of an answer came from where a bucket is, or the list of buckets; 0: never."""
        if not bucket:
            return self.transport.last_heard(self.endpoint.service())
        region = self.regions.get(bucket) or self.settings.region
        if not region and self.endpoint.needs_region(bucket):
            return 0.0
        addresses = (self.endpoint.bucket(bucket, region), self.endpoint.object(bucket, region, "key"))
        return max(map(self.transport.last_heard, addresses))

    def hear(self, bucket: str) -> None:
        """Note that an answer came from where a bucket is."""
        region = self.region(bucket)
        self.transport.hear_of(self.endpoint.bucket(bucket, region))

    def place_of(self, bucket: str) -> str:
        """Return a name for where a bucket is: other buckets of that name are reached in the same way."""
        region = self.regions.get(bucket) or self.settings.region
        if bucket and not region and self.endpoint.needs_region(bucket):
            return bucket
        return (self.endpoint.bucket(bucket, region) if bucket else self.endpoint.service()).origin

    def region(self, bucket: str) -> str:
        """Return the region to send requests for a bucket to; it may be empty with an endpoint_url."""
        region = self.regions.get(bucket, "")
        if region or not self.endpoint.needs_region(bucket):
            return region or self.settings.region
        region = self.region_file.get(bucket)
        if region:
            self.regions[bucket] = region
            return region
        if self.settings.region:
            return self.settings.region
        region = self.find_region(bucket)
        if region:
            self.learn_region(bucket, region)
        return region

    def learn_region(self, bucket: str, region: str) -> None:
        """Remember where a bucket is, for this run and later ones."""
        self.regions[bucket] = region
        self.region_file.set(bucket, region)

    def document(self, call: Call, response: Response) -> bytes:
        """Read the body of an answer that is a document; an Error inside a 200 raises."""
        body = response.read()
        self.stats.add(received=len(body))
        if b"<Error" in body[:1024].lstrip():
            error = xml.parse_error(body)
            if error.code:
                self.stats.add(errors=1)
                raise failures.from_document(error, self._as_failure(call, response, body))
        return body

    def element(self, call: Call, response: Response, *roots: str) -> Element:
        """Read the body of an answer as a document with one of these roots."""
        return self.parsed(call, response, lambda body: xml.parse(body, *roots, lenient=True))

    def parsed(self, call: Call, response: Response, parse: Callable[[bytes], T]) -> T:
        """Read the body of an answer and parse it."""
        body = self.document(call, response)
        try:
            return parse(body)
        except (xml.UnreadableAnswer, KeyError, ValueError) as error:
            raise ServiceError(
                f"the answer to {call.operation} cannot be read: {error}",
                status=response.status,
                target=call.target,
                request_id=response.headers.get("x-cos-request-id", ""),
            ) from error

    def known(self) -> Known | None:
        """Return what another session needs to send the same requests; None before the first good answer."""
        return Known(self._proved, dict(self.regions), self._clock_offset) if self._answered else None

    def learn(self, known: Known) -> None:
        """Take over what another session found out."""
        if known.credentials is not None:
            self.credentials = StaticCredentials(known.credentials)
        self.regions.update(known.regions)
        self._clock_offset = known.clock_offset

    # --- parts of sending

    def _address(self, call: Call, region: str) -> Address:
        if call.key is not None:
            return self.endpoint.object(call.bucket, region, call.key)
        return self.endpoint.bucket(call.bucket, region) if call.bucket else self.endpoint.service()

    def _send(self, call: Call, address: Address, attempt: Attempt) -> Response:
        headers = dict(call.headers)
        if call.body is not None:
            headers["Content-Length"] = str(body_length(call.body))
        elif call.method in ("PUT", "POST"):
            headers["Content-Length"] = "0"
        if self.credentials is not None and call.signed:
            attempt.credentials = self.credentials.get()
        headers = self.signed_headers(call.method, address, call.params, headers, attempt.credentials)
        target = f"{address.path}?{encode_query(call.params)}" if call.params else address.path
        limits = self._limits(call, attempt)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s", shown_request(call.method, address.host_header, target, headers))
        began = time.perf_counter()
        try:
            response = self.transport.send(call.method, address, target, headers, call.body, limits)
        except COSError:
            self.stats.answered(call.operation, 0, 0.0)
            raise
        finally:
            attempt.deadline = limits.deadline
            attempt.sent = limits.sent_before
        sent = body_length(call.body) if call.body is not None else 0
        self.stats.answered(call.operation, response.status, time.perf_counter() - began, sent)
        return response

    def signed_headers(
        self,
        method: str,
        address: Address,
        params: Mapping[str, str],
        own: Mapping[str, str],
        credentials: Credentials | None,
    ) -> dict[str, str]:
        """Return all headers of a request that has some of its own, the signature among them."""
        headers = {"Host": address.host_header, **self._constant_headers, **own}
        if credentials is None:
            return headers
        if credentials.token:
            headers["x-cos-security-token"] = credentials.token
        signed = {}
        for name, value in headers.items():
            name = name.lower()
            if name in _SIGNED or name.startswith("x-cos-"):
                signed[name] = value
        now = int(self.now())
        headers["Authorization"] = sign(
            method,
            address.signed_path,
            params,
            signed,
            credentials,
            now - _SIGNED_BEFORE,
            now + _SIGNED_AFTER,
        )
        return headers

    def now(self) -> float:
        """Return the time as COS has it."""
        return time.time() + self._clock_offset

    # --- errors

    def _failure(self, call: Call, response: Response, attempt: Attempt, region: str) -> COSError | _Moved:
        """Read an error answer; return what to raise."""
        with response:
            body = response.read(most=1024 * KIB)
        if body and log.isEnabledFor(logging.DEBUG):
            log.debug("%s", shown_answer(response.status, {}, body))
        attempt.headers = response.headers
        failure = self._as_failure(call, response, body)
        error: COSError = failures.from_answer(failure)
        is_no = response.status in call.noes and not isinstance(error, AuthenticationError)
        self.stats.add(errors=not is_no, received=len(body))
        if call.method == "HEAD" and isinstance(error, ServiceError) and self._looks_expired(response):
            error = failures.from_document(xml.ErrorBody.of("RequestTimeTooSkewed"), failure)
        elsewhere = self._region_told(call, response, body)
        fixed = self.endpoint.path_style or not (call.bucket and self.endpoint.may_move(call.bucket))
        if elsewhere and elsewhere != region and not fixed and not call.redirected:
            self.learn_region(call.bucket, elsewhere)
            return _Moved(error)
        if isinstance(error, ServiceError) and error.status == 404 and error.code not in ("", "NoSuchBucket"):
            self.seen.add(call.bucket)
        return error

    def _as_failure(self, call: Call, response: Response, body: bytes) -> failures.Failure:
        return failures.Failure(
            response.status,
            response.headers,
            body,
            call.target,
            response.host,
            call.instead_of or call.operation,
            self.regions.get(call.bucket) or self.settings.region if call.bucket else "",
            time.time(),
            self.credentials is not None,
            call.source,
        )

    def _region_told(self, call: Call, response: Response, body: bytes) -> str:
        """Return the region an error answer names, if it does."""
        if not call.bucket or not failures.is_cos(response.headers):
            return ""
        told = response.headers.get("x-cos-bucket-region", "")
        if not told and response.status in (301, 302, 307, 308):
            _, found, rest = response.headers.get("location", "").partition(f"{call.bucket}.cos.")
            told = rest.partition(".")[0] if found else xml.parse_error(body).region
        return told if told.replace("-", "").isalnum() else ""

    def _relocate(self, bucket: str) -> bool:
        """Look for a bucket that is not where it should be; return whether it is in another region."""
        if not bucket or not self.endpoint.needs_region(bucket) or self.credentials is None:
            return False
        known = self.regions.get(bucket) or self.settings.region
        found = self.find_region(bucket)
        if not found and known != self.settings.region:
            # It was there once, and nobody says where it is now.
            found = self.settings.region
        self.region_file.set(bucket, "")
        if not found or found == known:
            return False
        self.learn_region(bucket, found)
        return True

    def _looks_expired(self, response: Response) -> bool:
        """Return whether a refusal without a body is due to the clock."""
        server = parse_http_date(response.headers.get("date", ""))
        if response.status != 403 or not server:
            return False
        return not -_SIGNED_AFTER < self.now() - server < _SIGNED_BEFORE

    def _correct_clock(self, headers: Mapping[str, str]) -> bool:
        """Take over COS's time; return whether that changes anything."""
        server = parse_http_date(headers.get("date", ""))
        if not server or abs(server - self.now()) < 30:
            return False
        self._clock_offset = server - time.time()
        return True

    def _renew_credentials(self, used: object) -> bool:
        """Ask for newer credentials than those COS refused; return whether there are any."""
        if self.credentials is None:
            return False
        # Another request may have been refused before, and has renewed them.
        return self.credentials.get() != used or self.credentials.refresh() != used
