"""Archived objects: what cannot be read before it is restored, and how long a restore takes by the clock."""

from __future__ import annotations

from collections.abc import Callable

from cosfs.emulator import messages
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.finding import find_object
from cosfs.emulator.messages import http_time
from cosfs.emulator.numerals import whole
from cosfs.emulator.store import Version
from cosfs.emulator.values import Response

_HOUR = 3600
# The longer end of what the documentation promises, in seconds. A deep archive has no Expedited.
_TIERS = {
    "ARCHIVE": {"Expedited": 300, "Standard": 5 * _HOUR, "Bulk": 12 * _HOUR},
    "MAZ_ARCHIVE": {"Expedited": 300, "Standard": 5 * _HOUR, "Bulk": 12 * _HOUR},
    "DEEP_ARCHIVE": {"Standard": 24 * _HOUR, "Bulk": 48 * _HOUR},
}
ARCHIVES = frozenset(_TIERS)
_MOST_DAYS = 36_500


def check_restored(call: Call, row: Version) -> None:
    """Refuse to read an archived object that has not been restored."""
    if row.storage_class in ARCHIVES and not row.restored <= call.store.clock() < row.expiry:
        raise CosError("InvalidObjectState")


def headers(call: Call, row: Version) -> dict[str, str]:
    """Tell how far the restore of an object is; nothing once the restored copy has gone."""
    if not row.restored:
        return {}
    now = call.store.clock()
    if now < row.restored:
        return {"x-cos-restore": 'ongoing-request="true"', "x-cos-restore-status": "ongoing"}
    if now < row.expiry:
        until = f'ongoing-request="false", expiry-date="{http_time(row.expiry)}"'
        return {"x-cos-restore": until, "x-cos-restore-status": "done"}
    return {}


def restore_object(call: Call) -> Response:
    """Restore an archived object for some days, or move the end of a restored copy."""
    row = find_object(call)
    if row.storage_class not in ARCHIVES:
        raise CosError("RestoreNonArchiveObject")
    days, seconds = _request(call, row.storage_class)
    now = call.store.clock()
    if row.restored and now < row.restored:
        raise CosError("RestoreAlreadyInProgress")
    if row.restored and now < row.expiry:
        call.store.update(row, expiry=int(now) + days * 86_400)
        return Response(200)
    ready = int(now + seconds)
    call.store.update(row, restored=ready, expiry=ready + days * 86_400)
    return Response(202)


def _request(call: Call, storage_class: str) -> tuple[int, float]:
    """Read a RestoreRequest; return for how many days and how many seconds it takes."""
    tree, limits = messages.parse(call.body.data, "RestoreRequest"), call.emulation.limits
    days = whole(messages.text(tree, "Days", "1").strip())
    if days is None:
        raise CosError("MalformedXML")
    if not 1 <= days <= _MOST_DAYS:
        raise CosError("InvalidArgument", "Days is not valid.")
    name = tree.findtext("CASJobParameters/Tier") or tree.findtext("GlacierJobParameters/Tier") or "Standard"
    tiers = _TIERS[storage_class]
    if name.strip() not in tiers:
        raise CosError("InvalidArgument", f"The tier is not one of {storage_class}: {', '.join(tiers)}.")
    return days, tiers[name.strip()] if limits.restore_tiers else limits.restore_seconds


HANDLERS: dict[str, Callable[[Call], Response]] = {"RestoreObject": restore_object}
