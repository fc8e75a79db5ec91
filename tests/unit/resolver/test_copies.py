"""Equal rows of a table without a key: whatever is repeated or copied anew, as many arrive as there are."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from gravity_resolver.replica import PartitionState
from gravity_router.routing import route

from gravity.batch import DELETE, INSERT, READ, REMOVES_ROW, UPDATE, ChangeBatch, Transaction, Value
from gravity.codec import decode_batch, encode_batch
from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.plan import RoutingPlan
from gravity.position import Position
from gravity.schema_change import SchemaChange, TableAction
from gravity.testing.target_log import table
from gravity.whole_row import whole_row_schema, with_identity
from tests.resolver_replica import LATEST, DictStore, plan_of

PLAIN = table("shop.log", [("a", "int"), ("b", "varchar(20)")], [])
SCHEMA = whole_row_schema(PLAIN)
Cells = tuple[Value, ...]


def _plan() -> RoutingPlan:
    plan = plan_of(LATEST)
    source = replace(plan.sources[0], whole_row=("log",))
    return replace(plan, sources=(source,), feeding={})


class World:
    """A source's table, the messages about it, and what a target makes of them by key."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.plan = _plan()
        self.store = DictStore()
        self.state = PartitionState("t", self.store)
        self.table: Counter[Cells] = Counter()
        self.target: dict[Cells, Cells] = {}
        self.seq = 0
        self.sent: list[Any] = []

    def _header(self, kind: IngestKind, rows: int = 0) -> IngestHeader:
        self.seq += 1
        here = Position(1, 1, self.seq * 10)
        return IngestHeader(
            kind, "a", 1, self.seq, from_=here, to=here, plan=1, table="shop.log", rows=rows,
            schema=SCHEMA.schema_id,
        )  # fmt: skip

    def say(self, kind: IngestKind, changes: list[tuple[int, Cells, Cells | None]]) -> None:
        """Sends (operation, row, row before)."""
        if not changes:
            return
        rows = with_identity(row for _, row, _ in changes)
        before = [None if old is None else with_identity([old])[0] for _, _, old in changes]
        batch = ChangeBatch(
            source="a", epoch=1, schema=SCHEMA, transactions=[Transaction("g", 1, self.seq, 1, 1)],
            ops=bytes(op for op, _, _ in changes), tx=[0] * len(changes),
            ordinal=range(len(changes)), columns=list(zip(*rows, strict=True)), before_columns=(2,),
            before=[[None if old is None else old[2] for old in before]],
        )  # fmt: skip
        self.send(self._header(kind, len(batch)), encode_batch(batch))

    def send(self, header: IngestHeader, value: bytes) -> None:
        messages = route(header, value, self.plan)
        self.sent += messages
        # A router that was cut off sends some of its last messages again.
        repeated = self.sent[-self.draw.randint(1, 4) :] if self.draw.random() < 0.3 else []
        for message in [*messages, *repeated]:
            effects = self.state.apply(
                message.header, message.value, offset=self.state.next_input, plan=self.plan
            )
            for output in effects.outputs:
                self._apply(output.header.routed, output.value)
        if self.draw.random() < 0.3:
            for key, data in self.state.take_delta().items():
                if data is None:
                    self.store.data.pop(key, None)
                else:
                    self.store.data[key] = data
            self.state.delta_saved()

    def _apply(self, header: Any, value: bytes) -> None:
        if header.kind is RoutedKind.SCHEMA:
            self.target.clear()
            return
        batch = decode_batch(value)
        assert len(batch) == header.rows
        assert batch.schema.key_names == ("_gravity_row", "_gravity_copy")
        for op, row in zip(batch.ops, batch.rows(), strict=True):
            key = tuple(row[index] for index in batch.schema.key)
            if op in REMOVES_ROW:
                assert key in self.target, "a delete of nothing"
                del self.target[key]
            else:
                assert op == UPDATE or key not in self.target, "a row twice"
                self.target[key] = row[:2]

    def change(self) -> tuple[int, Cells, Cells | None]:
        kind = self.draw.random()
        held = list(self.table.elements())
        row: Cells = (self.draw.choice((None, 1, 2)), self.draw.choice((None, "", "x")))
        if kind < 0.5 or not held:
            self.table[row] += 1
            return INSERT, row, None
        old = self.draw.choice(held)
        self.table[old] -= 1
        if kind < 0.75:
            return DELETE, old, old
        # One update in a few leaves the row as it was.
        row = old if self.draw.random() < 0.2 else row
        self.table[row] += 1
        return UPDATE, row, old

    def copy(self) -> None:
        """All rows anew, as the collector says it; now and then cut off and begun again."""
        for _ in range(self.draw.choice((1, 1, 2))):
            emptied = SchemaChange(
                "a", "shop", "log", TableAction.TRUNCATE, "", "shop", "", f"1:1:{self.seq}:0", 1,
                index=self.seq,
            )  # fmt: skip
            self.send(self._header(IngestKind.SCHEMA), emptied.encode())
            rows = [(READ, row, None) for row in self.table.elements()]
            cut = self.draw.randrange(len(rows) + 1)
            self.say(IngestKind.CHUNK, rows[:cut])
        self.say(IngestKind.CHUNK, rows[cut:])


@pytest.mark.parametrize("seed", range(40))
def test_a_target_holds_as_many_equal_rows_as_the_source(seed: int) -> None:
    world = World(seed)
    # What was there before the first message is not known until it is copied.
    world.table.update({(1, "x"): 3, (None, None): 2})
    for _ in range(5):
        world.say(IngestKind.ROWS, [world.change() for _ in range(world.draw.randint(1, 9))])
    for _ in range(4):
        world.copy()
        for _ in range(world.draw.randint(0, 8)):
            world.say(IngestKind.ROWS, [world.change() for _ in range(world.draw.randint(1, 9))])
        assert Counter(world.target.values()) == +world.table
        numbers = {(row, copy) for (_, copy), row in world.target.items()}
        counted = {(row, n + 1) for row, count in world.table.items() for n in range(count)}
        assert numbers == counted, "equal rows are numbered from 1 on"
    counters = world.state.counters["a"]
    told = sum(m.header.counted for m in {id(m): m for m in world.sent}.values())
    assert counters.applied + counters.superseded == told, "every row ends once"


def test_rows_that_differ_only_in_kind_or_in_where_a_cell_ends_are_not_equal() -> None:
    rows: list[Cells] = [("1",), (1,), (1.0,), (b"1",), (None,), ("",), ("ab", "c"), ("a", "bc")]
    assert len({row[-1] for row in with_identity(rows)}) == len(rows)
    assert with_identity([(1, "x")]) == with_identity([(1, "x")])
