"""CRC-64/XZ, the checksum COS keeps of every object (`x-cos-hash-crc64ecma`).

The work is done through ctypes, which releases the interpreter lock: by Intel's ISA-L where it is installed
(50 GB/s on processors with AVX-512), or by liblzma, which nearly every system has (6 to 9 GB/s).
Where both are missing, crcmod's extension (0.4 GB/s) or, in the end, a table in Python.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

__all__ = ["crc64", "crc64_combine"]

# ECMA-182, bit-reversed; the register starts and ends with all bits flipped.
_POLY = 0xC96C5795D7870F42
_MASK = (1 << 64) - 1
# In reversed order the constant polynomial 1 is the highest bit.
_ONE = 1 << 63
_SHORT = 256 * 1024  # bytes; 5 to 25 us

Buffer = bytes | bytearray | memoryview
Crc = Callable[[Buffer, int], int]


def _isal() -> Crc | None:
    try:
        # The second one keeps the interpreter lock: to pass it on takes longer than a short sum.
        functions = [kind("libisal.so.2").crc64_ecma_refl for kind in (ctypes.CDLL, ctypes.PyDLL)]
    except (OSError, AttributeError):
        return None
    for function in functions:
        function.restype = ctypes.c_uint64
        function.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64]
    long, short = functions
    return _of_memory(
        lambda place, length, value: (short if length <= _SHORT else long)(value, place, length)
    )


def _liblzma() -> Crc | None:
    try:
        function = ctypes.CDLL("liblzma.so.5").lzma_crc64
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_uint64
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64]
    return _of_memory(function)


def _of_memory(function: Callable[[bytes | int, int, int], int]) -> Crc:
    """Return what sums up any buffer, of a function that takes where it is and how long."""
    pointer = ctypes.c_char

    def crc(data: Buffer, value: int) -> int:
        if isinstance(data, bytes):
            # ctypes passes a pointer to the bytes' own memory: nothing is copied.
            return function(data, len(data), value)
        view = memoryview(data).cast("B")
        if not view.nbytes:
            return value
        if view.readonly:
            # ctypes takes no pointer to a read-only buffer that is not bytes itself.
            exporter = view.obj
            if isinstance(exporter, bytes) and view.nbytes == len(exporter):
                return function(exporter, len(exporter), value)
            return function(view.tobytes(), view.nbytes, value)
        return function(ctypes.addressof(pointer.from_buffer(view)), view.nbytes, value)

    return crc


def _crcmod() -> Crc | None:
    try:
        from crcmod import _crcfunext  # type: ignore[import-untyped]
    except ImportError:
        return None
    import struct

    table = struct.pack("256Q", *_byte_table())

    def crc(data: Buffer, value: int) -> int:
        return int(_crcfunext._crc64r(bytes(data), value ^ _MASK, table)) ^ _MASK

    return crc


def _python() -> Crc:
    table = _byte_table()

    def crc(data: Buffer, value: int) -> int:
        register = value ^ _MASK
        for byte in bytes(data):
            register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
        return register ^ _MASK

    return crc


def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = (register >> 1) ^ (_POLY if register & 1 else 0)
        table.append(register)
    return table


_crc: Crc = _isal() or _liblzma() or _crcmod() or _python()


def crc64(data: Buffer, value: int = 0) -> int:
    """Return the CRC of data, going on from value (the CRC of what came before it)."""
    return _crc(data, value)


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo the CRC's, bits reversed."""
    # One bit a byte: an integer product then counts pairs of bits without carries (64 at most),
    # and the lowest bit of each count is the product of polynomials. 30 times faster than bit by bit.
    counts = int.from_bytes(format(a, "064b").encode()) & _LOW_BITS
    counts *= int.from_bytes(format(b, "064b").encode()) & _LOW_BITS
    product = int(((counts & _LOW_BITS_2) | _DIGITS).to_bytes(128), 2) << 1
    # The lower half holds x^64 and up: taken through the table like eight bytes of data.
    rest = product & _MASK
    for _ in range(8):
        rest = _TABLE[rest & 0xFF] ^ (rest >> 8)
    return (product >> 64) ^ rest


def _powers() -> list[int]:
    """Return x^(8 * 2^k) modulo the polynomial for k = 0..63."""
    power = _ONE >> 8
    powers = []
    for _ in range(64):
        powers.append(power)
        power = _multiply(power, power)
    return powers


_LOW_BITS = int.from_bytes(b"\1" * 64)
_LOW_BITS_2 = int.from_bytes(b"\1" * 128)
_DIGITS = int.from_bytes(b"0" * 128)
_TABLE = _byte_table()
_POWERS = _powers()
_shifts: dict[int, int] = {}


def _shift(length: int) -> int:
    """Return x^(8 * length): appending length bytes multiplies a CRC by it."""
    known = _shifts.get(length)
    if known is not None:
        return known
    shift, rest, bit = _ONE, length, 0
    while rest:
        if rest & 1:
            shift = _multiply(_POWERS[bit], shift)
        rest >>= 1
        bit += 1
    # All parts but the last of an object are as long as each other, so few lengths occur.
    if len(_shifts) >= 64:
        _shifts.clear()
    _shifts[length] = shift
    return shift


def crc64_combine(crc1: int, crc2: int, length2: int) -> int:
    """Return the CRC of two pieces laid together, the second length2 bytes long."""
    if length2 == 0:
        return crc1
    return _multiply(_shift(length2), crc1) ^ crc2
