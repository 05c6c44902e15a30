"""What happened to each of many items: result lines, JSON events, counts, the exit code."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from cosfs.errors import COSError, ServiceError, SourceChangedError, UsageError

from .output import printable

if TYPE_CHECKING:
    from cosfs.transfer.model import TransferResult

    from .state import State

VERSION = 1


class Report:
    """Collects the results of one command; used from one thread.

    That of a line of `cos run` hands everything on to the report of the whole run.
    """

    def __init__(
        self,
        state: State,
        *,
        report_file: str | None = None,
        compares: bool = False,
        writes_data: bool = False,
    ) -> None:
        self._out = state.out
        self._format = state.format
        self._compares = compares  # two places: nothing is done
        self._writes_data = writes_data  # stdout is the content of objects: no result may stand behind it
        self.path = report_file
        self._file: IO[str] | None = _open(report_file) if report_file else None
        self._whole = state.batch.report if state.batch is not None else None
        self._state = state
        self._lock = threading.Lock()
        if self._file is not None:
            self._write({"type": "command", **state.command_record()})
        self._started = time.monotonic()
        self._open_document = False
        self.ok = 0
        self.failed = 0
        self.skipped = 0
        self.planned = 0
        self.unchanged = 0
        self.different = 0
        self.bytes = 0
        self.ended_early = ""  # why, if there was more to do
        self._hinted: set[str] = set()
        self.on_failure: Callable[[], None] | None = None  # hears of each failure
        self.records: list[dict[str, Any]] = []  # of keep_apart
        self._apart = False

    def keep_apart(self) -> None:
        """Keep the events for a command that prints one JSON document of its own."""
        self._apart = True

    # --- events

    def done(self, op: str, source: str, target: str, result: TransferResult, seconds: float) -> None:
        """One transfer succeeded."""
        self.ok += 1
        sent = result.size if result.attempts else 0
        self.bytes += sent
        self._event(
            f"{op}: {printable(source)} to {printable(target)}",
            type="transfer",
            op=op,
            status="ok",
            src=source,
            dst=target,
            size=result.size,
            bytes=sent,
            etag=result.etag,
            crc64=None if result.crc64 is None else str(result.crc64),
            version_id=result.version_id or None,
            verified=result.verified,
            attempts=result.attempts,
            ms=round(seconds * 1000),
        )

    def deleted(self, target: str, version_id: str = "") -> None:
        """One object was removed."""
        self.ok += 1
        self._event(
            f"delete: {printable(target)}{_version(version_id)}",
            type="delete",
            status="ok",
            dst=target,
            version_id=version_id or None,
        )

    def changed(self, op: str, target: str, *, version_id: str = "", note: str = "") -> None:
        """One object was changed where it is; op is what was done to it."""
        self.ok += 1
        more = {"version_id": version_id} if version_id else {}
        line = f"{op}: {printable(target)}{_version(version_id)}{f' ({note})' if note else ''}"
        self._event(line, type="change", op=op, status="ok", dst=target, **more)

    def would_change(self, op: str, target: str, *, version_id: str = "") -> None:
        """One change was left out because of --dryrun."""
        self.planned += 1
        more = {"version_id": version_id} if version_id else {}
        line = f"(dryrun) {op}: {printable(target)}{_version(version_id)}"
        self._event(line, type="change", op=op, status="dryrun", dst=target, **more)

    def bucket(self, op: str, name: str) -> None:
        """A bucket was made or removed, or a setting of it or of an object."""
        self.ok += 1
        self._event(f"{op}: {name}", type="bucket", op=op, status="ok", dst=f"cos://{name}")

    def would_set(self, op: str, name: str, note: str = "") -> None:
        """A change of a bucket, or of a setting, was left out because of --dryrun."""
        self.planned += 1
        line = f"(dryrun) {op}: {printable(name)}{f' {printable(note)}' if note else ''}"
        more = {"note": note} if note else {}
        self._event(line, type="bucket", op=op, status="dryrun", dst=f"cos://{name}", **more)

    def would(self, op: str, source: str, target: str) -> None:
        """One transfer was left out because of --dryrun."""
        self.planned += 1
        line = f"(dryrun) {op}: {printable(source)} to {printable(target)}"
        self._event(line, type="transfer", op=op, status="dryrun", src=source, dst=target)

    def would_delete(self, target: str, version_id: str = "") -> None:
        """One removal was left out because of --dryrun."""
        self.planned += 1
        more = {"version_id": version_id} if version_id else {}
        line = f"(dryrun) delete: {printable(target)}{_version(version_id)}"
        self._event(line, type="delete", status="dryrun", dst=target, **more)

    def failure(self, op: str, source: str, target: str, error: BaseException, version_id: str = "") -> None:
        """One transfer failed, or one removal, which has no source; an empty target is not known."""
        self.failed += 1
        ends = {name: text for name, text in (("src", source), ("dst", target)) if text}
        what = " to ".join(printable(text) for text in ends.values())
        if isinstance(error, OSError) and error.filename in ends.values():
            error = type(error)(error.errno, error.strerror)  # the name is said already
        told = printable(describe(error, with_hint=self._is_new(error)))
        self._out.failure(f"{self._out.paint(f'{op} failed:', 'red')} {what}: {told}")
        kind = "delete" if op == "delete" else "transfer"
        more: dict[str, Any] = {"version_id": version_id} if version_id else {}
        if self._whole is not None:
            # Each line has its own; those of a single command stand at the head of the report.
            more |= {name: value for name, value in self._state.command_record().items() if value}
        self._event("", type=kind, op=op, status="failed", **ends, **more, error=_error_record(error))
        if self.on_failure is not None:
            self.on_failure()

    def _is_new(self, error: BaseException) -> bool:
        """Whether nothing failed in this way before: what to do about it is said once."""
        code = error.code if isinstance(error, ServiceError) else ""
        hinted = (self._whole or self)._hinted
        new = not code or code not in hinted
        hinted.add(code)
        return new

    def line_failed(self, number: int, args: list[str], error: BaseException | None) -> None:
        """One line of `cos run` failed as a whole; what happened was told already."""
        with self._lock:
            self.failed += 1
        record = _error_record(error) if error is not None else None
        self._event("", type="line", status="failed", number=number, args=args, error=record)

    def fail(self, error: BaseException) -> None:
        """The command as a whole cannot go on."""
        self.failed += 1
        self._out.error(printable(str(error)))
        self._event("", type="error", status="failed", error=_error_record(error))

    def skip(self, op: str, source: str, reason: str, text: str) -> None:
        """One item was left out with a warning."""
        self.skipped += 1
        self._out.warn(f"skipped {printable(source)}: {printable(text)}")
        self._event("", type="transfer", op=op, status="skipped", reason=reason, src=source)

    def left_out(self, op: str, source: str, target: str, reason: str) -> None:
        """One item needs nothing, as asked for (--no-overwrite)."""
        self.unchanged += 1
        ends = {name: text for name, text in (("src", source), ("dst", target)) if text}
        self._event("", type="transfer", op=op, status="unchanged", reason=reason, **ends)

    def difference(self, status: str, source: str, target: str, reason: str = "") -> None:
        """Two places differ in one name: `missing` at the target, `extra` there, `differs` or `unknown`."""
        self.different += 1
        ends = {name: text for name, text in (("src", source), ("dst", target)) if text}
        named = {"missing": (target,), "extra": (target,)}.get(status, ends.values())
        why = f": {reason}" if reason else ""
        line = (
            f"{self._out.paint(f'{status}:', 'red', stdout=True)} {' and '.join(map(printable, named))}{why}"
        )
        event = {**ends, "reason": reason} if reason else ends
        self._event(line, type="check", status=status, **event)

    # --- the end

    @property
    def total(self) -> int:
        return self.ok + self.failed + self.skipped + self.planned

    @property
    def several(self) -> bool:
        """Whether there were so many items that their sum says more than a line each."""
        return self.total + self.unchanged > 1

    def summary(self) -> str:
        """Say in one line what happened."""
        from cosfs.units import format_duration, format_size

        counts = [
            (self.planned, "would be done"),
            (self.ok, "done"),
            (self.unchanged, "the same" if self._compares else "needed nothing"),
            (self.different, "different"),
            (self.skipped, "skipped"),
            (self.failed, "failed"),
        ]
        always = "the same" if self._compares else "done"
        parts = [f"{number} {word}" for number, word in counts if number or word == always]
        seconds = time.monotonic() - self._started
        amount = ""
        if self.bytes:
            speed = format_size(self.bytes / max(seconds, 0.001))
            amount = f"; {format_size(self.bytes)} in {format_duration(seconds)} ({speed}/s)"
        return ", ".join(parts) + amount

    @property
    def exit_code(self) -> int:
        return 1 if self.failed or self.different else 2 if self.skipped else 0

    def finish(self, exit_code: int | None = None) -> int:
        """Write the summary where a machine reads; return the exit code."""
        code = self.exit_code if exit_code is None else exit_code
        summary: dict[str, Any] = {
            "type": "summary",
            "ok": self.ok,
            "failed": self.failed,
            "skipped": self.skipped,
            "unchanged": self.unchanged,
            "bytes": self.bytes,
            "ms": round((time.monotonic() - self._started) * 1000),
            "exit": code,
        }
        if self.ended_early:
            summary["ended_early"] = self.ended_early
        if self.different:
            summary["different"] = self.different
        if self._whole is not None:
            self._whole.add(self)
            self._state.failed_items += self.failed
        elif not (self._out.quiet or self._writes_data):
            if self._format == "jsonl":
                self._out.event(_event_text(summary))
            elif self._format == "json":
                opening = "" if self._open_document else '{"Results": ['
                end = "\n" if self._open_document else ""
                self._out.line(f'{opening}{end}], "Summary": {_event_text(summary)}}}')
        if self._file is not None:
            self._write(summary)
            self._close()
        return code

    def _write(self, event: dict[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(_event_text(event) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def _close(self) -> None:
        assert self._file is not None
        file, self._file = self._file, None
        try:
            file.close()
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path) from None

    def _event(self, line: str, **event: Any) -> None:
        wanted = not self._out.quiet and (
            event["status"] in ("failed", "skipped") or not self._out.only_errors
        )
        if self._whole is not None:
            self._whole._tell(line, event, wanted=wanted)
        self._tell(line, event, wanted=wanted and self._whole is None and not self._writes_data)

    def _tell(self, line: str, event: dict[str, Any], *, wanted: bool) -> None:
        """Write an event to the file, and where results go if that is wanted."""
        with self._lock:
            if self._file is not None:
                self._write(event)
            if not wanted:
                return
            if self._apart:
                self.records.append(json.loads(_event_text(event)))
            elif self._format == "jsonl":
                self._out.event(_event_text(event))
            elif self._format == "json":
                before = ",\n  " if self._open_document else '{"Results": [\n  '
                self._open_document = True
                self._out.write((before + _event_text(event)).encode(), flush=True)
            elif line:
                self._out.result(line)

    def add(self, other: Report) -> None:
        """Count what the report of one line has counted."""
        with self._lock:
            self.ok += other.ok
            self.failed += other.failed
            self.skipped += other.skipped
            self.planned += other.planned
            self.unchanged += other.unchanged
            self.different += other.different
            self.bytes += other.bytes


def _open(path: str) -> IO[str]:
    if path == "-":
        raise UsageError("--report needs a file", hint="--output jsonl writes the same to standard output")
    from cosfs.transfer.download import own_descriptor

    try:
        own = own_descriptor(path)
        if own is None:
            return Path(path).open("w", encoding="utf-8")
        # Opened anew, /dev/stdout would begin at the start of the file that stands behind it.
        return os.fdopen(os.dup(own), "w", encoding="utf-8", buffering=1)
    except OSError as error:
        raise UsageError(f"cannot write the report {path}: {error.strerror}") from None


def _version(version_id: str) -> str:
    return f" (version {version_id})" if version_id else ""


def _event_text(event: dict[str, Any]) -> str:
    """Write an event; a local name that is not UTF-8 goes in base64 as `src_b64` or `dst_b64`."""
    record: dict[str, Any] = {"v": VERSION}
    for name, value in event.items():
        if name in ("src", "dst") and not _is_text(value):
            raw = value.encode("utf-8", "surrogateescape")
            record[f"{name}_b64"] = base64.b64encode(raw).decode()
        else:
            record[name] = value
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe(error: BaseException, *, with_hint: bool = True) -> str:
    """Say an error in one sentence, its code first, as AWS does."""
    if isinstance(error, ServiceError):
        notes = f" (RequestId {error.request_id})" if error.request_id else ""
        code = f"{error.code}: " if error.code else f"HTTP {error.status}: " if error.status else ""
        return f"{code}{error.message}{notes}" + (f". {error.hint}" if error.hint and with_hint else "")
    if isinstance(error, COSError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _error_record(error: BaseException) -> dict[str, object]:
    if isinstance(error, ServiceError):
        return {
            "code": error.code,
            "message": error.message,
            "http": error.status,
            "request_id": error.request_id,
            "trace_id": error.trace_id,
        }
    return {
        "code": error.code if isinstance(error, SourceChangedError) else type(error).__name__,
        "message": describe(error),
        "http": None,
        "request_id": "",
        "trace_id": "",
    }
