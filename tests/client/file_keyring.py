"""A keyring for tests: a JSON file that the environment names."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend


class FileKeyring(KeyringBackend):
    """Keep what is set in the file FILE_KEYRING names."""

    priority = 1.0  # type: ignore[assignment]

    def _read(self) -> dict[str, str]:
        path = Path(os.environ["FILE_KEYRING"])
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        return kept

    def get_password(self, service: str, username: str) -> str | None:
        return self._read().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        kept = {**self._read(), f"{service}/{username}": password}
        Path(os.environ["FILE_KEYRING"]).write_text(json.dumps(kept))

    def delete_password(self, service: str, username: str) -> None:
        kept = self._read()
        kept.pop(f"{service}/{username}")
        Path(os.environ["FILE_KEYRING"]).write_text(json.dumps(kept))
