"""The policy language: elements and their spellings, conditions, and properties of any set of statements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs.emulator.policy import EVERYTHING, PolicyError, Question, Verdict, matches, parse_policy

ALICE = "qcs::cam::uin/100000000001:uin/100000000009"
BUCKET = "data-1250000000"
RESOURCE = f"qcs::cos:ap-guangzhou:uid/1250000000:{BUCKET}/docs/*"


def question(
    action: str = "cos:GetObject",
    resource: str = f"{BUCKET}/docs/a",
    names: Sequence[str] = (ALICE,),
    values: Mapping[str, tuple[str, ...]] | None = None,
) -> Question:
    accounts = ("uid/1250000000", "uin/100000000001")
    return Question(action, (resource,), "ap-guangzhou", accounts, names, (values or {}).get)


def document(**elements: Any) -> str:
    base = {"effect": "allow", "action": "name/cos:GetObject", "resource": RESOURCE}
    return json.dumps({"version": "2.0", "statement": [{**base, **elements}]})


def ask(asked: Question | None = None, **elements: Any) -> Verdict:
    return parse_policy(document(**elements), of_bucket="principal" in elements).ask(asked or question())


@pytest.mark.parametrize(
    ("action", "good"),
    [
        ("name/cos:GetObject", True),
        ("cos:GetObject", True),
        ("name/cos:*", True),
        ("*", True),
        ("name/cos:Get*", True),
        ("name/cos:*Object", True),
        (["name/cos:PutObject", "name/cos:GetObject"], True),
        ("name/cos:getobject", False),
        ("name/cos:PutObject", False),
        ("name/cvm:*", False),
        ("GetObject", False),
    ],
)
def test_actions(action: Any, good: bool) -> None:
    assert ask(action=action) is (Verdict.ALLOW if good else Verdict.NONE)


@pytest.mark.parametrize(
    ("resource", "good"),
    [
        ("*", True),
        (RESOURCE, True),
        (["qcs::cos:*:*:other-1250000000/*", RESOURCE], True),
        (f"qcs::cos:*:uid/1250000000:{BUCKET}/*", True),
        (f"qcs::cos::uid/1250000000:{BUCKET}/docs/a", True),
        (f"qcs::cos:ap-guangzhou::{BUCKET}/docs/a", True),
        (f"qcs::cos:ap-guangzhou:uin/100000000001:{BUCKET}/docs/a", True),
        ("qcs::cos:ap-guangzhou:uid/1250000000:*", True),
        ("qcs::cos:ap-guangzhou:uid/1250000000:prefix//1250000000/data/docs/*", True),
        ("qcs::cos:ap-guangzhou:uid/1250000000:prefix//1250000000/*", True),
        (f"qcs::cos:ap-beijing:uid/1250000000:{BUCKET}/docs/*", False),
        (f"qcs::cos:ap-guangzhou:uid/1250000001:{BUCKET}/docs/*", False),
        (f"qcs::cos:ap-guangzhou:uid/1250000000:{BUCKET}/doc", False),
        (f"qcs::cvm:ap-guangzhou:uid/1250000000:{BUCKET}/docs/*", False),
        (f"qcs::cos:ap-guangzhou:uid/1250000000:{BUCKET}/", False),
    ],
)
def test_resources(resource: Any, good: bool) -> None:
    assert ask(resource=resource) is (Verdict.ALLOW if good else Verdict.NONE)


@pytest.mark.parametrize(
    ("principal", "signed", "unsigned"),
    [
        ("*", True, True),
        ({"qcs": "*"}, True, True),
        ({"qcs": ["qcs::cam::anyone:anyone"]}, True, True),
        ({"qcs": ["qcs::cam::anonymous:anonymous"]}, True, True),
        ({"QCS": [ALICE]}, True, False),
        ({"qcs": ["qcs::cam::uin/100000000001:uin/*"]}, True, False),
        ({"qcs": ["qcs::cam::uin/*:uin/*"]}, True, False),
        ({"qcs": ["qcs::cam::uin/100000000001:uin/100000000001"]}, False, False),
        ({"qcs": ["qcs::cam::uin/100000000001:root"]}, False, False),
        ({"qcs": ["100000000009"]}, False, False),
    ],
)
def test_principals(principal: Any, signed: bool, unsigned: bool) -> None:
    for asked, good in ((question(), signed), (question(names=()), unsigned)):
        assert ask(asked, principal=principal) is (Verdict.ALLOW if good else Verdict.NONE)


def test_what_is_denied_to_the_unsigned_is_not_denied_to_others() -> None:
    principal = {"qcs": ["qcs::cam::anonymous:anonymous"]}
    assert ask(question(names=()), principal=principal, effect="deny") is Verdict.DENY
    assert ask(question(), principal=principal, effect="deny") is Verdict.NONE


def test_elements_are_read_in_any_case_and_a_principal_for_all_statements() -> None:
    text = {
        "version": "2.0",
        "Principal": {"qcs": [ALICE]},
        "Statement": {"Effect": "Allow", "Action": ["name/cos:GetObject"], "Resource": [RESOURCE]},
    }
    assert parse_policy(json.dumps(text), of_bucket=True).ask(question()) is Verdict.ALLOW


@pytest.mark.parametrize(
    ("operator", "wanted", "actual", "holds"),
    [
        ("string_equal", "a", "a", True),
        ("string_equal", ["b", "a"], "a", True),
        ("string_equal", "a", "A", False),
        ("string_not_equal", "a", "b", True),
        ("string_not_equal", ["a", "b"], "b", False),
        ("string_equal_ignore_case", "a", "A", True),
        ("string_like", "image/*", "image/png", True),
        ("string_like", "*.png", "a.png", True),
        ("string_like", "*a*", "bab", True),
        ("string_like", "*", "", True),
        ("string_like", "a*c", "abc", False),
        ("string_like", "a*c", "a*c", True),
        ("string_like", "image/*", "Image/png", False),
        ("string_not_like", "image/*", "text/plain", True),
        ("ip_equal", "192.168.1.0/24", "192.168.1.77", True),
        ("ip_equal", ["10.0.0.1", "192.168.1.77"], "192.168.1.77", True),
        ("ip_equal", "192.168.1.0/24", "192.168.2.1", False),
        ("ip_equal", "2001:db8::/32", "2001:db8::1", True),
        ("ip_not_equal", "192.168.1.0/24", "192.168.1.77", False),
        ("ip_not_equal", "192.168.1.0/24", "10.0.0.1", True),
        ("numeric_equal", 5, "5", True),
        ("numeric_equal", "5", "6", False),
        ("numeric_not_equal", 5, "6", True),
        ("numeric_greater_than", 5, "6", True),
        ("numeric_greater_than", 5, "5", False),
        ("numeric_greater_than_equal", 5, "5", True),
        ("numeric_less_than", 10, "9", True),
        ("numeric_less_than", 10, "100", False),
        ("numeric_less_than_equal", 10, "10", True),
        ("numeric_less_than", 10, "nonsense", False),
        ("bool_equal", True, "true", True),
        ("bool_equal", "false", "true", False),
    ],
)
def test_operators(operator: str, wanted: Any, actual: str, holds: bool) -> None:
    condition = {operator: {"cos:thing": wanted}}
    asked = question(values={"cos:thing": (actual,)})
    assert (ask(asked, condition=condition) is Verdict.ALLOW) == holds
    with_suffix = {f"{operator}_if_exist": {"cos:thing": wanted}}
    assert (ask(asked, condition=with_suffix) is Verdict.ALLOW) == holds
    # A request without the key fulfils only what says `_if_exist`.
    assert ask(question(), condition=condition) is Verdict.NONE
    assert ask(question(), condition=with_suffix) is Verdict.ALLOW


def test_all_conditions_must_hold_and_any_value_will_do() -> None:
    values = {"cos:a": ("1",), "qcs:request_tag": ("k&v", "x&y")}
    both = {"string_equal": {"cos:a": "1", "qcs:request_tag": "k&v"}, "numeric_less_than": {"cos:a": 2}}
    assert ask(question(values=values), condition=both) is Verdict.ALLOW
    both["numeric_less_than"]["cos:a"] = 1
    assert ask(question(values=values), condition=both) is Verdict.NONE
    every = {"for_all_value:string_equal": {"qcs:request_tag": ["k&v"]}}
    assert ask(question(values=values), condition=every) is Verdict.NONE
    every["for_all_value:string_equal"]["qcs:request_tag"].append("x&y")
    assert ask(question(values=values), condition=every) is Verdict.ALLOW


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        "{}",
        '{"version": "1.0", "statement": []}',
        '{"statement": ["text"]}',
        document(effect="maybe"),
        document(action=[]),
        document(action=5),
        document(resource="bucket/key"),
        document(notaction="name/cos:GetObject"),
        document(condition=[1]),
        document(condition={"string_equal": "x"}),
        document(condition={"string_same": {"cos:a": "x"}}),
        document(condition={"numeric_equal": {"cos:a": "x"}}),
        document(condition={"ip_equal": {"qcs:ip": "300.1.1.1"}}),
        document(condition={"bool_equal": {"cos:secure-transport": "yes"}}),
        document(principal={"qcs": ["*"]}),
    ],
)
def test_malformed_documents(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


@pytest.mark.parametrize("principal", [None, {}, {"aws": "*"}, "someone", {"qcs": []}])
def test_malformed_principals(principal: Any) -> None:
    with pytest.raises(PolicyError):
        parse_policy(document(principal=principal), of_bucket=True)


def test_everything_is_everything() -> None:
    assert parse_policy(EVERYTHING).ask(question("sts:AssumeRole", "")) is Verdict.ALLOW


# Properties

NAMES = ["GetObject", "PutObject", "DeleteObject", "Get*", "*"]
KEYS = ["a", "b", "dir/a", "dir/*", "*"]
STATEMENTS = st.lists(
    st.builds(
        lambda effect, action, key, tag: {
            "effect": effect,
            "action": f"name/cos:{action}",
            "resource": f"qcs::cos:*:uid/1250000000:{BUCKET}/{key}",
            "condition": {"string_equal": {"cos:tag": tag}} if tag else {},
        },
        st.sampled_from(["allow", "deny"]),
        st.sampled_from(NAMES),
        st.sampled_from(KEYS),
        st.sampled_from(["", "x", "y"]),
    ),
    max_size=6,
)
QUESTIONS = st.builds(
    lambda action, key, tag: question(
        f"cos:{action}", f"{BUCKET}/{key}", values={"cos:tag": (tag,)} if tag else {}
    ),
    st.sampled_from(NAMES[:3]),
    st.sampled_from(["a", "b", "dir/a", "dir/b/c", "c"]),
    st.sampled_from(["", "x", "y"]),
)


def verdict(statements: list[dict[str, Any]], asked: Question) -> Verdict:
    return parse_policy(json.dumps({"version": "2.0", "statement": statements})).ask(asked)


@given(STATEMENTS, QUESTIONS)
def test_a_policy_says_what_its_statements_say_one_by_one(
    statements: list[dict[str, Any]], asked: Question
) -> None:
    said = [verdict([one], asked) for one in statements]
    wanted = (
        Verdict.DENY if Verdict.DENY in said else Verdict.ALLOW if Verdict.ALLOW in said else Verdict.NONE
    )
    assert verdict(statements, asked) is wanted
    assert verdict(statements[::-1], asked) is wanted


@given(STATEMENTS, STATEMENTS, QUESTIONS)
def test_more_statements_never_undo_a_deny(
    some: list[dict[str, Any]], more: list[dict[str, Any]], asked: Question
) -> None:
    if verdict(some, asked) is Verdict.DENY:
        assert verdict(some + more, asked) is Verdict.DENY


@given(st.text("ab*.\n", max_size=6), st.text("ab.\n", max_size=8))
def test_wildcards_are_what_a_naive_matcher_finds(pattern: str, text: str) -> None:
    def naive(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(naive(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
        return text[:1] == pattern[0] and naive(pattern[1:], text[1:])

    assert matches(pattern, text) == naive(pattern, text)
