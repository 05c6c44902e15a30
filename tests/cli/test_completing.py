"""What Tab offers, asked for by the real script in a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.objects import put

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

# What readline does with a line that ends where the cursor is; compopt only works within a real completion.
_ASK = """\
compopt() { echo "compopt $*"; }
. ./script
COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$2
shift 2
COMP_WORDS=("$@")
_cos_completion cos "${COMP_WORDS[COMP_CWORD]}" ""
printf '%s\\n' "${COMPREPLY[@]}"
"""

# A server that stands still for some seconds has nothing to offer, which is not the matter here.
_PATIENT = """\
#!{python}
from cosfs.cli import completing
completing._HASTE.update(connect_timeout=60.0, read_timeout=60.0)
from cosfs.cli.start import main
main()
"""

Offer = Callable[..., list[str]]


@pytest.fixture
def offer(cos: Any, cos_environment: dict[str, str], tmp_path: Path) -> Offer:
    """Return what is offered for the last of some words, as bash splits a line."""
    (tmp_path / "script").write_text(cos("completion", "bash", check=True).stdout)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "cos").write_text(_PATIENT.format(python=sys.executable))
    (programs / "cos").chmod(0o755)

    def ask(line: str, *words: str, endpoint: str = "") -> list[str]:
        env = {**cos_environment, **({"COS_ENDPOINT_URL": endpoint} if endpoint else {})}
        env["PATH"] = f"{programs}:{env['PATH']}"
        command = ["bash", "--norc", "-c", _ASK, "bash", line, str(len(words) - 1), *words]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.stderr == "" and done.returncode == 0
        return done.stdout.splitlines()

    return ask


def test_commands_options_and_values(offer: Offer) -> None:
    assert offer("cos pre", "cos", "pre") == ["presign"]
    assert offer("cos cp --recurs", "cos", "cp", "--recurs") == ["--recursive"]
    assert offer("cos ls --output=t", "cos", "ls", "--output", "=", "t") == ["table", "text"]
    assert offer("cos multipart a", "cos", "multipart", "a") == ["abort"]


def test_files_are_left_to_the_shell(offer: Offer) -> None:
    assert offer("cos cp ph", "cos", "cp", "ph") == ["compopt -o default", ""]
    assert offer("cos cp a ph", "cos", "cp", "a", "ph") == ["compopt -o default", ""]
    assert offer("cos umount m", "cos", "umount", "m") == ["compopt -o default", ""]


def test_buckets(offer: Offer, bucket: str) -> None:
    open_ended = ["compopt -o filenames", "compopt -o nospace"]
    assert offer(f"cos ls cos://{bucket[:-1]}", "cos", "ls", "cos", ":", f"//{bucket[:-1]}") == [
        *open_ended, f"//{bucket}/"
    ]  # fmt: skip
    # A colon that is escaped breaks no word: all of it is replaced.
    line = f"cos ls cos\\://{bucket[:-1]}"
    assert offer(line, "cos", "ls", f"cos\\://{bucket[:-1]}") == ["compopt -o nospace", f"cos://{bucket}/"]
    assert offer("cos ls c", "cos", "ls", "c") == ["compopt -o nospace", "cos://"]


def test_keys(offer: Offer, bucket: str, client: CosClient) -> None:
    put(client, bucket, "dir/a b:c", "dir/sub/x", "dirt", "other", "dir/con\ntrol")
    start = ("cos", "cat", "cos", ":")
    assert set(offer(f"cos cat cos://{bucket}/di", *start, f"//{bucket}/di")) == {
        "compopt -o filenames", "compopt -o nospace", f"//{bucket}/dir/", f"//{bucket}/dirt"
    }  # fmt: skip
    assert set(offer(f"cos cat cos://{bucket}/dir/", *start, f"//{bucket}/dir/")) == {
        "compopt -o filenames", "compopt -o nospace", f"//{bucket}/dir/a b:c", f"//{bucket}/dir/sub/"
    }  # fmt: skip
    line = f"cos cat cos://{bucket}/dir/a\\ "
    assert offer(line, *start, f"//{bucket}/dir/a\\ ") == ["compopt -o filenames", f"//{bucket}/dir/a b:c"]
    copying = ("cos", "cp", "file", "cos", ":")
    assert offer(f"cos cp file cos://{bucket}/o", *copying, f"//{bucket}/o")[-1] == f"//{bucket}/other"


def test_global_options_count(offer: Offer, bucket: str, emulator: Emulator) -> None:
    line = f"cos --endpoint-url {emulator.endpoint_url} ls cos://{bucket[:-1]}"
    scheme, rest = emulator.endpoint_url.split(":", 1)
    words = ("cos", "--endpoint-url", scheme, ":", rest, "ls", "cos", ":", f"//{bucket[:-1]}")
    assert offer(line, *words, endpoint="http://127.0.0.1:1")[-1] == f"//{bucket}/"


def test_nothing_is_said_where_cos_cannot_be_asked(offer: Offer) -> None:
    words = ("cos", "ls", "cos", ":", "//b")
    assert offer("cos ls cos://b", *words, endpoint="http://127.0.0.1:1") == [""]
    assert offer("cos ls cos://b", *words, endpoint="nonsense") == [""]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells(cos: Any, shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(cos("completion", shell, check=True).stdout)
    assert "_COS_COMPLETE=" in script.read_text()
    if shell == "zsh":
        assert "-S ''" in script.read_text()
    if program := shutil.which(shell):
        subprocess.run([program, "-n", script], check=True, timeout=60)
