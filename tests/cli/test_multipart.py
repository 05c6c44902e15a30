"""`cos multipart` and its aliases: unfinished uploads, over all pages."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from cosfs.emulator import Emulator
from cosfs.units import MIB
from tests.cli.conftest import Run


@pytest.fixture
def uploads(client: CosClient, bucket: str) -> str:
    """A bucket with three uploads, one of which has two parts."""
    for key in ("a/1", "a/1", "b/2"):
        upload = client.create_upload(bucket, key)
    client.upload_part(upload, 1, b"x" * 10)
    client.upload_part(upload, 3, b"y" * 20)
    return bucket


@pytest.mark.parametrize("command", [("multipart", "ls"), ("lsparts",)])
def test_list(run: Run, uploads: str, command: tuple[str, ...]) -> None:
    found = run(*command, f"cos://{uploads}", "--output", "json").json["Uploads"]
    assert [each["Key"] for each in found] == ["a/1", "a/1", "b/2"]
    assert len(run(*command, f"cos://{uploads}/a/").lines) == 2
    assert "b/2" in run(*command, f"cos://{uploads}/b", "--output", "table").out
    assert run(*command, f"cos://{uploads}", "--older-than", "1d").out == ""


def test_parts(run: Run, uploads: str) -> None:
    upload_id = run("multipart", "ls", f"cos://{uploads}/b", "--output", "json").json["Uploads"][0][
        "UploadId"
    ]
    lines = run("multipart", "parts", f"cos://{uploads}/b/2", upload_id).lines
    assert [line.split("\t")[:2] for line in lines] == [["1", "10"], ["3", "20"]]
    assert (
        len(run("lsparts", f"cos://{uploads}/b/2", "--upload-id", upload_id, "--output", "jsonl").lines) == 2
    )
    run("multipart", "parts", f"cos://{uploads}/b/2", "nonsense", code=254)


def test_abort(run: Run, client: CosClient, uploads: str) -> None:
    run("multipart", "abort", f"cos://{uploads}", code=252)
    assert "no unfinished upload" in run("multipart", "abort", f"cos://{uploads}/a").err  # no such key
    assert "no upload gone" in run("abort", f"cos://{uploads}/a/1", "--upload-id", "gone").err
    assert len(client.list_uploads(uploads).uploads) == 3
    run("multipart", "abort", f"cos://{uploads}", "-r", "--older-than", "7d")
    assert run("multipart", "abort", f"cos://{uploads}", "-r", "--dryrun").out.count("(dryrun) delete") == 3
    assert len(client.list_uploads(uploads).uploads) == 3
    first = client.list_uploads(uploads).uploads[0]
    run("abort", f"cos://{uploads}/a/1", "--upload-id", first.upload_id)
    assert len(client.list_uploads(uploads).uploads) == 2
    assert run("multipart", "abort", f"cos://{uploads}/a/1").out.startswith("delete: cos://")
    run("multipart", "abort", f"cos://{uploads}", "-r")
    assert client.list_uploads(uploads).uploads == []


def test_abort_sees_all_pages(
    run: Run, client: CosClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        client.create_upload(bucket, f"k{number // 2}")
    original = CosClient.list_uploads

    def three(self: CosClient, *args: str, **options: str) -> object:
        """Answer as a server with small pages does."""
        page = original(self, *args, **options)
        if len(page.uploads) <= 3:
            return page
        last = page.uploads[2]
        return type(page)(page.uploads[:3], last.key, last.upload_id)

    with monkeypatch.context() as patched:
        patched.setattr(CosClient, "list_uploads", three)
        assert len(run("multipart", "ls", f"cos://{bucket}").lines) == 7
        run("multipart", "abort", f"cos://{bucket}", "-r")
    assert client.list_uploads(bucket).uploads == []


def test_upload_whose_answer_was_lost_is_named(
    run: Run, emulator: Emulator, client: CosClient, bucket: str, tmp_path: Path
) -> None:
    with (tmp_path / "f").open("wb") as file:
        file.truncate(17 * MIB)
    emulator.faults.reset("CreateMultipartUpload", after=True)
    result = run("cp", "f", f"cos://{bucket}/a b'c")
    (stray,) = client.list_uploads(bucket).uploads
    (told,) = [line for line in result.err.splitlines() if "cos multipart" in line]
    words = shlex.split(told[told.index("cos multipart") :])
    assert words == ["cos", "multipart", "abort", f"cos://{bucket}/a b'c", "--upload-id", stray.upload_id]
    run(*words[1:])
    assert not client.list_uploads(bucket).uploads
