"""Checksums against published values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosfs.emulator.digests import Digest, crc64, crc64_combine, crc64_slow

PUBLISHED = {
    b"": 0,
    b"123456789": 11051210869376104954,
    b"[Object Content]": 16749565679157681890,
    b"[Object Part]": 4510578591875220731,
}


@pytest.mark.parametrize("data", PUBLISHED)
def test_crc_has_the_published_values(data: bytes) -> None:
    assert crc64(data) == crc64_slow(data) == PUBLISHED[data]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_combined_crc_is_that_of_the_joined_bytes(first: bytes, second: bytes) -> None:
    assert crc64_combine(crc64(first), crc64(second), len(second)) == crc64(first + second)
    assert crc64(second, crc64(first)) == crc64(first + second) == crc64_slow(first + second)


def test_combining_is_associative_also_for_terabytes() -> None:
    length, crc = 1 << 16, crc64(bytes(1 << 16))
    for _ in range(24):
        crc, length = crc64_combine(crc, crc, length), length * 2
    left = crc64_combine(crc64_combine(crc64(b"x"), crc, length), crc64(b"yz"), 2)
    right = crc64_combine(crc64(b"x"), crc64_combine(crc, crc64(b"yz"), 2), length + 2)
    assert left == right


def test_digest_counts_and_hashes_in_one_pass() -> None:
    digest = Digest(with_sha256=True)
    digest.update(b"123")
    digest.update(b"456789")
    assert digest.size == 9
    assert digest.crc64 == PUBLISHED[b"123456789"]
    assert digest.md5.hex() == "25f9e794323b453885f5181f1b624d0b"
    assert digest.sha256.startswith("15e2b0d3c33891eb")
