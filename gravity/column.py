"""The type table: every MySQL and MariaDB column type, its canonical text, and how its cells appear.

A column has the same canonical text whether it was read from information_schema or from a TABLE_MAP
event of the binlog. A cell has the same Python value whether it came from a SELECT or from a row event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from gravity.batch import Value
from gravity.errors import FatalError

Kind = Literal["long", "double", "string", "bytes"]
"""Which of the typed arrays of a change batch holds a column."""

JsonForm = Literal["number", "wide number", "decimal", "string", "base64"]
"""How a cell stands in a JSON message. A wide number has 64 bits, which not every reader keeps."""

INTEGER_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "bigint": 8}
)
TEXT_BY_LENGTH_BYTES: Final = ("tinytext", "text", "mediumtext", "longtext")
BLOB_BY_LENGTH_BYTES: Final = ("tinyblob", "blob", "mediumblob", "longblob")


@dataclass(frozen=True, slots=True)
class TypeRule:
    """What is fixed for all columns of one base type, wherever their cells go."""

    declared: str
    """What MySQL and MariaDB call it."""
    kind: Kind
    cell: str
    """How its cells look."""
    clickhouse: str
    """The ClickHouse type, with `precision` and `scale` to be filled in; `Nullable` comes around it."""
    json: JsonForm
    """How a Kafka target writes it."""
    mysql: str = "the same"
    """The column of a MySQL or MariaDB target."""
    note: str = ""
    """The rule for what ClickHouse's type can't hold, or what else is to be known."""


_BITS_MAX = 64
_PRINTED = "text as the server prints it"
_DAYS = "1900-01-01 to 2299-12-31, else see *Days*"


def _integer(declared: str, bits: int, clickhouse_bits: int) -> TypeRule:
    form: JsonForm = "wide number" if bits == _BITS_MAX else "number"
    return TypeRule(declared, "long", "number", f"Int{clickhouse_bits}", form)


def _text_rule(declared: str, cell: str = "text", *, clickhouse: str = "String") -> TypeRule:
    return TypeRule(declared, "string", cell, clickhouse, "string")


def _bytes_rule(declared: str, cell: str = "the bytes", **more: str) -> TypeRule:
    return TypeRule(declared, "bytes", cell, "String", "base64", **more)


_VECTOR_TARGET = "the same from MySQL 9.0 and MariaDB 11.7 on, `varbinary(4n)` before"
TYPES: Final[Mapping[str, TypeRule]] = MappingProxyType(
    {
        "tinyint": _integer("TINYINT, BOOL, BOOLEAN", 8, 8),
        "smallint": _integer("SMALLINT", 16, 16),
        "mediumint": _integer("MEDIUMINT", 24, 32),
        "int": _integer("INT, INTEGER", 32, 32),
        "bigint": _integer("BIGINT, SERIAL", 64, 64),
        "bit": TypeRule("BIT(n)", "long", "number", "UInt64", "wide number"),
        "year": TypeRule(
            "YEAR", "long", "number", "UInt16", "number", note="the year 0000 is the number 0"
        ),
        "decimal": TypeRule(
            "DECIMAL, NUMERIC, FIXED",
            "string",
            "text with all digits",
            "Decimal({precision},{scale})",
            "decimal",
            note="exact: 65 digits fit",
        ),
        "float": TypeRule(
            "FLOAT, FLOAT(m,d)",
            "double",
            "the double of the same value",
            "Float32",
            "number",
            note="0.1 is shown as the double 0.10000000149011612, which every reader turns back"
            " into the same FLOAT",
        ),
        "double": TypeRule("DOUBLE, REAL", "double", "number", "Float64", "number"),
        "date": TypeRule("DATE", "string", _PRINTED, "Date32", "string", note=_DAYS),
        "datetime": TypeRule(
            "DATETIME(n)", "string", _PRINTED, "DateTime64({scale},'UTC')", "string", note=_DAYS
        ),
        "timestamp": TypeRule(
            "TIMESTAMP(n)",
            "string",
            "text in UTC, as the server prints it",
            "DateTime64({scale},'UTC')",
            "string",
            note=_DAYS,
        ),
        "time": TypeRule(
            "TIME(n)", "string", _PRINTED, "String", "string", note="up to 838 hours, and negative"
        ),
        "char": _text_rule("CHAR(n)", "text, without the spaces at its end"),
        "varchar": _text_rule("VARCHAR(n)"),
        "tinytext": _text_rule("TINYTEXT"),
        "text": _text_rule("TEXT"),
        "mediumtext": _text_rule("MEDIUMTEXT"),
        "longtext": _text_rule("LONGTEXT, JSON of MariaDB"),
        "enum": _text_rule(
            "ENUM(...)",
            "the label; '' for none of them",
            clickhouse="LowCardinality(String)",
        ),
        "set": _text_rule("SET(...)", "labels in their declared order, joined by commas"),
        "json": TypeRule(
            "JSON of MySQL",
            "string",
            _PRINTED,
            "String",
            "string",
            mysql="the same; `longtext` in MariaDB, whose JSON takes only 32 levels",
            note="see *JSON*",
        ),
        "binary": _bytes_rule(
            "BINARY(n); UUID, INET6, INET4 of MariaDB",
            "all n bytes, zeros at the end too",
            mysql="the same; `binary(16)` and `binary(4)` for the types of MariaDB",
            note="see *UUID and addresses*",
        ),
        "varbinary": _bytes_rule("VARBINARY(n)"),
        "tinyblob": _bytes_rule("TINYBLOB"),
        "blob": _bytes_rule("BLOB"),
        "mediumblob": _bytes_rule("MEDIUMBLOB"),
        "longblob": _bytes_rule("LONGBLOB"),
        "geometry": _bytes_rule(
            "GEOMETRY, POINT, LINESTRING, POLYGON, MULTI..., GEOMETRYCOLLECTION",
            "SRID (4 bytes, little-endian), then WKB with longitude first",
            mysql="`geometry`",
        ),
        "vector": _bytes_rule(
            "VECTOR(n) of MySQL 9", "n float32, little-endian", mysql=_VECTOR_TARGET
        ),
    }
)
"""The one table of types, by base name. docs/types.md is made from it, and every target reads it."""

_UNSIGNED_ALLOWED = frozenset((*INTEGER_BYTES, "decimal", "float", "double"))
_FRACTIONAL = frozenset(("datetime", "timestamp", "time"))
_SIZED = frozenset(("char", "varchar", "binary", "varbinary", "bit", "vector"))
_LABELLED = frozenset(("enum", "set"))
_BEYOND_BASIC_PLANE = frozenset(("utf8mb4", "utf16", "utf16le", "utf32", "gb18030"))
_CHARACTER = frozenset(("char", "varchar", "enum", "set", *TEXT_BY_LENGTH_BYTES))
_PLAIN = frozenset(TYPES) - {*INTEGER_BYTES, "decimal"} - _FRACTIONAL - _SIZED - _LABELLED
_GEOMETRY_NAMES = frozenset(
    (
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    )
)
# MariaDB writes these to the binlog as plain BINARY(n): a reader of the binlog can't tell them from it.
_MARIADB_FIXED_BYTES: Final[Mapping[str, int]] = MappingProxyType(
    {"uuid": 16, "inet6": 16, "inet4": 4}
)
_SYNONYMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "integer": "int",
        "numeric": "decimal",
        "real": "double",
        "bool": "tinyint",
        "boolean": "tinyint",
    }
)
_TEXT_PATTERN = re.compile(
    r"(?P<name>[a-z0-9]+)(?:\((?P<body>.*)\))?(?P<unsigned> unsigned)?", re.DOTALL
)
_LABEL_PATTERN = re.compile(r"'((?:[^']|'')*)'(,|$)", re.DOTALL)
_INFORMATION_SCHEMA_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'(?:,|\))", re.DOTALL)
_ESCAPES: Final[Mapping[str, str]] = MappingProxyType(
    {"0": "\0", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
)


class UnknownColumnTypeError(FatalError):
    """A column has a type that gravity can't read truthfully."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A MySQL column type without what doesn't change its values (display width, zerofill, default).

    `name` is the base name in lower case. The other fields are set only where the type has them.
    """

    name: str
    unsigned: bool = False
    length: int | None = None
    """CHAR, VARCHAR: characters; BINARY, VARBINARY: bytes; BIT: bits; VECTOR: dimensions."""
    precision: int | None = None
    """DECIMAL: digits in all."""
    scale: int = 0
    """DECIMAL: digits after the point; DATETIME, TIMESTAMP, TIME: digits of the fraction of a second."""
    labels: tuple[str, ...] = ()
    """ENUM, SET: the labels in their declared order."""

    @classmethod
    def parse(cls, text: str) -> ColumnType:
        """The type that `text` (as made by `.text`) describes.

        Raises:
            UnknownColumnTypeError: `text` is not a canonical type text.
        """
        match = _TEXT_PATTERN.fullmatch(text)
        if match is None:
            raise _unknown(text)
        name, body, unsigned = match["name"], match["body"], match["unsigned"] is not None
        if unsigned and name not in _UNSIGNED_ALLOWED:
            raise _unknown(text)
        if name in _LABELLED and body is not None:
            return cls(name, labels=_parse_labels(body, text))
        if body is None:
            if name in INTEGER_BYTES or name in _PLAIN or name in _FRACTIONAL:
                return cls(name, unsigned)
            if name == "vector":
                return cls(name)
            raise _unknown(text)
        numbers = body.split(",")
        if not all(number.isdecimal() for number in numbers):
            raise _unknown(text)
        if name == "decimal" and len(numbers) == 2:  # noqa: PLR2004 - precision and scale
            return cls(name, unsigned, precision=int(numbers[0]), scale=int(numbers[1]))
        if len(numbers) == 1 and name in _SIZED:
            return cls(name, length=int(body))
        if len(numbers) == 1 and name in _FRACTIONAL:
            return cls(name, scale=int(body))
        raise _unknown(text)

    @property
    def text(self) -> str:
        """The canonical text, such as `bigint unsigned` or `enum('a','it''s')`."""
        if self.labels or self.name in _LABELLED:
            return f"{self.name}({','.join(_quote(label) for label in self.labels)})"
        body = ""
        if self.name == "decimal":
            body = f"({self.precision},{self.scale})"
        elif self.length is not None:
            body = f"({self.length})"
        elif self.scale:
            body = f"({self.scale})"
        return f"{self.name}{body}{' unsigned' if self.unsigned else ''}"

    @property
    def kind(self) -> Kind:
        """Which Python type its cells have: long = int, double = float, string = str, bytes = bytes."""
        return TYPES[self.name].kind

    @property
    def has_charset(self) -> bool:
        """Whether a column of this type has a character set (JSON has none of its own)."""
        return self.name in _CHARACTER

    def select_expression(self, quoted_name: str) -> str:
        """SQL that selects the column so that `cell_reader` can turn the server's text into a cell.

        `quoted_name` is the column's name, quoted, perhaps with its table. The session must have time
        zone +00:00 and character set utf8mb4.
        """
        if self.name == "float":
            # FLOAT prints six digits; as DOUBLE it prints all that are needed to get the same float32 back.
            # Not `+ 0e0`, which turns -0 into 0.
            return f"{quoted_name} * 1e0"
        if self.name == "bit":
            return f"{quoted_name} + 0"
        if self.name == "binary":
            # BINARY(n) is unchanged by it; MariaDB's UUID and INET become the bytes that the binlog holds.
            return f"CAST({quoted_name} AS BINARY({self.length}))"
        if self.name == "vector":
            # Its own type number is unknown to clients, which then take it for text.
            return f"CAST({quoted_name} AS BINARY)"
        return quoted_name

    def cell_reader(self) -> Callable[[str | bytes], Value] | None:
        """How the text-protocol value of `select_expression` becomes a cell; None = it is one already.

        It expects str for everything but the kinds `bytes`, which the client must leave undecoded, and
        is never called with NULL.
        """
        if self.kind == "long":
            return int
        if self.kind == "double":
            return float
        return None


def is_wide_integer(kind: ColumnType) -> bool:
    """Whether its numbers need 64 bits, of which some readers of JSON keep only 53."""
    return TYPES[kind.name].json == "wide number"


def from_information_schema(
    *,
    data_type: str,
    column_type: str,
    character_maximum_length: int | None,
    numeric_precision: int | None,
    numeric_scale: int | None,
    datetime_precision: int | None,
    character_set_name: str | None = None,
) -> ColumnType:
    """The type of a row of information_schema.COLUMNS; arguments are that table's columns.

    That table prints every character beyond the basic plane as `?`. Where a label may be one of those,
    the type is a VARCHAR that holds all labels: nothing can be wrong about it.

    Raises:
        UnknownColumnTypeError: a type this table does not know.
    """
    name = _SYNONYMS.get(data_type.lower(), data_type.lower())
    unsigned = (
        " unsigned" in column_type.lower().partition(")")[2] or " unsigned" in column_type.lower()
    )
    if name in _LABELLED:
        labels = tuple(_unescape(label) for label in _INFORMATION_SCHEMA_LABEL.findall(column_type))
        if character_set_name in _BEYOND_BASIC_PLANE and "?" in "".join(labels):
            longest = max(map(len, labels)) if name == "enum" else len(",".join(labels))
            return ColumnType("varchar", length=longest)
        return ColumnType(name, labels=labels)
    if name in INTEGER_BYTES or name in ("float", "double"):
        return ColumnType(name, unsigned)
    if name == "decimal":
        return ColumnType(name, unsigned, precision=numeric_precision, scale=numeric_scale or 0)
    if name == "bit":
        return ColumnType(name, length=numeric_precision)
    if name in ("char", "varchar", "binary", "varbinary"):
        return ColumnType(name, length=character_maximum_length)
    if name in _FRACTIONAL:
        return ColumnType(name, scale=datetime_precision or 0)
    if name in _GEOMETRY_NAMES:
        return ColumnType("geometry")
    if name == "vector":
        size = re.search(r"\((\d+)\)", column_type)
        return ColumnType(name, length=int(size[1]) if size else None)
    if name in _MARIADB_FIXED_BYTES:
        return ColumnType("binary", length=_MARIADB_FIXED_BYTES[name])
    if name in _PLAIN:
        return ColumnType(name)
    raise _unknown(column_type)


# Type bytes of TABLE_MAP, as in MySQL's include/field_types.h.
_SIMPLE_BY_TYPE_BYTE: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "tinyint",
        2: "smallint",
        3: "int",
        4: "float",
        5: "double",
        8: "bigint",
        9: "mediumint",
        10: "date",
        13: "year",
        14: "date",
        245: "json",
        255: "geometry",
    }
)
_FRACTIONAL_BY_TYPE_BYTE: Final[Mapping[int, str]] = MappingProxyType(
    {17: "timestamp", 18: "datetime", 19: "time"}
)
_OLD_TEMPORAL_BY_TYPE_BYTE: Final[Mapping[int, str]] = MappingProxyType(
    {7: "timestamp", 11: "time", 12: "datetime"}
)
_VARCHAR_BYTES = frozenset((15, 253))
_BLOB, _VECTOR, _STRING, _BIT, _DECIMAL, _ENUM, _SET = 252, 242, 254, 16, 246, 247, 248


def from_table_map(
    *,
    type_byte: int,
    metadata: int,
    unsigned: bool,
    charset: str | None,
    bytes_per_character: int,
    labels: tuple[str, ...],
    dimensions: int | None = None,
) -> ColumnType:
    """The type of a column of a TABLE_MAP event.

    `type_byte` is the real type (ENUM and SET unwrapped from STRING) and `metadata` its metadata as a
    number (VARCHAR, STRING: bytes at most; BLOB: length bytes; DECIMAL: precision*256 + scale; BIT: bits;
    temporal types: digits of the fraction). `charset` is `binary` or None for bytes.

    Raises:
        UnknownColumnTypeError: a type byte this table does not know.
    """
    is_bytes = charset in (None, "binary")
    if type_byte in _SIMPLE_BY_TYPE_BYTE:
        name = _SIMPLE_BY_TYPE_BYTE[type_byte]
        return ColumnType(name, unsigned and name in _UNSIGNED_ALLOWED)
    if type_byte in _VARCHAR_BYTES:
        return ColumnType(
            "varbinary" if is_bytes else "varchar", length=metadata // bytes_per_character
        )
    if type_byte == _STRING:
        return ColumnType("binary" if is_bytes else "char", length=metadata // bytes_per_character)
    if type_byte == _BLOB:
        return ColumnType(
            (BLOB_BY_LENGTH_BYTES if is_bytes else TEXT_BY_LENGTH_BYTES)[metadata - 1]
        )
    if type_byte == _DECIMAL:
        return ColumnType("decimal", unsigned, precision=metadata >> 8, scale=metadata & 0xFF)
    if type_byte in _FRACTIONAL_BY_TYPE_BYTE:
        return ColumnType(_FRACTIONAL_BY_TYPE_BYTE[type_byte], scale=metadata)
    if type_byte in _OLD_TEMPORAL_BY_TYPE_BYTE:
        return ColumnType(_OLD_TEMPORAL_BY_TYPE_BYTE[type_byte])
    if type_byte == _BIT:
        return ColumnType("bit", length=metadata)
    if type_byte in (_ENUM, _SET):
        return ColumnType("enum" if type_byte == _ENUM else "set", labels=labels)
    if type_byte == _VECTOR:
        return ColumnType("vector", length=dimensions)
    raise _unknown(f"binlog type {type_byte}")


def _unknown(text: str) -> UnknownColumnTypeError:
    return UnknownColumnTypeError(
        f"column type {text!r} is not known",
        remedy="exclude the table, or change the column to a type listed in docs/types.md",
    )


def _quote(label: str) -> str:
    return "'" + label.replace("'", "''") + "'"


def _parse_labels(body: str, text: str) -> tuple[str, ...]:
    labels: list[str] = []
    at = 0
    while at < len(body):
        match = _LABEL_PATTERN.match(body, at)
        if match is None or (match[2] == "," and match.end() == len(body)):
            raise _unknown(text)
        labels.append(match[1].replace("''", "'"))
        at = match.end()
    return tuple(labels)


def _unescape(label: str) -> str:
    """A label as information_schema.COLUMN_TYPE writes it: quotes doubled, backslash escapes."""
    return re.sub(
        r"''|\\(.)", lambda m: _ESCAPES.get(m[1], m[1]) if m[1] else "'", label, flags=re.DOTALL
    )
