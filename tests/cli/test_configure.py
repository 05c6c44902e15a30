"""cos configure: files, secrets, profiles."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
CLEAN = {
    "COS_ENDPOINT_URL": "",
    "COS_SECRET_ID": "",
    "COS_SECRET_KEY": "",
    "COS_REGION": "",
}


@pytest.fixture
def home(cos_environment: dict[str, str]) -> Path:
    return Path(cos_environment["HOME"]) / ".cos"


def test_set_and_get(run: Run, home: Path) -> None:
    assert run("configure", "set", "region", "ap-shanghai").out == ""
    assert run("configure", "get", "region").out == "ap-shanghai\n"
    assert run("configure", "get", "output", code=1).out == ""
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "config").stat().st_mode) == 0o600


def test_nested_setting_takes_effect(run: Run, home: Path) -> None:
    run("configure", "set", "default.cos.max_concurrent_requests", "64")
    assert "cos =\n  max_concurrent_requests = 64\n" in (home / "config").read_text()
    rows = {row["Name"]: row for row in run("configure", "list", "--output", "json").json}
    assert rows["cos.max_concurrent_requests"] == {
        "Name": "cos.max_concurrent_requests",
        "Value": "64",
        "Source": "profile",
    }


STATED = {
    "region": "ap-shanghai",
    "output": "json",
    "endpoint_url": "http://127.0.0.1:9000",
    "appid": "1250000000",
    "bucket_endpoints": "a-1=https://x.example b-1=http://127.0.0.1:1",
    "cos.addressing_style": "path",
    "cos.accelerate": "false",
    "verify_ssl": "false",
    "ca_bundle": "/etc/ca file.pem",
    "proxy": "http://proxy.example:3128",
    "connect_timeout": "2.5",
    "read_timeout": "90",
    "outage_timeout": "0",
    "max_retries": "3",
    "cos.max_connections": "300",
    "no_sign_request": "true",
    "cos.max_concurrent_requests": "64",
    "cos.max_small_requests": "100",
    "cos.multipart_threshold": "24MB",
    "cos.multipart_chunksize": "1537KB",
    "cos.max_buffer_memory": "1000001000",
    "cos.max_bandwidth": "50MB/s",
    "cos.resume": "false",
    "cos.resume_threshold": "1GB",
}


def test_what_list_shows_can_be_set(run: Run, cos_environment: dict[str, str]) -> None:
    """Every setting, by the name and with the value that it is shown with."""
    from cosfs.config import setting_names

    assert set(STATED) == set(setting_names())
    written = {
        **STATED,
        "connect_timeout": "2500ms",
        "read_timeout": "1m30s",
        "cos.max_bandwidth": "52428800",
    }
    for name, value in written.items():
        run("configure", "set", name, value)
    env = {**CLEAN, "COS_REGION": "", "COS_ENDPOINT_URL": ""}
    rows = run("configure", "list", "--output", "json", env=env).json
    assert {row["Name"]: row["Value"] for row in rows if row["Name"] in STATED} == STATED
    for row in rows:
        if row["Source"] == "profile":
            run("configure", "set", f"other.{row['Name']}", row["Value"])
    again = run("configure", "list", "--profile", "other", "--output", "json", env=env).json
    assert again == [
        {**row, **({"Value": "other", "Source": "option"} if row["Name"] == "profile" else {})}
        for row in rows
    ]


def test_secrets_are_kept_apart_and_never_shown(run: Run, home: Path) -> None:
    result = run("configure", "set", "secret_key", "verysecretkey1234")
    assert "verysecret" not in result.out + result.err
    run("configure", "set", "secret_id", "AKIDverysecret5678")
    assert "verysecret" not in (home / "config").read_text() if (home / "config").exists() else True
    assert stat.S_IMODE((home / "credentials").stat().st_mode) == 0o600
    shown = run("configure", "list", env=CLEAN)
    assert "verysecret" not in shown.out
    assert "****************1234" in shown.out and "****************5678" in shown.out


def test_list_takes_one_source_whole(run: Run) -> None:
    run("configure", "set", "session_token", "tokenofanotherkey")
    rows = {row["Name"]: row for row in run("configure", "list", "--output", "json").json}
    assert rows["secret_id"]["Source"] == "environment" and "session_token" not in rows


def test_profiles(run: Run, home: Path) -> None:
    run("configure", "set", "region", "ap-beijing", "--profile", "production")
    run("configure", "set", "other.region", "ap-tokyo")
    assert run("configure", "get", "region", "--profile", "production").out == "ap-beijing\n"
    assert run("configure", "get", "production.region").out == "ap-beijing\n"
    assert "[profile production]" in (home / "config").read_text()
    rows = {
        r["Name"]: r["Value"]
        for r in run("configure", "list", "--profile", "other", "--output", "json", env=CLEAN).json
    }
    assert (rows["profile"], rows["region"]) == ("other", "ap-tokyo")


def test_profile_that_does_not_exist(run: Run) -> None:
    result = run("ls", "--profile", "nosuch", code=253)
    assert "nosuch" in result.err and "cos configure --profile nosuch" in result.err


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("output", "yaml", "yaml"),
        ("cos.max_concurrent_requests", "many", "many"),
        ("cos.multipart_chunksize", "8 elephants", "elephants"),
        ("region", "x/../y", "x/../y"),
        ("endpoint_url", "localhost", "localhost"),
    ],
)
def test_value_that_makes_no_sense_is_not_written(run: Run, key: str, value: str, word: str) -> None:
    result = run("configure", "set", key, value, code=252)
    assert word in result.err and "Nothing was written" in result.err
    run("configure", "get", key, code=1)


def test_unknown_setting_is_refused(run: Run) -> None:
    assert "region" in run("configure", "set", "regio", "x", code=252).err
    assert "cos.max_bandwidth" in run("configure", "set", "max_bandwidth", "1MB", code=252).err


def test_without_a_terminal_nothing_is_asked(run: Run, cos: Any) -> None:
    for args in (["configure"], ["configure", "set", "secret_key"]):
        done = cos(*args)
        assert done.returncode == 252 and "cos configure set" in done.stderr


def test_broken_file_is_one_sentence_and_253(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config").write_text("[default]\nregion ap-shanghai\n")
    for args in (["ls"], ["configure", "list"], ["configure", "get", "region"]):
        result = run(*args, code=253)
        assert "config, line 2" in result.err and len(result.err.splitlines()) == 1


def test_unreadable_value_in_a_file_is_253(run: Run, home: Path) -> None:
    home.mkdir()
    (home / "config").write_text("[default]\ncos =\n  max_concurrent_requests = lots\n")
    result = run("ls", code=253)
    assert "max_concurrent_requests" in result.err and "lots" in result.err


def test_credentials_that_others_can_read_are_warned_about(cos: Any, home: Path, bucket: str) -> None:
    cos("configure", "set", "secret_id", "AKIDx", check=True)
    (home / "credentials").chmod(0o644)
    (home / "config").write_text("[default]\nsecret_key = x\n")
    (home / "config").chmod(0o644)
    for command in (("ls", f"cos://{bucket}"), ("cp", "-r", str(home), f"cos://{bucket}/d/")):
        done = cos(*command)
        assert done.returncode == 0
        for name in ("credentials", "config"):
            assert done.stderr.count(f"chmod 600 {home / name}") == 1  # once, however often it is read


def test_settings_file_elsewhere(run: Run, tmp_path: Path) -> None:
    missing = run("ls", "--config-file", tmp_path / "mine", code=253)  # a slip must not mean the defaults
    assert "no settings file" in missing.err
    run("configure", "set", "output", "json", "--config-file", tmp_path / "mine")
    assert "output = json" in (tmp_path / "mine").read_text()
    assert run("ls", "--config-file", tmp_path / "mine").out.startswith("{")


def test_questions(terminal: Callable[..., Any], home: Path) -> None:
    screen = terminal("configure", "--profile", "work")
    screen.read_until("SecretId")
    screen.type("AKIDabcdefgh1234\n")
    screen.read_until("SecretKey")
    screen.type("topsecretkey5678\n")
    screen.read_until("region")
    screen.type("ap-shanghai\n")
    screen.read_until("output format")
    screen.type("\n")
    assert screen.finish() == 0
    assert "topsecret" not in screen.text
    assert "secret_key = topsecretkey5678" in (home / "credentials").read_text()
    assert "[profile work]\nregion = ap-shanghai" in (home / "config").read_text()


def test_questions_keep_what_is_there(terminal: Callable[..., Any], run: Run, home: Path) -> None:
    run("configure", "set", "secret_id", "AKIDabcdefgh1234")
    screen = terminal("configure")
    for question in ("SecretId [****************1234]", "SecretKey", "region", "output format"):
        screen.read_until(question)
        screen.type("\n")
    assert screen.finish() == 0
    assert run("configure", "get", "secret_id").out == "AKIDabcdefgh1234\n"


def test_secret_is_asked_for_without_echo(terminal: Callable[..., Any], home: Path) -> None:
    screen = terminal("configure", "set", "secret_key")
    screen.read_until("secret_key")
    screen.type("topsecretkey5678\n")
    assert screen.finish() == 0 and "topsecret" not in screen.text
    assert "topsecretkey5678" in (home / "credentials").read_text()


def test_interrupted_questions_write_nothing(terminal: Callable[..., Any], home: Path) -> None:
    screen = terminal("configure")
    screen.read_until("SecretId")
    screen.interrupt()
    assert screen.finish() == 130
    assert not home.exists() and "Traceback" not in screen.text
