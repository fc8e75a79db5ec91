"""Canonical keys and lanes: which partition a row of a target table belongs to.

The encoding and the hash are part of the contract (golden vectors in schemas/examples/key.json): a
row must meet its earlier changes in the same partition whatever release or process wrote them, so
neither Python's `hash` nor any client's default partitioner is used.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from operator import add
from typing import Final

import xxhash

from gravity.batch import Value

LANE_KEY, LANE_TABLE = "key", "table"
GROUP_PREFIX = "group:"
LANE_JOB = "group:@job"
"""All tables of a target, where a conflict rule may stop them all (`scope: job`)."""
_LENGTHS: Final = [length.to_bytes(4) for length in range(256)]


def encode_value(value: Value) -> bytes:
    """One key cell: a letter for its kind, then its bytes."""
    if value is None:
        return b"n"
    if isinstance(value, int):
        return b"i%d" % value
    if isinstance(value, str):
        return b"s" + value.encode()
    if isinstance(value, bytes):
        return b"b" + value
    return b"f" + struct.pack(">d", value)


def encode_key(values: Sequence[Value]) -> bytes:
    """The canonical key: every cell behind its length (4 bytes, big-endian), in key order."""
    cells = [encode_value(value) for value in values]
    return b"".join(len(cell).to_bytes(4) + cell for cell in cells)


def encode_keys(key_columns: Sequence[Sequence[Value]]) -> list[bytes]:
    """The canonical key of each row; `key_columns` as in a batch."""
    cells = [_framed(column) for column in key_columns]
    keys = cells[0]
    for column in cells[1:]:
        keys = list(map(add, keys, column))
    return keys


def _framed(values: Sequence[Value]) -> list[bytes]:
    kinds = set(map(type, values))
    if kinds == {int}:
        data = [b"i%d" % value for value in values]  # type: ignore[str-format]
    elif kinds == {str}:
        data = list(map(b"s".__add__, map(str.encode, values)))  # type: ignore[arg-type]
    else:
        data = list(map(encode_value, values))
    try:
        return list(map(add, map(_LENGTHS.__getitem__, map(len, data)), data))
    except IndexError:
        return [len(cell).to_bytes(4) + cell for cell in data]


def decode_key(key: bytes) -> list[Value]:
    """The values that `encode_key` was given."""
    values: list[Value] = []
    at = 0
    while at < len(key):
        end = at + 4 + int.from_bytes(key[at : at + 4])
        kind, data = key[at + 4 : at + 5], key[at + 5 : end]
        at = end
        if kind == b"n":
            values.append(None)
        elif kind == b"i":
            values.append(int(data))
        elif kind == b"s":
            values.append(data.decode())
        elif kind == b"b":
            values.append(data)
        else:
            values.append(struct.unpack(">d", data)[0])
    return values


def lane_partition(table: str, lane: str, partitions: int) -> int | None:
    """The one partition of a whole table (lane `table`) or group; None when the key decides."""
    if lane == LANE_KEY:
        return None
    name = lane if lane.startswith(GROUP_PREFIX) else table
    return xxhash.xxh64_intdigest(name.encode()) % partitions


def key_partitions(
    table: str, key_columns: Sequence[Sequence[Value]], partitions: int
) -> list[int]:
    """The partition of each row of `table` under lane `key`; `key_columns` as in a batch."""
    prefix = table.encode() + b"\x00"
    digest = xxhash.xxh64_intdigest
    return [digest(prefix + key) % partitions for key in encode_keys(key_columns)]
