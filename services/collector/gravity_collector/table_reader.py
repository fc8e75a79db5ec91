"""The SELECT statements over one table, and what becomes of their answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gravity.batch import TableSchema, Value
from gravity.column import ColumnType
from gravity.whole_row import ROWS_MAX
from gravity_collector.charset import tells_keys_apart
from gravity_collector.chunk import Chunk, Key
from gravity_collector.text_rows import RawColumn, texts

Column = Sequence[Value]


def quoted(name: str) -> str:
    """An identifier for SQL."""
    return "`" + name.replace("`", "``") + "`"


class TableReader:
    """The statements for one shape of a table. `literal` quotes a string; `where` chooses rows."""

    def __init__(self, schema: TableSchema, literal: Callable[[str], str], where: str = "") -> None:
        self.schema = schema
        self._literal = literal
        # On lines of its own, so that a comment at its end ends there.
        self._chosen = [f"(\n{where}\n)"] if where else []
        types = [ColumnType.parse(column.type) for column in schema.columns]
        names = [quoted(column.name) for column in schema.columns]
        self._types = types
        self._convert = [kind.cell_reader() for kind in types]
        self._columns = ", ".join(
            kind.select_expression(name) for kind, name in zip(types, names, strict=True)
        )
        self._from = f"{quoted(schema.database)}.{quoted(schema.table)}"
        self._key = [(names[index], types[index]) for index in schema.key]
        self._legacy_keys = [
            (names[index], charset)
            for index in schema.key
            if (charset := schema.columns[index].charset) and not tells_keys_apart(charset)
        ]
        self._key_columns = ", ".join(
            types[index].select_expression(names[index]) for index in schema.key
        )
        self._order = ", ".join(name for name, _ in self._key)

    @property
    def width(self) -> int:
        """How many columns the rows have."""
        return len(self._types)

    def ambiguous_keys(self) -> str | None:
        """The query that finds a key whose text would not tell it from another; None = there is no such key.

        Some characters of older sets have no Unicode, and some two have one; the order of chunks and
        every target go by that text.
        """
        names = [
            f"BINARY {name} <> BINARY CONVERT(CONVERT({name} USING utf8mb4) USING {charset})"
            for name, charset in self._legacy_keys
        ]
        if not names:
            return None
        return f"SELECT {self._key_columns} FROM {self._from} WHERE {' OR '.join(names)} LIMIT 1"

    def bound(self, after: Key | None, rows: int) -> str:
        """The key of the row that is `rows` rows behind `after`, of those that are chosen."""
        return (
            f"SELECT {self._key_columns} FROM {self._from}{self._where(after, None)}"
            f" ORDER BY {self._order} LIMIT {rows - 1}, 1"
        )

    def rows(self, chunk: Chunk) -> str:
        """The chunk's rows in key order; of a table without a key all of them, and one more than there may be."""
        where = self._where(chunk.after, chunk.through)
        end = f"ORDER BY {self._order}" if self._key else f"LIMIT {ROWS_MAX + 1}"
        return f"SELECT {self._columns} FROM {self._from}{where} {end}"

    def key_of(self, found: Sequence[RawColumn]) -> Key | None:
        """The key that `bound` found; None when there was no such row."""
        columns = [
            self._cells(index, cells) for index, cells in zip(self.schema.key, found, strict=True)
        ]
        return tuple(column[0] for column in columns) if columns[0] else None

    def columns(self, found: Sequence[RawColumn]) -> list[Column]:
        """Cells a column, from what the server sent. Raises UnicodeDecodeError for what is no text."""
        return [self._cells(index, cells) for index, cells in enumerate(found)]

    def _cells(self, index: int, raw: RawColumn) -> Column:
        read = self._convert[index]
        if read is int or read is float:
            if None in raw:
                return [None if cell is None else read(cell) for cell in raw]
            return list(map(read, raw))  # type: ignore[arg-type]
        cells: Column = raw if self._types[index].kind == "bytes" else texts(raw)
        if read is None:
            return cells
        return [None if cell is None else read(cell) for cell in cells]  # type: ignore[arg-type]

    def _where(self, after: Key | None, through: Key | None) -> str:
        bounds = []
        if after is not None:
            bounds.append(self._compare(after, ">", or_equal=False))
        if through is not None:
            bounds.append(self._compare(through, "<", or_equal=True))
        all_parts = [*bounds, *self._chosen]
        return f" WHERE {' AND '.join(all_parts)}" if all_parts else ""

    def _compare(self, key: Key, sign: str, *, or_equal: bool) -> str:
        """`(k1, k2) > (…)` spelt out: servers use no index for comparisons of rows."""
        literals = [self._value(cell, kind) for cell, (_, kind) in zip(key, self._key, strict=True)]
        names = [name for name, _ in self._key]
        terms = []
        for depth, (name, literal) in enumerate(zip(names, literals, strict=True)):
            is_last = depth + 1 == len(names)
            equal = [f"{n} = {v}" for n, v in zip(names[:depth], literals[:depth], strict=True)]
            terms.append(
                " AND ".join(
                    [*equal, f"{name} {sign}{'=' if is_last and or_equal else ''} {literal}"]
                )
            )
        condition = " OR ".join(f"({term})" for term in terms)
        # The first column's bound alone lets the server use the index.
        return (
            f"({names[0]} {sign}= {literals[0]} AND ({condition}))"
            if len(names) > 1
            else f"({condition})"
        )

    def _value(self, cell: Value, kind: ColumnType) -> str:
        """A key's cell as SQL that compares as the column is sorted."""
        if isinstance(cell, bytes):
            return f"x'{cell.hex()}'"
        if kind.name == "enum":
            # Sorted by number, and compared with one by number; compared with text it would be by text.
            return str(kind.labels.index(str(cell)) + 1 if cell in kind.labels else 0)
        if kind.name == "set":
            chosen = str(cell).split(",") if cell else []
            return str(sum(1 << kind.labels.index(label) for label in chosen))
        if kind.name == "decimal" or not isinstance(cell, str):
            # As text a decimal would be compared as a double.
            return str(cell) if not isinstance(cell, float) else repr(cell)
        return self._literal(cell)
