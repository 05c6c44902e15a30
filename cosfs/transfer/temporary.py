"""The hidden file a download grows in until it is whole."""

from __future__ import annotations

import ctypes
import errno
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import count
from pathlib import Path

from cosfs.client.model import ObjectInfo
from cosfs.client.waiting import offload
from cosfs.transfer.options import TransferOptions
from cosfs.transfer.paths import LocalTarget, temporary_name, temporary_number
from cosfs.transfer.preserve import restore, restore_mtime, take_over
from cosfs.transfer.traces import Traces, remove_named
from cosfs.transfer.work import Abandoned, SharedFile

__all__ = ["TemporaryFile", "most_names", "other_names", "remove_left", "use_names"]

# Each process counts from somewhere else; who meets a name that is taken goes on to the next.
_FIRST_NAME = secrets.randbits(32)
_names = count()


def other_names() -> int:
    """Return where a process that begins as a copy of this one may begin to count."""
    return secrets.randbits(32)


def use_names(first: int) -> None:
    """Count from there on."""
    global _FIRST_NAME, _names
    _FIRST_NAME, _names = first, count()


def most_names(number: int) -> int:
    """Return how many names are used for so many files at most: those that are taken are skipped."""
    return 2 * number + 16


def remove_left(first: int, number: int, targets: Iterable[LocalTarget]) -> None:
    """Remove what a process that counted from first, and made about so many, left beside its targets."""
    for target in {each.components[:-1] or Path(each.path).parent: each for each in targets}.values():
        directory = target.hold_parent()  # good for names in it alone
        listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory.fileno())
        try:
            remove_named(listed, [(first, most_names(number))])
        finally:
            os.close(listed)
            directory.__exit__()


_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TemporaryFile:
    """A file beside its target, under a name of its own, that replaces the target by one rename.

    Can be discarded from any thread at any moment: its name is gone at once, the descriptor
    when the last writer is done, and a rename that comes later fails with Abandoned.
    """

    def __init__(
        self,
        target: LocalTarget,
        traces: Traces | None = None,
        *,
        opened: tuple[SharedFile, str, int] | None = None,
    ) -> None:
        self._target = target
        self._traces = traces
        self._lock = threading.Lock()
        self._directory, self.name, fd = opened or self._create()
        self.file = SharedFile(fd)
        self._live = True

    @classmethod
    def reopen(cls, target: LocalTarget, name: str, identity: Sequence[int]) -> TemporaryFile | None:
        """Return the file that was kept under a name; None if it is gone or another one."""
        if temporary_number(name) is None:
            return None
        try:
            directory = target.hold_parent()
        except OSError:
            return None
        try:
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fileno())
        except OSError:
            directory.__exit__()
            return None
        found = cls(target, opened=(directory, name, fd))
        if found.identity != list(identity):
            found.keep()
            return None
        return found

    @property
    def identity(self) -> list[int]:
        """Device and inode."""
        with self.file as fd:
            status = os.fstat(fd)
        return [status.st_dev, status.st_ino]

    @property
    def is_there(self) -> bool:
        """Whether it can be reopened: somebody may have removed it, or the directory that it is in."""
        try:
            named = os.stat(self.name, dir_fd=self._directory.fileno(), follow_symlinks=False)
        except OSError:
            return False
        return [named.st_dev, named.st_ino] == self.identity

    def keep(self) -> None:
        """Leave the file where it is, to be reopened by another process."""
        with self._lock:
            if self._live:
                self._end()

    def _create(self) -> tuple[SharedFile, str, int]:
        target = self._target
        for again in (True, False):
            directory = target.hold_parent()
            try:
                return directory, *_create_unused(directory.fileno(), self._note)
            except OSError as error:
                directory.__exit__()
                if again and isinstance(error, FileNotFoundError) and target.root is not None:
                    # Somebody has removed the directory since we opened it.
                    target.root.forget()
                    continue
                raise OSError(error.errno, error.strerror, str(Path(target.path).parent)) from None
        raise AssertionError("unreachable")

    def _note(self, number: int) -> None:
        if self._traces is not None:
            self._traces.using(self._target.path.rpartition("/")[0], _FIRST_NAME, number)

    def allocate(self, size: int, *, sparse: bool = False) -> None:
        """Take size bytes on disk now, so that a full disk is noticed before the download."""
        with self.file as fd:
            if not sparse:
                _allocate(fd, size)
            os.ftruncate(fd, size)

    def commit(self, info: ObjectInfo, options: TransferOptions) -> None:
        """Make it the target, with what options say a file takes from its object, else from the target."""
        with self.file as fd:
            take_over(fd, self._target.name, self._directory.fileno())
            if options.preserve:
                restore(fd, info)
            mtime_ns = restore_mtime(info) if options.preserve else round(info.last_modified * 1e9)
            if options.set_mtime and mtime_ns:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            if options.fsync:
                # The disk takes its time, and many files may be in flight in this thread.
                offload(partial(os.fsync, fd))
        self._replace_target()

    def commit_link(self, target: bytes) -> None:
        """Make the target a symbolic link to target instead; the file itself goes."""
        directory = self._directory.fileno()
        with self._lock:
            if not self._live:
                raise Abandoned
            # From now on the name is the link's: in the same place, so discarding removes that.
            os.unlink(self.name, dir_fd=directory)
            os.symlink(target, os.fsencode(self.name), dir_fd=directory)
        self._replace_target()

    def _replace_target(self) -> None:
        with self._lock:
            if not self._live:
                raise Abandoned
            self._rename()
            self._end()

    def _rename(self) -> None:
        directory = self._directory.fileno()
        try:
            os.rename(self.name, self._target.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._target.path) from None

    def discard(self) -> None:
        """Remove it unless it became the target; again is fine."""
        with self._lock:
            if self._live:
                try:
                    os.unlink(self.name, dir_fd=self._directory.fileno())
                except FileNotFoundError:
                    pass
                self._end()

    def _end(self) -> None:
        self._live = False
        self._directory.__exit__()
        self.file.close()


def _create_unused(directory: int, noted: Callable[[int], None]) -> tuple[str, int]:
    while True:
        number = next(_names)
        name = temporary_name(_FIRST_NAME + number)
        noted(number)
        try:
            # The mode is the target's: the umask and a default ACL are the kernel's to apply.
            return name, os.open(name, _CREATE, 0o666, dir_fd=directory)
        except FileExistsError:
            continue


@cache
def _fallocate() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


def _allocate(fd: int, size: int) -> None:
    # Not os.posix_fallocate: where the filesystem cannot do it, that writes every block.
    function = _fallocate()
    if function is not None and size and function(fd, 0, 0, size) != 0:
        error = ctypes.get_errno()
        if error in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise OSError(error, os.strerror(error))
