"""`cos hash`: checksums of files and objects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import command, complete_places, recursive_option
from .output import Column, printable, table

if TYPE_CHECKING:
    from cosfs.transfer.hashing import Sums

    from .places import Place
    from .running import Run
    from .state import State

_ALGORITHMS = ("crc64", "md5", "sha1", "sha256")


@command("hash")
@click.argument(
    "names", nargs=-1, required=True, metavar="FILE|cos://BUCKET/KEY...", shell_complete=complete_places
)
@click.option(
    "--algorithm",
    "--type",
    "-a",
    "algorithms",
    type=click.Choice(_ALGORITHMS),
    multiple=True,
    help="Which checksum (default crc64); may be repeated.",
)
@recursive_option
@click.option("--version-id", default="", metavar="ID", help="Of this version of the object.")
@click.pass_obj
def hash(
    state: State, names: tuple[str, ...], algorithms: tuple[str, ...], recursive: bool, version_id: str
) -> int:
    """Print checksums of local files and of objects, of any size.

    For an object the CRC64 that COS stores is taken and, if it was not made of parts, the MD5 that is
    its ETag; anything else is computed from its content, which is read for that. The third column says
    which: stored, etag or read. CRC64 is printed in decimal, as COS has it.

    \b
    Examples:
      cos hash file.iso cos://bucket/file.iso
      cos hash -a md5 -a sha256 cos://bucket/file.iso
      cos hash -r cos://bucket/backup/ --output jsonl
    """
    from .places import parse_place
    from .report import Report
    from .running import run_job

    places = [parse_place(name) for name in names]
    chosen = tuple(dict.fromkeys(algorithms)) or ("crc64",)
    lines = _Lines(state)

    async def job(run: Run) -> None:
        for place in places:
            await _hash_place(run, lines, place, chosen, version_id, recursive=recursive)

    report = Report(state)
    if state.format == "json":
        report.keep_apart()
    code = run_job(state, job, report, verb="hashing", finish=False)
    lines.end(report.records)
    return code


class _Lines:
    """What is printed, in the format asked for."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._records: list[dict[str, Any]] = []
        self._rows: list[tuple[str, ...]] = []

    def add(self, name: str, sums: Sums) -> None:
        record = {"Name": name, "Size": sums.size, **sums.values, "From": sums.known_from}
        out, form = self._state.out, self._state.format
        if form == "jsonl":
            out.json_line(record)
        elif form == "json":
            self._records.append(record)
        else:
            rows = [
                (algorithm, value, sums.known_from[algorithm], name)
                for algorithm, value in sums.values.items()
            ]
            if form == "table":
                self._rows += rows
            else:
                out.lines("\t".join((*row[:3], printable(row[3]))) for row in rows)

    def end(self, trouble: list[dict[str, Any]]) -> None:
        form = self._state.format
        if form == "json":
            more = {"Results": trouble} if trouble else {}
            self._state.out.json({"Hashes": self._records, **more})
        elif form == "table":
            columns = [Column("Algorithm"), Column("Checksum"), Column("From"), Column("Name")]
            if self._rows:
                table(self._state.out, columns, self._rows)


async def _hash_place(
    run: Run, lines: _Lines, place: Place, algorithms: tuple[str, ...], version_id: str, *, recursive: bool
) -> None:
    from cosfs.client.url import CosUrl
    from cosfs.errors import UsageError

    if isinstance(place, CosUrl):
        bucket = await run.engine.run(run.state.client.resolve_bucket, place.bucket)
        if not recursive:
            if not place.key:
                raise UsageError(f"{place} is a bucket", hint="Add --recursive for what is in it")
            sums = await _object(run, bucket, place.key, algorithms, version_id)
            if sums is not None:
                lines.add(f"cos://{bucket}/{place.key}", sums)
            return
        await _objects(run, lines, bucket, place.key, algorithms)
    elif place.is_stream:
        raise UsageError("- cannot be hashed", hint="Pipe it through sha256sum or md5sum")
    elif Path(place.path).is_dir():  # noqa: ASYNC240 - one look
        if not recursive:
            raise UsageError(f"{place} is a directory", hint="Add --recursive for what is in it")
        async for path, size in _files(run, place.path):
            await _file(run, lines, path, size, algorithms)
    else:
        await _file(run, lines, place.path, None, algorithms)


async def _files(run: Run, root: str) -> AsyncIterator[tuple[str, int]]:
    from cosfs.transfer.scan import walk

    def warn(path: str, reason: str) -> None:
        run.report.skip("hash", path, "unreadable", reason)

    async for entry in walk(root, on_warning=warn):
        yield entry.path, entry.size


async def _file(run: Run, lines: _Lines, path: str, size: int | None, algorithms: tuple[str, ...]) -> None:
    from cosfs.errors import COSError
    from cosfs.transfer.hashing import hash_file

    try:
        run.display.expect(Path(path).stat().st_size if size is None else size, path)  # noqa: ASYNC240
        lines.add(path, await hash_file(run.engine, path, algorithms, run.display.advance))
    except (COSError, OSError) as error:
        run.report.failure("hash", path, "", error)
    run.display.finish()


async def _object(
    run: Run, bucket: str, key: str, algorithms: tuple[str, ...], version_id: str = ""
) -> Sums | None:
    """Return the checksums of one object; a failure is reported."""
    from cosfs.errors import ConfigError, COSError
    from cosfs.transfer.hashing import hash_object

    name = f"cos://{bucket}/{key}"
    run.display.expect(0, name)
    try:
        return await hash_object(run.engine, bucket, key, algorithms, version_id=version_id)
    except ConfigError:
        raise
    except COSError as error:
        run.report.failure("hash", name, "", error)
        return None
    finally:
        run.display.finish()


async def _objects(run: Run, lines: _Lines, bucket: str, prefix: str, algorithms: tuple[str, ...]) -> None:
    """Hash what lies below a prefix: many at a time, shown in the order of the keys."""
    from cosfs.transfer.scan import list_objects

    batch: list[str] = []
    async with list_objects(run.engine, bucket, prefix) as listing:
        async for info in listing:
            batch.append(info.key)
            if len(batch) >= 4 * run.engine.limit:
                await _batch(run, lines, bucket, batch, algorithms)
                batch = []
            if run.stopping:
                return
    await _batch(run, lines, bucket, batch, algorithms)


async def _batch(run: Run, lines: _Lines, bucket: str, keys: list[str], algorithms: tuple[str, ...]) -> None:
    from cosfs.transfer.engine import open_nursery

    found: dict[str, Sums] = {}

    async def one(key: str) -> None:
        sums = await _object(run, bucket, key, algorithms)
        if sums is not None:
            found[key] = sums

    async with open_nursery() as nursery:
        for key in keys:
            nursery.start_soon(one, key)
    for key in keys:
        if key in found:
            lines.add(f"cos://{bucket}/{key}", found[key])
