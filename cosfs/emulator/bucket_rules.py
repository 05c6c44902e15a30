"""What a bucket says about access, parsed once: its owner, policy, referer rules and strict signatures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree

from cosfs.emulator import messages
from cosfs.emulator.accounts import Account, Accounts
from cosfs.emulator.errors import CosError
from cosfs.emulator.policy import Policy, PolicyError, Question, Verdict, parse_policy
from cosfs.emulator.referer import RefererRules, parse_referer
from cosfs.emulator.store import Bucket, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StrictRule:
    """Headers and parameters that must be signed if a call of these actions has them; `all` means each."""

    actions: tuple[str, ...]
    headers: tuple[str, ...]
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class BucketRules:
    """The rules of one bucket."""

    owner: Account
    policy: Policy | None
    referer: RefererRules | None
    strict: tuple[StrictRule, ...]

    @cached_property
    def owners(self) -> tuple[str, str]:
        """Return the spellings of the owner in resources."""
        return f"uid/{self.owner.appid}", f"uin/{self.owner.uin}"

    def ask(self, question: Question) -> Verdict:
        """Ask the policy, if there is one."""
        return Verdict.NONE if self.policy is None else self.policy.ask(question)


def parse_strict(document: bytes) -> tuple[StrictRule, ...]:
    """Read a StrictSignatureConfiguration of up to 10 rules."""
    rules = messages.parse(document, "StrictSignatureConfiguration").findall("Rule")
    if len(rules) > 10:
        raise CosError("MalformedXML")
    return tuple(
        StrictRule(
            _words(rule, "actionlist/action"),
            tuple(word.lower() for word in _words(rule, "headerlist/header")),
            tuple(word.lower() for word in _words(rule, "paramlist/param")),
        )
        for rule in rules
    )


def _words(rule: ElementTree.Element, path: str) -> tuple[str, ...]:
    return tuple(text for node in rule.iterfind(path) if (text := (node.text or "").strip()))


class RulesOfBuckets:
    """The rules of all buckets, read again when a setting of any bucket has changed."""

    def __init__(self, store: Store, accounts: Accounts) -> None:
        self._store = store
        self._accounts = accounts
        self._rules: dict[int, BucketRules] = {}
        self._version = -1

    def of(self, bucket: Bucket) -> BucketRules:
        """Return the rules of a bucket."""
        version = self._store.settings_version + self._accounts.version
        if version != self._version:
            self._rules.clear()
            self._version = version
        rules = self._rules.get(bucket.id)
        if rules is None:
            rules = self._rules[bucket.id] = self._read(bucket)
        return rules

    def _read(self, bucket: Bucket) -> BucketRules:
        policy, referer = None, None
        strict: tuple[StrictRule, ...] = ()
        try:
            document = self._store.setting(bucket, "policy")
            policy = parse_policy(document, of_bucket=True) if document is not None else None
            document = self._store.setting(bucket, "referer")
            referer = parse_referer(document) if document is not None else None
            document = self._store.setting(bucket, "strict-signature")
            strict = parse_strict(document) if document is not None else ()
        except (PolicyError, CosError) as error:  # kept by a version that took any document
            log.warning("emulator: a setting of bucket %s has no effect: %s", bucket.name, error)
        return BucketRules(self._accounts.owner_of(bucket.name), policy, referer, strict)
