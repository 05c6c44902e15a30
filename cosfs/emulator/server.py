"""Running an emulator: in the foreground for the command line, in a thread for tests."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import string
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import uvicorn

from cosfs.emulator.app import Application
from cosfs.emulator.auth import Credential
from cosfs.emulator.context import Emulation, Limits
from cosfs.emulator.faults import Faults, Requests
from cosfs.emulator.handlers_bucket import full_name
from cosfs.emulator.protocol import ExactProtocol
from cosfs.emulator.service import Service
from cosfs.emulator.store import Properties, Store, inline_bytes
from cosfs.emulator.uploads import Uploads

log = logging.getLogger(__name__)

DEFAULT_REGION = "ap-guangzhou"
DEFAULT_APPID = "1250000000"
_IDENTITY_FILE = "emulator.json"
_GRACE = 1.0  # seconds that requests under way have when the server ends
_LETTERS = string.ascii_letters + string.digits


class EmulatorError(Exception):
    """The emulator cannot start; the text says why in one sentence."""


@dataclass(frozen=True, slots=True)
class EmulatorInfo:
    """How to reach a running emulator."""

    endpoint_url: str
    secret_id: str
    secret_key: str
    region: str
    appid: str
    data: Path


@dataclass(frozen=True, slots=True)
class _Account:
    """What a data directory remembers about its account, so that a restart keeps the keys."""

    secret_id: str
    secret_key: str
    region: str
    appid: str


class _Server(uvicorn.Server):
    """uvicorn's server, ending quietly on a signal instead of raising it again afterwards."""

    def __init__(
        self, config: uvicorn.Config, on_start: Callable[[], None], on_end: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._on_start = on_start
        self._on_end = on_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start and tell."""
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: requests under way get a moment, then their connections are dropped."""
        for server in self.servers:
            server.close()
        self._on_end()
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_GRACE)
        for connection in list(self.server_state.connections):
            if isinstance(connection, ExactProtocol) and connection.busy:
                connection.transport.abort()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a wish to stop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(_number: int, _frame: FrameType | None) -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def _lock(data: Path) -> int:
    """Take the data directory for this process alone."""
    fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise EmulatorError(f"another emulator is using {data}") from error
    return fd


def _open_account(data: Path, given: dict[str, str]) -> _Account:
    """Read the account of a data directory, or make one; what was given wins and is kept."""
    path = data / _IDENTITY_FILE
    if path.exists():
        kept = json.loads(path.read_text())
    elif any(entry.name != "lock" for entry in data.iterdir()):
        raise EmulatorError(f"{data} is neither empty nor a data directory of an emulator")
    else:
        kept = {
            "secret_id": "AKID" + "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "secret_key": "".join(secrets.choice(_LETTERS) for _ in range(32)),
            "region": DEFAULT_REGION,
            "appid": DEFAULT_APPID,
        }
    account = _Account(**{**kept, **{name: value for name, value in given.items() if value}})
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(account), indent=2) + "\n")
    temporary.chmod(0o600)
    temporary.rename(path)
    return account


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise EmulatorError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


class Emulator:
    """A running emulator for tests: `with Emulator(tmp_path) as emulator: ...emulator.endpoint_url...`.

    Without a data directory it uses a temporary one and removes it at the end. `faults` and `requests` are
    for asking for trouble and for counting; `limits` may make parts and objects small.
    """

    def __init__(
        self,
        data_dir: Path | str | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        buckets: Sequence[str] = (),
        region: str = "",
        appid: str = "",
        secret_id: str = "",
        secret_key: str = "",
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        log_requests: bool = False,
    ) -> None:
        self._temporary = data_dir is None
        self.data = Path(data_dir or tempfile.mkdtemp(prefix="cos-emulator-")).absolute()
        self._host, self._port, self._buckets = host, port, tuple(buckets)
        self._given = {"region": region, "appid": appid, "secret_id": secret_id, "secret_key": secret_key}
        self._limits, self._clock, self._log_requests = limits or Limits(), clock, log_requests
        self._thread: threading.Thread | None = None
        self._open = contextlib.ExitStack()
        self._service: Service | None = None
        self._server: _Server | None = None
        self._info: EmulatorInfo | None = None

    # Life

    def prepare(self) -> socket.socket:
        """Open the data directory and the socket; nothing is served yet."""
        self.data.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, _lock(self.data))
            account = _open_account(self.data, self._given)
            store = Store(self.data, clock=self._clock)
            stack.callback(store.close)
            store.add_credential(Credential(account.secret_id, account.secret_key))
            emulation = Emulation(store, Uploads(store), account.region, account.appid, self._limits)
            self._service = Service(emulation)
            listener = _listen(self._host, self._port)
            stack.callback(listener.close)
            application = Application(self._service, log_requests=self._log_requests)
            stack.callback(application.close)
            self._port = listener.getsockname()[1]
            shown = f"[{self._host}]" if ":" in self._host else self._host
            url = f"http://{'127.0.0.1' if shown == '0.0.0.0' else shown}:{self._port}"
            self._info = EmulatorInfo(
                url, account.secret_id, account.secret_key, account.region, account.appid, self.data
            )
            for name in self._buckets:
                self.create_bucket(name)
            self._app = application
            self._open = stack.pop_all()
        return listener

    def run(self, listener: socket.socket, on_start: Callable[[], None]) -> None:
        """Serve until told to stop, then close everything."""
        config = uvicorn.Config(
            self._app,
            http=ExactProtocol,
            loop=_loop(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = _Server(config, on_start, self._app.end)
        try:
            self._server.run([listener])
        finally:
            self._open.close()

    def start(self) -> Self:
        """Serve in a thread of its own; return when requests are answered."""
        if self._thread is not None:
            return self
        listener, started = self.prepare(), threading.Event()
        self._thread = threading.Thread(
            target=self.run, args=(listener, started.set), name="cos-emulator", daemon=True
        )
        self._thread.start()
        if not started.wait(30):
            raise EmulatorError("the emulator did not start within 30 seconds")
        return self

    def stop(self) -> None:
        """Stop serving; the data stay. `start` may follow, on the same port."""
        if self._thread is None:
            return
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join(15)
        self._thread = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, and remove a data directory of our own making."""
        self.stop()
        if self._temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    # Facts

    @property
    def info(self) -> EmulatorInfo:
        """Return how to reach the emulator."""
        if self._info is None:
            raise EmulatorError("the emulator has not been started")
        return self._info

    @property
    def service(self) -> Service:
        """Return the part behind the socket; take its lock before touching the store."""
        if self._service is None:
            raise EmulatorError("the emulator has not been started")
        return self._service

    @property
    def endpoint_url(self) -> str:
        """Return the URL to connect to."""
        return self.info.endpoint_url

    @property
    def secret_id(self) -> str:
        """Return the key id of the account."""
        return self.info.secret_id

    @property
    def secret_key(self) -> str:
        """Return the secret key of the account."""
        return self.info.secret_key

    @property
    def region(self) -> str:
        """Return the region of new buckets."""
        return self.info.region

    @property
    def appid(self) -> str:
        """Return the APPID at the end of bucket names."""
        return self.info.appid

    @property
    def requests(self) -> Requests:
        """Return the counts of requests."""
        return self.service.requests

    @property
    def faults(self) -> Faults:
        """Return what is to go wrong."""
        return self.service.faults

    # Direct access

    def create_bucket(self, name: str, region: str = "", **columns: Any) -> str:
        """Create a bucket unless it is there; return its full name."""
        emulation = self.service.emulation
        full = full_name(name, emulation.appid)
        with self.service.lock:
            if not emulation.store.resolve(full):
                emulation.store.create_bucket(full, region or emulation.region, **columns)
        return full

    def put_objects(self, bucket: str, objects: Iterable[tuple[str, bytes]]) -> int:
        """Store very many small objects quickly, for tests at scale; return how many."""
        store = self.service.emulation.store
        with self.service.lock:
            stored = ((key, inline_bytes(data)) for key, data in objects)
            return store.put_many(store.bucket(store.resolve(bucket)), stored, Properties())

    def add_credential(self, credential: Credential) -> None:
        """Make another key pair known, perhaps a temporary one with token and end."""
        with self.service.lock:
            self.service.emulation.store.add_credential(credential)


def _loop() -> Any:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


def serve(
    data: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    buckets: Sequence[str] = (),
    region: str = "",
    appid: str = "",
    secret_id: str = "",
    secret_key: str = "",
    ready: Callable[[EmulatorInfo], None] = lambda info: None,
    log_requests: bool = False,
) -> None:
    """Serve a data directory until SIGINT or SIGTERM. `ready` is called once requests are answered.

    What is left empty comes from the data directory, or is chosen when it is new. Raises EmulatorError if the
    directory is in use or is something else, or if the address cannot be listened on.
    """
    emulator = Emulator(
        data, host=host, port=port, buckets=buckets, region=region, appid=appid, secret_id=secret_id,
        secret_key=secret_key, log_requests=log_requests,
    )  # fmt: skip
    if log_requests:
        requests = logging.getLogger("cosfs.emulator.app")
        requests.setLevel(logging.INFO)
        requests.addHandler(logging.StreamHandler())
    listener = emulator.prepare()
    emulator.run(listener, lambda: ready(emulator.info))
