"""The static website of a bucket, on its cos-website host: pages instead of API answers.

`/_website/<bucket>/<key>` leads to it as well, for browsers that cannot be given a host name.
"""

from __future__ import annotations

from dataclasses import replace
from html import escape

from cosfs.emulator import access
from cosfs.emulator.addressing import WEBSITE_PATH
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.handlers_object import get_object
from cosfs.emulator.messages import url_encode
from cosfs.emulator.values import Response
from cosfs.emulator.website_rules import RoutingRule, Website, read

# What a visitor sends about the page and not about the error page that may come in its place.
_ABOUT_THE_PAGE = frozenset(
    {"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)


def serve(call: Call) -> Response:
    """Answer a visitor: the page, a redirection, or the error document."""
    if call.method not in ("GET", "HEAD"):
        raise CosError("MethodNotAllowed")
    website = call.store.derived(call.bucket, "website", read)
    if website is None:
        raise CosError("NoSuchWebsiteConfiguration")
    if website.host or website.protocol not in ("", call.scheme):
        return _redirect(call, 301, website.protocol, website.host, call.key)
    if not website.index:
        raise CosError("NoSuchWebsiteConfiguration")
    rule = _rule(website, call.key, 0)
    if rule is not None:
        return _follow(call, rule)
    try:
        return _page(call, website)
    except CosError as error:
        return _instead(call, website, error)


def _page(call: Call, website: Website) -> Response:
    key = call.key
    if not key or key.endswith("/"):
        return _object(call, key + website.index)
    try:
        return _object(call, key)
    except CosError as error:
        if error.status != 404:
            raise
        if website.without_html and _is_there(call, f"{key}.html"):
            return _object(call, f"{key}.html")
        if _is_there(call, f"{key}/{website.index}"):
            return _redirect(call, 302, "", "", f"{key}/")
        raise


def _is_there(call: Call, key: str) -> bool:
    row = call.store.newest(call.bucket, key)
    return row is not None and not row.marker


def _object(call: Call, key: str, *, plain: bool = False) -> Response:
    """Return an object as GET Object would; plain: the whole of it whatever the visitor asked for."""
    headers = call.headers
    if plain:
        headers = {name: value for name, value in headers.items() if name not in _ABOUT_THE_PAGE}
    reading = replace(call, place=replace(call.place, key=key), headers=headers, parameters={})
    access.require(reading, "GetObject", key)
    return get_object(reading)


def _instead(call: Call, website: Website, error: CosError) -> Response:
    """Answer an error as the owner of the bucket wants it."""
    rule = _rule(website, call.key, error.status)
    if rule is not None:
        return _follow(call, rule)
    if not website.error or not 400 <= error.status < 500:
        raise error
    try:
        page = _object(call, website.error, plain=True)
    except CosError:
        raise error from None
    return replace(page, status=error.status if website.original_status else 200)


def _rule(website: Website, key: str, status: int) -> RoutingRule | None:
    return next((rule for rule in website.rules if rule.applies(key, status)), None)


def _follow(call: Call, rule: RoutingRule) -> Response:
    return _redirect(call, rule.status, rule.protocol, rule.host, rule.target(call.key))


def _redirect(call: Call, status: int, protocol: str, host: str, key: str) -> Response:
    base = f"{WEBSITE_PATH}{call.name}/" if call.place.path_style and not host else "/"
    target = f"{protocol or call.scheme}://{host or call.host}{base}{url_encode(key)}"
    return Response(status, {"Location": target})


def error_page(error: CosError, call: Call, request_id: str) -> Response:
    """Answer an error as a page."""
    rows = {
        "Code": error.code,
        "Message": error.message,
        "Resource": call.resource(),
        "RequestId": request_id,
    }
    items = "".join(f"<li>{name}: {escape(value)}</li>" for name, value in rows.items())
    title = f"{error.status} {escape(error.code)}"
    head = f"<!DOCTYPE html><html><head><title>{title}</title></head>"
    body = f"{head}<body><h1>{title}</h1><ul>{items}</ul></body></html>"
    headers = {"Content-Type": "text/html; charset=utf-8"}
    return Response(error.status, headers, b"" if call.method == "HEAD" else body.encode())
