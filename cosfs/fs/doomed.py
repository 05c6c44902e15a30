"""Which object a removal is about, should there be another one under its key by now."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cosfs.client.model import ObjectInfo
from cosfs.fs.marks import Mark, is_one_of

CLOCK = 2.0  # seconds that our clock and that of COS may differ


@dataclass(frozen=True, slots=True)
class Doomed:
    """The object of an etag, and what was sent to its key without an answer: marks tell that.

    Without either it is whatever was there when the removal was written.
    """

    etag: str = ""
    marks: tuple[Mark, ...] = ()
    written: float = field(default_factory=time.time, compare=False)

    def is_this(self, found: ObjectInfo) -> bool:
        """Whether an object that COS has now is the one."""
        if is_one_of(found, self.marks):
            return True
        if self.etag:
            return found.etag == self.etag
        # A later date tells that it is another one.
        return not self.marks and found.last_modified <= self.written + CLOCK

    def may_be(self, etag: str) -> bool:
        """Whether it may be an object of which only the etag is known."""
        return self.etag in ("", etag) or bool(self.marks)

    def to_json(self, *, directory: bool = False) -> dict[str, object]:
        """What the journal says; directory: it stands for one."""
        body: dict[str, object] = {"etag": self.etag}
        if self.marks:
            body["sent"] = self.marks
        if directory:
            body["directory"] = True
        return body

    @classmethod
    def from_json(cls, body: dict[str, Any], written: float) -> Doomed:
        return cls(body.get("etag", ""), as_marks(body.get("sent", ())), written)


def as_marks(marks: Iterable[Iterable[Any]]) -> tuple[Mark, ...]:
    return tuple((size, digest) for size, digest in marks)
