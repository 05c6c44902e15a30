"""POST Object: storing the file of a form."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from cosfs.emulator import access
from cosfs.emulator.attributes import object_url
from cosfs.emulator.context import Call
from cosfs.emulator.handlers_object import put_object
from cosfs.emulator.values import Response

_STATUSES = {"200": 200, "201": 201, "204": 204}


def post_object(call: Call) -> Response:
    """Store the file, then send the browser where the form says. The form has become the call's headers."""
    access.require(call, "PostObject", call.key)
    stored = put_object(call)
    headers = {**stored.headers, "Location": object_url(call)}
    redirect = call.headers.get("success_action_redirect", "")
    if redirect.startswith(("http://", "https://")):
        told = {"bucket": call.name, "key": call.key, "etag": stored.headers["ETag"]}
        target = redirect + ("&" if "?" in redirect else "?") + urlencode(told)
        return Response(303, {**headers, "Location": target})
    return Response(_STATUSES.get(call.headers.get("success_action_status", ""), 204), headers)


HANDLERS: dict[str, Callable[[Call], Response]] = {"PostObject": post_object}
