"""Tables as the target should have them: CREATE and ADD COLUMN from a source's shape. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gravity.batch import Column, TableSchema
from gravity.column import ColumnType
from gravity.errors import FatalError
from gravity_sink_mysql.statement import quote_name

_NO_FULL_INDEX = frozenset(
    ("tinytext", "text", "mediumtext", "longtext", "tinyblob", "blob", "mediumblob", "longblob",
     "json", "geometry")
)  # fmt: skip
_FLOAT_BYTES, _DIMENSIONS = 4, 2048
"""Of a VECTOR: bytes of each number; how many it has unless it says so."""
_SYNONYMS = {"utf8": "utf8mb3", "utf8mb3": "utf8"}
"""Servers disagree about the name of three-byte UTF-8."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one target server knows."""

    collations: Mapping[str, str]
    """Collation → its character set."""
    charsets: frozenset[str]
    has_vectors: bool = True
    """Whether it has the type VECTOR; their bytes go into VARBINARY otherwise."""
    has_documents: bool = True
    """Whether JSON is a type of its own. MariaDB's is a check on LONGTEXT that refuses 33 levels."""

    def type_text(self, kind: ColumnType) -> str:
        """The column type that holds the cells of `kind` exactly."""
        if kind.name == "vector" and not self.has_vectors:
            return f"varbinary({vector_bytes(kind)})"
        if kind.name == "json" and not self.has_documents:
            return "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return kind.text

    def spell(self, column: Column, *, in_key: bool) -> str:
        """`CHARACTER SET … COLLATE …` for a text column.

        A collation that the server does not know is replaced by its default for the character set;
        by a binary one where the source tells more apart than a default would, and in keys: else
        two rows of the source could be one here.
        """
        charset, collation = column.charset or "utf8mb4", column.collation or ""
        if charset not in self.charsets:
            other = _SYNONYMS.get(charset)
            if other is None or other not in self.charsets:
                charset = "utf8mb4"  # holds every character there is
                collation = collation if collation.endswith(("_bin", "_cs")) else ""
            else:
                collation = collation.replace(f"{charset}_", f"{other}_", 1)
                charset = other
        if self.collations.get(collation) != charset:
            strict = in_key or collation.endswith(("_bin", "_cs"))
            collation = self._binary(charset) if strict else ""
        text = f" CHARACTER SET {charset}"
        return f"{text} COLLATE {collation}" if collation else text

    def _binary(self, charset: str) -> str:
        # First those that do not ignore trailing spaces: MariaDB's, then MySQL's.
        names = (f"{charset}_nopad_bin", f"{charset}_0900_bin", f"{charset}_bin")
        return next((name for name in names if self.collations.get(name) == charset), "")


def vector_bytes(kind: ColumnType) -> int:
    """How many bytes a VECTOR of this type may have."""
    return _FLOAT_BYTES * (kind.length or _DIMENSIONS)


def column_definition(
    column: Column, dialect: Dialect, *, in_key: bool = False, added: bool = False
) -> str:
    """A column of CREATE TABLE, or of ADD COLUMN (`added`: rows that are there have no value for it)."""
    kind = ColumnType.parse(column.type)
    text = f"{quote_name(column.name)} {dialect.type_text(kind)}"
    if kind.has_charset:
        text += dialect.spell(column, in_key=in_key)
    if in_key or not (column.nullable or added):
        text += " NOT NULL"
        if kind.name == "timestamp":
            # Older servers give the first such column ON UPDATE CURRENT_TIMESTAMP unless it has a default.
            text += " DEFAULT '0000-00-00 00:00:00'"
        return text
    return text + " NULL DEFAULT NULL"


def create_table(quoted_name: str, schema: TableSchema, dialect: Dialect) -> str:
    """CREATE TABLE with the key and the types of the source's table; no other index, no default."""
    for index in schema.key:
        column = schema.columns[index]
        if ColumnType.parse(column.type).name in _NO_FULL_INDEX:
            raise FatalError(
                f"key column {column.name} of type {column.type} can't be indexed whole",
                where=f"{schema.database}.{schema.table}",
                remedy="create the target table by hand with a key that holds it, then start again",
            )
    parts = [
        column_definition(column, dialect, in_key=index in schema.key)
        for index, column in enumerate(schema.columns)
    ]
    parts.append(f"PRIMARY KEY ({','.join(map(quote_name, schema.key_names))})")
    body = ",\n  ".join(parts)
    return f"CREATE TABLE IF NOT EXISTS {quoted_name} (\n  {body}\n) ENGINE=InnoDB"


def add_columns(quoted_name: str, columns: list[Column], dialect: Dialect) -> str:
    """ALTER TABLE that adds these columns."""
    parts = ", ".join(
        f"ADD COLUMN {column_definition(column, dialect, added=True)}" for column in columns
    )
    return f"ALTER TABLE {quoted_name} {parts}"
