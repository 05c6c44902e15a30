"""`cos mount`: buckets as a directory. Options may also come as `-o key=value,…`, as mount(8) passes them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import ANY_URL, DURATION, GLOBAL_OPTIONS, SIZE, Command, ParamType, command
from .output import printable

if TYPE_CHECKING:
    from cosfs.client.url import CosUrl

    from .state import State

# For mount(8), systemd and whoever may mount; they mean nothing to a filesystem.
_IGNORED = frozenset(
    {"_netdev", "nofail", "user", "users", "nouser", "owner", "group", "auto", "noauto", "defaults", "rw",
     "comment", "async", "nosync", "default_permissions", "relatime", "norelatime", "strictatime",
     "diratime", "nodiratime", "iversion", "noiversion", "mand", "nomand", "lazytime", "nolazytime", "silent",
     "loud"}
)  # fmt: skip
# Passed on to libfuse.
_KERNEL = frozenset(
    {"nosuid", "nodev", "noexec", "noatime", "suid", "dev", "exec", "atime", "sync", "dirsync", "allow_root",
     "auto_unmount"}
)  # fmt: skip
# Another name for one of our own options.
_SPELLINGS = {"ro": "read-only", "fmode": "file-mode", "dmode": "dir-mode"}
_LOGS = ("stderr", "syslog", "journald")
_NOT_IN_UNITS = frozenset({"print_unit", "foreground", "mount_options"})
_KEPT_IN_UNITS = ("profile", "region", "endpoint_url", "config_file", "ca_bundle", "proxy")
_COMMA = re.compile(r"(?<!\\),")


class MountpointType(click.Path):
    """A path that is not looked at: what is mounted there may be dead or may never answer."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(value)


class OctalType(ParamType):
    """Permission bits in octal."""

    name = "mode"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"(0o)?[0-7]{1,4}", value):
            self.fail(f"{value!r} is not an octal mode such as 0644", param, ctx)
        return int(value.removeprefix("0o"), 8)


class OwnerType(ParamType):
    """A user or group, by number or name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        import grp
        import pwd

        if isinstance(value, int):
            return value
        if value.isascii() and value.isdigit():
            return int(value)
        try:
            return pwd.getpwnam(value).pw_uid if self.name == "user" else grp.getgrnam(value).gr_gid
        except KeyError:
            self.fail(f"there is no {self.name} {value!r}", param, ctx)


class ReserveType(ParamType):
    """Space to leave free: a size or a share."""

    name = "size|P%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from cosfs.errors import UsageError
        from cosfs.fs.reserve import Reserve

        if isinstance(value, Reserve):
            return value
        try:
            return Reserve.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class MomentType(ParamType):
    """A point in time that has passed: an age, with or without "ago", or a date."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from cosfs.units import parse_moment

        if isinstance(value, float):
            return value
        try:
            moment = parse_moment(value.strip().removesuffix("ago"))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if moment > time.time():
            self.fail(f"{value} has not been yet", param, ctx)
        return moment


class MountCommand(Command):
    """Turns `-o key=value,…` into the options of the same names, so that both are checked alike."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, self._expanded(args))

    def _expanded(self, args: list[str]) -> list[str]:
        flags = {
            name.removeprefix("--"): param.is_flag
            for param in (*self.params, *GLOBAL_OPTIONS)
            if isinstance(param, click.Option)
            for name in param.opts
            if name.startswith("--")
        }
        result: list[str] = []
        pending = iter(args)
        for arg in pending:
            if arg == "--":
                return [*result, arg, *pending]
            if arg == "-o":
                result += expand_options(next(pending, ""), flags)
            elif arg.startswith("-o") and not arg.startswith("--"):
                result += expand_options(arg[2:], flags)
            else:
                result.append(arg)
        return result


def expand_options(text: str, flags: dict[str, bool]) -> list[str]:
    """Return `key=value,…` as command-line options; `\\,` is a comma inside a value.

    flags says for each option of ours, by its long name, whether it is a switch.
    """
    from cosfs.errors import UsageError

    result: list[str] = []
    for item in _COMMA.split(text):
        key, found, value = item.strip().replace("\\,", ",").partition("=")
        if not key or key in _IGNORED or key.startswith(("x-", "X-")):
            continue
        if key in _KERNEL:
            result += ["--fuse-option", key]
            continue
        if key == "remount":
            raise UsageError(
                "the options of a mount cannot be changed",
                hint="Unmount it and mount it again; 'mount -i -o remount,ro DIR' switches between ro and rw",
            )
        name = _SPELLINGS.get(key, key.replace("_", "-"))
        if name not in flags:
            raise UsageError(f"there is no mount option {key!r}", hint="'cos mount --help' lists them")
        if flags[name] and found:
            raise UsageError(f"the mount option {key!r} takes no value")
        if not flags[name] and not found:
            raise UsageError(f"the mount option {key!r} needs a value", hint=f"Write {key}=VALUE")
        result.append(f"--{name}={value}" if found else f"--{name}")
    return result


@command("mount", cls=MountCommand)
@click.argument("source", type=ANY_URL, metavar="cos://[BUCKET[/PREFIX]]")
@click.argument("mountpoint", type=MountpointType(), metavar="MOUNTPOINT")
@click.option("--foreground", "-f", is_flag=True, help="Stay in this terminal; Ctrl-C unmounts.")
@click.option("--read-only", is_flag=True, help="Refuse every change.")
@click.option(
    "--as-of",
    type=MomentType(),
    metavar="TIME",
    help="Show it as it was: '2h ago', 7d, 2026-01-31T08:00; read-only.",
)
@click.option("--allow-other", is_flag=True, help="Let other users in too.")
@click.option(
    "--uid", type=OwnerType("user"), metavar="USER", help="Owner of what carries none; default: you."
)
@click.option("--gid", type=OwnerType("group"), metavar="GROUP", help="Group of what carries none.")
@click.option(
    "--umask", type=OctalType(), metavar="MODE", help="Permissions taken away from what carries none."
)
@click.option("--file-mode", type=OctalType(), metavar="MODE", help="Mode of files that carry none.")
@click.option("--dir-mode", type=OctalType(), metavar="MODE", help="Mode of directories that carry none.")
@click.option(
    "--cache-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where blocks and unsent files are."
)
@click.option("--cache-size", type=SIZE, metavar="SIZE", help="Room for blocks; default 10GB.")
@click.option(
    "--cache-reserve",
    type=ReserveType(),
    metavar="SIZE|P%",
    help="What the cache leaves free on its disk; default 5%, 512MB to 10GB.",
)
@click.option("--block-size", type=SIZE, metavar="SIZE", help="Unit of the cache; default 1MB.")
@click.option("--readahead", type=SIZE, metavar="SIZE", help="Fetched ahead of readers; default 64MB.")
@click.option(
    "--prefetch",
    type=SIZE,
    metavar="SIZE",
    help="Fetch files up to this size whole when random reads wait long; default a quarter of the cache.",
)
@click.option(
    "--metadata-ttl", type=DURATION, metavar="TIME", help="How long names are believed; default 5s."
)
@click.option(
    "--attributes",
    type=click.Choice(["full", "listing"]),
    help="full: modes, owners and times as stored; listing: no request for them.",
)
@click.option(
    "--write-back",
    type=click.Choice(["close", "async"]),
    help="close: close() waits until COS has the file; async: until the local journal has it.",
)
@click.option(
    "--io-timeout",
    type=DURATION,
    metavar="TIME",
    help="How long a call waits while nothing comes of it; default 60s.",
)
@click.option(
    "--max-pending",
    type=SIZE,
    metavar="SIZE",
    help="async: writers wait while more than this is closed and not sent; default: what the disk holds.",
)
@click.option(
    "--retry-max",
    type=DURATION,
    metavar="TIME",
    help="Longest pause between two tries to send what failed; default 5m.",
)
@click.option("--part-size", type=SIZE, metavar="SIZE", help="Parts of large files.")
@click.option("--concurrency", type=click.IntRange(1, 1024), metavar="N", help="Requests at the same time.")
@click.option(
    "-o", "mount_options", metavar="OPTIONS", multiple=True, help="Options as in /etc/fstab: ro,umask=022,…"
)
@click.option("--fsname", metavar="NAME", help="Source in the table of mounts; default: as given here.")
@click.option("--fuse-option", "fuse_options", multiple=True, hidden=True)
@click.option(
    "--metrics", metavar="[ADDRESS:]PORT", help="Serve metrics for Prometheus there; loopback only."
)
@click.option("--metrics-remote", is_flag=True, help="Let --metrics be an address that others can reach.")
@click.option(
    "--log",
    "log",
    metavar="WHERE",
    help="stderr, syslog, journald or a file; default: stderr in the foreground, else ~/.cos/log.",
)
@click.option("--log-file", type=click.Path(path_type=Path), metavar="FILE", help="Write the log there.")
@click.option("--log-size", type=SIZE, metavar="SIZE", help="Rotate the log file then; default 50MB.")
@click.option("--log-keep", type=click.IntRange(0, 1000), metavar="N", help="Rotated log files; default 3.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Default: info.")
@click.option(
    "--print-unit", is_flag=True, help="Mount nothing; print a systemd service that does, as told here."
)
@click.pass_obj
def mount(
    state: State,
    /,
    source: CosUrl,
    mountpoint: Path,
    mount_options: tuple[str, ...],
    print_unit: bool,
    **values: Any,
) -> int:
    """Mount all buckets (cos://), one bucket or what is below a prefix.

    Returns when the directory can be used. The mount then lives on its own until `cos umount`.

    \b
    Examples:
      cos mount cos:// /mnt/cos
      cos mount cos://bucket/data ~/data --read-only
      cos mount cos://bucket /srv/b -o allow_other,umask=022
      cos mount cos://bucket ~/yesterday --as-of '1d ago'
    In /etc/fstab (with mount.cosfs in /sbin):
      cos://bucket /srv/b cosfs _netdev,nofail,allow_other 0 0
    """
    from dataclasses import fields

    from cosfs.errors import UsageError
    from cosfs.fuse.mount import mount as mount_filesystem
    from cosfs.fuse.settings import MountSettings

    if print_unit:
        _print_unit(state, source, mountpoint)
        return 0
    if values["log"] and values["log"] not in _LOGS:
        if values["log_file"]:
            raise UsageError("--log and --log-file name two files")
        values |= {"log": None, "log_file": Path(values["log"])}
    prefix = source.key if not source.key or source.key.endswith("/") else f"{source.key}/"
    known = {field.name for field in fields(MountSettings)}
    # Not `in (None, False, ())`: 0 equals False, and --umask 0 or --metadata-ttl 0 are meant.
    given = {
        name: value
        for name, value in values.items()
        if name in known and value is not None and value is not False and value != ()
    }
    mount_settings = MountSettings(
        bucket=source.bucket, prefix=prefix, mountpoint=mountpoint, debug=state.debug, **given
    )
    # The client is made by the process that serves: connections and threads do not survive a fork.
    code = mount_filesystem(state.settings, mount_settings, state.make_client)
    if not mount_settings.foreground:
        state.out.talk(f"{source} is mounted on {printable(str(mountpoint))}; end it with cos umount")
    return code


def _print_unit(state: State, source: CosUrl, mountpoint: Path) -> None:
    """Print a service with the options of this command line; of global ones those that are no secrets."""
    import shutil
    import sys

    from cosfs.fuse.registry import absolute
    from cosfs.fuse.supervisor import unit

    assert state.context is not None
    place = absolute(mountpoint)
    words: list[str] = []
    for param in state.context.command.params:
        given = state.context.params.get(param.name or "")
        if not isinstance(param, click.Option) or param.name in _NOT_IN_UNITS:
            continue
        if given is None or given is False or given == ():
            continue
        if param.is_flag:
            words.append(param.opts[0])
        else:
            each = given if param.multiple else (given,)
            words += [f"{param.opts[0]}={_said(param, value)}" for value in each]
    kept = {name: state.options[name] for name in _KEPT_IN_UNITS if state.options.get(name)}
    words += [f"--{name.replace('_', '-')}={value}" for name, value in kept.items()]
    program = shutil.which("cos") or str(Path(sys.argv[0]).absolute())
    text = unit(program, [*words, "--", str(source), str(place)], str(source), str(place))
    state.out.write(text.encode("utf-8", "surrogateescape"))


def _said(param: click.Option, value: object) -> str:
    """Say a value as the option takes it."""
    if isinstance(param.type, OctalType):
        assert isinstance(value, int)
        return f"{value:04o}"
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(param.type, MomentType):
        assert isinstance(value, float)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(value))
    return f"{value:g}" if isinstance(value, float) else str(value)
