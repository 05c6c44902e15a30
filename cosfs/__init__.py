"""Tencent Cloud Object Storage as a filesystem, a command line and a library.

For programs: `Session` and what it takes and gives (docs/api.md); the errors are in cosfs.errors.
"""

from __future__ import annotations

from importlib import import_module

from cosfs.version import __version__

TYPE_CHECKING = False  # that of typing takes longer to import than all of this
if TYPE_CHECKING:
    from cosfs.api.running import Cancellation
    from cosfs.api.session import Session
    from cosfs.api.trees import SyncEvent, SyncResult
    from cosfs.client.model import Bucket, Headers, ObjectInfo
    from cosfs.errors import COSError
    from cosfs.transfer.compare import Rules
    from cosfs.transfer.model import TransferResult
    from cosfs.transfer.options import TransferOptions
    from cosfs.transfer.plan import DeleteLimit, SyncOptions
    from cosfs.transfer.scan import Prefix

_HOMES = {
    "Bucket": "client.model",
    "COSError": "errors",
    "Cancellation": "api.running",
    "DeleteLimit": "transfer.plan",
    "Headers": "client.model",
    "ObjectInfo": "client.model",
    "Prefix": "transfer.scan",
    "Rules": "transfer.compare",
    "Session": "api.session",
    "SyncEvent": "api.trees",
    "SyncOptions": "transfer.plan",
    "SyncResult": "api.trees",
    "TransferOptions": "transfer.options",
    "TransferResult": "transfer.model",
}

__all__ = [
    "Bucket",
    "COSError",
    "Cancellation",
    "DeleteLimit",
    "Headers",
    "ObjectInfo",
    "Prefix",
    "Rules",
    "Session",
    "SyncEvent",
    "SyncOptions",
    "SyncResult",
    "TransferOptions",
    "TransferResult",
    "__version__",
]


def __getattr__(name: str) -> object:
    # Imported when asked for: the command line and the emulator start without them.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
