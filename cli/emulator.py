"""`cos emulator`: COS on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import command

if TYPE_CHECKING:
    from cosfs.emulator import EmulatorInfo

    from .state import State


@command("emulator")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Where to keep everything.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Default: any free port.")
@click.option("--bucket", "buckets", multiple=True, metavar="NAME", help="Make this bucket; may be repeated.")
@click.option("--log-requests", is_flag=True, help="Say every request on standard error.")
@click.pass_obj
def emulator(
    state: State, data: Path | None, host: str, port: int, buckets: tuple[str, ...], log_requests: bool
) -> int:
    """Serve COS from a directory, to try things out and to test without an account.

    Prints the settings that lead `cos` to it as four `export` lines on standard output, once it
    serves, and runs until Ctrl-C. Data and keys stay in the directory.

    \b
    Examples:
      cos emulator --bucket demo
      cos emulator --data ./store --port 9000
    """
    from cosfs.emulator import EmulatorError, serve
    from cosfs.errors import COSError

    directory = data or default_data()
    directory.mkdir(parents=True, exist_ok=True)

    def ready(info: EmulatorInfo) -> None:
        values = {
            "COS_ENDPOINT_URL": info.endpoint_url,
            "COS_SECRET_ID": info.secret_id,
            "COS_SECRET_KEY": info.secret_key,
            "COS_REGION": info.region,
        }
        state.out.lines(f"export {name}={value}" for name, value in values.items())
        state.out.talk(f"Serving COS at {info.endpoint_url} from {info.data} (APPID {info.appid}).")
        state.out.talk("Run the four export lines in another terminal, then for example: cos ls")
        state.out.talk("Ctrl-C stops it; the data stays.")

    # Not COS_REGION: that is where the real buckets are.
    region = str(state.options.get("region") or "")
    try:
        serve(
            directory,
            host=host,
            port=port,
            buckets=buckets,
            region=region,
            ready=ready,
            log_requests=log_requests or state.debug,
        )
    except EmulatorError as error:
        raise COSError(str(error)) from None
    return 0


def default_data() -> Path:
    """Return where the emulator keeps its data when nobody says."""
    home = os.environ.get("XDG_DATA_HOME")
    if home:
        return Path(home) / "cos" / "emulator"
    directory = Path.home() / ".cos"
    directory.mkdir(mode=0o700, exist_ok=True)  # the credentials' directory too
    return directory / "emulator"
