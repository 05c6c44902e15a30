"""An emulator, a mount of it that can be killed, and a look at the bucket past the mount."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import time
from pathlib import Path

from cosfs.client.client import CosClient
from cosfs.config import load_settings
from cosfs.emulator import Emulator
from cosfs.fs.journal import Journal
from scripts.stressing.writer import Directory, File, Tree
from tests.mounting import Mounted

# So that there are uploads in parts without large files.
CONFIG = "[default]\ncos =\n  multipart_threshold = 1MB\n  multipart_chunksize = 1MB\n"
BUCKET = "stress"


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

    def mount(self, write_back: str, *options: str) -> Mounted:
        base = Path(tempfile.mkdtemp(dir=self.scratch))
        mounted = Mounted.start(
            f"cos://{self.bucket}",
            ("--write-back", write_back, "--retry-max", "2s", *options),
            base,
            self.cache,
            self.environment,
        )
        try:
            mounted.wait_until_ready()
        except BaseException:
            mounted.clean_up()
            raise
        return mounted

    # Past the mount

    def stored(self) -> Tree:
        """What the bucket holds, as the mount would show it."""
        found: Tree = {}
        marker = ""
        while True:
            page = self.client.list_objects(self.bucket, marker=marker)
            for info in page.objects:
                head = self.client.head_object(self.bucket, info.key)
                metadata = head.headers.metadata if head.headers is not None else {}
                mode = stat.S_IMODE(int(metadata.get("mode", "0")))
                if info.key.endswith("/"):
                    found[info.key[:-1]] = Directory(mode)
                else:
                    with self.client.get_object(self.bucket, info.key) as stream:
                        found[info.key] = File(mode, b"".join(stream.chunks()))
            marker = page.next_marker
            if not marker:
                return found

    def leavings(self) -> str:
        """What should not be there when everything was sent and unmounted, "" if nothing is."""
        uploads = self.client.list_uploads(self.bucket).uploads
        if uploads:
            return f"{len(uploads)} uploads left open: {uploads[0].key}"
        for path in self.cache.glob("*/journal.db"):
            journal = Journal(path.parent)
            records = journal.records()
            staged = list(journal.staging.iterdir())
            journal.close()
            if records:
                return f"{len(records)} records left, the first is {records[0].kind} of {records[0].key}"
            if staged:
                return f"{len(staged)} staging files left"
        return ""

    def kept_aside(self) -> list[str]:
        """The lines of recovered/LIST.txt."""
        return [
            line
            for path in self.cache.glob("*/recovered/LIST.txt")
            for line in path.read_text().splitlines()
            if not line.startswith("#")
        ]


def within(seconds: float, what: str, check: object) -> str:
    """Call check() until it returns ""; return its last answer when time is over."""
    deadline = time.monotonic() + seconds
    assert callable(check)
    while True:
        try:
            answer = check()
        except OSError as error:
            answer = f"{what}: {error}"
        if not answer or time.monotonic() > deadline:
            return str(answer)
        time.sleep(0.1)
