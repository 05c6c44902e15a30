"""The admin path: requests to `/_emulator` from this machine itself, and from nobody else, need no signature.

Who may: a program whose connection comes from loopback and which calls the server by a loopback name. A page
of another site in a browser cannot, whatever name it finds to reach this port by: its requests have a foreign
Host (DNS rebinding), a foreign Origin, or say with Sec-Fetch-Site where they come from. And what a bucket
serves is no page of ours, although it has the same origin: it is sent with `SANDBOX`.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from cosfs.emulator.addressing import Target, split_target, without_port
from cosfs.emulator.admin_api import Api, ApiError
from cosfs.emulator.errors import CosError
from cosfs.emulator.protocol import ClientGoneError
from cosfs.emulator.values import Request

PREFIX = b"/_emulator"
SANDBOX = {"Content-Security-Policy": "sandbox"}
_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_BODY_LIMIT = 64 * 1024
_PASSED = ("content-", "x-cos-", "if-", "range", "expect", "transfer-encoding")
_ALWAYS = {
    "Server": "tencent-cos",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/objects.js": ("objects.js", "text/javascript; charset=utf-8"),
}

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Handle = Callable[..., Awaitable[None]]


def asked_for(raw: bytes, headers: Mapping[str, str]) -> Target | None:
    """Return the target of a request to the admin path; None if it is a request to COS."""
    if PREFIX not in raw:
        return None
    try:
        target = split_target(raw)
    except CosError:
        return None
    if target.path != PREFIX and not target.path.startswith(PREFIX + b"/"):
        return None
    return target if is_own_name(target.authority or headers.get("host", "")) else None


def is_own_name(host: str) -> bool:
    """Tell whether a Host means this machine without any doubt."""
    return without_port(host.lower()) in _HOSTS


class Admin:
    """Serves the admin path: the page, the JSON calls, and COS itself without signatures."""

    def __init__(self, api: Api, handle: Handle) -> None:
        self._api = api
        self._handle = handle  # serves a request to COS as the owner

    async def serve(
        self, scope: Scope, target: Target, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        """Answer a request to the admin path."""
        refused = _refusal(scope, target, headers)
        name = target.path[len(PREFIX) :].decode("utf-8", "replace").rstrip("/")
        if refused:
            await answer(send, 403, refused)
        elif name in _FILES and scope["method"] in ("GET", "HEAD"):
            await self._send_file(scope, target, headers, name, send)
        elif name == "/cos":
            await self._pass_on(scope, target, headers, receive, send)
        elif name.startswith("/api/"):
            await self._call(scope, target, name.removeprefix("/api/"), receive, send)
        else:
            await answer(send, 404, f"There is no {scope['method']} {PREFIX.decode()}{name}.")

    async def _send_file(
        self, scope: Scope, target: Target, headers: Mapping[str, str], name: str, send: Send
    ) -> None:
        file, kind = _FILES[name]
        body = (files("cosfs.emulator") / "page" / file).read_bytes()
        place = f"{scope['scheme']}://{target.authority or headers.get('host', '')}{PREFIX.decode()}/"
        # Scripts by their addresses: 'self' would include what buckets serve.
        policy = (
            f"default-src 'none'; script-src {place}page.js {place}objects.js; style-src 'self'; "
            "connect-src 'self'; img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
        )
        await _send(send, 200, {"Content-Type": kind, "Content-Security-Policy": policy}, body)

    async def _pass_on(
        self, scope: Scope, target: Target, headers: Mapping[str, str], receive: Receive, send: Send
    ) -> None:
        """Let COS answer, as if the owner had signed: `?bucket=...&key=...` and the query of the call.

        Not as a path: browsers would resolve `..` in it.
        """
        query = [
            (name.decode("utf-8", "replace"), value.decode("utf-8", "replace"))
            for name, value in target.query
        ]
        bucket = next((value for name, value in query if name == "bucket"), "")
        key = next((value for name, value in query if name == "key"), "")
        rest = urlencode([pair for pair in query if pair[0] not in ("bucket", "key")], quote_via=quote)
        path = f"/{quote(bucket, safe='')}/{quote(key, safe='')}" if bucket else "/"
        passed = {name: value for name, value in headers.items() if name.startswith(_PASSED)}
        request = Request(scope["method"], f"{path}?{rest}".encode(), {**passed, "host": "localhost"})
        name = quote(key.rstrip("/").rpartition("/")[2], safe="")
        extra = {**_ALWAYS, **SANDBOX, "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
        await self._handle(request, scope, receive, send, owner=True, extra=extra)

    async def _call(self, scope: Scope, target: Target, name: str, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        try:
            value = json.loads(body) if body else {}
            if not isinstance(value, dict):
                raise ValueError("the body is no object")
            result = self._api.call(scope["method"], name, target.parameters(), value)
        except ApiError as error:
            await answer(send, error.status, str(error))
        except CosError as error:
            await answer(send, error.status, f"{error.code}: {error.message}")
        except (TypeError, ValueError) as error:
            await answer(send, 400, f"That cannot be done: {error}")
        else:
            text = json.dumps(result, ensure_ascii=False).encode("utf-8", "replace")
            await _send(send, 200, {"Content-Type": "application/json"}, text)


def _refusal(scope: Scope, target: Target, headers: Mapping[str, str]) -> str:
    """Say why a request must not be answered; empty if it may."""
    client = scope["client"]
    if not client or not _is_loopback(client[0]):
        return "The admin path answers programs on the same machine only."
    own = f"{scope['scheme']}://{target.authority or headers.get('host', '')}".lower()
    origin = headers.get("origin")
    if origin is not None and origin.lower() != own:
        return f"The admin path does not answer pages of {origin}."
    site = headers.get("sec-fetch-site", "same-origin")
    if site != "same-origin" and not (site == "none" and scope["method"] in ("GET", "HEAD")):
        return f"The admin path does not answer {site} requests."
    return ""


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


async def _read(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message["body"]
        more = message["more_body"]
        if len(body) > _BODY_LIMIT:
            raise ClientGoneError
    return body


async def answer(send: Send, status: int, text: str) -> None:
    """Say in JSON what is wrong."""
    await _send(send, status, {"Content-Type": "application/json"}, json.dumps({"error": text}).encode())


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    all_headers = {**_ALWAYS, **headers, "Content-Length": str(len(body))}
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})
