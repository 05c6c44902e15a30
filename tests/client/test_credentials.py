"""Where credentials come from; STS and the metadata service are played by a loopback server."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cosfs.client import temporary
from cosfs.client.auth import CredentialProvider, Credentials, StaticCredentials
from cosfs.client.credentials import find_credentials
from cosfs.client.roles import CvmRole
from cosfs.client.temporary import TemporaryCredentials
from cosfs.config import load_settings
from cosfs.errors import ConfigError, CredentialsError, NetworkError, NetworkTimeoutError
from tests.client.scripted import Answer, Request, Script, ScriptedServer
from tests.waiting import until

ARN = "qcs::cam::uin/100000000001:roleName/reader"
Find = Callable[..., CredentialProvider]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    """Find credentials with this content of ~/.cos/credentials and ~/.cos/config."""

    def find(
        credentials: str = "", config: str = "", options: dict[str, object] | None = None, **environ: str
    ) -> CredentialProvider:
        directory = tmp_path / ".cos"
        directory.mkdir(exist_ok=True, mode=0o700)
        for name, text in (("credentials", credentials), ("config", config)):
            (directory / name).write_text(text)
            (directory / name).chmod(0o600)
        environ["HOME"] = str(tmp_path)
        settings = load_settings(options or {}, environ=environ)
        return find_credentials(settings, options, environ=environ)

    return find


PROFILE = (
    "[default]\nsecret_id = AKIDfile\nsecret_key = file-key\n[work]\nsecret_id = AKIDwork\nsecret_key = w\n"
)
ENVIRON = {"COS_SECRET_ID": "AKIDenv", "COS_SECRET_KEY": "env-key"}


def test_order_of_sources(find: Find) -> None:
    options: dict[str, object] = {"secret_id": "AKIDoption", "secret_key": "option-key"}
    assert find(PROFILE, options=options, **ENVIRON).get() == Credentials("AKIDoption", "option-key")
    assert find(PROFILE, **ENVIRON).get() == Credentials("AKIDenv", "env-key")
    assert find(PROFILE).get() == Credentials("AKIDfile", "file-key")
    assert find(PROFILE, COS_PROFILE="work").get() == Credentials("AKIDwork", "w")


def test_profile_by_option_goes_before_the_environment(find: Find) -> None:
    assert find(PROFILE, options={"profile": "work"}, **ENVIRON).get().secret_id == "AKIDwork"
    config = "[profile bare]\nregion = ap-x\n"
    assert find(PROFILE, config, options={"profile": "bare"}, **ENVIRON).get().secret_id == "AKIDenv"


def test_source_is_taken_whole(find: Find) -> None:
    options: dict[str, object] = {"secret_id": "AKIDoption", "secret_key": "k"}
    assert find(options=options, **ENVIRON, COS_SESSION_TOKEN="env-token").get().token == ""
    with_token = PROFILE.replace("file-key\n", "file-key\nsession_token = file-token\n")
    assert find(with_token, **ENVIRON).get().token == ""
    assert find(with_token).get().token == "file-token"
    assert find(**ENVIRON, COS_TOKEN="t1").get().token == "t1"
    assert find(**ENVIRON, COS_TOKEN="t1", COS_SESSION_TOKEN="t2").get().token == "t2"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "no credentials were found"),
        ({"options": {"secret_id": "AKID"}}, "--secret-id and --secret-key must be given together"),
        ({"options": {"secret_key": "k"}}, "--secret-id and --secret-key must be given together"),
        ({"options": {"session_token": "t"}}, "--session-token needs"),
        ({"COS_SECRET_ID": "AKID"}, "COS_SECRET_ID and COS_SECRET_KEY must be set together"),
        ({"COS_SECRET_KEY": "k", "credentials": PROFILE}, "must be set together"),
        ({"credentials": "[default]\nsecret_id = AKID\n"}, "must have both secret_id and secret_key"),
        ({"credentials": f"[default]\nassume_role = {ARN}\n"}, "no keys to assume its role with"),
        ({"credentials": "[default]\ncredential_source = Magic\n"}, "can only be CvmRole"),
        (
            {"credentials": f"[default]\nassume_role = {ARN}\nsource_profile = nobody\n"},
            "source_profile 'nobody' of profile 'default' does not exist",
        ),
        (
            {
                "credentials": f"[default]\nassume_role = {ARN}\nsource_profile = a\n"
                f"[a]\nassume_role = {ARN}\nsource_profile = default\n"
            },
            "name each other",
        ),
        ({"COS_SECRET_ID": "AKID x", "COS_SECRET_KEY": "k"}, "secret_id from the environment holds a blank"),
        ({"COS_SECRET_ID": "AKID", "COS_SECRET_KEY": "k\n"}, "secret_key from the environment"),
        ({"COS_SECRET_ID": "AKID", "COS_SECRET_KEY": "“k”"}, "secret_key from the environment"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_incomplete_credentials(find: Find, arguments: dict[str, str], words: str) -> None:
    with pytest.raises(CredentialsError) as caught:
        find(**arguments)
    assert words in str(caught.value)
    assert caught.value.exit_code == 253


def test_errors_show_no_secrets(find: Find) -> None:
    with pytest.raises(CredentialsError) as caught:
        find(COS_SECRET_ID="AKID", COS_SECRET_KEY="hidden secret")
    assert "hidden" not in str(caught.value)


# --- roles


@pytest.fixture
def serve() -> Iterator[Callable[..., ScriptedServer]]:
    with ExitStack() as stack:
        yield lambda *answers: stack.enter_context(ScriptedServer(*answers))


def sts(number: int = 1, lifetime: float = 7200) -> Answer:
    answer = {
        "Response": {
            "Credentials": {
                "Token": f"token{number}",
                "TmpSecretId": f"AKIDtmp{number}",
                "TmpSecretKey": "tmp",
            },
            "ExpiredTime": int(time.time() + lifetime),
            "Expiration": "2026-01-01T00:00:00Z",
            "RequestId": "request",
        }
    }
    return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


def sts_error(code: str, message: str = "message") -> Answer:
    answer = {"Response": {"Error": {"Code": code, "Message": message}, "RequestId": "request"}}
    return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


def role_profile(server: ScriptedServer, more: str = "") -> str:
    return (
        f"{PROFILE}[role]\nassume_role = {ARN}\nsource_profile = default\nsts_endpoint = {server.url}\n{more}"
    )


def asked(request: Request) -> dict[str, object]:
    body: dict[str, object] = json.loads(request.body)
    return body


def test_role_is_assumed_and_kept(find: Find, serve: Callable[..., ScriptedServer], tmp_path: Path) -> None:
    server = serve(sts(1), sts(2))
    profile = role_profile(server, "external_id = xid\nrole_session_name = me\nduration_seconds = 1h\n")
    provider = find(profile, options={"profile": "role"})
    first = provider.get()
    assert (first.secret_id, first.secret_key, first.token) == ("AKIDtmp1", "tmp", "token1")
    assert first.expires > time.time() + 7000
    assert provider.get() is first
    (request,) = server.requests
    assert request.headers["x-tc-action"] == "AssumeRole"
    assert "Credential=AKIDfile/" in request.headers["authorization"]
    assert asked(request) == {
        "RoleArn": ARN,
        "RoleSessionName": "me",
        "DurationSeconds": 3600,
        "ExternalId": "xid",
    }
    # Another run of the program does not ask again.
    assert find(profile, options={"profile": "role"}).get() == first
    assert len(server.requests) == 1
    (kept,) = (tmp_path / ".cos" / "cache").glob("*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    # What COS has refused is replaced, there too.
    again = find(profile, options={"profile": "role"})
    again.get()
    assert again.refresh().secret_id == "AKIDtmp2"
    assert again.refresh().secret_id == "AKIDtmp2"
    assert len(server.requests) == 2
    assert find(profile, options={"profile": "role"}).get().secret_id == "AKIDtmp2"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"id": 5}', "\x00"])
def test_damaged_cache_is_as_good_as_none(
    find: Find, serve: Callable[..., ScriptedServer], tmp_path: Path, content: str
) -> None:
    server = serve(sts(1), sts(2))
    profile = role_profile(server)
    find(profile, options={"profile": "role"}).get()
    (kept,) = (tmp_path / ".cos" / "cache").glob("*.json")
    kept.write_text(content)
    assert find(profile, options={"profile": "role"}).get().secret_id == "AKIDtmp2"


def test_cache_that_others_can_read_is_not_believed(
    find: Find, serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    server = serve(sts(1), sts(2))
    profile = role_profile(server)
    find(profile, options={"profile": "role"}).get()
    (kept,) = (tmp_path / ".cos" / "cache").glob("*.json")
    kept.chmod(0o644)
    assert find(profile, options={"profile": "role"}).get().secret_id == "AKIDtmp2"


def test_role_from_the_environment(find: Find, serve: Callable[..., ScriptedServer]) -> None:
    server = serve(sts())
    config = f"[default]\nsts_endpoint = {server.url}\nsts_region = ap-s\n"
    assert find("", config, **ENVIRON, COS_ASSUME_ROLE=ARN).get().token == "token1"
    assert "Credential=AKIDenv/" in server.requests[0].headers["authorization"]
    assert server.requests[0].headers["x-tc-region"] == "ap-s"
    assert find(PROFILE, config, COS_ASSUME_ROLE=ARN).get().token == "token1"
    assert "Credential=AKIDfile/" in server.requests[1].headers["authorization"]


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AuthFailure.SecretIdNotFound", "Check secret_id and secret_key"),
        ("ResourceNotFound.RoleNotFound", "Check assume_role"),
        ("UnauthorizedOperation", "trust policy"),
        ("InternalError", ""),
    ],
)
def test_sts_refuses(find: Find, serve: Callable[..., ScriptedServer], code: str, hint: str) -> None:
    provider = find(role_profile(serve(sts_error(code, "the reason"))), options={"profile": "role"})
    with pytest.raises(CredentialsError) as caught:
        provider.get()
    assert f"the role {ARN} cannot be assumed: the reason ({code}, RequestId request)" in str(caught.value)
    assert hint in caught.value.hint


def test_sts_that_does_not_answer(find: Find, serve: Callable[..., ScriptedServer]) -> None:
    server = serve(Answer(raw=b"", end="close"))
    with pytest.raises(NetworkError, match="cannot be reached"):
        find(role_profile(server), options={"profile": "role"}).get()


@pytest.mark.parametrize(
    "endpoint", ["http://sts.example", "https://user@host", "not a host", "https://h/path"]
)
def test_sts_endpoint_must_be_safe(find: Find, endpoint: str) -> None:
    profile = f"{PROFILE}assume_role = {ARN}\nsts_endpoint = {endpoint}\n"
    with pytest.raises(ConfigError, match="sts_endpoint"):
        find(profile, options={"profile": "work"}).get()


def test_bad_duration(find: Find) -> None:
    with pytest.raises(ConfigError, match="duration_seconds"):
        find(f"{PROFILE}assume_role = {ARN}\nduration_seconds = long\n", options={"profile": "work"})


# --- the role of a machine


def metadata(request: Request) -> Answer:
    if request.target.endswith("/"):
        return Answer(200, b"machine-role\n")
    body = {
        "TmpSecretId": "AKIDcvm",
        "TmpSecretKey": "k",
        "ExpiredTime": int(time.time()) + 3600,
        "Token": "t",
        "Code": "Success",
    }
    return Answer(200, json.dumps(body, indent=2).encode())


def test_role_of_the_machine(
    find: Find, serve: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    server = serve(metadata)
    config = f"[default]\ncredential_source = CvmRole\nmetadata_endpoint = {server.url}/cam/\n"
    assert find("", config).get().secret_id == "AKIDcvm"
    assert [request.target for request in server.requests] == ["/cam/", "/cam/machine-role"]
    assert find("", f"{config}cvm_role_name = other\n").get().token == "t"
    assert server.requests[-1].target == "/cam/other"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([Answer(404, b"")], "does not answer"),
        ([Answer(200, b"")], "no role is bound"),
        ([Answer(200, b"role"), Answer(200, b"nonsense")], "unreadable"),
        ([Answer(200, b"role"), Answer(200, b'{"Code": "Failed"}')], "gives no credentials: Failed"),
        ([Answer(200, b"role"), Answer(200, b'{"Code": "Success"}')], "unreadable"),
    ],
)
def test_metadata_service_in_trouble(
    serve: Callable[..., ScriptedServer], answers: list[Script], words: str
) -> None:
    with pytest.raises(CredentialsError, match=words):
        CvmRole(endpoint=serve(*answers).url).get()


# --- credentials that end


class Fetched(TemporaryCredentials):
    def __init__(self, lifetime: float) -> None:
        self.now = 1000.0
        super().__init__(lambda: self.now)
        self.lifetime = lifetime
        self.count = 0
        self.broken = False

    def fetch(self) -> Credentials:
        if self.broken:
            raise CredentialsError("STS is away")
        self.count += 1
        return Credentials(f"AKID{self.count}", "k", "t", self.now + self.lifetime)


def test_renewed_shortly_before_the_end() -> None:
    provider = Fetched(7200)
    assert provider.get().secret_id == "AKID1"
    provider.now += 7200 - 301
    assert provider.get().secret_id == "AKID1"
    provider.now += 2
    assert provider.get().secret_id == "AKID2"
    short = Fetched(100)
    short.get()
    short.now += 89
    assert short.get().secret_id == "AKID1"
    short.now += 2
    assert short.get().secret_id == "AKID2"


def test_old_ones_are_used_while_no_new_ones_come(caplog: pytest.LogCaptureFixture) -> None:
    provider = Fetched(7200)
    provider.get()
    provider.now += 7000
    provider.broken = True
    with caplog.at_level(logging.WARNING):
        assert provider.get().secret_id == "AKID1"
        assert provider.get().secret_id == "AKID1"
    assert len([record for record in caplog.records if record.name == temporary.__name__]) == 1
    assert "STS is away; the old credentials are used for 200 s more" in caplog.text
    provider.now += 195
    with pytest.raises(CredentialsError, match="STS is away"):
        provider.get()


def test_refused_ones_are_fetched_once_for_all_who_ask() -> None:
    provider = Fetched(7200)
    provider.get()
    provider.now += 100
    assert provider.refresh().secret_id == "AKID2"
    assert provider.refresh().secret_id == "AKID2"


def test_static_ones_stay() -> None:
    key = Credentials("AKID", "k")
    assert StaticCredentials(key).get() is StaticCredentials(key).refresh() is key


class Crowded:
    """A lock that knows how many wait for it or have it."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._count = threading.Lock()
        self.crowd = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        with self._count:
            self.crowd += 1
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        with self._count:
            self.crowd -= 1
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Hanging(Fetched):
    """Fetches nothing until it may."""

    def __init__(self) -> None:
        super().__init__(7200)
        self.go_on = threading.Event()
        self.began = threading.Event()
        self._lock: Any = Crowded(self._lock)

    def fetch(self) -> Credentials:
        self.began.set()
        self.go_on.wait(60)
        return super().fetch()


def test_nobody_waits_longer_than_he_may_for_those_that_do_not_come() -> None:
    provider = Hanging()
    provider.limit = 0.05
    with pytest.raises(NetworkTimeoutError, match="no new credentials came"):
        provider.get()
    with pytest.raises(NetworkTimeoutError, match="no new credentials came"):
        provider.refresh()
    provider.limit = 60
    provider.go_on.set()
    assert provider.get().secret_key == "k"


def test_who_waits_for_a_fetch_that_fails_is_told_so() -> None:
    provider = Hanging()
    provider.broken = True
    errors: list[CredentialsError] = []

    def ask() -> None:
        try:
            provider.get()
        except CredentialsError as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    threads[0].start()
    assert provider.began.wait(60)
    for thread in threads[1:]:
        thread.start()
    until(lambda: provider._lock.crowd == 8, "all of them want the lock")
    provider.began.clear()
    provider.go_on.set()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 8
    assert not provider.began.is_set()
