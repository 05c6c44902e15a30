"""The traffic limit of a request: x-cos-traffic-limit in header, query or form, in bits per second.

Each request has its own limit, as on COS. Waiting is done in the event loop, so that any number of slow
requests holds up no other; an upload is slowed by not reading, which the client's TCP feels.
"""

from __future__ import annotations

from collections.abc import Mapping

from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole

NAME = "x-cos-traffic-limit"
LOWEST, HIGHEST = 819_200, 838_860_800


def bytes_per_second(headers: Mapping[str, str], parameters: Mapping[str, str]) -> int:
    """Return the limit of a request, 0 if it has none; refuse one outside what COS takes."""
    text = headers.get(NAME) or parameters.get(NAME, "")
    if not text:
        return 0
    rate = whole(text)
    if rate is None or not LOWEST <= rate <= HIGHEST:
        raise CosError("InvalidArgument", f"{NAME} is not valid.")
    return rate // 8
