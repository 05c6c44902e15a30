"""A process that changes bytes of files in mappings: it dies of SIGBUS when the mount does.

A program starts it before it has a file open. Later a fork would have all that is open closed once more,
which the mount cannot tell from its own close().

It reads a line for each change: the path in hex, "msync" or "-", and START:HEX for each piece. It answers
"synced" when msync() has answered, and at the end 0 or an errno.
"""

from __future__ import annotations

import mmap
import os
import sys


def change(path: bytes, how: str, pieces: list[str]) -> None:
    """Change some pieces of a file, each as START:HEX."""
    fd = os.open(path, os.O_RDWR)
    try:
        with mmap.mmap(fd, 0) as mapping:
            for piece in pieces:
                start, _, text = piece.partition(":")
                mapping[int(start) : int(start) + len(text) // 2] = bytes.fromhex(text)
            if how == "msync":
                mapping.flush()
                print("synced", flush=True)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)


def main() -> None:
    for line in sys.stdin:
        path, how, *pieces = line.split()
        try:
            change(bytes.fromhex(path), how, pieces)
        except OSError as error:
            print(error.errno, flush=True)
        else:
            print(0, flush=True)


if __name__ == "__main__":
    main()
