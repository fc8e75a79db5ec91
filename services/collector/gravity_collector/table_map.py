"""TABLE_MAP events: the shape of a table, as the server wrote it beside the rows.

Only what `binlog_row_metadata=FULL` carries is enough: names, signedness, character sets, labels, key.
Source: MySQL's libbinlogevents/include/rows_event.h, Table_map_event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

from gravity.batch import Column, TableSchema
from gravity.column import ColumnType, UnknownColumnTypeError, from_table_map
from gravity.errors import FatalError, SourceSettingError
from gravity_collector.charset import UnknownCharsetError, decoder_of


@dataclass(frozen=True, slots=True)
class Collation:
    """A collation as the source numbers it."""

    name: str
    charset: str
    bytes_per_character: int


class TableMapUnreadableError(FatalError):
    """A TABLE_MAP event is damaged, or describes a table that can't be read truthfully."""


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """How a column lies in row images."""

    type_byte: int
    """The real type: ENUM and SET unwrapped from STRING."""
    size: int
    """VARCHAR, STRING: bytes at most; BLOB, JSON, GEOMETRY, ENUM, SET: bytes of the length or number."""
    type: ColumnType
    charset: str | None
    """None or `binary` for bytes."""
    in_key: bool = False
    """Whether it is part of the primary key."""


@dataclass(frozen=True, slots=True)
class TableMap:
    """A table's shape and the layout of its row images."""

    schema: TableSchema
    """`key` is the primary key; empty where the table has none."""
    stored: tuple[StoredColumn, ...]
    invisible: frozenset[int]
    """Indexes of columns that `SELECT *` leaves out."""


T = TypeVar("T")

_HEADER_BYTES: Final = 8  # table id (6), flags (2)
_FLOAT, _DOUBLE, _VARCHAR, _BIT, _JSON, _DECIMAL = 4, 5, 15, 16, 245, 246
_ENUM, _SET, _VECTOR, _BLOB, _VAR_STRING, _STRING, _GEOMETRY = 247, 248, 242, 252, 253, 254, 255
_YEAR = 13
_ONE_BYTE = frozenset((_FLOAT, _DOUBLE, 17, 18, 19, _VECTOR, _JSON, _BLOB, _GEOMETRY))
_NO_BYTES = frozenset((1, 2, 3, 8, 9, 10, _YEAR, 14))
_NUMERIC = frozenset((1, 2, 3, 8, 9, _FLOAT, _DOUBLE, _DECIMAL))
# MySQL 9 counts VECTOR among them: it is a BLOB of the character set `binary`.
_CHARACTER = frozenset((_STRING, _VAR_STRING, _VARCHAR, _BLOB, _VECTOR))
_DECIMAL_DIGITS_MAX, _DECIMAL_SCALE_MAX = 65, 30
_LENGTH_BYTES, _FRACTION_DIGITS = range(1, 5), range(7)
_POSSIBLE_METADATA: Final = {
    17: _FRACTION_DIGITS,
    18: _FRACTION_DIGITS,
    19: _FRACTION_DIGITS,
    _BIT: range(1, 65),
    _ENUM: range(1, 3),
    _SET: range(1, 9),
    _BLOB: _LENGTH_BYTES,
    _JSON: _LENGTH_BYTES,
    _GEOMETRY: _LENGTH_BYTES,
    _VECTOR: _LENGTH_BYTES,
}
_REFUSED: Final = {
    7: "old TIMESTAMP",
    11: "old TIME",
    12: "old DATETIME",
    20: "typed array",
    140: "compressed BLOB",
    141: "compressed VARCHAR",
}

_SIGNEDNESS, _DEFAULT_CHARSET, _COLUMN_CHARSET, _COLUMN_NAME, _SET_LABELS, _ENUM_LABELS = (
    1,
    2,
    3,
    4,
    5,
    6,
)
_SIMPLE_KEY, _KEY_WITH_PREFIX, _LABEL_DEFAULT_CHARSET, _LABEL_COLUMN_CHARSET = 8, 9, 10, 11
_VISIBILITY, _DIMENSIONS = 12, 13


class _Bytes:
    """Reads a TABLE_MAP's body from front to back; IndexError where it is cut short."""

    def __init__(self, raw: bytes, at: int = 0) -> None:
        self.raw = raw
        self.at = at

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.raw)

    def take(self, count: int) -> bytes:
        part = self.raw[self.at : self.at + count]
        if len(part) != count:
            message = f"{count} bytes wanted at {self.at}, {len(part)} left"
            raise IndexError(message)
        self.at += count
        return part

    def number(self) -> int:
        """A length-encoded integer of the MySQL protocol."""
        first = self.take(1)[0]
        if first < 0xFB:  # noqa: PLR2004 - the largest one-byte form is 0xFA
            return first
        return int.from_bytes(self.take({0xFC: 2, 0xFD: 3, 0xFE: 8}[first]), "little")

    def numbers(self) -> list[int]:
        found = []
        while not self.is_at_end:
            found.append(self.number())
        return found

    def text(self, length: int) -> str:
        return self.take(length).decode()


class YearSign(Enum):
    """Whether the list of signs in a TABLE_MAP has one for YEAR columns: it depends on the server's version."""

    THERE = "there"
    MISSING = "missing"
    UNKNOWN = "unknown"


# MySQL 8.0.15 leaves it out (seen); the function that puts it in came in 2020, with 8.0.23 at the latest;
# 8.0.29 and 9.7 write it (seen), as does MariaDB (11.4 seen).
_LAST_WITHOUT_YEAR_SIGN: Final = (8, 0, 15)
_FIRST_WITH_YEAR_SIGN: Final = (8, 0, 23)


@dataclass(frozen=True, slots=True)
class Dialect:
    """In what servers differ when they write TABLE_MAP events."""

    year_sign: YearSign
    geometry_has_charset: bool
    """Whether the list of character sets has one for GEOMETRY columns."""


def dialect_of(server_version: str) -> Dialect:
    """A server's dialect, by the version in its FORMAT_DESCRIPTION event."""
    if "mariadb" in server_version.lower():
        return Dialect(YearSign.THERE, geometry_has_charset=True)
    numbers = server_version.partition("-")[0].split(".")
    version = tuple(int(number) for number in numbers if number.isdecimal())
    if version >= _FIRST_WITH_YEAR_SIGN:
        return Dialect(YearSign.THERE, geometry_has_charset=False)
    is_old = version <= _LAST_WITHOUT_YEAR_SIGN
    return Dialect(YearSign.MISSING if is_old else YearSign.UNKNOWN, geometry_has_charset=False)


def parse_table_map(body: bytes, collations: Mapping[int, Collation], dialect: Dialect) -> TableMap:
    """The table that `body` (a TABLE_MAP event without header and checksum) describes.

    `collations` is the source's own table of collations by number.

    Raises:
        SourceSettingError: the server wrote less than full metadata.
        TableMapUnreadableError: the event is damaged or the table has columns that can't be read; a
            column type or character set that is not known comes as its cause.
    """
    where = "TABLE_MAP event"
    try:
        reader = _Bytes(body, _HEADER_BYTES)
        database = reader.text(reader.number())
        reader.take(1)
        table = reader.text(reader.number())
        reader.take(1)
        where = f"table {database}.{table}"
        types = reader.take(reader.number())
        layout = _layouts(types, _Bytes(reader.take(reader.number())), where)
        nullable = _bits(reader.take((len(types) + 7) // 8), len(types))
        fields: dict[int, _Bytes] = {}
        while not reader.is_at_end:
            field = reader.take(1)[0]
            fields[field] = _Bytes(reader.take(reader.number()))
        unsigned = _unsigned(fields, layout, dialect.year_sign, where)
        has_charset = _is_character_or_geometry if dialect.geometry_has_charset else _is_character
        text_collations = _collations(
            fields, _DEFAULT_CHARSET, _COLUMN_CHARSET, layout, has_charset
        )
        parts = _Parts(layout, nullable, unsigned, text_collations, fields)
        return _assemble(database, table, parts, collations)
    except (UnknownColumnTypeError, UnknownCharsetError) as error:
        raise TableMapUnreadableError(error.what, where=where, remedy=error.remedy) from error
    except (IndexError, KeyError, ValueError, ZeroDivisionError) as error:
        raise TableMapUnreadableError(
            f"a TABLE_MAP event can't be read: {type(error).__name__} {error}",
            where=where,
            remedy="check the source's binlog with mysqlbinlog --verify-binlog-checksum",
        ) from error


@dataclass(frozen=True, slots=True)
class _Layout:
    type_byte: int
    metadata: int
    """As gravity.column.from_table_map wants it."""
    size: int


def _layouts(types: bytes, metadata: _Bytes, where: str) -> list[_Layout]:
    found = []
    for type_byte in types:
        if type_byte in _REFUSED:
            raise TableMapUnreadableError(
                f"a column is stored as {_REFUSED[type_byte]}, which gravity does not read",
                where=where,
                remedy="rebuild the table: ALTER TABLE … FORCE with mysql56_temporal_format=ON, columns not COMPRESSED",
            )
        item = _layout(type_byte, metadata)
        if not _is_possible(item):
            raise ValueError(
                f"a column of binlog type {item.type_byte} has metadata {item.metadata}"
            )
        found.append(item)
    return found


def _is_possible(item: _Layout) -> bool:
    """Whether a server can write such metadata; code is generated from it, so nothing else may pass."""
    if item.type_byte == _DECIMAL:
        precision, scale = item.metadata >> 8, item.metadata & 0xFF
        return 1 <= precision <= _DECIMAL_DIGITS_MAX and scale <= min(precision, _DECIMAL_SCALE_MAX)
    possible = _POSSIBLE_METADATA.get(item.type_byte)
    return possible is None or item.metadata in possible


def _layout(type_byte: int, metadata: _Bytes) -> _Layout:
    if type_byte in _NO_BYTES:
        return _Layout(type_byte, 0, 0)
    if type_byte in _ONE_BYTE:
        number = metadata.take(1)[0]
        return _Layout(type_byte, number, number)
    first, second = metadata.take(2)
    if type_byte == _VARCHAR:
        return _Layout(type_byte, first | second << 8, first | second << 8)
    if type_byte == _DECIMAL:
        return _Layout(type_byte, first << 8 | second, 0)
    if type_byte == _BIT:
        return _Layout(type_byte, second * 8 + first, 0)
    if type_byte not in (_STRING, _VAR_STRING):
        # A type that is not known: from_table_map names it.
        return _Layout(type_byte, 0, 0)
    if first in (_ENUM, _SET):
        return _Layout(first, second, second)
    # The two bits 8 and 9 of the length are hidden in the type byte, inverted.
    length = second | ((first & 0x30) ^ 0x30) << 4
    return _Layout(_STRING, length, length)


def _bits(raw: bytes, count: int) -> list[bool]:
    return [bool(raw[i >> 3] >> (i & 7) & 1) for i in range(count)]


def _bits_from_high(raw: bytes, count: int) -> list[bool]:
    return [bool(raw[i >> 3] << (i & 7) & 0x80) for i in range(count)]


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a TABLE_MAP says, with one item a column in each sequence."""

    layout: Sequence[_Layout]
    nullable: Sequence[bool]
    unsigned: Sequence[bool]
    text_collations: Sequence[int | None]
    fields: Mapping[int, _Bytes]


def _assemble(
    database: str, table: str, parts: _Parts, collations: Mapping[int, Collation]
) -> TableMap:
    layout, fields, unsigned = parts.layout, parts.fields, parts.unsigned
    names = _names(fields, len(layout), f"table {database}.{table}")
    label_collations = _collations(
        fields, _LABEL_DEFAULT_CHARSET, _LABEL_COLUMN_CHARSET, layout, _is_labelled
    )
    enum_labels, set_labels = (
        iter(_labels(fields.get(_ENUM_LABELS))),
        iter(_labels(fields.get(_SET_LABELS))),
    )
    key = _key(fields)
    dimensions = iter(fields[_DIMENSIONS].numbers() if _DIMENSIONS in fields else ())
    columns: list[Column] = []
    stored: list[StoredColumn] = []
    for index, item in enumerate(layout):
        number = label_collations[index] if _is_labelled(item) else parts.text_collations[index]
        collation = collations[number] if number is not None else None
        charset = collation.charset if collation else None
        labels: tuple[str, ...] = ()
        if _is_labelled(item) and charset is not None:
            raw_labels = next(enum_labels if item.type_byte == _ENUM else set_labels, None)
            if raw_labels is None:
                raise ValueError("a column's labels are missing")
            decode = decoder_of(charset) if charset != "binary" else bytes.decode
            labels = tuple(decode(raw) for raw in raw_labels)
        column_type = from_table_map(
            type_byte=item.type_byte,
            metadata=item.metadata,
            unsigned=unsigned[index],
            charset=charset,
            bytes_per_character=collation.bytes_per_character if collation else 1,
            labels=labels,
            dimensions=next(dimensions, None) if item.type_byte == _VECTOR else None,
        )
        shown = collation if column_type.has_charset else None
        columns.append(
            Column(
                names[index],
                column_type.text,
                nullable=parts.nullable[index],
                charset=shown.charset if shown else None,
                collation=shown.name if shown else None,
            )
        )
        stored.append(
            StoredColumn(item.type_byte, item.size, column_type, charset, in_key=index in key)
        )
    return TableMap(
        TableSchema(database, table, tuple(columns), key),
        tuple(stored),
        _invisible(fields, len(layout)),
    )


def _names(fields: Mapping[int, _Bytes], count: int, where: str) -> list[str]:
    if _COLUMN_NAME not in fields:
        raise SourceSettingError(
            "the binlog holds no column names: binlog_row_metadata was not FULL when this was written",
            where=where,
            remedy="SET GLOBAL binlog_row_metadata=FULL (and in my.cnf), then start from a position after it",
        )
    reader = fields[_COLUMN_NAME]
    return [reader.text(reader.number()) for _ in range(count)]


def _unsigned(
    fields: Mapping[int, _Bytes], layout: Sequence[_Layout], year_sign: YearSign, where: str
) -> list[bool]:
    """Whether each column is unsigned."""
    raw = fields[_SIGNEDNESS].raw if _SIGNEDNESS in fields else b""
    bits = _bits_from_high(raw, len(raw) * 8)
    without = _spread(layout, _is_numeric, bits, default=False)
    if year_sign is YearSign.MISSING:
        return without
    with_year = _spread(layout, _is_numeric_or_year, bits, default=False)
    if year_sign is YearSign.UNKNOWN and any(
        one != other
        for one, other, item in zip(without, with_year, layout, strict=True)
        if _is_numeric(item)
    ):
        raise TableMapUnreadableError(
            "which columns are unsigned can't be told: the table has a YEAR column, and MySQL 8.0.16 to 8.0.22"
            " differ in how they log it",
            where=where,
            remedy="update the source's server, or exclude the table",
        )
    return with_year


def _is_numeric(item: _Layout) -> bool:
    return item.type_byte in _NUMERIC


def _is_numeric_or_year(item: _Layout) -> bool:
    return item.type_byte in _NUMERIC or item.type_byte == _YEAR


def _is_character(item: _Layout) -> bool:
    return item.type_byte in _CHARACTER


def _is_character_or_geometry(item: _Layout) -> bool:
    return item.type_byte in _CHARACTER or item.type_byte == _GEOMETRY


def _is_labelled(item: _Layout) -> bool:
    return item.type_byte in (_ENUM, _SET)


def _spread(
    layout: Sequence[_Layout],
    belongs: Callable[[_Layout], bool],
    values: Sequence[T],
    *,
    default: T,
) -> list[T]:
    """`values`, which the event lists for some columns only, one per column."""
    remaining = iter(values)
    return [next(remaining, default) if belongs(item) else default for item in layout]


def _collations(
    fields: Mapping[int, _Bytes],
    default_field: int,
    list_field: int,
    layout: Sequence[_Layout],
    belongs: Callable[[_Layout], bool],
) -> list[int | None]:
    """The collation number of each column that `belongs`, None for the others."""
    numbers: list[int | None] = []
    if default_field in fields:
        default, *exceptions = fields[default_field].numbers()
        by_index = dict(zip(exceptions[::2], exceptions[1::2], strict=True))
        numbers = [by_index.get(i, default) for i in range(sum(map(belongs, layout)))]
    elif list_field in fields:
        numbers = list(fields[list_field].numbers())
    return _spread(layout, belongs, numbers, default=None)


def _labels(field: _Bytes | None) -> list[list[bytes]]:
    found: list[list[bytes]] = []
    while field is not None and not field.is_at_end:
        found.append([field.take(field.number()) for _ in range(field.number())])
    return found


def _key(fields: Mapping[int, _Bytes]) -> tuple[int, ...]:
    if _SIMPLE_KEY in fields:
        return tuple(fields[_SIMPLE_KEY].numbers())
    if _KEY_WITH_PREFIX in fields:
        # Pairs of column and prefix length. Rows that differ in the prefix differ in the whole column too.
        return tuple(fields[_KEY_WITH_PREFIX].numbers()[::2])
    return ()


def _invisible(fields: Mapping[int, _Bytes], count: int) -> frozenset[int]:
    if _VISIBILITY not in fields:
        return frozenset()
    visible = _bits_from_high(fields[_VISIBILITY].raw, count)
    return frozenset(index for index, is_visible in enumerate(visible) if not is_visible)
