"""Changes of shape at a target in memory: whatever partition is ahead, it ends as the source is."""

from __future__ import annotations

import random
from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from gravity import schema_follower
from gravity.batch import REMOVES_ROW, Column, Value
from gravity.codec import decode_batch
from gravity.errors import FatalError, TransientError
from gravity.evolution import Alteration, Policy, adapt, default_value
from gravity.fault import FaultPoint
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.key import key_partitions
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, SchemaChange, TableAction
from gravity.schema_follower import (
    Ahead,
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
from gravity.testing.target_log import Message, TargetLog, change_of, table
from tests.evolving_table import PARTITIONS, EvolvingTable, text_column

TABLE = "shop.orders"


class KilledError(Exception):
    """Stands for SIGKILL."""


def judge(real: RealColumn, column: Column) -> Literal["fits", "widen", "convert"]:
    if real.type == column.type:
        return "fits"
    return "convert" if real.type in ("int", "bigint") and column.type != "bigint" else "widen"


@dataclass
class MemoryTarget:
    """A table as a dictionary. Its statements are names of its own methods with arguments."""

    columns: dict[str, RealColumn] | None = None
    defaults: dict[str, Value] = field(default_factory=dict)
    rows: dict[int, dict[str, Value]] = field(default_factory=dict)
    records: dict[str, Alteration] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    atomic: bool = True
    draw: random.Random | None = None
    """Kills between two statements."""
    source_tables: list[str] = field(default_factory=lambda: ["s1 shop.orders"])

    def alterations(self, name: str) -> Sequence[Alteration]:
        assert name == TABLE
        return list(self.records.values())

    def origins(self, name: str) -> Sequence[str]:
        assert name == TABLE
        return self.source_tables

    def shape(self, name: str) -> Shape | None:
        assert name == TABLE
        return None if self.columns is None else list(self.columns.values())

    def judge(self, real: RealColumn, column: Column) -> Literal["fits", "widen", "convert"]:
        return judge(real, column)

    def claim(self, alteration: Alteration) -> Alteration:
        return self.records.setdefault(alteration.change_id, alteration)

    def record(self, alteration: Alteration) -> None:
        self.records[alteration.change_id] = alteration

    def refuse(self, alteration: Alteration, shape: Shape) -> None:
        assert alteration.before == tuple(real.name for real in shape)

    def first_part(self, alteration: Alteration) -> list[Stage]:
        steps = [step for step in alteration.steps if step.name in alteration.before]
        gone = [f"drop {step.name}" for step in steps if leaves(step)]
        moved = [f"rename {s.name} {s.new_name}" for s in steps if s.new_name and not s.anew]
        if not gone and not moved:
            return []
        after = columns_after(alteration.before, alteration.steps)
        # All of it or nothing, as one ALTER TABLE; of two statements the first may be the last.
        if self.atomic or not gone or not moved:
            return [Stage("ALTER:" + ";".join([*gone, *moved]), after)]
        between = columns_after(alteration.before, [step for step in steps if leaves(step)])
        return [Stage("ALTER:" + ";".join(gone), between), Stage("ALTER:" + ";".join(moved), after)]

    def second_part(self, alteration: Alteration, shape: Shape) -> list[str]:
        there = {real.name: real for real in shape}
        wanted = []
        for step in alteration.steps:
            name, column = step.new_name or step.name, step.column
            if column is None or step.kept or step.action is ColumnAction.DROP:
                continue
            if name not in there:
                default = None if step.anew else default_value(column, step.default)
                wanted.append(f"ALTER:add {name} {column.type} {default!r}")
            elif step.action is ColumnAction.MODIFY and judge(there[name], column) != "fits":
                wanted.append(f"ALTER:modify {name} {column.type}")
        return wanted

    def drop(self, name: str) -> list[str]:
        assert name == TABLE
        return ["DROP TABLE:drop-table"]

    def run(self, statements: Sequence[str]) -> None:
        for statement in (text.partition(":")[2] for text in statements):
            if self.ran and self.draw is not None and self.draw.random() < 0.2:
                raise KilledError
            self.ran.append(statement)
            parts = [part.split(" ", 3) for part in statement.split(";")]
            for part in parts:
                if part[0] == "drop":
                    self._run_one(*part)
            self._rename({part[1]: part[2] for part in parts if part[0] == "rename"})
            for part in parts:
                if part[0] != "drop":
                    self._run_one(*part)

    def _rename(self, names: dict[str, str]) -> None:
        """All at once: names are those before the statement."""
        if names:
            assert self.columns is not None
            self.columns = {
                names.get(n, n): replace(c, name=names.get(n, n)) for n, c in self.columns.items()
            }
            self.defaults = {names.get(n, n): value for n, value in self.defaults.items()}
            for key, row in self.rows.items():
                self.rows[key] = {names.get(n, n): cell for n, cell in row.items()}

    def _run_one(self, word: str, *rest: str) -> None:
        if word == "drop-table":
            self.columns, self.rows, self.defaults = None, {}, {}
            return
        assert self.columns is not None
        name = rest[0]
        if word == "drop":
            del self.columns[name]
            del self.defaults[name]
            for row in self.rows.values():
                del row[name]
        elif word == "add":
            assert name not in self.columns
            self.columns[name] = RealColumn(name, rest[1], nullable=True, in_key=False)
            self.defaults[name] = literal_eval(rest[2])
            for row in self.rows.values():
                row[name] = self.defaults[name]
        elif word == "modify":
            self.columns[name] = replace(self.columns[name], type=rest[1])

    def write(self, batch: Any) -> None:
        """An upsert or a delete per row; columns that the rows lack keep what they have."""
        names = [column.name for column in batch.schema.columns]
        if self.columns is None:
            self.columns = {
                c.name: RealColumn(c.name, c.type, nullable=True, in_key=c.name == "id")
                for c in batch.schema.columns
            }
            self.defaults = dict.fromkeys(names)
        assert set(names) <= set(self.columns), "a column that the table does not have"
        for op, row in zip(batch.ops, batch.rows(), strict=True):
            cells = dict(zip(names, row, strict=True))
            key = cells["id"]
            if op in REMOVES_ROW:
                self.rows.pop(key, None)
            else:
                self.rows.setdefault(key, dict(self.defaults)).update(cells)


class MemoryLane:
    def __init__(self, target: MemoryTarget, partition: int, policy: Policy = "apply") -> None:
        self.target, self.partition, self.policy = target, partition, policy
        self.next = 0
        self.start()

    def start(self) -> None:
        self.follower = Follower("t", self.partition, self.policy, self.target, may_alter=True)

    def apply(self, message: Message) -> None:
        header, value = TargetHeader.from_kafka(message[0]), message[1]
        if header.routed.kind is RoutedKind.SCHEMA:
            self._follow(header, SchemaChange.decode(value))
        else:
            ahead = Ahead()
            ahead.learn(self.target.alterations(TABLE))
            admitted = Admitted(header, 0, value, decode_batch(value))
            batch = ahead.present(admitted, "here")
            if batch is not None:
                self.target.write(batch)
        self.next += 1

    def _follow(self, header: TargetHeader, change: SchemaChange) -> None:
        if change.action is TableAction.TRUNCATE:
            keys = list(self.target.rows)
            homes = key_partitions(TABLE, [keys], PARTITIONS)
            for key, home in zip(keys, homes, strict=True):
                if home == self.partition:
                    del self.target.rows[key]
        elif not means_nothing(change):
            self.follower.follow(change, header)


def walk(source: EvolvingTable, target: MemoryTarget, draw: random.Random) -> None:
    lanes = [MemoryLane(target, q) for q in range(PARTITIONS)]
    for _ in range(100_000):
        left = [lane for lane in lanes if lane.next < len(source.topics[lane.partition])]
        if not left:
            return
        lane = draw.choice(left)
        for _ in range(draw.randint(1, 12)):
            if lane.next == len(source.topics[lane.partition]):
                break
            try:
                lane.apply(source.topics[lane.partition][lane.next])
            except TransientError:
                break
            except KilledError:
                lane.start()
                break
    raise AssertionError("the lanes wait for each other")


@pytest.mark.parametrize("seed", range(150))
def test_any_interleaving_of_lanes_ends_as_the_source_is(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)

    def reach(_: FaultPoint) -> None:
        if draw.random() < 0.3:
            raise KilledError

    monkeypatch.setattr(schema_follower, "reach", reach)
    source = EvolvingTable(TABLE, draw)
    target = MemoryTarget(atomic=draw.random() < 0.5, draw=draw)
    source.live(40)
    walk(source, target, draw)
    got = {
        str(key): {
            name: None if cell is None else str(cell) for name, cell in row.items() if name != "id"
        }
        for key, row in target.rows.items()
    }
    assert got == source.expected()
    assert target.columns is not None
    assert set(target.columns) == {"id", *(column.name for column in source.columns)}


# ---------------------------------------------------------------------- one thing at a time

SCHEMA = table(TABLE, [("id", "int"), ("a", "int"), ("b", "varchar(20)")], ["id"])
ADD_C = ColumnChange(ColumnAction.ADD, "c", column=text_column("c", "int"), default="7")
DROP_A = ColumnChange(ColumnAction.DROP, "a")
TEXT_A = ColumnChange(ColumnAction.MODIFY, "a", column=text_column("a", "varchar(20)"))


def there() -> MemoryTarget:
    target = MemoryTarget()
    log = TargetLog()
    target.write(decode_batch(log.rows(SCHEMA, [("I", (1, 5, "x"))])[1]))
    return target


def follow(
    target: MemoryTarget,
    change: SchemaChange,
    policy: Policy = "apply",
    *,
    partition: int = 0,
    may_alter: bool = True,
) -> None:
    header = TargetHeader.from_kafka(TargetLog(seq=change.ets).schema_change(change)[0])
    Follower("t", partition, policy, target, may_alter=may_alter).follow(change, header)


def alter(
    *columns: ColumnChange, rows: RowsAfter = RowsAfter.KEPT, key: tuple[str, ...] = ()
) -> SchemaChange:
    return change_of(TABLE, TableAction.ALTER, *columns, rows=rows, key=key, number=5)


def test_a_change_is_made_once() -> None:
    target = there()
    for partition in (0, 1, 0):
        follow(target, alter(ADD_C, rows=RowsAfter.FILLED), partition=partition)
    assert target.ran == ["add c int 7"]
    assert target.rows[1]["c"] == 7


def test_whoever_meets_a_change_under_way_waits_and_its_owner_finishes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = there()

    def reach(_: FaultPoint) -> None:
        raise KilledError

    with monkeypatch.context() as context:
        context.setattr(schema_follower, "reach", reach)
        with pytest.raises(KilledError):
            follow(target, alter(ADD_C), partition=1)
    with pytest.raises(TransientError, match="partition 1 is altering"):
        follow(target, alter(ADD_C), partition=0)
    follow(target, alter(ADD_C), partition=1)
    follow(target, alter(ADD_C), partition=0)
    assert target.ran == ["add c int None"]


def test_additive_keeps_what_the_source_drops_and_leaves_it_null_from_then_on() -> None:
    target = there()
    follow(target, alter(DROP_A), "additive")
    follow(target, change_of(TABLE, TableAction.DROP, number=6), "additive")
    assert target.ran == []
    assert target.rows[1] == {"id": 1, "a": 5, "b": "x"}
    (record,) = target.records.values()
    assert record.steps[0].kept


def test_additive_refuses_to_convert_what_a_column_holds() -> None:
    with pytest.raises(FatalError, match="would lose its values"):
        follow(there(), alter(TEXT_A, rows=RowsAfter.REREAD), "additive")


def test_ignore_alters_nothing() -> None:
    target = there()
    follow(target, alter(DROP_A), "ignore")
    follow(target, change_of(TABLE, TableAction.DROP, number=6), "ignore")
    assert target.ran == []
    assert target.records == {}


def test_stop_halts_at_the_first_change_of_shape() -> None:
    with pytest.raises(FatalError, match="schema-evolution is `stop`"):
        follow(there(), alter(ADD_C), "stop")


def test_without_leave_to_alter_the_statement_is_named() -> None:
    with pytest.raises(FatalError, match="create-tables is false") as caught:
        follow(there(), alter(ADD_C), may_alter=False)
    assert "add c int" in caught.value.remedy
    target = there()
    target.run(["ALTER:add c int None"])
    follow(target, alter(ADD_C), may_alter=False)  # An operator has done it.


@pytest.mark.parametrize(
    "change", [alter(key=("id", "a")), alter(ColumnChange(ColumnAction.DROP, "id"))]
)
def test_another_primary_key_halts_by_name(change: SchemaChange) -> None:
    target = there()
    with pytest.raises(FatalError, match="primary key changed"):
        follow(target, change)
    assert target.records == {}


def test_a_key_whose_column_is_renamed_is_the_same_key() -> None:
    target = there()
    rename = ColumnChange(ColumnAction.RENAME, "id", "number")
    follow(target, alter(rename, key=("number",)))
    assert target.ran == ["rename id number"]


def shared() -> MemoryTarget:
    target = there()
    target.source_tables = ["s1 eu.orders", "s1 us.orders"]
    return target


def test_tables_of_one_source_that_share_one_add_a_column_each_and_drop_none() -> None:
    target = shared()
    wider = replace(ADD_C, column=text_column("c", "bigint"), default=None)
    for number, change in enumerate((ADD_C, ADD_C, wider, DROP_A), 5):
        done = change_of(TABLE, TableAction.ALTER, change, rows=RowsAfter.FILLED, number=number)
        follow(target, done)
    assert target.ran == ["add c int 7", "modify c bigint"]
    assert target.rows[1] == {"id": 1, "a": 5, "b": "x", "c": 7}
    dropped = target.records[max(target.records)]
    assert dropped.steps[0].kept, "rows of the one table have NULL in it from now on"
    # Rows of the other one, written after that, keep what they have.
    batch = decode_batch(TargetLog(seq=50).rows(SCHEMA, [("I", (2, 6, "y"))])[1])
    adapted = adapt(batch.schema, "s1", 50, target.records.values())
    assert adapted is not None
    assert adapted.schema == batch.schema


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (change_of(TABLE, TableAction.DROP, number=5), "its rows would have to go, and no others"),
        (alter(ColumnChange(ColumnAction.RENAME, "a", "z")), "column a has another name in others"),
        (alter(TEXT_A), "column a would be converted"),
        (alter(TEXT_A, rows=RowsAfter.REREAD), "column a would be converted"),
        (alter(replace(TEXT_A, action=ColumnAction.ADD)), "column a would be converted"),
    ],
    ids=["drop", "rename", "convert", "reread", "add"],
)
@pytest.mark.parametrize("policy", ["apply", "additive"])
def test_what_would_take_from_the_rows_of_others_halts(
    policy: Policy, change: SchemaChange, said: str
) -> None:
    target = shared()
    with pytest.raises(FatalError, match="several tables of a source share this one") as caught:
        follow(target, change, policy)
    assert said in caught.value.what
    assert target.ran == []
    assert target.records == {}
    follow(target, change, "ignore")
    assert target.rows[1] == {"id": 1, "a": 5, "b": "x"}


def test_a_truncate_of_one_of_several_never_empties_the_others() -> None:
    target = shared()
    routed = RoutedHeader(RoutedKind.SCHEMA, "s1", 9, table=TABLE)
    for policy in ("apply", "additive", "stop"):
        with pytest.raises(FatalError, match="TRUNCATE of one of several tables"):
            has_rows_to_delete(target, routed, "t", policy)
    assert not has_rows_to_delete(target, routed, "t", "ignore")
    target.source_tables = ["s1 eu.orders"]
    assert has_rows_to_delete(target, routed, "t", "ignore")


@pytest.mark.parametrize(
    "text", ["TRUNCATE orders", "/* x */ truncate table `o`", "-- a\nTRUNCATE t"]
)
def test_a_truncate_of_an_older_collector_is_never_passed_over(text: str) -> None:
    change = replace(change_of(TABLE, TableAction.ALTER), table="", statement=text)
    with pytest.raises(FatalError, match="TRUNCATE TABLE can't be applied"):
        means_nothing(change)


def test_alterations_survive_json() -> None:
    target = there()
    follow(target, alter(ADD_C, DROP_A, rows=RowsAfter.FILLED))
    (record,) = target.records.values()
    bare = replace(record, action=TableAction.DROP, steps=(), before=())
    assert bare.with_json(record.to_json()) == record


def test_rows_of_another_source_are_not_touched_by_its_changes() -> None:
    target = there()
    follow(target, alter(DROP_A))
    records = list(target.records.values())
    behind = adapt(SCHEMA, "s1", 4, records)
    assert behind is not None
    assert [column.name for column in behind.schema.columns] == ["id", "b"]
    for source, seq in (("s1", 6), ("s2", 4)):
        untouched = adapt(SCHEMA, source, seq, records)
        assert untouched is not None
        assert untouched.schema is SCHEMA
