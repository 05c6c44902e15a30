"""Policies that allow what was asked for, and no more."""

from __future__ import annotations

import json

import pytest

from cosfs.client.actions import Scope, action_of, resource_of, scoped_policy


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("GetObject", "name/cos:GetObject"),
        ("ListBuckets", "name/cos:GetService"),
        ("ListObjects", "name/cos:GetBucket"),
        ("CopyObject", "name/cos:PutObject"),
        ("CreateUpload", "name/cos:InitiateMultipartUpload"),
        ("RestoreObject", "name/cos:PostObjectRestore"),
        ("PutBucketCors", "name/cos:PutBucketCORS"),
        ("GetObjectAcl", "name/cos:GetObjectACL"),
        ("GetBucketLifecycle", "name/cos:GetBucketLifecycle"),
    ],
)
def test_operations_have_actions(operation: str, action: str) -> None:
    assert action_of(operation) == action


def test_resources() -> None:
    assert resource_of("") == "*"
    assert resource_of("b-1250000000", "a/k", "ap-x") == "qcs::cos:ap-x:uid/1250000000:b-1250000000/a/k"
    assert resource_of("b-1250000000") == "qcs::cos:*:uid/1250000000:b-1250000000/"


def test_a_policy_of_a_prefix_lists_only_below_it() -> None:
    policy = json.loads(scoped_policy([Scope("b-1250000000", "in/")], read_only=True))
    objects, bucket, lists = policy["statement"]
    assert objects["resource"] == ["qcs::cos:*:uid/1250000000:b-1250000000/in/*"]
    assert not any("Put" in action or "Delete" in action for action in objects["action"])
    assert bucket["action"] == ["name/cos:HeadBucket"]
    assert lists["condition"] == {"string_like": {"cos:prefix": "in/*"}}


def test_actions_go_where_they_belong() -> None:
    policy = json.loads(
        scoped_policy([Scope("b-1250000000")], ["GetObject", "GetBucket", "name/cos:GetBucketLifecycle"])
    )
    told = {tuple(each["action"]): each["resource"][0].rpartition(":")[2] for each in policy["statement"]}
    assert told == {
        ("name/cos:GetObject",): "b-1250000000/*",
        ("name/cos:GetBucketLifecycle",): "b-1250000000/",
        ("name/cos:GetBucket",): "b-1250000000/",
    }


def test_without_a_scope_everywhere() -> None:
    (statement,) = json.loads(scoped_policy([]))["statement"]
    assert statement["action"] == ["name/cos:*"] and statement["resource"] == ["*"]
