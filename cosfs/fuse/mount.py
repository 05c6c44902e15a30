"""One mount: check, compose the parts, serve, and leave nothing behind.

`mount()` runs in the process that the user started. Unless it stays in the foreground it forks
before anything with threads or sockets exists; the child reports through a pipe whether the
mount answers, and only then the parent returns.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import trio

from cosfs.client.client import CosClient
from cosfs.config import Settings, TransferSettings
from cosfs.errors import (
    ConfigError,
    COSError,
    FilesystemError,
    PermissionDeniedError,
    ServiceError,
    UsageError,
)
from cosfs.fs.place import BLOCKS, Place, check_private
from cosfs.fuse import logs, registry, supervisor
from cosfs.fuse.checks import check_fuse, check_mountpoint
from cosfs.fuse.settings import MountSettings, default_cache_dir
from cosfs.transfer.descriptors import raise_limit
from cosfs.transfer.looker import Looker

log = logging.getLogger("cosfs.mount")

FUSE_MAJOR_OPTIONS = frozenset(
    {"nosuid", "nodev", "noexec", "noatime", "suid", "dev", "exec", "atime", "ro", "rw", "sync", "dirsync",
     "allow_root", "auto_unmount"}
)  # fmt: skip
READ_AHEAD_KIB = 4096
_ROOM = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some space or choose")
MAX_BACKGROUND = 64
ClientFactory = Callable[[], CosClient]


def mount(settings: Settings, mount_settings: MountSettings, make_client: ClientFactory) -> int:
    """Mount and return when the mount answers, or (foreground) when it has ended.

    make_client is called in the process that serves. Raises COSError, with nothing left
    mounted, if the mount cannot be made.
    """
    with supervisor.telling_failure():
        return _mount(settings, mount_settings, make_client)


def _mount(settings: Settings, mount_settings: MountSettings, make_client: ClientFactory) -> int:
    mount_settings = replace(
        mount_settings,
        mountpoint=check_mountpoint(mount_settings.mountpoint),
        cache_dir=_absolute(mount_settings.cache_dir),
        log_file=_absolute(mount_settings.log_file),
    )
    logs.check(mount_settings)
    _check_places(mount_settings)
    check_fuse(mount_settings)
    if mount_settings.foreground:
        _serve(settings, mount_settings, make_client, lambda: None)
        return 0
    return _in_background(settings, mount_settings, make_client)


def _check_places(mount_settings: MountSettings) -> None:
    """Refuse files of our own below the mountpoint: to serve them we would have to wait for ourselves."""
    mountpoint = mount_settings.mountpoint
    log_file = mount_settings.log_file or logs.default_log_file(mount_settings.mountpoint)
    for what, path in (
        ("cache directory", _cache_path(mount_settings)),
        ("log file", log_file),
        ("runtime directory", registry.runtime_dir()),
    ):
        if mountpoint in (path.resolve(), *path.resolve().parents):
            raise UsageError(
                f"the {what} {path} is inside the mountpoint {mountpoint}", hint="Move one of them"
            )


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path is not None else None


# Background


def _in_background(settings: Settings, mount_settings: MountSettings, make_client: ClientFactory) -> int:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(settings, mount_settings, make_client, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode("utf-8", "replace")
    if answer == "ok":
        return 0
    os.waitpid(pid, os.WNOHANG)
    code, _, text = answer.partition("\n")
    if not code.isdigit():
        raise COSError("the mount process ended without a word", hint="Try again with --foreground --debug")
    error = COSError(text)
    error.exit_code = int(code)
    raise error


def _child(
    settings: Settings, mount_settings: MountSettings, make_client: ClientFactory, writer: int
) -> None:
    """Serve in a session of our own; never returns."""
    code = 1
    # An automount lets nobody but systemd's own process group see the directory until it is mounted.
    is_waited_for = registry.is_automount(mount_settings.mountpoint)
    try:
        if not is_waited_for:
            os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)

        def ready() -> None:
            if is_waited_for:
                os.setsid()
            os.write(writer, b"ok")
            os.close(writer)

        _serve(settings, mount_settings, make_client, ready)
        code = 0
    except COSError as exc:
        log.error("%s", exc)
        _tell(writer, exc.exit_code, str(exc))
    except BaseException as exc:
        log.exception("the mount failed")
        _tell(writer, 255, f"{type(exc).__name__}: {exc}")
    finally:
        logging.shutdown()
        os._exit(code)


def _tell(writer: int, code: int, text: str) -> None:
    try:
        os.write(writer, f"{code}\n{text}".encode())
    except OSError:
        pass  # the parent has been told "ok" and is gone


# Serving


def _serve(
    settings: Settings, mount_settings: MountSettings, make_client: ClientFactory, ready: Callable[[], None]
) -> None:
    _hold_signals()
    logs.set_up_logging(mount_settings)
    raise_limit()  # each file that is being written has one open in the cache directory
    with ExitStack() as stack:
        client = stack.enter_context(_closing_client(make_client))
        bucket = check_source(client, mount_settings)
        client.limit_stalls(mount_settings.io_timeout)  # not before somebody could be asked for a code
        mount_settings = replace(mount_settings, bucket=bucket)
        if mount_settings.as_of is not None:
            client = stack.enter_context(_past(client, mount_settings))
        from cosfs.fuse.serve import serve  # pulls in pyfuse3

        transfer = _transfer_settings(settings.transfer, mount_settings)
        place = cache_place(mount_settings, settings)
        if not mount_settings.foreground:
            os.chdir("/")  # not earlier: settings may name files relative to where the user is
        if mount_settings.as_of is not None:
            stack.callback(shutil.rmtree, place.own, ignore_errors=True)  # the past has nothing to send
        looker = _fork_looker(client, transfer, mount_settings)
        if looker is not None:
            stack.callback(looker.close)
        trio.run(serve, client, transfer, mount_settings, place, ready, looker)


def _fork_looker(
    client: CosClient, transfer: TransferSettings, mount_settings: MountSettings
) -> Looker | None:
    """A second process for attributes, where many of them may be asked for."""
    if mount_settings.attributes == "listing" or mount_settings.as_of is not None:
        return None
    return Looker.fork(client, transfer.max_small_requests)


def _past(client: CosClient, mount_settings: MountSettings) -> CosClient:
    """The client of a mount that looks back; refuses a bucket without old versions."""
    from cosfs.fs.past import PastClient

    assert mount_settings.as_of is not None
    past = PastClient(client, mount_settings.as_of)
    if mount_settings.bucket:
        past.check_versioned(mount_settings.bucket)
    return past


def _hold_signals() -> None:
    """Signals about the log may come before the mount listens to them; they must not end it."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _closing_client(make_client: ClientFactory) -> Iterator[CosClient]:
    client = make_client()
    try:
        yield client
    finally:
        client.close()


def check_source(client: CosClient, mount_settings: MountSettings) -> str:
    """Ask COS once whether the source is there and ours; returns the bucket's full name."""
    if not mount_settings.bucket:
        client.list_buckets()
        return ""
    bucket = client.resolve_bucket(mount_settings.bucket)
    try:
        client.head_bucket(bucket)
    except PermissionDeniedError:
        # A policy may allow no more than our prefix; and unlike HEAD, a list says what is wrong with a key.
        client.list_objects(bucket, prefix=mount_settings.prefix, max_keys=1)
    if mount_settings.prefix and mount_settings.as_of is None:
        _check_prefix(client, bucket, mount_settings.prefix)
    return bucket


def _check_prefix(client: CosClient, bucket: str, prefix: str) -> None:
    """Refuse an object that nothing is below; a prefix that is not there yet may come to be."""
    key = prefix.removesuffix("/")
    try:
        client.head_object(bucket, key)
    except ServiceError:
        return
    if not client.list_objects(bucket, prefix=prefix, max_keys=1).objects:
        parent = key.rpartition("/")[0]
        raise FilesystemError(
            errno.ENOTDIR,
            f"cos://{bucket}/{key} is an object, not a directory",
            hint=f"Mount what it is in: cos mount cos://{bucket}/{parent}",
        )


def _transfer_settings(transfer: TransferSettings, mount_settings: MountSettings) -> TransferSettings:
    if mount_settings.part_size:
        transfer = replace(transfer, multipart_chunksize=mount_settings.part_size)
    if mount_settings.concurrency:
        transfer = replace(transfer, max_concurrent_requests=mount_settings.concurrency)
    return transfer


def _cache_path(mount_settings: MountSettings) -> Path:
    return mount_settings.cache_dir or default_cache_dir()


def cache_place(mount_settings: MountSettings, settings: Settings) -> Place:
    """The directories of this mount, made if missing.

    Its own is named after source and endpoint, so that a later mount of the same source finds what
    an earlier one could not send; the blocks are for all.
    """
    base = _cache_path(mount_settings)
    realm = settings.client.endpoint_url
    moment = "" if mount_settings.as_of is None else f"@{mount_settings.as_of!r}"
    digest = hashlib.sha256(f"{realm}|{mount_settings.source}{moment}".encode()).hexdigest()[:8]
    own = base / f"{mount_settings.bucket or 'all-buckets'}-{digest}"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(base)
        for path in (own, base / BLOCKS):
            path.mkdir(mode=0o700, exist_ok=True)
            check_private(path, hidden=True)
        probe = own / f".write-test-{os.getpid()}"
        probe.write_bytes(b"x" * 4096)
        probe.unlink()
    except FileExistsError as exc:
        raise ConfigError(
            f"{exc.filename} is no directory",
            hint="Move it away, or choose another directory with --cache-dir",
        ) from exc
    except OSError as exc:
        raise ConfigError(
            f"the cache directory {base} cannot be written: {exc.strerror}",
            hint=f"{_ROOM.get(exc.errno or 0, 'Choose')} another directory with --cache-dir",
        ) from exc
    return Place(own.resolve(), (base / BLOCKS).resolve(), realm)


def fuse_options(mount_settings: MountSettings) -> set[str]:
    """The options that libfuse is given."""
    options = {
        "default_permissions",
        f"fsname={_escape(mount_settings.fsname or mount_settings.source)}",
        "subtype=cosfs",
    }
    if mount_settings.allow_other:
        options.add("allow_other")
    if mount_settings.read_only or mount_settings.as_of is not None:
        options.add("ro")
    unknown = [o for o in mount_settings.fuse_options if o not in FUSE_MAJOR_OPTIONS]
    if unknown:
        raise UsageError(
            f"unknown mount option: {', '.join(unknown)}", hint="'cos mount --help' lists all options"
        )
    options.update(mount_settings.fuse_options)
    options.discard("rw")
    return options


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,").encode("ascii", "replace").decode()


def tune_kernel(mountpoint: Path) -> None:
    """Let the kernel ask for more at once (root only; without it our own readahead does most of it).

    With 20 ms to COS the kernel's defaults give 12 MB/s, a larger window and more requests in
    flight some 800.
    """
    if os.getuid() != 0:
        return
    device = mountpoint.stat().st_dev
    for path, value in (
        (f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb", READ_AHEAD_KIB),
        (f"/sys/fs/fuse/connections/{os.minor(device)}/max_background", MAX_BACKGROUND),
        (f"/sys/fs/fuse/connections/{os.minor(device)}/congestion_threshold", MAX_BACKGROUND * 3 // 4),
    ):
        try:
            Path(path).write_text(str(value))
        except OSError as exc:
            log.debug("%s stays as it is: %s", path, exc)


def mount_failed(mountpoint: Path, error: BaseException) -> COSError:
    """Why libfuse could not mount, in words."""
    if isinstance(error, COSError):
        return error
    return FilesystemError(
        errno.EIO,
        f"{mountpoint} could not be mounted: {error}",
        hint="As another user than root this needs fusermount3 and, for --allow-other, "
        "user_allow_other in /etc/fuse.conf",
    )
