"""Sources of credentials beyond keys and roles: pods, programs, keyrings, MFA; what processes share."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest

from cosfs.client.client import CosClient
from cosfs.client.credentials import find_credentials
from cosfs.client.roles import is_cvm
from cosfs.client.temporary import TemporaryCredentials
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from cosfs.errors import CredentialsError, PermissionDeniedError

Connect = Callable[..., CosClient]
BUCKET = "sources-1250000000"
ACCOUNT = "100000000001"
SECRET = "the-secret-of-the-issuer-0123456789"
READ = {
    "version": "2.0",
    "statement": [
        {
            "effect": "allow",
            "action": ["name/cos:GetObject", "name/cos:HeadObject"],
            "resource": f"qcs::cos:*:uid/1250000000:{BUCKET}/*",
        }
    ],
}
DEVICE = f"qcs::cam:uin/{ACCOUNT}::mfa/softToken"


@pytest.fixture(scope="module")
def cloud() -> Iterator[Emulator]:
    with Emulator(buckets=[BUCKET]) as emulator:
        emulator.put_objects(BUCKET, [("k", b"hello")])
        emulator.add_role("reader", [READ])
        provider = emulator.add_identity_provider("cluster", SECRET, algorithms=["HS256"])
        emulator.add_role("pod", [READ], trust("AssumeRoleWithWebIdentity", provider))
        asks = {"string_equal": {"sts:serial_number": DEVICE}}
        emulator.add_role("guarded", [READ], trust("AssumeRole", f"qcs::cam::uin/{ACCOUNT}:root", asks))
        emulator.set_mfa_device(DEVICE, "123456")
        yield emulator


def trust(action: str, who: str, condition: object = None) -> dict[str, object]:
    statement = {"effect": "allow", "action": f"name/sts:{action}", "principal": {"qcs": [who]}}
    return {"version": "2.0", "statement": [statement | ({"condition": condition} if condition else {})]}


def arn(name: str) -> str:
    return f"qcs::cam::uin/{ACCOUNT}:roleName/{name}"


@pytest.fixture
def connect(cloud: Emulator, tmp_path: Path) -> Iterator[Connect]:
    """Open a client with this profile, these options and this environment."""
    opened: list[CosClient] = []

    def connect(
        profile: str = "",
        options: dict[str, object] | None = None,
        ask_code: Callable[[str], str] | None = None,
        **environ: str,
    ) -> CosClient:
        directory = tmp_path / ".cos"
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / "credentials"
        path.write_text(f"[default]\n{profile}")
        path.chmod(0o600)
        given = {"endpoint_url": cloud.endpoint_url, "region": cloud.region, **(options or {})}
        environ["HOME"] = str(tmp_path)
        settings = load_settings(given, environ=environ)
        client = CosClient.from_settings(settings, given, environ=environ, ask_code=ask_code)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def check_reader(client: CosClient) -> None:
    assert client.head_object(BUCKET, "k").size == 5
    with pytest.raises(PermissionDeniedError):
        client.put_object(BUCKET, "k", b"other")


def keys_of(cloud: Emulator, extra: str = "") -> str:
    return f"secret_id = {cloud.secret_id}\nsecret_key = {cloud.secret_key}\n{extra}"


# --- pods


def pod(tmp_path: Path, subject: str = "pod") -> dict[str, str]:
    token = tmp_path / "token"
    token.write_text(jwt.encode({"sub": subject, "exp": time.time() + 600}, SECRET, "HS256"))
    return {
        "TKE_REGION": "ap-guangzhou",
        "TKE_PROVIDER_ID": "cluster",
        "TKE_WEB_IDENTITY_TOKEN_FILE": str(token),
        "TKE_ROLE_ARN": arn("pod"),
    }


def test_a_pod_is_known_by_its_environment(cloud: Emulator, connect: Connect, tmp_path: Path) -> None:
    cloud.requests.reset()
    environ = pod(tmp_path)
    check_reader(connect(**environ))
    assert cloud.requests["AssumeRoleWithWebIdentity"] == 1
    check_reader(connect(**environ))  # found in the cache
    assert cloud.requests["AssumeRoleWithWebIdentity"] == 1
    check_reader(connect("credential_source = TkeRole\n", **environ))
    profile = (
        f"web_identity_token_file = {environ['TKE_WEB_IDENTITY_TOKEN_FILE']}\nprovider_id = cluster\n"
        f"assume_role = {arn('pod')}\nrole_session_name = other\n"
    )
    check_reader(connect(profile))


def test_the_token_of_a_pod_is_read_anew(cloud: Emulator, connect: Connect, tmp_path: Path) -> None:
    environ = pod(tmp_path)
    environ["TKE_PROVIDER_ID"] = "cluster"
    Path(environ["TKE_WEB_IDENTITY_TOKEN_FILE"]).write_text("nonsense")
    client = connect(**environ)
    with pytest.raises(CredentialsError, match="WebIdentityTokenError"):
        client.head_object(BUCKET, "k")
    pod(tmp_path)
    check_reader(client)


def test_half_a_pod_says_what_is_missing(connect: Connect, tmp_path: Path) -> None:
    environ = pod(tmp_path)
    del environ["TKE_PROVIDER_ID"]
    with pytest.raises(CredentialsError, match="needs TKE_PROVIDER_ID as well"):
        connect(**environ)
    environ = pod(tmp_path)
    Path(environ["TKE_WEB_IDENTITY_TOKEN_FILE"]).unlink()
    with pytest.raises(CredentialsError, match="cannot be read"):
        connect(**environ).head_object(BUCKET, "k")


# --- machines


def test_the_role_of_a_machine_is_the_last_source(cloud: Emulator, connect: Connect) -> None:
    endpoint = f"{cloud.endpoint_url}/latest/meta-data/cam/security-credentials/"
    cloud.set_instance_role("reader")
    try:
        check_reader(connect(COS_METADATA_ENDPOINT=endpoint))
        client = connect(keys_of(cloud), COS_METADATA_ENDPOINT=endpoint)
        client.put_object(BUCKET, "mine", b"x")  # the keys of the profile, which may write
    finally:
        cloud.set_instance_role("")


@pytest.mark.parametrize(("vendor", "ours"), [("Tencent Cloud", True), ("QEMU", False)])
def test_a_machine_knows_whose_it_is(tmp_path: Path, vendor: str, ours: bool) -> None:
    (tmp_path / "sys_vendor").write_text(f"{vendor}\n")
    assert is_cvm(tmp_path) is ours


# --- programs


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "give keys.py"
    path.write_text(body)
    return f"credential_process = {sys.executable} '{path}'\n"


def test_a_program_prints_credentials(cloud: Emulator, connect: Connect, tmp_path: Path) -> None:
    answer = {"SecretId": cloud.secret_id, "SecretKey": cloud.secret_key}
    client = connect(script(tmp_path, f"print({json.dumps(answer)!r})"))
    assert client.head_object(BUCKET, "k").size == 5


def test_a_program_is_asked_again_when_its_credentials_end(
    cloud: Emulator, connect: Connect, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    answer = {"SecretId": cloud.secret_id, "SecretKey": cloud.secret_key}
    body = (
        f"import json, time, os\nopen({str(count)!r}, 'a').write('x')\n"
        "assert 'COS_SECRET_KEY' not in os.environ\n"
        f"print(json.dumps({{**{answer!r}, 'ExpiredTime': time.time() + 3600}}))"
    )
    client = connect(script(tmp_path, body))
    provider = client.credentials
    assert isinstance(provider, TemporaryCredentials)
    ahead = 0.0
    provider._clock = lambda: time.time() + ahead
    client.head_object(BUCKET, "k")
    client.head_object(BUCKET, "k")
    assert count.read_text() == "x"
    ahead = 3600.0
    client.head_object(BUCKET, "k")
    assert count.read_text() == "xx"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise SystemExit(3)", "ended with 3"),
        ("print('secret-text')", "did not print the JSON"),
        ("print('{}')", "printed no SecretId"),
        ('print(\'{"SecretId": "AK ID", "SecretKey": "secret-text"}\')', "holds a blank"),
    ],
)
def test_a_program_that_fails(connect: Connect, tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(CredentialsError, match=words) as caught:
        connect(script(tmp_path, body)).head_object(BUCKET, "k")
    assert "secret-text" not in "".join(traceback.format_exception(caught.value))


def test_a_program_that_is_not_there(connect: Connect) -> None:
    with pytest.raises(CredentialsError, match="cannot be run: No such file"):
        connect("credential_process = /nonexistent/program\n").head_object(BUCKET, "k")
    with pytest.raises(CredentialsError, match="cannot be taken apart"):
        connect("credential_process = 'open quote\n")


# --- MFA


def guarded(cloud: Emulator) -> str:
    return keys_of(cloud, f"assume_role = {arn('guarded')}\nmfa_serial = {DEVICE}\n")


def test_a_code_is_given_or_asked_for(cloud: Emulator, connect: Connect, tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(device: str) -> str:
        asked.append(device)
        return "123456"

    with pytest.raises(CredentialsError, match="needs a code of the device"):
        connect(guarded(cloud)).head_object(BUCKET, "k")
    with pytest.raises(CredentialsError, match="MFAFailure"):
        connect(guarded(cloud), {"mfa_code": "654321"}).head_object(BUCKET, "k")
    check_reader(connect(guarded(cloud), ask_code=ask))
    assert asked == [DEVICE]
    check_reader(connect(guarded(cloud)))  # the keys are kept, so nobody needs a code for a while
    for kept in (tmp_path / ".cos" / "cache").glob("*.json"):
        kept.unlink()
    client = connect(guarded(cloud), {"mfa_code": "123456"})
    check_reader(client)
    with pytest.raises(CredentialsError, match="a new code"):
        assert client.credentials is not None
        client.credentials.refresh()


# --- what processes share


def test_many_processes_and_threads_ask_once(cloud: Emulator, connect: Connect, tmp_path: Path) -> None:
    profile = keys_of(cloud, f"assume_role = {arn('reader')}\nrole_session_name = shared\n")
    connect(profile)
    cloud.requests.reset()
    program = (
        "import sys\nfrom cosfs.config import load_settings\n"
        "from cosfs.client.credentials import find_credentials\n"
        f"options = {{'endpoint_url': {cloud.endpoint_url!r}, 'region': 'ap-x'}}\n"
        f"environ = {{'HOME': {str(tmp_path)!r}}}\n"
        "print(find_credentials(load_settings(options, environ=environ), environ=environ).get().secret_id)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    ids = {process.communicate(timeout=60)[0] for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(ids) == 1
    assert cloud.requests["AssumeRole"] == 1

    found = set()
    environ = {"HOME": str(tmp_path)}
    settings = load_settings({"endpoint_url": cloud.endpoint_url, "region": "ap-x"}, environ=environ)

    def get() -> None:
        found.add(find_credentials(settings, environ=environ).get().secret_id)

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {f"{each}\n" for each in found} == ids
    assert cloud.requests["AssumeRole"] == 1
    files = list((tmp_path / ".cos" / "cache").iterdir())
    assert files and all(path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_keys_of_a_file_are_read_again_when_refused(
    cloud: Emulator, connect: Connect, tmp_path: Path
) -> None:
    client = connect("secret_id = AKIDgone\nsecret_key = gone\n")
    path = tmp_path / ".cos" / "credentials"
    path.write_text(f"[default]\n{keys_of(cloud)}")
    assert client.head_object(BUCKET, "k").size == 5


# --- keyrings


@pytest.fixture
def keyring_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A keyring of its own in a file, chosen as users choose theirs."""
    import keyring

    from tests.client.file_keyring import FileKeyring

    path = tmp_path / "keyring.json"
    monkeypatch.setenv("FILE_KEYRING", str(path))
    before = keyring.get_keyring()
    keyring.set_keyring(FileKeyring())
    yield path
    keyring.set_keyring(before)


def test_secrets_in_the_keyring(
    cloud: Emulator, connect: Connect, tmp_path: Path, keyring_environment: Path
) -> None:
    from cosfs.client import keyrings

    path = tmp_path / ".cos" / "credentials"
    with pytest.raises(CredentialsError, match="the keyring for profile 'default'"):
        connect("secret_store = keyring\n")
    keyrings.save("default", path, {"secret_id": cloud.secret_id, "secret_key": cloud.secret_key})
    client = connect("secret_store = keyring\n")
    assert client.head_object(BUCKET, "k").size == 5
    assert cloud.secret_key not in path.read_text()
    keyrings.delete("default", path)
    with pytest.raises(CredentialsError):
        connect("secret_store = keyring\n")
    with pytest.raises(CredentialsError, match="can only be keyring"):
        connect("secret_store = paper\n")


def test_a_machine_without_a_keyring(connect: Connect) -> None:
    import keyring
    from keyring.backends import fail

    before = keyring.get_keyring()
    keyring.set_keyring(fail.Keyring())
    try:
        with pytest.raises(CredentialsError, match="no keyring that can be used"):
            connect("secret_store = keyring\n")
    finally:
        keyring.set_keyring(before)


def test_every_source_says_what_it_is(cloud: Emulator, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "COS_SECRET_ID": "AKID", "COS_SECRET_KEY": "k"}
    settings = load_settings({}, environ=environ)
    found = find_credentials(settings, environ=environ)
    assert found.source == "environment"  # type: ignore[attr-defined]
