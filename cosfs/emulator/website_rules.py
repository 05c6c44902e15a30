"""A bucket's website configuration: read, checked, and asked where a request is to go. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from cosfs.emulator import messages
from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole

_MOST_RULES = 100
_PROTOCOLS = ("", "http", "https")


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """When a request is sent elsewhere, and where; empty is as it was."""

    prefix: str = ""
    code: int = 0
    protocol: str = ""
    host: str = ""
    key: str = ""
    key_prefix: str | None = None
    status: int = 302

    def applies(self, key: str, error: int) -> bool:
        """Tell whether a request for a key is meant: before it was looked for (0), or with its error."""
        return key.startswith(self.prefix) and self.code == error

    def target(self, key: str) -> str:
        """Return the key to go to."""
        if self.key:
            return self.key
        return key if self.key_prefix is None else self.key_prefix + key[len(self.prefix) :]


@dataclass(frozen=True, slots=True)
class Website:
    """What a website configuration says."""

    index: str = ""
    error: str = ""
    original_status: bool = True
    protocol: str = ""  # of RedirectAllRequestsTo
    host: str = ""
    without_html: bool = False
    rules: tuple[RoutingRule, ...] = ()


def read(document: bytes) -> Website:
    """Read a stored configuration."""
    return _website(messages.parse(document, "WebsiteConfiguration"))


def check_configuration(tree: ElementTree.Element) -> None:
    """Refuse a configuration that COS would refuse."""
    website = _website(tree)
    everything = tree.find("RedirectAllRequestsTo") is not None
    if not website.index and not everything:
        raise CosError("MalformedXML")
    if "/" in website.index:
        raise CosError("InvalidArgument", "The suffix of the index document may not have a slash.")
    if len(website.rules) > _MOST_RULES or website.protocol not in _PROTOCOLS:
        raise CosError("MalformedXML")
    for rule in website.rules:
        if not (rule.prefix or rule.code) or rule.protocol not in _PROTOCOLS:
            raise CosError("MalformedXML")
        if rule.code and not 400 <= rule.code < 500:
            raise CosError("InvalidArgument", "HttpErrorCodeReturnedEquals must be an error of 400 to 499.")
        if rule.key and rule.key_prefix is not None:
            raise CosError("MalformedXML")


def _website(tree: ElementTree.Element) -> Website:
    def text(path: str) -> str:
        return (tree.findtext(path) or "").strip()

    return Website(
        text("IndexDocument/Suffix"),
        text("ErrorDocument/Key"),
        text("ErrorDocument/OriginalHttpStatus").lower() != "disabled",
        text("RedirectAllRequestsTo/Protocol").lower(),
        text("RedirectAllRequestsTo/HostName"),
        text("AutoAddressing/Status").lower() == "enabled",
        tuple(_rule(node) for node in tree.iterfind("RoutingRules/RoutingRule")),
    )


def _rule(node: ElementTree.Element) -> RoutingRule:
    def text(path: str) -> str:
        return (node.findtext(path) or "").strip()

    code, status = text("Condition/HttpErrorCodeReturnedEquals"), text("Redirect/HttpRedirectCode")
    replaced = node.find("Redirect/ReplaceKeyPrefixWith")
    return RoutingRule(
        text("Condition/KeyPrefixEquals"),
        whole(code) or 0,
        text("Redirect/Protocol").lower(),
        text("Redirect/HostName"),
        text("Redirect/ReplaceKeyWith"),
        None if replaced is None else (replaced.text or "").strip(),
        int(status) if status in ("301", "302", "303", "307", "308") else 302,
    )
