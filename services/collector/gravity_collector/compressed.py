"""Compressed transactions (MySQL) and compressed events (MariaDB), taken apart piece by piece. Pure.

Sources: MySQL's libs/mysql/binlog/event/codecs/binary.cpp (TRANSACTION_PAYLOAD); MariaDB's sql/log_event.cc
(binlog_buf_compress).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Final, NamedTuple

import zstandard

EVENT_BYTES_MAX: Final = (1 << 30) + (1 << 24)
"""No server writes a longer event: max_allowed_packet ends at 1 GiB."""
PAYLOAD_BYTES_MAX: Final = 1 << 36
"""Uncompressed bytes of one transaction. They pass in pieces, so this bounds time, not memory."""

_PIECE_BYTES: Final = 1 << 20
_HEADER: Final = struct.Struct("<IBIIIH")
_END, _SIZE, _COMPRESSION, _UNCOMPRESSED_SIZE = 0, 1, 2, 3
_ZSTD, _NONE = 0, 255
_LENGTH_BYTES: Final = {0xFC: 2, 0xFD: 3, 0xFE: 8}
_MARK, _MARK_MASK, _LENGTH_MASK = 0x80, 0xF8, 0x07
_QUERY_HEADER: Final = struct.Struct("<IIBHH")


class CompressedError(ValueError):
    """What is compressed can't be read; the text says why."""


class InnerEvent(NamedTuple):
    """An event inside a compressed transaction. It has no checksum of its own, and no place in the file."""

    kind: int
    seconds: int
    server_id: int
    size: int
    body: bytes


def payload_events(body: bytes, *, bytes_max: int = PAYLOAD_BYTES_MAX) -> Iterator[InnerEvent]:
    """The events of a TRANSACTION_PAYLOAD event's body, decompressed as they are asked for.

    Raises:
        CompressedError: the compression is not known, the transaction is larger than `bytes_max`, or it
            is not as long as it says.
    """
    compression, declared, at = _payload_header(body)
    if declared > bytes_max:
        message = f"a compressed transaction says it has {declared} bytes, the limit is {bytes_max}"
        raise CompressedError(message)
    source = _opened(compression, memoryview(body)[at:])
    left = declared
    try:
        while left:
            head = _taken(source, min(left, _HEADER.size))
            if len(head) < _HEADER.size:
                raise CompressedError("a compressed transaction ends inside an event's header")
            seconds, kind, server_id, size, _, _ = _HEADER.unpack(head)
            if not _HEADER.size <= size <= min(left, EVENT_BYTES_MAX):
                message = f"an event in a compressed transaction says {size} bytes of {left} left"
                raise CompressedError(message)
            yield InnerEvent(kind, seconds, server_id, size, _taken(source, size - _HEADER.size))
            left -= size
        if source.read(1):
            message = f"a compressed transaction is longer than the {declared} bytes it says"
            raise CompressedError(message)
    except zstandard.ZstdError as error:
        raise CompressedError(f"a compressed transaction is damaged: {error}") from error


def _payload_header(body: bytes) -> tuple[int, int, int]:
    """(compression, uncompressed size, where the payload starts)."""
    at, fields = 0, dict[int, int]()
    while True:
        field, at = _number(body, at)
        if field == _END:
            break
        length, at = _number(body, at)
        if field in (_SIZE, _COMPRESSION, _UNCOMPRESSED_SIZE):
            fields[field], _ = _number(body, at)
        at += length
    left = len(body) - at
    if fields.get(_SIZE, left) != left:
        message = f"a compressed transaction says {fields[_SIZE]} bytes and has {left}"
        raise CompressedError(message)
    compression = fields.get(_COMPRESSION, _NONE)
    if compression not in (_ZSTD, _NONE):
        message = f"a transaction is compressed by method {compression}, which is not known"
        raise CompressedError(message)
    if _UNCOMPRESSED_SIZE not in fields:
        if compression != _NONE:
            raise CompressedError("a compressed transaction does not tell its size")
        fields[_UNCOMPRESSED_SIZE] = left
    return compression, fields[_UNCOMPRESSED_SIZE], at


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer of the MySQL protocol, and where the next thing starts."""
    first = body[at]
    if first < 0xFB:  # noqa: PLR2004 - the largest one-byte form is 0xFA
        return first, at + 1
    size = _LENGTH_BYTES[first]
    return int.from_bytes(body[at + 1 : at + 1 + size], "little"), at + 1 + size


def _opened(compression: int, payload: memoryview) -> IO[bytes]:
    if compression == _NONE:
        return io.BytesIO(payload)
    # Not buffered whole: the reader keeps one window and one piece of the output.
    reader: IO[bytes] = zstandard.ZstdDecompressor().stream_reader(payload, read_across_frames=True)
    return reader


def _taken(source: IO[bytes], count: int) -> bytes:
    # In pieces: a reader makes room for all that is asked for, and a damaged size can be large.
    pieces: list[bytes] = []
    left = count
    while left and (piece := source.read(min(left, _PIECE_BYTES))):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise CompressedError("a compressed transaction is cut short")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def uncompressed_rows(body: bytes, at: int, images: int) -> bytes:
    """A MariaDB compressed row event's body as if it were not compressed.

    `at` is where the number of columns stands, `images` how many images a row has.
    """
    columns, start = _number(body, at)
    start += images * ((columns + 7) // 8)
    return body[:start] + _inflated(body, start)


def uncompressed_query(body: bytes) -> bytes:
    """A MariaDB compressed QUERY event's body as if it were not compressed."""
    _, _, database_bytes, _, variables_bytes = _QUERY_HEADER.unpack_from(body)
    start = _QUERY_HEADER.size + variables_bytes + database_bytes + 1
    return body[:start] + _inflated(body, start)


def _inflated(body: bytes, at: int) -> bytes:
    """What is compressed from `at` on: a byte of method and length, the size, then a zlib stream."""
    mark = body[at]
    length_bytes = mark & _LENGTH_MASK
    if mark & _MARK_MASK != _MARK or not 1 <= length_bytes <= 4:  # noqa: PLR2004 - bytes of a size
        message = f"an event is compressed by a method that is not known (mark {mark:#04x})"
        raise CompressedError(message)
    start = at + 1 + length_bytes
    size = int.from_bytes(body[at + 1 : start])
    if size > EVENT_BYTES_MAX:
        message = f"a compressed event says it has {size} bytes, the limit is {EVENT_BYTES_MAX}"
        raise CompressedError(message)
    inflater = zlib.decompressobj()
    try:
        # One more than there may be: how an event that is longer than it says is told.
        found = inflater.decompress(memoryview(body)[start:], size + 1)
    except zlib.error as error:
        raise CompressedError(f"a compressed event is damaged: {error}") from error
    if len(found) != size or not inflater.eof:
        message = f"a compressed event is not of the {size} bytes it says"
        raise CompressedError(message)
    return found
