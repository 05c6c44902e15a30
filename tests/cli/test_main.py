"""The program as a whole: help, global options, exit codes, start-up."""

from __future__ import annotations

import ast
import errno
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from cli import docs, elsewhere, main
from cli.main import COMMANDS

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.emulator import Emulator

Run = Callable[..., Any]
CLI = Path(main.__file__).parent


def test_help_lists_every_command(run: Run) -> None:
    shown = run("--help").out
    for name, entry in COMMANDS.items():
        assert (f"  {name} " in shown) is not entry.hidden
        assert entry.hidden or entry.help in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_explains_itself(name: str, run: Run) -> None:
    shown = run(name, "--help").out
    assert shown.startswith(f"Usage: cos {name} ")
    command = main.cos.get_command(click.Context(main.cos), name)
    assert command is not None and command.help
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, param.opts


def test_table_of_commands_names_what_a_frozen_build_must_contain() -> None:
    tree = ast.parse(Path(main.__file__).read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [
        node
        for block in blocks
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom) and not node.module
    ]
    named = {alias.name for node in imports for alias in node.names}
    assert named == {entry.module for entry in COMMANDS.values()}


def test_docs_name_every_command_and_option() -> None:
    text = docs.render()
    for name, entry in COMMANDS.items():
        assert entry.hidden or f"\n## cos {name}\n" in text
    for option in ("--include", "--key-policy", "--write-back", "--expires-in", "--secret-key"):
        assert option in text
    assert "\n### cos configure set\n" in text


def test_help_of_a_group_cuts_no_sentence_off(run: Run) -> None:
    for name in ("configure", "cache", "tag", "lifecycle", "multipart"):
        assert "..." not in run(name, "--help").out.replace("[ARGS]...", "")


def test_missing_choice_is_said_on_one_line(run: Run) -> None:
    error = run("completion", code=252).err
    assert error.count("\n") == 1 and "\\n" not in error and "bash, zsh, fish" in error


def test_version(run: Run) -> None:
    assert re.fullmatch(r"cos \d+\.\d+\.\d+\S*\n", run("--version").out)


def test_no_arguments_show_the_help_and_are_an_error(run: Run) -> None:
    result = run(code=252)
    assert "Usage: cos" in result.err and result.out == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["lss"], ["lss", "cos ls"]),
        (["frobnicate"], ["frobnicate", "--help"]),
        (["ls", "--bogus"], ["--bogus", "cos ls --help"]),
        (["--bogus", "ls"], ["--bogus"]),
        (["cp", "onlyone"], ["destination"]),
        (["rm"], ["cos://"]),
        (["ls", "s3://bucket"], ["s3://bucket", "cos://bucket"]),
        (["ls", "bucket"], ["cos://bucket"]),
        (["stat", "cos://"], ["bucket"]),
        (["cat", "cos://bucket"], ["object"]),
        (["ls", "cos://Bad_Bucket!"], ["Bad_Bucket!"]),
        (["ls", "--page-size", "0"], ["--page-size"]),
        (["ls", "--output", "yaml"], ["yaml", "json"]),
        (["cp", "a", "cos://b/k", "--part-size", "huge"], ["huge"]),
        (["cp", "a", "cos://b/k", "--max-bandwidth", "-3"], ["-3"]),
        (["cp", "a", "b"], ["cos://"]),
        (["presign", "cos://b/k", "--expires-in", "never"], ["never"]),
        (["cat", "cos://b/k", "--range", "9-1"], ["9-1"]),
        (["completion", "tcsh"], ["tcsh", "bash"]),
        (["configure", "set", "regoin", "x"], ["regoin", "region"]),
        (["mb", "cos://UPPER"], ["UPPER"]),
    ],
)
def test_bad_command_line_is_one_sentence_and_252(args: list[str], words: list[str], run: Run) -> None:
    result = run(*args, code=252)
    assert result.out == ""
    assert len(result.err.splitlines()) == 1 and result.err.startswith("cos: ")
    for word in words:
        assert word in result.err


def test_global_options_stand_before_and_after_the_command(run: Run, bucket: str) -> None:
    before = run("--output", "json", "ls", f"cos://{bucket}")
    after = run("ls", f"cos://{bucket}", "--output", "json")
    assert before.json == after.json == {"Objects": [], "CommonPrefixes": []}


def test_option_behind_the_command_wins(run: Run, bucket: str) -> None:
    assert run("--output", "text", "ls", f"cos://{bucket}", "--output", "json").out.startswith("{")


def test_endpoint_option_is_not_ignored(run: Run, cos_environment: dict[str, str]) -> None:
    wrong = {"COS_ENDPOINT_URL": "http://127.0.0.1:9"}
    run("ls", "--endpoint-url", cos_environment["COS_ENDPOINT_URL"], env=wrong)
    result = run("ls", "--endpoint-url", "http://127.0.0.1:9", "--max-retries", "0", code=255)
    assert "127.0.0.1:9" in result.err


def test_no_verify_ssl_warns_each_time(run: Run) -> None:
    for _ in range(2):
        assert "not verified" in run("ls", "--no-verify-ssl").err


def test_quiet_says_nothing_but_the_exit_code(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    done = run("cp", "f", f"cos://{bucket}/f", "--quiet")
    failed = run("-q", "cp", f"cos://{bucket}/missing", "g", code=1)
    assert (done.out, done.err, failed.out, failed.err) == ("", "", "", "")


def test_only_show_errors(run: Run, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    done = run("cp", "f", f"cos://{bucket}/f", "--only-show-errors")
    failed = run("cp", f"cos://{bucket}/missing", "g", "--only-show-errors", code=1)
    assert (done.out, done.err) == ("", "")
    assert "missing" in failed.err and failed.out == ""


def test_debug_shows_where_an_error_came_from(cos: Any) -> None:
    plain = cos("ls", "cos://no-such-bucket-1250000000")
    debug = cos("ls", "cos://no-such-bucket-1250000000", "--debug")
    assert plain.returncode == debug.returncode == 254
    assert "Traceback" not in plain.stderr and "Traceback" in debug.stderr


def test_debug_never_shows_secrets(cos: Any, bucket: str, cos_environment: dict[str, str]) -> None:
    shown = cos("ls", f"cos://{bucket}", "--debug", "--session-token", "s3cr3t-token").stderr
    assert cos_environment["COS_SECRET_KEY"] not in shown
    assert "s3cr3t-token" not in shown


def test_unforeseen_error_is_one_sentence(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.state.State.client", property(lambda self: 1 / 0))
    result = run("ls", code=255)
    assert len(result.err.splitlines()) == 1 and "ZeroDivisionError" in result.err and "--debug" in result.err


def test_completion_by_the_script_of_an_older_version(cos: Any) -> None:
    env = {"_COS_COMPLETE": "bash_complete", "COMP_WORDS": "cos pre", "COMP_CWORD": "1"}
    assert cos(env=env).stdout == "plain,presign\n"


def test_help_and_version_as_commands(run: Run) -> None:
    assert run("help").out == run("--help").out
    assert run("help", "cp").out == run("cp", "--help").out
    assert run("help", "multipart", "ls").out == run("multipart", "ls", "--help").out
    assert run("version").out == run("--version").out
    assert "there is no command 'nope'" in run("help", "nope", code=252).err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("upload f", "there is no command 'upload'; did you mean 'cos cp'?"),
        ("lsd", "did you mean 'cos ls'?"),
        ("pressign", "did you mean 'cos presign'?"),
        ("cp --recursve", "no such option '--recursve'; did you mean --recursive? (see 'cos cp --help')"),
        ("find cos://b -name x", "no such option '-name'; did you mean --name?"),
        ("du -s", "missing argument"),
        ("ls -l", "no such option '-l'; sizes and times are shown without it (see 'cos ls --help')"),
        ("ls -H", "did you mean --human-readable?"),
        ("cp -f a cos://b", "what is there is replaced without asking"),
        ("sync -d a cos://b", "did you mean --delete?"),
        ("cp --no-clobber a cos://b", "did you mean --no-overwrite?"),
        ("cp -e a cos://b", "did you mean --no-follow-symlinks?"),
        ("du --max-depth 1 cos://b", "did you mean --depth?"),
        ("rcat cos://b/k", "did you mean 'cos cp - cos://BUCKET/KEY'?"),
        ("legalhold cos://b/k", "COS has no legal holds"),
        ("lifecycle cos://b", "say before cos://b what to do with it: delete, get, put"),
        ("ls photos:dir/x", "'photos:dir/x' is not a COS URL. Did you mean cos://photos/dir/x?"),
    ],
)
def test_what_was_meant(run: Run, line: str, said: str) -> None:
    assert said in run(*line.split(), code=252).err


# All commands of their versions of 2026, but those for their own accounts, servers and configuration files.
ELSEWHERE = {
    "aws s3": "cp ls mb mv presign rb rm sync website",
    "s5cmd": "bucket-version cat cp du head help ls mb mv pipe presign rb rm run select sync version",
    "rclone": "about bisync cat check checksum cleanup completion config copy copyto copyurl cryptcheck "
    "cryptdecode delete deletefile hashsum help link listremotes ls lsd lsf lsjson lsl md5sum "
    "mkdir mount move moveto ncdu obscure purge rc rcat rcd rmdir rmdirs selfupdate serve "
    "settier sha1sum size sync touch tree version",
    "mc": "alias anonymous batch cat cp diff du encrypt find get head ilm legalhold ls mb mirror mv "
    "od ping pipe put rb ready replicate retention rm share sql stat tag tree undo update "
    "version watch",
    "gsutil": "acl cat compose config cors cp defacl du encryption hash help iam kms label lifecycle "
    "logging ls mb mv perfdiag rb retention rewrite rm rsync setmeta signurl stat test update "
    "version versioning web",
    "coscli": "abort bucket-acl bucket-cors bucket-domain bucket-encryption bucket-inventory "
    "bucket-lifecycle bucket-origin bucket-policy bucket-referer bucket-replication bucket-tagging "
    "bucket-versioning bucket-website cat config cp du hash help ls lsdu lsparts mb object-acl "
    "object-tagging rb restore rm signurl symlink sync",
    "coscmd": "abort config copy createbucket delete deletebucket download getbucketacl "
    "getbucketversioning getobjectacl info list listparts move probe putbucketacl "
    "putbucketversioning putobjectacl restore signurl upload",
}


@pytest.mark.parametrize("program", ELSEWHERE)
def test_commands_of_other_programs_lead_to_ours(run: Run, program: str) -> None:
    for name in ELSEWHERE[program].split():
        if name not in COMMANDS and name not in ("help", "version"):
            said = run(name, code=252).err
            assert name in elsewhere.COMMANDS or name in elsewhere.ABSENT, name
            assert f"there is no command '{name}'; " in said and "lists all commands" not in said


def test_hints_name_what_there_is(run: Run) -> None:
    assert not {*elsewhere.COMMANDS, *elsewhere.ABSENT} & {*COMMANDS}
    for hint in elsewhere.COMMANDS.values():
        name, *words = hint.split()
        command = main.cos.get_command(click.Context(main.cos), name)
        below = [words[0]] if isinstance(command, click.Group) and words and words[0].isalpha() else []
        shown = run(name, *below, "--help").out
        for option in [word for word in hint.split() if word.startswith("--")]:
            assert option in shown, hint


def test_options_of_other_programs_lead_to_ours() -> None:
    """Each hint is of use to one command at least."""
    known: set[str] = set()
    for name in ("cp", "sync", "ls", "find", "presign", "du", "undelete"):
        command = main.cos.get_command(click.Context(main.cos), name)
        assert command is not None
        for param in command.params:
            known.update((*param.opts, *param.secondary_opts))
    assert {ours for each in elsewhere.OPTIONS.values() for ours in each} <= known


def test_r_may_be_written_large(run: Run, client: CosClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/f").write_text("f")
    run("cp", "-R", "d", f"cos://{bucket}")
    assert run("ls", "-R", f"cos://{bucket}", "--output", "text").lines == ["e/f"]
    assert "-R" not in run("cp", "--help").out
    run("rm", "-Rf", f"cos://{bucket}/e/")
    assert client.list_objects(bucket).objects == []


def test_a_current_directory_that_is_gone_is_named(
    run: Run, bucket: str, client: CosClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put_object(bucket, "x", b"")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    error = run("sync", f"cos://{bucket}", ".", code=255).err
    assert "the current directory does not exist any more" in error


def test_too_few_descriptors_are_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "module.py")

    monkeypatch.setattr("cli.state.State.client", property(none_left))
    assert "ulimit -n" in run("ls", code=255).err


def test_ctrl_c_while_the_program_loads_shows_no_stack(cos_environment: dict[str, str]) -> None:
    code = """if True:
        import os, signal, sys

        class Interrupting:
            def find_spec(self, name, path=None, target=None):
                if name == "click":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Interrupting())
        from cosfs.cli.start import main
        main()
    """
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"], env=cos_environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_module_can_be_run_in_the_tree(cos_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "--version"],
        cwd=CLI.parent,
        env=cos_environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("cos ")


# --- start-up


def _imported(cos_environment: dict[str, str], *args: str) -> set[str]:
    program = (
        "import sys; from cosfs.cli.main import run; run(sys.argv[1:]); "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env=cos_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.splitlines())


def test_help_imports_nothing_heavy(cos_environment: dict[str, str]) -> None:
    modules = _imported(cos_environment, "--help")
    heavy = {"rich", "trio", "urllib3", "qcloud_cos", "asyncio", "ssl", "logging", "uvicorn", "pyfuse3"}
    assert modules.isdisjoint(heavy)
    assert not any(name.startswith("cosfs.cli.ls") for name in modules)


def test_ls_imports_no_trio_and_no_sdk(cos_environment: dict[str, str]) -> None:
    modules = _imported(cos_environment, "ls")
    assert "cosfs.client.client" in modules
    assert modules.isdisjoint({"rich", "trio", "qcloud_cos", "asyncio", "uvicorn", "pyfuse3", "requests"})


def _least_work(environment: Mapping[str, str], *commands: list[str]) -> list[float]:
    """Return the CPU seconds of the cheapest of some runs of each: starting waits for nothing but them.

    They are run in turn, so that all of them meet the same machine.
    """

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    found: list[list[float]] = [[] for _ in commands]
    for _ in range(5):
        for command, times in zip(commands, found, strict=True):
            before = spent()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            times.append(spent() - before)
    return [min(times) for times in found]


def test_start_up_time(cos_environment: dict[str, str], bucket: str, emulator: Emulator) -> None:
    """Compared with Python alone, as machines are not equally fast."""
    emulator.requests.reset()
    bare, shown, listed = _least_work(
        cos_environment, [sys.executable, "-c", "pass"], ["cos", "--help"], ["cos", "ls", f"cos://{bucket}"]
    )
    assert shown <= 5 * bare and listed <= 12 * bare, (bare, shown, listed)
    assert emulator.requests.snapshot() == {"ListObjects": 5}


def test_standard_input_that_is_closed_is_not_an_empty_one(
    cos_environment: dict[str, str], client: CosClient, bucket: str
) -> None:
    script = f"cos cp - cos://{bucket}/k <&-"
    done = subprocess.run(
        ["bash", "-c", script], env={**cos_environment, "BUCKET": bucket},
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "") and "Bad file descriptor" in done.stderr
    assert not client.list_objects(bucket).objects


def test_report_that_cannot_be_written_is_named(cos: Any, tmp_path: Path, bucket: str) -> None:
    (tmp_path / "f").write_bytes(b"x")
    done = cos("cp", tmp_path / "f", f"cos://{bucket}/k", "--report", "/dev/full")
    assert (done.returncode, done.stderr) == (255, "cos: /dev/full: No space left on device\n")


# --- streams that are closed or full


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("cos ls >&-", 255, "cos: standard output: Bad file descriptor\n"),
        ("echo x | cos cp - cos://$BUCKET/k >&-", 0, ""),
        ("cos ls cos://nosuch-1250000000 2>&-", 254, ""),
        ("cos ls 0<&- >/dev/null", 0, ""),
        ("cos ls >/dev/full", 255, "cos: standard output: No space left on device\n"),
        ("exec 3> >(true); wait $!; cos --help >&3", 141, ""),
        ("exec 3> >(true); wait $!; cos ls --help >&3", 141, ""),
        ("cos completion bash >/dev/full", 255, "cos: standard output: No space left on device\n"),
    ],
)
def test_closed_and_full_streams(
    cos_environment: dict[str, str], bucket: str, script: str, code: int, words: str
) -> None:
    environment = {**cos_environment, "BUCKET": bucket}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (code, words)


@pytest.mark.parametrize(
    "args", [["--secret-key", "s3cr3t"], ["--secret-key=s3cr3t"], ["--proxy", "http://u:s3cr3t@127.0.0.1:9"]]
)
def test_secret_options_are_not_seen_by_other_users(
    cos_environment: dict[str, str], bucket: str, emulator: Emulator, args: list[str]
) -> None:
    emulator.faults.latency(20.0, "ListObjects")
    try:
        process = subprocess.Popen(
            ["cos", *args, "ls", f"cos://{bucket}"],
            env=cos_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 90
        title = ""
        while "***" not in title and process.poll() is None and time.monotonic() < end:
            title = Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace")
        process.kill()
        process.wait()
    finally:
        emulator.faults.clear()
    assert "***" in title and "s3cr3t" not in title and f"ls cos://{bucket}" in title
