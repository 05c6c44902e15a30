"""Metadata, content types and access options."""

from __future__ import annotations

import pytest

from cli.headers import guess_type, parse_expires, parse_metadata
from cosfs.errors import UsageError


def test_metadata_may_be_repeated_and_joined() -> None:
    assert parse_metadata(["a=1,b=2", "c=3"]) == {"a": "1", "b": "2", "c": "3"}


def test_metadata_values_may_hold_commas_and_equals_signs() -> None:
    assert parse_metadata(["a=1,2,b=x=y"]) == {"a": "1,2", "b": "x=y"}


def test_metadata_prefix_and_case_are_taken_off() -> None:
    assert parse_metadata(["X-Cos-Meta-Owner=me"]) == {"owner": "me"}


def test_metadata_that_no_header_can_carry_is_encoded() -> None:
    assert parse_metadata(["who=é"]) == {"who": "%C3%A9"}
    assert parse_metadata(["x=a\nb"]) == {"x": "a%0Ab"}


@pytest.mark.parametrize("text", ["novalue", "=x", "bad name=1", ""])
def test_bad_metadata_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_metadata([text])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("d/p.jpeg", "image/jpeg"),
        ("page.html", "text/html"),
        ("x.tar.gz", "application/gzip"),
        ("page.html.gz", "application/gzip"),
        ("unknown.zzzz", ""),
        ("noextension", ""),
    ],
)
def test_guess_type(name: str, kind: str) -> None:
    assert guess_type(name) == kind


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-31T12:00:00Z",
        "2027-01-31T13:00:00+01:00",
        "2027-01-31 12:00:00",
        "Sun, 31 Jan 2027 12:00:00 GMT",
    ],
)
def test_expires_becomes_the_date_that_http_has(text: str) -> None:
    assert parse_expires(text) == "Sun, 31 Jan 2027 12:00:00 GMT"


def test_expires_that_is_no_date_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no date"):
        parse_expires("garbage")
    assert parse_expires("") == ""
