"""Cross-origin requests: a bucket's CORS rules, preflights, and the headers that browsers want to see."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from xml.etree import ElementTree

from cosfs.emulator import messages
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole
from cosfs.emulator.values import Response

_METHODS = frozenset({"GET", "PUT", "HEAD", "POST", "DELETE"})
_MOST_RULES = 100
_VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


@dataclass(frozen=True, slots=True)
class Rule:
    """One CORSRule; patterns of headers are in lower case."""

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    exposed: tuple[str, ...]
    max_age: str

    def origin(self, origin: str) -> str:
        """Return what to allow for an origin: itself, `*` for all, or nothing."""
        if "*" in self.origins:
            return "*"
        return origin if any(_matches(pattern, origin) for pattern in self.origins) else ""

    def takes_headers(self, names: list[str]) -> bool:
        """Tell whether every header asked for is allowed."""
        return all(any(_matches(pattern, name) for pattern in self.headers) for name in names)


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    # Only * is a wildcard: fnmatch knows more, which is taken from it.
    return re.compile(fnmatch.translate(re.sub(r"[\[?]", lambda match: f"[{match[0]}]", text)))


def _matches(pattern: str, text: str) -> bool:
    return pattern == text or ("*" in pattern and _pattern(pattern).match(text) is not None)


def check_configuration(call: Call, tree: ElementTree.Element) -> None:
    """Refuse rules that COS would refuse."""
    rules = tree.findall("CORSRule")
    if not 1 <= len(rules) <= _MOST_RULES:
        raise CosError("MalformedXML")
    for rule in rules:
        origins, methods = _texts(rule, "AllowedOrigin"), _texts(rule, "AllowedMethod")
        age = whole(messages.text(rule, "MaxAgeSeconds", "0").strip())
        if not origins or not methods or age is None:
            raise CosError("MalformedXML")
        if any(method not in _METHODS for method in methods):
            raise CosError(
                "InvalidRequest", "A method of the CORS rule is not one of GET, PUT, HEAD, POST, DELETE."
            )
        if any(origin.count("*") > 1 for origin in origins):
            raise CosError("InvalidRequest", "An origin of the CORS rule has more than one wildcard.")


def _texts(rule: ElementTree.Element, name: str) -> tuple[str, ...]:
    return tuple(text for node in rule.iterfind(name) if (text := (node.text or "").strip()))


def _rules(document: bytes) -> tuple[Rule, ...]:
    tree = messages.parse(document, "CORSConfiguration")
    return tuple(
        Rule(
            _texts(rule, "AllowedOrigin"),
            _texts(rule, "AllowedMethod"),
            tuple(name.lower() for name in _texts(rule, "AllowedHeader")),
            _texts(rule, "ExposeHeader"),
            messages.text(rule, "MaxAgeSeconds").strip(),
        )
        for rule in tree.iterfind("CORSRule")
    )


def _find(call: Call, origin: str, method: str, names: list[str]) -> tuple[Rule, str] | None:
    """Return the first rule that allows a request, and the origin it allows."""
    for rule in call.store.derived(call.bucket, "cors", _rules) or ():
        allowed = rule.origin(origin)
        if allowed and method in rule.methods and rule.takes_headers(names):
            return rule, allowed
    return None


def preflight(call: Call) -> Response:
    """Answer what a page of an origin may do, before it does it."""
    origin = call.headers.get("origin", "")
    method = call.headers.get("access-control-request-method", "")
    if not origin or not method:
        raise CosError("InvalidArgument", "OPTIONS needs Origin and Access-Control-Request-Method.")
    asked = call.headers.get("access-control-request-headers", "")
    names = [name for item in asked.split(",") if (name := item.strip().lower())]
    found = _find(call, origin, method, names)
    if found is None:
        raise CosError("AccessForbidden", headers={"Vary": _VARY})
    rule, allowed = found
    headers = _headers(rule, allowed)
    if names:
        headers["Access-Control-Allow-Headers"] = ", ".join(names)
    return Response(200, headers)


def _headers(rule: Rule, allowed: str) -> dict[str, str]:
    headers = {
        "Access-Control-Allow-Origin": allowed,
        "Access-Control-Allow-Methods": ", ".join(rule.methods),
    }
    if rule.exposed:
        headers["Access-Control-Expose-Headers"] = ", ".join(rule.exposed)
    if rule.max_age:
        headers["Access-Control-Max-Age"] = rule.max_age
    return {**headers, "Vary": _VARY}


def headers_for(call: Call | None) -> dict[str, str]:
    """Return the headers that let a page of the request's origin read the answer, if a rule allows it."""
    if call is None or not call.place.bucket or call.operation == "OptionsObject":
        return {}
    if call.operation == "CreateBucket" or not call.store.resolve(call.name):  # there are no rules yet
        return {}
    found = _find(call, call.headers["origin"], call.method, [])
    return _headers(*found) if found is not None else {}


HANDLERS: dict[str, Callable[[Call], Response]] = {"OptionsObject": preflight}
