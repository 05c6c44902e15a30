"""Checksums of a file that is being written, compared with those of its bytes."""

from __future__ import annotations

import os
import random

from cosfs.client.crc64 import crc64
from cosfs.fs.sums import STEP, Sums


def write(sums: Sums, data: bytes, start: int) -> None:
    with sums.writing(start, start + len(data)) as summing:
        summing.add(data)


def test_a_file_written_in_order_is_summed_up_whatever_the_length_of_the_writes() -> None:
    data = os.urandom(3 * STEP)
    for length in (STEP, 128 * 1024, 100_000, STEP + 1, 3 * STEP):
        sums = Sums()
        for start in range(0, len(data), length):
            write(sums, data[start : start + length], start)
        assert sums.take(0, 2 * STEP) == crc64(data[: 2 * STEP])
        assert sums.take(2 * STEP, 3 * STEP) == crc64(data[2 * STEP :])


def test_a_sum_is_given_once() -> None:
    sums = Sums()
    write(sums, bytes(2 * STEP), 0)
    assert sums.take(0, 2 * STEP) is not None
    assert sums.take(0, 2 * STEP) is None
    assert sums.take(0, STEP) is None


def test_what_is_not_whole_has_no_sum() -> None:
    sums = Sums()
    write(sums, bytes(STEP - 1), 0)
    write(sums, bytes(STEP - 1), STEP + 1)
    assert sums.take(0, STEP) is None
    assert sums.take(STEP, 2 * STEP) is None
    write(sums, bytes(2 * STEP), 2 * STEP)
    assert sums.take(2 * STEP, 3 * STEP - 1) is None
    assert sums.take(2 * STEP + 1, 4 * STEP) is None


def test_one_byte_written_over_takes_the_sum_of_its_step() -> None:
    data = os.urandom(3 * STEP)
    sums = Sums()
    write(sums, data, 0)
    write(sums, b"x", STEP)
    assert sums.take(0, STEP) == crc64(data[:STEP])
    assert sums.take(STEP, 2 * STEP) is None
    assert sums.take(2 * STEP, 3 * STEP) == crc64(data[2 * STEP :])


def test_a_step_written_over_while_it_is_not_whole_has_no_sum() -> None:
    sums = Sums()
    write(sums, bytes(STEP // 2), 0)
    write(sums, b"x", 5)
    write(sums, bytes(STEP // 2), STEP // 2)
    assert sums.take(0, STEP) is None


def test_what_is_cut_off_has_no_sum() -> None:
    sums = Sums()
    write(sums, bytes(2 * STEP + 10), 0)
    sums.cut(STEP + 1, 2 * STEP + 10)
    write(sums, bytes(STEP - 10), 2 * STEP + 10)
    assert sums.take(0, STEP) == crc64(bytes(STEP))
    assert sums.take(STEP, 2 * STEP) is None
    assert sums.take(2 * STEP, 3 * STEP) is None


def test_of_two_writes_at_once_none_counts_and_the_next_one_does() -> None:
    data = os.urandom(STEP)
    sums = Sums()
    first, second = sums.writing(0, STEP), sums.writing(STEP - 1, 2 * STEP - 1)
    with first as one:
        with second as other:
            other.add(data)
        one.add(data)
    assert sums.take(0, STEP) is None
    assert sums.take(STEP, 2 * STEP) is None
    write(sums, data, 0)
    assert sums.take(0, STEP) == crc64(data)


def test_a_cut_in_the_middle_of_a_write_leaves_no_sum() -> None:
    sums = Sums()
    with sums.writing(0, STEP) as summing:
        summing.add(bytes(STEP))
        sums.cut(5, STEP)
    assert sums.take(0, STEP) is None


def test_a_failed_write_leaves_no_sum() -> None:
    sums = Sums()
    write(sums, bytes(STEP), 0)
    try:
        with sums.writing(0, STEP) as summing:
            summing.add(bytes(STEP))
            raise OSError
    except OSError:
        pass
    assert sums.take(0, STEP) is None


def test_sums_are_those_of_the_bytes_whatever_is_written() -> None:
    chance = random.Random(1)
    size, known = 4 * STEP, 0
    for _ in range(30):
        sums, data = Sums(), bytearray(size)
        position = 0
        for _ in range(chance.randrange(1, 40)):
            if position >= size or chance.random() < 0.1:
                position = chance.randrange(size)
            if chance.random() < 0.05:
                position = chance.choice([0, STEP, 2 * STEP])
            piece = chance.randbytes(min(chance.choice([1, 4096, 200_000, STEP]), size - position))
            data[position : position + len(piece)] = piece
            write(sums, piece, position)
            position += len(piece)
        for start in range(0, size, STEP):
            found = sums.take(start, start + STEP)
            known += found is not None
            assert found in (None, crc64(data[start : start + STEP]))
    assert known > 10
