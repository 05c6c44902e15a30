"""Protection against hotlinks: which Referer may see what a bucket shows to everyone. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from cosfs.emulator import messages
from cosfs.emulator.errors import CosError


@dataclass(frozen=True, slots=True)
class RefererRules:
    """A list of addresses that may (white) or may not (black) be the Referer."""

    white: bool
    domains: tuple[str, ...]
    allow_empty: bool

    def admits(self, referer: str) -> bool:
        """Tell whether a request with this Referer, '' for none, may go on."""
        if not referer:
            return self.allow_empty
        address = referer.partition("://")[2] or referer
        return _listed(address, self.domains) == self.white


def _listed(address: str, domains: Sequence[str]) -> bool:
    """Match as COS does: an entry names all addresses that begin with it; `*` stays within the host."""
    return any(_pattern(domain.partition("://")[2] or domain).match(address) for domain in domains)


@lru_cache(maxsize=1024)
def _pattern(domain: str) -> re.Pattern[str]:
    return re.compile("[^/]*".join(map(re.escape, domain.split("*"))), re.IGNORECASE)


def parse_referer(document: bytes) -> RefererRules | None:
    """Read a RefererConfiguration; None if it is not enabled."""
    tree = messages.parse(document, "RefererConfiguration")
    status, kind = messages.text(tree, "Status"), messages.text(tree, "RefererType")
    empty = messages.text(tree, "EmptyReferConfiguration", "Deny")
    domains = tuple(
        text for node in tree.iterfind("DomainList/Domain") if (text := (node.text or "").strip())
    )
    if status not in ("Enabled", "Disabled") or empty not in ("Allow", "Deny"):
        raise CosError("MalformedXML")
    if kind not in ("White-List", "Black-List"):
        raise CosError("MalformedXML")
    return RefererRules(kind == "White-List", domains, empty == "Allow") if status == "Enabled" else None
