"""A server that fails in every way."""

from __future__ import annotations

import random

from scripts.stressing.world import World


def spoil(world: World, chance: random.Random) -> None:
    """Make the server fail in several ways, each now and then."""
    faults = world.emulator.faults
    for operation in ("PutObject", "CopyObject", "UploadPart", "CompleteMultipartUpload", "DeleteObjects"):
        kind = chance.choice(("none", "before", "after", "reset", "reset-after"))
        share = chance.uniform(0.05, 0.4)
        if kind in ("before", "after"):
            faults.error(operation, "ServiceUnavailable", 503, count=0, after=kind == "after", share=share)
        elif kind.startswith("reset"):
            faults.reset(operation, count=0, after=kind == "reset-after", share=share)
    if chance.random() < 0.5:
        faults.truncate("GetObject", offset=1000, count=0, share=0.2)
