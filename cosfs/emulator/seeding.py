"""A directory tree becomes the objects of a bucket, in bounded memory; again, only what changed is read."""

from __future__ import annotations

import json
import mimetypes
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cosfs.emulator.addressing import check_key
from cosfs.emulator.errors import CosError, EmulatorError
from cosfs.emulator.records import received_bytes
from cosfs.emulator.store import Bucket, Properties, Store

_BATCH = 1024 * 1024


@dataclass(slots=True)
class Seeded:
    """What came of it; `left_out` has a line for each name that is no object, with the reason."""

    objects: int = 0
    bytes: int = 0
    unchanged: int = 0
    left_out: list[str] = field(default_factory=list)


def seed(
    store: Store, bucket: Bucket, directory: Path, *, mtimes: bool = False,
    progress: Callable[[Seeded], None] = lambda done: None,
) -> Seeded:  # fmt: skip
    """Store the files below a directory under their relative names, empty directories as `name/`.

    Links to files are followed, links to directories are left out. An object of the same size that is not
    older than its file stays. With mtimes, the files' times are kept as `x-cos-meta-mtime`, as cosfs does.
    """
    if not directory.is_dir():
        raise EmulatorError(f"{directory} is no directory")
    done = Seeded()
    for path, key in _walk(directory, done):
        try:
            key.encode()
            check_key(key)
            _store(store, bucket, path, key, mtimes, done)
        except UnicodeEncodeError:
            done.left_out.append(f"{os.fsencode(path)!r}: its name is not UTF-8")
        except CosError as error:
            done.left_out.append(f"{path}: {error.message}")
        except OSError as error:
            done.left_out.append(f"{path}: {error.strerror}")
        progress(done)
    return done


def _walk(directory: Path, done: Seeded) -> Iterator[tuple[Path, str]]:
    """Yield what is to be stored, with its key; a directory that is empty ends in a slash."""

    def failed(error: OSError) -> None:
        done.left_out.append(f"{error.filename}: {error.strerror}")

    for folder, folders, files in os.walk(directory, onerror=failed):
        folders.sort()
        here = Path(folder)
        for name in [name for name in folders if (here / name).is_symlink()]:
            done.left_out.append(f"{here / name}: a link to a directory")
            folders.remove(name)
        inner = os.path.relpath(folder, directory)
        prefix = "" if inner == "." else inner + "/"
        if prefix and not folders and not files:
            yield here, prefix
        for name in sorted(files):
            yield here / name, prefix + name


def _store(store: Store, bucket: Bucket, path: Path, key: str, mtimes: bool, done: Seeded) -> None:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode) and not key.endswith("/"):
        done.left_out.append(f"{path}: neither a file nor a directory")
        return
    size = 0 if key.endswith("/") else facts.st_size
    found = store.newest(bucket, key)
    if found and not found.marker and found.size == size and found.modified >= int(facts.st_mtime):
        done.unchanged += 1
        return
    headers = {"Content-Type": mimetypes.guess_type(path.name)[0] or "application/octet-stream"}
    if mtimes:
        headers["x-cos-meta-mtime"] = str(int(facts.st_mtime))
    receiver = store.files.receive()
    try:
        if size:
            with path.open("rb") as file:
                while data := file.read(_BATCH):
                    receiver.write(data)
        body = receiver.finish()
    except BaseException:  # Ctrl-C too
        receiver.discard()
        raise
    store.put(bucket, key, received_bytes(body), Properties(headers=json.dumps(headers)))
    done.objects += 1
    done.bytes += body.size
