"""Reading an object for SELECT: unpacked, decoded and split into rows, in pieces of bounded size."""

from __future__ import annotations

import bz2
import codecs
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from cosfs.emulator.errors import CosError
from cosfs.emulator.files import FileStore
from cosfs.emulator.select_rows import CsvRow, Index, JsonRow, Path, Row, unfold
from cosfs.emulator.values import Piece

MAX_RECORD = 1024 * 1024
_MAX_DOCUMENT = 8 * 1024 * 1024
_CHUNK = 256 * 1024
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(slots=True)
class Progress:
    """How many bytes were read from the object, and how many were in them."""

    scanned: int = 0
    processed: int = 0
    returned: int = 0


@dataclass(frozen=True, slots=True)
class CsvInput:
    """How a CSV file is written."""

    header: str = "NONE"  # or USE, IGNORE
    record: str = "\n"
    field: str = ","
    quote: str = '"'
    escape: str = '"'
    comment: str = "#"
    quoted_records: bool = False


def chunks(files: FileStore, pieces: Iterable[Piece], progress: Progress) -> Iterator[bytes]:
    """Read the bytes of an object."""
    for piece in pieces:
        if not piece.file:
            progress.scanned += len(piece.data)
            yield piece.data
            continue
        with files.path(piece.file).open("rb") as file:
            file.seek(piece.start, os.SEEK_SET)
            left = piece.length
            while left and (data := file.read(min(left, _CHUNK))):
                left -= len(data)
                progress.scanned += len(data)
                yield data


def unpacked(packed: Iterator[bytes], compression: str, progress: Progress) -> Iterator[bytes]:
    """Undo the compression, however far it goes, in pieces of bounded size."""
    for data in _UNPACKERS[compression](packed):
        progress.processed += len(data)
        yield data


def _gunzip(packed: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(31)
    fed = False
    for data in packed:
        while data:
            if unpacker.eof:  # another member may follow
                unpacker = zlib.decompressobj(31)
            try:
                made = unpacker.decompress(data, _CHUNK)
            except zlib.error as error:
                raise CosError("InvalidCompressionFormat", "The object is not in GZIP format.") from error
            data, fed = unpacker.unconsumed_tail or unpacker.unused_data, True
            yield made
    if not fed or not unpacker.eof:
        raise CosError("TruncatedInput", "The compressed object ends too early.")


def _bunzip(packed: Iterator[bytes]) -> Iterator[bytes]:
    unpacker, fed = bz2.BZ2Decompressor(), False
    for data in packed:
        while data or not (unpacker.needs_input or unpacker.eof):
            if unpacker.eof:
                unpacker = bz2.BZ2Decompressor()
            try:
                made = unpacker.decompress(data, _CHUNK)
            except OSError as error:
                raise CosError("InvalidCompressionFormat", "The object is not in BZIP2 format.") from error
            data, fed = unpacker.unused_data, True
            yield made
    if not fed or not unpacker.eof:
        raise CosError("TruncatedInput", "The compressed object ends too early.")


_UNPACKERS: Mapping[str, Callable[[Iterator[bytes]], Iterator[bytes]]] = MappingProxyType(
    {"NONE": lambda packed: packed, "GZIP": _gunzip, "BZIP2": _bunzip}
)


def decoded(parts: Iterator[bytes]) -> Iterator[str]:
    """Decode UTF-8, without a byte order mark."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for data in parts:
            yield decoder.decode(data)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise CosError("InvalidTextEncoding", "The object is not UTF-8.") from error


def records(texts: Iterator[str], delimiter: str) -> Iterator[str]:
    """Split at delimiters."""
    rest = ""
    for text in texts:
        parts = (rest + text).split(delimiter)
        rest = parts.pop()
        for part in parts:
            yield part.removesuffix("\r") if delimiter == "\n" else part
        if len(rest) > MAX_RECORD:
            raise _too_long()
    if rest:
        yield rest


def _too_long() -> CosError:
    return CosError("OverMaxRecordSize", f"A record is longer than {MAX_RECORD} characters.")


# CSV


def csv_rows(texts: Iterator[str], options: CsvInput) -> Iterator[Row]:
    """Yield the rows of a CSV file."""
    header: dict[str, int] | None = None
    first = options.header != "NONE"
    for record in _csv_records(texts, options):
        if len(record) > MAX_RECORD:
            raise _too_long()
        if not record or (options.comment and record.startswith(options.comment)):
            continue
        values = _fields(record, options)
        if first:
            first = False
            if options.header == "USE":
                header = {}
                for position, name in enumerate(values):
                    header.setdefault(name, position)
            continue
        yield CsvRow(values, header)


def _csv_records(texts: Iterator[str], options: CsvInput) -> Iterator[str]:
    found = records(texts, options.record)
    if not options.quoted_records or not options.quote:
        yield from found
        return
    held: list[str] = []
    size = 0
    is_open = False
    for record in found:
        held.append(record)
        size += len(record) + 1
        if size > MAX_RECORD:
            raise _too_long()
        escaped = record.count(options.escape + options.quote) if options.escape != options.quote else 0
        is_open ^= (record.count(options.quote) - escaped) % 2 == 1
        if not is_open:
            yield options.record.join(held)
            held, size = [], 0
    if held:
        yield options.record.join(held)


def _fields(record: str, options: CsvInput) -> list[str]:
    if not options.quote or options.quote not in record:
        return record.split(options.field)
    values, position = [], 0
    while True:
        value, position = _field(record, position, options)
        values.append(value)
        if position >= len(record):
            return values
        position += len(options.field)
        if position == len(record):  # a delimiter at the very end is followed by an empty field
            return [*values, ""]


def _field(record: str, position: int, options: CsvInput) -> tuple[str, int]:
    """Return the field from a position on, and where it ends."""
    value = ""
    if record.startswith(options.quote, position):
        value, position = _quoted(record, position + 1, options)
    end = record.find(options.field, position)
    end = len(record) if end < 0 else end
    return value + record[position:end], end


def _quoted(record: str, position: int, options: CsvInput) -> tuple[str, int]:
    quote, escape, made = options.quote, options.escape, []
    while position < len(record):
        character = record[position]
        following = record[position + 1 : position + 2]
        if character == escape and following and following in (quote, escape):
            made.append(following)
            position += 2
        elif character == quote:
            return "".join(made), position + 1
        else:
            made.append(character)
            position += 1
    raise CosError("CSVParsingError", "A quoted field of the CSV file does not end.")


# JSON


def json_lines(texts: Iterator[str], path: Path) -> Iterator[Row]:
    """Yield the rows of a file with a JSON value in each line."""
    for line in records(texts, "\n"):
        if len(line) > MAX_RECORD:
            raise _too_long()
        if line.strip():
            yield from map(JsonRow, unfold(_value(line), path))


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CosError("JSONParsingError", "The object is not valid JSON.") from error


def json_document(texts: Iterator[str], path: Path) -> Iterator[Row]:
    """Yield the rows of a file that is one JSON value, or several. The elements of a list come one by one."""
    each = path[:1] == (Index(None),)
    for value in _Values(texts, apart=each).read():
        yield from map(JsonRow, unfold(value, path[1:] if each else path))


class _Values:
    """Reads JSON values one after the other; with apart, those within an outermost list."""

    def __init__(self, texts: Iterator[str], *, apart: bool) -> None:
        self._texts = texts
        self._apart = apart
        self._buffer = ""
        self._at = 0
        self._whole = False  # whether all of the text has been read
        self._decoder = json.JSONDecoder()

    def read(self) -> Iterator[Any]:
        """Yield the values."""
        while sign := self._peek():
            if self._apart and sign == "[":
                self._at += 1
                yield from self._elements()
            else:
                yield self._next()

    def _elements(self) -> Iterator[Any]:
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._next()
            sign = self._peek()
            self._at += 1
            if sign == "]":
                return
            if sign != ",":
                raise _not_json()
            self._peek()

    def _more(self) -> bool:
        """Read on; tell whether there was anything."""
        for text in self._texts:
            if text:
                self._buffer = self._buffer[self._at :] + text
                self._at = 0
                return True
        self._whole = True
        return False

    def _peek(self) -> str:
        """Leave white space behind; return the character that follows, if any."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _next(self) -> Any:
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._at)
            except RecursionError as error:
                raise _not_json() from error
            except ValueError as error:
                if self._whole:
                    raise _not_json() from error
            else:
                if end < len(self._buffer) or self._whole:  # else a number could go on
                    self._at = end
                    return value
            self._double()

    def _double(self) -> None:
        """Read as much again as there is: each try begins anew, and the work stays proportional."""
        wanted = 2 * (len(self._buffer) - self._at)
        if wanted > 2 * _MAX_DOCUMENT:
            raise CosError("OverMaxRecordSize", f"A JSON value is longer than {_MAX_DOCUMENT} characters.")
        while len(self._buffer) - self._at < wanted and self._more():
            pass


def _not_json() -> CosError:
    return CosError("JSONParsingError", "The object is not valid JSON.")
