"""How `cos ls` shows a page of objects, versions or uploads, in each format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring as quoted
from typing import IO, Any, Protocol

from cosfs.records import dataclass

from .listing import Page
from .output import Column, Output, Table, json_text, local_time, local_times, printable, utc_time


@dataclass(frozen=True, slots=True)
class Look:
    """What of a key is shown, and how."""

    bucket: str
    cut: int = 0  # characters that the short form leaves away
    urls: bool = False
    human_readable: bool = False
    summarize: bool = False

    def name(self, key: str) -> str:
        """Return a key as it is shown in a list: whole, below the last /, or as a URL."""
        return f"cos://{self.bucket}/{key}" if self.urls else key[self.cut :]

    def names(self, keys: Sequence[str]) -> Sequence[str]:
        """Return many names so that no terminal is confused by them."""
        names = [self.name(key) for key in keys] if self.urls or self.cut else keys
        # Nearly always all are fine, which one look at them together tells.
        return names if "".join(names).isprintable() else [printable(name) for name in names]

    def full(self, key: str) -> str:
        return f"cos://{self.bucket}/{key}" if self.urls else key

    def size(self, size: int) -> str:
        if not self.human_readable:
            return str(size)
        from cosfs.units import format_size

        return format_size(size)


@dataclass(frozen=True, slots=True)
class Kind:
    """What is listed: how one item looks in each format."""

    plural: str  # as the JSON document calls them
    columns: Sequence[str]
    cells: Callable[[Look, Any], Sequence[str]]
    lines: Callable[[Look, Sequence[Any], Sequence[str]], Iterable[str]]  # each text is one or several
    json: Callable[[Any], str]
    size: Callable[[Any], int]


# --- objects

# JSON is put together by hand: a listing of many keys is as quick as its requests.


def _object_json(info: Any) -> str:
    modified = utc_time(info.last_modified)
    return (
        f'{{"Key": {quoted(info.key)}, "Size": {info.size}, "LastModified": "{modified}", '
        f'"ETag": {_etag(info.etag)}, "StorageClass": {quoted(info.storage_class)}}}'
    )


def _etag(etag: str) -> str:
    return quoted(f'"{etag}"')


def _object_cells(look: Look, info: Any) -> Sequence[str]:
    from cosfs.units import format_size

    return look.name(info.key), format_size(info.size), local_time(info.last_modified)


def _object_lines(look: Look, infos: Sequence[Any], names: Sequence[str]) -> Iterable[str]:
    if not infos:
        return []
    sizes: list[Any] = [info.size for info in infos]
    if look.human_readable:
        sizes = [look.size(size) for size in sizes]
    cells: list[Any] = [None] * (3 * len(infos))
    cells[0::3] = local_times([info.last_modified for info in infos])
    cells[1::3], cells[2::3] = sizes, names
    # All at once: a third faster than line by line.
    return ["\n".join(["%s %10s %s"] * len(infos)) % tuple(cells)]


OBJECTS = Kind(
    "Objects",
    ("Key", "Size", "Last Modified"),
    _object_cells,
    _object_lines,
    _object_json,
    lambda info: info.size,
)

# --- versions


def _version_json(version: Any) -> str:
    head = f'{{"Key": {quoted(version.key)}, "VersionId": {quoted(version.version_id)}, '
    head += f'"IsLatest": {_bool(version.is_latest)}, "IsDeleteMarker": {_bool(version.is_delete_marker)}, '
    modified = f'"LastModified": "{utc_time(version.last_modified)}"'
    if version.is_delete_marker:
        return f"{head}{modified}}}"
    return (
        f'{head}"Size": {version.size}, {modified}, "ETag": {_etag(version.etag)}, '
        f'"StorageClass": {quoted(version.storage_class)}}}'
    )


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _state(version: Any) -> str:
    kind = "delete marker" if version.is_delete_marker else "version"
    return f"latest {kind}" if version.is_latest else kind


def _version_cells(look: Look, version: Any) -> Sequence[str]:
    from cosfs.units import format_size

    size = "-" if version.is_delete_marker else format_size(version.size)
    modified = local_time(version.last_modified)
    return look.name(version.key), size, modified, version.version_id, _state(version)


def _version_lines(look: Look, versions: Sequence[Any], names: Sequence[str]) -> Iterable[str]:
    for version, name in zip(versions, names, strict=True):
        size = "-" if version.is_delete_marker else look.size(version.size)
        modified = local_time(version.last_modified)
        yield f"{modified} {size:>10} {name}\t{version.version_id}\t{_state(version)}"


VERSIONS = Kind(
    "Versions",
    ("Key", "Size", "Last Modified", "Version", "State"),
    _version_cells,
    _version_lines,
    _version_json,
    lambda version: version.size,
)

# --- uploads


def _upload_json(upload: Any) -> str:
    return (
        f'{{"Key": {quoted(upload.key)}, "UploadId": {quoted(upload.upload_id)}, '
        f'"Initiated": "{utc_time(upload.initiated)}"}}'
    )


def _upload_cells(look: Look, upload: Any) -> Sequence[str]:
    return look.name(upload.key), local_time(upload.initiated), upload.upload_id


def _upload_lines(look: Look, uploads: Sequence[Any], names: Sequence[str]) -> Iterable[str]:
    for upload, name in zip(uploads, names, strict=True):
        yield f"{local_time(upload.initiated)} {upload.upload_id} {name}"


UPLOADS = Kind(
    "Uploads", ("Key", "Initiated", "Upload ID"), _upload_cells, _upload_lines, _upload_json, lambda _: 0
)


# --- formats


class Printer(Protocol):
    def page(self, page: Page[Any]) -> None: ...
    def end(self, items: int, size: int) -> None: ...


def printer(out: Output, form: str, kind: Kind, look: Look, *, null: bool) -> Printer:
    """Return what prints the pages of a listing."""
    kinds: dict[str, type[_Base]] = {
        "json": JsonPrinter,
        "jsonl": JsonLinesPrinter,
        "table": TablePrinter,
        "text": TextPrinter,
    }
    return (NullPrinter if null else kinds.get(form, LinesPrinter))(out, kind, look)


class _Base:
    def __init__(self, out: Output, kind: Kind, look: Look) -> None:
        self.out = out
        self.kind = kind
        self.look = look

    def page(self, page: Page[Any]) -> None:
        raise NotImplementedError

    def end(self, items: int, size: int) -> None:
        if self.look.summarize:
            total = f"Total {self.kind.plural}: {items}"
            self.out.lines(["", total, f"{'Total Size':>{total.index(':')}}: {self.look.size(size)}"])


class NullPrinter(_Base):
    def page(self, page: Page[Any]) -> None:
        keys = [*page.prefixes, *(item.key for item in page.items)]
        if keys:
            text = "".join(f"{self.look.full(key)}\0" for key in keys)
            self.out.write(text.encode("utf-8", "surrogateescape"), flush=True)

    def end(self, items: int, size: int) -> None:
        pass  # a summary would be read as a key


class TextPrinter(_Base):
    def page(self, page: Page[Any]) -> None:
        full = self.look.full
        self.out.lines(printable(full(prefix)) for prefix in page.prefixes)
        self.out.lines(printable(full(item.key)) for item in page.items)


class LinesPrinter(_Base):
    """What `aws s3 ls` prints, to the column."""

    def page(self, page: Page[Any]) -> None:
        look = self.look
        self.out.lines(f"{'PRE':>30} {name}" for name in look.names(page.prefixes))
        self.out.lines(self.kind.lines(look, page.items, look.names([item.key for item in page.items])))


class TablePrinter(_Base):
    def __init__(self, out: Output, kind: Kind, look: Look) -> None:
        super().__init__(out, kind, look)
        self._table = Table(out, [Column(title) for title in kind.columns])
        self._drawn = False

    def page(self, page: Page[Any]) -> None:
        blank = [""] * (len(self.kind.columns) - 2)
        rows: list[Sequence[str]] = [(self.look.name(prefix), "-", *blank) for prefix in page.prefixes]
        rows += [self.kind.cells(self.look, item) for item in page.items]
        if rows:
            self._table.rows(rows)
            self._drawn = True

    def end(self, items: int, size: int) -> None:
        if self._drawn:
            self._table.end()
        super().end(items, size)


class JsonLinesPrinter(_Base):
    def page(self, page: Page[Any]) -> None:
        self.out.write(_bytes(f"{json_text({'Prefix': prefix})}\n" for prefix in page.prefixes))
        self.out.write(_bytes(f"{self.kind.json(item)}\n" for item in page.items), flush=True)

    def end(self, items: int, size: int) -> None:
        if self.look.summarize:
            self.out.json_line({f"Total{self.kind.plural}": items, "TotalSize": size})


class JsonPrinter(_Base):
    """One document, written while it is listed; many prefixes, which come last, wait in a file."""

    def __init__(self, out: Output, kind: Kind, look: Look) -> None:
        super().__init__(out, kind, look)
        self._count = 0
        self._prefixes: IO[bytes] | None = None

    def _begin(self) -> IO[bytes]:
        """Open the document, now and not before: a listing that fails at once leaves nothing behind."""
        if self._prefixes is None:
            import tempfile

            self._prefixes = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115
            self.out.write(f'{{"{self.kind.plural}": ['.encode())
        return self._prefixes

    def page(self, page: Page[Any]) -> None:
        prefixes = self._begin()
        if page.items:
            text = ",\n  ".join([self.kind.json(item) for item in page.items])
            self.out.write(_bytes([",\n  " if self._count else "\n  ", text]))
            self._count += len(page.items)
        for prefix in page.prefixes:
            comma = "," if prefixes.tell() else ""
            prefixes.write(f"{comma}\n  {json_text({'Prefix': prefix})}".encode())
        self.out.flush()

    def end(self, items: int, size: int) -> None:
        prefixes = self._begin()
        self.out.write(b'\n], "CommonPrefixes": [' if self._count else b'], "CommonPrefixes": [')
        prefixes.seek(0)
        while block := prefixes.read(1 << 16):
            self.out.write(block)
        prefixes.close()
        totals = {f"Total{self.kind.plural}": items, "TotalSize": size}
        tail = ", " + json_text({"Summary": totals})[1:-1] if self.look.summarize else ""
        self.out.write(f"]{tail}}}\n".encode(), flush=True)


def _bytes(texts: Iterable[str]) -> bytes:
    # What is no Unicode becomes escapes, which JSON can hold.
    return "".join(texts).encode("utf-8", "backslashreplace")
