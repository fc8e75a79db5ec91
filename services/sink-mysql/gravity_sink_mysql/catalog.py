"""What the target's tables look like, and what is done where they are missing something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gravity.column import ColumnType
from gravity.errors import FatalError, TransientError
from gravity_sink_mysql.connection import Session
from gravity_sink_mysql.definition import Dialect, add_columns, create_table
from gravity_sink_mysql.fence import TABLES
from gravity_sink_mysql.spelling import has_no_label, special_of
from gravity_sink_mysql.statement import Layout, quote_name, quote_text

if TYPE_CHECKING:
    from gravity.batch import Column, TableSchema

Make = Callable[[tuple[str, str], Sequence[str]], None]
"""Runs statements that create a table or add columns to it, as the lane's owner."""


@dataclass(frozen=True, slots=True)
class TargetTable:
    """A table as the server describes it."""

    columns: Mapping[str, str]
    """Lower-case name → name, for all columns that take values (generated ones do not)."""
    generated: frozenset[str]
    primary: tuple[str, ...]
    """Lower-case names of the primary key."""
    unique: frozenset[tuple[str, ...]]
    """Other unique keys."""


@dataclass(frozen=True, slots=True)
class Fit:
    """How batches of one shape are written to one table."""

    layout: Layout
    wanted: tuple[int, ...]
    """The batch's columns that the layout takes, in its order."""
    key_index: tuple[int, ...]
    """The batch's key columns."""
    primary_only: bool
    """Whether the key is the table's only unique key, so that an upsert can't meet another row."""
    key_is_primary: bool


class Catalog:
    """Fits of one lane, read once per shape."""

    def __init__(self, target: str, *, create: bool, adopt: bool) -> None:
        self._target = target
        self._create = create
        self._adopt = adopt
        self._fits: dict[tuple[str, str, str], Fit] = {}
        self._dialect: Dialect | None = None

    def forget(self) -> None:
        """Reads everything again when it is next needed."""
        self._fits.clear()

    def fit(
        self,
        session: Session,
        name: tuple[str, str],
        schema: TableSchema,
        make: Make,
    ) -> Fit:
        """How batches of `schema` go into table `name`; has `make` make what is missing, if that is allowed.

        Raises:
            FatalError: the table is missing, filled by others, or does not fit.
        """
        key = (*name, schema.schema_id)
        fit = self._fits.get(key)
        if fit is None:
            fit = self._fits[key] = self._make_fit(session, name, schema, make)
        return fit

    def _make_fit(
        self,
        session: Session,
        name: tuple[str, str],
        schema: TableSchema,
        make: Make,
    ) -> Fit:
        where = f"target {self._target}, table {name[0]}.{name[1]}"
        if not schema.key:
            raise FatalError(
                "the source's table has neither a primary nor a unique key",
                where=where,
                remedy="give it one, or exclude the table",
            )
        table = self._read(session, name, where)
        if table is None:
            make(name, self._creation(session, name, schema, where))
            table = self._read(session, name, where)
            if table is None:
                raise TransientError("the table was created and is gone again", where=where)
        self._claim(session, name, where)
        lacking = [
            column
            for column in schema.columns
            if column.name.lower() not in table.columns
            and column.name.lower() not in table.generated
        ]
        if lacking:
            make(name, [self._addition(session, name, lacking, where)])
            table = self._read(session, name, where) or table
        return _fit_of(table, name, schema, is_mariadb=session.is_mariadb)

    def _creation(
        self, session: Session, name: tuple[str, str], schema: TableSchema, where: str
    ) -> list[str]:
        if not self._create:
            raise FatalError(
                "the table does not exist",
                where=where,
                remedy="create it, or set create-tables: true",
            )
        statements = []
        if not session.rows(
            f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME={quote_text(name[0])}"
        ):
            statements.append(f"CREATE DATABASE IF NOT EXISTS {quote_name(name[0])}")
        return [*statements, create_table(_quoted(name), schema, self.dialect(session))]

    def _addition(
        self, session: Session, name: tuple[str, str], lacking: list[Column], where: str
    ) -> str:
        if not self._create:
            raise FatalError(
                f"the table lacks columns {', '.join(column.name for column in lacking)}",
                where=where,
                remedy="add them, or set create-tables: true",
            )
        return add_columns(_quoted(name), lacking, self.dialect(session))

    def _claim(self, session: Session, name: tuple[str, str], where: str) -> None:
        """Refuses a table with rows that this target has not written, unless told to adopt it.

        The claim is stored before the first row: whoever sees our rows can see it.
        """
        text = quote_text(f"{name[0]}.{name[1]}")
        claimed = f"SELECT 1 FROM {TABLES} WHERE target={quote_text(self._target)} AND name={text}"
        if session.rows(claimed):
            return
        filled = session.rows(f"SELECT 1 FROM {_quoted(name)} LIMIT 1")
        if filled and not self._adopt and not session.rows(claimed):
            raise FatalError(
                "the table already holds rows, and this target has not written them",
                where=where,
                remedy="empty it, or start the sink with --adopt to write over and beside them",
            )
        session.execute(f"INSERT IGNORE INTO {TABLES} VALUES ({quote_text(self._target)}, {text})")

    def dialect(self, session: Session) -> Dialect:
        """What the server knows."""
        if self._dialect is None:
            # MariaDB 10.10 and later list Unicode collations without their character set.
            view = "information_schema.COLLATION_CHARACTER_SET_APPLICABILITY"
            full = session.rows(
                "SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='information_schema' "
                "AND TABLE_NAME='COLLATION_CHARACTER_SET_APPLICABILITY' "
                "AND COLUMN_NAME='FULL_COLLATION_NAME'"
            )
            column = "FULL_COLLATION_NAME" if full else "COLLATION_NAME"
            collations = session.rows(f"SELECT {column}, CHARACTER_SET_NAME FROM {view}")
            charsets = session.rows(
                "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS"
            )
            self._dialect = Dialect(
                {str(name): str(charset) for name, charset in collations},
                frozenset(str(row[0]) for row in charsets),
                has_vectors=session.version >= ((11, 7) if session.is_mariadb else (9, 0)),
                has_documents=not session.is_mariadb,
            )
        return self._dialect

    def _read(self, session: Session, name: tuple[str, str], where: str) -> TargetTable | None:
        place = f"TABLE_SCHEMA={quote_text(name[0])} AND TABLE_NAME={quote_text(name[1])}"
        columns = session.rows(
            f"SELECT COLUMN_NAME, GENERATION_EXPRESSION FROM information_schema.COLUMNS WHERE {place}"
        )
        if not columns:
            return None
        engine = session.rows(
            "SELECT t.ENGINE, e.TRANSACTIONS FROM information_schema.TABLES t "
            f"LEFT JOIN information_schema.ENGINES e ON e.ENGINE=t.ENGINE WHERE {place}"
        )
        if not engine or engine[0][1] != "YES":
            raise FatalError(
                f"the table's engine {engine[0][0] if engine else None} has no transactions",
                where=where,
                remedy="rows and progress must move together: ALTER TABLE … ENGINE=InnoDB",
            )
        indexes: dict[str, list[str]] = {}
        for index, column in session.rows(
            "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS "
            f"WHERE {place} AND NON_UNIQUE=0 ORDER BY INDEX_NAME, SEQ_IN_INDEX"
        ):
            indexes.setdefault(str(index), []).append(str(column).lower())
        primary = tuple(indexes.pop("PRIMARY", ()))
        return TargetTable(
            {str(n).lower(): str(n) for n, expression in columns if not expression},
            frozenset(str(n).lower() for n, expression in columns if expression),
            primary,
            frozenset(tuple(names) for names in indexes.values()),
        )


def _quoted(name: tuple[str, str]) -> str:
    return f"{quote_name(name[0])}.{quote_name(name[1])}"


def _fit_of(
    table: TargetTable, name: tuple[str, str], schema: TableSchema, *, is_mariadb: bool
) -> Fit:
    wanted = tuple(
        index for index, column in enumerate(schema.columns) if column.name.lower() in table.columns
    )
    names = tuple(table.columns[schema.columns[index].name.lower()] for index in wanted)
    key = tuple(schema.columns[index].name.lower() for index in schema.key)
    generated = [column for column in key if column not in table.columns]
    if generated:
        raise FatalError(
            f"key column {generated[0]} is generated at the target",
            where=f"table {name[0]}.{name[1]}",
            remedy="make it an ordinary column",
        )
    key_is_primary = sorted(key) == sorted(table.primary)
    kinds = [ColumnType.parse(schema.columns[index].type) for index in wanted]
    layout = Layout(
        _quoted(name),
        names,
        tuple(table.columns[column] for column in key),
        tuple(wanted.index(index) for index in schema.key),
        tuple(
            None if index in schema.key else special_of(kind, is_mariadb=is_mariadb)
            for index, kind in zip(wanted, kinds, strict=True)
        ),
        tuple(
            place
            for place, (index, kind) in enumerate(zip(wanted, kinds, strict=True))
            if has_no_label(kind) and index not in schema.key
        ),
    )
    return Fit(layout, wanted, schema.key, key_is_primary and not table.unique, key_is_primary)
