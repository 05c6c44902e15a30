"""What a lifecycle document says, and the ways in which it can be wrong."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cosfs.emulator import messages
from cosfs.emulator.reading import Node, choice, date, invalid, malformed, needed, number, tags, value

MAX_RULES = 1000
_MOST_DAYS = 36_500
# From warm to cold; objects move down only.
_LADDER = {
    **dict.fromkeys(("STANDARD", "MAZ_STANDARD", "REDUCED_REDUNDANCY"), 0),
    **dict.fromkeys(("STANDARD_IA", "MAZ_STANDARD_IA"), 1),
    **dict.fromkeys(("INTELLIGENT_TIERING", "MAZ_INTELLIGENT_TIERING"), 2),
    **dict.fromkeys(("ARCHIVE", "MAZ_ARCHIVE"), 3),
    "DEEP_ARCHIVE": 4,
}

STORAGE_CLASSES = frozenset(_LADDER)


@dataclass(frozen=True, slots=True)
class Transition:
    """A move to another class: so many days after the last change, or at a date."""

    storage_class: str
    days: int | None
    date: int | None = None


@dataclass(frozen=True, slots=True)
class LifecycleRule:
    """One rule."""

    id: str
    enabled: bool
    prefix: bytes
    tags: tuple[tuple[str, str], ...]
    transitions: tuple[Transition, ...]
    expiration_days: int | None
    expiration_date: int | None
    expires_markers: bool
    noncurrent_transitions: tuple[Transition, ...]
    noncurrent_days: int | None
    abort_days: int | None


def colder(one: str, other: str) -> bool:
    """Tell whether one class is further down the ladder than the other."""
    return _LADDER.get(one, 0) > _LADDER.get(other, 0)


def read_lifecycle(document: bytes) -> tuple[LifecycleRule, ...]:
    """Read and check a document."""
    tree = messages.parse(document, "LifecycleConfiguration")
    nodes = tree.findall("Rule")
    if not nodes or len(nodes) > MAX_RULES:
        raise malformed(f"There must be 1 to {MAX_RULES} rules.")
    rules = tuple(_rule(node) for node in nodes)
    ids = [rule.id for rule in rules if rule.id]
    if len(set(ids)) != len(ids):
        raise invalid("Rule ID must be unique.")
    _check_conflicts(rules)
    return rules


def _rule(node: Node) -> LifecycleRule:
    prefix, filtered = _filter(node)
    expiration = node.find("Expiration")
    days = date_ = None
    markers = False
    if expiration is not None:
        days, date_ = number(expiration, "Days", 1, _MOST_DAYS), date(expiration, "Date")
        markers = value(expiration, "ExpiredObjectDeleteMarker").lower() == "true"
        if (days is not None) + (date_ is not None) + markers > 1 or not len(expiration):
            raise malformed("Expiration takes one of Days, Date and ExpiredObjectDeleteMarker.")
    rule = LifecycleRule(
        value(node, "ID"), choice(node, "Status", ("Enabled", "Disabled")) == "Enabled", prefix, filtered,
        tuple(_transition(child) for child in node.iterfind("Transition")), days, date_, markers,
        tuple(_noncurrent(child) for child in node.iterfind("NoncurrentVersionTransition")),
        number(node, "NoncurrentVersionExpiration/NoncurrentDays", 1, _MOST_DAYS),
        number(node, "AbortIncompleteMultipartUpload/DaysAfterInitiation", 1, _MOST_DAYS),
    )  # fmt: skip
    _check(rule)
    return rule


def _filter(node: Node) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    chosen = node.find("Filter")
    if chosen is None:
        if node.find("Prefix") is None:  # the form without Filter is that of older S3 tools
            raise malformed("Rule needs Filter.")
        return (node.findtext("Prefix") or "").encode(), ()
    if len(chosen) > 1:
        raise malformed("Filter takes one of Prefix, Tag and And.")
    both = chosen.find("And")
    inner = chosen if both is None else both
    return (inner.findtext("Prefix") or "").encode(), tags(inner)


def _transition(node: Node) -> Transition:
    days, date_ = number(node, "Days", 0, _MOST_DAYS), date(node, "Date")
    if (days is None) == (date_ is None):
        raise malformed("Transition takes one of Days and Date.")
    return Transition(_class(node), days, date_)


def _noncurrent(node: Node) -> Transition:
    days = number(node, "NoncurrentDays", 0, _MOST_DAYS)
    if days is None:
        raise malformed("NoncurrentVersionTransition needs NoncurrentDays.")
    return Transition(_class(node), days)


def _class(node: Node) -> str:
    name = needed(node, "StorageClass").upper()
    if not _LADDER.get(name):
        raise invalid(f"Objects cannot be moved to the storage class {name}.")
    return name


def _check(rule: LifecycleRule) -> None:
    """Refuse what contradicts itself within a rule."""
    expires = (rule.expiration_days, rule.expiration_date, rule.noncurrent_days, rule.abort_days)
    if len(rule.id) > 255:
        raise invalid("Rule ID is longer than 255 characters.")
    if (
        not (rule.transitions or rule.noncurrent_transitions or rule.expires_markers)
        and expires == (None,) * 4
    ):
        raise malformed("A rule needs an action.")
    if rule.tags and (rule.expires_markers or rule.abort_days is not None):
        raise invalid("Delete markers and unfinished uploads have no tags to filter by.")
    _check_order(rule.transitions, rule.expiration_days, rule.expiration_date)
    _check_order(rule.noncurrent_transitions, rule.noncurrent_days, None)


def _check_order(moves: tuple[Transition, ...], end_days: int | None, end_date: int | None) -> None:
    kinds = {move.days is None for move in moves}
    if end_days is not None or end_date is not None:
        kinds.add(end_days is None)
    if len(kinds) > 1:
        raise invalid("Days and Date cannot both be used in one rule.")
    names = [move.storage_class for move in moves]
    if len(set(names)) != len(names):
        raise invalid("A rule can move objects to a storage class only once.")
    ordered = sorted(moves, key=lambda move: move.days if move.days is not None else move.date or 0)
    times = [move.days if move.days is not None else move.date or 0 for move in ordered]
    if any(not colder(later.storage_class, earlier.storage_class) for earlier, later in pairwise(ordered)):
        raise invalid("Objects can only be moved to colder storage classes, later ones after earlier ones.")
    end = end_days if end_days is not None else end_date
    if len(set(times)) != len(times) or (times and end is not None and end <= times[-1]):
        raise invalid("The days of transitions and expiration must grow.")


def _check_conflicts(rules: tuple[LifecycleRule, ...]) -> None:
    """Refuse two enabled rules that do the same to the same objects."""
    seen: set[tuple[object, ...]] = set()
    for rule in rules:
        if not rule.enabled:
            continue
        actions = {f"to {move.storage_class}" for move in rule.transitions}
        actions |= {f"old to {move.storage_class}" for move in rule.noncurrent_transitions}
        if rule.expiration_days is not None or rule.expiration_date is not None:
            actions.add("expire")
        for name in ("noncurrent_days", "abort_days"):
            if getattr(rule, name) is not None:
                actions.add(name)
        marks = {(rule.prefix, frozenset(rule.tags), action) for action in actions}
        if marks & seen:
            raise invalid("Two rules with the same filter have the same action.")
        seen |= marks
