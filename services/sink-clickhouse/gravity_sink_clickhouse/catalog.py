"""What the target's tables look like, and what is done where they are missing something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gravity import target_table
from gravity.column import ColumnType
from gravity.errors import FatalError, TransientError
from gravity_sink_clickhouse.row import Field
from gravity_sink_clickhouse.table import (
    DEDUPLICATION_WINDOW,
    DELETED,
    VERSION,
    add_columns,
    create_table,
    create_view,
    quote_name,
    quote_table,
    quote_text,
)

if TYPE_CHECKING:
    from gravity.batch import Column, TableSchema

PROGRESS = target_table.quoted(target_table.PROGRESS)
TABLES = target_table.quoted(target_table.TABLES)

CREATE_CONTROL_TABLES: Sequence[str] = (
    f"CREATE DATABASE IF NOT EXISTS {quote_name(target_table.DATABASE)}",
    f"""CREATE TABLE IF NOT EXISTS {PROGRESS} (
  target String, part UInt32, resolver_epoch UInt32,
  next_offset UInt64, last_seq UInt64, term UInt64, frontier String
) ENGINE = ReplacingMergeTree(next_offset) ORDER BY (target, part, resolver_epoch)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}""",
    f"""CREATE TABLE IF NOT EXISTS {TABLES} (target String, name String)
ENGINE = ReplacingMergeTree ORDER BY (target, name)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}""",
)


class Statements(Protocol):
    """The part of `writer.Server` that is needed here."""

    def execute(self, sql: str) -> None:
        """Runs a statement."""

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""

    def insert(
        self, table: str, columns: Sequence[str], lines: Sequence[str], *, token: str
    ) -> None:
        """Inserts lines of TabSeparated."""


Make = Callable[[Sequence[str]], None]
"""Runs statements that create a table or add columns to it."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How batches of one shape are written to one table."""

    table: str
    """Quoted, with its database."""
    shape: str
    """The shape's id."""
    fields: tuple[Field, ...]
    wanted: tuple[int, ...]
    """The batch's columns, in the order of `fields`."""


class Catalog:
    """Fits of one lane, read once per shape."""

    def __init__(self, target: str, *, create: bool, adopt: bool) -> None:
        self._target = target
        self._create = create
        self._adopt = adopt
        self._fits: dict[tuple[str, str, str], Fit] = {}

    def forget(self) -> None:
        """Reads everything again when it is next needed."""
        self._fits.clear()

    def fit(
        self, server: Statements, name: tuple[str, str], schema: TableSchema, make: Make
    ) -> Fit:
        """How batches of `schema` go into table `name`; has `make` make what is missing, if that is allowed.

        Raises:
            FatalError: the table is missing, filled by others, or does not fit.
        """
        key = (*name, schema.schema_id)
        fit = self._fits.get(key)
        if fit is None:
            fit = self._fits[key] = self._make_fit(server, name, schema, make)
        return fit

    def _make_fit(
        self, server: Statements, name: tuple[str, str], schema: TableSchema, make: Make
    ) -> Fit:
        where = f"target {self._target}, table {name[0]}.{name[1]}"
        if not schema.key:
            raise FatalError(
                "the source's table has neither a primary nor a unique key",
                where=where,
                remedy="give it one, or exclude the table",
            )
        self._refuse_own_names(schema, where)
        types = self._columns(server, name)
        if not types:
            make(self._creation(name, schema, where))
            types = self._columns(server, name)
            if not types:
                raise TransientError("the table was created and is gone again", where=where)
        self._check_engine(server, name, schema, types, where)
        self._claim(server, name, where)
        lacking = [column for column in schema.columns if column.name not in types]
        if lacking:
            make(self._addition(name, lacking, where))
            types = self._columns(server, name)
        return Fit(
            quote_table(*name),
            schema.schema_id,
            tuple(
                Field(
                    column.name,
                    ColumnType.parse(column.type),
                    nullable="Nullable(" in types[column.name],
                    in_key=index in schema.key,
                )
                for index, column in enumerate(schema.columns)
            ),
            tuple(range(len(schema.columns))),
        )

    def _refuse_own_names(self, schema: TableSchema, where: str) -> None:
        taken = {VERSION, DELETED} & set(schema.column_index)
        if taken:
            raise FatalError(
                f"the source's table has a column {min(taken)}, a name that is ours at ClickHouse",
                where=where,
                remedy="exclude the table, or rename the column",
            )

    def _creation(self, name: tuple[str, str], schema: TableSchema, where: str) -> list[str]:
        if not self._create:
            raise FatalError(
                "the table does not exist",
                where=where,
                remedy="create it, or set create-tables: true",
            )
        return [
            f"CREATE DATABASE IF NOT EXISTS {quote_name(name[0])}",
            create_table(*name, schema),
            create_view(*name),
        ]

    def _addition(self, name: tuple[str, str], lacking: list[Column], where: str) -> list[str]:
        if not self._create:
            raise FatalError(
                f"the table lacks columns {', '.join(column.name for column in lacking)}",
                where=where,
                remedy="add them, or set create-tables: true",
            )
        return [add_columns(*name, lacking), create_view(*name)]

    def _columns(self, server: Statements, name: tuple[str, str]) -> dict[str, str]:
        rows = server.rows(
            f"SELECT name, type FROM system.columns WHERE database={quote_text(name[0])} "
            f"AND table={quote_text(name[1])} AND default_kind NOT IN ('MATERIALIZED', 'ALIAS')"
        )
        return {str(column): str(kind) for column, kind in rows}

    def _check_engine(
        self,
        server: Statements,
        name: tuple[str, str],
        schema: TableSchema,
        types: dict[str, str],
        where: str,
    ) -> None:
        engine, key = server.rows(
            "SELECT engine, sorting_key FROM system.tables "
            f"WHERE database={quote_text(name[0])} AND name={quote_text(name[1])}"
        )[0]
        wanted = ", ".join(schema.key_names)
        if "Replacing" not in engine or VERSION not in types or DELETED not in types:
            raise FatalError(
                f"the table is a {engine}, not a ReplacingMergeTree({VERSION}, {DELETED})",
                where=where,
                remedy="rename it and let the sink create it: see services/sink-clickhouse/README.md",
            )
        if _bare(key) != _bare(wanted):
            raise FatalError(
                f"the table is ordered by ({key}), the source's key is ({wanted})",
                where=where,
                remedy="rename it and let the sink create it",
            )

    def _claim(self, server: Statements, name: tuple[str, str], where: str) -> None:
        """Refuses a table with rows that this target has not written, unless told to adopt it.

        The claim is stored before the first row: whoever sees our rows can see it.
        """
        text = f"{name[0]}.{name[1]}"
        claimed = f"SELECT 1 FROM {TABLES} WHERE target={quote_text(self._target)} AND name={quote_text(text)}"
        if server.rows(claimed):
            return
        filled = server.rows(f"SELECT 1 FROM {quote_table(*name)} LIMIT 1")
        if filled and not self._adopt and not server.rows(claimed):
            raise FatalError(
                "the table already holds rows, and this target has not written them",
                where=where,
                remedy="empty it, or start the sink with --adopt to write over and beside them",
            )
        line = "\t".join((self._target, text.replace("\\", "\\\\").replace("\t", "\\t")))
        server.insert(TABLES, ("target", "name"), [line], token=f"{self._target}:{text}")


def _bare(key: str) -> str:
    """A sorting key without what servers may or may not print around its names."""
    return key.translate(str.maketrans("", "", "`() "))
