"""SQL for MySQL and MariaDB: values, rows, tables as text. Pure.

The text is for sessions as `writer.py` sets them up: character set utf8mb4, NO_BACKSLASH_ESCAPES (a
quote is escaped by doubling it, nothing else is special), time zone +00:00.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gravity.batch import REMOVES_ROW, ChangeBatch, Value

Row = tuple[Value, ...]
Key = Row
Special = Callable[[Sequence[Value]], list[str] | None]
"""SQL for each value of a column; None when plain literals do for all of them. See spelling.py."""

STATEMENT_ROWS_MAX = 1000
"""More rows in one statement bring nothing (speed): the server's work per row rules."""
STATEMENT_BYTES_MAX = 4 * 1024 * 1024
"""Largest statement, if the server's max_allowed_packet does not say less."""


def quote_name(name: str) -> str:
    """`name` as an identifier."""
    return "`" + name.replace("`", "``") + "`"


def quote_text(text: str) -> str:
    """`text` as a string literal."""
    return "'" + text.replace("'", "''") + "'"


def literal(value: Value) -> str:
    """One value as SQL."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return quote_text(value)
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    # repr of a float is the shortest text that reads back as the same float64.
    return repr(value)


def _column_texts(values: Sequence[Value], special: Special | None) -> tuple[str, Sequence[Value]]:
    """A printf directive and what to feed it: most columns need no work per value."""
    if special is not None and (found := special(values)) is not None:
        return "%s", found
    has_null = None in values
    first = next((value for value in values if value is not None), None)
    if isinstance(first, str):
        texts: Any = values
        if has_null:
            if "'" in "".join([text for text in texts if text is not None]):
                return "%s", [literal(value) for value in values]
            return "%s", ["NULL" if text is None else f"'{text}'" for text in texts]
        if "'" in "".join(texts):
            return "'%s'", [text.replace("'", "''") for text in texts]
        return "'%s'", values
    if isinstance(first, bytes) or first is None:
        return "%s", [literal(value) for value in values]
    # str() of a float is the shortest text that reads back as the same float64.
    return "%s", (["NULL" if value is None else value for value in values] if has_null else values)


def row_texts(rows: Sequence[Row], specials: Sequence[Special | None] = ()) -> list[str]:
    """Each row as `(v1,v2,…)`. A column's values are all of one Python type, or None.

    `specials` are by column; none at all = literals throughout.
    """
    if not rows:
        return []
    by_column = specials or [None] * len(rows[0])
    columns = [
        _column_texts(values, special)
        for values, special in zip(zip(*rows, strict=True), by_column, strict=True)
    ]
    template = "(" + ",".join(directive for directive, _ in columns) + ")"
    return [template % row for row in zip(*(values for _, values in columns), strict=True)]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where rows of one shape go: the target table and the columns that take their values."""

    table: str
    """Quoted, with its database."""
    columns: tuple[str, ...]
    """Names at the target, in the order of the rows."""
    key: tuple[str, ...]
    key_index: tuple[int, ...]
    """Where the key's columns stand in `columns`."""
    specials: tuple[Special | None, ...] = ()
    """How columns are written whose cells' text does not do; empty = there are none such."""
    unlabelled: tuple[int, ...] = ()
    """ENUM columns in which a cell '' means none of the labels."""

    def texts(self, rows: Sequence[Row]) -> list[str]:
        """Each row as `(v1,v2,…)`; `repairs` must follow."""
        return row_texts(rows, self.specials)

    def repairs(self, rows: Sequence[Row]) -> list[str]:
        """Statements that must follow when these rows have been written.

        A strict session takes "none of the labels" of an ENUM only under IGNORE, which would forgive
        everything else too; so it is applied to that column alone.
        """
        return [
            f"UPDATE IGNORE {self.table} SET {quote_name(self.columns[index])}=''"
            + self.where_keys([self.key_of(row) for row in wrong])
            for index in self.unlabelled
            if (wrong := [row for row in rows if row[index] == ""])
        ]

    def key_of(self, row: Row) -> Key:
        """The key of a row."""
        return tuple(row[index] for index in self.key_index)

    def insert(self) -> str:
        """`INSERT … VALUES `, to be followed by row texts."""
        names = ",".join(map(quote_name, self.columns))
        return f"INSERT INTO {self.table} ({names}) VALUES "

    def on_duplicate(self) -> str:
        """What makes an insert an upsert.

        Key columns are set as well: under a case-insensitive collation their spelling may change.
        """
        sets = ",".join(f"{n}=VALUES({n})" for n in map(quote_name, self.columns))
        return f" ON DUPLICATE KEY UPDATE {sets}"

    def where_keys(self, keys: Sequence[Key]) -> str:
        """`WHERE …` that finds exactly these keys, such that every server uses the key's index."""
        if len(self.key) == 1:
            texts = ",".join(literal(key[0]) for key in keys)
            return f" WHERE {quote_name(self.key[0])} IN ({texts})"
        names = [quote_name(name) for name in self.key]
        alternatives = (
            "(" + " AND ".join(f"{n}={literal(v)}" for n, v in zip(names, key, strict=True)) + ")"
            for key in keys
        )
        return " WHERE " + " OR ".join(alternatives)

    def delete(self, keys: Sequence[Key]) -> str:
        """The statement that removes these keys."""
        return f"DELETE FROM {self.table}{self.where_keys(keys)}"

    def lock_existing(self, keys: Sequence[Key]) -> str:
        """The query for those of these keys that the table holds, which locks their rows."""
        names = ",".join(map(quote_name, self.key))
        return f"SELECT {names} FROM {self.table}{self.where_keys(keys)} FOR UPDATE"

    def update(self, row: Row) -> str:
        """The statement that gives the row of `row`'s key its values."""
        specials = self.specials or [None] * len(row)
        sets = ",".join(
            f"{quote_name(name)}={text[0] if text else literal(value)}"
            for name, value, text in (
                (name, value, special and special([value]))
                for name, value, special in zip(self.columns, row, specials, strict=True)
            )
        )
        return f"UPDATE {self.table} SET {sets}{self.where_keys([self.key_of(row)])}"


@dataclass(slots=True)
class Final:
    """What remains of many changes of one table: for each key its last row, or that it is gone.

    Deletes first, then upserts, in any order, leave the table as the changes one by one would: also
    where the server holds two of our keys for one (collations), since at most one of them lives.
    """

    last: dict[Key | Value, tuple[int, int, Row | None]]
    """Key → (message, row in it, row image or None). Keys of one column stand without their tuple."""

    def removed(self) -> list[tuple[int, int, Key]]:
        """(message, row, key) of each key that is gone."""
        return [
            (message, row, key if isinstance(key, tuple) else (key,))
            for key, (message, row, image) in self.last.items()
            if image is None
        ]

    def upserted(self) -> tuple[list[tuple[int, int]], list[Row]]:
        """((message, row) and image of each key that lives."""
        alive = [entry for entry in self.last.values() if entry[2] is not None]
        return [(m, r) for m, r, _ in alive], [image for _, _, image in alive if image is not None]


def latest_per_key(
    batches: Iterable[tuple[int, ChangeBatch, Sequence[int]]], key_index: Sequence[int]
) -> Final:
    """The final state that `batches` lead to; each comes with its number and its columns to write.

    `key_index` says where the key's columns stand in the batch. All batches have one shape.
    """
    last: dict[Key | Value, tuple[int, int, Row | None]] = {}
    for number, batch, wanted in batches:
        images: Iterable[Row | None]
        if len(wanted) == len(batch.columns):
            images = batch.rows()
        else:
            images = zip(*(batch.columns[index] for index in wanted), strict=True)
        keys: Iterable[Key | Value]
        if len(key_index) == 1:
            keys = batch.columns[key_index[0]]
        else:
            keys = zip(*(batch.columns[index] for index in key_index), strict=True)
        if not REMOVES_ROW.isdisjoint(batch.ops):
            images = [
                None if op in REMOVES_ROW else image
                for op, image in zip(batch.ops, images, strict=True)
            ]
        count = len(batch)
        last.update(
            zip(keys, zip([number] * count, range(count), images, strict=True), strict=True)
        )
    return Final(last)


def spans(sizes: Sequence[int], *, rows_max: int, bytes_max: int) -> Iterator[tuple[int, int]]:
    """(start, end) of runs of items that keep both limits; an item beyond `bytes_max` stands alone."""
    start = size = 0
    for index, item in enumerate(sizes):
        if index > start and (index - start >= rows_max or size + item > bytes_max):
            yield start, index
            start, size = index, 0
        size += item
    if start < len(sizes):
        yield start, len(sizes)
