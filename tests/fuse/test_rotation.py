"""Credentials that end or are replaced while a mount works with them: no call fails."""

from __future__ import annotations

import json
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cosfs.emulator import Credential, Emulator
from tests.fuse.support import until
from tests.fuse.users import User, user_of

ALL = {
    "version": "2.0",
    "statement": [{"effect": "allow", "action": ["name/cos:*"], "resource": ["*"]}],
}
LIFE = 2  # seconds

pytestmark = pytest.mark.fuse


@pytest.fixture
def other(server: Emulator, tmp_path: Path) -> Iterator[User]:
    """A user whose environment has no keys."""
    with user_of(server, tmp_path.resolve() / "home") as made:
        for name in ("COS_SECRET_ID", "COS_SECRET_KEY"):
            del made.environment[name]
        yield made


def profile(user: User, text: str) -> None:
    place = user.home / ".cos"
    place.mkdir(mode=0o700, exist_ok=True)
    new = place / "new"
    new.write_text(f"[default]\n{text}")
    new.chmod(0o600)
    new.rename(place / "credentials")


def keys(credential: Credential) -> str:
    return f"secret_id = {credential.secret_id}\nsecret_key = {credential.secret_key}\n"


def work_until(path: Path, done: Callable[[], bool], what: str) -> None:
    """Write, list, read and remove in three threads until done; any error fails the test."""
    stop, errors, count = threading.Event(), list[Exception](), [0]

    def work(name: str) -> None:
        directory = path / name
        number = 0
        try:
            directory.mkdir()
            while not stop.is_set():
                number += 1
                file = directory / f"{number}"
                file.write_bytes(b"x" * number)
                assert f"{number}" in [each.name for each in directory.iterdir()]
                assert file.read_bytes() == b"x" * number
                file.unlink()
                count[0] += 1
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: errors or (done() and count[0] > 10), what)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, errors


def test_a_role_is_taken_on_again_before_it_ends(server: Emulator, other: User) -> None:
    role = server.add_role("worker", [ALL])
    extra = f"assume_role = {role.arn}\nsts_endpoint = {server.endpoint_url}\nduration_seconds = {LIFE}\n"
    profile(other, f"secret_id = {server.secret_id}\nsecret_key = {server.secret_key}\n{extra}")
    other.mount("cos://b-1250000000", "--debug")
    work_until(other.mountpoint, lambda: server.requests["AssumeRole"] >= 3, "the role was taken on again")
    text = other.cos("stats", other.mountpoint, "--prometheus").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("cosfs_credentials_expire_seconds ")]
    assert abs(float(line.split()[1]) - time.time()) < 60
    check_quiet(other, server)


def test_the_role_of_the_machine_is_asked_for_again(server: Emulator, other: User) -> None:
    server.add_role("machine", [ALL])
    server.set_instance_role("machine", LIFE)
    place = f"{server.endpoint_url}/latest/meta-data/cam/security-credentials/"
    profile(other, f"credential_source = CvmRole\nmetadata_endpoint = {place}\n")
    given: set[str] = set()
    other.mount("cos://b-1250000000")

    def seen() -> bool:
        # Each request names the key that signed it; how many there were is what matters.
        text = other.cos("stats", other.mountpoint, "--prometheus").stdout
        given.update(line for line in text.splitlines() if line.startswith("cosfs_credentials_expire"))
        return len(given) >= 3

    work_until(other.mountpoint, seen, "the machine had three keys")
    check_quiet(other, server)


def test_a_program_is_run_again(server: Emulator, other: User) -> None:
    """It hands out keys that it reads from a file, and says that they end in two seconds."""
    handed = other.home / "handed"
    program = other.home / "program"
    program.write_text(
        f"#!{sys.executable}\nimport json, time\n"
        f"key = json.load(open({str(other.home / 'key')!r}))\n"
        f"open({str(handed)!r}, 'a').write(key['SecretId'] + '\\n')\n"
        f"print(json.dumps({{**key, 'ExpiredTime': time.time() + {LIFE}}}))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    profile(other, f"credential_process = {program}\n")

    def hand_out() -> None:
        new = server.add_key()
        text = json.dumps({"SecretId": new.secret_id, "SecretKey": new.secret_key})
        (other.home / "key.new").write_text(text)
        (other.home / "key.new").rename(other.home / "key")

    hand_out()
    other.mount("cos://b-1250000000")

    def done() -> bool:
        hand_out()
        return len(set(handed.read_text().split())) >= 3

    work_until(other.mountpoint, done, "the program was run again")
    check_quiet(other, server)


def test_keys_in_the_file_are_replaced(server: Emulator, other: User) -> None:
    """The old ones are switched off as soon as the new ones are in the file."""
    old = server.add_key()
    profile(other, keys(old))
    other.mount("cos://b-1250000000")
    replaced: list[Credential] = []

    def replace() -> bool:
        new = server.add_key()
        profile(other, keys(new))
        before = replaced[-1] if replaced else old
        with server.service.lock:
            del server.service.emulation.store._credentials[before.secret_id]
        replaced.append(new)
        time.sleep(0.3)
        return len(replaced) >= 5

    work_until(other.mountpoint, replace, "the keys were replaced")
    assert any(entry.code == "InvalidAccessKeyId" for entry in server.requests.log())
    check_quiet(other, server, old.secret_key, *(each.secret_key for each in replaced))


def check_quiet(user: User, server: Emulator, *secrets: str) -> None:
    """Nothing went wrong that the log knows of, and no secret is in it, old or new."""
    text = user.log()
    known = server.service.emulation.store._credentials.values()
    secrets += tuple(secret for each in known for secret in (each.secret_key, each.token) if secret)
    assert len(secrets) > 1 and not [secret for secret in secrets if secret in text]
    assert not [line for line in text.splitlines() if " ERROR " in line or "Traceback" in line], text
