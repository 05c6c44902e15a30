"""A local COS: real signatures, real semantics, a directory for a cloud.

It imports nothing else of this package: a mistake of our client cannot hide behind the same mistake here.
"""

from __future__ import annotations

from cosfs.emulator.auth import Credential
from cosfs.emulator.clock import Clock
from cosfs.emulator.context import Limits
from cosfs.emulator.errors import EmulatorError
from cosfs.emulator.faults import Fault, Faults
from cosfs.emulator.members import Member
from cosfs.emulator.requestlog import Requests
from cosfs.emulator.server import Emulator, EmulatorInfo, serve

__all__ = [
    "Clock",
    "Credential",
    "Emulator",
    "EmulatorError",
    "EmulatorInfo",
    "Fault",
    "Faults",
    "Limits",
    "Member",
    "Requests",
    "serve",
]
