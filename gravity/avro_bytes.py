"""Avro's whole numbers and texts as bytes, for writers that put a value together from parts. Pure.

Avro writes a record as its fields one behind the other and an array as its items, so bytes that were
made once can stand in many values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

END: Final = b"\x00"
"""Of an array; alone, an array without items, and bytes or text without any."""


def long_bytes(value: int) -> bytes:
    """Avro's int or long."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    data = bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits a byte
        data.append(rest & 0x7F | 0x80)
        rest >>= 7
    data.append(rest)
    return bytes(data)


SMALL: Final = [long_bytes(value) for value in range(4096)]
"""The first whole numbers."""


def count_bytes(value: int) -> bytes:
    """Avro's int or long, of a number that is not negative and mostly small."""
    return SMALL[value] if value < len(SMALL) else long_bytes(value)


def framed(data: bytes) -> bytes:
    """Avro's bytes, or its string of this UTF-8 text."""
    return count_bytes(len(data)) + data


@lru_cache(maxsize=4096)
def word(text: str) -> bytes:
    """Avro's string, of a short text that comes again and again, such as a name."""
    return framed(text.encode())
