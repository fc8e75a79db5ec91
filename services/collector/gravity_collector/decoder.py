"""Row events to rows of cells, by code generated for each table and each pattern of NULLs.

Pure: bytes in, values out. What a cell of each type looks like is fixed in gravity.column.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gravity.batch import TableSchema, Value
from gravity.errors import FatalError
from gravity_collector.row_reader import ABSENT, ReadImage, build_reader
from gravity_collector.table_map import (
    Collation,
    Dialect,
    StoredColumn,
    TableMap,
    dialect_of,
    parse_table_map,
)

Row = tuple[Value, ...]
"""A row image: one cell a column, in the table's order."""

__all__ = [
    "ABSENT",
    "PartialImageError",
    "Row",
    "RowUnreadableError",
    "TableDecoder",
    "TableDecoders",
]

PATTERNS_MAX: Final = 256
"""Readers compiled for one table before rows of new NULL patterns are read column by column."""
TABLES_MAX: Final = 10_000
"""Tables remembered. Beyond it all are forgotten: they come back with their next TABLE_MAP event."""

_DAMAGED: Final = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError)
"""What readers raise on bytes that no server writes. UnicodeDecodeError is a ValueError."""


class RowUnreadableError(FatalError):
    """A row event's bytes do not fit its table, or a cell can't be decoded."""


class PartialImageError(FatalError):
    """A row event leaves columns out, and the caller needs them all."""


class TableDecoder:
    """Decodes the row events of one table as one TABLE_MAP event describes it."""

    def __init__(self, table_map: TableMap, *, patterns_max: int = PATTERNS_MAX) -> None:
        """Reads rows as `table_map` describes them; compiles at most `patterns_max` readers an image."""
        self.table_map = table_map
        self.schema: TableSchema = table_map.schema
        self._patterns_max = patterns_max
        self._images: dict[bytes, _ImageDecoder] = {}
        # How this table's events begin (number of columns, a bit for each), with the readers that follow from it.
        columns = len(self.schema.columns)
        number_bytes, bitmap_bytes = len(_to_length_encoded(columns)), (columns + 7) // 8
        self._row_head_bytes = number_bytes + bitmap_bytes
        self._update_head_bytes = number_bytes + 2 * bitmap_bytes
        # Apart by the number of images: how an update that was cut short begins can look like another event.
        self._row_heads: dict[bytes, tuple[_ImageDecoder, ...]] = {}
        self._update_heads: dict[bytes, tuple[_ImageDecoder, ...]] = {}

    def rows(self, body: bytes, at: int, *, partial: bool = False) -> list[Row]:
        """The rows of a write or delete event.

        `body` is the event without header and checksum, `at` where the number of its columns stands.
        With `partial`, cells that the event leaves out are ABSENT.

        Raises:
            PartialImageError: the event leaves columns out, and not `partial`.
            RowUnreadableError: the bytes do not fit the table.
        """
        row_at = at + self._row_head_bytes
        (image,) = self._row_heads.get(body[at:row_at]) or self._image_decoders(
            body, at, 1, partial=partial
        )
        at = row_at
        rows: list[Row] = []
        append = rows.append
        readers, width = image.readers, image.null_bytes
        end = len(body)
        try:
            while at < end:
                null = body[at : at + width]
                read = readers.get(null) or image.reader(null)
                row, at = read(body, at + width)
                append(row)
        except _DAMAGED as error:
            raise self._unreadable(error, image, body, at) from error
        if at != end:
            raise self._damaged(f"its last row ends {at - end} bytes after the event")
        return rows

    def updates(
        self, body: bytes, at: int, *, partial: bool = False, wanted: Sequence[int] | None = None
    ) -> list[tuple[Row, Row]]:
        """The rows of an update event, before and after; otherwise as `rows`.

        With `wanted`, the image before the change may leave out columns that are not among these.
        """
        row_at = at + self._update_head_bytes
        before, after = self._update_heads.get(body[at:row_at]) or self._image_decoders(
            body, at, 2, partial=partial, wanted=wanted
        )
        at = row_at
        rows: list[tuple[Row, Row]] = []
        append = rows.append
        before_readers, before_width = before.readers, before.null_bytes
        after_readers, after_width = after.readers, after.null_bytes
        image = before
        end = len(body)
        try:
            while at < end:
                image = before
                null = body[at : at + before_width]
                read = before_readers.get(null) or before.reader(null)
                old, at = read(body, at + before_width)
                image = after
                null = body[at : at + after_width]
                read = after_readers.get(null) or after.reader(null)
                new, at = read(body, at + after_width)
                append((old, new))
        except _DAMAGED as error:
            raise self._unreadable(error, image, body, at) from error
        if at != end:
            raise self._damaged(f"its last row ends {at - end} bytes after the event")
        return rows

    def _image_decoders(
        self,
        body: bytes,
        at: int,
        count: int,
        *,
        partial: bool,
        wanted: Sequence[int] | None = None,
    ) -> tuple[_ImageDecoder, ...]:
        """The decoders of the event's `count` images a row, by how the event begins."""
        columns = len(self.schema.columns)
        number = _to_length_encoded(columns)
        width = (columns + 7) // 8
        head = body[at : at + len(number) + count * width]
        if not head.startswith(number) or len(head) != len(number) + count * width:
            raise self._damaged(f"the event does not begin as one of {columns} columns")
        found = tuple(
            self._image_decoder(head[len(number) + i * width :][:width]) for i in range(count)
        )
        if not partial:
            every = range(columns)
            for index, decoder in enumerate(found):
                # An update has two images, and the first is the one before.
                is_before = index + 1 < len(found)
                self._assert_has(decoder, wanted if is_before and wanted is not None else every)
        if all(decoder.is_full for decoder in found):
            (self._row_heads if count == 1 else self._update_heads)[head] = found
        return found

    def _assert_has(self, decoder: _ImageDecoder, wanted: Iterable[int]) -> None:
        missing = [self.schema.columns[i].name for i in wanted if not decoder.has(i)]
        if missing:
            raise PartialImageError(
                f"a row event leaves out the columns {', '.join(missing)}",
                where=self._where,
                remedy="SET GLOBAL binlog_row_image=FULL, reconnect the writers, and snapshot the table again",
            )

    def _image_decoder(self, bitmap: bytes) -> _ImageDecoder:
        known = self._images.get(bitmap)
        if known is not None:
            return known
        here = [bool(bitmap[i >> 3] >> (i & 7) & 1) for i in range(len(self.schema.columns))]
        if not any(here):
            raise self._damaged("the event has no columns")
        decoder = self._images[bitmap] = _ImageDecoder(
            self.table_map.stored, here, self._patterns_max
        )
        return decoder

    @property
    def _where(self) -> str:
        return f"table {self.schema.database}.{self.schema.table}"

    def _damaged(self, what: str) -> RowUnreadableError:
        return RowUnreadableError(
            f"a row event can't be read: {what}",
            where=self._where,
            remedy="check the source's binlog with mysqlbinlog --verify-binlog-checksum; else snapshot the table again",
        )

    def _unreadable(
        self, error: Exception, image: _ImageDecoder, body: bytes, at: int
    ) -> RowUnreadableError:
        column = image.first_unreadable(body, at)
        if column is None:
            return self._damaged(f"{type(error).__name__} {error}")
        name, text = self.schema.columns[column].name, self.schema.columns[column].type
        return self._damaged(f"column {name} ({text}): {type(error).__name__} {error}")


class _ImageDecoder:
    """The readers of row images that hold the same columns, by their bytes of NULL bits."""

    def __init__(
        self, stored: Sequence[StoredColumn], here: Sequence[bool], patterns_max: int
    ) -> None:
        self._stored = stored
        self._here = here
        self._patterns_max = patterns_max
        self._present = [index for index, is_here in enumerate(here) if is_here]
        self._singles: list[ReadImage] = []
        self.readers: dict[bytes, ReadImage] = {}
        self.null_bytes = (len(self._present) + 7) // 8

    @property
    def is_full(self) -> bool:
        return len(self._present) == len(self._stored)

    def has(self, column: int) -> bool:
        """Whether the image holds the column of that index."""
        return self._here[column]

    def reader(self, null: bytes) -> ReadImage:
        """A reader for images whose bytes of NULL bits are `null`."""
        if len(null) != self.null_bytes:
            message = "the row is cut short"
            raise IndexError(message)
        nulls = self._nulls(null)
        if len(self.readers) >= self._patterns_max:
            return self._column_by_column(nulls)
        read = self.readers[null] = build_reader(self._stored, self._here, nulls)
        return read

    def first_unreadable(self, body: bytes, at: int) -> int | None:
        """The index of the first column of the image at `at` that can't be read; None if none is to blame."""
        null = body[at : at + self.null_bytes]
        if len(null) != self.null_bytes:
            return None
        nulls, at = self._nulls(null), at + self.null_bytes
        for index, read in self._single_readers():
            if nulls[index]:
                continue
            try:
                _, at = read(body, at)
            except _DAMAGED:
                return index
        return None

    def _nulls(self, null: bytes) -> list[bool]:
        nulls = [False] * len(self._stored)
        for number, index in enumerate(self._present):
            nulls[index] = bool(null[number >> 3] >> (number & 7) & 1)
        return nulls

    def _single_readers(self) -> list[tuple[int, ReadImage]]:
        if not self._singles:
            self._singles = [
                build_reader([self._stored[index]], [True], [False]) for index in self._present
            ]
        return list(zip(self._present, self._singles, strict=True))

    def _column_by_column(self, nulls: Sequence[bool]) -> ReadImage:
        """Slower, but compiles nothing: for tables with ever new patterns of NULLs."""
        readers = [(index, read) for index, read in self._single_readers() if not nulls[index]]
        empty: list[Value] = [None if is_here else ABSENT for is_here in self._here]  # type: ignore[misc]

        def read_image(body: bytes, at: int) -> tuple[Row, int]:
            cells = list(empty)
            for index, read in readers:
                (cells[index],), at = read(body, at)
            return tuple(cells), at

        return read_image


def _to_length_encoded(number: int) -> bytes:
    if number < 0xFB:  # noqa: PLR2004 - the largest one-byte form is 0xFA
        return bytes((number,))
    return b"\xfc" + number.to_bytes(2, "little")


class TableDecoders:
    """The decoders of one source, by the bodies of its TABLE_MAP events.

    Servers repeat a TABLE_MAP before every statement. With full row metadata equal bodies (but for the
    table's number, which changes with every reopening) describe equal tables, so each is parsed once.
    """

    def __init__(self, collations: Mapping[int, Collation]) -> None:
        self._collations = collations
        self._by_body: dict[bytes, TableDecoder] = {}
        self._dialect: Dialect | None = None

    def read_from(self, server_version: str) -> None:
        """Tells which server wrote the file that is read now, by its FORMAT_DESCRIPTION event."""
        dialect = dialect_of(server_version)
        if dialect != self._dialect:
            self._dialect = dialect
            self._by_body.clear()

    def of(self, body: bytes) -> TableDecoder:
        """The decoder for a TABLE_MAP event's body (without header and checksum).

        Raises: as gravity_collector.table_map.parse_table_map.
        """
        return self._by_body.get(body[6:]) or self._add(body)

    def _add(self, body: bytes) -> TableDecoder:
        if len(self._by_body) >= TABLES_MAX:
            self._by_body.clear()
        if self._dialect is None:
            raise RowUnreadableError(
                "rows come before the event that describes the binlog's format"
            )
        decoder = self._by_body[body[6:]] = TableDecoder(
            parse_table_map(body, self._collations, self._dialect)
        )
        return decoder
