"""Credentials that a program of the user prints: a vault, a password manager, a single sign-on."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cosfs.client.auth import Credentials
from cosfs.client.temporary import TemporaryCredentials
from cosfs.errors import CredentialsError

__all__ = ["ProcessCredentials"]

# Long enough for somebody to confirm on a telephone.
_TIMEOUT = 120.0
_NAMES = {
    "secret_id": ("SecretId", "TmpSecretId", "AccessKeyId"),
    "secret_key": ("SecretKey", "TmpSecretKey", "SecretAccessKey"),
    "token": ("Token", "SessionToken"),
}


class ProcessCredentials(TemporaryCredentials):
    """Run a command, without a shell, and take the JSON it prints; again when that ends.

    What it writes on standard error goes to ours.
    """

    def __init__(self, command: str, clock: Callable[[], float] = time.time, source: str = "") -> None:
        super().__init__(clock, source)
        try:
            self._command = shlex.split(command)
        except ValueError as error:
            raise CredentialsError(f"credential_process cannot be taken apart: {error}") from None
        if not self._command:
            raise CredentialsError("credential_process is empty")

    def fetch(self) -> Credentials:
        program = self._command[0]
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=_TIMEOUT,
                env=_environment(os.environ),
            )
        except subprocess.TimeoutExpired:
            raise CredentialsError(
                f"credential_process {program!r} did not end within {_TIMEOUT:.0f} s"
            ) from None
        except OSError as error:
            raise CredentialsError(
                f"credential_process {program!r} cannot be run: {error.strerror}",
                hint="Check credential_process in the profile",
            ) from None
        if done.returncode:
            raise CredentialsError(
                f"credential_process {program!r} ended with {done.returncode}",
                hint="Its own message says why",
            )
        return _parse(done.stdout, program)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the program sees: keys of another source are none of its business."""
    return {
        name: value
        for name, value in environ.items()
        if name not in ("COS_SECRET_ID", "COS_SECRET_KEY", "COS_SESSION_TOKEN", "COS_TOKEN")
    }


def _parse(output: bytes, program: str) -> Credentials:
    from cosfs.client.credentials import checked

    try:
        answer = json.loads(output)
        if isinstance(answer.get("Credentials"), dict):  # what STS answers, passed through
            answer = {**answer, **answer["Credentials"]}
        found = {
            field: next((str(answer[n]) for n in names if answer.get(n)), "")
            for field, names in _NAMES.items()
        }
        expires = _moment(answer)
    except (ValueError, AttributeError, TypeError):
        # Without the cause, which would show the output and the secrets in it.
        raise CredentialsError(
            f"credential_process {program!r} did not print the JSON that is expected",
            hint='Print {"SecretId": "...", "SecretKey": "...", "Token": "...", "ExpiredTime": 1800000000}',
        ) from None
    if not found["secret_id"] or not found["secret_key"]:
        raise CredentialsError(f"credential_process {program!r} printed no SecretId and SecretKey")
    given = Credentials(found["secret_id"], found["secret_key"], found["token"], expires)
    return checked(given, f"credential_process {program!r}")


def _moment(answer: Mapping[str, Any]) -> float:
    if answer.get("ExpiredTime"):
        return float(answer["ExpiredTime"])
    if answer.get("Expiration"):
        return datetime.fromisoformat(str(answer["Expiration"])).timestamp()
    return 0.0
