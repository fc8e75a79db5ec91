"""What the lanes of a target with tables do about their shape: the product's followers over tables in memory."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from gravity.batch import ChangeBatch, Column
from gravity.codec import decode_batch
from gravity.errors import TransientError
from gravity.evolution import Alteration, default_value
from gravity.header import RoutedHeader, TargetHeader
from gravity.joined_follower import JoinedFollower
from gravity.schema_change import ColumnAction, SchemaChange
from gravity.schema_follower import (
    Ahead,
    Fitness,
    Follower,
    RealColumn,
    Shape,
    Stage,
    columns_after,
    has_rows_to_delete,
    leaves,
    means_nothing,
)
from gravity.sink import Admitted

if TYPE_CHECKING:
    from .world import World

Value = tuple[Any, ...]
"""A row without its key: amount, stamp and, once the table has it, extra."""
NARROW_ROW = 2
EXTRA = "extra"
DEATHS = 0.2
"""How often a sink dies at a step of an alteration."""


class ViolationError(Exception):
    """The protocol broke a law."""


class DieError(Exception):
    """os._exit of the process: fenced, refused, or a failure."""


@dataclass
class Tables:
    """The shapes of a target's tables, and what its lanes have recorded about them."""

    there: set[str] = field(default_factory=set)
    thirds: dict[str, RealColumn] = field(default_factory=dict)
    """Tables that have a third column, and that."""
    defaults: dict[str, Any] = field(default_factory=dict)
    """What rows have in it of which nothing was said."""
    records: dict[str, Alteration] = field(default_factory=dict)

    def fitted(self, table: str, value: Value, before: Value | None = None) -> Value:
        """A row as the table stores it; `before` is what it holds where that is written over in part."""
        if len(value) == NARROW_ROW and table in self.thirds:
            kept = self.defaults[table] if before is None else before[NARROW_ROW]
            return (*value, kept)
        return value


def is_wider(column: Column, real: RealColumn) -> bool:
    """Whether a column has values that a target's has no room for."""
    return (real.type, column.type) == ("int", "bigint")


class Store(ABC):
    """A target that has tables."""

    def __init__(self) -> None:
        self.tables = Tables()

    @abstractmethod
    def reshape(self, table: str, change: Callable[[Value], Value]) -> None:
        """Gives every row of a table the shape that `change` gives it."""

    def make_ready(self, table: str, third: Column | None) -> None:
        """Makes the table, and the column, that a row wants; nothing says then what older rows have in it."""
        self.tables.there.add(table)
        real = self.tables.thirds.get(table)
        if third is None:
            return
        if real is None:
            self.add(table, third.name, third.type, None)
        elif real.name != third.name or is_wider(third, real):
            raise ViolationError(
                f"{table} has no {third.name} {third.type}, but {real.name} {real.type}"
            )

    def add(self, table: str, name: str, kind: str, default: Any) -> None:
        """ALTER TABLE … ADD COLUMN."""
        if table in self.tables.thirds:
            raise ViolationError(f"duplicate column of {table}")
        self.tables.thirds[table] = RealColumn(name, kind, nullable=True, in_key=False)
        self.tables.defaults[table] = default
        self.reshape(table, lambda value: (*value, default))

    def change(self, table: str, word: str, name: str, *more: Any) -> None:
        """ALTER TABLE of one column."""
        if word == "add":
            self.add(table, name, *more)
            return
        real = self.tables.thirds.get(table)
        if real is None or real.name != name:
            raise ViolationError(f"{table}: no column {name} to {word}")
        if word == "drop":
            del self.tables.thirds[table]
            self.reshape(table, lambda value: value[:NARROW_ROW])
        else:
            changed = {"name": more[0]} if word == "rename" else {"type": more[0]}
            self.tables.thirds[table] = replace(real, **changed)


class Lane:
    """One lane's view of its target's tables: what `gravity.schema_follower` asks for, and who asks it."""

    def __init__(
        self,
        world: World,
        target: str,
        part: int,
        store: Store,
        owns: Callable[[], bool],
    ) -> None:
        """`owns`: whether statements are let through."""
        self.world, self.target, self.store, self.tables = world, target, store, store.tables
        self.owns = owns
        self.ahead = Ahead()
        self.follower = Follower(target, part, "apply", self, may_alter=True)
        self.joined = JoinedFollower(target, "apply", self, may_alter=True)

    # ------------------------------------------------------------------ what a sink does

    def present(self, header: TargetHeader, value: bytes, offset: int) -> ChangeBatch:
        """A message's rows as they go into the table now. Raises TransientError while it is altered."""
        batch = decode_batch(value)
        if not self.ahead.known:
            self.ahead.learn(list(self.tables.records.values()))
        if self.world.broken == "no-wait-for-alter":
            return batch
        try:
            found = self.ahead.present(Admitted(header, offset, value, batch), self.target)
        except TransientError:
            self.ahead.forget()
            raise
        assert found is not None, "no table is dropped here"
        return found

    def is_current(self) -> bool:
        """Whether no alteration was recorded since rows were fitted; else they are fitted anew."""
        current = self.ahead.is_all(len(self.tables.records))
        if not current:
            self.ahead.forget()
        return current

    def follow(self, change: SchemaChange, header: TargetHeader) -> None:
        """Makes the table as the change wants it. Raises TransientError while another lane is at it."""
        if means_nothing(change):
            return
        if self.world.broken == "moved-again":
            self.follower._move = self._move_again  # type: ignore[method-assign]
        (self.follower if change.source else self.joined).follow(change, header)
        self.ahead.forget()

    def _move_again(self, planned: Alteration, shape: Shape) -> None:
        """What the follower does, without a look at what has been done."""
        del shape
        self.run([stage.statement for stage in self.first_part(planned)])

    def empties(self, routed: RoutedHeader) -> bool:
        """Whether a TRUNCATE finds rows. Raises TransientError while the table is altered."""
        return has_rows_to_delete(self, routed, self.target, "apply")

    # ------------------------------------------------------------------ what the followers ask for

    def alterations(self, table: str) -> Sequence[Alteration]:
        return [item for item in self.tables.records.values() if item.table == table]

    def origins(self, table: str) -> Sequence[str]:
        return [table]

    def shape(self, table: str) -> Shape | None:
        if table.removeprefix("app.") not in self.tables.there:
            return None
        names = ("k", "amount", "stamp")
        third = self.tables.thirds.get(table.removeprefix("app."))
        shape = [RealColumn(name, "int", nullable=True, in_key=name == "k") for name in names]
        return shape if third is None else [*shape, third]

    def judge(self, real: RealColumn, column: Column) -> Fitness:
        return "widen" if is_wider(column, real) else "fits"

    def claim(self, alteration: Alteration) -> Alteration:
        self.may_die()
        found = self.tables.records.setdefault(alteration.change_id, alteration)
        self.may_die()
        return found

    def record(self, alteration: Alteration) -> None:
        self.may_die()
        if not self.owns():
            raise DieError("not the owner any more")
        # Of a change's records the one of the latest stage counts, whoever is late with another.
        if alteration.stage >= self.tables.records[alteration.change_id].stage:
            self.tables.records[alteration.change_id] = alteration

    def refuse(self, alteration: Alteration, shape: Shape) -> None:
        del alteration, shape

    def first_part(self, alteration: Alteration) -> list[Stage]:
        found = []
        for step in alteration.steps:
            if step.name in alteration.before and (leaves(step) or step.new_name):
                what = ("drop", step.name) if leaves(step) else ("rename", step.name, step.new_name)
                after = columns_after(alteration.before, alteration.steps)
                found.append(Stage(f"ALTER {alteration.table} {what!r}", after))
        return found

    def second_part(self, alteration: Alteration, shape: Shape) -> list[str]:
        there = {real.name: real for real in shape}
        found: list[tuple[Any, ...]] = []
        for step in alteration.steps:
            if step.column is None:
                continue
            if step.action is ColumnAction.ADD and step.name not in there:
                default = default_value(step.column, step.default)
                found.append(("add", step.name, step.column.type, default))
            elif step.action is ColumnAction.MODIFY and step.name in there:
                # It is planned only where the column is to be made wider.
                found.append(("modify", step.name, step.column.type))
        return [f"ALTER {alteration.table} {what!r}" for what in found]

    def drop(self, table: str) -> list[str]:
        raise AssertionError(table)

    def run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self.may_die()
            if not self.owns():
                raise DieError("not the owner any more")
            _, table, what = statement.split(" ", 2)
            self.store.change(table.removeprefix("app."), *literal_eval(what))

    @contextlib.contextmanager
    def lock(self, table: str) -> Iterator[None]:
        del table
        yield

    def say(self, table: str, column: str, *, gone: bool, seq: int) -> None:
        del table, column, gone, seq

    def gone_in(self, table: str, column: str) -> set[int]:
        del table, column
        return set()

    def may_die(self) -> None:
        """A crash in the middle of an alteration."""
        if self.world.faults and self.world.rng.random() < DEATHS:
            raise DieError("killed while altering")
