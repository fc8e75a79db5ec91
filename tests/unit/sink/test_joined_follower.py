"""The shape that several sources come to, at a target in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from gravity.batch import Column
from gravity.errors import FatalError, SchemaConflictError
from gravity.evolution import Alteration, Policy
from gravity.header import TargetHeader
from gravity.joined_follower import JoinedFollower
from gravity.schema_change import ColumnAction, ColumnChange, SchemaChange, TableAction
from gravity.schema_follower import Fitness, RealColumn, Shape, Stage
from gravity.testing.target_log import TargetLog, change_of
from tests.evolving_table import text_column

TABLE = "shop.users"


@dataclass
class MemoryTarget:
    """A table's columns; its statements are words. One partition's view of what all of them said."""

    partition: int = 0
    columns: dict[str, RealColumn] = field(default_factory=dict)
    said: dict[tuple[str, int], bool] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    locked: bool = False

    @contextmanager
    def lock(self, table: str) -> Iterator[None]:
        assert table == TABLE
        self.locked = True
        yield
        self.locked = False

    def say(self, table: str, column: str, *, gone: bool, seq: int) -> None:
        assert (table, self.locked) == (TABLE, True)
        assert seq > 0
        self.said[column, self.partition] = gone

    def gone_in(self, table: str, column: str) -> set[int]:
        assert table == TABLE
        return {q for (name, q), gone in self.said.items() if name == column and gone}

    def shape(self, table: str) -> Shape | None:
        assert table == TABLE
        return list(self.columns.values()) or None

    def judge(self, real: RealColumn, column: Column) -> Fitness:
        if real.type == column.type:
            return "fits"
        return "widen" if (real.type, column.type) == ("int", "bigint") else "convert"

    def first_part(self, alteration: Alteration) -> list[Stage]:
        drops = [s.name for s in alteration.steps if s.action is ColumnAction.DROP]
        return [Stage(f"drop {name}", ()) for name in drops]

    def second_part(self, alteration: Alteration, shape: Shape) -> list[str]:
        assert self.columns
        words = {ColumnAction.ADD: "add", ColumnAction.MODIFY: "modify"}
        return [
            f"{words[step.action]} {step.name} {step.column.type}"
            for step in alteration.steps
            if step.column is not None and len(shape) <= len(self.columns)
        ]

    def drop(self, table: str) -> list[str]:
        return [f"drop-table {table}"]

    def run(self, statements: Sequence[str]) -> None:
        assert self.locked
        for statement in statements:
            self.ran.append(statement)
            word, name, *kind = statement.split(" ", 2)
            if word == "drop":
                del self.columns[name]
            elif word == "drop-table":
                self.columns.clear()
            else:
                self.columns[name] = RealColumn(name, kind[0], nullable=True, in_key=False)

    # A joined change needs no record of its own: what it does is said column by column.

    def refuse(self, alteration: Alteration, shape: Shape) -> None:
        raise AssertionError((alteration, shape))

    def alterations(self, table: str) -> Sequence[Alteration]:
        raise AssertionError(table)

    def origins(self, table: str) -> Sequence[str]:
        raise AssertionError(table)

    def claim(self, alteration: Alteration) -> Alteration:
        raise AssertionError(alteration)

    def record(self, alteration: Alteration) -> None:
        raise AssertionError(alteration)


def there() -> MemoryTarget:
    key = RealColumn("id", "int", nullable=False, in_key=True)
    x = RealColumn("x", "int", nullable=True, in_key=False)
    return MemoryTarget(columns={"id": key, "x": x})


def follow(
    target: MemoryTarget,
    action: TableAction,
    *items: ColumnChange,
    partition: int = 0,
    policy: Policy = "apply",
    may_alter: bool = True,
    key: tuple[str, ...] = (),
) -> None:
    target.partition = partition
    change: SchemaChange = replace(change_of(TABLE, action, *items, key=key), source="")
    headers, _ = TargetLog().schema_change(change, partitions=(0, 1))
    follower = JoinedFollower("t", policy, target, may_alter=may_alter)
    follower.follow(change, TargetHeader.from_kafka(headers))


DROP = ColumnChange(ColumnAction.DROP, "x")
ADD = ColumnChange(ColumnAction.ADD, "x", column=text_column("x", "int"))
ALTER = TableAction.ALTER


def test_a_column_goes_when_no_partition_writes_it() -> None:
    target = there()
    follow(target, ALTER, DROP, partition=1)
    assert target.ran == []
    follow(target, ALTER, DROP, partition=0)
    assert target.ran == ["drop x"]


def test_a_partition_that_is_ahead_and_has_it_again_keeps_it() -> None:
    target = there()
    follow(target, ALTER, DROP, partition=1)
    follow(target, ALTER, ADD, partition=1)
    follow(target, ALTER, DROP, partition=0)
    assert target.ran == []
    follow(target, ALTER, DROP, partition=1)
    assert target.ran == ["drop x"]


def test_a_table_goes_when_all_partitions_have_seen_it_go() -> None:
    target = there()
    follow(target, TableAction.DROP, partition=0)
    follow(target, TableAction.CREATE, partition=0)
    follow(target, TableAction.DROP, partition=1)
    assert target.ran == []
    follow(target, TableAction.DROP, partition=0)
    assert target.ran == [f"drop-table {TABLE}"]


def test_a_column_is_added_once_and_made_wider_where_a_source_needs_it() -> None:
    target = there()
    item = ColumnChange(ColumnAction.ADD, "y", column=text_column("y", "int"))
    for partition in (0, 1):
        follow(target, ALTER, item, partition=partition)
    wide = ColumnChange(ColumnAction.MODIFY, "y", column=text_column("y", "bigint"))
    follow(target, ALTER, wide)
    assert target.ran == ["add y int", "modify y bigint"]


def test_types_that_no_column_can_hold_halt_by_name() -> None:
    date = ColumnChange(ColumnAction.MODIFY, "x", column=text_column("x", "date"))
    with pytest.raises(
        SchemaConflictError, match="column x is date at one source, and int here"
    ) as told:
        follow(there(), ALTER, date)
    assert (told.value.column, told.value.type_here, told.value.type_there) == ("x", "date", "int")


@pytest.mark.parametrize("policy", ["additive", "ignore"])
def test_nothing_is_taken_away_where_the_policy_forbids_it(policy: Policy) -> None:
    target = there()
    for partition in (0, 1):
        follow(target, ALTER, DROP, partition=partition, policy=policy)
        follow(target, TableAction.DROP, partition=partition, policy=policy)
    assert target.ran == []


def test_stop_another_key_and_no_leave_to_alter_halt_by_name() -> None:
    with pytest.raises(FatalError, match="schema-evolution is `stop`"):
        follow(there(), ALTER, ADD, policy="stop")
    with pytest.raises(FatalError, match="primary key changed"):
        follow(there(), ALTER, key=("x",))
    item = ColumnChange(ColumnAction.ADD, "y", column=text_column("y", "int"))
    with pytest.raises(FatalError, match="create-tables is false") as caught:
        follow(there(), ALTER, item, may_alter=False)
    assert "add y int" in caught.value.remedy
