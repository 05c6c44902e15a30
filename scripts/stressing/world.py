"""An emulator, a mount of it that can be killed, and a look at the bucket past the mount."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from cosfs.errors import COSError, NotFoundError
from tests.mounting import Mounted

# So that there are uploads in parts without large files.
CONFIG = "[default]\ncos =\n  multipart_threshold = 1MB\n  multipart_chunksize = 1MB\n"
BUCKET = "stress"
FIRST_REQUEST_WITHIN = 5.0
MOUNTED_WITHIN = 120.0  # on a machine that is busy with other things as well


class World:
    """Everything of one series of runs, below one temporary directory."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.emulator = Emulator(scratch / "store")
        self.emulator.start()
        self.bucket = self.emulator.create_bucket(BUCKET)
        self.cache = scratch / "cache"
        home = scratch / "home"
        (home / ".cos").mkdir(parents=True, mode=0o700)
        config = home / ".cos" / "config"
        config.write_text(CONFIG)
        config.chmod(0o600)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COS_")}
        self.environment = inherited | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COS_ENDPOINT_URL": self.emulator.endpoint_url,
            "COS_SECRET_ID": self.emulator.secret_id,
            "COS_SECRET_KEY": self.emulator.secret_key,
            "COS_REGION": self.emulator.region,
        }
        settings = load_settings({}, environ=self.environment)
        self.client = CosClient.from_settings(settings, environ=self.environment)

    def close(self) -> None:
        self.client.close()
        self.emulator.stop()

    def version(self, status: str) -> None:
        """Have the bucket keep versions, or not; "" for as it is."""
        if status:
            document = f"<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>"
            self.client.put_document(self.bucket, "versioning", document.encode())

    def cut(self) -> None:
        """Have COS away from now on."""
        self.emulator.stop()

    def repair(self) -> None:
        """Have COS back, if it was away."""
        self.emulator.start()

    # The mount

    def start(self, write_back: str, *options: str) -> Mounted:
        """Begin to mount; nobody waits until it answers."""
        base = Path(tempfile.mkdtemp(dir=self.scratch))
        return Mounted.start(
            f"cos://{self.bucket}",
            ("--write-back", write_back, "--retry-max", "2s", *options),
            base,
            self.cache,
            self.environment,
        )

    def mount(self, write_back: str, *options: str) -> Mounted:
        mounted = self.start(write_back, *options)
        try:
            mounted.wait_until_ready(MOUNTED_WITHIN)
        except BaseException:
            mounted.clean_up()
            raise
        return mounted

    def unmount(self, mounted: Mounted) -> subprocess.Popen[bytes]:
        """Begin to end a mount as a user does."""
        return subprocess.Popen(
            ["cos", "umount", str(mounted.path)],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def recover(self) -> subprocess.Popen[bytes]:
        """Begin to finish without a mount what one has left."""
        return subprocess.Popen(
            ["cos", "recover", str(self.cache)],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def wait_for_request(self, seconds: float, operation: str = "") -> None:
        """Return some seconds after the next request (of an operation), or when none comes."""

        def count() -> int:
            return self.emulator.requests[operation] if operation else self.emulator.requests.total

        before = count()
        deadline = time.monotonic() + FIRST_REQUEST_WITHIN
        while count() == before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(seconds)

    def requests(self) -> list[str]:
        """The last requests, one a line."""
        return [
            f"{entry.time:.4f} {entry.ms:.0f}ms {entry.operation} {entry.target} {entry.status}"
            for entry in self.emulator.requests.log()
        ]

    @property
    def kept_journal(self) -> Path:
        return self.scratch / "at-kill"

    def keep_journal(self) -> None:
        """Keep what a killed mount has left and asked, for whoever looks for the cause of a loss."""
        shutil.rmtree(self.kept_journal, ignore_errors=True)
        for path in self.cache.glob("*/journal.db"):
            for name in ("journal.db", "journal.db-wal", "attributes.db", "attributes.db-wal"):
                if (path.parent / name).exists():
                    self.kept_journal.mkdir(exist_ok=True)
                    shutil.copy(path.parent / name, self.kept_journal / name)
            shutil.copytree(path.parent / "staging", self.kept_journal / "staging")
        if self.kept_journal.exists():
            (self.kept_journal / "requests").write_text("\n".join(self.requests()))

    def keep_evidence(self, kept: Path, lists: Mapping[str, Iterable[str]]) -> None:
        """Keep lists of what was done, the requests, the journals and the mounts' logs."""
        kept.mkdir(parents=True, exist_ok=True)
        for name, lines in {**lists, "requests": self.requests()}.items():
            (kept / name).write_text("\n".join(lines))
        for log in self.scratch.glob("tmp*/mount.log"):
            shutil.copy(log, kept / f"{log.parent.name}.log")
        shutil.copytree(self.cache, kept / "cache-now", dirs_exist_ok=True)
        if self.kept_journal.exists():
            shutil.copytree(self.kept_journal, kept / "cache-at-kill", dirs_exist_ok=True)

    def empty(self) -> None:
        """Begin anew: neither a cache nor an object is left."""
        shutil.rmtree(self.cache, ignore_errors=True)
        marker = ""
        while page := self.client.list_objects(self.bucket, marker=marker):
            for info in page.objects:
                self.client.delete_object(self.bucket, info.key)
            marker = page.next_marker
            if not marker:
                break
        for upload in self.client.list_uploads(self.bucket).uploads:
            self.client.abort_upload(upload)
        for base in self.scratch.glob("tmp*"):
            (base / "mount.log").unlink(missing_ok=True)

    # Past the mount

    def has(self, key: str, data: bytes) -> bool:
        """Whether an object is there with these bytes; COS that cannot be asked is believed."""
        try:
            with self.client.get_object(self.bucket, key) as stream:
                return b"".join(stream.chunks()) == data
        except NotFoundError:
            return False
        except COSError:
            return True

    def is_renaming(self) -> bool:
        """Whether a rename is still to be finished."""
        journals = self.cache.glob("*/journal.db")
        return any(kind in ("move", "rename") for path in journals for kind, _ in _records(path))

    def mistakes(self) -> str:
        """The first exception in a log of a mount that nobody caught, "" if there is none."""
        for log in self.scratch.glob("tmp*/mount.log"):
            text = log.read_text(errors="replace")
            if "Traceback" in text:
                return text[text.index("Traceback") :][:2000]
        return ""

    def leavings(self, *, staging: bool = True) -> str:
        """What should not be there when everything was sent, "" if nothing is.

        Without staging: but for files of what was open when a mount was stopped; the next one removes them.
        """
        for path in self.cache.glob("*/journal.db"):
            records = _records(path)
            if records:
                return f"{len(records)} records left, the first is {records[0][0]} of {records[0][1]}"
            staged = list((path.parent / "staging").iterdir())
            if staged and staging:
                return f"{len(staged)} staging files left"
        uploads = self.client.list_uploads(self.bucket).uploads
        if uploads:
            return f"{len(uploads)} uploads left open: {uploads[0].key}"
        return ""

    def open_uploads(self) -> int:
        """How many multipart uploads COS holds."""
        return len(self.client.list_uploads(self.bucket).uploads)

    def kept_aside(self) -> list[str]:
        """The lines of recovered/LIST.txt."""
        return [
            line
            for path in self.cache.glob("*/recovered/LIST.txt")
            for line in path.read_text().splitlines()
            if not line.startswith("#")
        ]


def _records(journal: Path) -> list[tuple[str, str]]:
    """Kind and key of the records of a journal; a mount may be using it."""
    connection = sqlite3.connect(journal, timeout=10)
    try:
        return connection.execute("select kind, key from record order by id").fetchall()
    finally:
        connection.close()


def within(
    seconds: float, what: str, check: Callable[[], str], may_change: Callable[[], bool] = lambda: True
) -> str:
    """Call check() until it returns "", or its answer will not change; return its last answer."""
    deadline = time.monotonic() + seconds
    while True:
        final = not may_change()
        try:
            answer = check()
        except OSError as error:
            answer, final = f"{what}: {error}", False
        if not answer or final or time.monotonic() > deadline:
            return answer
        time.sleep(0.1)
