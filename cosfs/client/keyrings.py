"""Secrets of profiles in the keyring of the system, where they are encrypted at rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosfs.errors import CredentialsError

__all__ = ["STORE", "delete", "load", "save"]

# What `secret_store` of a profile says.
STORE = "keyring"
_SERVICE = "cosmount"


def load(profile: str, credentials_path: Path) -> dict[str, str]:
    """Return the secrets of a profile; empty if the keyring has none."""
    text = _call("get_password", _SERVICE, _entry(profile, credentials_path))
    if not text:
        return {}
    try:
        kept = json.loads(text)
        return {str(name): str(value) for name, value in kept.items()}
    except (ValueError, AttributeError):
        raise CredentialsError(
            f"the keyring's entry for profile {profile!r} is unreadable",
            hint=f"Write it anew: cos configure --keyring --profile {profile}",
        ) from None


def save(profile: str, credentials_path: Path, secrets: dict[str, str]) -> None:
    """Keep the secrets of a profile."""
    _call("set_password", _SERVICE, _entry(profile, credentials_path), json.dumps(secrets))


def delete(profile: str, credentials_path: Path) -> None:
    """Remove the secrets of a profile if there are any."""
    if load(profile, credentials_path):
        _call("delete_password", _SERVICE, _entry(profile, credentials_path))


def _entry(profile: str, credentials_path: Path) -> str:
    """Name the entry: the same profile of another file is another one."""
    return f"{profile} in {credentials_path.absolute()}"


def _call(method: str, *args: str) -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        raise CredentialsError(
            "keeping secrets in the system's keyring needs the package keyring",
            hint="Run: pip install keyring",
        ) from None
    try:
        return getattr(keyring, method)(*args)
    except keyring.errors.NoKeyringError:
        raise CredentialsError(
            "this machine has no keyring that can be used",
            hint="Unlock or install one (gnome-keyring, kwallet), or keep the secrets in ~/.cos/credentials",
        ) from None
    except Exception as error:  # backends raise what they like, over D-Bus and files
        # Without the cause: a backend may show what it was given.
        raise CredentialsError(f"the keyring failed: {type(error).__name__}") from None
