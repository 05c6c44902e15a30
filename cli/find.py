"""`cos find`: objects by name, size, age and class; something done with each."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from typing import TYPE_CHECKING, Any

import click

from cosfs.records import dataclass

from .options import BUCKET_URL, MOMENT, SIZE, command, page_size_option
from .output import Column, Table, json_text, local_time, printable, utc_time

if TYPE_CHECKING:
    from cosfs.client.model import ObjectInfo
    from cosfs.client.url import CosUrl

    from .state import State

_FIELD = re.compile(r"\{(\w*)\}|(\{\{|\}\})")


@dataclass(frozen=True, slots=True)
class Options:
    name: tuple[str, ...]
    iname: tuple[str, ...]
    path: tuple[str, ...]
    regex: tuple[str, ...]
    larger: int | None
    smaller: int | None
    newer_than: float | None
    older_than: float | None
    storage_class: tuple[str, ...]
    max_depth: int | None
    count: bool
    print0: bool
    template: str | None
    exec_line: str | None
    page_size: int


@command("find")
@click.argument("urls", type=BUCKET_URL, metavar="cos://BUCKET[/PREFIX]...", nargs=-1, required=True)
@click.option("--name", multiple=True, metavar="PATTERN", help="The part behind the last / matches.")
@click.option("--iname", multiple=True, metavar="PATTERN", help="The same; case does not matter.")
@click.option("--path", multiple=True, metavar="PATTERN", help="The key below the prefix matches.")
@click.option("--regex", multiple=True, metavar="REGEX", help="Somewhere in the key below the prefix.")
@click.option("--larger", type=SIZE, metavar="SIZE", help="More bytes than this.")
@click.option("--smaller", type=SIZE, metavar="SIZE", help="Fewer bytes than this.")
@click.option("--newer-than", type=MOMENT, metavar="AGE|DATE", help="Changed later: 7d, 2026-01-31.")
@click.option("--older-than", type=MOMENT, metavar="AGE|DATE", help="Changed earlier.")
@click.option("--storage-class", multiple=True, metavar="CLASS", help="In one of these classes.")
@click.option("--max-depth", type=click.IntRange(0), metavar="N", help="At most N slashes below the prefix.")
@click.option("--count", is_flag=True, help="Print how many there are, and nothing else.")
@click.option("--print0", is_flag=True, help="End each URL by a NUL byte, for xargs -0.")
@click.option(
    "--print",
    "template",
    metavar="FORMAT",
    help="A line for each: {url} {key} {dir} {base} {size} {time} {etag} {class}.",
)
@click.option(
    "--exec", "exec_line", metavar="COMMAND", help="Run this for each, with the same {…} in it; no shell."
)
@page_size_option
@click.pass_obj
def find(state: State, /, urls: tuple[CosUrl, ...], **values: Any) -> int:
    """Find the objects below a prefix that match everything asked for.

    An option given twice matches either way. Prints URLs; {} in --exec is the URL. The exit code is
    1 if a command of --exec fails.

    \b
    Examples:
      cos find cos://bucket/logs/ --name "*.gz" --older-than 30d
      cos find cos://bucket --larger 100MB --print "{size} {key}"
      cos find cos://bucket --name "*.tmp" --print0 | xargs -0 -r cos rm
      cos find cos://bucket/in/ --name "*.txt" --exec "cos cp {url} ./in/{base}"
    """
    options = Options(**values)
    _check(options)
    if options.count:
        state.out.line(str(sum(len(infos) for _, infos in _pages(state, urls, options))))
        return 0
    plain = options.template is None and options.exec_line is None and not options.print0
    if plain and state.format not in ("json", "jsonl", "table"):
        for bucket, infos in _pages(state, urls, options):
            lines = [f"cos://{bucket}/{info.key}" for info in infos]
            # Nearly always all are fine, which one look at them together tells.
            state.out.lines(lines if "".join(lines).isprintable() else map(printable, lines))
        return 0
    found = _found(state, urls, options)
    if options.exec_line is not None:
        return _execute(state, found, shlex.split(options.exec_line))
    _show(state, found, options)
    return 0


def _check(options: Options) -> None:
    from cosfs.errors import UsageError

    from .filters import check_pattern

    ways = {
        "--count": options.count,
        "--print0": options.print0,
        "--print": options.template is not None,
        "--exec": options.exec_line is not None,
    }
    if len(given := [name for name, there in ways.items() if there]) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other")
    for template in (options.template, options.exec_line):
        for match in _FIELD.finditer(template or ""):
            if match[1] is not None and match[1] not in _FIELDS:
                known = " ".join(f"{{{name}}}" for name in _FIELDS if name)
                raise UsageError(f"there is no field {match[0]}", hint=f"There are {known}; {{{{ is a brace")
    for pattern in (*options.name, *options.iname, *options.path):
        check_pattern(pattern)
    for regex in options.regex:
        try:
            re.compile(regex)
        except re.error as error:
            raise UsageError(f"--regex {regex!r}: {error}") from None
    if options.exec_line is not None:
        try:
            words = shlex.split(options.exec_line)
        except ValueError as error:
            raise UsageError(f"--exec {options.exec_line!r}: {error}") from None
        if not words:
            raise UsageError("--exec names no command")


# --- what matches


@dataclass(frozen=True, slots=True)
class Found:
    """One object, and where it was looked for."""

    bucket: str
    info: ObjectInfo

    @property
    def url(self) -> str:
        return f"cos://{self.bucket}/{self.info.key}"


_FIELDS: dict[str, Callable[[Found], str]] = {
    "": lambda found: found.url,
    "url": lambda found: found.url,
    "key": lambda found: found.info.key,
    "base": lambda found: found.info.key.rsplit("/", 1)[-1],
    "dir": lambda found: found.info.key.rpartition("/")[0],
    "size": lambda found: str(found.info.size),
    "time": lambda found: utc_time(found.info.last_modified),
    "etag": lambda found: found.info.etag,
    "class": lambda found: found.info.storage_class,
}


def fill(template: str, found: Found) -> str:
    """Put the fields of an object into a template; `{{` and `}}` are braces."""
    return _FIELD.sub(lambda match: match[2][0] if match[2] else _FIELDS[match[1]](found), template)


def _found(state: State, urls: tuple[CosUrl, ...], options: Options) -> Iterator[Found]:
    for bucket, infos in _pages(state, urls, options):
        for info in infos:
            yield Found(bucket, info)


def _pages(
    state: State, urls: tuple[CosUrl, ...], options: Options
) -> Iterator[tuple[str, Sequence[ObjectInfo]]]:
    """Yield what matches, a page of the listing at a time, with its bucket."""
    from .listing import Range, ahead, object_pages

    for url in urls:
        bucket = state.client.resolve_bucket(url.bucket)
        wanted = Range(bucket, url.key, page_size=options.page_size)
        matches = _matcher(options, len(url.key))
        for page in ahead(object_pages(state.client, wanted)):
            yield bucket, page.items if matches is None else list(filter(matches, page.items))


def _matcher(options: Options, cut: int) -> Callable[[ObjectInfo], bool] | None:
    """Return what looks at one object; only what was asked for is looked at. None takes all."""
    tests: list[Callable[[ObjectInfo], bool]] = []
    larger, smaller = options.larger, options.smaller
    newer, older = options.newer_than, options.older_than
    if larger is not None:
        tests.append(lambda info: info.size > larger)
    if smaller is not None:
        tests.append(lambda info: info.size < smaller)
    if newer is not None:
        tests.append(lambda info: info.last_modified > newer)
    if older is not None:
        tests.append(lambda info: info.last_modified < older)
    if options.storage_class:
        classes = {name.upper() for name in options.storage_class}
        tests.append(lambda info: info.storage_class in classes)
    if options.max_depth is not None:
        most = options.max_depth
        tests.append(lambda info: info.key.count("/", cut) <= most)
    if options.name or options.iname:
        names = _either([*map(translate, options.name), *(f"(?i:{translate(p)})" for p in options.iname)])
        tests.append(lambda info: bool(names.match(info.key.rsplit("/", 1)[-1])))
    if options.path:
        paths = _either([translate(pattern) for pattern in options.path])
        tests.append(lambda info: bool(paths.match(info.key[cut:])))
    if options.regex:
        regexes = _either(options.regex)
        tests.append(lambda info: bool(regexes.search(info.key[cut:])))
    if len(tests) < 2:
        return tests[0] if tests else None
    return lambda info: all(test(info) for test in tests)


def _either(patterns: Iterator[str] | list[str] | tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


# --- what is done with it


def _show(state: State, found: Iterator[Found], options: Options) -> None:
    out, form = state.out, state.format
    if options.template is not None:
        out.lines(printable(fill(options.template, each)) for each in found)
    elif options.print0:
        for each in found:
            out.write(each.url.encode("utf-8", "surrogateescape") + b"\0")
    elif form == "json":
        # While it is found: it may be millions.
        head = '{"Objects": ['
        for each in found:
            out.line(f"{head}{json_text(_record(each))}")
            head = ","
        out.line(f"{head}]}}" if head != "," else "]}")
    elif form == "jsonl":
        out.lines(json_text(_record(each)) for each in found)
    else:
        _table(state, found)


def _record(found: Found) -> dict[str, object]:
    info = found.info
    return {
        "Bucket": found.bucket,
        "Key": info.key,
        "Size": info.size,
        "LastModified": utc_time(info.last_modified),
        "ETag": f'"{info.etag}"',
        "StorageClass": info.storage_class,
    }


def _table(state: State, found: Iterator[Found]) -> None:
    from itertools import islice

    from cosfs.units import format_size

    drawn = Table(state.out, [Column("URL"), Column("Size", right=True), Column("Last Modified")])
    while batch := list(islice(found, 1000)):
        drawn.rows(
            (each.url, format_size(each.info.size), local_time(each.info.last_modified)) for each in batch
        )
    drawn.end()


def _execute(state: State, found: Iterator[Found], words: list[str]) -> int:
    from cosfs.errors import UsageError

    state.out.flush()
    failed = 0
    for each in found:
        line = [fill(word, each) for word in words]
        if not any("{" in word for word in words):
            line.append(each.url)
        try:
            code = subprocess.run(line, check=False).returncode
        except (OSError, ValueError) as error:
            raise UsageError(f"--exec: cannot run {line[0]!r}: {error}") from None
        if code:
            failed += 1
            state.out.failure(f"{printable(shlex.join(line))}: exit code {code}")
    return 1 if failed else 0
