"""Where the program `cos` begins: until it can say anything itself, Ctrl-C ends it without a stack trace."""

from __future__ import annotations

import signal


def main() -> None:
    """Load the program and run it; it takes Ctrl-C back when it is ready."""
    # What a shell runs in the background ignores Ctrl-C, and goes on doing so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main as run_program

    run_program()
