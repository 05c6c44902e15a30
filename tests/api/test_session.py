"""`cosfs.Session` as a program uses it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import cosfs
from cosfs.config import Settings
from cosfs.emulator import Emulator
from cosfs.errors import (
    AlreadyExistsError,
    CancelledError,
    CredentialsError,
    IntegrityError,
    ObjectNotFoundError,
    TransferError,
    UsageError,
)
from cosfs.units import MIB
from tests.conftest import Cos
from tests.objects import options_of
from tests.waiting import until

HELD = 3600.0  # seconds that a request takes which is not to be answered


@pytest.fixture
def base(bucket: str) -> str:
    return f"cos://{bucket}"


def test_everything_that_is_promised_can_be_imported() -> None:
    for name in cosfs.__all__:
        assert getattr(cosfs, name) is not None
    with pytest.raises(AttributeError):
        cosfs.nothing  # noqa: B018


def test_importing_the_package_alone_imports_nothing_else() -> None:
    loaded = "[name for name in sys.modules if name.startswith(('trio', 'cosfs.client'))]"
    code = f"import sys, cosfs; print({loaded})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_bytes(session: cosfs.Session, base: str) -> None:
    stored = session.write(f"{base}/k", b"content", headers=cosfs.Headers(metadata={"a": "b"}))
    assert stored.size == 7
    assert session.read(f"{base}/k") == b"content"
    assert session.read(f"{base}/k", 2, 4) == b"nt"
    info = session.stat(f"{base}/k")
    assert info.headers is not None and info.headers.metadata["a"] == "b"
    with pytest.raises(AlreadyExistsError):
        session.write(f"{base}/k", b"other", overwrite=False)


def test_bytes_that_break_off_or_are_damaged_on_the_way_are_read_again(
    session: cosfs.Session, base: str, emulator: Emulator
) -> None:
    data = os.urandom(3 * MIB)
    session.write(f"{base}/k", data)
    emulator.faults.truncate("GetObject", offset=500_000, count=1)
    assert session.read(f"{base}/k") == data
    emulator.faults.truncate("GetObject", offset=1000, count=1)
    assert session.read(f"{base}/k", 100, 5000) == data[100:5000]
    emulator.faults.corrupt("GetObject", offset=500_000, count=1)
    assert session.read(f"{base}/k") == data
    emulator.faults.corrupt("GetObject", offset=500_000, count=0)
    with pytest.raises(IntegrityError):
        session.read(f"{base}/k")
    emulator.faults.clear()
    session.write(f"{base}/empty", b"")
    assert session.read(f"{base}/empty") == session.read(f"{base}/k", 7, 7) == b""
    with pytest.raises(UsageError):
        session.read(f"{base}/k", 7, 6)


def test_files_of_all_sizes(session: cosfs.Session, base: str, tmp_path: Path) -> None:
    moved: list[int] = []
    for size in (0, 1000, 20 * MIB):
        path, back = tmp_path / f"f{size}", tmp_path / f"b{size}"
        path.write_bytes(os.urandom(size))
        assert session.upload(path, f"{base}/u{size}", progress=moved.append).size == size
        session.copy(f"{base}/u{size}", f"{base}/c{size}")
        assert session.download(f"{base}/c{size}", back).verified == "crc64"
        assert back.read_bytes() == path.read_bytes()
    assert sum(moved) == 20 * MIB + 1000


def test_calls_of_many_threads_share_the_engine(session: cosfs.Session, base: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 10_000)
    before = threading.enumerate()
    threads = [
        threading.Thread(target=session.upload, args=(tmp_path / "f", f"{base}/t{n}")) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([*session.list(f"{base}/t")]) == 20
    engines = [each for each in threading.enumerate() if each.name == "cos-engine" and each not in before]
    assert len(engines) == 1


def test_listing_is_sorted_by_bytes_and_has_more_than_a_page(
    session: cosfs.Session, base: str, emulator: Emulator
) -> None:
    bucket = base.removeprefix("cos://")
    names = sorted([f"p/{n:04}" for n in range(1500)] + ["p/a/b", "p/é", "p/￿", "p/𐀀"], key=str.encode)
    emulator.put_objects(bucket, ((name, b"") for name in names))
    assert [item.key for item in session.list(f"{base}/p/")] == names
    shallow = list(session.list(f"{base}/p/", recursive=False))
    assert [item.key for item in shallow if isinstance(item, cosfs.Prefix)] == ["p/a/"]
    assert bucket in [found.name for found in session.buckets()]


def test_removing(session: cosfs.Session, base: str, emulator: Emulator) -> None:
    emulator.put_objects(base.removeprefix("cos://"), ((f"k{n}", b"") for n in range(1200)))
    emulator.requests.reset()
    session.remove(*(f"{base}/k{n}" for n in range(1200)), f"{base}/never-there")
    assert emulator.requests["DeleteObjects"] == 2
    assert not [*session.list(base)]


def test_bad_calls(session: cosfs.Session, base: str, tmp_path: Path, settings: Settings) -> None:
    for call in (
        lambda: session.read("k"),
        lambda: session.read("cos://"),
        lambda: session.read(base),
        lambda: session.upload(tmp_path, f"{base}/k"),
        lambda: session.sync(tmp_path, tmp_path),
        lambda: session.sync(tmp_path / "missing", base),
        lambda: session.sync(base, f"{base}/below"),
        lambda: cosfs.Session(settings, region="ap-beijing"),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(ObjectNotFoundError):
        session.download(f"{base}/nothing", tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        session.upload(tmp_path / "missing", f"{base}/k")
    assert not [*tmp_path.iterdir()]


def test_a_session_without_credentials_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("COS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CredentialsError):
        cosfs.Session()


def test_a_closed_session_is_closed(session: cosfs.Session, base: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    session.upload(tmp_path / "f", f"{base}/k")
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.upload(tmp_path / "f", f"{base}/k")


def test_cancelling_from_another_thread(
    session: cosfs.Session, base: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "f").write_bytes(bytes(30 * MIB))
    held = emulator.faults.latency(HELD, "UploadPart")
    emulator.requests.reset()
    cancellation = cosfs.Cancellation()

    def cancel() -> None:
        while not emulator.requests["UploadPart"]:
            time.sleep(0.01)
        cancellation.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(CancelledError):
        session.upload(
            tmp_path / "f",
            f"{base}/k",
            cancellation=cancellation,
            options=cosfs.TransferOptions(resume=False),
        )
    canceller.join()
    with pytest.raises(CancelledError):
        session.upload(tmp_path / "f", f"{base}/k", cancellation=cancellation)
    emulator.faults.release(held)
    assert not session.client.list_uploads(base.removeprefix("cos://")).uploads
    # Others go on.
    assert session.upload(tmp_path / "f", f"{base}/k").size == 30 * MIB


def test_ctrl_c_ends_the_call_that_is_waited_for(
    cos_environment: dict[str, str], base: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "f").write_bytes(bytes(30 * MIB))
    held = emulator.faults.latency(HELD, "UploadPart")
    code = f"""
import cosfs
with cosfs.Session() as cos:
    try:
        cos.upload("f", "{base}/k", options=cosfs.TransferOptions(resume=False), progress=lambda count: None)
    except KeyboardInterrupt:
        print("interrupted")
"""
    emulator.requests.reset()
    with subprocess.Popen(
        [sys.executable, "-c", code], env=cos_environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        while not emulator.requests["UploadPart"]:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=90)
    assert told == "interrupted\n" and process.returncode == 0
    emulator.faults.release(held)
    with cosfs.Session(
        endpoint_url=emulator.endpoint_url, secret_id=emulator.secret_id, secret_key=emulator.secret_key
    ) as session:
        assert not session.client.list_uploads(base.removeprefix("cos://")).uploads


def workers() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if re.fullmatch(r"cos-\d+", each.name)}


@pytest.mark.parametrize("operation", ["UploadPart", "CopyObject"])
def test_closing_ends_calls_of_other_threads(
    base: str, tmp_path: Path, emulator: Emulator, operation: str
) -> None:
    (tmp_path / "f").write_bytes(bytes(30 * MIB))
    emulator.faults.latency(HELD, operation)
    ended: list[BaseException] = []
    before = workers()
    session = cosfs.Session(**options_of(emulator), read_timeout=HELD)
    session.write(f"{base}/small", b"x")
    emulator.requests.reset()

    def call() -> None:
        try:
            if operation == "CopyObject":
                session.copy(f"{base}/small", f"{base}/k")
            else:
                session.upload(tmp_path / "f", f"{base}/k")
        except cosfs.COSError as error:
            ended.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    until(lambda: emulator.requests[operation], "it has begun")
    session.close()
    thread.join(timeout=150)
    assert not thread.is_alive()
    assert [type(error) for error in ended] == [CancelledError]
    until(lambda: not workers() - before, "nobody waits for COS any more")


def test_a_callback_that_calls_its_session_is_told_so(
    session: cosfs.Session, base: str, site: Path, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    with pytest.raises(UsageError, match="callback"):
        session.sync(site, base, on_event=lambda event: session.upload(tmp_path / "f", f"{base}/k"))


def test_a_session_works_in_a_forked_process(
    cos_environment: dict[str, str], base: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"x")
    code = f"""
import cosfs, os
with cosfs.Session() as cos:
    cos.upload("f", "{base}/one")
    cos.write("{base}/long", bytes(30 << 20))
    with cos.client.get_object("{base}"[6:], "long") as stream:
        child = os.fork()
        if not child:
            cos.upload("f", "{base}/two")
            cos.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert sum(map(len, stream.chunks())) == 30 << 20
    cos.upload("f", "{base}/three")
    print(*sorted(item.key for item in cos.list("{base}/")))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=cos_environment, cwd=tmp_path, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("long one three two\n", "")


@pytest.mark.parametrize("op", ["upload", "download", "copy"])
def test_what_a_killed_program_did_is_gone_on_with(
    cos_environment: dict[str, str], base: str, tmp_path: Path, emulator: Emulator, cos: Cos, op: str
) -> None:
    data = os.urandom(16 * MIB)
    (tmp_path / "f").write_bytes(data)
    bucket = base.removeprefix("cos://")
    emulator.put_objects(bucket, [("k", data)])
    operation = {"upload": "UploadPart", "download": "GetObject", "copy": "UploadPartCopy"}[op]
    call = {
        "upload": f"cos.upload('f', '{base}/l', options=options)",
        "download": f"cos.download('{base}/k', 'g', options=options)",
        "copy": f"cos.copy('{base}/k', '{base}/l', options=options)",
    }[op]
    code = f"""
import cosfs
options = cosfs.TransferOptions(part_size=1 << 20, part_threshold=8 << 20)
with cosfs.Session() as cos:
    {call}
"""
    # The sixth part and all after it hang, so it is known what is done when the program is killed.
    home = Path(cos_environment["HOME"])
    (home / ".cos").mkdir(mode=0o700, exist_ok=True)
    (home / ".cos/config").write_text(
        "[default]\ncos =\n  resume_threshold = 8MB\n  max_concurrent_requests = 1\n"
    )
    emulator.requests.reset()
    fault = emulator.faults.latency(HELD, operation)
    fault.skip = 5
    with subprocess.Popen(
        [sys.executable, "-c", code], env=cos_environment, cwd=tmp_path, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 90
        while emulator.requests[operation] < 6 or not any(len(job["done"]) >= 4 for job in jobs(home)):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    emulator.faults.clear()
    (job,) = jobs(home)
    emulator.requests.reset()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=cos_environment, cwd=tmp_path, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert emulator.requests[operation] == 16 - len(job["done"])
    if op == "download":
        assert (tmp_path / "g").read_bytes() == data
    else:
        cos("cp", f"{base}/l", "back", check=True)
        assert (tmp_path / "back").read_bytes() == data
    assert jobs(home) == []
    assert not [*tmp_path.glob(".cos-*")]
    assert cos("multipart", "ls", base, "--output", "text", check=True).stdout == ""


def jobs(home: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(home.glob(".cos/resume/*.json"))]


# --- trees


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "deep" / "er").mkdir(parents=True)
    for name in ("a", "deep/b", "deep/er/c d"):
        (root / name).write_bytes(name.encode() * 100)
    return root


def test_sync_in_all_directions(session: cosfs.Session, base: str, site: Path, tmp_path: Path) -> None:
    first = session.sync(site, f"{base}/s/")
    assert (first.transferred, first.unchanged, first.ok) == (3, 0, True)
    again = session.sync(site, f"{base}/s/")
    assert (again.transferred, again.unchanged) == (0, 3)
    assert session.sync(f"{base}/s/", f"{base}/t").transferred == 3
    assert session.sync(f"{base}/t/", tmp_path / "back").transferred == 3
    assert tree(tmp_path / "back") == tree(site)
    assert session.sync(f"{base}/t/", tmp_path / "back").unchanged == 3


def test_sync_deletes_and_tells(session: cosfs.Session, base: str, site: Path) -> None:
    session.sync(site, base)
    (site / "a").unlink()
    (site / "new").write_bytes(b"new")
    options = cosfs.SyncOptions(delete=True)
    events: list[cosfs.SyncEvent] = []
    plan = session.sync(site, base, options=options, dryrun=True, on_event=events.append)
    assert (plan.transferred, plan.deleted, plan.unchanged) == (1, 1, 2)
    assert len([*session.list(base)]) == 3
    done = session.sync(site, base, options=options, on_event=events.append)
    assert (done.transferred, done.deleted, done.unchanged) == (1, 1, 2)
    told = [(event.action, event.destination) for event in events]
    assert told == [("upload", f"{base}/new"), ("delete", f"{base}/a")] * 2
    assert sorted(item.key for item in session.list(base)) == ["deep/b", "deep/er/c d", "new"]


def test_sync_refuses_to_empty_the_destination(
    session: cosfs.Session, base: str, site: Path, tmp_path: Path
) -> None:
    session.sync(site, base)
    (tmp_path / "empty").mkdir()
    with pytest.raises(TransferError, match="allow-empty-source"):
        session.sync(tmp_path / "empty", base, options=cosfs.SyncOptions(delete=True))
    assert len([*session.list(base)]) == 3


def test_a_failure_of_one_does_not_stop_the_others(
    session: cosfs.Session, base: str, site: Path, emulator: Emulator
) -> None:
    emulator.faults.error("PutObject", "AccessDenied", count=1, key="deep/b")
    result = session.sync(site, base)
    assert result.transferred == 2 and not result.ok
    (failure,) = result.failures
    assert failure.destination == f"{base}/deep/b" and "access denied" in str(failure.error)


def test_names_that_no_path_can_have_are_skipped(
    session: cosfs.Session, base: str, tmp_path: Path, emulator: Emulator
) -> None:
    emulator.put_objects(base.removeprefix("cos://"), [("s/../evil", b"x"), ("s/good", b"y"), ("s/d/", b"")])
    result = session.sync(f"{base}/s/", tmp_path / "back")
    assert result.skipped == 1 and result.ok
    assert tree(tmp_path) == {"back/good": b"y"} and (tmp_path / "back/d").is_dir()


def test_headers_go_with_every_file(session: cosfs.Session, base: str, site: Path) -> None:
    session.sync(site, base, headers=cosfs.Headers(cache_control="max-age=60"))
    info = session.stat(f"{base}/deep/b")
    assert info.headers is not None and info.headers.cache_control == "max-age=60"
