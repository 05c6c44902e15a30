"""What belongs to a data directory as a whole: who uses it, and the account that a restart continues with."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import string
from dataclasses import asdict, dataclass
from pathlib import Path

from cosfs.emulator.errors import EmulatorError

DEFAULT_REGION = "ap-guangzhou"
DEFAULT_APPID = "1250000000"
_ACCOUNT_FILE = "emulator.json"
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
        kept = json.loads(path.read_text())
    elif any(entry.name != "lock" for entry in data.iterdir()):
        raise EmulatorError(f"{data} is neither empty nor a data directory of an emulator")
    else:
        kept = {
            "secret_id": "AKID" + "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "secret_key": "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "region": DEFAULT_REGION,
            "appid": DEFAULT_APPID,
        }
    account = Account(**{**kept, **{name: value for name, value in given.items() if value}})
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(account), indent=2) + "\n")
    temporary.chmod(0o600)
    temporary.rename(path)
    return account
