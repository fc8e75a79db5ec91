"""What ALTER TABLE asks for, one clause after the other. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gravity.schema_change import TableAction
from gravity_collector.ddl.column_definition import Definition, Dialect, parse_definition
from gravity_collector.ddl.sql_token import TableName, Token, TokenKind, Tokens, split


@dataclass(frozen=True, slots=True)
class AddColumn:
    """ADD COLUMN."""

    definition: Definition
    if_not_exists: bool = False
    other: None = None


@dataclass(frozen=True, slots=True)
class DropColumn:
    """DROP COLUMN."""

    name: str
    if_exists: bool = False
    other: None = None


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """RENAME COLUMN."""

    name: str
    new_name: str
    if_exists: bool = False
    other: None = None


@dataclass(frozen=True, slots=True)
class ModifyColumn:
    """MODIFY COLUMN, or CHANGE COLUMN, whose definition bears the new name."""

    name: str
    definition: Definition
    if_exists: bool = False
    other: None = None


@dataclass(frozen=True, slots=True)
class ConvertCharset:
    """CONVERT TO CHARACTER SET."""

    charset: str
    """Empty: the database's."""
    collation: str | None
    other: None = None


@dataclass(frozen=True, slots=True)
class AddPrimaryKey:
    """ADD PRIMARY KEY."""

    columns: tuple[str, ...] | None
    """None: not understood."""
    other: None = None


@dataclass(frozen=True, slots=True)
class DropPrimaryKey:
    """DROP PRIMARY KEY."""

    other: None = None


@dataclass(frozen=True, slots=True)
class AddUnique:
    """ADD UNIQUE: drops rows under IGNORE."""

    other: None = None


@dataclass(frozen=True, slots=True)
class RenameTo:
    """RENAME TO."""

    other: TableName


@dataclass(frozen=True, slots=True)
class ReplaceRows:
    """Rows are taken away or put in without a row event: by partition, by tablespace."""

    other: TableName | None = None
    """The table that rows are exchanged with."""
    other_action: TableAction = TableAction.ALTER
    """What becomes of it: a partition can be made a table of its own, and the reverse."""


@dataclass(frozen=True, slots=True)
class Harmless:
    """Values and columns stay as they are: indexes, defaults, table options."""

    other: None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """A clause that was not understood."""

    text: str
    other: None = None


Spec = (
    AddColumn
    | DropColumn
    | RenameColumn
    | ModifyColumn
    | ConvertCharset
    | AddPrimaryKey
    | DropPrimaryKey
    | AddUnique
    | RenameTo
    | ReplaceRows
    | Harmless
    | Unknown
)

_INDEX: Final = ("INDEX", "KEY", "FULLTEXT", "SPATIAL", "VECTOR", "FOREIGN KEY", "CHECK")
_PARTITIONS_KEPT: Final = (
    "ADD PARTITION", "REORGANIZE PARTITION", "COALESCE PARTITION", "REBUILD PARTITION", "OPTIMIZE PARTITION",
    "ANALYZE PARTITION", "CHECK PARTITION", "REPAIR PARTITION", "REMOVE PARTITIONING", "PARTITION BY",
)  # fmt: skip
_ROWS_REPLACED: Final = (
    "DROP PARTITION", "TRUNCATE PARTITION", "DISCARD TABLESPACE", "IMPORT TABLESPACE", "DISCARD PARTITION",
    "IMPORT PARTITION",
)  # fmt: skip
_FLAGS: Final = (
    "FORCE", "ENABLE KEYS", "DISABLE KEYS", "WITH VALIDATION", "WITHOUT VALIDATION", "ONLINE", "OFFLINE",
)  # fmt: skip
_OPTIONS: Final = (
    "ALGORITHM", "LOCK", "AUTO_INCREMENT", "AVG_ROW_LENGTH", "CHARACTER SET", "CHARSET", "CHECKSUM", "COLLATE", "COMMENT",
    "COMPRESSION", "CONNECTION", "DATA DIRECTORY", "DEFAULT CHARACTER SET", "DEFAULT CHARSET", "DEFAULT COLLATE",
    "DELAY_KEY_WRITE", "ENCRYPTED", "ENCRYPTION", "ENCRYPTION_KEY_ID", "ENGINE_ATTRIBUTE", "INDEX DIRECTORY",
    "INSERT_METHOD", "ITEF_QUOTES", "KEY_BLOCK_SIZE", "MAX_ROWS", "MIN_ROWS", "PACK_KEYS", "PAGE_CHECKSUM",
    "PAGE_COMPRESSED", "PAGE_COMPRESSION_LEVEL", "PASSWORD", "ROW_FORMAT", "SECONDARY_ENGINE_ATTRIBUTE",
    "STATS_AUTO_RECALC", "STATS_PERSISTENT", "STATS_SAMPLE_PAGES", "TABLESPACE", "TRANSACTIONAL",
)  # fmt: skip
_ENGINES_THAT_KEEP_ROWS: Final = frozenset(
    ("innodb", "myisam", "aria", "rocksdb", "memory", "heap")
)


def parse_specs(tokens: Sequence[Token], database: str, dialect: Dialect) -> tuple[Spec, ...]:
    """The clauses behind ALTER TABLE's name."""
    found: list[Spec] = []
    parts = [part for part in split(tokens) if part]
    for part in parts:
        reader = Tokens(part)
        specs = _clause(reader, database, dialect)
        if not reader.is_at_end or not specs:
            specs = [Unknown(" ".join(token.text for token in part))]
        found += specs
        if Tokens(part).accept_any("ORDER BY", *_ROWS_REPLACED, *_PARTITIONS_KEPT):
            # They stand last, and their own lists have commas too.
            break
    return tuple(found)


def _clause(reader: Tokens, database: str, dialect: Dialect) -> list[Spec]:
    """One clause, or the options that stand in one without commas. Empty: not understood."""
    if reader.accept_any(*_ROWS_REPLACED):
        reader.rest()
        return [ReplaceRows()]
    if reader.accept_any(*_PARTITIONS_KEPT):
        reader.rest()
        return [Harmless()]
    if reader.accept_any("EXCHANGE PARTITION", "CONVERT PARTITION", "CONVERT TABLE"):
        return _exchanged(reader, database)
    if reader.accept("ADD"):
        return _added(reader, dialect)
    if reader.accept("DROP"):
        return [_dropped(reader)]
    if reader.accept("RENAME"):
        return _renamed(reader, database)
    if reader.accept("MODIFY"):
        reader.accept("COLUMN")
        if_exists = reader.accept("IF EXISTS")
        name = reader.name()
        return [] if name is None else [_modified(name, name, reader, dialect, if_exists=if_exists)]
    if reader.accept("CHANGE"):
        reader.accept("COLUMN")
        if_exists = reader.accept("IF EXISTS")
        name, new_name = reader.name(), reader.name()
        if name is None or new_name is None:
            return []
        return [_modified(name, new_name, reader, dialect, if_exists=if_exists)]
    if reader.accept("CONVERT TO"):
        return _converted(reader)
    if reader.accept("ALTER"):
        return _altered(reader)
    if reader.accept("ORDER BY"):
        reader.rest()
        return [Harmless()]
    return _options(reader)


def _added(reader: Tokens, dialect: Dialect) -> list[Spec]:
    if reader.accept("CONSTRAINT") and reader.peek().word not in (
        "PRIMARY",
        "UNIQUE",
        "FOREIGN",
        "CHECK",
    ):
        reader.accept("IF NOT EXISTS")
        reader.next()
    if reader.accept("PRIMARY KEY"):
        columns = key_columns(reader)
        reader.rest()
        return [AddPrimaryKey(columns)]
    if reader.accept("UNIQUE"):
        reader.rest()
        return [AddUnique()]
    # VECTOR is no reserved word: a column may be called so.
    may_be_index = reader.peek().word != "VECTOR" or reader.peek(1).word in ("INDEX", "KEY")
    if may_be_index and reader.accept_any(*_INDEX):
        reader.rest()
        return [Harmless()]
    if reader.peek().word in ("SYSTEM", "PERIOD") and reader.peek(1).word in ("VERSIONING", "FOR"):
        return []
    reader.accept("COLUMN")
    if_not_exists = reader.accept("IF NOT EXISTS")
    group = reader.group()
    if group is None:
        spec = _column(reader, dialect, if_not_exists=if_not_exists, may_be_placed=True)
        return [] if spec is None else [spec]
    specs: list[Spec] = []
    for part in split(group):
        inner = Tokens(part)
        if inner.peek().word in (
            "PRIMARY",
            "UNIQUE",
            "CONSTRAINT",
            "INDEX",
            "KEY",
            "FOREIGN",
            "CHECK",
        ):
            specs += _added(inner, dialect)
            continue
        spec = _column(inner, dialect, if_not_exists=if_not_exists, may_be_placed=False)
        if spec is None:
            return []
        specs.append(spec)
    return specs


def _column(
    reader: Tokens, dialect: Dialect, *, if_not_exists: bool, may_be_placed: bool
) -> AddColumn | None:
    name = reader.name()
    if name is None:
        return None
    definition = parse_definition(name, reader.rest(), dialect, may_be_placed=may_be_placed)
    return AddColumn(definition, if_not_exists)


def _dropped(reader: Tokens) -> Spec:
    if reader.accept("PRIMARY KEY"):
        return DropPrimaryKey()
    word = reader.accept_any("INDEX", "KEY", "FOREIGN KEY", "CHECK", "CONSTRAINT")
    if word:
        reader.accept("IF EXISTS")
        is_primary = reader.next().text.upper() == "PRIMARY"
        return DropPrimaryKey() if is_primary else Harmless()
    if reader.peek().word == "SYSTEM" and reader.peek(1).word == "VERSIONING":
        reader.rest()
        return ReplaceRows()
    reader.accept("COLUMN")
    if_exists = reader.accept("IF EXISTS")
    name = reader.name()
    reader.accept_any("RESTRICT", "CASCADE")
    return Unknown("DROP") if name is None else DropColumn(name, if_exists)


def _renamed(reader: Tokens, database: str) -> list[Spec]:
    if reader.accept("COLUMN"):
        if_exists = reader.accept("IF EXISTS")
        name = reader.name()
        new_name = reader.name() if reader.accept("TO") else None
        if name is None or new_name is None:
            return []
        return [RenameColumn(name, new_name, if_exists)]
    if reader.accept_any("INDEX", "KEY"):
        reader.rest()
        return [Harmless()]
    reader.accept_any("TO", "AS", "=")
    table = reader.table(database)
    return [] if table is None else [RenameTo(table)]


def _modified(
    name: str, new_name: str, reader: Tokens, dialect: Dialect, *, if_exists: bool
) -> ModifyColumn:
    definition = parse_definition(new_name, reader.rest(), dialect, may_be_placed=True)
    return ModifyColumn(name, definition, if_exists)


def _converted(reader: Tokens) -> list[Spec]:
    if not reader.accept_any("CHARACTER SET", "CHARSET"):
        return []
    charset = reader.next().text.lower()
    collation = reader.next().text.lower() if reader.accept("COLLATE") else None
    return [ConvertCharset("" if charset == "default" else charset, collation)]


def _altered(reader: Tokens) -> list[Spec]:
    """ALTER COLUMN … SET DEFAULT, ALTER INDEX, ALTER CHECK: for rows still to come."""
    reader.rest()
    return [Harmless()]


def _exchanged(reader: Tokens, database: str) -> list[Spec]:
    """EXCHANGE PARTITION p WITH TABLE t, and MariaDB's CONVERT PARTITION p TO TABLE t and its reverse."""
    first = reader.table(database)
    if reader.accept("WITH TABLE"):
        other, action = reader.table(database), TableAction.ALTER
    elif reader.accept("TO TABLE"):
        other, action = reader.table(database), TableAction.CREATE
    elif reader.accept("TO PARTITION"):
        other, action = first, TableAction.DROP
    else:
        return []
    reader.rest()
    return [ReplaceRows(other, action)] if other is not None else []


def _options(reader: Tokens) -> list[Spec]:
    found: list[Spec] = []
    while not reader.is_at_end:
        if reader.accept_any("PARTITION BY", "REMOVE PARTITIONING"):
            reader.rest()
            found.append(Harmless())
        elif reader.accept_any("ENGINE", "STORAGE ENGINE"):
            reader.accept("=")
            keeps = reader.next().text.lower() in _ENGINES_THAT_KEEP_ROWS
            found.append(Harmless() if keeps else ReplaceRows())
        elif reader.accept_any(*_FLAGS):
            found.append(Harmless())
        elif reader.accept_any(*_OPTIONS):
            reader.accept("=")
            if reader.group() is None:
                reader.next()
            found.append(Harmless())
        else:
            return []
    return found


def key_columns(reader: Tokens) -> tuple[str, ...] | None:
    """The columns of a key, up to and with its parentheses; None where they are not plain columns."""
    while not reader.is_at_end and reader.peek().word != "(":
        reader.next()
    names = []
    for part in split(reader.group() or ()):
        first = part[0] if part else None
        if first is None or first.kind not in (TokenKind.WORD, TokenKind.NAME):
            return None
        names.append(first.text)
    return tuple(names) or None
