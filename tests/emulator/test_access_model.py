"""Any mixture of policies and ACLs is decided as a plain model of the rules decides it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosfs.emulator.members import Member
from tests.emulator.asking import BUCKET, Asker
from tests.emulator.crew import Crew, policy, statement

# Each call: its action, how it is sent, what an ACL must grant for it.
CALLS = {
    "GetObject": ("GET", "/docs/a", "READ"),
    "HeadObject": ("HEAD", "/b", "READ"),
    "PutObject": ("PUT", "/docs/a", "WRITE"),
    "DeleteObject": ("DELETE", "/c", "WRITE"),
    "GetBucketACL": ("GET", "/?acl", "READ_ACP"),
    "GetBucketVersioning": ("GET", "/?versioning", ""),
}
PEOPLE = ("owner", "user", "other", "their user", "nobody")
KEYS = {"docs/": "docs/*", "all": "*"}


@dataclass(frozen=True)
class World:
    crew: Crew
    people: dict[str, Member]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ask = Asker(tmp_path_factory.mktemp("model") / "data")
    ask.store.create_bucket(BUCKET, "ap-guangzhou")
    for key in ("docs/a", "b"):
        ask("PUT", f"/{key}", b"x")
    crew = Crew(ask)
    other = crew.add_account()
    yield World(crew, {"user": crew.add_user(), "other": other, "their user": crew.add_user(other)})
    ask.close()


RULE = st.tuples(
    st.sampled_from(["allow", "deny"]), st.sampled_from([*CALLS, "*"]), st.sampled_from(list(KEYS))
)
OF_BUCKET = st.lists(st.tuples(st.sampled_from([*PEOPLE[1:], "all"]), RULE), max_size=3)
GRANT = st.tuples(
    st.sampled_from(["user", "other", "their user", "all", "signed"]),
    st.sampled_from(["READ", "WRITE", "READ_ACP", "FULL_CONTROL"]),
)


def speaks_of(rule: tuple[str, str, str], action: str) -> bool:
    path = CALLS[action][1]
    return rule[1] in ("*", action) and (rule[2] == "all" or path.startswith("/docs/"))


def model(
    who: str,
    action: str,
    own: dict[str, list[tuple[str, str, str]]],
    of_bucket: list[tuple[str, tuple[str, str, str]]],
    acl: list[tuple[str, str]],
) -> bool:
    """Say whether a call is allowed, from the rules as the documentation puts them."""
    wanted = CALLS[action][2]
    mine = [rule[0] for rule in own.get(who, []) if speaks_of(rule, action)]
    # Users of another account are reached by their own name and through their account.
    reached = {who, "all"} | ({"other"} if who == "their user" else set())
    if who == "nobody":
        reached = {"nobody", "all"}
    said = [(name, rule[0]) for name, rule in of_bucket if name in reached and speaks_of(rule, action)]
    # "nobody" in an allow means everyone, signed or not.
    said += [("all", "allow") for name, rule in of_bucket if name == "nobody" and who != "nobody"
             and rule[0] == "allow" and speaks_of(rule, action)]  # fmt: skip
    if "deny" in mine or "deny" in [effect for _, effect in said]:
        return False
    if who == "owner" or (who == "user" and "allow" in mine):
        return True
    named = {name for name, effect in said if effect == "allow"}
    for name, permission in acl:
        everyone = name == "all" or (name == "signed" and who != "nobody")
        if wanted and permission in (wanted, "FULL_CONTROL") and (name in reached or everyone):
            named.add("all" if everyone else name)
    if who == "their user":
        return bool(named & {"all", who}) or ("other" in named and "allow" in mine)
    return bool(named)


@settings(max_examples=150)
@given(
    user=st.lists(RULE, max_size=3), theirs=st.lists(RULE, max_size=2), of_bucket=OF_BUCKET,
    acl=st.lists(GRANT, max_size=2),
)  # fmt: skip
def test_every_decision_is_that_of_the_model(
    world: World, user: list[Any], theirs: list[Any], of_bucket: list[Any], acl: list[Any]
) -> None:
    crew, people = world.crew, world.people

    def written(rule: tuple[str, str, str]) -> dict[str, Any]:
        return statement(rule[0], rule[1], f"qcs::cos:*:uid/1250000000:{BUCKET}/{KEYS[rule[2]]}")

    def principal(name: str) -> Any:
        special = {"all": "*", "nobody": {"qcs": ["qcs::cam::anonymous:anonymous"]}}
        return special[name] if name in special else {"qcs": [people[name].arn]}

    crew.set_policies(people["user"], [policy(*map(written, user))])
    crew.set_policies(people["their user"], [policy(*map(written, theirs))])
    groups = {
        "all": "http://cam.qcloud.com/groups/global/AllUsers",
        "signed": "http://cam.qcloud.com/groups/global/AuthenticatedUsers",
    }
    store = crew.ask.store
    grants = [[groups.get(name) or people[name].arn, permission] for name, permission in acl]
    store.update_bucket(store.bucket(BUCKET), acl=json.dumps(grants))
    document = policy(*({**written(rule), "principal": principal(name)} for name, rule in of_bucket))
    store.put_setting(store.bucket(BUCKET), "policy", "", json.dumps(document).encode())
    own = {"user": user, "their user": theirs}
    for who in PEOPLE:
        for action, (method, target, _) in CALLS.items():
            answer = (
                crew.ask(method, target) if who == "owner" else crew.send(people.get(who), method, target)
            )
            assert (answer.status != 403) == model(who, action, own, of_bucket, acl), (who, action)
