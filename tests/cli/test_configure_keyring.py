"""Secrets in the keyring of the system, and the first request with new settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator
from tests.cli.conftest import Result

Run = Callable[..., Result]
BACKEND = "tests.client.file_keyring.FileKeyring"


@pytest.fixture
def keyring_file(
    tmp_path: Path, cos_environment: dict[str, str], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A keyring in a file, chosen by keyring's own environment variable; keys in no environment."""
    path = tmp_path / "keyring.json"
    cos_environment |= {
        "FILE_KEYRING": str(path),
        "PYTHON_KEYRING_BACKEND": BACKEND,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "COS_SECRET_ID": "",
        "COS_SECRET_KEY": "",
    }
    return path


@pytest.fixture
def credentials(cos_environment: dict[str, str]) -> Path:
    return Path(cos_environment["HOME"]) / ".cos" / "credentials"


def test_secrets_move_into_the_keyring(
    cos: Any, keyring_file: Path, credentials: Path, emulator: Emulator, bucket: str
) -> None:
    cos("configure", "set", "secret_id", emulator.secret_id, check=True)
    cos("configure", "set", "secret_key", emulator.secret_key, check=True)
    told = cos("configure", "--keyring", check=True).stderr
    assert "the secrets of profile 'default' are in the keyring" in told
    assert emulator.secret_key not in credentials.read_text()
    assert emulator.secret_id not in credentials.read_text()
    assert bucket in cos("ls", check=True).stdout
    assert "profile 'default', in the keyring" in cos("whoami", check=True).stdout
    assert "profile, in the keyring" in cos("configure", "list", check=True).stdout
    # From now on that is where they are written and read.
    cos("configure", "set", "secret_key", "another-secret-text", check=True)
    assert "another-secret-text" not in credentials.read_text()
    assert "another-secret-text" in keyring_file.read_text()
    assert cos("configure", "get", "secret_key", check=True).stdout == "another-secret-text\n"
    assert "SecretKey does not belong" in cos("ls").stderr


def test_a_secret_goes_straight_into_the_keyring(cos: Any, keyring_file: Path, credentials: Path) -> None:
    cos("configure", "set", "secret_key", "a-secret-of-mine", "--keyring", "--profile", "work", check=True)
    assert "a-secret-of-mine" in keyring_file.read_text()
    assert not credentials.exists() or "a-secret" not in credentials.read_text()
    assert cos("configure", "set", "region", "ap-x", "--keyring").returncode == 252


def test_without_a_keyring_nothing_is_lost(
    cos: Any, keyring_file: Path, cos_environment: dict[str, str], credentials: Path
) -> None:
    cos("configure", "set", "secret_id", "AKIDabcdefgh1234", check=True)
    cos("configure", "set", "secret_key", "a-secret-of-mine", check=True)
    cos_environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    failed = cos("configure", "--keyring")
    assert failed.returncode == 253 and "no keyring that can be used" in failed.stderr
    assert "a-secret-of-mine" in credentials.read_text()


# --- the first request


def answered(terminal: Callable[..., Any], *answers: str) -> Any:
    screen = terminal("configure", "--profile", "new")
    for question, answer in zip(("SecretId", "SecretKey", "region", "output format"), answers, strict=True):
        screen.read_until(question)
        screen.type(f"{answer}\n")
    assert screen.finish() == 0
    return screen


def test_new_settings_are_tried(terminal: Callable[..., Any], emulator: Emulator, bucket: str) -> None:
    screen = answered(terminal, emulator.secret_id, emulator.secret_key, "ap-guangzhou", "")
    assert "COS takes these credentials: " in screen.text
    assert emulator.secret_key not in screen.text


def test_the_only_region_becomes_the_default(
    terminal: Callable[..., Any], cos: Any, cos_environment: dict[str, str], tmp_path: Path
) -> None:
    with Emulator(tmp_path / "own", buckets=["mine"], region="ap-nanjing") as own:
        cos_environment |= {"COS_ENDPOINT_URL": own.endpoint_url, "COS_REGION": ""}
        screen = answered(terminal, own.secret_id, own.secret_key, "", "")
        assert "1 bucket in ap-nanjing" in screen.text
    assert cos("configure", "get", "new.region", check=True).stdout == "ap-nanjing\n"


def test_settings_that_do_not_work_are_kept_and_told(
    terminal: Callable[..., Any], emulator: Emulator, cos: Any
) -> None:
    screen = answered(terminal, emulator.secret_id, "not-the-secret-key", "", "")
    assert "a first request failed" in screen.text and "SignatureDoesNotMatch" in screen.text
    assert cos("configure", "get", "new.secret_key", check=True).stdout == "not-the-secret-key\n"
