"""MD5 and CRC-64/XZ of bytes that pass by once, and the CRC of joined pieces without reading them again."""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
from collections.abc import Callable
from functools import lru_cache

_POLYNOMIAL = 0xC96C5795D7870F42  # ECMA-182, reflected
_TOP = 1 << 63


def _from_liblzma() -> Callable[[bytes, int], int] | None:
    """Find liblzma's CRC: it runs at memory speed and without the interpreter lock."""
    for name in ("liblzma.so.5", ctypes.util.find_library("lzma"), "liblzma.5.dylib"):
        try:
            function = ctypes.CDLL(name).lzma_crc64 if name else None
        except (OSError, AttributeError):
            continue
        if function is not None:
            function.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
            function.restype = ctypes.c_uint64
            found = function
            return lambda data, value: int(found(data, len(data), value))
    return None


@lru_cache(maxsize=1)
def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ _POLYNOMIAL if value & 1 else value >> 1
        table.append(value)
    return table


def crc64_slow(data: bytes, value: int = 0) -> int:
    """Compute the CRC in plain Python, for machines without liblzma."""
    table = _table()
    value ^= 0xFFFFFFFFFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFFFFFFFFFF


_crc64 = _from_liblzma() or crc64_slow


def crc64(data: bytes, value: int = 0) -> int:
    """Continue the CRC-64/XZ `value` over data."""
    return _crc64(data, value)


def _multiply(a: int, b: int) -> int:
    """Multiply two reflected polynomials modulo the CRC polynomial."""
    product, bit = 0, _TOP
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=1024)
def _shift(length: int) -> int:
    """Return x^(8*length): what `length` zero bytes do to a CRC. Kept, as parts mostly share a length."""
    result, square, bits = _TOP, _TOP >> 1, 8 * length
    while bits:
        if bits & 1:
            result = _multiply(square, result)
        square = _multiply(square, square)
        bits >>= 1
    return result


def crc64_combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC of two joined pieces from the CRC of each and the length of the second."""
    return _multiply(_shift(second_length), first) ^ second


class Digest:
    """MD5, CRC64 and length of everything given to `update`; SHA-256 too when an AWS client declared one."""

    def __init__(self, *, with_sha256: bool = False) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if with_sha256 else None
        self.crc64 = 0
        self.size = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._md5.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        self.crc64 = crc64(data, self.crc64)
        self.size += len(data)

    @property
    def md5(self) -> bytes:
        """Return the MD5 so far."""
        return self._md5.digest()

    @property
    def sha256(self) -> str:
        """Return the SHA-256 so far in hex, empty if it was not asked for."""
        return self._sha256.hexdigest() if self._sha256 is not None else ""
