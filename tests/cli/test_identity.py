"""`cos whoami` and `cos token`: whose keys are used, and keys that may do less."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cosfs.emulator import Emulator
from tests.cli.conftest import Result

Run = Callable[..., Result]
ACCOUNT = "100000000001"
ROLE = f"qcs::cam::uin/{ACCOUNT}:roleName/emulator"


@pytest.fixture
def home(cos_environment: dict[str, str]) -> Path:
    return Path(cos_environment["HOME"])


def test_whoami_tells_whose_keys_these_are(run: Run, emulator: Emulator) -> None:
    shown = run("whoami", "--output", "json").json
    assert shown["Source"] == "environment"
    assert shown["AccountId"] == ACCOUNT
    assert shown["AppId"] == "1250000000"
    assert shown["Arn"].endswith(f"uin/{ACCOUNT}:uin/{ACCOUNT}")
    assert shown["SecretId"].endswith(emulator.secret_id[-4:])
    assert emulator.secret_id not in json.dumps(shown)
    assert shown["Expires"] == ""
    assert "Source\tenvironment" in run("whoami").out
    assert "│ AccountId" in run("whoami", "--output", "table").out


def test_whoami_of_a_role_has_an_end(run: Run, emulator: Emulator, home: Path) -> None:
    run("configure", "set", "assume_role", ROLE, "--profile", "role")
    run("configure", "set", "credential_source", "Environment", "--profile", "role")
    shown = run("whoami", "--profile", "role", "--output", "json").json
    assert shown["Type"] == "CAMRole"
    assert shown["Source"].startswith(f"role {ROLE} of profile 'role'")
    assert shown["Expires"].endswith("Z")


def test_whoami_with_wrong_keys_is_one_sentence(run: Run) -> None:
    failed = run("whoami", code=253, env={"COS_SECRET_ID": "AKIDnobody"})
    assert "STS does not say whose keys these are" in failed.err
    assert "AuthFailure.SecretIdNotFound" in failed.err
    assert "no credentials are used" in run("whoami", "--no-sign-request", code=253).err


# --- cos token


@pytest.fixture
def limited(run: Run) -> Callable[..., dict[str, str]]:
    """Return the environment of somebody who has only the keys that `cos token` with these options gives."""

    def limited(*options: str) -> dict[str, str]:
        made = run("token", *options, "--output", "json").json
        return {
            "COS_SECRET_ID": made["SecretId"],
            "COS_SECRET_KEY": made["SecretKey"],
            "COS_SESSION_TOKEN": made["Token"],
        }

    return limited


@pytest.fixture
def stored(run: Run, bucket: str) -> str:
    """A bucket with objects in and beside a prefix."""
    Path("f").write_text("hello")
    run("cp", "f", f"cos://{bucket}/in/a")
    run("cp", "f", f"cos://{bucket}/out/b")
    return bucket


def test_token_without_options_may_do_everything(run: Run, limited: Any, stored: str) -> None:
    env = limited()
    assert "in/a" in run("ls", f"cos://{stored}/in/", "--output", "text", env=env).out
    run("rm", f"cos://{stored}/out/b", env=env)


def test_token_of_a_prefix(run: Run, limited: Any, stored: str) -> None:
    env = limited(f"cos://{stored}/in/")
    run("cp", "f", f"cos://{stored}/in/new", env=env)
    assert run("ls", f"cos://{stored}/in/", "--output", "text", env=env).lines == ["in/a", "in/new"]
    run("rm", f"cos://{stored}/in/", "--recursive", env=env)
    assert "AccessDenied" in run("cat", f"cos://{stored}/out/b", env=env, code=1).err
    assert "AccessDenied" in run("ls", f"cos://{stored}/out/", env=env, code=254).err
    assert "AccessDenied" in run("cp", "f", f"cos://{stored}/out/c", env=env, code=1).err


def test_token_that_only_reads(run: Run, limited: Any, stored: str) -> None:
    env = limited("--bucket", stored, "--read-only")
    assert run("cat", f"cos://{stored}/out/b", env=env).out == "hello"
    assert "AccessDenied" in run("cp", "f", f"cos://{stored}/x", env=env, code=1).err
    assert "AccessDenied" in run("rm", f"cos://{stored}/in/a", env=env, code=1).err


def test_token_of_one_action(run: Run, limited: Any, stored: str) -> None:
    env = limited("--bucket", stored, "--prefix", "drop/", "--action", "PutObject")
    run("cp", "f", f"cos://{stored}/drop/x", env=env)
    assert "AccessDenied" in run("cat", f"cos://{stored}/drop/x", env=env, code=1).err


def test_token_of_a_role_and_with_a_policy(run: Run, limited: Any, stored: str, tmp_path: Path) -> None:
    assert run("cat", f"cos://{stored}/in/a", env=limited("--role", ROLE, "--duration", "15m")).out == "hello"
    policy = {
        "version": "2.0",
        "statement": [{"effect": "allow", "action": "name/cos:HeadObject", "resource": "*"}],
    }
    (tmp_path / "p.json").write_text(json.dumps(policy))
    env = limited("--role", ROLE, "--policy", "p.json")
    run("stat", f"cos://{stored}/in/a", env=env)
    assert "AccessDenied" in run("cat", f"cos://{stored}/in/a", env=env, code=1).err


def test_token_from_keys_of_a_role_assumes_it_again(run: Run, stored: str) -> None:
    run("configure", "set", "assume_role", ROLE, "--profile", "role")
    run("configure", "set", "credential_source", "Environment", "--profile", "role")
    made = run("token", f"cos://{stored}/in/", "--profile", "role", "--output", "json").json
    env = {
        "COS_SECRET_ID": made["SecretId"],
        "COS_SECRET_KEY": made["SecretKey"],
        "COS_SESSION_TOKEN": made["Token"],
    }
    assert run("cat", f"cos://{stored}/in/a", env=env).out == "hello"
    assert "AccessDenied" in run("cat", f"cos://{stored}/out/b", env=env, code=1).err
    # Temporary keys cannot be made into others.
    assert "TempKeyNotAllowed" in run("token", "--read-only", env=env, code=253).err
    assert run("token", "--output", "json", env=env).json["SecretId"] == made["SecretId"]


def test_token_as_lines_for_a_shell(cos: Any, stored: str, cos_environment: dict[str, str]) -> None:
    script = f'eval "$(cos token cos://{stored}/in/)" && test -n "$COS_SESSION_TOKEN" && cos cat cos://{stored}/in/a'
    done = subprocess.run(
        ["sh", "-c", script], env=cos_environment, capture_output=True, text=True, timeout=150
    )
    assert (done.returncode, done.stdout) == (0, "hello"), done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--read-only", "--action", "GetObject"],
        ["--prefix", "x"],
        ["--policy", "/nonexistent"],
        ["--policy", "/dev/null"],
        ["--policy", "/dev/null", "--read-only"],
        ["bucket"],
        ["--duration", "0"],
    ],
)
def test_token_mistakes(run: Run, options: list[str]) -> None:
    run("token", *options, code=252)


# --- a terminal


@pytest.fixture
def guarded(emulator: Emulator) -> Iterator[str]:
    device = f"qcs::cam:uin/{ACCOUNT}::mfa/softToken"
    emulator.set_mfa_device(device, "123456")
    yield device


def test_the_code_of_a_device_is_asked_for_at_a_terminal(
    run: Run, terminal: Callable[..., Any], guarded: str, home: Path
) -> None:
    for key, value in (
        ("assume_role", ROLE),
        ("credential_source", "Environment"),
        ("mfa_serial", guarded),
        ("role_session_name", "with-code"),
    ):
        run("configure", "set", key, value, "--profile", "mfa")
    assert "--mfa-code" in run("whoami", "--profile", "mfa", code=253).err
    shown = terminal("whoami", "--profile", "mfa", "--output", "json")
    shown.read_until(f"Code of the MFA device {guarded}:")
    shown.type("123456\n")
    assert shown.finish() == 0
    run("whoami", "--profile", "mfa")  # from the cache
    for kept in (home / ".cos" / "cache").glob("*.json"):
        kept.unlink()
    assert "MFAFailure" in run("whoami", "--profile", "mfa", "--mfa-code", "1234", code=253).err
    run("whoami", "--profile", "mfa", "--mfa-code", "123456")
