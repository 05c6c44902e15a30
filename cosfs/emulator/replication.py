"""Replication carried out: versions that wait in the queue are copied to the buckets that rules name.

The queue is a table, filled in the transaction that made the version and emptied in the one that makes the
copy: after a crash nothing is lost and nothing is copied twice. It is worked off in order, so the versions of
a key arrive in the order in which they were written.
"""

from __future__ import annotations

from cosfs.emulator.records import Bucket, Version
from cosfs.emulator.replication_rules import ReplicationRule, read_replication
from cosfs.emulator.scan import Scan
from cosfs.emulator.store import Store

_AT_ONCE = 10  # copies in one transaction


def replicate(scan: Scan) -> int:
    """Copy all that waits; return how many versions and delete markers that were."""
    store, done = scan.store, 0
    while True:
        with scan.lock:
            sql = "SELECT id, bucket, version FROM replications ORDER BY id LIMIT ?"
            waiting = store.db.execute(sql, (_AT_ONCE,)).fetchall()
            if not waiting:
                return done
            with store.db.transaction():
                for number, bucket, version in waiting:
                    done += _replicate(store, store.bucket_of(bucket), store.by_number(version))
                    store.db.execute("DELETE FROM replications WHERE id = ?", (number,))
        scan.breathe()


def _replicate(store: Store, bucket: Bucket | None, row: Version | None) -> int:
    if bucket is None or row is None:  # gone before its turn came
        return 0
    rules = store.derived(bucket, "replication", read_replication) or ()
    wanted = [rule for rule in rules if rule.takes(row.key, marker=bool(row.marker))]
    made: dict[str, bool] = {}
    for rule in wanted:
        if rule.target not in made:
            made[rule.target] = _copy(store, rule, row)
    status = ("COMPLETED" if all(made.values()) else "FAILED") if made else ""
    store.update(row, replication=status)
    return sum(made.values())


def _copy(store: Store, rule: ReplicationRule, row: Version) -> bool:
    if store.resolve(rule.target) != rule.target:
        return False
    target = store.bucket(rule.target)
    if target.versioning != "Enabled" or target.region != rule.region:
        return False
    store.put_replica(
        target, row, rule.storage_class if rule.storage_class and not row.marker else row.storage_class
    )
    return True
