"""What other users of the machine see of our command line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_SECRET = (
    "--secret-id",
    "--secret-key",
    "--session-token",
    "--token",
    "--mfa-code",
    "--sse-c-key",
    "--sse-c-copy-source-key",
    "--proxy",  # may hold a password
)
_MASK = "***"


def hide_secrets(program: str, args: Sequence[str]) -> None:
    """Replace secrets given by option in the title of this process, which anybody can read."""
    if any(arg.partition("=")[0] in _SECRET for arg in args):
        from setproctitle import setproctitle

        setproctitle(" ".join([program, *masked(args)]))


def masked(args: Iterable[str]) -> list[str]:
    """Return arguments with the values of secret options replaced."""
    shown: list[str] = []
    for arg in args:
        name, found, _ = arg.partition("=")
        if shown and shown[-1] in _SECRET:
            shown.append(_MASK)
        else:
            shown.append(f"{name}={_MASK}" if found and name in _SECRET else arg)
    return shown
