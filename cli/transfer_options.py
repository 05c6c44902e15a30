"""The options that cp, mv and sync share, and the values they become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict

import click

from cosfs.errors import UsageError
from cosfs.records import dataclass

from .coscli import coscli_options, translate
from .headers import header_options, pop_headers
from .options import (
    DURATION,
    RATE,
    SIZE,
    F,
    apply,
    dryrun_option,
    page_size_option,
    pop_selection,
    selection_options,
)
from .progress import Style

if TYPE_CHECKING:
    from cosfs.config import TransferSettings
    from cosfs.transfer.compare import Rules
    from cosfs.transfer.options import TransferOptions

    from .headers import HeaderChoice
    from .selecting import Chosen
    from .state import State

_what: Callable[[F], F] = apply(
    click.option("--no-overwrite", is_flag=True, help="Leave what exists at the destination alone."),
    click.option("--update", is_flag=True, help="Leave alone what is newer at the destination."),
    click.option(
        "--checksum", is_flag=True, help="Where sizes are equal, compare contents: by ETag, CRC64 or MD5."
    ),
    click.option(
        "--key-policy",
        type=click.Choice(["skip", "error", "encode"]),
        default="skip",
        help="What to do with keys no path can have (.., //): skip (default), fail, or percent-encode; "
        "uploads with encode turn such names back.",
    ),
    click.option(
        "--case-conflict",
        type=click.Choice(["ignore", "skip", "warn", "error"]),
        help="What to do when keys differ in case only: default is error where the destination makes no "
        "difference, else ignore.",
    ),
    click.option(
        "--follow-symlinks/--no-follow-symlinks", default=True, help="Upload what links point to (default)."
    ),
    click.option("--one-file-system", is_flag=True, help="Do not go into directories on other filesystems."),
    click.option(
        "--preserve-symlinks",
        is_flag=True,
        help="Upload links as links, and make links of those on download.",
    ),
    click.option(
        "--preserve",
        is_flag=True,
        help="Keep mode, owner and time of files as metadata, and restore them on download.",
    ),
    click.option("--keep-dirs", is_flag=True, help="Upload empty directories as objects that end in /."),
    click.option("--force-archive-transfer", is_flag=True, help="Try archived objects, too."),
    click.option(
        "--ignore-archive-warnings", is_flag=True, help="Leave archived objects out without a word."
    ),
)

_copies: Callable[[F], F] = apply(
    click.option(
        "--metadata-directive",
        type=click.Choice(["COPY", "REPLACE"], case_sensitive=False),
        help="Between buckets: keep the source's metadata, or take only what the options say.",
    ),
    click.option(
        "--copy-props",
        type=click.Choice(["none", "metadata-directive", "default", "all"]),
        help="Between buckets, what a copy keeps: nothing, metadata, also tags (default), also access.",
    ),
    click.option(
        "--sse-c",
        is_flag=False,
        flag_value="AES256",
        type=click.Choice(["AES256"]),
        metavar="AES256",
        help="Encrypt with a key of your own.",
    ),
    click.option("--sse-c-key", metavar="KEY", help="The key, 32 bytes: fileb://FILE or base64."),
    click.option(
        "--sse-c-copy-source",
        is_flag=False,
        flag_value="AES256",
        type=click.Choice(["AES256"]),
        metavar="AES256",
        help="The source of a copy is encrypted with a key of your own.",
    ),
    click.option("--sse-c-copy-source-key", metavar="KEY", help="The key of the source."),
    click.option("--source-region", metavar="REGION", help="Region of the source bucket."),
)

_how: Callable[[F], F] = apply(
    click.option(
        "--concurrency", type=click.IntRange(1, 1024), metavar="N", help="Requests at the same time."
    ),
    click.option("--part-size", type=SIZE, metavar="SIZE", help="Parts of large files; raised where needed."),
    click.option("--max-bandwidth", type=RATE, metavar="RATE", help="Bytes a second of the whole command."),
    click.option(
        "--traffic-limit", type=RATE, metavar="RATE", help="Have COS limit each request: 100KB/s to 100MB/s."
    ),
    click.option(
        "--resume/--no-resume",
        default=None,
        help="Go on with what an interrupted transfer of a large file has done (default).",
    ),
    click.option(
        "--verify",
        type=click.Choice(["auto", "full", "none"]),
        default="auto",
        help="Compare checksums in passing (auto), ask or read once more (full), or sizes only (none).",
    ),
    click.option("--fsync", is_flag=True, help="Have each downloaded file on disk before it gets its name."),
    click.option("--sparse", is_flag=True, help="Leave holes for zeros in downloaded files."),
    page_size_option,
    click.option("--fail-fast", is_flag=True, help="Stop at the first failure."),
    click.option("--error-on-no-transfer", is_flag=True, help="Exit with 9 if nothing had to be sent."),
    click.option("--report", metavar="FILE", help="Write every result to FILE, one JSON object a line."),
    click.option(
        "--progress-frequency",
        type=DURATION,
        metavar="TIME",
        help="Without a terminal: print a line of progress so often. On one: draw so often.",
    ),
    click.option(
        "--progress-multiline", is_flag=True, help="Print progress line by line, drawing over nothing."
    ),
)

common_options: Callable[[F], F] = apply(
    dryrun_option, selection_options, header_options, _what, _copies, _how, coscli_options
)


@dataclass(frozen=True, slots=True)
class Common:
    """What these options say about each transfer."""

    chosen: Chosen
    choice: HeaderChoice
    dryrun: bool
    no_overwrite: bool
    update: bool
    checksum: bool
    key_policy: str
    case_conflict: str | None
    follow_symlinks: bool
    preserve_symlinks: bool
    one_file_system: bool
    keep_dirs: bool
    force_archive_transfer: bool
    ignore_archive_warnings: bool
    metadata_directive: str | None
    copy_props: str
    source_region: str | None
    page_size: int
    move: bool
    transfer: TransferOptions

    @property
    def symlinks(self) -> str:
        """How a walk shall take symbolic links."""
        if self.preserve_symlinks:
            return "keep"
        return "follow" if self.follow_symlinks else "skip"

    @property
    def rules(self) -> Rules:
        """What at the destination makes a transfer needless."""
        from cosfs.transfer.compare import Rules

        return Rules(checksum=self.checksum, update=self.update, no_overwrite=self.no_overwrite)

    @property
    def skips_existing(self) -> bool:
        """Whether what is at the destination can make a transfer needless."""
        return self.no_overwrite or self.update or self.checksum


@dataclass(frozen=True, slots=True)
class Setup:
    """What these options say about the command as a whole."""

    settings: TransferSettings
    report: str | None
    style: Style
    fail_fast: bool
    error_on_no_transfer: bool


class CommonValues(TypedDict):
    """The fields of Common, for classes that add their own."""

    chosen: Chosen
    choice: HeaderChoice
    copy_props: str
    transfer: TransferOptions


def pop_common(ctx: click.Context, values: dict[str, Any]) -> CommonValues:
    """Turn the values that need it into fields of Common; the others in `values` are fields as they are."""
    if values["sse"] and (values["sse_c"] or values["sse_c_key"]):
        raise UsageError("--sse has COS keep the key and --sse-c does not", hint="Leave one of them out")
    if values["sse_kms_key_id"] and values["sse"] not in (None, "cos/kms"):
        raise UsageError(f"--sse-kms-key-id is for --sse cos/kms, not {values['sse']}")
    directive, props = values["metadata_directive"], values.pop("copy_props")
    if directive == "REPLACE" and props not in (None, "none"):
        raise UsageError("--metadata-directive REPLACE keeps nothing, --copy-props something")
    if directive == "COPY" and props == "none":
        raise UsageError("--metadata-directive COPY keeps metadata, --copy-props none does not")
    return {
        "chosen": pop_selection(ctx, values),
        "choice": pop_headers(values),
        "copy_props": props or "default",
        "transfer": _pop_transfer(values),
    }


def _pop_transfer(values: dict[str, Any]) -> TransferOptions:
    from cosfs.transfer.options import TransferOptions

    from .encryption import read_key

    keys = {name: values.pop(name) for name in ("sse_c", "sse_c_key")}
    sources = {name: values.pop(name) for name in ("sse_c_copy_source", "sse_c_copy_source_key")}
    return TransferOptions(
        part_size=values.pop("part_size") or 0,
        traffic_limit=values.pop("traffic_limit") or 0,
        resume=values.pop("resume"),
        verify=values.pop("verify"),
        preserve=values.pop("preserve"),
        preserve_symlinks=values["preserve_symlinks"],
        fsync=values.pop("fsync"),
        sparse=values.pop("sparse"),
        customer_key=read_key("--sse-c", *keys.values()),
        source_customer_key=read_key("--sse-c-copy-source", *sources.values()),
    )


def pop_setup(state: State, values: dict[str, Any]) -> Setup:
    """Take what concerns the command as a whole out of its options."""
    translate(state, values)
    changes = {
        "max_concurrent_requests": values["concurrency"],
        "max_small_requests": values.pop("concurrency"),
        "multipart_chunksize": values["part_size"],
        "max_bandwidth": values.pop("max_bandwidth"),
    }
    changes = {name: value for name, value in changes.items() if value}
    return Setup(
        replace(state.settings.transfer, **changes),
        values.pop("report"),
        Style(values.pop("progress_frequency"), values.pop("progress_multiline")),
        values.pop("fail_fast"),
        values.pop("error_on_no_transfer"),
    )
