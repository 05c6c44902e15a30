"""Lifecycle rules carried out: objects expire and move to colder classes as the clock passes by.

A bucket may have a million objects: they are changed a few at a time, with the lock held for some
milliseconds only, and each change looks again at what it is about to change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

from cosfs.emulator.context import Emulation
from cosfs.emulator.errors import CosError
from cosfs.emulator.lifecycle_rules import LifecycleRule, Transition, colder, read_lifecycle
from cosfs.emulator.records import Version
from cosfs.emulator.scan import Scan

_DAY = 86400
_AT_ONCE = 20  # changes while the lock is held once
_EXPIRE = "expire"

Due = tuple[Version, str]  # a version, and what is due for it: _EXPIRE, a storage class, or nothing


class Lifecycle:
    """The rules of one bucket at work, for as long as they stay as they are."""

    def __init__(self, emulation: Emulation, scan: Scan, bucket: str) -> None:
        self._uploads = emulation.uploads
        self._store, self._scan = emulation.store, scan
        with scan.lock:
            self._bucket = self._store.bucket(bucket)
            self._rules = self._store.derived(self._bucket, "lifecycle", read_lifecycle) or ()
        self._now = self._store.now()

    def run(self) -> int:
        """Do what is due now; return how many changes that were."""
        return sum(self._run_rule(rule) for rule in self._rules if rule.enabled)

    def _run_rule(self, rule: LifecycleRule) -> int:
        done = 0
        if rule.transitions or rule.expiration_days is not None or rule.expiration_date is not None:
            done += self._apply(self._current(rule))
        if self._bucket.versioning:
            if rule.noncurrent_days is not None or rule.noncurrent_transitions:
                done += self._apply(self._noncurrent(rule))
            if rule.expires_markers:
                done += self._apply(self._lone_markers(rule))
        if rule.abort_days is not None:
            done += self._abort(rule, rule.abort_days)
        return done

    # What is due

    def _current(self, rule: LifecycleRule) -> Iterator[Due]:
        ends = Transition("", rule.expiration_days, rule.expiration_date)
        for row in self._scan.current(self._bucket, rule.prefix):
            if _has_tags(rule, row):
                expires = self._is_due(ends, row.modified)
                yield row, _EXPIRE if expires else self._coldest(rule.transitions, row, row.modified)

    def _noncurrent(self, rule: LifecycleRule) -> Iterator[Due]:
        """Yield what is due for versions that are not the latest; their days begin when they ceased to be."""
        ends = Transition("", rule.noncurrent_days)
        for row, newer in self._scan.versions(self._bucket, rule.prefix):
            if newer is None or not _has_tags(rule, row):
                continue
            if self._is_due(ends, newer.modified):
                yield row, _EXPIRE
            elif not row.marker:
                yield row, self._coldest(rule.noncurrent_transitions, row, newer.modified)

    def _lone_markers(self, rule: LifecycleRule) -> Iterator[Due]:
        """Yield delete markers that hide nothing any more."""
        marker: Version | None = None
        for row, newer in self._scan.versions(self._bucket, rule.prefix):
            if marker is not None and newer is None:
                yield marker, _EXPIRE
            marker = row if newer is None and row.marker else None
        if marker is not None:
            yield marker, _EXPIRE

    def _coldest(self, moves: tuple[Transition, ...], row: Version, since: int) -> str:
        chosen = row.storage_class
        for move in moves:
            if colder(move.storage_class, chosen) and self._is_due(move, since):
                chosen = move.storage_class
        return chosen if chosen != row.storage_class else ""

    def _is_due(self, move: Transition, since: int) -> bool:
        if move.date is not None:
            return since < move.date <= self._now
        return move.days is not None and since + move.days * _DAY <= self._now

    # Doing it

    def _apply(self, found: Iterator[Due]) -> int:
        due, done = ((row, action) for row, action in found if action), 0
        while batch := list(islice(due, _AT_ONCE)):
            self._scan.breathe()
            with self._scan.lock:
                if not self._holds():
                    return done
                with self._store.db.transaction():
                    done += sum(self._move(row, name) for row, name in batch if name != _EXPIRE)
                done += sum(self._expire(row) for row, name in batch if name == _EXPIRE)
        return done

    def _holds(self) -> bool:
        """Tell whether bucket and rules are still what they were."""
        if self._store.resolve(self._bucket.name) != self._bucket.name:
            return False
        if self._store.bucket(self._bucket.name) != self._bucket:
            return False
        return self._store.derived(self._bucket, "lifecycle", read_lifecycle) == self._rules

    def _move(self, row: Version, storage_class: str) -> bool:
        if self._store.by_number(row.id) != row:  # somebody changed it meanwhile
            return False
        self._store.update(row, storage_class=storage_class, restored=0, expiry=0)
        return True

    def _expire(self, row: Version) -> bool:
        if self._store.by_number(row.id) != row:
            return False
        try:
            if row.live:
                self._store.delete(self._bucket, row.key.decode(), replicated=False)
            else:
                self._store.delete_version(row)
        except CosError:  # it is locked: another time
            return False
        return True

    def _abort(self, rule: LifecycleRule, days: int) -> int:
        done = 0
        for key, id_, initiated in self._scan.uploads(self._bucket, rule.prefix):
            if initiated + days * _DAY > self._now:
                continue
            self._scan.breathe()
            with self._scan.lock:
                if not self._holds():
                    return done
                try:
                    self._uploads.abort(self._uploads.get(self._bucket, key.decode(), id_))
                except CosError:  # completed or aborted meanwhile
                    continue
                done += 1
        return done


def _has_tags(rule: LifecycleRule, row: Version) -> bool:
    if not rule.tags:
        return True
    return set(rule.tags) <= {(name, value) for name, value in json.loads(row.tags or "[]")}
