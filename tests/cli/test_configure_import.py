"""`cos configure import-*`: settings of other tools, as their own programs write them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.cli.conftest import Result

Run = Callable[..., Result]
ID, KEY, TOKEN = "AKIDabcdefgh1234", "topsecretkey5678topsecretkey5678", "a-token-of-some-length"


@pytest.fixture
def home(cos_environment: dict[str, str]) -> Path:
    return Path(cos_environment["HOME"])


def hidden(secret: str) -> str:
    """Hide a secret as coscli does."""
    data = secret.encode()
    data += b"\0" * (16 - len(data) % 16)
    encryptor = Cipher(algorithms.AES(b"coscli-secret\0\0\0"), modes.ECB()).encryptor()
    return base64.b64encode(encryptor.update(data) + encryptor.finalize()).decode()


def coscli(secret_id: str, secret_key: str, mode: str = "SecretKey") -> str:
    return f"""cos:
  base:
    secretid: {secret_id}
    secretkey: {secret_key}
    sessiontoken: ""
    protocol: https
    mode: {mode}
    cvmrolename: reader
    closeautoswitchhost: ""
  buckets:
  - name: photos-1250000000
    alias: p
    region: ""
    endpoint: cos.ap-beijing.myqcloud.com
    ofs: false
"""


@pytest.mark.parametrize("hide", [hidden, str], ids=["encrypted", "plain"])
def test_coscli(run: Run, home: Path, hide: Callable[[str], str]) -> None:
    (home / ".cos.yaml").write_text(coscli(hide(ID), hide(KEY)))
    told = run("configure", "import-coscli", "--profile", "old").err
    assert "profile 'old' has from ~/.cos.yaml: region, secret_id, secret_key" in told
    assert "the alias p was left out; write cos://photos-1250000000" in told
    assert KEY not in told and ID not in told
    assert run("configure", "get", "old.secret_id").lines == [ID]
    assert run("configure", "get", "old.secret_key").lines == [KEY]
    assert run("configure", "get", "old.region").lines == ["ap-beijing"]
    regions = json.loads((home / ".cos" / "cache" / "regions.json").read_text())
    assert regions == {"photos-1250000000": "ap-beijing"}
    assert (home / ".cos" / "credentials").stat().st_mode & 0o777 == 0o600


def test_coscli_with_the_role_of_a_machine(run: Run, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(coscli("", "", "CvmRole"))
    run("configure", "import-coscli", "--file", "old.yaml", "--profile", "machine")
    assert run("configure", "get", "machine.credential_source").lines == ["CvmRole"]
    assert run("configure", "get", "machine.cvm_role_name").lines == ["reader"]


def test_coscmd(run: Run, home: Path) -> None:
    (home / ".cos.conf").write_text(
        f"[common]\nsecret_id = {ID}\nsecret_key = {KEY}%x\ntoken = {TOKEN}\nbucket = photos-1250000000\n"
        "region = cos.gz\nmax_thread = 7\npart_size = 2\nschema = https\nverify = md5\nanonymous = False\n"
    )
    told = run("configure", "import-coscmd").err
    assert "write cos://photos-1250000000" in told and KEY not in told
    expected = {
        "secret_id": ID,
        "secret_key": f"{KEY}%x",
        "session_token": TOKEN,
        "region": "ap-guangzhou",
        "appid": "1250000000",
        "cos.max_concurrent_requests": "7",
        "cos.multipart_chunksize": "2MB",
    }
    assert {name: run("configure", "get", name).out.strip() for name in expected} == expected


def test_coscmd_of_an_endpoint(run: Run, home: Path) -> None:
    (home / ".cos.conf").write_text("[common]\nendpoint = localhost:9000\nschema = http\n")
    run("configure", "import-coscmd")
    assert run("configure", "get", "endpoint_url").lines == ["http://localhost:9000"]


def test_tccli(run: Run, home: Path) -> None:
    directory = home / ".tccli"
    directory.mkdir()
    credential = {"secretId": ID, "secretKey": KEY, "role-arn": "qcs::cam::uin/1:roleName/r"}
    (directory / "work.credential").write_text(json.dumps(credential))
    configure = {"_sys_param": {"region": "ap-nanjing", "output": "json"}, "cvm": {"version": "2017-03-12"}}
    (directory / "work.configure").write_text(json.dumps(configure))
    run("configure", "import-tccli", "--from", "work", "--profile", "work")
    assert run("configure", "get", "work.secret_key").lines == [KEY]
    assert run("configure", "get", "work.region").lines == ["ap-nanjing"]
    assert run("configure", "get", "work.assume_role").lines == ["qcs::cam::uin/1:roleName/r"]


@pytest.mark.parametrize(
    ("command", "name", "text"),
    [
        ("import-coscli", ".cos.yaml", "just text"),
        ("import-coscli", ".cos.yaml", "cos: [1, 2"),
        ("import-coscli", ".cos.yaml", "cos: {base: 5}"),
        ("import-coscmd", ".cos.conf", "no section"),
        ("import-coscmd", ".cos.conf", "[other]\na = b\n"),
        ("import-tccli", ".tccli/default.credential", "[]"),
        ("import-tccli", ".tccli/default.credential", "{"),
    ],
)
def test_what_is_no_such_file_is_said_and_nothing_written(
    run: Run, home: Path, command: str, name: str, text: str
) -> None:
    assert "cannot read" in run("configure", command, code=253).err
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text(text)
    assert "is not a file of" in run("configure", command, code=253).err
    assert not (home / ".cos").exists()
    assert run("configure", "import-tccli", "--from", "../x", code=252)
