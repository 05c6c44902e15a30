"""One setting of one bucket, as a command has it: read from a file, shown, compared, sent."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosfs.client.documents.schema import Problems, walk
from cosfs.client.documents.setting import Setting
from cosfs.errors import NotFoundError, ServiceError, UsageError

from .output import Column, fields, printable, table

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State

_MOST_BYTES = (4 << 20) + 1


class BucketSetting:
    """One setting of one bucket, or of one object; id tells apart those of which there are several."""

    def __init__(
        self,
        state: State,
        setting: Setting,
        bucket: str,
        id_: str = "",
        *,
        key: str | None = None,
        version_id: str = "",
    ) -> None:
        self._state = state
        self._client = state.client
        self.setting = setting
        self.bucket = bucket
        self.id = id_
        self.key = key
        self._version = {"versionId": version_id} if version_id else {}

    @property
    def target(self) -> str:
        """Return what it is about, as users write it."""
        return f"cos://{self.bucket}" if self.key is None else f"cos://{self.bucket}/{self.key}"

    @property
    def _params(self) -> dict[str, str]:
        return {self.setting.by_id: self.id} if self.id else self._version

    def get(self) -> dict[str, Any] | None:
        """Return the document; None if there is none."""
        try:
            answer = self._client.get_document(
                self.bucket, self.setting.resource, key=self.key, params=self._params
            )
        except NotFoundError as error:
            if error.code in self.setting.none:
                return None
            raise
        try:
            return self.setting.read(answer.body)
        except (ValueError, RecursionError) as error:
            raise ServiceError(
                f"the {self.setting.title} cannot be read: {error}", target=self.target
            ) from error

    def put(self, value: dict[str, Any], *, once: bool = False) -> None:
        """Send a checked document."""
        body = self.setting.write(value)
        params = self._params if self.setting.id_field else self._version
        if once:
            self._client.post_document(self.bucket, self.setting.resource, body, params=params)
        else:
            self._client.put_document(self.bucket, self.setting.resource, body, key=self.key, params=params)

    def delete(self) -> None:
        """Take the setting away."""
        if self.setting.unset is not None:
            self._client.put_document(self.bucket, self.setting.resource, self.setting.unset)
        else:
            self._client.delete_document(
                self.bucket, self.setting.resource, key=self.key, params=self._params
            )

    def nothing(self) -> ServiceError:
        """Return the error that says that nothing is set."""
        code = min(self.setting.none, default="")
        hint = f"Set it with: cos {self.setting.called} put cos://{self.bucket} --config FILE"
        what = f"there is no {self.setting.title}{f' with the id {self.id!r}' if self.id else ''}"
        return NotFoundError(what, status=404, code=code, target=f"cos://{self.bucket}", hint=hint)

    def canonical(self, value: dict[str, Any] | None) -> dict[str, Any]:
        """Return what COS has in the form of what is sent, so that the two can be compared."""
        if not value or not self.setting.root:
            return value or {}
        found: dict[str, Any] = self.setting.kind.normalise(value, "", Problems())
        return found

    def difference(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
        """Return what changes, as the lines of a unified diff; empty if nothing does."""
        old, new = self.canonical(before), self.canonical(after)
        if old == new:
            return []
        names = f"{self.target} {self.setting.name}"
        diff = difflib.unified_diff(_lines(old), _lines(new), f"{names} (now)", f"{names} (new)", lineterm="")
        return list(diff)


def _lines(value: dict[str, Any]) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False).split("\n") if value else []


def full_bucket(state: State, url: CosUrl) -> str:
    """Return the full name of the bucket that a command is about; a key makes no sense there."""
    if url.key:
        raise UsageError(f"{printable(str(url))} names an object", hint=f"Use: cos://{url.bucket}")
    return state.client.resolve_bucket(url.bucket)


def read_config(setting: Setting, text: str) -> tuple[dict[str, Any], str]:
    """Read what --config names: a file, file://…, - or the document itself; return it and its name."""
    if text.lstrip()[:1] in ("{", "<", "["):
        return setting.parse(text.encode("utf-8", "surrogateescape"), "--config"), "--config"
    if text == "-":
        return setting.parse(sys.stdin.buffer.read(_MOST_BYTES), "standard input"), "standard input"
    name = text.removeprefix("file://")
    try:
        with Path(name).open("rb") as file:
            data = file.read(_MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {printable(name)}: {reason}") from None
    return setting.parse(data, printable(name)), printable(name)


def show(state: State, setting: Setting, value: dict[str, Any], *, as_xml: bool = False) -> None:
    """Print a document: JSON unless something else is asked for."""
    out = state.out
    form = str(state.options.get("output") or "") or state.settings.output
    if as_xml:
        if not setting.root:
            raise UsageError(f"a {setting.title} has no form in XML")
        out.line(setting.pretty_xml(value))
    elif form == "jsonl":
        out.json_line(value)
    elif form == "table":
        table(out, [Column("Field"), Column("Value")], list(walk(value)) if value else [])
    elif form == "text":
        fields(out, walk(value) if value else ())
    else:
        out.json(value)


def show_difference(state: State, subject: BucketSetting, before: Any, after: Any) -> None:
    """Print what --dryrun would change."""
    lines = subject.difference(before, after)
    form = str(state.options.get("output") or "") or state.settings.output
    if form in ("json", "jsonl"):
        record = {
            "dryrun": True,
            "changed": bool(lines),
            "before": subject.canonical(before),
            "after": subject.canonical(after),
        }
        (state.out.json if form == "json" else state.out.json_line)(record)
    elif lines:
        state.out.lines(printable(line) for line in lines)
    else:
        state.out.result(
            f"(dryrun) {printable(subject.target)}: the {subject.setting.title} would not change"
        )


def ask_first(state: State, subject: BucketSetting, after: dict[str, Any] | None, *, yes: bool) -> None:
    """Show a person at a terminal what goes away and ask; scripts have said what they want."""
    from .prompt import confirm, somebody_is_there

    if yes or not (state.may_ask and somebody_is_there()):
        return
    try:
        before = subject.get()
    except ServiceError:
        return  # who may not look at it may still replace it
    lines = subject.difference(before, after)
    if not before or not lines:
        return
    for line in lines:
        state.out.talk(printable(line))
    verb = "Remove" if after is None else "Replace"
    confirm(state, f"{verb} the {subject.setting.title} of {subject.bucket}?")
