"""The library's log on standard error. Apart from the rest because `logging` takes time to import."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .output import Output


class _Handler(logging.Handler):
    def __init__(self, out: Output, *, debug: bool, secrets: Sequence[str]) -> None:
        super().__init__(logging.DEBUG if debug else logging.WARNING)
        self._out = out
        self._debug = debug
        self._secrets = secrets
        if debug:
            self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._debug:
                self._out.trace(self._without_secrets(self.format(record)))
            else:
                self._out.warn(self._without_secrets(record.getMessage()))
        except Exception:
            self.handleError(record)

    def _without_secrets(self, text: str) -> str:
        """Take out what others log: libraries know less of secrets than our own modules do."""
        from cosfs.client.redaction import redacted

        return redacted(text, self._secrets)


def show_logs(out: Output, *, debug: bool, secrets: Sequence[str] = ()) -> Callable[[], None]:
    """Send log records to standard error; return what undoes it."""
    root = logging.getLogger()
    handler, level = _Handler(out, debug=debug, secrets=secrets), root.level
    root.addHandler(handler)
    if debug:
        root.setLevel(logging.DEBUG)

    def stop() -> None:
        root.removeHandler(handler)
        root.setLevel(level)

    return stop
