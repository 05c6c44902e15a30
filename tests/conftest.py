"""Fixtures of all tests: an emulator, a fresh bucket in it, a client, the real `cos`, a real mount."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import HealthCheck

from tests.mounting import Mounted, unavailable
from tests.objects import options_of

if TYPE_CHECKING:
    from cosfs.client.client import CosClient
    from cosfs.config import Settings
    from cosfs.emulator import Emulator

# With vfork this process would hold its interpreter lock until the child has begun its program. Where
# that is on a mount, or a descriptor the child closes, the emulator would have to answer, in this process.
subprocess._USE_VFORK = False

APPID = "1250000000"
MOUNT_LIFE = 400.0
FOREIGN = (
    "COS_",
    "TENCENTCLOUD_",
    "TKE_",
    "AWS_",
    "RCLONE_",
    "S3FS_",
    "REQUESTS_CA_",
    "CURL_CA_",
    "SSL_CERT_",
    "XDG_",
    "NO_COLOR",
    "FORCE_COLOR",
    "JOURNAL_STREAM",
    "NOTIFY_SOCKET",
    "GIT_",
)
OURS = "COS_TEST_"  # what chooses seeds and lengths of tests
_numbers = itertools.count(1)

# Random examples are the same ones in every run, and may take their time on a busy machine. Others are tried
# with --hypothesis-profile=random; then a failure tells how to have it again.
EXAMPLES = hypothesis.settings(
    derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
hypothesis.settings.register_profile("same", EXAMPLES)
hypothesis.settings.register_profile("random", EXAMPLES, derandomize=False, print_blob=True)
hypothesis.settings.load_profile("same")


# --- the beginning and the end


def pytest_configure() -> None:
    """Begin as anywhere else, and end on SIGTERM as on Ctrl-C: with nothing mounted, running or in /tmp."""
    for name in list(os.environ):
        # Keys, proxies and settings of the one who runs the tests; all servers here are on loopback.
        is_foreign = name.upper().startswith(FOREIGN) or name.upper().endswith("_PROXY")
        if is_foreign and not name.startswith(OURS):
            del os.environ[name]
    os.umask(0o022)
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    # What a shell runs in the background ignores Ctrl-C, and so would the programs that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# --- tests that need the kernel


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a mount where none can be made; a fixture that mounts is mark enough."""
    reason = unavailable()
    for item in items:
        if {"mount", "mountpoint"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("fuse")
        if reason and item.get_closest_marker("fuse"):
            item.add_marker(pytest.mark.skip(reason=reason))


def _without_mount(config: pytest.Config) -> int:
    """How many tests were skipped for want of a mount; 0 in the processes that run tests for another."""
    reporter, reason = config.pluginmanager.get_plugin("terminalreporter"), unavailable()
    if reporter is None or not reason:
        return 0
    return sum(reason in str(report.longrepr) for report in reporter.stats.get("skipped", ()))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where machines decide, a mount that was not tested counts as one that does not work."""
    if os.environ.get("CI") and _without_mount(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Generator[None, None, None]:
    """Say at the very end how many tests did not run."""
    yield
    if skipped := _without_mount(config):
        verdict = "; with CI set that is a failure" if os.environ.get("CI") else ""
        reason = unavailable()
        terminalreporter.write_line(f"{skipped} tests of real mounts did not run: {reason}{verdict}")


# --- what tests of one process share


@pytest.fixture(autouse=True)
def own_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no test short of retries because others needed many."""
    from cosfs.client import retry

    monkeypatch.setattr(retry, "PROCESS_BUDGET", retry.Budget())


# --- the server


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for all tests; what a test must not share is a bucket."""
    from cosfs.emulator import Emulator

    with Emulator(tmp_path_factory.mktemp("emulator")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let no fault of one test strike another, and what was asked in one be counted in no other."""
    if "emulator" not in request.fixturenames:
        yield
        return
    emulator: Emulator = request.getfixturevalue("emulator")
    emulator.requests.reset()
    yield
    emulator.faults.clear()


@pytest.fixture
def settings(emulator: Emulator) -> Settings:
    """Settings that lead to the emulator, whatever the environment of the tests says."""
    from cosfs.config import load_settings

    return load_settings(options_of(emulator), environ={"HOME": "/nonexistent"})


@pytest.fixture
def client(emulator: Emulator, settings: Settings) -> Iterator[CosClient]:
    from cosfs.client.client import CosClient

    with CosClient.from_settings(settings, options_of(emulator)) as opened:
        yield opened


@pytest.fixture
def bucket(client: CosClient, emulator: Emulator) -> Iterator[str]:
    """Full name of a new, empty bucket."""
    name = f"test-{next(_numbers)}-{APPID}"
    client.create_bucket(name)
    yield name
    # A client that was killed, or given up while it waited, may be heard of later: not in the next test.
    emulator.requests.leave_out(name)


# --- the program


@pytest.fixture
def cos_environment(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a user at home nowhere who works with the emulator."""
    # PYTHONUNBUFFERED, for one, hides what goes wrong with a buffer that a user has.
    foreign = ("COS_", "PYTHON")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    home = tmp_path_factory.mktemp("home")
    return inherited | {
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "100",
        "COS_ENDPOINT_URL": emulator.endpoint_url,
        "COS_SECRET_ID": emulator.secret_id,
        "COS_SECRET_KEY": emulator.secret_key,
        "COS_REGION": emulator.region,
    }


@dataclass(frozen=True)
class Cos:
    """Run `cos` with arguments, as a shell would: cos("ls", "cos://bucket")."""

    environment: Mapping[str, str]
    directory: Path

    def __call__(
        self,
        *args: str | os.PathLike[str],
        check: bool = False,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Return what came out; check=True fails the test, with stderr shown, unless the exit code is 0."""
        done = subprocess.run(
            ["cos", *map(os.fspath, args)],
            env={**self.environment, **(env or {})},
            cwd=cwd or self.directory,
            input=input if input is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(f"cos {' '.join(map(str, args))} ended with {done.returncode}: {done.stderr}")
        return done


@pytest.fixture
def cos(cos_environment: dict[str, str], tmp_path: Path) -> Cos:
    """The real program in a process of its own; it starts in tmp_path."""
    return Cos(cos_environment, tmp_path)


# --- mounts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Let the end of a failed test show what its mounts logged."""
    report = yield
    if report.failed:
        for mounted in getattr(item, "funcargs", {}).get("mounts", ()):
            lines = mounted.log_text().splitlines()[-40:]
            report.sections.append((f"log of the mount of {mounted.source}", "\n".join(lines)))
    return report


@pytest.fixture
def mounts() -> Iterator[list[Mounted]]:
    """All mounts of a test; none outlives it, nor some minutes.

    What waits for a mount cannot be interrupted by pytest's timeout, only by the end of the mount.
    """
    made: list[Mounted] = []
    watchdog = threading.Timer(MOUNT_LIFE, lambda: [each.process.kill() for each in made])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield made
    finally:
        watchdog.cancel()
        for each in reversed(made):
            each.clean_up()


@pytest.fixture
def mount(
    cos_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, mounts: list[Mounted]
) -> Callable[..., Mounted]:
    """Mount a source at a new directory: mount("cos://bucket", "--read-only").path; unmounted at the end.

    Each mount has its own cache directory, unless cache_dir= names one (to mount again with what it holds).
    """

    def make(
        source: str, *options: str, cache_dir: Path | None = None, env: Mapping[str, str] | None = None
    ) -> Mounted:
        base = tmp_path_factory.mktemp("mount")
        made = Mounted.start(
            source, options, base, cache_dir or base / "cache", {**cos_environment, **(env or {})}
        )
        mounts.append(made)
        made.wait_until_ready()
        return made

    return make


@pytest.fixture
def mountpoint(mount: Callable[..., Mounted], bucket: str) -> Path:
    """Directory where the fresh bucket is mounted."""
    return mount(f"cos://{bucket}").path
