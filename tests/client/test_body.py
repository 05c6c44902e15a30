from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from cosfs.client.body import FileBody, as_chunks, body_length, digest
from cosfs.client.crc64 import crc64
from cosfs.errors import IntegrityError


def test_file_body_reads_its_window_again_and_again(tmp_path: Path) -> None:
    data = random.randbytes(700_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    with FileBody(path, 1000, 600_000) as body:
        for _ in range(2):
            assert b"".join(bytes(chunk) for chunk in body.chunks(100_000)) == data[1000:601_000]
        assert len(body) == body_length(body) == 600_000


def test_file_body_leaves_a_descriptor_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    try:
        body = FileBody(fd, 2, 5)
        assert b"".join(bytes(chunk) for chunk in body.chunks()) == b"23456"
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        body.close()
        os.fstat(fd)
    finally:
        os.close(fd)


def test_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with FileBody(path, 0, 20) as body, pytest.raises(IntegrityError, match="10 bytes are missing"):
        digest(body)


def test_empty_file_body(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with FileBody(path, 0, 0) as body:
        assert list(as_chunks(body)) == []
        assert digest(body).length == 0


@pytest.mark.parametrize("size", [0, 1, 4096, 262_144, 262_145, 1_000_000])
def test_digest_of_memory_and_of_a_file_agree(tmp_path: Path, size: int) -> None:
    data = random.randbytes(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    expected = (hashlib.md5(data).digest(), crc64(data), size)
    with FileBody(path, 0, size) as body:
        for shape in (data, bytearray(data), memoryview(data), body):
            sums = digest(shape)
            assert (sums.md5, sums.crc64, sums.length) == expected
