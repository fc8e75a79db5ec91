"""Rows of the text protocol: the same cells however the bytes are cut into blocks."""

from __future__ import annotations

import struct

import pytest
from gravity_collector.text_rows import TextRows, texts
from hypothesis import given
from hypothesis import strategies as st

from gravity.errors import FormatError

END = b"\xfe\x00\x00\x22\x00"
cells = st.none() | st.binary(max_size=6) | st.sampled_from([b"x" * 250, b"y" * 251, b"z" * 70_000])


def _cell(cell: bytes | None) -> bytes:
    if cell is None:
        return b"\xfb"
    size = len(cell)
    if size < 251:
        return bytes([size]) + cell
    if size < 1 << 16:
        return b"\xfc" + struct.pack("<H", size) + cell
    if size < 1 << 24:
        return b"\xfd" + size.to_bytes(3, "little") + cell
    return b"\xfe" + struct.pack("<Q", size) + cell


def _packet(payload: bytes, number: int = 1) -> bytes:
    out = b""
    while len(payload) >= 0xFFFFFF:
        out += b"\xff\xff\xff" + bytes([number % 256]) + payload[:0xFFFFFF]
        payload, number = payload[0xFFFFFF:], number + 1
    return out + len(payload).to_bytes(3, "little") + bytes([number % 256]) + payload


@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1)
    ),
    st.lists(st.integers(1, 400), max_size=20),
)
def test_cells_are_what_was_sent_wherever_the_blocks_are_cut(
    rows: list[list[bytes | None]], blocks: list[int]
) -> None:
    data = b"".join(_packet(b"".join(map(_cell, row))) for row in rows) + _packet(END)
    found = TextRows(len(rows[0]))
    for size in blocks:
        found.feed(data[:size])
        data = data[size:]
    found.feed(data)
    assert found.is_done
    assert [list(row) for row in zip(*found.columns, strict=True)] == rows
    assert found.sizes == [sum(len(_cell(cell)) for cell in row) for row in rows]


def test_a_row_of_several_packets_is_put_together() -> None:
    rows = [[b"a", b"b" * (1 << 24)], [b"c" * (0xFFFFFF - 5), None], [b"d", b""]]
    data = b"".join(_packet(b"".join(map(_cell, row))) for row in rows) + _packet(END)
    found = TextRows(2)
    for at in range(0, len(data), 5_000_000):
        found.feed(data[at : at + 5_000_000])
    assert [list(row) for row in zip(*found.columns, strict=True)] == rows
    assert found.is_done


def test_an_error_in_the_middle_ends_the_rows_and_is_kept() -> None:
    found = TextRows(1)
    found.feed(_packet(b"\x01a") + _packet(b"\xff\x15\x05#70100Query was interrupted"))
    assert found.is_done
    assert found.error is not None and b"interrupted" in found.error
    assert found.columns == [[b"a"]]


def test_a_first_cell_of_more_than_16_mb_is_no_end() -> None:
    cell = b"e" * (1 << 24)
    found = TextRows(1)
    found.feed(_packet(b"\xfe" + struct.pack("<Q", len(cell)) + cell) + _packet(END))
    assert found.columns == [[cell]]
    assert found.is_done


@pytest.mark.parametrize("payload", [b"\x09a", b"\x01ab", b"", b"\xfd\x01"])
def test_a_damaged_row_is_named(payload: bytes) -> None:
    with pytest.raises(FormatError, match="damaged"):
        TextRows(1).feed(_packet(payload) + _packet(END))


@given(st.lists(st.none() | st.text()))
def test_a_column_of_texts_is_decoded_cell_by_cell_or_at_once_alike(
    column: list[str | None],
) -> None:
    assert texts([None if cell is None else cell.encode() for cell in column]) == column


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        texts([b"ok", b"\xff"])
