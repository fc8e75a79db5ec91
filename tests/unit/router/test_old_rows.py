"""Rows as they were before a change: they travel where a target's format shows them, and only there."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from gravity_router.routing import RoutedMessage, route

from gravity.batch import (
    DELETE,
    INSERT,
    MOVED,
    UPDATE,
    ChangeBatch,
    Column,
    TableSchema,
    Transaction,
    Value,
)
from gravity.codec import decode_batch, encode_batch
from gravity.config import parse_config
from gravity.header import IngestHeader, IngestKind
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan

SCHEMA = TableSchema(
    "app", "users", (Column("id", "bigint"), Column("name", "text"), Column("v", "int")), (0,)
)
ALL = (0, 1, 2)
HEAD = """
sources: [{name: s, host: h, username: u, password: p}]
kafka: {partitions: 2}
targets:
  - {name: changes, type: kafka, format: {app.users: debezium, "*": json}}
  - {name: flat, type: kafka}
"""
Row = tuple[Value, ...]


def compiled(rule: str = "") -> RoutingPlan:
    plan = compile_plan(parse_config(HEAD + rule, env={}).config, [SourceTable("s", SCHEMA)])
    return RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))


def routed(
    plan: RoutingPlan, changes: Sequence[tuple[int, Row | None, Row]]
) -> dict[str, list[ChangeBatch]]:
    columns = plan.before_columns("s", SCHEMA)
    empty: Row = (None,) * len(ALL)
    batch = ChangeBatch(
        source="s", epoch=1, schema=SCHEMA, transactions=[Transaction("g", 1, 4, 5, 5)],
        ops=bytes(op for op, _, _ in changes), tx=[0] * len(changes), ordinal=range(len(changes)),
        columns=list(zip(*(row for _, _, row in changes), strict=True)),
        before_columns=columns,
        before=[[(old or empty)[index] for _, old, _ in changes] for index in columns],
    )  # fmt: skip
    header = IngestHeader(IngestKind.ROWS, "s", 1, 1, rows=len(changes), table="app.users", plan=1)
    found: dict[str, list[ChangeBatch]] = {"changes": [], "flat": []}
    message: RoutedMessage
    for message in route(header, encode_batch(batch), plan):
        if message.header.rows:
            found[message.target].append(decode_batch(message.value))
    return found


def images(batches: Sequence[ChangeBatch]) -> list[tuple[int, Row, Row]]:
    """(operation, row before, row after), by the row's key."""
    found = [
        (op, before, after)
        for batch in batches
        for op, before, after in zip(
            batch.ops, zip(*batch.before, strict=True), batch.rows(), strict=True
        )
    ]
    return sorted(found, key=lambda image: (str(image[2][0]), image[0]))


CHANGES: list[tuple[int, Row | None, Row]] = [
    (INSERT, None, (1, "a", 1)),
    (UPDATE, (2, "b", 1), (2, "c", 9)),
    (DELETE, (3, "d", 1), (3, "d", 1)),
    (UPDATE, (4, "e", 1), (44, "f", 1)),
]


def test_all_columns_before_a_change_are_read_for_a_target_that_shows_them() -> None:
    assert compiled().before_columns("s", SCHEMA) == ALL
    flat_alone = HEAD.replace("app.users: debezium", "app.users: json")
    config = parse_config(flat_alone, env={}).config
    assert compile_plan(config, [SourceTable("s", SCHEMA)]).before_columns("s", SCHEMA) == (0,)


def test_behind_several_sources_nobody_would_read_them() -> None:
    another = HEAD.replace("sources: [", "sources: [{name: z, host: h, username: u, password: p}, ")
    config = parse_config(another, env={}).config
    both = compile_plan(config, [SourceTable(name, SCHEMA) for name in ("s", "z")])
    assert both.before_columns("s", SCHEMA) == (0,)
    assert compile_plan(config, [SourceTable("s", SCHEMA)]).before_columns("s", SCHEMA) == ALL


@pytest.mark.parametrize("moved", [True, False])
def test_every_row_keeps_what_it_was_however_it_is_cut(moved: bool) -> None:
    found = routed(compiled(), CHANGES if moved else CHANGES[:-1])
    plain = [
        (INSERT, (None, None, None), (1, "a", 1)),
        (UPDATE, (2, "b", 1), (2, "c", 9)),
        (DELETE, (3, "d", 1), (3, "d", 1)),
    ]
    both = [(MOVED, (4, "e", 1), (4, "f", 1)), (UPDATE, (4, "e", 1), (44, "f", 1))]
    assert images(found["changes"]) == (plain + both if moved else plain)
    assert all(not batch.before_columns for batch in found["flat"])


def test_a_row_that_leaves_a_condition_is_deleted_as_it_was() -> None:
    rule = "distribution-rules: [{condition: v < 5, targets: [changes], tables: users}]\n"
    found = routed(compiled(rule), [(UPDATE, (2, "b", 1), (2, "c", 9))])
    assert images(found["changes"]) == [(DELETE, (2, "b", 1), (2, "c", 9))]


@pytest.mark.parametrize("lacking", [True, False])
def test_a_plan_of_before_there_were_formats_is_read(lacking: bool) -> None:
    record = json.loads(json.dumps(compiled().to_json()))
    for target in record["targets"]:
        if lacking:
            del target["formats"]
    plan = RoutingPlan.from_json(record)
    assert plan.before_columns("s", SCHEMA) == ((0,) if lacking else ALL)


def test_another_format_sends_no_row_another_way() -> None:
    config = parse_config(HEAD, env={}).config
    flat = parse_config(HEAD.replace("app.users: debezium", "app.users: json"), env={}).config
    tables = [SourceTable("s", SCHEMA)]
    first = compile_plan(flat, tables)
    second = compile_plan(config, tables, first)
    assert second.version == first.version + 1
    assert second.former == ()
