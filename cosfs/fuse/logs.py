"""Where a mount logs: a file that is rotated, syslog, systemd's journal, or standard error.

Each message is one line: names of objects may hold line breaks, which must not look like messages.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
from pathlib import Path

from cosfs.errors import ConfigError, UsageError
from cosfs.fuse.settings import MountSettings
from cosfs.profiles import home_of

SYSLOG_SOCKET = "/dev/log"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
log = logging.getLogger("cosfs.mount")


class OneLine(logging.Formatter):
    """Formats messages as one line each; a traceback follows in lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", record.message)
        return super().formatMessage(record)


class ForJournal(OneLine):
    """Puts the priority before each line, as systemd wants it (sd-daemon(3)); the time is its own."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in _PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class LogFile(logging.handlers.RotatingFileHandler):
    """A file that is rotated by size, and can be opened anew after somebody else moved it away."""

    def reopen(self) -> None:
        """Go on in the file that has the name now; make it if there is none."""
        self.acquire()
        try:
            if self.stream is not None:
                self.stream.close()
            self.stream = self._open()
        finally:
            self.release()


def set_up_logging(settings: MountSettings) -> None:
    """Send everything that is logged where the settings say."""
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(_handler(settings))
    root.setLevel(logging.DEBUG if settings.debug else LEVELS[settings.log_level])
    quiet_others()


def quiet_others() -> None:
    """Libraries tell more than anybody wants to read, even when debugging."""
    for name in ("urllib3", "pyfuse3"):
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))


def check(settings: MountSettings) -> None:
    """Refuse what makes no sense; raise UsageError."""
    if settings.log in ("stderr", "journald") and not settings.foreground:
        raise UsageError(
            f"a mount in the background cannot log to {settings.log}", hint="Add --foreground, or use a file"
        )


def _handler(settings: MountSettings) -> logging.Handler:
    handler: logging.Handler
    where = settings.log
    if not where and settings.foreground and settings.log_file is None:
        where = "journald" if is_journal(2) else "stderr"
    if where in ("stderr", "journald"):
        handler = logging.StreamHandler(sys.stderr)
        if where == "journald":
            handler.setFormatter(ForJournal())
            return handler
    elif where == "syslog":
        return syslog(SYSLOG_SOCKET)
    else:
        handler = _file(settings)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    return handler


def _file(settings: MountSettings) -> LogFile:
    path = settings.log_file or default_log_file(settings.mountpoint)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LogFile(path, maxBytes=settings.log_size, backupCount=settings.log_keep, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(
            f"the log file {path} cannot be written: {exc.strerror}", hint="Choose another with --log-file"
        ) from exc


def syslog(address: str) -> logging.Handler:
    """A handler that sends to the syslog daemon at a socket."""
    if not Path(address).is_socket():
        raise ConfigError(
            f"syslog does not listen at {address}", hint="Start it, or log to a file: --log FILE"
        )
    handler = logging.handlers.SysLogHandler(address, facility=logging.handlers.SysLogHandler.LOG_DAEMON)
    handler.ident = f"cosfs[{os.getpid()}]: "
    handler.append_nul = False
    handler.setFormatter(OneLine("%(name)s: %(message)s"))
    return handler


def is_journal(fd: int) -> bool:
    """Whether systemd reads what is written to a file descriptor (JOURNAL_STREAM, systemd.exec(5))."""
    try:
        info = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{info.st_dev}:{info.st_ino}"


def default_log_file(mountpoint: Path) -> Path:
    """The log of a mount in the background that names no other place."""
    name = str(mountpoint).strip("/").replace("/", "-") or "root"
    return home_of(os.environ) / ".cos" / "log" / f"mount-{name[-100:]}.log"


def reopen() -> None:
    """Open the log file anew, after logrotate has moved it away."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            handler.reopen()
    log.info("the log goes on here")


def switch_debugging(settings: MountSettings) -> None:
    """Log everything, or as before if that is done already."""
    root = logging.getLogger()
    usual = logging.DEBUG if settings.debug else LEVELS[settings.log_level]
    root.setLevel(logging.DEBUG if root.level != logging.DEBUG else max(usual, logging.INFO))
    quiet_others()
    log.warning("from here on %s is logged", logging.getLevelName(root.level))
