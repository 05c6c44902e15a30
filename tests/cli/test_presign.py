"""What `cos presign` prints works with plain curl, for anybody."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cosfs.client.auth import Credentials, sign_form
from cosfs.client.client import CosClient
from cosfs.client.sts import Role, Sts
from cosfs.emulator import Emulator
from tests.cli.conftest import Result

Run = Callable[..., Result]
ROLE = "qcs::cam::uin/100000000001:roleName/emulator"


def curl(*args: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("curl")
    assert program, "curl is not installed"
    return subprocess.run(
        [program, "-sS", "--fail", "--noproxy", "*", *args], capture_output=True, text=True, timeout=90
    )


@pytest.fixture
def objects(client: CosClient, bucket: str) -> str:
    for key in ("a.txt", "b.txt", "deep/c.txt", "it's [1] 中文+&.txt"):
        client.put_object(bucket, key, key.encode())
    return bucket


@pytest.fixture(params=["permanent", "temporary"])
def keys(request: pytest.FixtureRequest, emulator: Emulator) -> dict[str, str]:
    if request.param == "permanent":
        return {}
    base = Credentials(emulator.secret_id, emulator.secret_key)
    made = Sts(emulator.endpoint_url).assume_role(base, Role(ROLE))
    names = ("COS_SECRET_ID", "COS_SECRET_KEY", "COS_SESSION_TOKEN")
    return dict(zip(names, (made.secret_id, made.secret_key, made.token), strict=True))


def test_methods_with_curl(
    run: Run, objects: str, keys: dict[str, str], client: CosClient, tmp_path: Path
) -> None:
    def sign(key: str, *options: str) -> str:
        (line,) = run("presign", f"cos://{objects}/{key}", "--no-glob", *options, env=keys).lines
        return line

    assert curl(sign("it's [1] 中文+&.txt")).stdout == "it's [1] 中文+&.txt"
    assert "200 OK" in curl("-I", sign("a.txt", "--method", "HEAD")).stdout
    (tmp_path / "up").write_text("uploaded")
    put = sign("new", "--method", "PUT", "--content-type", "text/x", "--header", "x-cos-meta-who=me")
    headers = ["-H", "Content-Type: text/x", "-H", "x-cos-meta-who: me"]
    assert curl("-T", "up", *headers, put).returncode == 0
    info = client.head_object(objects, "new")
    assert info is not None and info.headers is not None and info.headers.metadata["who"] == "me"
    assert curl("-T", "up", put).returncode == 22  # without what was signed
    assert curl("-X", "DELETE", sign("new", "--method", "DELETE")).returncode == 0
    assert curl(sign("new")).returncode == 22
    assert curl("-X", "DELETE", sign("a.txt")).returncode == 22  # signed for GET


def test_several_urls_and_patterns(run: Run, objects: str) -> None:
    lines = run("presign", f"cos://{objects}/*.txt", f"cos://{objects}/deep/c.txt").lines
    assert [curl(line).stdout for line in lines] == ["a.txt", "b.txt", "it's [1] 中文+&.txt", "deep/c.txt"]
    records = run("presign", f"cos://{objects}/[ab].txt", "--output", "json").json
    assert [record["Method"] for record in records] == ["GET", "GET"]
    assert "no object matches the pattern" in run("presign", f"cos://{objects}/x*", code=254).err
    assert len(run("presign", f"cos://{objects}/x*", "--no-glob").lines) == 1
    assert len(run("presign", f"cos://{objects}/x*", "--method", "PUT").lines) == 1


def test_object_of_that_very_key_is_meant_before_a_pattern(run: Run, bucket: str, client: CosClient) -> None:
    for key in ("report1.pdf", "report[1].pdf", "x*", "xy"):
        client.put_object(bucket, key, key.encode())
    for key in ("report[1].pdf", "x*"):
        (line,) = run("presign", f"cos://{bucket}/{key}").lines
        assert curl(line).stdout == key
    # A version may be of an object that no list shows any more.
    (line,) = run("presign", f"cos://{bucket}/gone[1].pdf", "--version-id", "v").lines
    assert "/gone%5B1%5D.pdf?" in line


def test_keys_that_end_before_the_url_are_told(run: Run, objects: str, emulator: Emulator) -> None:
    base = Credentials(emulator.secret_id, emulator.secret_key)
    made = Sts(emulator.endpoint_url).assume_role(base, Role(ROLE, duration=600))
    env = {"COS_SECRET_ID": "", "COS_SECRET_KEY": ""}
    assert not run("presign", f"cos://{objects}/a.txt", "--expires-in", "7d").err
    run("configure", "set", "assume_role", ROLE)
    run("configure", "set", "secret_id", emulator.secret_id)
    run("configure", "set", "secret_key", emulator.secret_key)
    assert (
        "the credentials end in"
        in run("presign", f"cos://{objects}/a.txt", "--expires-in", "7d", env=env).err
    )
    assert made.expires


# --- forms


def test_a_form_with_curl(
    run: Run, bucket: str, keys: dict[str, str], client: CosClient, tmp_path: Path
) -> None:
    (tmp_path / "report.pdf").write_bytes(b"pdf")
    (line,) = run("presign", f"cos://{bucket}/inbox/", "--post", "--max-size", "1000", env=keys).lines
    args = shlex.split(line.replace("@FILE", "@report.pdf"))
    assert curl(*args[1:]).returncode == 0
    assert run("cat", f"cos://{bucket}/inbox/report.pdf").out == "pdf"
    (tmp_path / "large").write_bytes(bytes(1001))
    assert curl(*shlex.split(line.replace("@FILE", "@large"))[1:]).returncode == 22
    elsewhere = line.replace("key=inbox/", "key=other/")
    assert curl(*shlex.split(elsewhere.replace("@FILE", "@report.pdf"))[1:]).returncode == 22


def test_a_form_as_json(run: Run, bucket: str, client: CosClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("text")
    args = ("--post", "--content-type", "text/x", "--header", "x-cos-meta-who=me")
    record = run("presign", f"cos://{bucket}/one key.txt", *args, "--output", "json").json
    assert record["Fields"]["key"] == "one key.txt"
    form = [p for name, value in record["Fields"].items() for p in ("--form-string", f"{name}={value}")]
    assert curl(*form, "-F", "file=@f", record["Url"]).returncode == 0
    info = client.head_object(bucket, "one key.txt")
    assert info is not None and info.headers is not None
    assert info.headers.metadata["who"] == "me" and info.headers.content_type == "text/x"
    assert record["Curl"].startswith("curl --fail ")


def test_the_signature_of_a_form_is_that_of_the_documentation() -> None:
    policy = json.dumps(
        {
            "expiration": "2023-11-15T00:00:00.000Z",
            "conditions": [
                {"q-sign-algorithm": "sha1"},
                {"q-ak": "AKIDEXAMPLE0000000000000000000000000"},
                {"q-sign-time": "1700000000;1700003600"},
                ["starts-with", "$key", "up/"],
            ],
        },
        separators=(",", ":"),
    )
    key = Credentials("AKIDEXAMPLE0000000000000000000000000", "ExampleSecretKey0123456789abcdef")
    fields = sign_form(policy, key, 1700000000, 1700003600)
    assert fields["q-signature"] == "62516943dbbd59d775b1d51f3521dcc62656b088"


@pytest.mark.parametrize(
    "args",
    [
        ["cos://b-1250000000"],
        ["cos://"],
        ["cos://b-1250000000/k", "--max-size", "1"],
        ["cos://b-1250000000/k", "--post", "--method", "PUT"],
        ["cos://b-1250000000/k", "--post", "--query", "a=b"],
        [],
    ],
)
def test_mistakes(run: Run, args: list[str]) -> None:
    run("presign", *args, code=252)
