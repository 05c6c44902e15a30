"""Random documents: valid ones made from a schema, and broken ones made from these."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from typing import Any

from cosfs.client.documents.schema import Choice, Date, Field, Flag, Number, Struct, Text
from cosfs.client.documents.setting import Setting
from cosfs.errors import UsageError

# What a text must look like is said by a pattern; these fit.
_SHAPES = {
    "an origin with at most one *": ["*", "https://www.example.com", "http://*.example.com"],
    "a name without *": ["ETag", "x-cos-meta-übung", "Content-Length"],
    "a name without /": ["index.html", "a b&c.htm", "<i>.html"],
    "a host name, perhaps with a port": ["origin.example.com", "1.2.3.4:8080"],
    "a host without blanks": ["*.example.com", "example.com", "10.*"],
    "letters, digits, hyphens, underscores and dots": ["list-1", "a.b_c"],
    "Unix seconds": ["1568688761", "1568688762"],
    "a prefix without a leading /": ["", "logs/", "ü & <b>"],
    "qcs::cam::uin/OWNER:uin/WHO": ["qcs::cam::uin/100000000001:uin/100000000001"],
}
_ALPHABET = "abcXYZ019-_./ &<>\"'\n\r\té中😀]"


class Generator:
    """Makes documents; places has texts for fields by name, such as the buckets that exist."""

    def __init__(self, seed: int, places: Mapping[str, Sequence[str]] | None = None) -> None:
        self.random = random.Random(seed)
        self._places = {
            "URI": [
                f"http://cam.qcloud.com/groups/global/{name}" for name in ("AllUsers", "AuthenticatedUsers")
            ],
            "Name": [f"{self.random.getrandbits(60):x}.example.com" for _ in range(4)],
            "Bucket": ["qcs::cos:ap-beijing::copy-1250000000"],
            "TargetBucket": ["logs-1250000000"],
            **(places or {}),
        }

    def document(self, setting: Setting) -> dict[str, Any]:
        """Return a valid document in its canonical form."""
        for _ in range(2000):
            made = self._policy() if not setting.root else self._struct(setting.kind)
            try:
                return setting.check(made, "generated").value
            except UsageError:
                continue
        raise AssertionError(f"no valid {setting.title} in 2,000 tries")

    def _struct(self, kind: Struct) -> dict[str, Any]:
        groups = (*kind.one_of, *kind.at_most_one)
        grouped = {name for group in groups for name in group}
        chosen = {self.random.choice(group) for group in groups}
        made = {}
        for field in kind.fields:
            wanted = field.name in chosen if field.name in grouped else self.random.random() < 0.5
            if field.required or wanted:
                made[field.name] = self._field(field)
        return made

    def _field(self, field: Field) -> Any:
        if not field.is_list:
            return self._value(field.kind, field.name)
        most = min(field.most or 3, 3)
        count = self.random.randint(max(field.least, 1 if field.many else 0), most)
        return [self._value(field.kind, field.name) for _ in range(count)]

    def _value(self, kind: Any, name: str) -> Any:
        if isinstance(kind, Struct):
            return self._struct(kind)
        if name in self._places:
            return self.random.choice(self._places[name])
        if isinstance(kind, Choice):
            return self.random.choice(kind.options)
        if isinstance(kind, Number):
            return self.random.randint(
                kind.low, min(kind.high or 10**6, kind.low + self.random.choice((3, 400, 10**5)))
            )
        if isinstance(kind, Flag):
            return self.random.random() < 0.5
        if isinstance(kind, Date):
            return f"20{self.random.randint(20, 60)}-0{self.random.randint(1, 9)}-01T00:00:00+08:00"
        assert isinstance(kind, Text), kind
        if kind.pattern:
            return self.random.choice(_SHAPES[kind.shape])
        length = self.random.randint(
            kind.least, min(kind.most or 20, kind.least + self.random.choice((0, 3, 20)))
        )
        text = "".join(self.random.choice(_ALPHABET) for _ in range(length))
        return text.strip() or "x" * kind.least

    def _policy(self) -> dict[str, Any]:
        def some(*texts: str) -> Any:
            found = self.random.sample(texts, self.random.randint(1, len(texts)))
            return found[0] if len(found) == 1 and self.random.random() < 0.5 else found

        statements = [
            {
                "effect": self.random.choice(("allow", "deny")),
                "principal": {
                    "qcs": some("qcs::cam::anyone:anyone", "qcs::cam::uin/100000000001:uin/100000000002")
                },
                "action": some("name/cos:GetObject", "name/cos:*", "cos:PutObject"),
                "resource": some("qcs::cos:ap-guangzhou:uid/1250000000:b-1250000000/ü/*", "*"),
                **(
                    {"condition": {"string_like": {"cos:prefix": some("a*", "b/*")}}}
                    if self.random.random() < 0.5
                    else {}
                ),
            }
            for _ in range(self.random.randint(1, 3))
        ]
        return {"version": "2.0", "statement": statements}

    # --- broken ones

    def broken(self, document: dict[str, Any]) -> Any:
        """Return a document with something else somewhere."""
        made = copy.deepcopy(document)
        for _ in range(self.random.randint(1, 3)):
            places = list(_places(made))
            if not places:
                return self._junk()
            holder, place = self.random.choice(places)
            action = self.random.randrange(4)
            if action == 0:
                del holder[place]
            elif action == 1 and isinstance(holder, dict):
                holder[self.random.choice(("", "a b", "Ruel", "<x>", "__proto__", "\ud800", "Ünknown"))] = 1
            elif action == 2 and isinstance(holder, list):
                holder += holder
            else:
                holder[place] = self._junk()
        return made

    def _junk(self) -> Any:
        deep: Any = "x"
        for _ in range(self.random.choice((3, 400))):
            deep = [deep] if self.random.random() < 0.5 else {"a": deep}
        return self.random.choice(
            (
                None,
                True,
                -1,
                0,
                1.5,
                10**30,
                "",
                " ",
                "\x00",
                "\ud800",
                "9" * 30,
                "x" * 2000,
                [],
                {},
                [[]],
                [None],
                deep,
            )
        )


def _places(value: Any) -> Any:
    """Yield every holder of a value in a document, with the value's place in it."""
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for place, inner in list(entries):
        yield value, place
        yield from _places(inner)
