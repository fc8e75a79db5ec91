"""Tables divided among targets: each row at one target, and moved when its shard key changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from gravity_router.routing import RoutedMessage, route
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import (
    DELETE,
    INSERT,
    READ,
    REMOVES_ROW,
    UPDATE,
    ChangeBatch,
    Column,
    TableSchema,
    Transaction,
    Value,
)
from gravity.codec import decode_batch, encode_batch
from gravity.config import parse_config
from gravity.errors import FatalError, FormatError
from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.placement import buckets_of, rendezvous, residues_of, round_robin
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan

SCHEMA = TableSchema(
    "app",
    "orders",
    (
        Column("id", "bigint"),
        Column("user_id", "int"),
        Column("day", "datetime"),
        Column("v", "int"),
    ),
    (0,),
)
Row = tuple[int, int | None, str | None, int]
Change = tuple[int, Row | None, Row]
NAMES = ("a", "b", "c")
HEAD = """
sources: [{name: s, host: h, username: u, password: p}, {name: other, host: h, username: u, password: p}]
targets: [{name: a, type: mysql}, {name: b, type: mysql}, {name: c, type: mysql}]
"""
DAYS = [str(date(2023, 12, 28) + timedelta(days=n)) + " 23:59:59" for n in range(9)]


def compiled(rule: str, previous: RoutingPlan | None = None, settled: int = 0) -> RoutingPlan:
    config = parse_config(HEAD + rule, env={}).config
    plan = compile_plan(config, [SourceTable("s", SCHEMA)], previous, settled)
    return RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))


def message(changes: Sequence[Change], before: tuple[int, ...]) -> tuple[IngestHeader, bytes]:
    columns: list[list[Value]] = [[row[i] for _, _, row in changes] for i in range(4)]
    old: list[list[Value]] = [
        [None if row is None else row[i] for _, row, _ in changes] for i in before
    ]
    batch = ChangeBatch(
        "s", 1, SCHEMA, [Transaction("g", 1, 4, 5, 5)], bytes(op for op, _, _ in changes),
        [0] * len(changes), list(range(len(changes))), columns, before, old,
    )  # fmt: skip
    header = IngestHeader(IngestKind.ROWS, "s", 1, 7, rows=len(changes), plan=1, table="app.orders")
    return header, encode_batch(batch)


def tables(sent: Sequence[RoutedMessage], partitions: int) -> dict[str, dict[int, Row]]:
    """What each target's table holds after applying its partitions one after the other."""
    found: dict[str, dict[int, Row]] = {name: {} for name in NAMES}
    for partition in range(partitions):
        for m in sent:
            if m.partition != partition or m.header.kind is not RoutedKind.ROWS:
                continue
            batch = decode_batch(m.value)
            for op, row in zip(batch.ops, batch.rows(), strict=True):
                if op in REMOVES_ROW:
                    found[m.target].pop(int(str(row[0])), None)
                else:
                    found[m.target][int(str(row[0]))] = row  # type: ignore[assignment]
    return found


cells = st.tuples(
    st.none() | st.integers(-6, 6), st.none() | st.sampled_from(DAYS), st.integers(0, 3)
)
steps = st.lists(
    st.tuples(st.sampled_from("IIUUUKD"), st.integers(0, 6), st.integers(0, 6), cells), min_size=1
)


def history(made: Sequence[tuple[str, int, int, tuple[int | None, str | None, int]]]) -> tuple[
    list[Change], dict[int, Row]
]:  # fmt: skip
    """Changes that a table could have had, and its end."""
    table: dict[int, Row] = {}
    changes: list[Change] = []
    for what, key, other, rest in made:
        new = (other if what == "K" else key, *rest)
        if what == "I" and key not in table:
            changes.append((INSERT, None, new))
            table[key] = new
        elif what in "UK" and key in table and (new[0] == key or new[0] not in table):
            changes.append((UPDATE, table.pop(key), new))
            table[new[0]] = new
        elif what == "D" and key in table:
            changes.append((DELETE, None, table.pop(key)))
    return changes, table


HASH = "routing-rules: {orders: {strategy: hash, key: user_id, targets: [{target: a, residues: [0, 1]}, {target: b, residues: [2]}, {target: c, residues: [3]}]}}"
RANGE = "routing-rules: {orders-table: {strategy: range, key: day, ranges: [{range: 2024-01-01 to *, target: b}, {range: 2023-01-01 to 2023-12-31, target: a}]}}"
WITH_DEFAULT = RANGE.replace("ranges:", "default: c, ranges:")
BY_RENDEZVOUS = "routing: [{source-tables: orders, strategy: consistent-hash, key: [user_id, v], targets: [a, b, c]}]"
IN_TURN = "routing: [{source-tables: orders, strategy: round-robin, targets: [a, b, c]}]"
WEIGHTED = "routing-rules: {orders: {strategy: weighted-round-robin, targets: [{target: a, weight: 3}, b, c]}}"
CONDITIONAL = """routing: [{source-tables: orders, strategy: conditional, default: c, conditions: [
    {if: user_id > 0, targets: a}, {if: user_id % 2 = 0, targets: [b]}]}]"""


def _by_day(row: Row) -> tuple[str, ...]:
    if row[2] is None:
        return ()
    return ("b",) if row[2] >= "2024" else ("a",)


def _conditional(row: Row) -> tuple[str, ...]:
    user = row[1]
    found = (("a",) if user is not None and user > 0 else ()) + (
        ("b",) if user is not None and user % 2 == 0 else ()
    )
    return found or ("c",)


ORACLES: list[tuple[str, Callable[[Row], tuple[str, ...]]]] = [
    (HASH, lambda row: ("aabc"[row[1] % 4] if row[1] is not None else "aabc"[residues_of([[None]], 4)[0]],)),
    (RANGE, _by_day),
    (WITH_DEFAULT, lambda row: _by_day(row) or ("c",)),
    (BY_RENDEZVOUS, lambda row: (rendezvous(dict.fromkeys("abc", 1))[buckets_of([[row[1]], [row[3]]])[0]],)),
    (IN_TURN, lambda row: (round_robin(dict.fromkeys("abc", 1))[buckets_of([[row[0]]])[0]],)),
    (WEIGHTED, lambda row: (round_robin({"a": 3, "b": 1, "c": 1})[buckets_of([[row[0]]])[0]],)),
    (CONDITIONAL, _conditional),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "oracle"), ORACLES, ids=["hash", "range", "default", "rendezvous", "turn", "weight", "if"]
)  # fmt: skip
@given(made=steps)
def test_every_row_ends_at_the_targets_its_rule_says_and_nowhere_else(
    rule: str,
    oracle: Callable[[Row], tuple[str, ...]],
    made: list[tuple[str, int, int, tuple[int | None, str | None, int]]],
) -> None:
    changes, end = history(made)
    if not changes:
        return
    plan = compiled(rule)
    header, value = message(changes, plan.before_columns("s", SCHEMA))
    sent = route(header, value, plan)
    expected: dict[str, dict[int, Row]] = {name: {} for name in NAMES}
    for key, row in end.items():
        for name in oracle(row):
            expected[name][key] = row
    assert tables(sent, plan.partitions) == expected
    # Every row of the message is accounted for, at every target.
    for name in NAMES:
        mine = [m.header for m in sent if m.target == name]
        assert sum(h.counted + h.filtered for h in mine) == len(changes)


def test_the_columns_that_decide_travel_as_they_were_before() -> None:
    assert compiled(HASH).before_columns("s", SCHEMA) == (0, 1)
    assert compiled(RANGE).before_columns("s", SCHEMA) == (0, 2)
    assert compiled(BY_RENDEZVOUS).before_columns("s", SCHEMA) == (0, 1, 3)
    assert compiled(IN_TURN).before_columns("s", SCHEMA) == (0,)


def test_an_update_without_them_is_refused_and_not_guessed_at() -> None:
    header, value = message([(UPDATE, (1, 1, None, 0), (1, 2, None, 0))], (0,))
    with pytest.raises(FormatError, match="without column user_id before them"):
        route(header, value, compiled(HASH))


def test_existing_rows_that_are_read_lie_where_their_changes_go() -> None:
    row: Row = (3, 5, DAYS[0], 1)
    for rule, _ in ORACLES:
        plan = compiled(rule)
        header, value = message([(READ, None, row)], plan.before_columns("s", SCHEMA))
        first = tables(route(header, value, plan), plan.partitions)
        header, value = message([(INSERT, None, row)], plan.before_columns("s", SCHEMA))
        assert tables(route(header, value, plan), plan.partitions) == first


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (HASH.replace("user_id", "usr"), "decides by column usr, which the table does not have"),
        (RANGE.replace("key: day", "key: user_id"), "ranges of days, but column user_id is int"),
        (CONDITIONAL.replace("user_id > 0", "YEAR(v) = 1"), "YEAR of v"),
        (CONDITIONAL.replace("user_id > 0", "usr > 0"), "needs column usr"),
    ],
)
def test_what_does_not_fit_the_table_is_refused_when_the_plan_is_made(rule: str, said: str) -> None:
    with pytest.raises(FatalError, match=said):
        compiled(rule)


def test_a_plan_of_the_format_before_is_still_read() -> None:
    record = compiled(CONDITIONAL).to_json()
    record["format"] = 1
    record.pop("placements")
    for item in record["routes"]:
        item.pop("share")
    assert RoutingPlan.from_json(json.loads(json.dumps(record))).placements == ()


def targets_of(rule: str, row: Row, source: str = "s") -> list[str]:
    """The targets that an inserted row is sent to, once for each time."""
    plan = compiled(rule)
    header, value = message([(INSERT, None, row)], plan.before_columns("s", SCHEMA))
    if source != "s":
        header = replace(header, source=source)
        value = encode_batch(replace(decode_batch(value), source=source))
    return [m.target for m in route(header, value, plan) if m.header.kind is RoutedKind.ROWS]


def test_every_rule_that_means_a_row_is_followed_and_a_target_gets_it_once() -> None:
    rules = HASH + "\nrouting: [{source-tables: 'ord*', exclude: orders_old, targets: [b]}]"
    rules += '\ndistribution-rules: [{condition: "v > 1", targets: [a, c]}]'
    assert targets_of(rules, (1, 0, None, 0)) == ["a", "b"]
    assert targets_of(rules, (1, 0, None, 2)) == ["a", "b", "c"]
    assert targets_of(rules, (1, 3, None, 0)) == ["b", "c"]


def test_a_rule_may_be_for_some_sources_only() -> None:
    two = HASH.replace("{strategy:", "{sources: s, strategy:")
    assert targets_of(two, (1, 0, None, 0)) == ["a"]
    # No rule means the other source's table, so it goes to every target that takes it.
    assert targets_of(two, (1, 0, None, 0), source="other") == ["a", "b", "c"]


def test_a_target_keeps_out_what_it_excludes_whatever_the_rules_say() -> None:
    plan = compiled("routing: [{source-tables: orders, targets: [a, b]}]")
    narrowed = replace(
        plan,
        targets=tuple(
            replace(target, exclude=("ord*",)) if target.name == "a" else target
            for target in plan.targets
        ),
    )
    header, value = message([(INSERT, None, (1, 0, None, 0))], (0,))
    sent = route(header, value, narrowed)
    assert {m.target for m in sent if m.header.kind is RoutedKind.ROWS} == {"b"}
