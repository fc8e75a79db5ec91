"""What a statement did to the shape of one source table, as it travels among the rows. Pure.

A statement that touches several tables travels as one message for each. A table that is renamed is
dropped under the old name and created under the new one, with its rows read again: a target then needs
no second name, and it makes no difference which of the two names is read at all.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

from gravity.batch import Column
from gravity.codec import decode_record, encode_record
from gravity.errors import FormatError


class TableAction(StrEnum):
    """What became of the table."""

    CREATE = "create"
    ALTER = "alter"
    DROP = "drop"
    TRUNCATE = "truncate"
    """All its rows are gone; its shape is as it was."""


class ColumnAction(StrEnum):
    """What became of a column."""

    ADD = "add"
    DROP = "drop"
    RENAME = "rename"
    MODIFY = "modify"


class RowsAfter(StrEnum):
    """What became of the rows that were there."""

    KEPT = "kept"
    """They have the values they had; columns added are NULL in them."""
    FILLED = "filled"
    """The same, but columns added hold their `default`."""
    REREAD = "reread"
    """Their values may have changed, and the source said nothing about it: snapshot reads of all rows follow."""


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """What the statement did to one column."""

    action: ColumnAction
    name: str
    """Before the statement; of an added column: its name."""
    new_name: str = ""
    """After it, where that differs (RENAME, or MODIFY by CHANGE COLUMN)."""
    column: Column | None = None
    """As it is now, where the statement says so."""
    default: str | None = None
    """Its default as a cell's text, as gravity.column has it; None: NULL, or none."""
    after: str | None = None
    """The column it was put behind; `""` = it comes first; None = nothing was said of its place."""


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """One statement's effect on one table. Named by (source, position, index)."""

    source: str
    database: str
    table: str
    action: TableAction
    statement: str
    default_database: str
    """Of the session that ran the statement."""
    gtid: str
    position: str
    """epoch:file:offset:row of the statement."""
    ets: int
    index: int = 0
    """Number of this effect among those of the statement."""
    columns: tuple[ColumnChange, ...] = ()
    """In the order in which they take effect."""
    rows: RowsAfter = RowsAfter.KEPT
    key: tuple[str, ...] = ()
    """The primary key's columns after the statement, where it changed them; empty = it did not."""

    @property
    def change_id(self) -> str:
        """What tells this effect from every other of all sources."""
        return f"{self.source}/{self.position}/{self.index}"

    def encode(self) -> bytes:
        """The value of a message of kind `schema` (schemas/schema_change.avsc)."""
        record = asdict(self)
        record["database"], record["table_database"] = self.default_database, self.database
        del record["default_database"]
        return encode_record("schema_change", record)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """The change that `encode` gave `value` for; of format 1, only its statement is known.

        Raises FormatError for damaged or newer values.
        """
        record: dict[str, Any] = decode_record("schema_change", value)
        try:
            columns = tuple(_column_change(item) for item in record["columns"])
            return cls(
                record["source"],
                record["table_database"],
                record["table"],
                TableAction(record["action"]),
                record["statement"],
                record["database"],
                record["gtid"],
                record["position"],
                record["ets"],
                record["index"],
                columns,
                RowsAfter(record["rows"]),
                tuple(record["key"]),
            )
        except ValueError as error:
            raise FormatError(f"a damaged schema_change message: {error}") from error


def _column_change(record: dict[str, Any]) -> ColumnChange:
    column = record["column"]
    return ColumnChange(
        ColumnAction(record["action"]),
        record["name"],
        record["new_name"],
        None if column is None else Column(**column),
        record["default"],
        record["after"],
    )
