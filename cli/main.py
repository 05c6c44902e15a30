"""The program: its commands, the one place where errors become a sentence and an exit code."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from .options import CONTEXT, GLOBAL_OPTIONS, format_options, print_version
from .output import Output, StdoutClosedError, printable
from .state import State
from .title import hide_secrets

if TYPE_CHECKING:
    # Never run: commands are loaded by name when called, so that `cos --help` imports none of them.
    # These lines show a frozen build and the import checks which modules the table below means.
    from . import (  # noqa: F401
        api,
        bench,
        bucket_settings,
        cache,
        cat,
        check,
        completion,
        configure,
        cp,
        diff,
        doctor,
        du,
        emulator,
        find,
        hash,
        head,
        interrupted,
        ls,
        mb,
        mount,
        multipart,
        mv,
        object_settings,
        presign,
        rb,
        recover,
        refresh,
        restore,
        rm,
        stat,
        stats,
        status,
        sync,
        token,
        tree,
        umount,
        undelete,
        whoami,
    )
    from . import run as run_command  # noqa: F401

USAGE = 252
OTHER = 255
INTERRUPTED = 130
STDOUT_CLOSED = 141


class Entry(NamedTuple):
    """A command as `cos --help` shows it."""

    section: str
    module: str
    help: str
    hidden: bool = False
    command: str = ""  # in the module, if it is not called like it


def _setting(name: str, text: str) -> Entry:
    return Entry("Bucket settings", "bucket_settings", text, command=name)


COMMANDS: dict[str, Entry] = {
    "ls": Entry("Objects", "ls", "List buckets, prefixes and objects."),
    "cp": Entry("Objects", "cp", "Copy files and objects: up, down, or between buckets."),
    "mv": Entry("Objects", "mv", "Move files and objects."),
    "sync": Entry("Objects", "sync", "Make a tree like another one, sending what differs."),
    "run": Entry("Objects", "run", "Run many commands out of a file at the same time."),
    "check": Entry("Objects", "check", "Compare two trees, wherever they are."),
    "rm": Entry("Objects", "rm", "Remove objects."),
    "cat": Entry("Objects", "cat", "Write objects to standard output."),
    "head": Entry("Objects", "head", "Write the first lines of objects."),
    "tail": Entry("Objects", "head", "Write the last lines of objects.", command="tail"),
    "find": Entry("Objects", "find", "Find objects by name, size, age or class."),
    "tree": Entry("Objects", "tree", "Draw what is below a prefix as a tree."),
    "diff": Entry("Objects", "diff", "Show how two texts, or two trees, differ."),
    "undelete": Entry("Objects", "undelete", "Bring removed or overwritten objects back."),
    "restore": Entry("Objects", "restore", "Make archived objects readable for some days."),
    "stat": Entry("Objects", "stat", "Show all that COS knows of an object or a bucket."),
    "du": Entry("Objects", "du", "Add up sizes below a prefix."),
    "meta": Entry("Objects", "object_settings", "Headers and metadata of an object.", command="meta"),
    "tag": Entry("Objects", "object_settings", "Tags of an object.", command="tag"),
    "acl": Entry("Objects", "object_settings", "Who may do what with an object.", command="acl"),
    "symlink": Entry("Objects", "object_settings", "Links of COS from key to key.", command="symlink"),
    "retention": Entry("Objects", "object_settings", "Lock an object until a date.", command="retention"),
    "presign": Entry("Objects", "presign", "Make a URL that works without credentials for a while."),
    "hash": Entry("Objects", "hash", "Print checksums of files and objects."),
    "multipart": Entry("Objects", "multipart", "List and abort unfinished multipart uploads."),
    "jobs": Entry(
        "Objects", "interrupted", "Show, resume and clean up interrupted transfers.", command="jobs"
    ),
    "mb": Entry("Buckets", "mb", "Make a bucket."),
    "rb": Entry("Buckets", "rb", "Remove a bucket."),
    "lifecycle": _setting("lifecycle", "Other storage or removal after a time."),
    "policy": _setting("policy", "Who may do what, as a policy."),
    "cors": _setting("cors", "Which web pages of other sites may use it."),
    "versioning": _setting("versioning", "Whether old versions are kept."),
    "logs": _setting("logs", "Where the log of all requests goes."),
    "tagging": _setting("tagging", "Tags of the bucket."),
    "encryption": _setting("encryption", "Encryption of new objects."),
    "inventory": _setting("inventory", "Lists of all objects, made regularly."),
    "replication": _setting("replication", "Copies in another bucket or region."),
    "referer": _setting("referer", "Which pages may link to objects."),
    "website": _setting("website", "Serve it as a website."),
    "accelerate": _setting("accelerate", "Global acceleration."),
    "domain": _setting("domain", "Domains of yours, and their certificates."),
    "origin": _setting("origin", "Where missing objects come from."),
    "bucket-acl": _setting("bucket-acl", "Who may do what, as a list."),
    "intelligent-tiering": _setting("intelligent-tiering", "Cheaper storage for what nobody reads."),
    "object-lock": _setting("object-lock", "Objects that cannot be removed for a while."),
    "mount": Entry("Filesystem", "mount", "Mount buckets as a directory."),
    "umount": Entry("Filesystem", "umount", "Unmount, after everything is uploaded."),
    "status": Entry("Filesystem", "status", "Show what is mounted and what is pending."),
    "recover": Entry("Filesystem", "recover", "Bring to COS what a mount that died has left."),
    "stats": Entry("Filesystem", "stats", "Show what a mount is doing just now."),
    "refresh": Entry("Filesystem", "refresh", "See at once what others changed in COS."),
    "cache": Entry("Filesystem", "cache", "Show, fill, check and empty the cache of mounts."),
    "configure": Entry("Setup", "configure", "Write, read and list settings and credentials."),
    "whoami": Entry("Setup", "whoami", "Show whose credentials are used and until when."),
    "token": Entry("Setup", "token", "Make temporary credentials that may do less."),
    "doctor": Entry("Setup", "doctor", "Check settings, network, credentials and FUSE."),
    "bench": Entry("Setup", "bench", "Measure the way to a bucket and suggest settings."),
    "api": Entry("Setup", "api", "Make any one call of the API."),
    "completion": Entry("Setup", "completion", "Print the completion script of a shell."),
    "emulator": Entry("Setup", "emulator", "Serve COS from a directory on this machine."),
    "config": Entry("Setup", "configure", "Same as configure.", hidden=True),
    "lsparts": Entry("Objects", "multipart", "Same as multipart ls.", hidden=True, command="uploads"),
    "abort": Entry("Objects", "multipart", "Same as multipart abort.", hidden=True, command="abort"),
    "lsdu": Entry("Objects", "du", "Same as du --depth 1.", hidden=True, command="lsdu"),
    **{
        f"bucket-{name}": Entry(
            "Bucket settings", "bucket_settings", f"Same as {name}.", hidden=True, command=name
        )
        for name in ("versioning", "tagging", "policy", "encryption")
    },
    "object-acl": Entry("Objects", "object_settings", "Same as acl.", hidden=True, command="acl"),
    "object-tagging": Entry("Objects", "object_settings", "Same as tag.", hidden=True, command="tag"),
    "signurl": Entry("Objects", "presign", "Same as presign.", hidden=True),
}


class Program(click.Group):
    """The group `cos`: knows the names and one-line helps of its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in COMMANDS.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f".{entry.module}", __package__)
        found = getattr(module, entry.command or entry.module)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "help":
            if not args[1:]:
                click.echo(ctx.get_help())
                ctx.exit()
            args = [*args[1:], "--help"]
        if args[0] == "version":
            print_version(ctx)
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(_unknown_command(args[0]), ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        format_options(self, ctx, formatter, globals_too=True)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in COMMANDS.items():
            if not entry.hidden:
                sections.setdefault(entry.section, []).append((name, entry.help))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows, col_max=20)


def _unknown_command(name: str) -> str:
    import difflib

    from .elsewhere import command_hint

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    close = f"did you mean 'cos {near[0]}'?" if near else "'cos --help' lists all commands"
    hint = command_hint(name) or close
    return f"there is no command {printable(name)!r}; {hint}"


cos = Program(
    "cos",
    params=list(GLOBAL_OPTIONS),
    context_settings=CONTEXT,
    no_args_is_help=True,
    help="Work with Tencent Cloud Object Storage (COS) as with files.\n\n"
    "Objects are written cos://bucket/key. Options may stand before or after the command; "
    "'cos COMMAND --help' explains a command.",
)


def main() -> NoReturn:
    """Run the program and end the process with its exit code."""
    _take_names_as_utf8()
    _collect_less_often()
    _open_missing_streams()
    keeping = "surrogateescape"  # names need not be UTF-8
    for stream, errors in (
        (sys.stdin, keeping), (sys.stdout, keeping), (sys.stderr, "backslashreplace")
    ):  # fmt: skip
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors=errors)
    hide_secrets("cos", sys.argv[1:])
    if "_COS_COMPLETE" in os.environ:
        from .completing import register

        register()
    state = State()
    state.own_process = True
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see start.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run(sys.argv[1:], state)
    _leave(code)


def _take_names_as_utf8() -> None:
    """Begin anew where the locale has another encoding: keys must not depend on who runs the command.

    A sync from a job without the user's locale would otherwise upload all again under other names. Only the
    start of the interpreter decides what names are decoded with.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _collect_less_often() -> None:
    """Look for cycles rarely: imports alone would cause a hundred searches that find nothing."""
    gc.set_threshold(100_000)


def _open_missing_streams() -> None:
    """Open what was closed by `>&-`: a socket must not get number 1 or 2 and be written to.

    Reading the standard input there is not fails: it is not the same as an empty one. So does writing data
    where nobody gets it; what only tells of work that is done is left out.
    """
    Output.no_stdout = sys.stdout is None
    null = os.O_WRONLY, os.O_RDONLY, os.O_RDWR
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, null[number]), mode))
            assert getattr(sys, name).fileno() == number


def _leave(code: int) -> NoReturn:
    """End now: a request that is still blocked in a worker thread must not keep the process."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = STDOUT_CLOSED if stream is sys.stdout and code == 0 else code
    os._exit(code)


def run(args: Sequence[str], state: State | None = None) -> int:
    """Run one command line in this process; return its exit code and let no exception out."""
    state = state or State()
    streams = sys.stdout, sys.stderr
    try:
        result = cos.main(list(args), prog_name="cos", standalone_mode=False, obj=state)
        state.out.flush()
        return result if isinstance(result, int) else 0
    except BaseException as error:
        if sys.stdout is streams[0]:
            return tell(state, error)
        # click, which prints helps by itself, has put others there and gives up with 1: nobody reads.
        sys.stdout, sys.stderr = streams
        return tell(state, StdoutClosedError())
    finally:
        state.close()


def tell(state: State, raised: BaseException) -> int:
    """Tell one error in one sentence; return the exit code."""
    from cosfs.errors import COSError

    error = _innermost(raised)
    if isinstance(error, StdoutClosedError):
        _discard_stdout()
        return STDOUT_CLOSED
    if isinstance(error, KeyboardInterrupt | click.Abort):
        if isinstance(error, click.Abort) and error.__cause__ is None and sys.stderr.isatty():
            state.out.end_line()  # behind the prompt and the terminal's ^C
        state.out.error("interrupted")
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else OTHER
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        state.out.failure(error.format_message())
        return USAGE
    if isinstance(error, click.ClickException):
        state.out.error(_usage_text(error), always=True)
        return USAGE
    if state.debug:
        import traceback

        state.out.error(_without_secrets(state, "".join(traceback.format_exception(raised)).rstrip()))
    if isinstance(error, COSError):
        state.out.error(printable(str(error)), always=error.exit_code == USAGE)
        return error.exit_code
    state.out.error(_without_secrets(state, _unforeseen_text(error, state.debug)))
    return OTHER


def _without_secrets(state: State, text: str) -> str:
    """Take out of what nobody foresaw whatever looks like a secret."""
    from cosfs.client.redaction import redacted

    return redacted(text, state.secrets)


def _innermost(error: BaseException) -> BaseException:
    """Take the error that matters out of the groups that trio's nurseries put around it."""
    while isinstance(error, BaseExceptionGroup):
        ranked = sorted(error.exceptions, key=_rank)
        error = ranked[0]
    return error


def _rank(error: BaseException) -> int:
    if isinstance(error, BaseExceptionGroup):
        return min(_rank(each) for each in error.exceptions)
    kinds: tuple[Any, ...] = (KeyboardInterrupt, StdoutClosedError, Exception)
    return next((place for place, kind in enumerate(kinds) if isinstance(error, kind)), len(kinds))


def _unknown_option(error: click.NoSuchOption) -> str:
    import difflib

    from .elsewhere import option_hint

    name = error.option_name
    params = error.ctx.command.params if error.ctx is not None else []
    options = [param for param in params if isinstance(param, click.Option)]
    known = [each for param in options for each in (*param.opts, *param.secondary_opts)]
    command = error.ctx.command.name if error.ctx is not None else ""
    hint = option_hint(command or "", name, known)
    if hint:
        return f"no such option {name!r}; {hint}"
    # find(1) and Go write one dash before a whole word, ls(1) and grep(1) -R for -r.
    same = [each for each in (f"-{name}", name.swapcase()) if each in known]
    near = same or difflib.get_close_matches(name, known, n=1)
    return f"no such option {name!r}{f'; did you mean {near[0]}?' if near else ''}"


def _usage_text(error: click.ClickException) -> str:
    said = _unknown_option(error) if isinstance(error, click.NoSuchOption) else error.format_message()
    text = " ".join(said.split()).rstrip(".")  # click puts each choice on a line
    text = text[:1].lower() + text[1:]
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{printable(text)} (see '{error.ctx.command_path} --help')"
    return printable(text)


def _unforeseen_text(error: BaseException, debug: bool) -> str:
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}. Raise the limit (ulimit -n), or lower cos.max_concurrent_requests"
    if isinstance(error, FileNotFoundError) and not error.filename and _is_nowhere():
        return "the current directory does not exist any more. Change to another one"
    if isinstance(error, OSError) and error.strerror:
        where = f"{printable(str(error.filename))}: " if error.filename else ""
        return f"{where}{error.strerror}"
    hint = "" if debug else "; run it again with --debug to see where"
    detail = printable(str(error))
    return f"unexpected error: {type(error).__name__}{': ' if detail else ''}{detail}{hint}"


def _is_nowhere() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - Path.cwd() does the same
    except FileNotFoundError:
        return True
    return False


def _discard_stdout() -> None:
    """Let the interpreter's last flush go nowhere instead of failing a second time."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass
