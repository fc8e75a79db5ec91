"""Tables of several sources that change their shapes: the target is what the sources come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from gravity_resolver.table_history import SourceTable, View
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Value
from gravity.codec import decode_batch
from gravity.header import RoutedKind
from gravity.key import decode_key, encode_key
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.register import Register, Shape
from gravity.schema_change import ColumnAction, ColumnChange, SchemaChange, TableAction
from gravity.testing.routed_log import EPOCH_US, RoutedMessage
from tests.evolving_table import text_column
from tests.joined_sources import Row, Source, expected, histories
from tests.resolver_replica import RANKS, RULES, SOURCES, Replica

FALLTHROUGH = Resolution("source-priority", RANKS, on_delete="fallthrough")


class Target:
    """A target that applies a partition's outputs."""

    def __init__(self, outputs: Sequence[tuple[Any, bytes]]) -> None:
        self.rows: dict[int, Row] = {}
        self.columns: set[str] = set()
        for header, value in outputs:
            if header.routed.kind is RoutedKind.ROWS:
                self._write(value)
            elif header.routed.kind is RoutedKind.SCHEMA:
                self._alter(SchemaChange.decode(value))

    def _write(self, value: bytes) -> None:
        batch = decode_batch(value)
        names = [column.name for column in batch.schema.columns]
        self.columns.update(names)
        assert all(column.nullable for column in batch.schema.columns[1:])
        for op, cells in zip(batch.ops, batch.rows(), strict=True):
            row = dict(zip(names, cells, strict=True))
            key = row.pop("id")
            assert isinstance(key, int)
            if chr(op) in "DM":
                self.rows.pop(key, None)
            else:
                self.rows.setdefault(key, {}).update(row)

    def _alter(self, change: SchemaChange) -> None:
        assert change.source == ""
        for item in change.columns:
            if item.action is ColumnAction.ADD:
                self.columns.add(item.name)
            elif item.action is ColumnAction.DROP:
                assert not any(row.get(item.name) for row in self.rows.values())
                self.columns.discard(item.name)
                for row in self.rows.values():
                    row.pop(item.name, None)
        if change.action is TableAction.DROP:
            assert not self.rows
            self.columns = set()

    def cells(self) -> dict[int, Row]:
        """Rows without what is NULL: an absent column reads as NULL."""
        return {
            key: {name: cell for name, cell in row.items() if cell is not None}
            for key, row in self.rows.items()
        }


def woven(sources: Sequence[Source], draw: Random) -> list[RoutedMessage]:
    rest = {source.name: list(source.log.made) for source in sources}
    log = []
    while rest:
        name = draw.choice(sorted(rest))
        log.append(rest[name].pop(0))
        if not rest[name]:
            del rest[name]
        if draw.random() < 0.1:
            log += log[-draw.randint(1, len(log)) :]  # A router that crashed sends again.
    return log


@pytest.mark.parametrize("seed", range(60))
def test_the_target_is_what_the_sources_tables_come_to(seed: int) -> None:
    sources = histories(seed)
    target = Target(Replica(FALLTHROUGH).take(woven(sources, Random(seed))).outputs)
    assert target.cells() == expected(sources)
    assert target.columns == {"id", *(name for source in sources for name in source.columns)}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.strategy}-{rule.on_delete}")
@pytest.mark.parametrize("seed", range(8))
def test_no_order_of_the_sources_changes_the_end(rule: Resolution, seed: int) -> None:
    sources = histories(seed)
    ends = []
    for other in range(3):
        replica = Replica(rule).take(woven(sources, Random(seed * 10 + other)))
        target = Target(replica.outputs)
        ends.append((replica.registers(), target.cells(), target.columns))
    assert ends[0] == ends[1] == ends[2]


@pytest.mark.parametrize("seed", range(12))
def test_a_restart_anywhere_makes_the_same_messages(seed: int) -> None:
    sources, draw = histories(seed), Random(seed)
    log = woven(sources, draw)
    straight = Replica(FALLTHROUGH).take(log)
    broken, made = Replica(FALLTHROUGH), dict[int, bytes]()
    while broken.state.next_input < len(log):
        broken.take([log[broken.state.next_input]])
        if draw.random() < 0.3:
            broken.save()
        elif draw.random() < 0.2:
            broken.crash_and_restore()
    for header, value in broken.outputs:
        assert made.setdefault(header.out_seq, value) == value
    assert [made[number] for number in sorted(made)] == [value for _, value in straight.outputs]


def test_rows_behind_a_truncate_never_come_back() -> None:
    source = Source("a", Random(1))
    source.change_row(insert=True)
    source.truncate()
    replica = Replica(FALLTHROUGH).take(source.log.made)
    assert Target(replica.outputs).rows == {}
    assert replica.counts("a")["truncated"] == 1
    late = Source("b", Random(2))
    late.change_row(insert=True)
    replica.take(late.log.made)
    assert Target(replica.outputs).cells() == expected([late])


def test_rows_that_a_truncate_took_are_forgotten_in_time() -> None:
    sources = [Source(name, Random(name)) for name in SOURCES]
    sources[0].change_row(insert=True)
    forgetting = Resolution("timestamp-latest", RANKS, tombstone_retention_us=1)
    replica = Replica(forgetting)
    rows = [key for key in replica.take(sources[0].log.made).everything() if key[:2] == b"r\x00"]
    assert len(rows) == 1
    replica.crash_and_restore()
    replica.take(sources[0].log.made)
    sources[0].truncate()
    replica.take(sources[0].log.made[1:])
    for source in sources:
        header, value = source.log.marker()
        replica.apply(replace(header, ets=EPOCH_US + 10**9), value)
    assert not any(value for key, value in replica.everything().items() if key[:2] == b"r\x00")


def test_columns_of_a_table_that_was_dropped_before_any_row_go_with_it() -> None:
    sources = [Source(name, Random(name)) for name in SOURCES]
    replica = Replica(FALLTHROUGH)
    for source in sources[1:]:
        source.change_row(insert=True)
        replica.take(source.log.made)
    column = text_column("z", "varchar(20)")
    sources[0].say(TableAction.ALTER, ColumnChange(ColumnAction.ADD, "z", column=column))
    replica.take(sources[0].log.made)
    assert "z" in Target(replica.outputs).columns
    sources[0].drop_table()
    sources[0].change_row(insert=True)
    replica.take(sources[0].log.made[1:])
    assert "z" not in Target(replica.outputs).columns


def test_a_column_goes_only_when_no_source_has_it() -> None:
    sources = [Source(name, Random(name)) for name in SOURCES]
    for source in sources:
        source.change_row(insert=True)
    drop = ColumnChange(ColumnAction.DROP, "y")
    replica = Replica(FALLTHROUGH)
    for source in sources:
        source.columns.remove("y")
        source.say(TableAction.ALTER, drop)
        replica.take(source.log.made)
        gone = "y" not in Target(replica.outputs).columns
        assert gone == (source is sources[-1])


keys = st.lists(st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False))


@given(keys)
def test_a_key_reads_back(values: list[Value]) -> None:
    assert decode_key(encode_key(values)) == values


def test_tables_survive_their_bytes() -> None:
    source = Source("a", Random(3))
    source.live(30)
    table = SourceTable()
    for header, value in source.log.made:
        if header.kind is RoutedKind.SCHEMA:
            table = table.after(SchemaChange.decode(value), "here")
        else:
            table = table.seen(decode_batch(value).schema)
        assert SourceTable.from_json(table.to_json()) == table


def test_a_register_newer_than_a_change_is_left_as_it_is() -> None:
    source = Source("a", Random(4))
    source.drop()
    table = SourceTable().after(SchemaChange.decode(source.log.made[0][1]), "here")
    view = View({"a": table})
    shape = Shape("s", source.schema().columns)
    new = Register(Position(1, 1, source.log.offset + 1), ord("I"), 5, (1, "v"), shape)
    assert view({"a": new})["a"] is new
