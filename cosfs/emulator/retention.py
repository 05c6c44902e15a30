"""Retention of single objects. The store itself refuses to erase or overwrite what is locked."""

from __future__ import annotations

from collections.abc import Callable

from cosfs.emulator import locks
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.finding import find_object
from cosfs.emulator.handlers_bucket import xml
from cosfs.emulator.messages import document, element, iso_time
from cosfs.emulator.values import Response


def put_retention(call: Call) -> Response:
    """Lock a version until a date, which can only be moved to later."""
    row, until = find_object(call), locks.retain_until(call.body.data)
    if call.store.setting(call.bucket, "object-lock") is None:
        raise CosError("NoSuchObjectLockConfiguration")
    now = call.store.now()
    if until <= now or until > now + locks.MAX_DAYS * 86_400 or until < call.store.locked_until(row.id):
        raise CosError("InvalidLockedTime")
    call.store.lock(row.id, until)
    return Response()


def get_retention(call: Call) -> Response:
    """Answer until when a version is, or was, locked."""
    until = call.store.locked_until(find_object(call).id)
    if not until:
        raise CosError("NoSuchObjectLockConfiguration", "The object has no retention.")
    return xml(document("Retention", element("RetainUntilDate", iso_time(until))))


HANDLERS: dict[str, Callable[[Call], Response]] = {
    "GetObjectRetention": get_retention,
    "PutObjectRetention": put_retention,
}
