"""What belongs to a data directory as a whole: who uses it, and the account that a restart continues with."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import string
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from cosfs.emulator.errors import EmulatorError

DEFAULT_REGION = "ap-guangzhou"
DEFAULT_APPID = "1250000000"
_ACCOUNT_FILE = "emulator.json"
_DATABASE = "metadata.sqlite"
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Account:
    """What a data directory remembers about its account, so that a restart keeps the keys."""

    secret_id: str
    secret_key: str
    region: str
    appid: str


def lock(data: Path) -> int:
    """Take the data directory for this process alone."""
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise EmulatorError(f"another emulator is using {data}") from error
    return fd


def open_account(data: Path, given: dict[str, str]) -> Account:
    """Read the account of a data directory, or make one; what was given wins and is kept."""
    path = data / _ACCOUNT_FILE
    if path.exists():
        kept = _read(path)
    elif (data / _DATABASE).exists() or not any(entry.name != "lock" for entry in data.iterdir()):
        kept = {
            "secret_id": "AKID" + "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "secret_key": "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "region": DEFAULT_REGION,
            "appid": DEFAULT_APPID,
        }
    else:
        raise EmulatorError(f"{data} is neither empty nor a data directory of an emulator")
    account = Account(**{**kept, **{name: value for name, value in given.items() if value}})
    _write(path, account)
    return account


def _read(path: Path) -> dict[str, str]:
    """Read what was kept; say what to do if it cannot be."""
    names = {field.name for field in fields(Account)}
    try:
        kept = json.loads(path.read_text())
        if not isinstance(kept, dict) or set(kept) != names or not all(map(_is_text, kept.values())):
            raise ValueError(f"it must hold {', '.join(sorted(names))}")
    except ValueError as error:
        raise EmulatorError(
            f"{path} is damaged ({error}); remove this file to serve the data with new keys, and give "
            "region and keys again if you had chosen them"
        ) from None
    return kept


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _write(path: Path, account: Account) -> None:
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(asdict(account), indent=2) + "\n")
    temporary.rename(path)
