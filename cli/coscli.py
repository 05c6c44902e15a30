"""Options of Tencent's coscli, hidden, in its units: its scripts run when the name of the program changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cosfs.errors import UsageError

from .options import F, apply

if TYPE_CHECKING:
    from .state import State

_MIB = 1 << 20
_HEADERS = {
    "cache-control": "cache_control",
    "content-disposition": "content_disposition",
    "content-encoding": "content_encoding",
    "content-language": "content_language",
    "content-type": "content_type",
    "expires": "expires",
}


def _hidden(*names: str, **attributes: Any) -> Callable[[F], F]:
    return click.option(*names, hidden=True, **attributes)


coscli_options: Callable[[F], F] = apply(
    _hidden("--routines", type=click.IntRange(1, 1024)),
    _hidden("--thread-num", type=click.IntRange(1, 1024)),
    _hidden("--rate-limiting", type=float),
    _hidden("--meta"),
    _hidden("--snapshot-path"),
    _hidden("--fail-output", type=click.BOOL),
    _hidden("--fail-output-path"),
    _hidden("--err-retry-num", type=click.IntRange(0, 100)),
    _hidden("--retry-num", type=click.IntRange(0, 100)),
    _hidden("--forbid-overwrite", is_flag=True),
    _hidden("--ignore-existing", is_flag=True),
    _hidden("--skip-dir", is_flag=True),
    _hidden("--only-current-dir", is_flag=True),
)


def translate(state: State, values: dict[str, Any]) -> None:
    """Turn these options, taken out of values, into our own, and say so in one line."""
    if "routines" not in values:
        return
    said: list[str] = []
    _translate_numbers(state, values, said)
    _translate_files(values, said)
    meta = values.pop("meta")
    if meta:
        said.append(f"--meta is {_read_meta(meta, values)}")
    if values.pop("forbid_overwrite") | values.pop("ignore_existing"):
        values["no_overwrite"] = True
        said.append("--forbid-overwrite and --ignore-existing are --no-overwrite")
    if values.pop("skip_dir"):
        values["keep_dirs"] = False
        said.append("--skip-dir is the default")
    if values.pop("only_current_dir"):
        # Behind all other filters, so that it wins; pop_filters knows these two.
        values["only_top"] = True
        said.append("--only-current-dir is --exclude '*/*'")
    if said:
        state.out.talk(f"options of coscli: {'; '.join(said)}")


def _translate_numbers(state: State, values: dict[str, Any], said: list[str]) -> None:
    routines, threads = values.pop("routines"), values.pop("thread_num")
    if routines or threads:
        values["concurrency"] = values["concurrency"] or max(routines or 1, threads or 1)
        said.append(f"--routines and --thread-num are --concurrency {values['concurrency']}")
    if values["part_size"] and values["part_size"] <= 5120:
        # Nobody means so few bytes.
        said.append(f"--part-size {values['part_size']} is {values['part_size']}MB")
        values["part_size"] *= _MIB
    rate = values.pop("rate_limiting")
    if rate is not None:
        if rate <= 0:
            raise UsageError("--rate-limiting is a number of MB/s above 0")
        values["max_bandwidth"] = values["max_bandwidth"] or round(rate * _MIB)
        said.append(f"--rate-limiting is --max-bandwidth {rate:g}MB/s")
    retries = [each for each in (values.pop("err_retry_num"), values.pop("retry_num")) if each is not None]
    if retries:
        if "max_retries" not in state.options:
            state.set_option("max_retries", max(retries))
        said.append(f"--retry-num and --err-retry-num are --max-retries {state.options['max_retries']}")


def _translate_files(values: dict[str, Any], said: list[str]) -> None:
    snapshot = values.pop("snapshot_path")
    if snapshot and "snapshot" in values:
        values["snapshot"] = values["snapshot"] or snapshot
        said.append("--snapshot-path is --snapshot")
    elif snapshot:
        said.append("--snapshot-path is for sync alone")
    directory, wanted = values.pop("fail_output_path"), values.pop("fail_output")
    if directory and wanted is not False and not values["report"]:
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--fail-output-path {directory}: {error.strerror}") from None
        values["report"] = str(Path(directory) / f"{time.strftime('%Y%m%d_%H%M%S')}.jsonl")
        said.append(f"--fail-output-path is --report {values['report']}")


def _read_meta(text: str, values: dict[str, Any]) -> str:
    """Read `Name:value#Name:value`; return how it is said here."""
    metadata: list[str] = []
    said: list[str] = []
    for pair in text.split("#"):
        name, found, value = pair.partition(":")
        field = _HEADERS.get(name.strip().lower())
        if not found or not (field or name.lower().startswith("x-cos-meta-")):
            raise UsageError(
                f"--meta {pair!r} is no header of an object",
                hint="Write x-cos-meta-NAME:VALUE#Cache-Control:…",
            )
        if field:
            values[field] = values[field] or value
            said.append(f"--{field.replace('_', '-')}")
        else:
            metadata.append(f"{name.lower().removeprefix('x-cos-meta-')}={value}")
    values["metadata"] = (*values["metadata"], *metadata)
    return " and ".join([*said, *(["--metadata"] if metadata else [])])
