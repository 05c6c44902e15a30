"""Temporary keys: how they are made up and kept."""

from __future__ import annotations

import json
import secrets
import string
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cosfs.emulator.auth import Credential
from cosfs.emulator.store import Store

_LETTERS = string.ascii_letters + string.digits
_REMEMBERED = 86_400  # seconds after their end during which keys are known as expired rather than unknown


@dataclass(slots=True)
class InstanceRole:
    """The role that is bound to the machine: its name, empty if there is none, and how long its keys live."""

    name: str = ""
    seconds: int = 7200
    credential: Credential | None = None


def issue(store: Store, session: Mapping[str, str], seconds: int, user: str = "") -> Credential:
    """Make temporary keys. session says what they may do: kind, role, policy, name, and by whom."""
    now = store.clock.machine()
    store.drop_credentials(now - _REMEMBERED)
    credential = Credential(
        f"AKID{_random(64)}", _random(44), _random(256), float(int(now) + seconds), user, json.dumps(session)
    )
    store.add_credential(credential)
    return credential


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def iso(when: float) -> str:
    """Write the end of keys as STS does."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
