"""The definition of a column in CREATE and ALTER TABLE: what it says, and whether all of it was understood. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gravity.batch import Column
from gravity.column import BLOB_BY_LENGTH_BYTES, ColumnType
from gravity_collector.ddl.sql_token import SqlMode, Token, TokenKind, Tokens, split


@dataclass(frozen=True, slots=True)
class Dialect:
    """What decides how a statement is read: the kind of server, its way with names, the session's mode."""

    is_mariadb: bool
    mode: SqlMode
    lowers_names: bool = False
    """Whether tables and databases are named in lower case, however statements spell them."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A column as a statement declares it."""

    name: str
    type: ColumnType | None = None
    """None: the type was not understood."""
    charset: str | None = None
    collation: str | None = None
    nullable: bool | None = None
    """None: the definition does not say."""
    default: Token | None = None
    """A literal; a word for NULL, TRUE and FALSE. None: none is given, or it is an expression."""
    has_expression: bool = False
    """Whether the server computes its values: an expression as default, a generated column, a counter."""
    rounds: bool = False
    """FLOAT(m,d) and the like: values lose digits that the canonical type can't tell."""
    is_primary: bool = False
    is_certain: bool = True
    """False: something in it was not understood."""
    after: str | None = None
    """The column it is put behind; `""` = it comes first; None = nothing was said of its place."""

    @property
    def column(self) -> Column | None:
        """As a change batch would describe it; None where the type is not known."""
        if self.type is None:
            return None
        charset, collation = self.charset, self.collation
        if not self.type.has_charset:
            charset = collation = None
        nullable = self.nullable is not False and not self.is_primary
        return Column(self.name, self.type.text, nullable, charset, collation)


_INTEGERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "TINYINT": "tinyint", "INT1": "tinyint", "BOOL": "tinyint", "BOOLEAN": "tinyint", "SMALLINT": "smallint",
        "INT2": "smallint", "MEDIUMINT": "mediumint", "INT3": "mediumint", "MIDDLEINT": "mediumint", "INT": "int",
        "INTEGER": "int", "INT4": "int", "BIGINT": "bigint", "INT8": "bigint",
    }
)  # fmt: skip
_PLAIN: Final = frozenset(
    (
        "DATE", "JSON", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB",
    )
)  # fmt: skip
_GEOMETRY: Final = frozenset(
    (
        "GEOMETRY", "POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON",
        "GEOMETRYCOLLECTION", "GEOMCOLLECTION",
    )
)  # fmt: skip
_MARIADB_BYTES: Final[Mapping[str, int]] = MappingProxyType({"UUID": 16, "INET6": 16, "INET4": 4})
_FRACTIONAL: Final = frozenset(("TIME", "DATETIME", "TIMESTAMP"))
_BINARY_OF: Final[Mapping[str, str]] = MappingProxyType(
    {
        "char": "binary", "varchar": "varbinary", "tinytext": "tinyblob", "text": "blob",
        "mediumtext": "mediumblob", "longtext": "longblob",
    }
)  # fmt: skip
_FLOAT_BITS_MAX: Final = 24
_CHARACTERS_MAX: Final = 16383
"""More characters of four bytes than this do not fit a VARCHAR, which then silently becomes a TEXT."""
_PLAIN_TEXT = re.compile(r"[\x00-\x7f]*")


def parse_definition(
    name: str, tokens: Sequence[Token], dialect: Dialect, *, may_be_placed: bool = False
) -> Definition:
    """The column `name` that `tokens` define, its name already taken off."""
    reader = Tokens(tokens)
    definition = _with_type(Definition(name), reader, dialect)
    while not reader.is_at_end:
        following = _with_attribute(definition, reader, may_be_placed=may_be_placed)
        if following is None:
            return replace(definition, is_certain=False)
        definition = following
    if definition.type is not None and definition.charset == "binary":
        definition = replace(definition, type=_of_bytes(definition.type))
    return definition


def is_ascii(text: str) -> bool:
    """Whether the text is the same in every character set that a client may use."""
    return _PLAIN_TEXT.fullmatch(text) is not None


def _of_bytes(kind: ColumnType) -> ColumnType | None:
    """What a text type with CHARACTER SET binary is."""
    if kind.name in _BINARY_OF:
        return ColumnType(_BINARY_OF[kind.name], length=kind.length)
    return None


def _with_type(definition: Definition, reader: Tokens, dialect: Dialect) -> Definition:
    word = reader.next().word
    if word == "SERIAL":
        counter = ColumnType("bigint", unsigned=True)
        return replace(definition, type=counter, nullable=False, has_expression=True)
    if word in ("NATIONAL", "NCHAR", "NVARCHAR"):
        # Its character set is utf8mb3, under one of that set's names.
        return replace(definition, is_certain=False)
    if word == "LONG":
        is_binary = reader.accept_any("VARBINARY", "VARCHAR", "VARCHARACTER") == "VARBINARY"
        name = "mediumblob" if is_binary else "mediumtext"
        return _with_type_attributes(replace(definition, type=ColumnType(name)), reader)
    is_varying = word in ("CHAR", "CHARACTER") and bool(reader.accept_any("VARYING"))
    if word == "DOUBLE":
        reader.accept("PRECISION")
    arguments = reader.group()
    if word in ("ENUM", "SET"):
        return _with_type_attributes(replace(definition, type=_labelled(word, arguments)), reader)
    numbers = _numbers(arguments)
    if numbers is None:
        return replace(definition, is_certain=False)
    kind = _character(word, numbers, is_varying=is_varying) or _other(word, numbers, dialect)
    if kind is not None and kind.name == "varchar" and not dialect.mode.strict:
        kind = kind if (kind.length or 0) <= _CHARACTERS_MAX else None
    if word == "JSON" and dialect.is_mariadb and kind is not None:
        definition = replace(definition, charset="utf8mb4", collation="utf8mb4_bin")
    rounds = word in ("FLOAT", "DOUBLE", "REAL", "FLOAT4", "FLOAT8") and len(numbers) > 1
    return _with_type_attributes(replace(definition, type=kind, rounds=rounds), reader)


def _numbers(arguments: Sequence[Token] | None) -> list[int] | None:
    """The numbers in parentheses; None where something else stands there."""
    if arguments is None:
        return []
    parts = split(arguments)
    if not all(len(part) == 1 and part[0].text.isdecimal() for part in parts):
        return None
    return [int(part[0].text) for part in parts]


def _labelled(word: str, arguments: Sequence[Token] | None) -> ColumnType | None:
    parts = split(arguments or ())
    if not all(
        len(part) == 1 and part[0].kind is TokenKind.TEXT and is_ascii(part[0].text)
        for part in parts
    ):
        return None
    return ColumnType(word.lower(), labels=tuple(part[0].text.rstrip(" ") for part in parts))


def _character(word: str, numbers: Sequence[int], *, is_varying: bool) -> ColumnType | None:
    length = numbers[0] if numbers else None
    if word in ("VARCHAR", "VARCHARACTER") or is_varying:
        return ColumnType("varchar", length=length) if length is not None else None
    if word in ("CHAR", "CHARACTER"):
        return ColumnType("char", length=1 if length is None else length)
    if word == "TEXT":
        # TEXT(n) becomes the smallest type that holds n characters of a set that need not be said.
        return ColumnType("text") if length is None else None
    return None


def _other(word: str, numbers: Sequence[int], dialect: Dialect) -> ColumnType | None:
    first = numbers[0] if numbers else None
    if word in _INTEGERS:
        return ColumnType(_INTEGERS[word])
    if word in _PLAIN:
        name = "longtext" if word == "JSON" and dialect.is_mariadb else word.lower()
        return ColumnType(name)
    if word in ("DECIMAL", "DEC", "NUMERIC", "FIXED"):
        scale = numbers[1] if len(numbers) > 1 else 0
        # DECIMAL(0) is DECIMAL(10).
        return ColumnType("decimal", precision=first or 10, scale=scale)
    if word in ("FLOAT", "FLOAT4", "DOUBLE", "FLOAT8", "REAL"):
        is_float = word in ("FLOAT", "FLOAT4") or (word == "REAL" and dialect.mode.real_as_float)
        is_wide = len(numbers) == 1 and numbers[0] > _FLOAT_BITS_MAX
        return ColumnType("float" if is_float and not is_wide else "double")
    if word in _FRACTIONAL:
        return ColumnType(word.lower(), scale=first or 0)
    if word == "YEAR":
        return ColumnType("year")
    if word == "BIT":
        return ColumnType("bit", length=first or 1)
    if word == "BINARY":
        return ColumnType("binary", length=1 if first is None else first)
    if word == "VARBINARY" and first is not None:
        return ColumnType("varbinary", length=first)
    if word == "BLOB":
        return ColumnType(_blob(first))
    if word in _GEOMETRY:
        return ColumnType("geometry")
    if word == "VECTOR" and first is not None:
        return ColumnType("vector", length=first)
    if word in _MARIADB_BYTES and dialect.is_mariadb:
        return ColumnType("binary", length=_MARIADB_BYTES[word])
    return None


def _blob(length: int | None) -> str:
    if length is None:
        return "blob"
    sizes = (size for size in range(1, 5) if length < 1 << 8 * size)
    return BLOB_BY_LENGTH_BYTES[next(sizes, 4) - 1]


def _with_type_attributes(definition: Definition, reader: Tokens) -> Definition:
    """UNSIGNED, CHARACTER SET and what else belongs to the type."""
    while True:
        if reader.accept_any("UNSIGNED", "ZEROFILL"):
            kind = definition.type
            definition = replace(definition, type=kind and replace(kind, unsigned=True))
        elif reader.accept("SIGNED"):
            pass
        elif reader.accept_any("CHARACTER SET", "CHARSET", "CHAR SET"):
            definition = replace(definition, charset=reader.next().text.lower())
        elif reader.accept("BYTE"):
            definition = replace(definition, charset="binary")
        elif reader.accept_any("ASCII", "UNICODE", "BINARY"):
            # Character sets and collations that depend on defaults.
            definition = replace(definition, is_certain=False)
        else:
            return definition


_FLAGS: Final = (
    "UNIQUE KEY", "UNIQUE", "VISIBLE", "INVISIBLE", "ENFORCED", "NOT ENFORCED", "COMPRESSED",
)  # fmt: skip
_WITH_VALUE: Final = (
    "COMMENT", "COLUMN_FORMAT", "STORAGE", "SRID", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE",
)  # fmt: skip


def _with_attribute(
    definition: Definition, reader: Tokens, *, may_be_placed: bool
) -> Definition | None:
    """The definition with what comes next; None where that is not understood."""
    if reader.accept("NOT NULL"):
        return replace(definition, nullable=False)
    if reader.accept("NULL"):
        return replace(definition, nullable=True)
    if reader.accept("DEFAULT"):
        return _with_default(definition, reader)
    if reader.accept_any("PRIMARY KEY", "KEY"):
        return replace(definition, is_primary=True, nullable=False)
    if reader.accept("ON UPDATE"):
        _skip_call(reader)
        return definition
    if reader.accept("AUTO_INCREMENT"):
        return replace(definition, has_expression=True)
    if reader.accept("COLLATE"):
        collation = reader.next().text.lower()
        # A short name such as uca1400_ai_ci says nothing about the character set.
        charset = definition.charset
        if charset is None and not collation.startswith("uca"):
            charset = collation.partition("_")[0]
        return replace(definition, charset=charset, collation=collation)
    if reader.accept_any("GENERATED ALWAYS AS", "AS"):
        reader.accept_any("VIRTUAL", "STORED", "PERSISTENT")
        generated = replace(definition, has_expression=True)
        if reader.group() is None:
            return None
        reader.accept_any("VIRTUAL", "STORED", "PERSISTENT")
        return generated
    if reader.accept_any(*_FLAGS):
        return definition
    if reader.accept_any(*_WITH_VALUE):
        reader.accept("=")
        reader.next()
        return definition
    if may_be_placed and reader.accept("FIRST"):
        return replace(definition, after="")
    if may_be_placed and reader.accept("AFTER"):
        return replace(definition, after=reader.name())
    return definition if _skip_constraint(reader) else None


def _skip_constraint(reader: Tokens) -> bool:
    """[CONSTRAINT name] CHECK (…) or REFERENCES …; whether it was one."""
    if reader.accept("CONSTRAINT") and reader.peek().word != "CHECK":
        reader.next()
    if reader.accept("CHECK"):
        return reader.group() is not None
    if not reader.accept("REFERENCES") or reader.table("") is None:
        return False
    reader.group()
    while reader.accept_any("MATCH", "ON DELETE", "ON UPDATE"):
        if not reader.accept_any("SET NULL", "SET DEFAULT", "NO ACTION"):
            reader.next()
    return True


def _skip_call(reader: Tokens) -> None:
    """CURRENT_TIMESTAMP, NOW(), NOW(6)."""
    reader.next()
    reader.group()


_CONSTANT_WORDS: Final = frozenset(("NULL", "TRUE", "FALSE"))


def _with_default(definition: Definition, reader: Tokens) -> Definition | None:
    token = reader.peek()
    if token.kind in (TokenKind.TEXT, TokenKind.NUMBER, TokenKind.BITS):
        return replace(definition, default=reader.next())
    if token.word in ("-", "+") and reader.peek(1).kind is TokenKind.NUMBER:
        reader.next()
        sign = "-" if token.word == "-" else ""
        number = Token(TokenKind.NUMBER, sign + reader.next().text)
        return replace(definition, default=number)
    if token.word in _CONSTANT_WORDS:
        return replace(definition, default=reader.next())
    computed = replace(definition, has_expression=True)
    if reader.group() is not None:
        return computed
    if token.kind is TokenKind.WORD:
        _skip_call(reader)
        return computed
    return None
