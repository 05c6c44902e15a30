"""SELECT Object Content: rows of a CSV or JSON object, chosen by SQL, as a stream of events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from cosfs.emulator import access, archive, encryption, event_stream, messages, symlink
from cosfs.emulator.context import Call
from cosfs.emulator.errors import CosError
from cosfs.emulator.finding import find_object
from cosfs.emulator.select_input import (
    CsvInput,
    Progress,
    chunks,
    csv_rows,
    decoded,
    json_document,
    json_lines,
    unpacked,
)
from cosfs.emulator.select_rows import Row
from cosfs.emulator.select_sql import Query, parse
from cosfs.emulator.select_values import Value, json_text, text
from cosfs.emulator.values import Content, Response

_RECORDS = 64 * 1024  # bytes of a Records message, or one record if that is longer
_LIFE = 8 * 1024 * 1024  # bytes without a result after which a sign of life is sent
# Delimiters as the documentation writes them in its examples.
_WRITTEN = {"\\n": "\n", "\\r\\n": "\r\n", "\\r": "\r", "\\t": "\t"}

Reader = Callable[[Iterator[str]], Iterator[Row]]
Writer = Callable[[list[tuple[str, Value]]], str]


@dataclass(slots=True)
class _Selection:
    """What a request asks for."""

    query: Query
    compression: str
    read: Reader
    write: Writer
    with_progress: bool


def select(call: Call) -> Response:
    """Check the request, then stream the result; what is wrong with the data is told in the stream."""
    row = symlink.follow(call, find_object(call))
    encryption.check_key(call, row)
    archive.check_restored(call, row)
    if row.key.decode() != call.key:
        access.require(call, "SelectObjectContent", row.key.decode())
    selection = _selection(call.body.data)
    content = call.store.content(row, 0, row.size)
    headers = {"Content-Type": "application/octet-stream"}
    return Response(200, headers, content=content, stream=_events(call, selection, content))


# The request


def _selection(body: bytes) -> _Selection:
    tree = _tree(body)
    if messages.text(tree, "ExpressionType").strip().upper() != "SQL":
        raise CosError("InvalidExpressionType", "ExpressionType must be SQL.")
    given, wanted = tree.find("InputSerialization"), tree.find("OutputSerialization")
    if given is None or wanted is None:
        raise CosError("MalformedXML")
    if tree.find("ScanRange") is not None:
        raise CosError("NotImplemented", "ScanRange is not read here: the whole object would be.")
    query = parse(messages.text(tree, "Expression"))
    compression = messages.text(given, "CompressionType", "NONE").strip().upper()
    if compression not in ("NONE", "GZIP", "BZIP2"):
        raise CosError("InvalidCompressionFormat", "CompressionType must be NONE, GZIP or BZIP2.")
    enabled = (tree.findtext("RequestProgress/Enabled") or "").strip().lower() == "true"
    return _Selection(query, compression, _reader(given, query), _writer(wanted), enabled)


def _tree(body: bytes) -> ElementTree.Element:
    try:
        return messages.parse(body, "SelectRequest")
    except CosError:
        return messages.parse(body, "SelectObjectContentRequest")  # as S3 calls it


def _reader(given: ElementTree.Element, query: Query) -> Reader:
    csv, json = given.find("CSV"), given.find("JSON")
    if given.find("Parquet") is not None:
        raise CosError("NotImplemented", "Parquet is not read here.")
    if (csv is None) == (json is None):
        raise CosError("InvalidDataSource", "InputSerialization must be CSV or JSON.")
    if json is not None:
        kind = messages.text(json, "Type").strip().upper()
        if kind not in ("LINES", "DOCUMENT"):
            raise CosError("InvalidJsonType", "The Type of JSON must be LINES or DOCUMENT.")
        read = json_lines if kind == "LINES" else json_document
        return lambda texts: read(texts, query.source)
    assert csv is not None
    header = messages.text(csv, "FileHeaderInfo", "NONE").strip().upper()
    if header not in ("NONE", "USE", "IGNORE"):
        raise CosError("InvalidFileHeaderInfo", "FileHeaderInfo must be NONE, USE or IGNORE.")
    options = CsvInput(
        header,
        _delimiter(csv, "RecordDelimiter", "\n", 2),
        _delimiter(csv, "FieldDelimiter", ","),
        _delimiter(csv, "QuoteCharacter", '"'),
        _delimiter(csv, "QuoteEscapeCharacter", '"'),
        _delimiter(csv, "Comments", "#"),
        messages.text(csv, "AllowQuotedRecordDelimiter").strip().upper() == "TRUE",
    )
    return lambda texts: csv_rows(texts, options)


def _delimiter(node: ElementTree.Element, name: str, default: str, most: int = 1) -> str:
    found = messages.text(node, name, default)
    found = _WRITTEN.get(found, found)
    if len(found) > most:
        raise CosError("InvalidRequestParameter", f"{name} must be of at most {most} characters.")
    return found


def _writer(wanted: ElementTree.Element) -> Writer:
    csv, json = wanted.find("CSV"), wanted.find("JSON")
    if (csv is None) == (json is None):
        raise CosError("InvalidDataSource", "OutputSerialization must be CSV or JSON.")
    if json is not None:
        end = _delimiter(json, "RecordDelimiter", "\n", 2)
        return lambda columns: json_text(dict(columns)) + end
    assert csv is not None
    quoting = messages.text(csv, "QuoteFields", "ASNEEDED").strip().upper()
    if quoting not in ("ASNEEDED", "ALWAYS"):
        raise CosError("InvalidQuoteFields", "QuoteFields must be ALWAYS or ASNEEDED.")
    return _csv_writer(csv, always=quoting == "ALWAYS")


def _csv_writer(csv: ElementTree.Element, *, always: bool) -> Writer:
    end, field = _delimiter(csv, "RecordDelimiter", "\n", 2), _delimiter(csv, "FieldDelimiter", ",")
    quote, escape = _delimiter(csv, "QuoteCharacter", '"'), _delimiter(csv, "QuoteEscapeCharacter", '"')

    def shown(value: Value) -> str:
        made = text(value)
        if not always and not any(sign in made for sign in (field, quote, "\n", "\r", end)):
            return made
        if escape != quote:
            made = made.replace(escape, escape + escape)
        return quote + made.replace(quote, escape + quote) + quote

    return lambda columns: field.join(shown(value) for _, value in columns) + end


# The result


def _events(call: Call, selection: _Selection, content: Content) -> Generator[bytes, None, None]:
    progress = Progress()
    waiting, told = _Records(progress), 0
    packed = chunks(call.store.files, content.pieces, progress)
    rows = selection.read(decoded(unpacked(packed, selection.compression, progress)))
    try:
        for line in _lines(selection.query, selection.write, rows):
            waiting.add(line)
            if waiting.size >= _RECORDS:
                yield waiting.take()
            if progress.processed - told >= _LIFE:
                told = progress.processed
                yield waiting.take() or event_stream.continuation()
                if selection.with_progress:
                    yield _progress("Progress", progress)
    except CosError as error:
        yield waiting.take() + event_stream.failure(error.code, error.message)
        return
    if waiting.size:
        yield waiting.take()
    if selection.with_progress:
        yield _progress("Progress", progress)
    yield _progress("Stats", progress) + event_stream.end()


def _progress(kind: str, progress: Progress) -> bytes:
    return event_stream.progress(kind, progress.scanned, progress.processed, progress.returned)


class _Records:
    """Lines of the result that wait to be sent together."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lines: list[bytes] = []
        self.size = 0

    def add(self, line: str) -> None:
        """Add a line, or nothing."""
        if line:
            encoded = line.encode("utf-8", "replace")
            self._lines.append(encoded)
            self.size += len(encoded)

    def take(self) -> bytes:
        """Return the message with what waits, empty if nothing does."""
        if not self.size:
            return b""
        self._progress.returned += self.size
        made = event_stream.records(b"".join(self._lines))
        self._lines, self.size = [], 0
        return made


def _lines(query: Query, write: Writer, rows: Iterator[Row]) -> Iterator[str]:
    """Yield the lines of the result, and an empty one for each row that makes none."""
    left = query.limit
    if left == 0:
        return
    for row in rows:
        if query.where is not None and query.where(row) is not True:
            yield ""
        elif query.aggregates:
            for aggregate in query.aggregates:
                aggregate.feed(row)
            yield ""
        else:
            columns = [(item.name, item.value(row)) for item in query.items] or list(row.items())
            yield write(columns)
            left = left - 1 if left is not None else None
            if left == 0:
                return
    if query.aggregates:
        yield write([(item.name, item.value(None)) for item in query.items])


HANDLERS: dict[str, Callable[[Call], Response]] = {"SelectObjectContent": select}
