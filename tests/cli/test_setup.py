"""cos emulator, doctor, mount's options, mount.cosfs."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from cli import mount_helper
from cli.mount import MountCommand, expand_options, mount
from cosfs.emulator import Emulator
from cosfs.errors import UsageError

Run = Callable[..., Any]


# --- emulator


@pytest.fixture
def serve(cos_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["cos", "emulator", *args],
            cwd=tmp_path,
            env={name: value for name, value in cos_environment.items() if not name.startswith("COS_")},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def exports(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    found = {}
    for line in lines:
        match = re.fullmatch(r"export (COS_[A-Z_]+)=(\S+)\n", line)
        assert match, lines
        found[match[1]] = match[2]
    return found


def test_emulator_prints_four_lines_and_serves(
    serve: Callable[..., subprocess.Popen[str]], cos: Any, tmp_path: Path
) -> None:
    process = serve("--data", "store", "--bucket", "one", "--bucket", "two")
    env = exports(process)
    assert list(env) == ["COS_ENDPOINT_URL", "COS_SECRET_ID", "COS_SECRET_KEY", "COS_REGION"]
    listed = cos("ls", "--output", "text", env=env, check=True)
    assert sorted(listed.stdout.split()) == ["one-1250000000", "two-1250000000"]
    cos("cp", "-", "cos://one/k", input="kept", env=env, check=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0 and out == ""
    assert env["COS_ENDPOINT_URL"] in err and "Traceback" not in err

    again = exports(serve("--data", "store"))
    assert again["COS_SECRET_KEY"] == env["COS_SECRET_KEY"]
    assert cos("cat", "cos://one/k", env=again, check=True).stdout == "kept"


def test_emulator_keeps_its_data_at_home(
    serve: Callable[..., subprocess.Popen[str]], cos_environment: dict[str, str]
) -> None:
    process = serve()
    exports(process)
    home = Path(cos_environment["HOME"])
    assert (home / ".cos" / "emulator").is_dir() and (home / ".cos").stat().st_mode & 0o777 == 0o700


def test_emulator_that_cannot_start_says_why(
    serve: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = serve("--data", "store")
    port = exports(first)["COS_ENDPOINT_URL"].rpartition(":")[2]
    for args, word in (
        (("--data", "store"), "another emulator"),
        (("--data", "other", "--port", port), port),
    ):
        process = serve(*args)
        out, err = process.communicate(timeout=90)
        assert process.returncode == 255 and out == "" and word in err
        assert len(err.splitlines()) == 1


# --- doctor


def test_doctor_is_content(run: Run, bucket: str) -> None:
    result = run("doctor", f"cos://{bucket}")
    checks = {line.split()[1] for line in result.lines if not line.lstrip().startswith("→")}
    assert checks == {
        *("settings", "network", "tls", "clock", "credentials", "identity", "bucket", "fuse", "cache")
    }
    assert all(line.startswith(("ok  ", "warn", "    ")) for line in result.lines)


def test_doctor_finds_wrong_keys(run: Run) -> None:
    result = run("doctor", code=1, env={"COS_SECRET_KEY": "wrong"})
    assert re.search(r"^fail  credentials  .*SignatureDoesNotMatch", result.out, re.MULTILINE)
    assert "→ Check secret_key" in result.out


def test_doctor_finds_missing_credentials(run: Run) -> None:
    result = run("doctor", code=1, env={"COS_SECRET_ID": "", "COS_SECRET_KEY": ""})
    assert re.search(r"^fail  credentials", result.out, re.MULTILINE) and "cos configure" in result.out


def test_doctor_finds_no_server(run: Run) -> None:
    result = run("doctor", code=1, env={"COS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert re.search(r"^fail  network .*127\.0\.0\.1:9 refuses", result.out, re.MULTILINE)


def test_doctor_tells_of_an_unknown_host_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = run("doctor", code=1, env={"COS_ENDPOINT_URL": "http://cos.invalid"})
    assert result.out.count("cannot be resolved") == 1


def test_doctor_finds_a_clock_that_is_off(run: Run, tmp_path: Path) -> None:
    import time

    from cosfs.emulator import Emulator

    with Emulator(tmp_path / "late", clock=lambda: time.time() + 3600) as late:
        env = {
            "COS_ENDPOINT_URL": late.endpoint_url,
            "COS_SECRET_ID": late.secret_id,
            "COS_SECRET_KEY": late.secret_key,
        }
        result = run("doctor", code=None, env=env)
    clock = next(line for line in result.lines if " clock " in line)
    assert clock.startswith("fail") and "behind" in clock and result.code == 1


def test_doctor_finds_an_unknown_bucket_and_a_bad_file(run: Run, cos_environment: dict[str, str]) -> None:
    result = run("doctor", "cos://nosuch-1250000000", code=1)
    assert re.search(r"^fail  bucket .*does not exist", result.out, re.MULTILINE)
    home = Path(cos_environment["HOME"]) / ".cos"
    home.mkdir()
    (home / "config").write_text("nonsense\n")
    result = run("doctor", code=1)
    assert re.search(r"^fail  settings .*config, line 1", result.out, re.MULTILINE)


def test_doctor_says_whose_the_credentials_are(run: Run) -> None:
    result = run("doctor")
    assert re.search(
        r"^ok    identity     qcs::cam::uin/\d+:uin/\d+, from environment", result.out, re.MULTILINE
    )


def test_doctor_tries_permissions_and_speed_and_leaves_nothing(
    run: Run, bucket: str, emulator: Emulator
) -> None:
    result = run("doctor", f"cos://{bucket}/tmp/", "--permissions", "--speed", "--output", "json")
    told = [(each["Check"], each["Text"].split()[0]) for each in result.json if each["Status"] == "ok"]
    for step in ("put", "head", "get", "list", "delete"):
        assert ("permissions", step) in told
    assert ("speed", "up") in told and ("speed", "down") in told
    assert any("fsync included" in each["Text"] for each in result.json)
    assert run("ls", f"cos://{bucket}/", "--recursive").out == ""
    run("doctor", "--permissions", code=252)
    statements = [
        {"effect": "allow", "action": ["name/cos:GetBucket", "name/cos:HeadBucket"], "resource": "*"}
    ]
    member = emulator.add_user(policies=[{"version": "2.0", "statement": statements}])
    env = {"COS_SECRET_ID": member.secret_id, "COS_SECRET_KEY": member.secret_key}
    refused = run("doctor", f"cos://{bucket}/", "--permissions", code=1, env=env).out
    assert re.search(r"^fail  permissions  put: .*AccessDenied", refused, re.MULTILINE)
    assert "name/cos:PutObject" in refused
    assert re.search(r"^ok    permissions  list is allowed", refused, re.MULTILINE)


def test_doctor_as_json(run: Run) -> None:
    findings = run("doctor", "--output", "json").json
    assert {finding["Status"] for finding in findings} <= {"ok", "warn"}


# --- mount options


FLAGS = {"read-only": True, "allow-other": True, "umask": False, "cache-dir": False, "profile": False}


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("", []),
        ("ro", ["--read-only"]),
        ("rw,_netdev,nofail,user,noauto,auto,defaults,x-systemd.automount,x-foo=bar", []),
        ("diratime,nodiratime,iversion,noiversion,mand,nomand,relatime,strictatime,lazytime,silent", []),
        ("allow_other,umask=022", ["--allow-other", "--umask=022"]),
        ("cache_dir=/a\\,b", ["--cache-dir=/a,b"]),
        (
            "nosuid,nodev,noatime",
            ["--fuse-option", "nosuid", "--fuse-option", "nodev", "--fuse-option", "noatime"],
        ),
        ("profile=work", ["--profile=work"]),
    ],
)
def test_mount_options_become_options(text: str, args: list[str]) -> None:
    assert expand_options(text, FLAGS) == args


@pytest.mark.parametrize("text", ["nosuchoption", "umask", "ro=1", "read_only=yes"])
def test_bad_mount_options(text: str) -> None:
    with pytest.raises(UsageError):
        expand_options(text, FLAGS)


def test_mount_options_are_checked_like_options(run: Run, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for option in ("umask=999", "cache_size=huge", "write_back=never", "uid=nosuchuser", "bogus"):
        assert option.split("=")[-1] in run("mount", "cos://b", "m", "-o", option, code=252).err


def test_every_mount_option_has_a_setting() -> None:
    from dataclasses import fields

    from cosfs.fuse.settings import MountSettings

    assert isinstance(mount, MountCommand)
    own = {"source", "mount_options", "print_unit"}
    named = {
        param.name
        for param in mount.params
        if isinstance(param, click.Option | click.Argument) and param.expose_value
    }
    assert named - own <= {field.name for field in fields(MountSettings)}


def test_mount_refuses_a_mountpoint_that_does_not_exist(run: Run) -> None:
    assert "mkdir" in run("mount", "cos://b", "nowhere", code=252).err


def test_helper_translates_what_mount_passes() -> None:
    args, fake = mount_helper.translate(["cos://b/p", "/mnt", "-o", "rw,_netdev,allow_other", "-v", "-s"])
    assert (args, fake) == (
        ["mount", "cos://b/p", "/mnt", "--fsname=cos://b/p", "-o", "rw,_netdev,allow_other"],
        False,
    )
    assert mount_helper.translate(["cos://", "/mnt", "-sfnv", "-t", "cosfs"]) == (
        ["mount", "cos://", "/mnt", "--fsname=cos://"],
        True,
    )
    for bad in (["cos://"], ["cos://", "/mnt", "-o"], ["cos://", "/mnt", "--what"], []):
        with pytest.raises(ValueError, match=r"needed|needs|no option"):
            mount_helper.translate(bad)


def test_helper_ends_with_the_codes_of_mount(cos_environment: dict[str, str]) -> None:
    def code(*args: str) -> int:
        done = subprocess.run(["mount.cosfs", *args], env=cos_environment, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode

    assert code() == 1
    assert code("cos://b", "/nowhere") == 1
    assert code("cos://b", "/nowhere", "-f") == 0


def test_status_without_mounts(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("cosfs.fuse.registry.mounted_here", dict)
    monkeypatch.setattr("cosfs.fuse.registry.records", list)  # those of other users and tests
    result = run("status")
    assert (result.out, result.err) == ("", "nothing is mounted\n")
    assert run("status", "--output", "json").json == []
    run("status", "/nowhere", code=252)
    run("umount", "/nowhere", code=252)
    run("umount", code=252)


def test_first_bucket_of_an_emulator_needs_no_appid(cos: Run, tmp_path: Path) -> None:
    from cosfs.emulator import Emulator

    with Emulator(tmp_path / "store") as fresh:
        env = {
            "COS_ENDPOINT_URL": fresh.endpoint_url,
            "COS_SECRET_ID": fresh.secret_id,
            "COS_SECRET_KEY": fresh.secret_key,
        }
        made = cos("mb", "cos://photos", env=env, check=True)
        assert made.stdout == f"make_bucket: photos-{fresh.appid}\n"
        assert cos("ls", "--output", "text", env=env, check=True).stdout == f"photos-{fresh.appid}\n"
