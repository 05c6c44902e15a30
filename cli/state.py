"""One run of the program: the global options, and what follows from them, made when first asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from .output import LINES, Output

if TYPE_CHECKING:
    import click

    from cosfs.client.client import CosClient
    from cosfs.config import Settings

    from .batch import Batch

# Global options that concern only the command line; all others go to cosfs.config.load_settings.
_OWN = frozenset({"debug", "quiet", "only_show_errors", "no_progress", "color"})


class State:
    """What click passes to every command as its object."""

    def __init__(self) -> None:
        self.options: dict[str, object] = {}
        self.out = Output()
        self.may_ask = True  # if somebody is there
        self.own_process = False  # the process is that of `cos` and nobody else's
        self.batch: Batch | None = None  # the run of many command lines that this one belongs to
        self.failed_items = 0  # that reports of this line have told of
        self.context: click.Context | None = None  # of the command that runs
        self._client: CosClient | None = None
        self._stop_logging: Callable[[], None] | None = None

    def set_option(self, name: str, value: object) -> None:
        """Take one global option; a later one (after the sub-command) replaces an earlier one."""
        self.options[name] = value
        self.out.quiet = bool(self.options.get("quiet"))
        self.out.only_errors = bool(self.options.get("only_show_errors"))
        self.out.color = str(self.options.get("color") or "auto")

    @property
    def debug(self) -> bool:
        return bool(self.options.get("debug"))

    @property
    def settings_options(self) -> dict[str, object]:
        """The options as cosfs.config.load_settings takes them."""
        return {name: value for name, value in self.options.items() if name not in _OWN}

    @cached_property
    def settings(self) -> Settings:
        from cosfs.config import load_settings

        settings = load_settings(self.settings_options)
        if not settings.client.verify_ssl:
            self.out.warn(
                "TLS certificates are not verified: anybody on the way can read and change your data"
            )
        return settings

    def make_client(self) -> CosClient:
        """Return a new client, which the caller closes; asks for credentials if there are none."""
        from cosfs.errors import MissingCredentialsError

        try:
            return self._new_client()
        except MissingCredentialsError:
            from .prompt import ask_credentials, somebody_is_there

            if not (self.may_ask and somebody_is_there()):
                raise
        self.options |= ask_credentials(self)
        return self._new_client()

    def _new_client(self) -> CosClient:
        from cosfs.client.client import CosClient

        from .hardening import protect_secrets
        from .prompt import code_prompt

        if self.own_process:
            protect_secrets()
        ask_code = code_prompt(self)
        return CosClient.from_settings(self.settings, self.settings_options, ask_code=ask_code)

    @property
    def client(self) -> CosClient:
        """The client of this run, closed by close()."""
        if self._client is None:
            self._client = self.make_client()
        return self._client

    def command_record(self) -> dict[str, object]:
        """Return the command as a report shows it, and how to say its options again for one of its items."""
        if self.context is None:
            return {"command": ""}
        from .repeat import repeatable_options

        options, left_out = repeatable_options(self.context)
        return {"command": self.context.command.name, "options": options, "left_out": left_out}

    def start_logging(self) -> None:
        """Show what the library logs: warnings, and with --debug everything."""
        if self._stop_logging is None:
            from .logs import show_logs

            self._stop_logging = show_logs(self.out, debug=self.debug, secrets=self.secrets)

    @property
    def secrets(self) -> list[str]:
        """The secrets that options and the environment hold."""
        given = [self.options.get(name) for name in ("secret_key", "session_token", "mfa_code")]
        given += [os.environ.get(name) for name in ("COS_SECRET_KEY", "COS_SESSION_TOKEN", "COS_TOKEN")]
        return [str(secret) for secret in given if secret and len(str(secret)) >= 4]

    def close(self) -> None:
        """Close the client if one was made, and log no more."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._stop_logging is not None:
            self._stop_logging()
            self._stop_logging = None

    @property
    def format(self) -> str:
        """Choose the output format: as asked, else a table on a terminal, else plain lines."""
        asked = str(self.options.get("output") or "") or self.settings.output
        if asked:
            return asked
        return "table" if sys.stdout.isatty() else LINES

    @property
    def may_show_progress(self) -> bool:
        """Whether progress may be told on stderr, in whatever form."""
        return not (self.out.quiet or self.out.only_errors or self.options.get("no_progress"))

    @property
    def shows_progress(self) -> bool:
        """Whether a progress display may be drawn on stderr, which takes a cursor that moves."""
        return self.may_show_progress and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
