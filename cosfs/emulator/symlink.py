"""Symbolic links of COS: objects without bytes that lead plain reads to another key of their bucket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote, unquote_to_bytes

from cosfs.emulator import access
from cosfs.emulator.addressing import check_key
from cosfs.emulator.attributes import check_overwrite, properties, version_header
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.finding import find_object
from cosfs.emulator.store import Version, inline_bytes
from cosfs.emulator.values import Response

TARGET = "x-cos-symlink-target"
_LONGEST_CHAIN = 8


def target_of(row: Version) -> str:
    """Return the key that a link names; empty for everything that is no link."""
    if TARGET not in row.headers:  # headers are JSON: nearly always there is nothing to parse
        return ""
    return str(json.loads(row.headers).get(TARGET, ""))


def follow(call: Call, row: Version) -> Version:
    """Return the object at the end of a chain of links."""
    key = target_of(row)
    for _ in range(_LONGEST_CHAIN):
        if not key:
            return row
        access.require(call, "GetObject", key)
        row = find_object(replace(call, place=replace(call.place, key=key), parameters={}))
        key = target_of(row)
    if key:
        raise CosError("InvalidRequest", "Too many symbolic links follow one another.")
    return row


def put_symlink(call: Call) -> Response:
    """Make a link; its target need not exist."""
    bucket = call.bucket
    check_overwrite(call, bucket)
    target = _wanted_target(call)
    made, echoed = properties(call, bucket)
    kept = json.dumps({**json.loads(made.headers), TARGET: target})
    # The ETag is that of the target's name, so that a link which leads elsewhere is told apart.
    content = replace(inline_bytes(b""), etag=inline_bytes(target.encode()).etag)
    row = call.store.put(bucket, call.key, content, replace(made, headers=kept))
    return Response(200, {"ETag": f'"{row.etag}"', **echoed, **version_header(bucket, row)})


def _wanted_target(call: Call) -> str:
    """Read the target; the Go SDK percent-encodes it, the Python SDK sends it as it is."""
    text = call.headers.get(TARGET, "")
    try:
        target = unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError as error:
        raise CosError("InvalidArgument", f"{TARGET} is not valid.") from error
    if not target or target == call.key:
        raise CosError("InvalidArgument", f"{TARGET} is not valid.")
    check_key(target)
    return target


def get_symlink(call: Call) -> Response:
    """Answer where a link leads, percent-encoded: a key need not fit into a header."""
    row = find_object(call)
    target = target_of(row)
    if not target:
        raise CosError("InvalidRequest", "The object is not a symbolic link.")
    return Response(
        200, {TARGET: quote(target, safe="/"), "ETag": f'"{row.etag}"', **version_header(call.bucket, row)}
    )


HANDLERS: dict[str, Callable[[Call], Response]] = {"GetSymlink": get_symlink, "PutSymlink": put_symlink}
