"""Removals: written to the journal, answered at once, sent in batches.

`rm -r` unlinks names one after the other and the kernel holds the directory meanwhile, so an
unlink must not wait for COS. A key has at most one pending removal; writing the key again takes
the removal back, or waits for it when it is on its way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from cosfs.client.model import DeleteFailure, ObjectId
from cosfs.errors import COSError, NotFoundError, PermissionDeniedError, ServiceError
from cosfs.fs.background import together
from cosfs.fs.bygone import ANY, Bygone, etags_of
from cosfs.fs.doomed import Doomed
from cosfs.fs.emptied import Emptied, Place
from cosfs.fs.journal import Journal, Record
from cosfs.fs.marks import Mark
from cosfs.fs.remote import Remote
from cosfs.fs.rights import ASK_WITHIN, Action, Rights

log = logging.getLogger(__name__)

DELAY = 0.05  # how long a removal waits for company
BATCH = 1000  # keys in one request, COS's limit
RETRY_DELAYS = (1.0, 5.0, 15.0, 30.0)
REMEMBERED = 60.0  # what a listing tells that was begun before a removal is not believed for so long
REPEATED_CODES = frozenset({"InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout"})


@dataclass(eq=False)
class _Removal:
    """careful: the object is only removed if it is one of the doomed (asked at the last moment).

    With directory it stands for a directory that goes with it.
    """

    bucket: str
    key: str
    doomed: list[Doomed]
    records: list[int]  # of the journal, one for each of the doomed
    careful: bool = False
    directory: bool = False
    at: float = 0.0  # not tried before this time
    tries: int = 0
    is_waited_for: bool = False  # the call that removes it hears what COS says
    refusal: COSError | None = None  # what COS said
    since: float = field(default_factory=trio.current_time)
    answered: trio.Event = field(default_factory=trio.Event)  # of the try under way
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def place(self) -> Place:
        return self.bucket, self.key

    def add(self, doomed: Iterable[Doomed], records: Iterable[int]) -> None:
        """Remove other objects as well that may be under the key."""
        self.doomed += doomed
        self.records += records


def _as_error(bucket: str, failure: DeleteFailure) -> ServiceError:
    """What COS says of one object among many."""
    kind = PermissionDeniedError if failure.code == "AccessDenied" else ServiceError
    return kind(failure.message, code=failure.code, target=f"cos://{bucket}/{failure.key}")


class Deleter:
    """Owns the pending removals. on_failure is told what COS refused to remove, and why."""

    def __init__(
        self,
        remote: Remote,
        journal: Journal,
        rights: Rights,
        on_failure: Callable[[str, str, str], None] | None = None,
    ) -> None:
        self._remote = remote
        self._rights = rights
        self._journal = journal
        self._on_failure = on_failure
        self.emptied = Emptied(journal)
        self._waiting: dict[Place, _Removal] = {}
        self._sending: dict[Place, _Removal] = {}
        # Lately, when, and whether a directory went with it; the oldest first.
        self._finished: dict[Place, tuple[float, bool]] = {}
        # Removals that a new object replaces: their records, and the etags of what they were to take along.
        self._held: dict[Place, tuple[list[int], set[str]]] = {}
        self._bygone = Bygone(journal)
        self._wake = trio.Event()
        self._tried = trio.Event()  # of the next batch that comes back
        self.failures = 0

    @property
    def pending(self) -> int:
        return len(self._waiting) + len(self._sending)

    @property
    def oldest(self) -> float:
        """Since when the oldest of them has been waiting, 0 if none is."""
        return min((each.since for each in (*self._waiting.values(), *self._sending.values())), default=0.0)

    @property
    def is_busy(self) -> bool:
        """Whether anything is pending or was until lately."""
        return bool(self._waiting or self._sending or self._finished or self.emptied)

    @property
    def places(self) -> Iterator[Place]:
        """Where something is pending."""
        yield from self._waiting
        yield from self._sending

    def is_pending(self, bucket: str, key: str, etag: str, since: float) -> bool:
        """Whether an object is about to be removed, or was still to be when COS was asked at since.

        etag is "" of a directory, of which a listing tells the name only. It is about to be removed as long
        as anything is left below it.
        """
        place = bucket, key
        is_dir = not etag and key.endswith("/")
        finished, was_dir = self._finished.get(place, (-1.0, False))
        if finished >= since and was_dir >= is_dir:
            return True
        removal = self._waiting.get(place) or self._sending.get(place)
        if is_dir:
            return place in self.emptied or (removal is not None and removal.directory)
        if removal is None:
            return False
        return not (removal.careful and etag) or any(each.may_be(etag) for each in removal.doomed)

    def schedule(
        self,
        bucket: str,
        key: str,
        etag: str = "",
        *,
        careful: bool = False,
        marks: Iterable[Mark] = (),
        directory: bool = False,
    ) -> None:
        """Remove an object soon; a careful removal spares it if it is another one by then.

        directory tells that it stands for a directory, which is not shown until nothing is left below it.
        marks are of what was sent to the key without an answer, and goes as well. All that is kept in the
        journal too: a later mount is always careful.
        """
        doomed = Doomed(etag, tuple(marks))
        known = self._waiting.get((bucket, key))
        if known is not None:
            known.careful = known.careful and careful
            known.directory = known.directory or directory
            if doomed in known.doomed:
                return
        body = doomed.to_json(directory=directory)
        record_id = self._journal.add("delete", bucket, key, body)
        if known is not None:
            known.add([doomed], [record_id])
        else:
            self._add(_Removal(bucket, key, [doomed], [record_id], careful, directory))

    async def ask(self, bucket: str, key: str, etag: str = "", *, directory: bool = False) -> None:
        """Remove an object now; raise what COS refuses it with.

        Without an answer within 2 s, or if COS cannot be asked now, it is removed when that is possible.
        """
        self.schedule(bucket, key, etag, directory=directory)
        await self.heard(bucket, key)

    async def heard(self, bucket: str, key: str) -> None:
        """Wait for what COS says of a removal that was scheduled just now, as ask() does."""
        removal = self._waiting.get((bucket, key))
        if removal is None:
            return
        removal.is_waited_for = True
        self._wake.set()
        with trio.move_on_after(ASK_WITHIN):
            await removal.answered.wait()
        removal.is_waited_for = False
        if removal.refusal is not None:
            raise removal.refusal

    def schedule_unanswered(self, bucket: str, key: str, marks: Iterable[Mark]) -> None:
        """Remove what was sent to a free key without an answer, if it has arrived."""
        marks = tuple(marks)
        if marks:
            self.schedule(bucket, key, careful=True, marks=marks)

    def schedule_all(self, bucket: str, objects: Iterable[tuple[str, str]]) -> None:
        """Remove many objects, given as (key, etag), soon, and the directories that they stand for."""
        new = [
            (key, Doomed(etag), key.endswith("/"))
            for key, etag in objects
            if (bucket, key) not in self._waiting
        ]
        rows = [(key, doomed.to_json(directory=directory)) for key, doomed, directory in new]
        numbers = self._journal.add_many("delete", bucket, rows)
        for (key, doomed, directory), record_id in zip(new, numbers, strict=True):
            self._add(_Removal(bucket, key, [doomed], [record_id], directory=directory))

    def adopt(self, record: Record) -> None:
        """Take over a removal that an earlier mount did not get done."""
        doomed = Doomed.from_json(record.body, record.written)
        directory = record.body.get("directory", False)
        known = self._waiting.get((record.bucket, record.key))
        if known is None:
            self._add(_Removal(record.bucket, record.key, [doomed], [record.id], True, directory))
        else:
            known.add([doomed], [record.id])
            known.directory = known.directory or directory

    def _add(self, removal: _Removal) -> None:
        self._waiting[removal.place] = removal
        self._wake.set()

    async def claim(self, bucket: str, key: str) -> bool:
        """Make sure no removal of key comes after this; tells whether one was taken back.

        Who claims a key writes it, and then says so: replaced().
        """
        while True:
            self._finished.pop((bucket, key), None)
            removal = self._waiting.pop((bucket, key), None)
            if removal is not None:
                self.hold(bucket, key, *removal.records, etags=etags_of(removal.doomed))
                removal.done.set()
                self._note_try()
                return True
            sent = self._sending.get((bucket, key))
            if sent is None:
                return False
            await sent.answered.wait()

    def expected(self, bucket: str, key: str) -> str | None:
        """The etag of what a careful removal is about, and nothing else; None where there is none such."""
        removal = self._waiting.get((bucket, key)) or self._sending.get((bucket, key))
        if removal is None or not removal.careful or len(removal.doomed) > 1:
            return None
        return removal.doomed[0].etag or None

    def hold(self, bucket: str, key: str, *records: int, etags: Iterable[str] = (ANY,)) -> None:
        """A key is written anew: until that is done the journal still says that the old object is to go."""
        if any(records):
            rows, known = self._held.setdefault((bucket, key), ([], set()))
            rows.extend(filter(None, records))
            known.update(etags)

    def not_replaced(self, bucket: str, key: str) -> None:
        """Writing a key anew failed for good: what was to be removed before is to be removed all the same."""
        held, _ = self._held.pop((bucket, key), ([], set()))
        for record in self._journal.records() if held else ():
            if record.id in held:
                self.adopt(record)

    @contextmanager
    def replacing(self, bucket: str, key: str) -> Iterator[None]:
        """Write a claimed key anew inside: what was to be removed before is settled by how that ends."""
        try:
            yield
        except BaseException:
            self.not_replaced(bucket, key)
            raise
        self.replaced(bucket, key)

    def replaced(self, bucket: str, key: str) -> None:
        """A key was written anew: nothing is left of what was to be removed."""
        self._let_go(bucket, [key])

    async def replaced_for_good(self, bucket: str, made: Mapping[str, str]) -> None:
        """The same of keys and the etags that they have now, before anybody relies on these objects.

        Power may be lost, and with it what the journal was told last: the removals are back then, and take
        objects along that have the same bytes. Or a directory is back in the place of a file, or a file
        beside the directory that came in its place.
        """
        self._let_go(bucket, made)
        if any(
            self._bygone.may_return((bucket, key), etag) or self._is_going(bucket, key)
            for key, etag in made.items()
        ):
            await trio.to_thread.run_sync(self._journal.sync)

    def _is_going(self, bucket: str, key: str) -> bool:
        """Whether COS still has something of a removed directory, or file, of the name of this key."""
        other = bucket, key.removesuffix("/") if key.endswith("/") else f"{key}/"
        return other in self._waiting or other in self._sending or other in self.emptied

    def may_return(self, place: Place) -> None:
        """A loss of power now may bring back that a file was being renamed to a place.

        An object of the same bytes would then be taken for its copy, and the file be removed.
        """
        self._bygone.note(place, (ANY,))

    def _let_go(self, bucket: str, keys: Iterable[str]) -> None:
        keys = list(keys)
        held = {key: self._held.pop((bucket, key)) for key in keys if (bucket, key) in self._held}
        if held:
            self._journal.remove(*(row for rows, _ in held.values() for row in rows))
        for key, (_, etags) in held.items():
            self._bygone.note((bucket, key), etags)
        for key in keys:
            self.emptied.written(bucket, key)

    def settle(self) -> None:
        """Forget directories that were removed when nothing is left of them."""
        for place in self.emptied.settle():
            self._note_finished(place, is_dir=True)

    async def drain(self, bucket: str | None = None, prefix: str = "") -> bool:
        """Wait until everything scheduled so far (below a prefix) was tried; False if some is left.

        Bounded by the time one request and its repetitions take.
        """
        self.settle()
        mine = [
            r
            for r in (*self._waiting.values(), *self._sending.values())
            if (bucket is None or r.bucket == bucket) and r.key.startswith(prefix)
        ]
        tries = {removal: removal.tries for removal in mine}
        for removal in mine:
            removal.at = 0.0
        self._wake.set()
        for removal, before in tries.items():
            while not removal.done.is_set() and removal.tries == before:
                await self._tried.wait()
        return all(removal.done.is_set() for removal in mine)

    def hurry(self) -> None:
        """Send everything that waits now: what was in the way is gone."""
        for removal in self._waiting.values():
            removal.at = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Send batches until cancelled."""
        self._waiting = {**self._sending, **self._waiting}  # of a run that failed
        self._sending.clear()
        async with together() as nursery:
            while True:
                with trio.move_on_after(self._time_to_next()):
                    await self._wake.wait()
                self._wake = trio.Event()
                if not any(removal.is_waited_for for removal in self._waiting.values()):
                    await trio.sleep(DELAY)
                for bucket, removals in self._take().items():
                    for start in range(0, len(removals), BATCH):
                        nursery.start_soon(self._send, bucket, removals[start : start + BATCH])

    def _time_to_next(self) -> float:
        times = [r.at for place, r in self._waiting.items() if place not in self._sending]
        return max(0.0, min(times, default=float("inf")) - trio.current_time())

    def _take(self) -> dict[str, list[_Removal]]:
        by_bucket: dict[str, list[_Removal]] = {}
        now = trio.current_time()
        for place, removal in list(self._waiting.items()):
            if place in self._sending or removal.at > now:
                continue  # removed, made and removed again: the first removal is still out
            del self._waiting[place]
            if removal.tries:
                removal.answered = trio.Event()
            self._sending[place] = removal
            by_bucket.setdefault(removal.bucket, []).append(removal)
        return by_bucket

    async def _send(self, bucket: str, removals: list[_Removal]) -> None:
        wanted = removals
        failed: dict[str, COSError]
        try:
            wanted = await self._unchanged(bucket, removals)
            failed = await self._delete(bucket, wanted)
        except COSError as exc:
            if exc.may_pass:
                self._put_off(removals, exc)
                return
            failed = dict.fromkeys((r.key for r in removals), exc)
        except Exception as exc:
            log.exception("removing from %s", bucket)
            self._put_off(removals, exc)
            return
        busy = [r for r in removals if getattr(failed.get(r.key), "code", "") in REPEATED_CODES]
        if busy:
            self._put_off(busy, failed[busy[0].key])
            removals = [r for r in removals if r not in busy]
        for removal in removals:
            removal.refusal = failed.get(removal.key)
            if removal.refusal is None and removal in wanted:
                self._rights.worked(Action.REMOVE, bucket, removal.key)
            self._finish(removal)
        gone = [(r.place, r.records[0]) for r in removals if r.directory and r.key not in failed]
        kept = self.emptied.take_over(gone)
        self._journal.remove(*(number for r in removals for number in r.records if number not in kept))
        for removal in removals:
            self._bygone.note(removal.place, etags_of(removal.doomed))
        self.settle()
        for removal in removals:
            if removal.refusal is not None:
                self._refused(removal, removal.refusal)
        if self._waiting:
            self._wake.set()

    def _refused(self, removal: _Removal, why: COSError) -> None:
        """COS keeps an object: who removed it is told if he still waits, otherwise by fsync() and the log."""
        bucket, key = removal.place
        self._finished.pop(removal.place, None)
        if isinstance(why, PermissionDeniedError):
            self._rights.was_refused(Action.REMOVE, bucket, key, why)
        if not removal.is_waited_for:
            self.failures += 1
            log.error("cos://%s/%s could not be removed and is shown again: %s", bucket, key, why)
            self._rights.not_told(bucket, key, why)
        if self._on_failure is not None:
            self._on_failure(bucket, key, str(why))

    async def _unchanged(self, bucket: str, removals: list[_Removal]) -> list[_Removal]:
        """Leave out the careful removals of objects that are gone or were written again."""
        spared: set[_Removal] = set()

        async def check(removal: _Removal) -> None:
            client = self._remote.client
            try:
                info = await self._remote.metadata(client.head_object, bucket, removal.key)
            except NotFoundError:
                spared.add(removal)
                return
            if info is not None and not any(each.is_this(info) for each in removal.doomed):
                log.warning("cos://%s/%s was written again since its removal; it stays", bucket, removal.key)
                spared.add(removal)
                removal.directory = False

        async with together() as nursery:
            for removal in removals:
                if removal.careful:
                    nursery.start_soon(check, removal)
        return [r for r in removals if r not in spared]

    async def _delete(self, bucket: str, removals: list[_Removal]) -> dict[str, COSError]:
        client = self._remote.client
        if not removals:
            return {}
        if len(removals) == 1:
            await self._remote.change(client.delete_object, bucket, removals[0].key)
            return {}
        try:
            failures: list[DeleteFailure] = await self._remote.change(
                client.delete_objects, bucket, [ObjectId(r.key) for r in removals]
            )
        except PermissionDeniedError:
            return await self._delete_each(bucket, removals)  # that is another right than removing one
        return {f.key: _as_error(bucket, f) for f in failures}

    async def _delete_each(self, bucket: str, removals: list[_Removal]) -> dict[str, COSError]:
        failed: dict[str, COSError] = {}

        async def one(key: str) -> None:
            try:
                await self._remote.small_change(self._remote.client.delete_object, bucket, key)
            except ServiceError as exc:
                failed[key] = exc

        async with together() as nursery:
            for removal in removals:
                nursery.start_soon(one, removal.key)
        return failed

    def _put_off(self, removals: list[_Removal], why: object) -> None:
        delay = RETRY_DELAYS[min(removals[0].tries, len(RETRY_DELAYS) - 1)]
        log.warning("%d removals wait %.0f s for COS: %s", len(removals), delay, why)
        for removal in removals:
            removal.tries += 1
            removal.at = trio.current_time() + delay
            del self._sending[removal.place]
            removal.answered.set()
            again = self._waiting.get(removal.place)
            if again is not None:  # removed once more meanwhile
                again.add(removal.doomed, removal.records)
                removal.done.set()
            else:
                self._waiting[removal.place] = removal
        self._wake.set()
        self._note_try()

    def _finish(self, removal: _Removal) -> None:
        self._sending.pop(removal.place, None)
        self._note_finished(removal.place, is_dir=removal.directory)
        removal.answered.set()
        removal.done.set()
        self._note_try()

    def _note_finished(self, place: Place, *, is_dir: bool) -> None:
        now = trio.current_time()
        self._finished.pop(place, None)
        self._finished[place] = now, is_dir
        while next(iter(self._finished.values()))[0] < now - REMEMBERED:
            del self._finished[next(iter(self._finished))]

    def _note_try(self) -> None:
        self._tried.set()
        self._tried = trio.Event()
