from __future__ import annotations

import errno

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cosfs.errors import FilesystemError
from cosfs.fs.names import (
    CONTENT_NAME,
    KEY_MAX,
    NAME_MAX,
    SHADOW_SUFFIX,
    check_key,
    check_new,
    from_name,
    from_shadow,
    is_shortened,
    shadow_name,
    to_name,
)

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Made of the pieces that decide, so that look-alikes of every form come up.
_pieces = st.sampled_from(
    [
        "%=",
        "%",
        "=",
        ".",
        "..",
        "\x00",
        "file",
        "%=file",
        "%=content",
        "content",
        "%~",
        "%25",
        "%2E",
        "%00",
        "0123456789abcdef",
        "a",
        "é",
        "漢",
        "😀",
        "\\",
        "\n",
    ]
) | st.sampled_from([" ", "x" * 120, "漢" * 80])
_texts = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=300)
components = st.lists(_pieces, max_size=6).map("".join) | _texts


@pytest.mark.parametrize(
    ("component", "name"),
    [
        ("a.txt", b"a.txt"),
        ("日本", "日本".encode()),
        ("...", b"..."),
        ("a%=b", b"a%=b"),
        ("100%", b"100%"),
        ("", b"%="),
        (".", b"%=%2E"),
        ("..", b"%=%2E%2E"),
        ("a\0b", b"%=a%00b"),
        ("%=", b"%=%25="),
        ("%=x.y", b"%=%25=x.y"),
        ("a%=file", b"%=a%25=file"),
        ("%=content", b"%=%25=content"),
    ],
)
def test_forms(component: str, name: bytes) -> None:
    assert to_name(component) == name
    assert from_name(name) == component
    assert check_new(name) == component


@relaxed
@given(components)
@example("a" * 255)
@example("a" * 256)
@example("%=" + "a" * 251)
@example("%=" + "a" * 252)
@example("漢" * 85)
@example("\ud800")
def test_names_are_usable_and_lead_back(component: str) -> None:
    name = to_name(component)
    assert 0 < len(name) <= NAME_MAX
    assert not {0, ord("/")} & set(name)
    assert name not in (b".", b"..", CONTENT_NAME.encode())
    name.decode()
    assert from_name(name) == (None if is_shortened(name) else component)
    assert from_shadow(name) is None
    if len(component.encode(errors="replace")) <= 80 and "\ud800" not in component:
        assert not is_shortened(name)


@relaxed
@given(components)
@example("a" * 249)
@example("a" * 250)
@example("")
def test_shadows_are_usable_and_lead_back(component: str) -> None:
    name = shadow_name(component)
    assert len(name) <= NAME_MAX
    assert not {0, ord("/")} & set(name)
    assert name.endswith(SHADOW_SUFFIX.encode())
    assert from_shadow(name) == (None if is_shortened(name) else component)
    assert from_name(name) is None


@relaxed
@given(components, components)
@example("x" * 300, "x" * 301)
@example("a%=file", "a")
@example("%=file", "")
@example("content", "%=content")
def test_no_two_components_share_a_name(one: str, other: str) -> None:
    names = {to_name(one), shadow_name(one), CONTENT_NAME.encode()}
    assert len(names) == 3
    if one != other:
        assert not names & {to_name(other), shadow_name(other)}


@relaxed
@given(st.binary(max_size=260) | components.map(str.encode))
def test_from_name_accepts_canonical_names_only(name: bytes) -> None:
    component = from_name(name)
    if component is not None:
        assert to_name(component) == name
        assert "/" not in component
    shadowed = from_shadow(name)
    if shadowed is not None:
        assert component is None
        assert shadow_name(shadowed) == name


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"..", b"%=content", b"%=file", b"a%=file", b"%=abc", b"%=%2e", b"%=%41", b"%=%2F", b"a/b"],
)
def test_other_names_have_no_component(name: bytes) -> None:
    assert from_name(name) is None


def test_shortened_name_keeps_whole_characters() -> None:
    name = to_name("漢字" * 60)
    assert is_shortened(name)
    assert NAME_MAX - 3 < len(name) <= NAME_MAX
    assert name.decode().startswith("%=漢字漢字")
    assert is_shortened(shadow_name("漢字" * 60))
    assert is_shortened(shadow_name("a" * 250))
    assert not is_shortened(shadow_name("a" * 249))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (b"x" * 256, errno.ENAMETOOLONG),
        (b"\xff", errno.EILSEQ),
        (b"\xed\xa0\x80", errno.EILSEQ),
        (b"a\x18", errno.EINVAL),
        (b"\x1bb", errno.EINVAL),
        (b"%=x", errno.EINVAL),
        (b"%=%00\x19", errno.EINVAL),
        (b"%=content", errno.EINVAL),
        (b"a%=file", errno.EINVAL),
        (to_name("y" * 300), errno.EINVAL),
    ],
)
def test_refuses_names_that_cannot_come_back(name: bytes, code: int) -> None:
    with pytest.raises(FilesystemError) as caught:
        check_new(name)
    assert caught.value.errno == code
    assert len(str(caught.value)) > 20


@relaxed
@given(components)
def test_every_reversible_name_can_be_created(component: str) -> None:
    name = to_name(component)
    if not is_shortened(name) and not set(component) & set("\x18\x19\x1a\x1b"):
        assert check_new(name) == component


def test_checks_keys() -> None:
    check_key("a" * KEY_MAX)
    check_key("a\\b")
    check_key("漢" * (KEY_MAX // 3))
    for key in ("a" * (KEY_MAX + 1), "漢" * (KEY_MAX // 3 + 1)):
        with pytest.raises(FilesystemError) as caught:
            check_key(key)
        assert caught.value.errno == errno.ENAMETOOLONG
    with pytest.raises(FilesystemError) as caught:
        check_key("\\a")
    assert caught.value.errno == errno.EINVAL
