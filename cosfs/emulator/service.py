"""The emulator without a socket: a request in, an answer out.

The server calls `begin`, feeds the body to `Exchange.incoming`, then calls `finish`; `handle` does all three
for callers that have the whole request. Errors become answers here and nowhere else.
"""

from __future__ import annotations

import base64
import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from cosfs.emulator import (
    access,
    archive,
    auth,
    aws,
    cors,
    handlers_bucket,
    handlers_copy,
    handlers_form,
    handlers_list,
    handlers_object,
    handlers_select,
    handlers_upload,
    messages,
    metadata,
    origin,
    retention,
    sts,
    symlink,
    tc3,
    throttle,
    website,
)
from cosfs.emulator.addressing import Place, check_key, locate, split_target
from cosfs.emulator.auth import ADMIN_ID, Identity, Signed
from cosfs.emulator.aws import Payload
from cosfs.emulator.context import Call, Emulation
from cosfs.emulator.errors import CosError
from cosfs.emulator.faults import Fault, Faults
from cosfs.emulator.form import FormIncoming
from cosfs.emulator.hosts import check_acceleration, check_region, place_of_domain
from cosfs.emulator.incoming import Incoming
from cosfs.emulator.requestlog import Requests
from cosfs.emulator.routing import counted_name, route, takes_data, takes_document
from cosfs.emulator.values import Later, Request, Response

log = logging.getLogger(__name__)

Handler = Callable[[Call], Response | Later]
# Calls that are not of COS: signed in another way or not at all, and about no bucket.
OUTSIDE: Mapping[str, Handler] = {**metadata.HANDLERS, **sts.HANDLERS}
CHECKED_HEADERS = frozenset({"content-md5", "x-cos-forbid-overwrite"})  # of no meaning to lenient servers
HANDLERS: Mapping[str, Handler] = {
    **handlers_bucket.HANDLERS,
    **handlers_list.HANDLERS,
    **handlers_object.HANDLERS,
    **handlers_copy.HANDLERS,
    **handlers_upload.HANDLERS,
    **handlers_form.HANDLERS,
    **handlers_select.HANDLERS,
    **archive.HANDLERS,
    **cors.HANDLERS,
    **retention.HANDLERS,
    **symlink.HANDLERS,
    **OUTSIDE,
}


@dataclass(slots=True)
class Exchange:
    """One request under way. error is set as soon as the answer is known to be one."""

    request: Request
    request_id: str
    operation: str = "Invalid"
    call: Call | None = None
    incoming: Incoming | FormIncoming | None = None
    error: CosError | None = None
    faults: list[Fault] = field(default_factory=list)
    payload: Payload = field(default_factory=Payload)
    aws: bool = False
    owner: bool = False  # asked through the admin path: not signed
    counted: bool = True  # otherwise neither in counters and log nor struck by faults
    rate: int = 0  # bytes per second that the body may have, in either direction; 0: no limit

    def fault(self, kind: str, *, after: bool = False) -> Fault | None:
        """Return the fault of a kind that strikes this request."""
        return next((fault for fault in self.faults if fault.kind == kind and fault.after == after), None)


class Service:
    """Answers requests from the state of one emulator. The lock lets other threads look at the state."""

    def __init__(self, emulation: Emulation) -> None:
        self.emulation = emulation
        self.requests = Requests()
        self.faults = Faults()
        emulation.store.history.window = lambda: self.faults.staleness
        self.lock = threading.RLock()
        self._ids = itertools.count(1)
        self._epoch = f"{time.time_ns() // 1000:x}"

    def handle(self, request: Request) -> Response:
        """Answer a whole request."""
        exchange = self.begin(request)
        if exchange.incoming is not None and exchange.error is None:
            try:
                exchange.incoming.feed(request.body)
            except CosError as error:
                exchange.error = error
        result = self.finish(exchange)
        return self.resume(exchange, result, result.work()) if isinstance(result, Later) else result

    def begin(self, request: Request, *, owner: bool = False) -> Exchange:
        """Understand, authenticate and admit a request before its body is read."""
        text = f"{self._epoch}_{next(self._ids):08x}"
        request_id = base64.b64encode(text.encode()).decode().rstrip("=")
        exchange = Exchange(request, request_id, owner=owner, counted=not owner)
        try:
            with self.lock:
                self._admit(exchange)
        except CosError as error:
            exchange.error = error
        except Exception:
            log.exception("emulator: %s %r failed", request.method, request.target)
            exchange.error = CosError("InternalError")
        if exchange.call is None and exchange.counted:
            self.requests.count(exchange.operation)
        return exchange

    def _admit(self, exchange: Exchange) -> None:
        call = self._understand(exchange)
        exchange.call = call
        exchange.operation = counted_name(call.operation, call.setting)
        exchange.counted = not exchange.owner and not self.requests.leaves_out(call.place.bucket)
        if exchange.counted:
            self.requests.count(exchange.operation)
            self._strike(exchange, call)
        if call.operation in OUTSIDE:
            self._take_body(exchange, call)
            return
        if call.operation != "OptionsObject":  # the URL of a preflight may be signed for another method
            self._authenticate(exchange, call)
        if call.key:
            check_key(call.key)
        if call.place.bucket and call.operation != "CreateBucket":
            _ = call.bucket
        if not call.place.website:  # which object a visitor gets is found out later
            access.authorize(call)
        check_region(call)
        check_acceleration(call)
        exchange.rate = throttle.bytes_per_second(call.headers, call.parameters)
        self._take_body(exchange, call)

    def _take_body(self, exchange: Exchange, call: Call) -> None:
        if call.operation == "PostObject":
            exchange.incoming = FormIncoming(call)
        elif takes_data(call.operation) or takes_document(call.operation):
            exchange.incoming = Incoming(call, exchange.payload)

    def _strike(self, exchange: Exchange, call: Call) -> None:
        exchange.faults = self.faults.take(exchange.operation, call.key)
        if not exchange.faults:
            return
        stale = exchange.fault("stale")
        if stale is not None:
            call.stale = stale.delay()
        if exchange.fault("lenient") is not None:
            call.headers = {name: text for name, text in call.headers.items() if name not in CHECKED_HEADERS}
        error = exchange.fault("error")
        if error is not None:
            raise CosError(error.code, error.message, status=error.status)

    def _understand(self, exchange: Exchange) -> Call:
        request = exchange.request
        target = split_target(request.target)
        host = request.headers.get("host", "")
        parameters = target.parameters()
        headers = aws.strip_prefix(request.headers)
        resolve, store = self._resolver(request.headers, parameters), self.emulation.store
        place = place_of_domain(store, target, host)
        place = place or locate(target, host, resolve, self.emulation.default_bucket)
        signed = Signed(request.method, target, request.headers, place.path_style, parameters)
        exchange.aws = aws.is_aws(signed)
        outside = sts.operation_of(request, target.path) or metadata.operation_of(
            request, target, self.emulation, resolve
        )
        if outside:
            operation, setting, place = outside, "", Place("", "", False)
        else:
            operation, setting = route(request.method, place, parameters, "x-cos-copy-source" in headers)
        if operation not in HANDLERS:
            raise CosError("NotImplemented")
        return Call(
            operation, setting, request.method, target, place, headers, parameters, Identity(),
            target.authority or host, self.emulation, request.peer,
        )  # fmt: skip

    def _resolver(self, headers: Mapping[str, str], parameters: Mapping[str, str]) -> Callable[[str], str]:
        """Return how short names are understood: those of accounts but the default are their own buckets."""
        emulation = self.emulation
        if len(emulation.accounts.accounts) == 1:
            return emulation.store.resolve
        claimed = emulation.store.credential(auth.claimed_key(headers, parameters))
        return partial(emulation.resolve, appid=emulation.accounts.principal(claimed).appid)

    def _authenticate(self, exchange: Exchange, call: Call) -> None:
        if exchange.owner:
            call.identity = Identity(ADMIN_ID, "cos")
            return
        request, store = exchange.request, self.emulation.store
        signed = Signed(request.method, call.target, request.headers, call.place.path_style, call.parameters)
        now = store.clock.machine()  # a clock that was moved is not the clients' concern
        if exchange.aws:
            call.identity, exchange.payload = aws.authenticate(signed, store.credential, now)
        else:
            call.identity = auth.authenticate(signed, store.credential, now)

    def finish(self, exchange: Exchange) -> Response | Later:
        """Do the work of a request whose body has arrived."""
        error = exchange.error
        if error is None and exchange.call is not None:
            try:
                with self.lock:
                    result = self._work(exchange, exchange.call)
                return result if isinstance(result, Later) else self._answer(exchange, result)
            except CosError as raised:
                error = raised
            except Exception:
                log.exception("emulator: %s %r failed", exchange.request.method, exchange.request.target)
                error = CosError("InternalError")
        self.abandon(exchange)
        return self._failure(exchange, error or CosError("InternalError"))

    def abandon(self, exchange: Exchange) -> None:
        """Forget the body of a request that came to nothing."""
        if exchange.incoming is not None:
            exchange.incoming.discard()
            exchange.incoming = None

    def _work(self, exchange: Exchange, call: Call) -> Response | Later:
        if exchange.incoming is not None:
            call.body = exchange.incoming.finish()
            if exchange.counted:
                self.requests.bytes_received += call.body.size
        visit = call.place.website and call.operation != "OptionsObject"
        try:
            result = website.serve(call) if visit else HANDLERS[call.operation](call)
        except CosError as error:
            redirected = origin.redirect(call, error)
            if redirected is None:
                raise
            result = redirected
        exchange.incoming = None  # its bytes belong to the store by now
        fault = exchange.fault("error", after=True)
        if fault is not None:
            raise CosError(fault.code, fault.message, status=fault.status)
        return result

    def resume(self, exchange: Exchange, later: Later, made: object) -> Response:
        """End a request whose long work is done."""
        try:
            with self.lock:
                return self._answer(exchange, later.then(made))
        except CosError as error:
            return self._failure(exchange, error)

    def _answer(self, exchange: Exchange, response: Response) -> Response:
        headers = {**response.headers, "Server": "tencent-cos", "x-cos-request-id": exchange.request_id}
        # Clients correct their clocks with it.
        headers["Date"] = messages.http_time(int(self.emulation.store.clock.machine()))
        if response.content is None and not response.chunked and response.status not in (204, 304):
            headers.setdefault("Content-Length", str(len(response.body)))
        if "origin" in exchange.request.headers:
            headers.update(cors.headers_for(exchange.call))
        if exchange.aws:
            headers = aws.add_prefix(headers)
        return replace(response, headers=headers)

    def _failure(self, exchange: Exchange, error: CosError) -> Response:
        exchange.error = error
        if exchange.counted:
            self.requests.errors[error.code] += 1
        call = exchange.call
        if call is not None and call.operation in sts.HANDLERS:
            return self._answer(exchange, tc3.failure(error.code, error.message))
        if call is not None and call.place.website:
            return self._answer(exchange, website.error_page(error, call, exchange.request_id))
        trace = base64.b64encode(exchange.request_id.encode()).decode().rstrip("=")
        headers = {**error.headers, "Content-Type": "application/xml", "x-cos-trace-id": trace}
        nodes: dict[str, object] = {"Code": error.code, "Message": error.message, **error.nodes}
        nodes["Resource"] = exchange.call.resource() if exchange.call is not None else "/"
        nodes |= {"RequestId": exchange.request_id, "TraceId": trace}
        body = messages.document("Error", messages.elements(nodes))
        if exchange.request.method == "HEAD":
            body = b""
        return self._answer(exchange, Response(error.status, headers, body))
