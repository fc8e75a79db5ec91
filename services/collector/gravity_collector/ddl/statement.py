"""Statements that change tables: which tables, and what is said of them. Pure.

A statement is read word by word. What is not understood for certain is kept as `Unknown`: it is
followed by reading the table's rows again, never by a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gravity_collector.ddl.alter import Spec, key_columns, parse_specs
from gravity_collector.ddl.column_definition import Definition, Dialect, parse_definition
from gravity_collector.ddl.sql_token import TableName, Token, Tokens, split, tokens_of


@dataclass(frozen=True, slots=True)
class AlterTable:
    """ALTER TABLE, CREATE INDEX or DROP INDEX."""

    table: TableName
    specs: tuple[Spec, ...] = ()
    ignores: bool = False
    """MariaDB's ALTER IGNORE: values are changed where they do not fit, and rows dropped."""

    @property
    def tables(self) -> tuple[TableName, ...]:
        """All tables that it names."""
        others = [spec.other for spec in self.specs if spec.other is not None]
        return (self.table, *others)


@dataclass(frozen=True, slots=True)
class RenameTables:
    """RENAME TABLE, one pair after the other."""

    pairs: tuple[tuple[TableName, TableName], ...]

    @property
    def tables(self) -> tuple[TableName, ...]:
        """All tables that it names."""
        return tuple(table for pair in self.pairs for table in pair)


@dataclass(frozen=True, slots=True)
class DropTables:
    """DROP TABLE."""

    tables: tuple[TableName, ...]


@dataclass(frozen=True, slots=True)
class TruncateTable:
    """TRUNCATE TABLE."""

    table: TableName

    @property
    def tables(self) -> tuple[TableName, ...]:
        """All tables that it names."""
        return (self.table,)


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE."""

    table: TableName
    columns: tuple[Definition, ...] = ()
    """Empty where not all of them were understood."""
    key: tuple[str, ...] = ()
    like: TableName | None = None
    if_not_exists: bool = False
    replaces: bool = False
    has_rows: bool = False
    """Whether it brings rows by a SELECT, which row events do not repeat."""

    @property
    def tables(self) -> tuple[TableName, ...]:
        """All tables that it changes."""
        return (self.table,)


@dataclass(frozen=True, slots=True)
class DropDatabase:
    """DROP DATABASE."""

    database: str
    tables: tuple[TableName, ...] = ()
    """It names none."""


Ddl = AlterTable | RenameTables | DropTables | TruncateTable | CreateTable | DropDatabase

_KINDS: Final = frozenset(("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE"))
_ROWS_FOLLOW: Final = frozenset(("SELECT", "VALUES", "TABLE"))


def parse_ddl(sql: str, database: str, dialect: Dialect) -> Ddl | None:
    """What `sql` does to tables; None when it is no change of a table or database.

    `database` is the session's default. Temporary tables are their session's own business.
    """
    ddl = _parsed(sql, database, dialect)
    return _lowered(ddl) if ddl is not None and dialect.lowers_names else ddl


def _lowered(ddl: Ddl) -> Ddl:
    """The statement with its tables named as a server with lower_case_table_names=1 names them."""
    match ddl:
        case AlterTable():
            specs = tuple(
                spec if spec.other is None else replace(spec, other=_lower(spec.other))
                for spec in ddl.specs
            )
            return replace(ddl, table=_lower(ddl.table), specs=specs)
        case RenameTables():
            return RenameTables(tuple((_lower(old), _lower(new)) for old, new in ddl.pairs))
        case DropTables():
            return DropTables(tuple(map(_lower, ddl.tables)))
        case TruncateTable():
            return TruncateTable(_lower(ddl.table))
        case CreateTable():
            like = None if ddl.like is None else _lower(ddl.like)
            return replace(ddl, table=_lower(ddl.table), like=like)
        case DropDatabase():
            return DropDatabase(ddl.database.lower())


def _lower(table: TableName) -> TableName:
    return table[0].lower(), table[1].lower()


def _parsed(sql: str, database: str, dialect: Dialect) -> Ddl | None:
    reader = Tokens(tokens_of(sql, dialect.mode))
    if reader.accept("SET STATEMENT"):
        while not reader.is_at_end and not reader.accept("FOR"):
            if reader.group() is None:
                reader.next()
    kind = reader.next().word
    if kind not in _KINDS:
        return None
    if kind == "TRUNCATE":
        reader.accept("TABLE")
        table = reader.table(database)
        return TruncateTable(table) if table else None
    replaces = reader.accept("OR REPLACE")
    ignores = False
    while word := reader.accept_any("ONLINE", "OFFLINE", "IGNORE", *_INDEX_KINDS):
        ignores |= word == "IGNORE"
    if reader.accept_any("DATABASE", "SCHEMA"):
        reader.accept("IF EXISTS")
        return DropDatabase(reader.name() or database) if kind == "DROP" else None
    if reader.accept("INDEX"):
        while not reader.is_at_end and not reader.accept("ON"):
            reader.next()
        table = reader.table(database)
        return AlterTable(table) if table else None
    if not reader.accept_any("TABLE", "TABLES"):
        return None
    if_not_exists = reader.accept("IF NOT EXISTS")
    reader.accept("IF EXISTS")
    if kind == "DROP":
        return DropTables(_listed(reader, database))
    if kind == "RENAME":
        return RenameTables(_renamed(reader, database))
    table = reader.table(database)
    if table is None:
        return None
    if kind == "CREATE":
        created = _created(table, reader, database, dialect)
        return replace(created, if_not_exists=if_not_exists, replaces=replaces)
    _skip_wait(reader)
    return AlterTable(table, parse_specs(reader.rest(), database, dialect), ignores)


_INDEX_KINDS: Final = ("UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR")


def _skip_wait(reader: Tokens) -> None:
    if reader.accept("WAIT"):
        reader.next()
    else:
        reader.accept("NOWAIT")


def _listed(reader: Tokens, database: str) -> tuple[TableName, ...]:
    """`t1, t2`."""
    found = []
    while (table := reader.table(database)) is not None:
        found.append(table)
        if not reader.accept(","):
            break
    return tuple(found)


def _renamed(reader: Tokens, database: str) -> tuple[tuple[TableName, TableName], ...]:
    """`t1 TO t2, t3 TO t4`."""
    found = []
    while (old := reader.table(database)) is not None:
        _skip_wait(reader)
        if not reader.accept("TO"):
            break
        new = reader.table(database)
        if new is None:
            break
        found.append((old, new))
        if not reader.accept(","):
            break
    return tuple(found)


def _created(table: TableName, reader: Tokens, database: str, dialect: Dialect) -> CreateTable:
    if reader.accept("LIKE"):
        return CreateTable(table, like=reader.table(database))
    body = reader.group()
    if body and body[0].word == "LIKE":
        return CreateTable(table, like=Tokens(body[1:]).table(database))
    has_rows = bool(body) and body is not None and body[0].word in _ROWS_FOLLOW
    while not reader.is_at_end:
        group = reader.group()
        if group is None:
            has_rows |= reader.next().word in _ROWS_FOLLOW
        elif group and group[0].word in _ROWS_FOLLOW:
            has_rows = True
    columns, key = _columns(body or (), dialect)
    if has_rows:
        # The SELECT's columns come behind those named.
        columns, key = (), ()
    return CreateTable(table, columns, key, has_rows=has_rows)


_NOT_COLUMNS: Final = frozenset(
    (
        "PRIMARY", "KEY", "INDEX", "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "CONSTRAINT", "FOREIGN", "CHECK",
        "PERIOD",
    )
)  # fmt: skip


def _columns(
    body: Sequence[Token], dialect: Dialect
) -> tuple[tuple[Definition, ...], tuple[str, ...]]:
    """(columns, primary key) between a CREATE TABLE's parentheses; columns are empty unless all are certain."""
    columns: list[Definition] = []
    key: tuple[str, ...] = ()
    for part in split(body):
        reader = Tokens(part)
        if reader.peek().word in _NOT_COLUMNS:
            if reader.accept("CONSTRAINT") and reader.peek().word != "PRIMARY":
                reader.next()
            if reader.accept("PRIMARY KEY"):
                key = key_columns(reader) or ()
            continue
        name = reader.name()
        if name is None:
            return (), ()
        definition = parse_definition(name, reader.rest(), dialect)
        if not definition.is_certain or definition.type is None:
            return (), ()
        if definition.is_primary:
            key = (definition.name,)
        columns.append(definition)
    return tuple(columns), key
