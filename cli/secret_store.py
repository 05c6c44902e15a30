"""Where `cos configure` keeps the secrets of a profile: the file only the user can read, or the keyring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosfs.profiles import ConfigFile

SECRETS = ("secret_id", "secret_key", "session_token")


def items(files: ConfigFile, profile: str) -> dict[str, str]:
    """Return all entries of a profile, its secrets from wherever they are."""
    found = files.items(profile)
    if found.get("secret_store") == "keyring":
        from cosfs.client import keyrings

        found |= keyrings.load(profile, files.credentials_path)
    return found


def in_keyring(files: ConfigFile, profile: str) -> bool:
    """Whether the profile's secrets are in the keyring."""
    return files.items(profile).get("secret_store") == "keyring"


def keep_in_keyring(files: ConfigFile, profile: str, secrets: Mapping[str, str]) -> None:
    """Put secrets into the keyring, with those that are in the files, and take these out of the files."""
    from cosfs.client import keyrings

    before = items(files, profile)
    kept = {name: before[name] for name in SECRETS if before.get(name)} | dict(secrets)
    if "secret_id" in secrets and "session_token" not in secrets:
        kept.pop("session_token", None)  # of other keys
    keyrings.save(profile, files.credentials_path, kept)
    files.set("secret_store", "keyring", profile)
    for name in SECRETS:
        files.unset(name, profile)
