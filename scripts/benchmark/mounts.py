"""The mounts that are compared: how each is started, what it used, how it is ended whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark.programs import PEERS, ROOT, cos_environment, found_program, rclone_environment
from scripts.benchmark.servers import BUCKET, Server

READY_WITHIN = 20.0  # seconds
ENDED_WITHIN = 20.0
_UMOUNT, _LAZY = (["umount"], "-l") if os.geteuid() == 0 else (["fusermount3", "-u"], "-z")
READING = frozenset({"small", "ls", "ls_again", "ls_10k", "ls_10k_again", "find", "stat"})
CHANGING = frozenset({"write", "create", "rm", "mv", "untar", "clone"})
_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Mount:
    """One way to mount a bucket, in the foreground.

    command: words in which {bucket}, {mnt}, {cache}, {port} and {home} stand for what they say.
    only: rows it is measured in; empty: all. works: other work than the row's own, for what is no mount.
    trusts_lists: takes names, sizes and times from lists and asks for no attributes; closes_early: close()
    does not wait for the server. Both tell which of ours it is compared with.
    """

    name: str
    command: str
    environment: Callable[[Server, Path], Mapping[str, str]] = field(repr=False)
    version: str = ""
    note: str = ""
    only: frozenset[str] = frozenset()
    works: Mapping[str, str] = field(default_factory=dict)
    trusts_lists: bool = False
    closes_early: bool = False

    @property
    def is_ours(self) -> bool:
        return self.name.startswith("cos") and self.name != "cosfs"

    @property
    def is_reference(self) -> bool:
        return bool(self.works)

    def does(self, row: str) -> bool:
        return not self.only or row in self.only

    def like(self, row: str) -> str:
        """Return which of ours promises about as much in a row."""
        if self.trusts_lists and row in READING:
            return "cos listing"
        return "cos async" if self.closes_early and row in CHANGING else "cos"


def _none(server: Server, home: Path) -> Mapping[str, str]:
    return {"HOME": str(home)}


def _s3fs(server: Server, home: Path) -> Mapping[str, str]:
    passwords = home / "passwd-s3fs"
    passwords.write_text(f"{server.secret_id}:{server.secret_key}\n")
    passwords.chmod(0o600)
    return {"HOME": str(home)}


def _cosfs(server: Server, home: Path) -> Mapping[str, str]:
    passwords = home / "passwd-cosfs"
    passwords.write_text(f"{BUCKET}:{server.secret_id}:{server.secret_key}\n")
    passwords.chmod(0o600)
    return {"HOME": str(home), "http_proxy": f"http://127.0.0.1:{server.port}"}


def _geesefs(server: Server, home: Path) -> Mapping[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": server.secret_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "HOME": str(home),
    }


def find_mounts() -> list[Mount]:
    """Return ours, those of the peers that are there, and the references."""
    cos = ROOT / ".venv" / "bin" / "cos"
    ours = f"{cos} mount cos://{{bucket}} {{mnt}} --foreground --cache-dir {{cache}}"
    rclone = found_program(PEERS / "bin" / "rclone", "rclone")
    through = f"{rclone} mount cos:{{bucket}} {{mnt}} --cache-dir {{cache}}"
    full = (
        "--vfs-cache-mode full --vfs-write-back 0s --use-server-modtime --transfers 16"
        " --vfs-read-chunk-streams 8 --vfs-read-chunk-size 8M"
    )
    s3fs, cosfs, geesefs = (
        found_program(PEERS / "bin" / name, name) for name in ("s3fs", "cosfs", "geesefs")
    )
    plain = {
        "read": "get {port} /{bucket}/big/f000000 {size}",
        "write": "put {port} /{bucket}/w {size}",
    }
    local = {"read": "read {lab}/large", "reread": "read {lab}/large"}
    mounts = [
        Mount("cos", ours, cos_environment, f"{cos} --version", "as it comes"),
        Mount(
            "cos listing", f"{ours} --attributes listing", cos_environment, "", "`--attributes listing`",
            READING,
        ),
        Mount(
            "cos async", f"{ours} --write-back async", cos_environment, "", "`--write-back async`", CHANGING,
        ),
        Mount(
            "s3fs", f"{s3fs} {{bucket}} {{mnt}} -f -o url=http://127.0.0.1:{{port}},use_path_request_style,"
            "passwd_file={home}/passwd-s3fs,tmpdir={cache}", _s3fs, f"{s3fs} --version", "as it comes",
        ),
        Mount("rclone", through, rclone_environment, f"{rclone} version", "as it comes"),
        Mount(
            "rclone full", f"{through} {full}", rclone_environment, "", f"`{full}`", trusts_lists=True,
            closes_early=True,
        ),
        Mount(
            "geesefs", f"{geesefs} -f --endpoint http://127.0.0.1:{{port}} {{bucket}} {{mnt}}", _geesefs,
            f"{geesefs} --version", "as it comes", trusts_lists=True, closes_early=True,
        ),
        Mount(
            "cosfs", f"{cosfs} {{bucket}} {{mnt}} -f -o url=http://cos.ap-guangzhou.myqcloud.com,"
            "passwd_file={home}/passwd-cosfs,tmpdir={cache}", _cosfs, f"{cosfs} --version",
            "Tencent's, as it comes",
        ),
    ]  # fmt: skip
    mounts = [mount for mount in mounts if Path(mount.command.split()[0]).is_file()]
    return [
        *mounts,
        Mount("plain requests", "", _none, "", "16 connections, 8 MiB each", frozenset(plain), plain),
        Mount("local file", "", _none, "", "", frozenset(local), local),
    ]


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        with suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


@dataclass(slots=True)
class Mounted:
    """A mount that is up. ready: seconds it took to come up."""

    path: Path
    process: subprocess.Popen[bytes] | None
    ready: float = 0.0

    def cpu(self) -> float:
        """Return the CPU seconds used so far, by its children as well."""
        total = 0.0
        for pid in _tree(self.process.pid) if self.process else []:
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) / _HZ
        return total

    def memory(self) -> float:
        """Return the most memory it had since `forget_memory`, in MiB."""
        total = 0
        for pid in _tree(self.process.pid) if self.process else []:
            with suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
                total += int(found[1]) if found else 0
        return total / 1024

    def forget_memory(self) -> None:
        for pid in _tree(self.process.pid) if self.process else []:
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")


def _is_mounted(path: Path) -> bool:
    return any(
        line.split(" ")[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines()
    )


@contextmanager
def mounted(mount: Mount, server: Server, work: Path, home: Path) -> Iterator[Mounted]:
    """Mount with an empty cache; raise RuntimeError if it does not come up. Nothing is left mounted."""
    if mount.is_reference:
        yield Mounted(work, None)
        return
    path, log = work / "mnt", work / "mount.log"
    path.mkdir(exist_ok=True)
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir=work))
    places = {
        "bucket": BUCKET, "mnt": str(path), "cache": str(cache), "port": str(server.port), "home": str(home),
    }  # fmt: skip
    words = [word.format(**places) for word in mount.command.split()]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **mount.environment(server, home)}
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, env=environment, cwd=work, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        while not _is_mounted(path):
            if process.poll() is not None or time.perf_counter() - started > READY_WITHIN:
                text = " ".join(log.read_text(errors="replace").split())
                raise RuntimeError(f"it does not mount: {text[-160:]}")
            time.sleep(0.005)
        path.stat()
        yield Mounted(path, process, time.perf_counter() - started)
    finally:
        _end(path, process)
        _empty(cache)


def _empty(cache: Path) -> None:
    """Give the space of a cache back. Its files stay until all is measured.

    ext4 takes no inode that was freed in the last minute and looks at each of them: the next cache would
    pay for it.
    """
    for directory, _, names in os.walk(cache):
        for name in names:
            with suppress(OSError):
                os.truncate(Path(directory, name), 0)


def _end(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Unmount; what does not end by itself is ended. Never looks into a mount that may be dead."""
    end = time.monotonic() + 3
    while _is_mounted(path) and time.monotonic() < end:
        subprocess.run([*_UMOUNT, path], capture_output=True)
        time.sleep(0.02)
    if _is_mounted(path):
        subprocess.run([*_UMOUNT, _LAZY, path], capture_output=True)
    for action, patience in ((None, ENDED_WITHIN), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if action is not None:
            for pid in reversed(_tree(process.pid)):
                with suppress(OSError):
                    os.kill(pid, action)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return
