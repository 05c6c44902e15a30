"""`cos emulator`: COS on this machine."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cosfs.profiles import home_of

from .options import command
from .recipes import CLIENTS, recipe, short_hints

if TYPE_CHECKING:
    from cosfs.emulator import Emulator, EmulatorInfo

    from .state import State


@command("emulator")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Where to keep everything.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; `localhost` is ::1 too."
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: any free port.")
@click.option("--i-know", is_flag=True, help="Allow a --host that other machines can reach.")
@click.option("--bucket", "buckets", multiple=True, metavar="NAME", help="Make this bucket; may be repeated.")
@click.option(
    "--seed-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Load this directory into the first --bucket; again, only what changed.",
)
@click.option("--seed-mtimes", is_flag=True, help="Keep the files' times, as x-cos-meta-mtime.")
@click.option("--default-bucket", metavar="NAME", help="What requests to an IP address mean.")
@click.option("--https", is_flag=True, help="Serve HTTPS too, on a port of its own.")
@click.option("--https-port", type=click.IntRange(0, 65535), default=0, help="Port of --https.")
@click.option("--admin", is_flag=True, help="Serve a page at /_emulator, without signatures.")
@click.option("--log-requests", is_flag=True, help="Say every request on standard error.")
@click.option(
    "--recipes",
    is_flag=False,
    flag_value="all",
    type=click.Choice(["all", *CLIENTS]),
    help="Say how to use a client with it, ready to paste.",
)
@click.pass_obj
def emulator(
    state: State,
    data: Path | None,
    host: str,
    port: int,
    i_know: bool,
    buckets: tuple[str, ...],
    seed_dir: Path | None,
    seed_mtimes: bool,
    default_bucket: str | None,
    https: bool,
    https_port: int,
    admin: bool,
    log_requests: bool,
    recipes: str | None,
) -> int:
    """Serve COS from a directory, to try things out and to test without an account.

    Prints the settings that lead `cos` to it as four `export` lines on standard output, once it
    serves, and runs until Ctrl-C. Data and keys stay in the directory.

    \b
    Examples:
      cos emulator --bucket demo
      cos emulator --data ./store --port 9000 --admin
      cos emulator --bucket demo --seed-dir ./photos --recipes rclone
    """
    from cosfs.emulator import EmulatorError, serve
    from cosfs.errors import COSError, UsageError

    if not i_know and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets other machines in, over plain HTTP",
            hint="Add --i-know if that is meant.",
        )
    if seed_dir is not None and not buckets:
        raise UsageError(
            "--seed-dir needs a bucket to load into", hint=f"Add --bucket {_bucket_for(seed_dir)}"
        )
    if seed_mtimes and seed_dir is None:
        raise UsageError("--seed-mtimes says how --seed-dir works, which is not there")
    directory = data or default_data()

    def prepared(running: Emulator) -> None:
        if seed_dir is not None:
            _seed(state, running, buckets[0], seed_dir, mtimes=seed_mtimes)

    def ready(info: EmulatorInfo) -> None:
        _introduce(state, info, f"{buckets[0]}" if buckets else "", recipes)

    # Not COS_REGION and COS_SECRET_ID: that is where the real buckets are.
    given = {name: str(state.options.get(name) or "") for name in ("region", "secret_id", "secret_key")}
    if bool(given["secret_id"]) != bool(given["secret_key"]):
        raise UsageError("--secret-id and --secret-key belong together")
    try:
        serve(
            directory,
            host=host,
            port=port,
            buckets=buckets,
            https=https,
            https_port=https_port,
            admin=admin,
            default_bucket=default_bucket or "",
            prepared=prepared,
            ready=ready,
            log_requests=log_requests or state.debug,
            **given,
        )
    except EmulatorError as error:
        raise COSError(str(error)) from None
    state.out.talk("Stopped.")
    return 0


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bucket_for(directory: Path) -> str:
    """Propose a name."""
    letters = [
        letter if letter.isascii() and letter.isalnum() else "-" for letter in directory.resolve().name
    ]
    return "".join(letters).strip("-").lower() or "demo"


def _seed(state: State, running: Emulator, bucket: str, directory: Path, *, mtimes: bool) -> None:
    from cosfs.units import format_size

    done = running.seed(bucket, directory, mtimes=mtimes)
    for line in done.left_out:
        state.out.warn(f"left out: {line}")
    unchanged = f", {done.unchanged} unchanged" if done.unchanged else ""
    size = format_size(done.bytes)
    count = f"{done.objects} object{'s' * (done.objects != 1)}"
    state.out.talk(f"Loaded {count}, {size}, from {directory} into {bucket}{unchanged}.")


def _introduce(state: State, info: EmulatorInfo, bucket: str, recipes: str | None) -> None:
    """Print the four lines for programs, and for people where it is and how to get there."""
    out = state.out
    values = {
        "COS_ENDPOINT_URL": info.endpoint_url,
        "COS_SECRET_ID": info.secret_id,
        "COS_SECRET_KEY": info.secret_key,
        "COS_REGION": info.region,
    }
    out.talk(f"Serving COS at {info.endpoint_url} from {info.data} (APPID {info.appid}).")
    if info.https_url:
        out.talk(f"HTTPS at {info.https_url}; clients have to trust {info.ca_file}")
    if info.admin_url:
        out.talk(f"Page at {info.admin_url}; whoever can use this machine can use it.")
    if info.default_bucket:
        out.talk(f"Requests to an IP address are for {info.default_bucket}.")
    if recipes:
        names = CLIENTS if recipes == "all" else (recipes,)
        out.talk("\n" + "\n\n".join(recipe(name, info, bucket) for name in names) + "\n")
    else:
        out.talk("\n" + short_hints(info, bucket) + "\n")
    sys.stderr.flush()
    out.lines(f"export {name}={value}" for name, value in values.items())
    out.talk("Run the four export lines in another terminal, then for example: cos ls")
    out.talk("Ctrl-C stops it; the data stays.")


def default_data() -> Path:
    """Return where the emulator keeps its data when nobody says."""
    home = os.environ.get("XDG_DATA_HOME")
    if home:
        return Path(home) / "cos" / "emulator"
    directory = home_of(os.environ) / ".cos"
    directory.mkdir(mode=0o700, exist_ok=True)  # the credentials' directory too
    return directory / "emulator"
