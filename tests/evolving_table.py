"""A source's table that changes its shape while its rows change; what a target must hold in the end.

It knows nothing of how targets follow: rows are dictionaries, and every change is applied to all of
them at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gravity.batch import Column, TableSchema, Value
from gravity.key import key_partitions
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, TableAction
from gravity.testing.target_log import Change, Message, TargetLog, change_of

PARTITIONS = 2
NamedRows = dict[str, dict[str, str | None]]
"""Key → column → cell as text."""

_WIDER = {"int": "bigint", "varchar(20)": "varchar(40)", "bigint": "bigint", "varchar(40)": "text"}


def text_column(name: str, kind: str) -> Column:
    is_text = kind.startswith(("varchar", "text", "enum"))
    charset, collation = ("utf8mb4", "utf8mb4_bin") if is_text else (None, None)
    return Column(name, kind, nullable=True, charset=charset, collation=collation)


@dataclass
class EvolvingTable:
    """The table, and the two partitions of the target topic that its changes lead to."""

    name: str
    draw: random.Random
    columns: list[Column] = field(default_factory=list)
    rows: dict[int, dict[str, Value]] = field(default_factory=dict)
    topics: list[list[Message]] = field(default_factory=lambda: [[] for _ in range(PARTITIONS)])
    logs: list[TargetLog] = field(
        default_factory=lambda: [TargetLog(seq=0) for _ in range(PARTITIONS)]
    )
    seq: int = 0
    next_value: int = 0

    def __post_init__(self) -> None:
        self.columns = [text_column("a", "int"), text_column("b", "varchar(20)")]

    @property
    def schema(self) -> TableSchema:
        database, _, table = self.name.partition(".")
        key = Column("id", "int", nullable=False)
        return TableSchema(database, table, (key, *self.columns), (0,))

    def expected(self) -> NamedRows:
        def text(value: Value) -> str | None:
            return None if value is None else str(value)

        return {str(k): {n: text(v) for n, v in row.items()} for k, row in self.rows.items()}

    # ------------------------------------------------------------------ rows

    def _cell(self, column: Column) -> Value:
        self.next_value += 1
        if self.draw.random() < 0.2:
            return None
        if column.type == "bigint":
            return 10_000_000_000 + self.next_value
        return self.next_value if column.type == "int" else f"t{self.next_value}"

    def change_rows(self) -> None:
        changes: list[Change] = []
        for _ in range(self.draw.randint(1, 4)):
            key = self.draw.randrange(8)
            row = {column.name: self._cell(column) for column in self.columns}
            if key in self.rows and self.draw.random() < 0.4:
                changes.append(("D", (key, *self.rows.pop(key).values())))
            else:
                changes.append(("U" if key in self.rows else "I", (key, *row.values())))
                self.rows[key] = row
        self._send(changes)

    def _read_again(self) -> None:
        self._send([("R", (key, *row.values())) for key, row in self.rows.items()])

    def _send(self, changes: list[Change]) -> None:
        if not changes:
            return
        self.seq += 1
        homes = key_partitions(self.name, [[row[0] for _, row in changes]], PARTITIONS)
        for q, log in enumerate(self.logs):
            ours = [change for change, home in zip(changes, homes, strict=True) if home == q]
            if ours:
                log.seq = self.seq
                self.topics[q].append(log.rows(self.schema, ours))

    # ------------------------------------------------------------------ shape

    def _say(
        self, action: TableAction, *columns: ColumnChange, rows: RowsAfter = RowsAfter.KEPT
    ) -> None:
        self.seq += 1
        change = change_of(self.name, action, *columns, rows=rows, number=self.seq)
        for topic, log in zip(self.topics, self.logs, strict=True):
            log.seq = self.seq
            topic.append(log.schema_change(change, partitions=(0, PARTITIONS - 1)))

    def _replace(self, columns: list[Column], row: Callable[[dict[str, Value]], None]) -> None:
        self.columns = columns
        for cells in self.rows.values():
            row(cells)
            ordered = {column.name: cells[column.name] for column in columns}
            cells.clear()
            cells.update(ordered)

    def _free(self) -> str | None:
        used = {column.name for column in self.columns}
        free = [name for name in ("a", "b", "c", "d") if name not in used]
        return self.draw.choice(free) if free else None

    def add(self) -> None:
        name = self._free()
        if name is None:
            return
        column = text_column(name, self.draw.choice(["int", "varchar(20)"]))
        filled = self.draw.random() < 0.5
        value: Value = (7 if column.type == "int" else "it's") if filled else None
        self._replace([*self.columns, column], lambda cells: cells.update({name: value}))
        item = ColumnChange(
            ColumnAction.ADD, name, column=column, default=None if value is None else str(value)
        )
        self._say(TableAction.ALTER, item, rows=RowsAfter.FILLED if filled else RowsAfter.KEPT)

    def drop(self) -> None:
        if len(self.columns) < 2:
            return
        gone = self.draw.choice(self.columns)
        left = [column for column in self.columns if column is not gone]
        self._replace(left, lambda cells: cells.pop(gone.name) and None)
        self._say(TableAction.ALTER, ColumnChange(ColumnAction.DROP, gone.name))

    def drop_and_add(self) -> None:
        """One statement that drops a column and adds another under its name."""
        gone = self.draw.choice(self.columns)
        fresh = text_column(gone.name, self.draw.choice(["int", "varchar(20)"]))
        left = [column for column in self.columns if column is not gone]
        self._replace([*left, fresh], lambda cells: cells.update({gone.name: None}))
        self._say(
            TableAction.ALTER,
            ColumnChange(ColumnAction.DROP, gone.name),
            ColumnChange(ColumnAction.ADD, gone.name, column=fresh),
        )

    def rename(self) -> None:
        name = self._free()
        if name is None:
            return
        old = self.draw.choice(self.columns)
        renamed = [replace(c, name=name) if c is old else c for c in self.columns]
        self._replace(renamed, lambda cells: cells.update({name: cells[old.name]}))
        self._say(TableAction.ALTER, ColumnChange(ColumnAction.RENAME, old.name, name))

    def drop_and_rename(self) -> None:
        """One statement that drops a column, renames a second to its name and adds a third anew."""
        if len(self.columns) < 2:
            return
        gone, moved = self.draw.sample(self.columns, 2)
        fresh = text_column(moved.name, "int")
        stay = [c for c in self.columns if c not in (gone, moved)]
        self._replace(
            [*stay, replace(moved, name=gone.name), fresh],
            lambda cells: cells.update({gone.name: cells[moved.name], moved.name: 7}),
        )
        self._say(
            TableAction.ALTER,
            ColumnChange(ColumnAction.DROP, gone.name),
            ColumnChange(ColumnAction.RENAME, moved.name, gone.name),
            ColumnChange(ColumnAction.ADD, moved.name, column=fresh, default="7"),
            rows=RowsAfter.FILLED,
        )

    def swap(self) -> None:
        """One statement that gives two columns each other's names."""
        if len(self.columns) < 2:
            return
        one, other = self.draw.sample(self.columns, 2)
        names = {one.name: other.name, other.name: one.name}
        swapped = [replace(c, name=names.get(c.name, c.name)) for c in self.columns]
        self._replace(
            swapped, lambda cells: cells.update({new: cells[old] for old, new in names.items()})
        )
        items = [ColumnChange(ColumnAction.RENAME, old, new) for old, new in names.items()]
        self._say(TableAction.ALTER, *items)

    def widen(self) -> None:
        old = self.draw.choice(self.columns)
        if old.type not in _WIDER:
            return
        wider = replace(old, type=_WIDER[old.type])
        self.columns = [wider if c is old else c for c in self.columns]
        item = ColumnChange(ColumnAction.MODIFY, old.name, column=wider)
        self._say(TableAction.ALTER, item)

    def convert(self) -> None:
        """Numbers become texts: the values are read again, in pieces, while rows go on changing."""
        old = self.draw.choice(self.columns)
        if old.type not in ("int", "bigint"):
            return
        fresh = text_column(old.name, "varchar(20)")

        def turn(cells: dict[str, Value]) -> None:
            value = cells[old.name]
            cells[old.name] = None if value is None else str(value)

        self._replace([fresh if c is old else c for c in self.columns], turn)
        item = ColumnChange(ColumnAction.MODIFY, old.name, column=fresh)
        self._say(TableAction.ALTER, item, rows=RowsAfter.REREAD)
        self.change_rows()
        self._read_again()

    def truncate(self) -> None:
        self.rows.clear()
        self._say(TableAction.TRUNCATE)

    def drop_table(self) -> None:
        self.rows.clear()
        self._say(TableAction.DROP)
        kinds = ["int", "varchar(20)"]
        self.columns = [text_column(name, self.draw.choice(kinds)) for name in ("a", "c")]
        self._say(TableAction.CREATE)

    def live(self, steps: int, *, swaps: bool = True) -> None:
        """Many changes of all kinds; rows at the end, so that the table is there."""
        self.change_rows()
        shapes = [
            self.add, self.add, self.drop, self.drop_and_add, self.drop_and_rename, self.rename, self.rename,
            self.widen, self.convert, self.truncate, self.drop_table,
        ]  # fmt: skip
        if swaps:
            shapes.append(self.swap)
        for _ in range(steps):
            if self.draw.random() < 0.5:
                self.change_rows()
            else:
                self.draw.choice(shapes)()
        self.change_rows()
