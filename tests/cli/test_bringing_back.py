"""cos undelete and cos restore."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.undelete import choose
from cosfs.client.client import CosClient
from cosfs.client.model import Headers, ObjectVersion
from cosfs.emulator import Emulator, Limits
from tests.cli.conftest import Run
from tests.objects import keys, stored

# --- undelete: what is to be done


def history(*steps: tuple[str, float]) -> list[ObjectVersion]:
    """Versions from the newest on: (content or "" for a delete marker, time)."""
    return [
        ObjectVersion("k", f"v{time}", place == 0, not content, len(content), content, time)
        for place, (content, time) in enumerate(steps)
    ]


@pytest.mark.parametrize(
    ("versions", "before", "markers", "version"),
    [
        (history(("a", 1)), None, [], ""),
        (history(("", 2), ("a", 1)), None, ["v2"], ""),
        (history(("", 3), ("", 2), ("a", 1)), None, ["v3", "v2"], ""),
        (history(("", 2)), None, [], ""),
        (history(("b", 2), ("a", 1)), 1.5, [], "v1"),
        (history(("b", 2), ("a", 1)), 2.5, [], ""),
        (history(("", 3), ("b", 2), ("a", 1)), 2.5, ["v3"], ""),
        (history(("", 3), ("b", 2), ("a", 1)), 1.5, [], "v1"),
        (history(("c", 3), ("", 2), ("a", 1)), 2.5, [], ""),
        (history(("c", 3), ("", 2), ("a", 1)), 1.5, [], "v1"),
        (history(("a", 1)), 0.5, [], ""),
    ],
)
def test_what_brings_an_object_back(
    versions: list[ObjectVersion], before: float | None, markers: list[str], version: str
) -> None:
    step = choose(versions, before)
    assert markers == [] if step is None else [each.version_id for each in step.markers] == markers
    assert (step.version.version_id if step and step.version else "") == version


# --- undelete


@pytest.fixture
def versioned(run: Run, bucket: str) -> str:
    run("versioning", "enable", f"cos://{bucket}")
    return bucket


def test_undelete_of_one(run: Run, client: CosClient, versioned: str) -> None:
    client.put_object(versioned, "k", b"data")
    client.put_object(versioned, "k2", b"other")
    client.delete_object(versioned, "k")
    client.delete_object(versioned, "k")
    client.delete_object(versioned, "k2")
    assert "(dryrun) undelete" in run("undelete", f"cos://{versioned}/k", "--dryrun").out
    assert keys(client, versioned) == []
    assert run("undelete", f"cos://{versioned}/k").out == f"undelete: cos://{versioned}/k\n"
    assert keys(client, versioned) == ["k"]
    assert "nothing" in run("undelete", f"cos://{versioned}/k").err


def test_undelete_of_a_tree_keeps_to_filters(run: Run, client: CosClient, versioned: str) -> None:
    for number in range(5):
        client.put_object(versioned, f"d/{number}.txt", b"x" * number)
    client.put_object(versioned, "e/other", b"")
    run("rm", f"cos://{versioned}/", "--recursive", "--yes")
    result = run("undelete", f"cos://{versioned}/d/", "-r", "--exclude", "3*", "--output", "jsonl")
    assert [event["op"] for event in result.events[:-1]] == ["undelete"] * 4
    assert keys(client, versioned) == ["d/0.txt", "d/1.txt", "d/2.txt", "d/4.txt"]


def test_undelete_to_a_time_undoes_overwriting(run: Run, client: CosClient, tmp_path: Path) -> None:
    # On a clock of its own, so that there is time between the versions.
    with Emulator(tmp_path / "data", buckets=["b"]) as emulator:
        env = {
            "COS_ENDPOINT_URL": emulator.endpoint_url,
            "COS_SECRET_ID": emulator.secret_id,
            "COS_SECRET_KEY": emulator.secret_key,
        }
        bucket = "b-1250000000"

        def cos(*args: object, code: int = 0) -> str:
            return run(*args, code=code, env=env).out

        def put(key: str, text: str) -> None:
            (tmp_path / "f").write_text(text)
            cos("cp", "f", f"cos://{bucket}/{key}")

        cos("versioning", "enable", f"cos://{bucket}")
        put("changed", "before")
        put("removed", "before")
        put("same", "before")
        emulator.clock.advance(3600)
        moment = datetime.fromtimestamp(emulator.clock() - 1800, UTC).isoformat()
        put("changed", "after")
        put("new", "after")
        cos("rm", f"cos://{bucket}/removed")
        out = cos("undelete", f"cos://{bucket}/", "-r", "--before", moment)
        assert len(out.splitlines()) == 2
        assert cos("cat", f"cos://{bucket}/changed") == "before"
        assert cos("cat", f"cos://{bucket}/removed") == "before"
        assert cos("cat", f"cos://{bucket}/new") == "after"
        assert cos("undelete", f"cos://{bucket}/", "-r", "--before", moment).count("changed") == 1


def test_undelete_of_what_never_was(run: Run, bucket: str) -> None:
    assert "versioning" in run("undelete", f"cos://{bucket}/none", code=1).err
    run("undelete", f"cos://{bucket}/", code=252)
    run("undelete", f"cos://{bucket}/k", "--include", "*", code=252)


# --- restore


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator where thawing takes its time."""
    with Emulator(tmp_path / "slow", buckets=["b"], limits=Limits(restore_tiers=True)) as emulator:
        yield emulator


def test_restore(run: Run, client: CosClient, bucket: str) -> None:
    archive = Headers(storage_class="ARCHIVE")
    client.put_object(bucket, "d/cold", b"data", headers=archive)
    client.put_object(bucket, "d/warm", b"data")
    assert run("cat", f"cos://{bucket}/d/cold", code=1).out == ""
    assert run("restore", f"cos://{bucket}/d/", "-r", "--dryrun").lines == [
        f"(dryrun) restore: cos://{bucket}/d/cold"
    ]
    assert run("restore", f"cos://{bucket}/d/", "-r", "--days", "2", "--tier", "bulk", "--wait").lines == [
        f"restore: cos://{bucket}/d/cold (Bulk, for 2 days)"
    ]
    assert stored(client, bucket, "d/cold") == b"data"
    assert "already" in run("restore", f"cos://{bucket}/d/cold").err
    assert "already" in run("restore", f"cos://{bucket}/d/warm").err


def test_restore_waits_until_it_can_be_read(
    slow: Emulator, cos_environment: dict[str, str], tmp_path: Path
) -> None:
    env = cos_environment | {
        "COS_ENDPOINT_URL": slow.endpoint_url,
        "COS_SECRET_ID": slow.secret_id,
        "COS_SECRET_KEY": slow.secret_key,
    }
    (tmp_path / "f").write_bytes(b"data")
    url = "cos://b-1250000000/k"
    subprocess.run(
        ["cos", "cp", os.fspath(tmp_path / "f"), url, "--storage-class", "ARCHIVE"], env=env, check=True
    )
    with subprocess.Popen(
        ["cos", "restore", url, "--wait", "--interval", "50ms", "--output", "jsonl"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "1 of 1 not readable yet" in process.stderr.readline()
        again = subprocess.run(["cos", "restore", url], env=env, capture_output=True, text=True, check=True)
        assert "on its way already" in again.stdout
        slow.clock.advance(6 * 3600)
        out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    assert json.loads(out.splitlines()[0])["op"] == "restore"
    assert subprocess.run(["cos", "cat", url], env=env, capture_output=True, check=True).stdout == b"data"


def test_restore_refuses_what_makes_no_sense(run: Run, bucket: str) -> None:
    run("restore", f"cos://{bucket}/d/", code=252)
    run("restore", f"cos://{bucket}/k", "--days", "0", code=252)
    run("restore", f"cos://{bucket}/k", "--tier", "Fast", code=252)
    run("restore", f"cos://{bucket}/k", "--include", "*", code=252)
    run("restore", f"cos://{bucket}/", "-r", "--version-id", "x", code=252)
    assert "none" in run("restore", f"cos://{bucket}/none", code=1).err
