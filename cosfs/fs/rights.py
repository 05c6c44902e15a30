"""What these keys may do, as far as COS has said so: whether a change is believed before COS has agreed.

COS tells nobody beforehand what a policy allows. Most keys may do everything, so a change that is answered
before COS was asked is believed to work where changes of that kind have worked. Where one was refused, or
nothing is known yet, COS is asked before the call is answered. Policies are about single keys: a refusal
makes no more than its own directory suspicious, and each call there hears what COS says of its own key.

A write is asked for by a PUT that COS refuses in any case; a server that would take it is never asked with a
key that somebody may use. Until a server has shown what it is, and for removals, a name beside the key stands
for it.
"""

from __future__ import annotations

import json
import logging
import posixpath
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

import trio

from cosfs.client.model import Headers
from cosfs.errors import COSError, IntegrityError, PermissionDeniedError
from cosfs.fs.helpers import PROBE
from cosfs.fs.names import KEY_MAX
from cosfs.fs.remote import Remote
from cosfs.transfer import attributes

__all__ = ["ASK_WITHIN", "Action", "Refusal", "Rights"]

REMEMBERED = 300.0  # seconds for which a refusal makes its directory suspicious
ASK_WITHIN = 2.0  # seconds a call waits to hear whether it is allowed
KNOWN_MAX = 4096  # directories
log = logging.getLogger(__name__)


class Action(Enum):
    """The changes that are answered before COS has agreed; the value is for people."""

    WRITE = "write"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last change of its kind that COS refused in a directory; at is of time.monotonic()."""

    action: Action
    url: str
    error: PermissionDeniedError
    at: float


class Rights:
    """Remembers what was refused, by directory, and what has worked."""

    def __init__(self, remote: Remote, extra: Mapping[str, str] = {}) -> None:
        self._remote = remote
        self._extra = extra  # headers of every PUT: policies may ask for them
        # Whether COS may be asked with any key; None: it has to be shown first.
        self._can_ask: bool | None = True if remote.client.looks_at_checksums else None
        self._works: set[tuple[Action, str]] = set()  # in these buckets
        self._works_in: set[tuple[Action, str, str]] = set()  # in directories of buckets with refusals
        self._written: set[tuple[str, str]] = set()  # directories where writing has worked
        self._refused: dict[tuple[Action, str, str], Refusal] = {}  # by directory; the oldest first
        self._untold: dict[tuple[str, str], COSError] = {}  # after a call had returned 0

    # What COS has said

    def worked(self, action: Action, bucket: str, key: str) -> None:
        """COS took a change."""
        self._works.add((action, bucket))
        if action is Action.WRITE:
            self.may_write_in(bucket, _directory(key))
        if self._refused:
            place = action, bucket, _directory(key)
            self._refused.pop(place, None)
            if len(self._works_in) >= KNOWN_MAX:
                self._works_in.clear()
            self._works_in.add(place)

    def may_write_in(self, bucket: str, prefix: str) -> None:
        """A directory was written to, or made just now."""
        if len(self._written) >= KNOWN_MAX:
            self._written.clear()
        self._written.add((bucket, prefix))

    def was_refused(self, action: Action, bucket: str, key: str, error: PermissionDeniedError) -> None:
        """COS refused a change."""
        place = action, bucket, _directory(key)
        if action is Action.WRITE:
            self._written.clear()
        self._works_in.discard(place)
        self._refused.pop(place, None)
        self._refused[place] = Refusal(action, f"cos://{bucket}/{key}", error, time.monotonic())
        if len(self._refused) > KNOWN_MAX:
            del self._refused[next(iter(self._refused))]

    def forget(self) -> None:
        """Rights may have been given: believe again what is believed without a refusal."""
        self._refused.clear()

    def refusals(self) -> Iterator[Refusal]:
        """What was refused lately, the oldest first."""
        self._expire()
        yield from self._refused.values()

    def _expire(self) -> None:
        oldest = time.monotonic() - REMEMBERED
        while self._refused:
            place = next(iter(self._refused))
            if self._refused[place].at > oldest:
                return
            del self._refused[place]

    # What follows from it

    def is_trusted(self, action: Action, bucket: str, key: str) -> bool:
        """Whether a change is believed to work before COS has said so.

        In a bucket of which nothing is known a write is, as closing the file tells; a removal is not.
        """
        if self._refused:
            self._expire()
        if any(place[:2] == (action, bucket) for place in self._refused):
            return (action, bucket, _directory(key)) in self._works_in
        return action is Action.WRITE or (action, bucket) in self._works

    def has_written(self, bucket: str, key: str) -> bool:
        """Whether COS took something in the directory of a key, and has refused nothing since."""
        return (bucket, _directory(key)) in self._written

    def is_known(self, action: Action, bucket: str) -> bool:
        """Whether COS took or refused a change of this kind in a bucket."""
        return (action, bucket) in self._works or any(
            place[:2] == (action, bucket) for place in self._refused
        )

    def check(self, action: Action, bucket: str, key: str) -> None:
        """Raise the refusal that is remembered of a directory: where COS cannot be asked without doing it."""
        self._expire()
        refusal = self._refused.get((action, bucket, _directory(key)))
        if refusal is not None:
            raise refusal.error

    async def check_write(self, bucket: str, key: str) -> None:
        """Raise what COS refuses writing a key with; it is asked unless that is trusted to work."""
        if not self.is_trusted(Action.WRITE, bucket, key):
            await self.ask_to_write(bucket, key)

    async def ask_to_write(self, bucket: str, key: str) -> None:
        """Ask COS whether a key may be written; raise its refusal. No answer is no refusal."""
        beside = _beside(key, PROBE)
        if self._can_ask is False or not (self._can_ask or beside):
            return
        kind = attributes.content_type(key.rpartition("/")[2], stat.S_IFREG)
        headers = Headers(content_type=kind, extra=self._extra)
        with trio.move_on_after(ASK_WITHIN):
            try:
                if self._can_ask is None:
                    await self._find_out(bucket, beside, headers)
                if self._can_ask and key != beside:
                    await self._remote.metadata(self._remote.client.check_put, bucket, key, headers=headers)
            except PermissionDeniedError as exc:
                self.was_refused(Action.WRITE, bucket, key, _about(exc, bucket, beside, key))
                raise
            except IntegrityError as exc:
                self._can_ask = False
                log.error("%s", exc)
            except COSError:
                return
            self.worked(Action.WRITE, bucket, key)

    async def _find_out(self, bucket: str, beside: str, headers: Headers) -> None:
        """Whether COS may be asked with any key; raises what it refuses this one of nobody with."""
        try_put = self._remote.client.try_put
        self._can_ask = await self._remote.metadata(try_put, bucket, beside, headers=headers)
        if not self._can_ask:
            log.warning(
                "the server does not look at the checksums of what it is sent: whether a file may be written "
                "is told when it is closed"
            )

    async def ask_to_remove(self, bucket: str, key: str) -> None:
        """Raise what COS refuses removing a key with, unless that is trusted to work; nothing is removed.

        It is asked with a name beside it; a refusal that is remembered is raised. No answer is no refusal.
        """
        beside = _beside(key, PROBE)
        if self.is_trusted(Action.REMOVE, bucket, key) or not beside:
            return
        self.check(Action.REMOVE, bucket, key)
        with trio.move_on_after(ASK_WITHIN):
            try:
                await self._remote.metadata(self._remote.client.try_delete, bucket, beside)
            except PermissionDeniedError as exc:
                self.was_refused(Action.REMOVE, bucket, key, _about(exc, bucket, beside, key))
                raise
            except COSError:
                return
            self.worked(Action.REMOVE, bucket, beside)

    # What could not be told

    def not_told(self, bucket: str, key: str, error: COSError) -> None:
        """A removal was refused after its call had returned: fsync() of the directory tells."""
        if len(self._untold) < KNOWN_MAX:
            self._untold[bucket, _directory(key)] = error

    def tell(self, bucket: str, prefix: str) -> None:
        """Raise what nobody was told of a directory, once."""
        error = self._untold.pop((bucket, prefix), None)
        if error is not None:
            raise error


def _directory(key: str) -> str:
    """The prefix of the directory that a key is in; that of a directory's own key is its parent."""
    head, slash, _ = key.rstrip("/").rpartition("/")
    return head + slash


def _beside(key: str, mark: str) -> str:
    """A key of nobody that policies by the beginning or the end of keys take for the same; "" if too long."""
    head, tail = posixpath.splitext(key)
    candidates = (key if key.endswith(mark) else f"{head}{mark}{tail}"), f"{_directory(key)}{mark}"
    return next((each for each in candidates if len(each.encode(errors="replace")) <= KEY_MAX), "")


def _about(error: PermissionDeniedError, bucket: str, asked: str, key: str) -> PermissionDeniedError:
    """Have a refusal speak of the key that another one was asked for."""
    if error.target == f"cos://{bucket}/{asked}":
        error.target = f"cos://{bucket}/{key}"
        error.hint = error.hint.replace(json.dumps(asked)[1:-1], json.dumps(key)[1:-1])
    return error
