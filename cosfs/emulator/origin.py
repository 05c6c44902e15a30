"""Back to origin: where a request goes whose object is not here.

An emulator fetches nothing from anywhere, so only redirects are answered; rules of the types Mirror and
Proxy have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from cosfs.emulator import messages
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.reading import Node, choice, invalid, malformed, needed, number, single, value
from cosfs.emulator.values import Response

_MOST = 1000
_TYPES = ("Mirror", "Proxy", "Redirect")


@dataclass(frozen=True, slots=True)
class OriginRule:
    """One rule; fixed, before and after say which path is asked for at the host."""

    priority: int
    type: str
    prefix: str
    protocol: str
    status: int
    with_query: bool
    host: str
    fixed: str
    before: str
    after: str


def read_origin(document: bytes) -> tuple[OriginRule, ...]:
    """Read and check an OriginConfiguration; the rules come in the order of their priorities."""
    nodes = messages.parse(document, "OriginConfiguration").findall("OriginRule")
    if not nodes or len(nodes) > _MOST:
        raise malformed(f"There must be 1 to {_MOST} rules.")
    rules = [_rule(node) for node in nodes]
    if len({rule.priority for rule in rules}) != len(rules):
        raise invalid("RulePriority must be unique.")
    return tuple(sorted(rules, key=lambda rule: rule.priority))


def _rule(node: Node) -> OriginRule:
    parameter, info = node.find("OriginParameter"), single(node, "OriginInfo")
    if value(node, "OriginCondition/HTTPStatusCode") not in ("", "404"):
        raise invalid("HTTPStatusCode must be 404.")
    protocol, status, with_query = "FOLLOW", 302, False
    if parameter is not None:
        protocol = choice(parameter, "Protocol", ("HTTP", "HTTPS", "FOLLOW"), "FOLLOW")
        status = int(choice(parameter, "HttpRedirectCode", ("301", "302", "307"), "302"))
        with_query = value(parameter, "FollowQueryString").lower() == "true"
    host = needed(info, "HostInfo/HostName")
    if any(character in host for character in "/?#@ \r\n\t"):
        raise invalid("HostName is not valid.")
    return OriginRule(
        number(node, "RulePriority", 1, 100_000) or 1, choice(node, "OriginType", _TYPES),
        value(node, "OriginCondition/Prefix"), protocol, status, with_query, host,
        value(info, "FileInfo/FixedFileConfiguration/FixedFilePath"),
        value(info, "FileInfo/PrefixConfiguration/Prefix"),
        value(info, "FileInfo/SuffixConfiguration/Suffix"),
    )  # fmt: skip


def redirect(call: Call, error: CosError) -> Response | None:
    """Return where a request for a missing object goes instead, None if it stays an error."""
    if error.code != "NoSuchKey" or call.operation not in ("GetObject", "HeadObject"):
        return None
    for rule in call.store.derived(call.bucket, "origin", read_origin) or ():
        if rule.type == "Redirect" and call.key.startswith(rule.prefix):
            return Response(rule.status, {"Location": _location(call, rule)})
    return None


def _location(call: Call, rule: OriginRule) -> str:
    scheme = "http" if rule.protocol == "FOLLOW" else rule.protocol.lower()
    path = rule.fixed.lstrip("/") or f"{rule.before}{call.key}{rule.after}"
    asked = [
        (name, value) for name, value in call.target.query if not name.lower().startswith((b"q-", b"x-cos-"))
    ]
    query = "&".join(f"{quote(name)}={quote(value)}" for name, value in asked) if rule.with_query else ""
    return f"{scheme}://{rule.host}/{quote(path)}" + (f"?{query}" if query else "")
