"""Every command has an example in its help, and every example works as it is written."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.bucket_settings import NOUNS
from cli.examples import commands, examples
from cosfs.client.client import CosClient
from cosfs.client.documents import keeping, serving
from cosfs.client.model import Headers
from cosfs.emulator import Emulator
from tests.cli.conftest import Run, Terminal
from tests.conftest import Cos
from tests.mounting import is_mounted

BUCKETS = ["bucket", "bucket1", "bucket2", "other", "logs-bucket", "logs", "lists"]
COMMANDS = dict(commands())
MOUNTED = ("mount", "umount", "status", "stats", "refresh", "cache", "recover")
JOB, UPLOAD = "3f2a9c1e", "1585130821cbb7df1d11846c"
PLAIN = [
    name for name in COMMANDS if name.split()[1] not in (*MOUNTED, "emulator") and name != "cos configure"
]


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    """An emulator with the buckets that examples name, for one test."""
    with Emulator(buckets=BUCKETS) as running:
        yield running


@pytest.fixture
def world(emulator: Emulator, client: CosClient, tmp_path: Path) -> None:
    """Fill the buckets and the directory with all that examples name."""
    for name in (
        "file.txt",
        "file.bin",
        "file.iso",
        "report.pdf",
        "dir/a",
        "dir/b.tmp",
        "local/a",
        "backup/a",
    ):
        _write(tmp_path / name, name.encode() * 200)
    for name in ("photos/a.jpg", "site/index.html", "copy/x"):
        _write(tmp_path / name, b"x" * 100)
    _write(tmp_path / "names.txt", b"file.txt\nfile.bin\n")
    _write(tmp_path / "commands.txt", b"cp file.txt cos://bucket/in/1\ncp file.bin cos://bucket/in/2\n")
    for name in ("file.txt", "file.bin", "file.iso", "path/a.log", "path/b", "old.txt", "dir/x", "logs/1.gz"):
        client.put_object("bucket-1250000000", name, name.encode() * 200)
    for name in ("photos/a.jpg", "backup/a", "video.mp4", "data/a", "report.pdf"):
        client.put_object(
            "bucket-1250000000", name, (tmp_path / name).read_bytes() if name == "backup/a" else b"x"
        )
    for name in ("file", "path/a"):
        client.put_object("bucket1-1250000000", name, b"x")
        client.put_object("bucket2-1250000000", name, b"x")
    for name in ("log.txt", "table.csv", "growing.log", "etc/app.conf", "a.txt", "b.txt", "in/new.txt"):
        client.put_object("bucket-1250000000", name, b"one\ntwo\n")
    for name in ("old.tar", "2020/a"):
        client.put_object("bucket-1250000000", name, b"x", headers=Headers(storage_class="ARCHIVE"))
    _write(tmp_path / "app.conf", b"one\n2\n")
    client.create_bucket("copy-1250000000", headers={})
    _documents(tmp_path)
    client.create_upload("bucket-1250000000", "video.mp4")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _documents(folder: Path) -> None:
    """Write the documents that the help shows."""
    for make in NOUNS.values():
        setting = make().setting
        (folder / f"{setting.name}.json").write_text(setting.example.replace("ap-beijing", "ap-guangzhou"))
    (folder / "certificate.json").write_text(serving.CERTIFICATE.example)
    (folder / "once.json").write_text(keeping.INVENTORY_ONCE.example)


def _other_tools(home: Path, folder: Path) -> None:
    """Write the settings of other tools, as they are where each looks for its own."""
    coscli = (
        "cos:\n  base:\n    secretid: AKIDother\n    secretkey: other\n    mode: SecretKey\n  buckets: []\n"
    )
    coscmd = (
        "[common]\nsecret_id = AKIDother\nsecret_key = other\nbucket = b-1250000000\nregion = ap-beijing\n"
    )
    for path in (home / ".cos.yaml", folder / "old.yaml"):
        _write(path, coscli.encode())
    for path in (home / ".cos.conf", folder / "old.conf"):
        _write(path, coscmd.encode())
    for profile in ("default", "work"):
        _write(home / f".tccli/{profile}.credential", b'{"secretId": "AKIDother", "secretKey": "other"}')
        _write(home / f".tccli/{profile}.configure", b'{"_sys_param": {"region": "ap-nanjing"}}')


def test_every_command_has_an_example() -> None:
    without = [name for name, command in COMMANDS.items() if not examples(command)]
    assert without == []


def test_examples_are_about_their_command() -> None:
    for name, command in COMMANDS.items():
        for line in examples(command):
            assert name.removesuffix(" put") in line, line


def _prepare(name: str, run: Run) -> None:
    """Bring the bucket into the state in which a command makes sense."""
    words = name.split()[1:]
    if words[0] in ("object-lock", "replication"):
        run("versioning", "enable", "cos://bucket")
    if words[0] == "retention":
        run("versioning", "enable", "cos://bucket")
        run("object-lock", "enable", "cos://bucket", "--yes")
        run("cp", "file.txt", "cos://bucket", code=None)  # refused once it is locked
        if words[-1] == "get":
            run("retention", "put", "cos://bucket/file.txt", "--until", "2035-01-01T00:00:00Z", "--yes")
    if words[0] == "symlink":
        run("symlink", "create", "cos://bucket/link.txt", "file.txt")
    if words[0] not in NOUNS or words[-1] in ("put", "enable", "list", "post"):
        return
    noun = words[:-1]
    run(*noun, "put", "cos://bucket", "--config", f"{noun[-1]}.json")


def _group(name: str) -> str:
    """Return with which commands one shares an emulator: starting one costs more than most examples."""
    top = name.split()[1]
    return "settings" if top in NOUNS else top


@pytest.mark.parametrize("group", dict.fromkeys(map(_group, PLAIN)))
def test_examples_work(
    group: str, world: None, run: Run, cos: Cos, emulator: Emulator, client: CosClient
) -> None:
    home = Path(cos.environment["HOME"])
    for folder in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    _other_tools(home, cos.directory)
    for name in (each for each in PLAIN if _group(each) == group):
        _prepare(name, run)
        if name in ("cos configure get", "cos whoami"):
            given = {"region": "ap-shanghai", "production.secret_id": emulator.secret_id}
            for key, value in {**given, "production.secret_key": emulator.secret_key}.items():
                run("configure", "set", key, value)
        for number, line in enumerate(examples(COMMANDS[name])):
            if UPLOAD in line:
                line = line.replace(UPLOAD, client.create_upload("bucket-1250000000", "video.mp4").upload_id)
            if name == "cos mb" and number:
                run("rb", "cos://new-bucket")
            if name == "cos undelete" and not number:
                run("versioning", "enable", "cos://bucket")
                client.delete_object("bucket-1250000000", "file.txt")
            if name == "cos rb":
                client.create_bucket(f"empty{number}-1250000000")
                line = line.replace("cos://bucket", f"cos://empty{number}")
            if name == "cos tail" and " -f " in line:
                # Until somebody ends it.
                _run_line(f"timeout -s INT 2 {line}", run, cos, {124, 130})
            elif JOB in line:
                assert "no" in _run_line(line, run, cos, {1, 252})
            elif group in ("check", "diff", "doctor") or "--max-delete" in line:
                # 1 where something differs, is missing on this machine, or too much would go
                _run_line(line, run, cos, {0, 1})
            else:
                _run_line(line, run, cos, {0})


def _run_line(line: str, run: Run, cos: Cos, codes: set[int]) -> str:
    """Run one example: in this process if it is one command, else by a shell."""
    plain = re.sub(r"\s+#.*$", "", line)
    if plain.startswith("cos ") and not re.search(r"[|<>$`]", plain):
        done = run(*shlex.split(plain)[1:], code=None)
        got, told = done.code, done.err
    else:
        shell = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", plain], env=dict(cos.environment), cwd=cos.directory,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150,
        )  # fmt: skip
        got, told = shell.returncode, shell.stderr
    assert got in codes, f"{line}: {got}: {told}"
    return told


# --- what asks, what stays, what mounts


def test_configure_asks(terminal: Callable[..., Terminal]) -> None:
    for line in examples(COMMANDS["cos configure"])[:2]:
        screen = terminal(*shlex.split(line)[1:])
        for question in ("SecretId", "SecretKey", "Default region", "Default output"):
            screen.read_until(question)
            screen.type("AKIDexample\n" if question.startswith("Secret") else "\n")
        assert screen.finish() == 0, screen.text


def test_emulator_serves(world: None, cos: Cos) -> None:
    for line in examples(COMMANDS["cos emulator"]):
        words = shlex.split(line.replace("--port 9000", "--port 0"))
        process = subprocess.Popen(
            words, env={**cos.environment}, cwd=cos.directory, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert "COS_ENDPOINT_URL" in process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=90)
        assert process.returncode in (0, 143)


@pytest.mark.fuse
def test_mounts(world: None, run: Run, cos: Cos, tmp_path: Path, request: Any) -> None:
    lines = examples(COMMANDS["cos mount"])
    found = [re.search(r"cos mount \S+ (\S+)", line) for line in lines]
    places = {match[1]: tmp_path / f"m{number}" for number, match in enumerate(found) if match}
    assert len(places) == len(lines)
    for place in places.values():
        place.mkdir()

    def end() -> None:
        for place in places.values():
            if is_mounted(place):
                subprocess.run(["umount", "-l", str(place)], check=False)

    request.addfinalizer(end)
    # Registered where no other mount is: some of it is about all mounts of a user.
    environment = {
        **cos.environment, "COS_CACHE_DIR": str(tmp_path / "cache"), "XDG_RUNTIME_DIR": str(tmp_path)
    }  # fmt: skip

    def told(line: str) -> None:
        for place, real in places.items():
            line = line.replace(place, str(real))
        done = subprocess.run(
            ["bash", "-euc", line], env=environment, cwd=cos.directory, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=150,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}: {done.stderr}"

    run("versioning", "enable", "cos://bucket")  # for --as-of
    for line in lines:
        told(line)
    for name in ("status", "stats", "refresh"):
        for line in examples(COMMANDS[f"cos {name}"]):
            told(line.replace("/mnt/cos/bucket/", "/mnt/cos/bucket-1250000000/"))
    for name in ("warm", "info", "verify", "clear"):
        for line in examples(COMMANDS[f"cos cache {name}"]):
            line = re.sub("~/mnt/[a-z-]+", "/mnt/cos/bucket-1250000000/path", line)
            line = line.replace("/var/cache/cos", str(tmp_path / "cache"))
            # Without it all caches of this user are meant, which are no business of the tests.
            if name != "warm" and "--cache-dir" not in line:
                line += f" --cache-dir {tmp_path / 'cache'}"
            told(line)
    umount, others = examples(COMMANDS["cos umount"]), list(places)
    for line, place in zip(umount, others, strict=False):
        # By its place only: --all would end mounts of this user that are no business of the tests.
        assert "--all" not in line
        told(line.replace("/mnt/cos", place))
    for place in others[len(umount) :]:
        told(f"cos umount {place}")
    assert not any(is_mounted(place) for place in places.values())
    (tmp_path / "cache").mkdir(exist_ok=True)
    for line in examples(COMMANDS["cos recover"]):
        told(line.replace("/var/cache/cosfs", str(tmp_path / "cache")))
