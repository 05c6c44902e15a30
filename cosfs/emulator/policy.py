"""The policy language of CAM and of buckets: a document is parsed once, then asked about requests. No I/O.

A policy answers allow, deny, or nothing; what follows from the answers of several is for `access.py`.
Names of elements are read in any case, since Tencent's own examples write them both ways.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from cosfs.emulator.policy_conditions import Condition, PolicyError, parse_conditions

__all__ = ["EVERYTHING", "Policy", "PolicyError", "Question", "Verdict", "matches", "parse_policy"]

_ANYONE = frozenset({"*", "qcs::cam::anyone:anyone", "qcs::cam::*:*"})
_ANONYMOUS = "qcs::cam::anonymous:anonymous"
_ELEMENTS = frozenset({"effect", "action", "resource", "condition", "principal", "sid"})


class Verdict(Enum):
    """What a policy says about a request."""

    ALLOW = "allow"
    DENY = "deny"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Question:
    """A request as policies see it.

    action is `service:Name`. resources are spellings of the one thing asked for; one that matches will do.
    names are the principal's, empty for an anonymous request. lookup returns the values of a condition key,
    or None if the request has none.
    """

    action: str
    resources: Sequence[str]
    region: str = ""
    accounts: Sequence[str] = ()  # owner of the resource: uid/<APPID>, uin/<uin>
    names: Sequence[str] = ()
    lookup: Callable[[str], Sequence[str] | None] = field(default=lambda key: None)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Match a text against a pattern in which `*` stands for any characters."""
    if "*" not in pattern:
        return pattern == text
    return pattern == "*" or _pattern(pattern).fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of a statement: `*`, or `qcs::cos:<region>:<account>:<resource>`."""

    service: str
    region: str
    account: str
    path: str

    def covers(self, question: Question) -> bool:
        """Tell whether this pattern names what is asked for."""
        service = question.action.partition(":")[0]
        return (
            matches(self.service, service)
            and (not self.region or matches(self.region, question.region))
            and (not self.account or any(matches(self.account, account) for account in question.accounts))
            and any(matches(self.path, path) for path in question.resources)
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; principals is None where the policy belongs to somebody anyway."""

    allow: bool
    actions: tuple[str, ...]
    resources: tuple[Resource, ...]
    principals: tuple[str, ...] | None
    conditions: tuple[Condition, ...]

    def applies(self, question: Question) -> bool:
        """Tell whether this statement speaks about a request."""
        return (
            any(matches(action, question.action) for action in self.actions)
            and any(resource.covers(question) for resource in self.resources)
            and (self.principals is None or self._names(question.names))
            and all(condition.holds(question.lookup) for condition in self.conditions)
        )

    def _names(self, names: Sequence[str]) -> bool:
        for principal in self.principals or ():
            # What is allowed to the unsigned is allowed to all; denied to them is denied to them only.
            if principal in _ANYONE or (principal == _ANONYMOUS and (self.allow or not names)):
                return True
            if any(matches(principal, name) for name in names):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed document."""

    statements: tuple[Statement, ...]

    def ask(self, question: Question) -> Verdict:
        """Answer: a deny beats any allow."""
        verdict = Verdict.NONE
        for statement in self.statements:
            if (statement.allow and verdict is Verdict.ALLOW) or not statement.applies(question):
                continue
            if not statement.allow:
                return Verdict.DENY
            verdict = Verdict.ALLOW
        return verdict


def parse_policy(text: str | bytes, *, of_bucket: bool = False) -> Policy:
    """Read a document; raise PolicyError if it is not one. Only a bucket's policy names principals."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError("the policy is not JSON") from error
    if not isinstance(document, dict):
        raise PolicyError("the policy is not an object")
    document = _lower(document)
    if str(document.get("version", "2.0")) != "2.0":
        raise PolicyError("the version must be 2.0")
    found = document.get("statement")
    statements = [found] if isinstance(found, dict) else found
    if not isinstance(statements, list):
        raise PolicyError("the policy has no statement")
    common = document.get("principal")
    return Policy(tuple(_statement(item, common, of_bucket) for item in statements))


def _lower(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in mapping.items()}


def _statement(item: Any, common: Any, of_bucket: bool) -> Statement:
    if not isinstance(item, dict):
        raise PolicyError("a statement is not an object")
    item = _lower(item)
    unknown = item.keys() - _ELEMENTS
    if unknown:
        raise PolicyError(f"a statement has an unknown element {min(unknown)}")
    effect = str(item.get("effect", "")).lower()
    if effect not in ("allow", "deny"):
        raise PolicyError("effect must be allow or deny")
    principal = item.get("principal", common)
    if of_bucket and principal is None:
        raise PolicyError("a statement of a bucket policy needs a principal")
    if not of_bucket and principal is not None:
        raise PolicyError("only a bucket policy may have a principal")
    return Statement(
        effect == "allow",
        tuple(text.removeprefix("name/") for text in _texts(item.get("action"), "action")),
        tuple(_resource(text) for text in _texts(item.get("resource"), "resource")),
        tuple(_principals(principal)) if of_bucket else None,
        parse_conditions(item.get("condition") or {}),
    )


def _texts(value: Any, name: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(text, str) for text in values):
        raise PolicyError(f"{name} must be a text or a list of texts")
    return values


def _principals(value: Any) -> list[str]:
    if isinstance(value, dict):
        kinds = _lower(value)
        found = [kinds[kind] for kind in ("qcs", "federated") if kind in kinds]
        value = [text for texts in found for text in _texts(texts, "principal")]
    return [_principal(text) for text in _texts(value, "principal")]


def _principal(text: str) -> str:
    """Bring the spellings of a principal into one: a bare uin is that account."""
    if text.isdigit():
        return f"qcs::cam::uin/{text}:uin/{text}"
    if text != "*" and not text.startswith("qcs:"):
        raise PolicyError(f"{text} is no principal")
    if text.startswith("qcs::cam::uin/") and text.endswith(":root"):
        owner = text.removeprefix("qcs::cam::uin/").removesuffix(":root")
        return f"qcs::cam::uin/{owner}:uin/{owner}"
    return text


def _resource(text: str) -> Resource:
    if text == "*":
        return Resource("*", "", "", "*")
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "qcs":
        raise PolicyError(f"{text} is no resource")
    path = parts[5]
    if path.startswith("prefix//"):  # the form of older documents: prefix//<APPID>/<short name>/<key>
        appid, _, rest = path.removeprefix("prefix//").partition("/")
        bucket, slash, key = rest.partition("/")
        path = f"{bucket}-{appid}{slash}{key}" if bucket not in ("", "*") else f"*-{appid}/*"
    return Resource(parts[2] or "*", parts[3], parts[4], path)


EVERYTHING = '{"version": "2.0", "statement": [{"effect": "allow", "action": "*", "resource": "*"}]}'
