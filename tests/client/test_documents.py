"""Documents of bucket settings: what is refused and how, and that JSON and XML say the same."""

from __future__ import annotations

import json

import pytest

from cosfs.client.documents import access, keeping, serving
from cosfs.client.documents.lifecycle import LIFECYCLE
from cosfs.client.documents.setting import Setting
from cosfs.errors import UsageError
from tests.client.generated import Generator

SETTINGS = [
    each
    for module in (access, keeping, serving)
    for each in (getattr(module, name) for name in module.__all__)
    if isinstance(each, Setting)
] + [LIFECYCLE]
IDS = [
    f"{each.called}-{each.resource}-{each.kind.fields[-1:] and each.kind.fields[-1].name}"
    for each in SETTINGS
]


def refused(setting: Setting, document: object) -> str:
    with pytest.raises(UsageError) as caught:
        setting.check(setting.parse(json.dumps(document).encode(), "f.json"), "f.json")
    return str(caught.value)


@pytest.mark.parametrize("setting", SETTINGS, ids=IDS)
def test_the_example_is_valid(setting: Setting) -> None:
    checked = setting.check(setting.parse(setting.example.encode(), "example"), "example")
    assert checked.remarks == ()
    assert checked.value == json.loads(setting.example)


@pytest.mark.parametrize("setting", SETTINGS, ids=IDS)
def test_any_valid_document_comes_back_as_it_was(setting: Setting) -> None:
    for seed in range(60):
        document = Generator(seed).document(setting)
        assert setting.read(setting.write(document)) == document, seed
        again = setting.check(setting.parse(json.dumps(document).encode(), "again"), "again").value
        assert setting.write(again) == setting.write(document), seed
        if setting.root:
            laid_out = setting.parse(setting.pretty_xml(document).encode(), "xml")
            assert setting.check(laid_out, "xml").value == document, seed


@pytest.mark.parametrize("setting", SETTINGS, ids=IDS)
def test_broken_documents_are_refused_by_a_sentence(setting: Setting) -> None:
    told = 0
    for seed in range(150):
        generator = Generator(seed)
        text = json.dumps(generator.broken(generator.document(setting)))
        try:
            checked = setting.check(setting.parse(text.encode(), "f.json"), "f.json")
        except UsageError as error:
            assert "f.json" in str(error), seed
            told += 1
        else:
            setting.write(checked.value)  # and what is taken can be sent
    assert told > 50


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Expiration": {"Days": 0}}, "Rules[1].Expiration.Days: must be >= 1"),
        ({"Expiration": {"Days": "soon"}}, "Rules[1].Expiration.Days: must be a whole number, not 'soon'"),
        (
            {"Expiration": {"Days": 1, "Date": "2030-01-01"}},
            "Rules[1].Expiration: takes only one of Days, Date",
        ),
        ({"Expiration": {}}, "Rules[1].Expiration: needs Days, Date or ExpiredObjectDeleteMarker"),
        ({"Expiraton": {"Days": 1}}, "Rules[1].Expiraton: there is no such field; did you mean Expiration?"),
        (
            {"expiration": {"Days": 1}},
            "Rules[1].expiration: there is no such field; did you mean Expiration?",
        ),
        ({"Status": "On"}, "Rules[1].Status: must be Enabled or Disabled, not 'On'"),
        ({"ID": "first"}, "Rules[1].ID: 'first' is that of Rules[0] too"),
        ({"Filter": {"Prefix": "a/"}}, "Rules[1].Filter: is that of Rules[0], which does the same"),
        (
            {"Transitions": [{"Days": 40, "StorageClass": "ARCHIVE"}]},
            "Rules[1].Transitions[0]: must come before",
        ),
        ({"Filter": {"Prefix": "\ud800"}}, "cannot be read as JSON"),
        ({"Filter": {"Prefix": "\x01"}}, "Rules[1].Filter.Prefix: holds a character that XML cannot carry"),
        ({"Filter": None}, "Rules[1].Filter: must be an object"),
    ],
)
def test_what_is_wrong_names_its_field(change: dict[str, object], words: str) -> None:
    first = {"ID": "first", "Filter": {"Prefix": "a/"}, "Status": "Enabled", "Expiration": {"Days": 3}}
    second = {"Filter": {"Prefix": "b/"}, "Status": "Enabled", "Expiration": {"Days": 30}, **change}
    assert words in refused(LIFECYCLE, {"Rules": [first, second]})


def test_what_only_a_newer_cos_knows_is_kept_and_told() -> None:
    text = (
        b"<LifecycleConfiguration><Rule><Filter/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration>"
        b"<Weather><Wind>N</Wind><Wind>W</Wind></Weather></Rule></LifecycleConfiguration>"
    )
    checked = LIFECYCLE.check(LIFECYCLE.parse(text, "f"), "f")
    assert checked.value["Rules"][0]["Weather"] == {"Wind": ["N", "W"]}
    assert "Rules[0].Weather" in checked.remarks[0]
    assert b"<Weather><Wind>N</Wind><Wind>W</Wind></Weather>" in LIFECYCLE.write(checked.value)


def test_documents_of_other_tools_are_read() -> None:
    rule = {"Filter": {"Prefix": ""}, "Status": "Enabled", "Expiration": {"Days": "7"}}
    wanted = {"Rules": [{**rule, "Expiration": {"Days": 7}}]}
    for other in ({"Rule": rule}, {"Rule": [rule]}, {"LifecycleConfiguration": {"Rules": [rule]}}, [rule]):
        assert LIFECYCLE.check(LIFECYCLE.parse(json.dumps(other).encode(), "f"), "f").value == wanted
    tags = {"TagSet": {"Tag": {"Key": "a", "Value": "b"}}}
    assert keeping.TAGGING.check(tags, "f").value == {"TagSet": [{"Key": "a", "Value": "b"}]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"{", "cannot be read as JSON"),
        (b"[1]", "Rules[0]: must be an object"),
        (b"7", "must hold an object"),
        (b'{"Rules": [], "Rules": []}', "'Rules' is there twice"),
        (b'{"Rules": NaN}', "NaN is no number"),
        (b"<Wrong/>", "it is a Wrong, not a LifecycleConfiguration"),
        (b"<LifecycleConfiguration>", "cannot be read as XML"),
        (b"<!DOCTYPE a><LifecycleConfiguration/>", "has a DOCTYPE"),
        (b"[" * 100_000, "nested too deeply"),
        (b"<a>" * 100_000, "cannot be read as XML"),
        (b"\xff\xfe{", "cannot be read as JSON"),
    ],
)
def test_what_is_no_document_is_told(text: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=r".*") as caught:
        LIFECYCLE.check(LIFECYCLE.parse(text, "f"), "f")
    assert words in str(caught.value)


def test_a_policy_is_judged_field_by_field() -> None:
    words = refused(
        access.POLICY,
        {
            "version": "2.0",
            "statement": [
                {
                    "effect": "perhaps",
                    "action": "GetObject",
                    "resource": "b/*",
                    "condition": {"like": {"a": "b"}},
                }
            ],
        },
    )
    for expected in (
        "statement[0].effect: must be allow or deny",
        "statement[0].action[0]: must be * or name/cos:ACTION",
        "statement[0].resource[0]: must be",
        "statement[0].principal: is missing",
        "statement[0].condition.like: there is no such operator",
    ):
        assert expected in words
