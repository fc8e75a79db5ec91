"""Several sources that feed one table, and change its shape each as it likes; what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from gravity.batch import Column, TableSchema, Value
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, TableAction
from gravity.testing.routed_log import RoutedLog, RowChange
from tests.evolving_table import text_column
from tests.resolver_replica import SOURCES

NAME = "shop.users"
Row = dict[str, Value]


@dataclass
class Source:
    """One source's table, and the messages that its life has led to."""

    name: str
    draw: Random
    columns: list[str] = field(default_factory=lambda: ["x", "y"])
    rows: dict[int, Row] = field(default_factory=dict)
    ets: int = 0
    number: int = 0
    there: bool = True

    def __post_init__(self) -> None:
        self.log = RoutedLog(self.name)

    def schema(self) -> TableSchema:
        columns = [Column("id", "int", nullable=False)]
        columns += [self.column(name) for name in self.columns]
        return TableSchema("shop", "users", tuple(columns), (0,))

    def column(self, name: str) -> Column:
        return replace(text_column(name, "varchar(20)"), nullable=name != "y")

    def change_row(self, *, insert: bool = False) -> None:
        self.ets += self.draw.randint(0, 3)
        self.number += 1
        key = self.draw.randrange(4)
        if key in self.rows and not insert and self.draw.random() < 0.3:
            gone = self.rows.pop(key)
            change = RowChange("D", (key, *gone.values()), self.ets)
        else:
            row = {name: f"{self.name}{self.number}{name}" for name in self.columns}
            change = RowChange("U" if key in self.rows else "I", (key, *row.values()), self.ets)
            self.rows[key] = row
        self.log.rows(self.schema(), [change])

    def say(
        self,
        action: TableAction,
        *items: ColumnChange,
        filled: bool = False,
        key: tuple[str, ...] = (),
    ) -> None:
        self.ets += self.draw.randint(0, 3)
        rows = RowsAfter.FILLED if filled else RowsAfter.KEPT
        self.log.schema_change(NAME, action, *items, ets=self.ets, rows=rows, key=key)

    def add(self) -> None:
        free = [name for name in "xyz" if name not in self.columns]
        if not free:
            return
        name = self.draw.choice(free)
        filled = name == "y" or self.draw.random() < 0.5
        default = "d" if filled else None
        self.columns.append(name)
        for row in self.rows.values():
            row[name] = default
        column = self.column(name)
        self.say(
            TableAction.ALTER,
            ColumnChange(ColumnAction.ADD, name, column=column, default=default),
            filled=filled,
        )

    def drop(self) -> None:
        if self.columns:
            name = self.draw.choice(self.columns)
            self.columns.remove(name)
            for row in self.rows.values():
                del row[name]
            self.say(TableAction.ALTER, ColumnChange(ColumnAction.DROP, name))

    def rename(self) -> None:
        free = [name for name in "xz" if name not in self.columns]
        held = [name for name in self.columns if name != "y"]
        if not free or not held:
            return
        old, new = self.draw.choice(held), self.draw.choice(free)
        self.columns = [new if name == old else name for name in self.columns]
        for key, row in self.rows.items():
            self.rows[key] = {new if name == old else name: cell for name, cell in row.items()}
        self.say(TableAction.ALTER, ColumnChange(ColumnAction.RENAME, old, new))

    def truncate(self) -> None:
        self.rows.clear()
        self.say(TableAction.TRUNCATE)

    def drop_table(self) -> None:
        self.rows.clear()
        self.say(TableAction.DROP)
        self.columns = ["x"]
        items = [ColumnChange(ColumnAction.ADD, c.name, column=c) for c in self.schema().columns]
        self.say(TableAction.CREATE, *items, key=("id",))

    def live(self, steps: int) -> None:
        self.change_row(insert=True)
        for _ in range(steps):
            if self.draw.random() < 0.6:
                self.change_row()
            else:
                self.draw.choice(
                    [self.add, self.drop, self.rename, self.truncate, self.drop_table]
                )()
        self.change_row(insert=True)


def histories(seed: int) -> list[Source]:
    sources = [Source(name, Random(f"{seed}{name}")) for name in SOURCES]
    for source in sources:
        source.live(10)
    return sources


def expected(sources: Sequence[Source]) -> dict[int, Row]:
    """The best source's row, and what it has no column for from the next one that has the row."""
    found: dict[int, Row] = {}
    for key in {key for source in sources for key in source.rows}:
        row: Row = {}
        for source in sources:
            for name, cell in source.rows.get(key, {}).items():
                row.setdefault(name, cell)
        found[key] = {name: cell for name, cell in row.items() if cell is not None}
    return found
