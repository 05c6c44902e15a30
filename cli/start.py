"""Where the program `cos` begins: until it can say anything itself, Ctrl-C ends it without a stack trace."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Load the program and run it."""
    # What a shell runs in the background ignores Ctrl-C, and goes on doing so.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from .main import main as run_program

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_program()
