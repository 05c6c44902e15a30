"""Digests of what is copied into parts: right each time, and read once."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from cosfs.emulator import handlers_upload
from cosfs.emulator.digests import crc64
from cosfs.emulator.ranges import MOST, RangeDigests
from cosfs.emulator.values import Piece
from tests.emulator.asking import BUCKET, Asker, texts

FILE = [Piece(100, file="a", start=5)]


def test_a_range_that_is_copied_many_times_is_read_once(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read = handlers_upload._read

    def note(*args: object) -> tuple[str, str]:
        reads.append(args)
        return read(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(handlers_upload, "_read", note)
    data = os.urandom(100_000)
    ask("PUT", "/source", data)
    upload = texts(ask("POST", "/k?uploads"), "UploadId")[0]
    source = f"{BUCKET}.cos.ap-guangzhou.myqcloud.com/source"

    def copy(number: int, window: tuple[int, int]) -> str:
        answer = ask(
            "PUT",
            f"/k?partNumber={number}&uploadId={upload}",
            x_cos_copy_source=source,
            x_cos_copy_source_range=f"bytes={window[0]}-{window[1] - 1}",
        )
        return texts(answer, "ETag")[0].strip('"')

    for number, window in enumerate([(0, 90_000), (0, 90_000), (1, 90_000), (0, 90_000), (0, 100_000)], 1):
        assert copy(number, window) == hashlib.md5(data[slice(*window)]).hexdigest()
    assert len(reads) == 2  # of the whole object it is known
    ask("PUT", "/source", data[::-1])
    assert copy(1, (0, 90_000)) == hashlib.md5(data[::-1][:90_000]).hexdigest()
    assert len(reads) == 3


def test_those_who_ask_at_the_same_time_wait_for_one_reader() -> None:
    ranges, begun, go_on = RangeDigests(), threading.Event(), threading.Event()
    answers = []

    def read() -> tuple[str, str]:
        begun.set()
        assert go_on.wait(90)
        return "md5", str(crc64(b"x"))

    def fail() -> tuple[str, str]:
        raise AssertionError("read twice")

    first = threading.Thread(target=lambda: answers.append(ranges.of(FILE, read)))
    first.start()
    assert begun.wait(90)
    second = threading.Thread(target=lambda: answers.append(ranges.of(FILE, fail)))
    second.start()
    go_on.set()
    first.join(90)
    second.join(90)
    assert len(set(answers)) == 1 and len(answers) == 2


def test_what_could_not_be_read_is_tried_again() -> None:
    ranges = RangeDigests()

    def fail() -> tuple[str, str]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        ranges.of(FILE, fail)
    assert ranges.of(FILE, lambda: ("a", "1")) == ("a", "1")


def test_only_so_many_are_remembered_and_none_of_bytes_in_memory() -> None:
    ranges = RangeDigests()
    for number in range(2 * MOST):
        ranges.of([Piece(100, file="a", start=number)], lambda: ("a", "1"))
        ranges.of([Piece(3, data=b"abc")], lambda: ("b", "2"))
    assert len(ranges._known) == MOST
