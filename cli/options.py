"""Options that several commands share, and the click classes that make them work everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .output import FORMATS

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .filters import Filters
    from .selecting import Chosen
    from .state import State

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # generic only in newer releases of click

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_ORDER = "cos.option-order"
_GLOBAL_NOTE = "Global options (`cos --help` lists them) may stand before or after the command."


class ParsedType(ParamType):
    """A parameter read by a function of cosfs.units, imported when a value is there."""

    def __init__(self, name: str, parser: str) -> None:
        self.name = name
        self._parser = parser

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from cosfs import units

        if not isinstance(value, str):
            return value  # a default, already of the right type
        try:
            return getattr(units, self._parser)(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


SIZE = ParsedType("size", "parse_size")
RATE = ParsedType("rate", "parse_rate")
DURATION = ParsedType("duration", "parse_duration")
MOMENT = ParsedType("age or date", "parse_moment")


class UrlType(ParamType):
    """A `cos://bucket/key`; needs says which parts must be there."""

    name = "cos_url"

    def __init__(self, *, bucket: bool = True, key: bool = False) -> None:
        self._bucket = bucket
        self._key = key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> CosUrl:
        from cosfs.client.url import CosUrl
        from cosfs.errors import UsageError

        if isinstance(value, CosUrl):
            return value
        url = parse_cos_url(value)
        if self._bucket and not url.bucket:
            raise UsageError(f"{value}: a bucket is missing", hint="Write cos://bucket")
        if self._key and not url.key:
            raise UsageError(f"{value}: an object is missing", hint="Write cos://bucket/key")
        return url

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        from .completing import urls

        return urls(ctx, param, incomplete)


def complete_places(ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
    """Offer files, or for a cos:// URL what is in COS."""
    from .completing import places

    return places(ctx, param, incomplete)


def meant_url(text: str) -> str:
    """Guess which cos:// URL was meant: an object's address, s3://b/k, cos:/b/k, b:k as of rclone, b/k."""
    scheme, found, rest = text.partition("://")
    if scheme in ("http", "https"):
        from urllib.parse import unquote

        host, _, path = rest.partition("?")[0].partition("/")
        rest = f"{host.partition('.cos')[0]}/{unquote(path)}"
    elif not found:
        bucket, slash, key = text.removeprefix("cos:").lstrip("/").partition("/")
        rest = bucket.replace(":", "/", 1) + slash + key
    return f"cos://{rest.rstrip('/')}"


def parse_cos_url(text: str) -> CosUrl:
    """Read a cos:// URL; say what is wrong with anything else."""
    from cosfs.client.url import is_cos_url, parse_url
    from cosfs.errors import UsageError

    if not is_cos_url(text):
        raise UsageError(f"{text!r} is not a COS URL", hint=f"Did you mean {meant_url(text)}?")
    try:
        return parse_url(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


BUCKET_URL = UrlType()
OBJECT_URL = UrlType(key=True)
ANY_URL = UrlType(bucket=False)


# --- global options


def _store(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    state: State | None = ctx.find_root().obj
    if value is None or state is None:
        return
    state.set_option(str(param.name), value)


def _version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        print_version(ctx)


def print_version(ctx: click.Context) -> None:
    """Print the version and end."""
    from cosfs import __version__

    click.echo(f"cos {__version__}")
    ctx.exit()


def _option(*names: str, **attributes: Any) -> click.Option:
    attributes.setdefault("callback", _store)
    return click.Option(names, expose_value=False, **attributes)


def _flag(*names: str, **attributes: Any) -> click.Option:
    return _option(*names, is_flag=True, default=None, **attributes)


GLOBAL_OPTIONS: tuple[click.Option, ...] = (
    _option("--profile", metavar="NAME", help="Profile of ~/.cos/config and ~/.cos/credentials to use."),
    _option("--region", metavar="REGION", help="Region, such as ap-guangzhou."),
    _option("--output", type=click.Choice(FORMATS), help="Format of results."),
    _option("--endpoint-url", metavar="URL", help="Talk to this server instead of the real service."),
    _flag("--no-verify-ssl", help="Do not verify TLS certificates (warns each time)."),
    _option("--ca-bundle", metavar="FILE", help="CA certificates to trust instead of the system's."),
    _flag("--debug", help="Show every request and, on an error, where it came from."),
    _flag("--quiet", "-q", help="Print nothing but asked-for data; the exit code tells."),
    _flag("--only-show-errors", help="Print errors and warnings, no result lines."),
    _flag("--no-progress", help="Draw no progress display."),
    _option("--secret-id", metavar="ID", help="SecretId (better: COS_SECRET_ID or a profile)."),
    _option("--secret-key", metavar="KEY", help="SecretKey (better: COS_SECRET_KEY or a profile)."),
    _option("--session-token", "--token", metavar="TOKEN", help="Token of temporary credentials."),
    _option("--mfa-code", metavar="DIGITS", help="Code of the MFA device that a role asks for."),
    _flag("--no-sign-request", help="Send requests without credentials (public buckets)."),
    _option("--proxy", metavar="URL", help="HTTP proxy; default from HTTPS_PROXY and NO_PROXY."),
    _option("--connect-timeout", type=DURATION, metavar="TIME", help="Longest wait for a connection."),
    _option("--read-timeout", type=DURATION, metavar="TIME", help="Longest wait for the next bytes."),
    _option("--max-retries", type=click.IntRange(0, 100), metavar="N", help="Tries after the first."),
    _option("--color", type=click.Choice(["auto", "on", "off"]), help="Colours; honours NO_COLOR."),
    _option("--config-file", metavar="FILE", help="Settings file instead of ~/.cos/config."),
    _flag("--version", is_eager=True, callback=_version, help="Print the version."),
)


class Command(click.Command):
    """A command that takes the global options too and remembers the order of its options.

    The order matters to --include and --exclude alone: of several that match, the last one wins.
    """

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.context_settings = {**CONTEXT, **self.context_settings}
        self.params = [*self.params, *GLOBAL_OPTIONS]

    def invoke(self, ctx: click.Context) -> Any:
        state: State = ctx.find_root().obj
        state.context = ctx
        state.start_logging()
        return super().invoke(ctx)

    def make_parser(self, ctx: click.Context) -> Any:
        parser = super().make_parser(ctx)
        if "-r" in parser._short_opt:
            # Other programs, and the shell's, write either; no help shows it.
            parser._short_opt.setdefault("-R", parser._short_opt["-r"])
        parse = parser.parse_args

        def parse_and_remember(args: list[str]) -> Any:
            try:
                values, rest, order = parse([*args])
            except click.NoSuchOption as error:
                raise _as_written(error, args) from None
            ctx.meta[_ORDER] = [param.name for param in order]
            return values, rest, order

        parser.parse_args = parse_and_remember  # type: ignore[method-assign]
        return parser

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        format_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(_GLOBAL_NOTE)


def _as_written(error: click.NoSuchOption, args: list[str]) -> click.NoSuchOption:
    """Name the whole word behind one dash (-name), where click knows only its first letter (-n)."""
    if len(error.option_name) == 2:
        known = {name for param in error.ctx.command.params for name in param.opts} if error.ctx else set()
        words = (arg.partition("=")[0] for arg in args)
        whole = next((word for word in words if len(word) > 2 and f"-{word}" in known), None)
        if whole is not None:
            return click.NoSuchOption(whole, ctx=error.ctx)
    return error


class CommandGroup(click.Group):
    """A command with sub-commands of its own, such as `configure`."""

    command_class = Command

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.context_settings = {**CONTEXT, **self.context_settings}
        self.params = [*self.params, *GLOBAL_OPTIONS]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0].startswith("cos://") and not ctx.resilient_parsing:
            names = ", ".join(self.list_commands(ctx))
            raise click.UsageError(f"say before {args[0]} what to do with it: {names}", ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        # Whole sentences: click cuts them off at the width of the screen.
        rows = [
            (name, each.get_short_help_str(limit=1000))
            for name, each in found
            if each is not None and not each.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        formatter.write_paragraph()
        formatter.write_text(_GLOBAL_NOTE)


def format_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter, *, globals_too: bool = False
) -> None:
    """Write the options of a command; the global ones, the same everywhere, only if asked."""
    records = []
    for param in command.get_params(ctx):
        if isinstance(param, click.Option) and (globals_too or param not in GLOBAL_OPTIONS):
            record = param.get_help_record(ctx)
            if record is not None:
                records.append(record)
    if records:
        with formatter.section("Options"):
            formatter.write_dl(records)


def command(
    name: str, cls: type[Command] = Command, **attributes: Any
) -> Callable[[Callable[..., Any]], Command]:
    """Declare a command of `cos`."""
    return click.command(name, cls=cls, **attributes)


def group(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], CommandGroup]:
    """Declare a command of `cos` that has sub-commands."""
    return click.group(name, cls=CommandGroup, **attributes)


class RenamedOption(click.Option):
    """An option that also answers to the names it has in coscli, which no help shows."""

    def __init__(self, names: Sequence[str], *, coscli: Sequence[str], **attributes: Any) -> None:
        super().__init__([*names, *coscli], **attributes)
        self._coscli = set(coscli)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        names = self.opts
        self.opts = [name for name in names if name not in self._coscli]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = names


def apply(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Put several decorators into one, keeping their order in the help."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


# --- options of several commands

recursive_option = click.option(
    "--recursive", "-r", is_flag=True, help="Everything below the prefix or directory."
)
dryrun_option = click.option("--dryrun", "-n", "--dry-run", is_flag=True, help="Only say what would be done.")
page_size_option = click.option(
    "--page-size",
    type=click.IntRange(1, 1000),
    default=1000,
    show_default=True,
    help="Keys per list request.",
)

filter_options = apply(
    click.option(
        "--include",
        multiple=True,
        metavar="PATTERN",
        help="Take what matches. Shell pattern against the path below the source; * matches / too. "
        "Of several filters the last that matches wins; if the first is an --include, all else is left out.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Leave out what matches. 'sub' is not what is in sub: write 'sub/*'. 'a.txt' is not sub/a.txt:"
        " write '*a.txt'.",
    ),
    click.option("--include-from", multiple=True, metavar="FILE", help="One --include pattern a line."),
    click.option("--exclude-from", multiple=True, metavar="FILE", help="One --exclude pattern a line."),
)


selection_options = apply(
    filter_options,
    click.option("--min-size", type=SIZE, metavar="SIZE", help="Take nothing smaller."),
    click.option("--max-size", type=SIZE, metavar="SIZE", help="Take nothing larger."),
    click.option(
        "--newer-than", type=MOMENT, metavar="AGE|DATE", help="Take what was changed later: 7d, 2026-01-31."
    ),
    click.option("--older-than", type=MOMENT, metavar="AGE|DATE", help="Take what was changed earlier."),
    click.option(
        "--files-from",
        multiple=True,
        metavar="FILE|-",
        help="Take only what this file lists, one path below the source a line; of a --report, what failed.",
    ),
    click.option(
        "--files-from0", multiple=True, metavar="FILE|-", help="The same, each path ended by a NUL byte."
    ),
)


def pop_filters(ctx: click.Context, options: dict[str, Any]) -> Filters:
    """Take --include and --exclude out of a command's options, in the order of the command line."""
    from .filters import Filters

    values = {
        name: iter(options.pop(name)) for name in ("include", "exclude", "include_from", "exclude_from")
    }
    rules: list[tuple[bool, str]] = []
    for name in ctx.meta.get(_ORDER, ()):
        if name in values:
            including = name.startswith("include")
            value = next(values[name])
            patterns = _pattern_file(value) if name.endswith("_from") else [value]
            for pattern in patterns:
                rules.append((including, pattern))
                _doubt(ctx, including, pattern)
    if options.pop("only_top", False):
        rules.append((False, "*/*"))
    return Filters(rules)


def _doubt(ctx: click.Context, including: bool, pattern: str) -> None:
    """Warn of a pattern as other programs have it: with --delete, what it was to protect would go."""
    from .filters import meant_by

    if meant := meant_by(pattern):
        state: State = ctx.find_root().obj
        option = "--include" if including else "--exclude"
        state.out.warn(
            f"{option} {pattern!r} matches no file: it is compared with paths below the source,"
            f" such as 'dir/file'. Did you mean {meant!r}?",
            once=True,
        )


def pop_selection(ctx: click.Context, options: dict[str, Any]) -> Chosen:
    """Take all options that choose what of a source is taken out of a command's options."""
    from .filters import Selection
    from .selecting import Chosen, read_names

    filters = pop_filters(ctx, options)
    limits = {name: options.pop(name) for name in ("min_size", "max_size", "newer_than", "older_than")}
    files = [(name, b"\n") for name in options.pop("files_from")]
    files += [(name, b"\0") for name in options.pop("files_from0")]
    entries = [entry for name, end in files for entry in read_names(name, end)] if files else None
    return Chosen(Selection(filters, **limits), entries)


def _pattern_file(name: str) -> Sequence[str]:
    from cosfs.errors import UsageError

    try:
        lines = Path(name).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(f"cannot read the patterns in {name}: {reason}") from None
    return [line for line in lines if line and not line.startswith("#")]
