"""Lifecycle rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from cosfs.client.documents.schema import Choice, Date, Field, Flag, Number, Problems, Struct, Text
from cosfs.client.documents.setting import Setting

__all__ = ["LIFECYCLE", "STATUS", "TAG"]

_MOST_DAYS = 36_500
STATUS = Choice(("Enabled", "Disabled"))
TAG = Struct((Field("Key", Text(1, 128), required=True), Field("Value", Text(0, 256), required=True)))
# From warm to cold; objects move down only.
_LADDER = {
    "STANDARD_IA": 1,
    "MAZ_STANDARD_IA": 1,
    "INTELLIGENT_TIERING": 2,
    "MAZ_INTELLIGENT_TIERING": 2,
    "ARCHIVE": 3,
    "MAZ_ARCHIVE": 3,
    "DEEP_ARCHIVE": 4,
}
_CLASS = Choice(tuple(_LADDER))


def _check_rule(rule: Mapping[str, Any], path: str, problems: Problems) -> None:
    if "Filter" not in rule and "Prefix" not in rule:
        problems.add(f"{path}.Filter", 'is missing; {"Prefix": ""} means every object')
    tagged = "Tag" in rule.get("Filter", {}) or rule.get("Filter", {}).get("And", {}).get("Tags")
    if tagged and "AbortIncompleteMultipartUpload" in rule:
        problems.add(f"{path}.AbortIncompleteMultipartUpload", "unfinished uploads have no tags to filter by")
    if tagged and "ExpiredObjectDeleteMarker" in rule.get("Expiration", {}):
        problems.add(f"{path}.Expiration", "delete markers have no tags to filter by")
    _check_order(rule.get("Transitions", ()), rule.get("Expiration", {}), f"{path}.Transitions", problems)
    _check_order(
        [_as_days(move) for move in rule.get("NoncurrentVersionTransitions", ())],
        _as_days(rule.get("NoncurrentVersionExpiration", {})),
        f"{path}.NoncurrentVersionTransitions",
        problems,
    )


def _as_days(action: Mapping[str, Any]) -> dict[str, Any]:
    return {"Days" if name == "NoncurrentDays" else name: value for name, value in action.items()}


def _moment(action: Mapping[str, Any]) -> float | None:
    """Return when something happens, in days or seconds; None if it says neither."""
    if "Days" in action:
        return float(action["Days"])
    if "Date" not in action:
        return None
    when = datetime.fromisoformat(action["Date"])
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def _check_order(
    moves: Sequence[Mapping[str, Any]], end: Mapping[str, Any], path: str, problems: Problems
) -> None:
    """Objects go to colder classes as they age, and are removed last."""
    if len({("Date" in action) for action in (*moves, end) if _moment(action) is not None}) > 1:
        problems.add(path, "Days and Date cannot both be used in one rule")
        return
    ordered = sorted(range(len(moves)), key=lambda number: _moment(moves[number]) or 0.0)
    for earlier, later in pairwise(ordered):
        if _LADDER[moves[later]["StorageClass"]] <= _LADDER[moves[earlier]["StorageClass"]]:
            problems.add(f"{path}[{later}].StorageClass", f"must be colder than that of {path}[{earlier}]")
        elif _moment(moves[later]) == _moment(moves[earlier]):
            problems.add(f"{path}[{later}]", f"must come later than {path}[{earlier}]")
    last = _moment(end)
    if ordered and last is not None and last <= (_moment(moves[ordered[-1]]) or 0.0):
        problems.add(f"{path}[{ordered[-1]}]", "must come before the objects expire")


def _check_rules(document: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Refuse two enabled rules that do the same to the same objects."""
    seen: dict[str, int] = {}
    for number, rule in enumerate(document["Rules"]):
        if rule["Status"] != "Enabled":
            continue
        for action in _actions(rule):
            mark = f"{_chosen(rule)} {action}"
            if mark in seen:
                problems.add(
                    f"Rules[{number}].Filter", f"is that of Rules[{seen[mark]}], which does the same"
                )
                break
            seen[mark] = number


def _chosen(rule: Mapping[str, Any]) -> str:
    """Return what a rule is about, in one spelling."""
    found = rule.get("Filter", {})
    inner = found.get("And", found)
    tags = inner.get("Tags") or ([inner["Tag"]] if "Tag" in inner else [])
    pairs = sorted((tag["Key"], tag["Value"]) for tag in tags)
    return repr((inner.get("Prefix", rule.get("Prefix", "")), pairs))


def _actions(rule: Mapping[str, Any]) -> list[str]:
    found = [f"to {move['StorageClass']}" for move in rule.get("Transitions", ())]
    found += [f"old to {move['StorageClass']}" for move in rule.get("NoncurrentVersionTransitions", ())]
    if {"Days", "Date"} & rule.get("Expiration", {}).keys():
        found.append("expire")
    names = ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload")
    return found + [name for name in names if name in rule]


_FILTER = Struct(
    (
        Field("Prefix", Text(most=850)),
        Field("Tag", TAG),
        Field(
            "And",
            Struct((
                Field("Prefix", Text(most=850)),
                Field("Tags", TAG, xml="Tag", many=True, required=True, unique="Key"),
            )),
        ),
    ),
    at_most_one=(("Prefix", "Tag", "And"),),
)  # fmt: skip
_RULE = Struct(
    (
        Field("ID", Text(most=255)),
        Field("Filter", _FILTER),
        Field("Prefix", Text(most=850)),  # of older S3 tools
        Field("Status", STATUS, required=True),
        Field(
            "Transitions",
            Struct(
                (
                    Field("Days", Number(0, _MOST_DAYS)),
                    Field("Date", Date()),
                    Field("StorageClass", _CLASS, required=True),
                ),
                one_of=(("Days", "Date"),),
            ),
            xml="Transition",
            many=True,
            unique="StorageClass",
        ),
        Field(
            "Expiration",
            Struct(
                (
                    Field("Days", Number(1, _MOST_DAYS)),
                    Field("Date", Date()),
                    Field("ExpiredObjectDeleteMarker", Flag()),
                ),
                one_of=(("Days", "Date", "ExpiredObjectDeleteMarker"),),
            ),
        ),
        Field(
            "NoncurrentVersionTransitions",
            Struct((
                Field("NoncurrentDays", Number(0, _MOST_DAYS), required=True),
                Field("StorageClass", _CLASS, required=True),
            )),
            xml="NoncurrentVersionTransition",
            many=True,
            unique="StorageClass",
        ),
        Field(
            "NoncurrentVersionExpiration",
            Struct((Field("NoncurrentDays", Number(1, _MOST_DAYS), required=True),)),
        ),
        Field(
            "AbortIncompleteMultipartUpload",
            Struct((Field("DaysAfterInitiation", Number(1, _MOST_DAYS), required=True),)),
        ),
    ),
    at_most_one=(("Filter", "Prefix"),),
    any_of=(
        *("Transitions", "Expiration", "NoncurrentVersionTransitions"),
        *("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"),
    ),
    check=_check_rule,
)  # fmt: skip

LIFECYCLE = Setting(
    "lifecycle",
    "lifecycle",
    "lifecycle configuration",
    '{"Rules": [{"ID": "logs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", '
    '"Expiration": {"Days": 30}}]}',
    "LifecycleConfiguration",
    Struct(
        (Field("Rules", _RULE, xml="Rule", many=True, required=True, most=1000, unique="ID"),),
        check=_check_rules,
    ),
    frozenset({"NoSuchLifecycleConfiguration"}),
)
