"""Where rows go: laws of the pure router."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from gravity_router.routing import NOTE_PART, RoutedMessage, route
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import (
    DELETE,
    INSERT,
    MOVED,
    READ,
    UPDATE,
    ChangeBatch,
    Column,
    TableSchema,
    Transaction,
    Value,
)
from gravity.codec import decode_batch, encode_batch
from gravity.cut import CutMark
from gravity.errors import FormatError
from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.key import encode_key, key_partitions
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, RoutePlan, SourcePlan, TargetPlan
from gravity.schema_change import TableAction
from gravity.testing.target_log import change_of

P = 3
SCHEMA = TableSchema("app", "logs", (Column("id", "bigint"), Column("level", "varchar(8)")), (0,))
Change = tuple[int, tuple[int, str] | None, tuple[int, str]]
"""(operation, row before, row after or deleted row)."""


def plan(*routes: RoutePlan, lane: str = "key", partitions: int = P) -> RoutingPlan:
    return RoutingPlan(
        version=1,
        partitions=partitions,
        sources=(SourcePlan("s", ("*",), ("*",), ()),),
        targets=(
            TargetPlan("t1", "mysql", None, ("*",), (), (("*", lane),)),
            TargetPlan("t2", "kafka", None, ("*",), (), (("*", lane),)),
        ),
        routes=routes,
        rules=(),
        default_resolution=Resolution("source-priority", {"s": 1}),
    )


def message(changes: Sequence[Change]) -> tuple[IngestHeader, bytes]:
    columns: list[list[Value]] = [[row[i] for _, _, row in changes] for i in range(2)]
    before: list[list[Value]] = [
        [None if old is None else old[i] for _, old, _ in changes] for i in range(2)
    ]
    batch = ChangeBatch(
        "s", 1, SCHEMA, [Transaction("g", 1, 4, 5, 5)], bytes(op for op, _, _ in changes),
        [0] * len(changes), list(range(len(changes))), columns, (0, 1), before,
    )  # fmt: skip
    header = IngestHeader(IngestKind.ROWS, "s", 1, 7, rows=len(changes), plan=1, table="app.logs")
    return header, encode_batch(batch)


def rows_of(messages: Sequence[RoutedMessage], target: str) -> list[tuple[int, int, Value, Value]]:
    """(partition, operation, id, level) of everything one target gets, per partition in order."""
    found: list[tuple[int, int, Value, Value]] = []
    for m in messages:
        if m.target == target and m.header.kind is RoutedKind.ROWS:
            batch = decode_batch(m.value)
            found += [
                (m.partition, op, row[0], row[1])
                for op, row in zip(batch.ops, batch.rows(), strict=True)
            ]
    return found


def partition(key: int) -> int:
    return key_partitions("app.logs", [[key]], P)[0]


def notes(messages: Sequence[RoutedMessage], target: str) -> list[int]:
    return [
        m.header.filtered
        for m in messages
        if m.target == target and m.header.kind is RoutedKind.NOTE
    ]


changes = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([INSERT, READ, DELETE]),
            st.none(),
            st.tuples(st.integers(0, 9), st.sampled_from(["INFO", "ERROR"])),
        ),
        st.tuples(
            st.just(UPDATE),
            st.tuples(st.integers(0, 9), st.sampled_from(["INFO", "ERROR"])),
            st.tuples(st.integers(0, 9), st.sampled_from(["INFO", "ERROR"])),
        ),
    ),
    min_size=1,
    max_size=12,
)


@given(changes)
def test_every_row_is_counted_once_and_lies_in_the_partition_of_its_key(
    made: list[Change],
) -> None:
    header, value = message(made)
    sent = route(header, value, plan(RoutePlan("t1", ("*",), condition="level = 'ERROR'")))
    rows = rows_of(sent, "t1")
    assert all(place == partition(int(str(key))) for place, _, key, _ in rows)
    counted = sum(m.header.counted for m in sent if m.target == "t1")
    assert counted == sum(op != MOVED for _, op, _, _ in rows)
    assert counted + sum(notes(sent, "t1")) == len(made)
    assert notes(sent, "t2") == [len(made)]


@given(changes)
def test_what_is_sent_is_a_function_of_the_message_and_the_plan(made: list[Change]) -> None:
    header, value = message(made)
    decided = plan(RoutePlan("t1", ("*",)), RoutePlan("t2", ("*",), condition="level = 'INFO'"))
    again = RoutingPlan.from_json(json.loads(json.dumps(decided.to_json())))
    assert route(header, value, decided) == route(header, value, again)


@given(changes)
def test_applying_what_a_target_gets_equals_applying_the_rows_that_meet_its_condition(
    made: list[Change],
) -> None:
    """The made-up history is first made consistent; then the target must equal a filter of its end."""
    table: dict[int, str] = {}
    history: list[Change] = []
    for op, old, (key, level) in made:
        if op == UPDATE:
            assert old is not None
            if old[0] not in table or (key != old[0] and key in table):
                continue
            history.append((UPDATE, (old[0], table.pop(old[0])), (key, level)))
            table[key] = level
        elif op == DELETE:
            if key in table:
                history.append((DELETE, None, (key, table.pop(key))))
        elif key not in table:
            table[key] = level
            history.append((INSERT, None, (key, level)))
    if not history:
        return
    header, value = message(history)
    sent = route(header, value, plan(RoutePlan("t1", ("*",), condition="level = 'ERROR'")))
    # Partitions are independent, so a replay one partition after the other equals the whole.
    target: dict[int, str] = {}
    for place in range(P):
        for at, op, key, level in rows_of(sent, "t1"):
            if at != place:
                continue
            if op in (DELETE, MOVED):
                target.pop(int(str(key)), None)
            else:
                target[int(str(key))] = str(level)
    assert target == {key: level for key, level in table.items() if level == "ERROR"}


def test_a_moved_key_leaves_a_delete_where_it_was_before_the_row_where_it_is() -> None:
    header, value = message([(UPDATE, (1, "a"), (2, "a"))])
    rows = rows_of(route(header, value, plan()), "t1")
    assert sorted(rows) == sorted([(partition(1), MOVED, 1, "a"), (partition(2), UPDATE, 2, "a")])
    one = rows_of(route(header, value, plan(lane="table")), "t1")
    assert [op for _, op, _, _ in one] == [MOVED, UPDATE]


def test_a_table_taken_whole_is_forwarded_as_the_same_bytes() -> None:
    header, value = message([(INSERT, None, (n, "x")) for n in range(9)])
    sent = [m for m in route(header, value, plan(lane="table")) if m.header.kind is RoutedKind.ROWS]
    assert [m.value is value for m in sent] == [True, True]


def test_targets_that_are_fed_alike_share_the_encoded_parts() -> None:
    header, value = message([(INSERT, None, (n, "x")) for n in range(9)])
    sent = route(header, value, plan())
    first = [m.value for m in sent if m.target == "t1"]
    second = [m.value for m in sent if m.target == "t2"]
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_a_note_comes_after_every_row_of_its_message() -> None:
    header, value = message([(INSERT, None, (1, "INFO")), (INSERT, None, (2, "ERROR"))])
    sent = route(header, value, plan(RoutePlan("t1", ("*",), condition="level = 'ERROR'")))
    note = [m for m in sent if m.target == "t1" and m.header.kind is RoutedKind.NOTE]
    assert [(m.partition, m.header.part) for m in note] == [(7 % P, NOTE_PART)]
    assert sent.index(note[0]) > max(
        i for i, m in enumerate(sent) if m.target == "t1" and m.header.kind is RoutedKind.ROWS
    )


def test_markers_reach_every_partition_of_every_target() -> None:
    header = IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1, quiet=7)
    sent = route(header, b"marker", plan())
    assert {(m.target, m.partition) for m in sent} == {
        (t, q) for t in ("t1", "t2") for q in range(P)
    }
    assert {m.value for m in sent} == {b"marker"}
    assert {m.header.quiet for m in sent} == {7}


def test_a_cut_is_marked_at_its_own_target_alone() -> None:
    mark = str(CutMark(5, 1000, "t2"))
    sent = route(IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1, cut=mark), b"marker", plan())
    assert {(m.target, m.header.cut) for m in sent} == {("t1", ""), ("t2", mark)}
    assert len(sent) == 2 * P


def test_fences_and_ends_of_chunks_send_nothing() -> None:
    for kind in (IngestKind.FENCE, IngestKind.CHUNK_DONE):
        assert route(IngestHeader(kind, "s", 1, 3, plan=1), b"", plan()) == []


def test_a_header_that_does_not_fit_its_batch_is_refused() -> None:
    header, value = message([(INSERT, None, (1, "a"))])
    with pytest.raises(FormatError, match="whose header says"):
        route(replace(header, rows=2), value, plan())


def test_the_hash_of_keys_never_changes() -> None:
    path = Path(__file__).parents[3] / "schemas/examples/key.json"
    for vector in json.loads(path.read_text(encoding="utf-8")):
        key = [bytes.fromhex(c["hex"]) if isinstance(c, dict) else c for c in vector["key"]]
        assert encode_key(key).hex() == vector["encoded"]
        assert key_partitions(vector["table"], [[c] for c in key], 1024) == [vector["bucket"]]


def schema_message(name: str) -> tuple[IngestHeader, bytes]:
    change = change_of(name, TableAction.TRUNCATE)
    return IngestHeader(IngestKind.SCHEMA, "s", 1, 7, plan=1, table=name), change.encode()


def test_a_schema_change_goes_to_every_partition_that_rows_of_its_table_lie_in() -> None:
    routes = RoutePlan("t1", ("logs",), condition="level = 'ERROR'"), RoutePlan("t2", ("other",))
    sent = route(*schema_message("app.logs"), plan(*routes))
    assert [(m.target, m.partition) for m in sent] == [("t1", q) for q in range(P)]
    assert {(m.header.kind, m.header.table) for m in sent} == {(RoutedKind.SCHEMA, "app.logs")}
    assert {(m.header.first, m.header.last) for m in sent} == {(0, P - 1)}


@pytest.mark.parametrize("lane", ["table", "group:g"])
def test_a_schema_change_of_a_table_in_one_lane_goes_to_that_lane(lane: str) -> None:
    rows = route(*message([(INSERT, None, (1, "INFO"))]), plan(lane=lane))
    home = next(m.partition for m in rows if m.target == "t1")
    sent = route(*schema_message("app.logs"), plan(lane=lane))
    assert [(m.target, m.partition) for m in sent] == [("t1", home), ("t2", home)]
    assert {(m.header.first, m.header.last) for m in sent} == {(home, home)}


def test_a_schema_change_bears_the_tables_name_at_the_target() -> None:
    renaming = replace(plan(), targets=(TargetPlan("t1", "mysql", "copy", ("*",), (), ()),))
    assert {m.header.table for m in route(*schema_message("app.logs"), renaming)} == {"copy.logs"}


def test_a_schema_change_of_a_table_that_no_route_means_goes_nowhere() -> None:
    sent = route(*schema_message("app.logs"), plan(RoutePlan("t1", ("logs",), sources=("other",))))
    assert {m.target for m in sent} == {
        "t1",
        "t2",
    }  # No rule is about it: the targets' tables decide.
    excluded = replace(plan(), targets=(TargetPlan("t1", "mysql", None, ("x",), (), ()),))
    assert route(*schema_message("app.logs"), excluded) == []
