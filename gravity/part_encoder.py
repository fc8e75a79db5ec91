"""Parts of one batch as bytes, each cell written once however many parts there are. Pure.

Avro writes an array as its items one behind the other, so the array of some rows is the bytes of their
cells put together. A part has the very bytes that `encode_batch` gives for `ChangeBatch.take`
(`test_a_part_has_the_bytes_of_the_batch_of_its_rows`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property
from operator import add, itemgetter
from typing import Any, Final

from gravity.avro_bytes import END as _END
from gravity.avro_bytes import SMALL as _SMALL
from gravity.avro_bytes import count_bytes as _count
from gravity.avro_bytes import framed as _framed
from gravity.batch import ChangeBatch, Value
from gravity.codec import encode_batch, encode_head, encode_longs, travels_as_digits

_BRANCHES: Final = {int: b"\x00", float: b"\x02", str: b"\x04", bytes: b"\x06"}
"""Where a kind of values stands in the union of schemas/change_batch.avsc."""
_PLAIN_SHARE = 4
"""While fewer than this part of the rows are expected, the cells of all rows would cost more than they save."""


def _array(cells: Sequence[bytes]) -> bytes:
    return _count(len(cells)) + b"".join(cells) + _END if cells else _END


def _framed_cells(values: list[bytes]) -> list[bytes]:
    try:
        return list(map(add, map(_SMALL.__getitem__, map(len, values)), values))
    except IndexError:
        return list(map(_framed, values))


def _whole_cells(values: Sequence[int]) -> list[bytes]:
    if values and min(values) >= 0 and max(values) < len(_SMALL):
        return list(map(_SMALL.__getitem__, values))
    return encode_longs(values)


def _text_cells(values: Sequence[str]) -> list[bytes]:
    distinct = set(values)
    if len(distinct) * 2 > len(values):
        return _framed_cells(list(map(str.encode, values)))
    known = {text: _framed(text.encode()) for text in distinct}
    return list(map(known.__getitem__, values))


def _double_cells(values: Sequence[float]) -> list[bytes]:
    data = struct.pack(f"<{len(values)}d", *values)
    return [data[at : at + 8] for at in range(0, len(data), 8)]


_CELLS: Final[dict[type, tuple[Value, Callable[[Any], list[bytes]]]]] = {
    int: (0, _whole_cells),
    float: (0.0, _double_cells),
    str: ("", _text_cells),
    bytes: (b"", lambda values: _framed_cells(list(values))),
}
"""Kind → what stands at NULLs, and how its values are written."""


class _Column:
    """The values of one column, each as Avro writes it."""

    def __init__(self, values: Sequence[Value], type_text: str) -> None:
        self._digits: tuple[Sequence[Value], str] | None = None
        self._nulls = bytes([value is None for value in values]) if None in values else b""
        kind: type = next((type(value) for value in values if value is not None), str)
        if kind is int and travels_as_digits(values, type_text):
            # Whether a part needs digits depends on its own greatest value.
            self._digits = values, type_text
            return
        placeholder, written = _CELLS[kind]
        self._branch = _BRANCHES[kind]
        if self._nulls:
            values = [placeholder if value is None else value for value in values]
        self._cells = written(values)

    def part(self, pick: Callable[[Sequence[Any]], Sequence[Any]]) -> bytes:
        """The column of the rows that `pick` gives."""
        if self._digits is not None:
            return _digits_part(pick(self._digits[0]), self._digits[1])
        nulls = bytes(pick(self._nulls)) if self._nulls else b""
        if 1 not in nulls:
            return _END + self._branch + _array(pick(self._cells))
        if 0 not in nulls:
            return _framed(nulls) + _BRANCHES[str] + _array([_END] * len(nulls))
        return _framed(nulls) + self._branch + _array(pick(self._cells))


def _digits_part(values: Sequence[Value], type_text: str) -> bytes:
    if not travels_as_digits(values, type_text):
        return _whole_column(values, type_text)
    nulls = bytes([value is None for value in values]) if None in values else b""
    texts = ["0" if value is None else str(value) for value in values]
    return (_framed(nulls) if nulls else _END) + _BRANCHES[str] + _array(_text_cells(texts))


def _whole_column(values: Sequence[Value], type_text: str) -> bytes:
    return _Column(values, type_text).part(lambda every: every)


class PartEncoder:
    """Writes parts of one batch, that `origin` tells apart, with the rows before the change or without.

    A part holds the transactions that its rows are of, and no others.
    """

    def __init__(self, batch: ChangeBatch) -> None:
        self._batch = batch
        self._expected = 0

    def expect(self, rows: int) -> None:
        """Parts of so many rows in all will be asked for: it decides how, never what, is written."""
        self._expected += rows

    def encode(
        self,
        rows: Sequence[int],
        ops: bytes | None = None,
        old_keys: Sequence[bool] = (),
        *,
        before: bool = False,
    ) -> bytes:
        """The part of these rows, in the order given, at least one; `ops` replaces their operations.

        Where `old_keys` is true, the key is the one that the row had before the change. With `before`
        the columns before the change that the batch has are in the part too.
        """
        changed = self._old_keys(rows, old_keys) if any(old_keys) else {}
        if self._expected * _PLAIN_SHARE < len(self._batch):
            return self._row_by_row(rows, ops, changed, before=before)
        batch, columns = self._batch, self._columns
        pick = itemgetter(*rows) if len(rows) > 1 else lambda values: [values[rows[0]]]
        tx = pick(batch.tx)
        used = sorted(set(tx))
        place = {index: _count(number) for number, index in enumerate(used)}
        parts = [
            self._head,
            _array([self._transactions[index] for index in used]),
            _framed(bytes(pick(batch.ops)) if ops is None else ops),
            _array(list(map(place.__getitem__, tx))),
            _array(pick(self._ordinals)),
            _count(len(columns)) if columns else b"",
            *(
                _whole_column(changed[index], batch.schema.columns[index].type)
                if index in changed
                else column.part(pick)
                for index, column in enumerate(columns)
            ),
            _END,  # of the columns
            *(self._before_part(pick) if before else (_END, _END)),
            _array(pick(self._origins)),
            _array(pick(self._row_sources)) if batch.row_source else _END,
        ]
        return b"".join(parts)

    def _before_part(self, pick: Callable[[Sequence[Any]], Sequence[Any]]) -> tuple[bytes, ...]:
        """Which columns there are of the rows before the change, and those columns."""
        columns = self._before
        return (
            _array([_count(index) for index in self._batch.before_columns]),
            _count(len(columns)) if columns else b"",
            *(column.part(pick) for column in columns),
            _END,
        )

    def _row_by_row(
        self,
        rows: Sequence[int],
        ops: bytes | None,
        changed: dict[int, list[Value]],
        *,
        before: bool,
    ) -> bytes:
        part = self._batch.take(rows, ops=ops, before=before)
        part.columns = [changed.get(index, column) for index, column in enumerate(part.columns)]
        used = sorted(set(part.tx))
        place = {index: number for number, index in enumerate(used)}
        part.transactions = [part.transactions[index] for index in used]
        part.tx = [place[index] for index in part.tx]
        return encode_batch(part)

    def _old_keys(self, rows: Sequence[int], old_keys: Sequence[bool]) -> dict[int, list[Value]]:
        batch = self._batch
        images = {
            index: (batch.before[batch.before_columns.index(index)], batch.columns[index])
            for index in batch.schema.key
        }
        return {
            index: [
                (before if is_old else after)[row]
                for row, is_old in zip(rows, old_keys, strict=True)
            ]
            for index, (before, after) in images.items()
        }

    @cached_property
    def _head(self) -> bytes:
        return encode_head(self._batch)

    @cached_property
    def _columns(self) -> list[_Column]:
        declared = self._batch.schema.columns
        return [
            _Column(values, column.type)
            for values, column in zip(self._batch.columns, declared, strict=True)
        ]

    @cached_property
    def _before(self) -> list[_Column]:
        batch = self._batch
        return [
            _Column(values, batch.schema.columns[index].type)
            for values, index in zip(batch.before, batch.before_columns, strict=True)
        ]

    @cached_property
    def _ordinals(self) -> list[bytes]:
        return _counts(self._batch.ordinal)

    @cached_property
    def _origins(self) -> list[bytes]:
        return _counts(self._batch.origin or range(len(self._batch)))

    @cached_property
    def _row_sources(self) -> list[bytes]:
        return _text_cells(self._batch.row_source)

    @cached_property
    def _transactions(self) -> list[bytes]:
        batch = self._batch
        numbers = encode_longs(
            [n for t in batch.transactions for n in (t.file_index, t.offset, t.commit_us, t.ets)]
        )
        names = _framed_cells([t.gtid.encode() for t in batch.transactions])
        return [b"".join((name, *numbers[at * 4 : at * 4 + 4])) for at, name in enumerate(names)]


def _counts(values: Sequence[int]) -> list[bytes]:
    try:
        return list(map(_SMALL.__getitem__, values))
    except IndexError:
        return list(map(_count, values))
