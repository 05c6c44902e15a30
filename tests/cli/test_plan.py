"""The commands that were promised first, as they were written then, one after the other in one account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cosfs.errors import ServiceError

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An account of its own: these commands name buckets without their APPID."""
    from cosfs.emulator import Emulator

    with Emulator(tmp_path_factory.mktemp("plan")) as running:
        yield running


def keys(client: CosClient, bucket: str) -> list[str]:
    return [info.key for info in client.list_objects(f"{bucket}-1250000000").objects]


@pytest.fixture
def account(client: CosClient, tmp_path: Path) -> Iterator[Path]:
    """Buckets `bucket`, `bucket1` and `bucket2`; file.txt, and dir with a file and one of another kind."""
    for name in ("bucket", "bucket1", "bucket2"):
        client.create_bucket(f"{name}-1250000000")
    for key in ("file.txt", "path/one.txt", "path/two.log", "old.txt", "dir/a", "prefix/p"):
        client.put_object("bucket-1250000000", key, key.encode())
    client.put_object("bucket1-1250000000", "file", b"1")
    client.put_object("bucket1-1250000000", "path/x", b"x")
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "inner.txt").write_text("i")
    (tmp_path / "dir" / "inner.log").write_text("l")
    yield tmp_path
    for bucket in client.list_buckets():
        for info in client.list_objects(bucket.name).objects:
            client.delete_object(bucket.name, info.key)
        client.delete_bucket(bucket.name)


def test_listings(run: Run, account: Path) -> None:
    assert len(run("ls").lines) == 3
    run("ls", "cos://bucket/")
    assert run("ls", "cos://bucket/prefix/", "--output", "text").lines == ["prefix/p"]
    assert len(run("ls", "cos://bucket/", "--recursive").lines) == 6
    assert "8 B file.txt" in run("ls", "cos://bucket/", "--human-readable").out


def test_copies(run: Run, client: CosClient, account: Path) -> None:
    run("cp", "file.txt", "cos://bucket/path/file.txt")
    run("cp", "./dir/", "cos://bucket/path/", "--recursive")
    assert {"path/file.txt", "path/inner.txt", "path/inner.log"} <= set(keys(client, "bucket"))
    run("cp", "cos://bucket/file.txt", "./local.txt")
    assert (account / "local.txt").read_text() == "file.txt"
    run("cp", "cos://bucket/path/", "./local/", "--recursive")
    assert (account / "local" / "one.txt").read_text() == "path/one.txt"
    run("cp", "cos://bucket1/file", "cos://bucket2/file")
    assert keys(client, "bucket2") == ["file"]
    run(
        "cp", "./dir/", "cos://bucket2/all/", "--recursive", "--include", "*.txt", "--exclude", "x*",
        "--acl", "private", "--metadata", "KEY=VALUE", "--storage-class", "STANDARD_IA",
    )  # fmt: skip
    info = client.head_object("bucket2-1250000000", "all/inner.txt")
    assert info is not None and info.headers is not None and info.storage_class == "STANDARD_IA"
    assert dict(info.headers.metadata) == {"key": "VALUE"}
    assert keys(client, "bucket2") == ["all/inner.txt", "file"]


def test_removals(run: Run, client: CosClient, account: Path) -> None:
    run("rm", "cos://bucket/file.txt")
    run("rm", "cos://bucket/path/", "--include", "*.log")
    assert keys(client, "bucket") == ["dir/a", "old.txt", "path/one.txt", "prefix/p"]
    run("rm", "cos://bucket/path/", "--recursive")
    assert keys(client, "bucket") == ["dir/a", "old.txt", "prefix/p"]


def test_buckets(run: Run, client: CosClient, account: Path, emulator: Emulator) -> None:
    run("mb", "cos://new-bucket", "--region", emulator.region)
    assert "new-bucket-1250000000" in [each.name for each in client.list_buckets()]
    run("rb", "cos://new-bucket")
    run("mb", "cos://new-bucket")
    run("cp", "file.txt", "cos://new-bucket/")
    run("rb", "cos://new-bucket", code=254)
    run("rb", "cos://new-bucket", "--force")
    with pytest.raises(ServiceError):
        client.head_bucket("new-bucket-1250000000")


def test_moves(run: Run, client: CosClient, account: Path) -> None:
    run("mv", "cos://bucket/old.txt", "cos://bucket/new.txt")
    run("mv", "cos://bucket/dir/", "cos://bucket/newdir/", "--recursive")
    found = keys(client, "bucket")
    assert "new.txt" in found and "newdir/a" in found and "old.txt" not in found and "dir/a" not in found


def test_syncs(run: Run, client: CosClient, account: Path) -> None:
    (account / "local").mkdir()
    (account / "local" / "n.txt").write_text("n")
    run("sync", "./local/", "cos://bucket/path/", "--dryrun", "--delete")
    assert "path/n.txt" not in keys(client, "bucket")
    run("sync", "./local/", "cos://bucket/path/")
    run("sync", "cos://bucket/path/", "./local/", "--exact-timestamps")
    assert (account / "local" / "one.txt").exists()
    run(
        "sync",
        "cos://bucket1/path/",
        "cos://bucket2/path/",
        "--size-only",
        "--include",
        "*",
        "--exclude",
        "y",
    )
    assert keys(client, "bucket2") == ["path/x"]
    (account / "local" / "one.txt").unlink()
    run("sync", "./local/", "cos://bucket/path/", "--delete")
    assert "path/one.txt" not in keys(client, "bucket")


def test_the_rest(run: Run, account: Path) -> None:
    assert run("presign", "cos://bucket/file.txt").out.startswith("http")
    assert run("presign", "cos://bucket/file.txt", "--expires-in", "60").out.startswith("http")
    run("configure", "set", "region", "ap-shanghai")
    assert run("configure", "get", "region").out == "ap-shanghai\n"
    run("configure", "list")


def test_global_options(run: Run, account: Path, emulator: Emulator) -> None:
    for form in ("json", "table", "text"):
        run("--output", form, "ls", "cos://bucket/")
    everywhere = ["--region", emulator.region, "--endpoint-url", emulator.endpoint_url, "--no-verify-ssl"]
    run(*everywhere, "--debug", "--no-progress", "ls")
    assert run("ls", *everywhere, "--quiet").err == ""


def test_table_and_json_are_as_drawn(run: Run, account: Path) -> None:
    table = run("ls", "cos://bucket/prefix/", "--output", "table").lines
    assert [line[0] for line in table] == ["┌", "│", "├", "│", "└"]
    assert table[1].split() == ["│", "Key", "│", "Size", "│", "Last", "Modified", "│"]
    (record,) = run("ls", "cos://bucket/prefix/", "--output", "json").json["Objects"]
    assert list(record)[:4] == ["Key", "Size", "LastModified", "ETag"] and record["ETag"].startswith('"')
