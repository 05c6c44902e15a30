"""Running an emulator: in the foreground for the command line, in a thread for tests."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from cosfs.emulator.addressing import check_bucket_name
from cosfs.emulator.admin import PREFIX, Admin, is_own_name
from cosfs.emulator.admin_api import Api
from cosfs.emulator.app import Application
from cosfs.emulator.auth import Credential
from cosfs.emulator.clock import Clock
from cosfs.emulator.context import Emulation, Limits, full_name
from cosfs.emulator.datadir import lock, open_account
from cosfs.emulator.errors import CosError, EmulatorError
from cosfs.emulator.faults import Faults
from cosfs.emulator.jobs import Jobs
from cosfs.emulator.listener import Server, bracketed, event_loop, hold, listen
from cosfs.emulator.members import MembersApi
from cosfs.emulator.protocol import ExactProtocol
from cosfs.emulator.requestlog import Requests
from cosfs.emulator.seeding import Seeded, seed
from cosfs.emulator.service import Service
from cosfs.emulator.store import Properties, Store, inline_bytes
from cosfs.emulator.uploads import Uploads

JOBS_INTERVAL = 5.0  # seconds between two looks at what is due; replication does not wait for them


@dataclass(frozen=True, slots=True)
class EmulatorInfo:
    """How to reach a running emulator."""

    endpoint_url: str
    secret_id: str
    secret_key: str
    region: str
    appid: str
    data: Path
    https_url: str = ""  # empty: no HTTPS
    ca_file: Path | None = None  # what clients have to trust for it
    admin_url: str = ""  # empty: no page
    default_bucket: str = ""


class Emulator(MembersApi):
    """A running emulator for tests: `with Emulator(tmp_path) as emulator: ...emulator.endpoint_url...`.

    Without a data directory it uses a temporary one and removes it at the end. `faults` and `requests` are
    for asking for trouble and for counting; `limits` may make parts and objects small. `clock.advance` moves
    time, `run_jobs` does what is due then; with a jobs_interval of 0 nothing but that call does.
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
        https: bool = False,
        https_port: int = 0,
        admin: bool = False,
        default_bucket: str = "",
        jobs_interval: float = JOBS_INTERVAL,
        instance_role: str = "",
    ) -> None:
        self.data = Path(data_dir or tempfile.mkdtemp(prefix="cos-emulator-")).absolute()
        self._temporary = data_dir is None
        if self._temporary:  # also where a program only ever calls start and stop
            weakref.finalize(self, shutil.rmtree, self.data, ignore_errors=True)
        self._host, self._port, self._buckets = host, port, tuple(buckets)
        self._given = {"region": region, "appid": appid, "secret_id": secret_id, "secret_key": secret_key}
        self.clock = clock if isinstance(clock, Clock) else Clock(clock)
        self._limits, self._log_requests = limits or Limits(), log_requests
        self._https, self._https_port = https or bool(https_port), https_port
        self._admin, self._default_bucket = admin, default_bucket
        self._jobs_interval = jobs_interval
        self._jobs: Jobs | None = None
        self._instance_role = instance_role
        self._thread: threading.Thread | None = None
        self._open = contextlib.ExitStack()
        self._held: dict[tuple[str, int], socket.socket] = {}  # by address
        weakref.finalize(self, _let_go, self._held)
        self._service: Service | None = None
        self._server: Server | None = None
        self._info: EmulatorInfo | None = None

    # Life

    def prepare(self) -> None:
        """Open the data directory and take the addresses; nothing is served yet."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                self._prepare(stack)
                self._open = stack.pop_all()
        except sqlite3.Error as error:
            raise EmulatorError(
                f"{self.data / 'metadata.sqlite'} cannot be used ({error}); it holds the objects' names: "
                "bring it back from a copy, or begin with another directory"
            ) from error
        except OSError as error:
            raise EmulatorError(f"{error.filename or self.data} cannot be used: {error.strerror}") from error

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        stack.callback(os.close, lock(self.data))
        account = open_account(self.data, self._given)
        store = Store(self.data, clock=self.clock)
        stack.callback(store.close)
        store.add_credential(Credential(account.secret_id, account.secret_key))
        emulation = Emulation(store, Uploads(store), account.region, account.appid, self._limits)
        self._service = Service(emulation)
        self._jobs = Jobs(emulation, self._service.lock, self._jobs_interval)
        stack.callback(self._jobs.stop)
        self._app = Application(self._service, log_requests=self._log_requests)
        stack.callback(self._app.close)
        self._listeners = self._listen(stack, self._port)
        self._port = self._listeners[0].getsockname()[1]
        self._tls, https_url, ca_file = None, "", None
        if self._https:
            from cosfs.emulator.certificates import Authority

            authority = Authority(self.data)
            secure = self._listen(stack, self._https_port)
            self._https_port = secure[0].getsockname()[1]
            self._tls = (secure, authority.context())
            https_url, ca_file = self._url("https", self._https_port), authority.file
            self._app.https_address = secure[0].getsockname()[:2]
        for name in self._buckets:
            self._make_bucket(name)
        if self._default_bucket:
            self._default_bucket = emulation.default_bucket = self._make_bucket(self._default_bucket)
        if self._instance_role:
            self.set_instance_role(self._instance_role)
        self._info = EmulatorInfo(
            self._url("http", self._port), account.secret_id, account.secret_key, account.region,
            account.appid, self.data, https_url, ca_file, self._admin_url(),
            self._default_bucket,
        )  # fmt: skip
        if self._admin:
            self._app.admin = self._make_admin(self._info)

    def _make_bucket(self, name: str) -> str:
        try:
            return self.create_bucket(name)
        except CosError as error:
            raise EmulatorError(
                f"a bucket named {name!r} cannot be made: {error.message} "
                "Names have a-z, 0-9 and hyphens, and with the APPID at most 63 characters"
            ) from error

    def _listen(self, stack: contextlib.ExitStack, port: int) -> list[socket.socket]:
        listeners = listen(self._host, port)
        for listener in listeners:
            stack.callback(listener.close)
            address = listener.getsockname()[:2]
            if address not in self._held:
                self._held[address] = hold(address)
        return listeners

    def _url(self, scheme: str, port: int) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        if self._default_bucket:  # an address would mean that bucket
            host = "localhost"
        return f"{scheme}://{bracketed(host)}:{port}"

    def _admin_url(self) -> str:
        if not self._admin:
            return ""
        url = self._url("http", self._port)
        if not is_own_name(url.partition("://")[2]):
            raise EmulatorError(
                f"the admin path needs 127.0.0.1, localhost or ::1 to listen on, not {self._host}"
            )
        return url + PREFIX.decode()

    def _make_admin(self, info: EmulatorInfo) -> Admin:
        status = {name: str(value or "") for name, value in asdict(info).items() if "secret" not in name}
        return Admin(Api(self.service, self.clock, status, self.create_bucket), self._app.handle)

    def run(self, ready: Callable[[], None]) -> None:
        """Serve what was prepared until told to stop, then close everything."""
        config = uvicorn.Config(
            self._app,
            http=ExactProtocol,
            loop=event_loop(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = Server(config, ready, self._app.end, self._tls)
        assert self._jobs is not None
        self._jobs.start()
        try:
            self._server.run(self._listeners)
        finally:
            self._open.close()

    def close(self) -> None:
        """Close what was prepared and will not be run."""
        self._open.close()
        _let_go(self._held)

    def start(self) -> Self:
        """Serve in a thread of its own; return when requests are answered."""
        if self._thread is not None:
            return self
        self.prepare()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self.run, args=(started.set,), name="cos-emulator", daemon=True
        )
        self._thread.start()
        while not started.wait(0.5):
            if not self._thread.is_alive():
                self._thread = None
                raise EmulatorError("the emulator could not start; its log says why")
        return self

    def stop(self) -> None:
        """Stop serving; the data stay. `start` may follow, on the same port, which is kept for it."""
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
        _let_go(self._held)
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
        check_bucket_name(full)
        with self.service.lock:
            if not emulation.store.resolve(full):
                emulation.store.create_bucket(full, region or emulation.region, **columns)
        return full

    def seed(
        self,
        bucket: str,
        directory: Path,
        *,
        mtimes: bool = False,
        progress: Callable[[Seeded], None] = lambda done: None,
    ) -> Seeded:
        """Make the files below a directory objects of a bucket; see seeding.seed."""
        store = self.service.emulation.store
        with self.service.lock:
            return seed(
                store, store.bucket(store.resolve(bucket)), directory, mtimes=mtimes, progress=progress
            )

    def put_objects(self, bucket: str, objects: Iterable[tuple[str, bytes]]) -> int:
        """Store very many small objects quickly, for tests at scale; return how many."""
        store = self.service.emulation.store
        with self.service.lock:
            stored = ((key, inline_bytes(data)) for key, data in objects)
            return store.put_many(store.bucket(store.resolve(bucket)), stored, Properties())

    def run_jobs(self) -> None:
        """Do now what is due by the clock: replication, lifecycle rules, inventories, access logs."""
        if self._jobs is None:
            raise EmulatorError("the emulator has not been started")
        self._jobs.run()


def _let_go(held: dict[tuple[str, int], socket.socket]) -> None:
    while held:
        held.popitem()[1].close()


def serve(
    data: Path,
    *,
    ready: Callable[[EmulatorInfo], None] = lambda info: None,
    prepared: Callable[[Emulator], object] = lambda emulator: None,
    log_requests: bool = False,
    **options: Any,
) -> None:
    """Serve a data directory until SIGINT or SIGTERM; the options are those of Emulator.

    `prepared` is called when the data directory is open and nobody is served yet, `ready` once requests are
    answered. Keys, region and APPID that are not given come from the data directory, or are chosen when it is
    new. Raises EmulatorError if the directory is in use or is something else, or if the address cannot be
    listened on.
    """
    emulator = Emulator(data, log_requests=log_requests, **options)
    if log_requests:
        log_to_stderr()
    emulator.prepare()
    try:
        prepared(emulator)
    except BaseException:
        emulator.close()
        raise
    emulator.run(lambda: ready(emulator.info))


def log_to_stderr() -> None:
    """Let the lines of log_requests appear."""
    requests = logging.getLogger("cosfs.emulator.app")
    requests.setLevel(logging.INFO)
    requests.addHandler(logging.StreamHandler())
