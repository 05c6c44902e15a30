"""Local names that --key-policy encode reads: two of them can mean one key."""

from __future__ import annotations

from pathlib import Path

import pytest

from cosfs.client.client import CosClient
from tests.cli.conftest import Run
from tests.cli.trees import write
from tests.conftest import Cos
from tests.objects import keys


@pytest.mark.parametrize("command", ["sync", "cp"])
def test_names_that_stand_for_one_key(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, command: str
) -> None:
    """Nothing is overwritten, nothing deleted, and what is wrong is said; the rest is done."""
    source = tmp_path / "d"
    for name in ("a", "%61", "ok", "x/y", "x%2Fy", "%78z/1", "xz/1", "%2Fgood", "dir%2F/1"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    client.put_object(bucket, "t/a", b"before")
    client.put_object(bucket, "t/xz/1", b"before")
    options = ["--delete"] if command == "sync" else ["-r"]
    told = run(command, "d", f"cos://{bucket}/t/", "--key-policy", "encode", *options, code=1).err
    for name in ("a", "%61", "x%2Fy", "%78z", "xz", "dir%2F"):
        assert any(f"upload failed: d/{name}" in line and "stands for" in line for line in told.splitlines())
    found = {info.key: info.size for info in client.list_objects(bucket, prefix="t/").objects}
    assert found == {"t//good": 7, "t/a": 6, "t/ok": 2, "t/x/y": 3, "t/xz/1": 6}


def test_names_do_not_depend_on_the_locale(cos: Cos, client: CosClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "é").write_text("x")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    cos("cp", "-r", "d", f"cos://{bucket}/tree", env=ascii_only, check=True)
    cos("cp", "d/é", f"cos://{bucket}/one/", env=ascii_only, check=True)
    assert keys(client, bucket) == ["one/é", "tree/é"]
    cos("sync", f"cos://{bucket}/tree", "out", env=ascii_only, check=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["é"]


@pytest.mark.parametrize("command", ["sync", "cp -r", "mv -r"])
def test_filters_leave_out_files_whose_keys_end_in_a_slash(
    run: Run, client: CosClient, bucket: str, tmp_path: Path, command: str
) -> None:
    write(tmp_path / "d", "a.txt%2F", "s/b%2F", "s/c.txt%2F")
    filters = ("--include", "*.txt/", "--exclude", "a*", "--key-policy", "encode")
    run(*command.split(), "d", f"cos://{bucket}/p", *filters)
    assert keys(client, bucket) == ["p/s/c.txt/"]
    run("sync", "d", f"cos://{bucket}/q", "--include", "a/*", "--key-policy", "encode")
    assert keys(client, bucket, "q/") == []
