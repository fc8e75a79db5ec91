"""Another plan for tables that are altered, emptied, transformed or without a key: rows are where it says all the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from gravity_router.routing import RoutedMessage, route
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, READ, REMOVES_ROW, UPDATE, TableSchema, Value
from gravity.codec import decode_batch
from gravity.config import parse_config
from gravity.header import RoutedKind
from gravity.placed_anew import before_columns
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.schema_change import ColumnAction, ColumnChange, SchemaChange, TableAction
from tests.unit.router.test_transformed_tables import altered, schema_message
from tests.unit.router.test_transforms import SCHEMA, WHOLE, Row, message

NAMES = ("a", "b", "c")
LOST = ("price", "note")
"""Columns that the table may lose."""
Keyed = dict[int, dict[str, Value]]


def config_of(rules: str, columns: str, source: str = "") -> str:
    """Target `a` has the source's columns, `b` those of a transform, `c` another name."""
    return f"""
sources: [{{name: s, host: h, username: u, password: p{source}}}]
targets:
  - {{name: a, type: mysql}}
  - name: b
    type: mysql
    transforms:
      - {{tables: "shop.orders_{{part}}", rename: {{database: dw}}, columns: {{{columns}}}}}
  - {{name: c, type: mysql, transforms: [{{tables: "orders_07", rename: {{table: sales}}}}]}}
{rules}"""


def by_hash(key: str, *targets: str) -> tuple[str, Callable[[Row], Sequence[str]]]:
    """A rule by the remainder of a whole number, and where it says that rows go."""
    index = SCHEMA.column_index[key]
    text = f"routing: [{{source-tables: orders_07, strategy: hash, key: {key}, targets: [{', '.join(targets)}]}}]"
    return text, lambda row: targets[int(str(row[index])) % len(targets)]


BIG = """routing: [{source-tables: orders_07, strategy: conditional, default: b, conditions: [
    {if: "note = 'big'", targets: [a]}]}]"""
RULES: list[tuple[str, Callable[[Row], Sequence[str]]]] = [
    by_hash("qty", "a", "b"),
    by_hash("qty", "b", "c"),
    by_hash("qty", "c", "a"),
    by_hash("id", *NAMES),
    ("", lambda _: NAMES),
    ("routing: [{source-tables: orders_07, targets: [a]}]", lambda _: "a"),
]
ON_LOST = [*RULES, (BIG, lambda row: "a" if row[5] == "big" else "b")]
"""With what asks for a column that the table may lose."""
KEY = "rename: {ID: number}, add: {part: {value: '{part}', type: varchar(9), key: true}"


def _masked(row: Row) -> dict[str, Value]:
    return {"phone": row[4] and "*" * len(row[4])}


def _total(row: Row) -> dict[str, Value]:
    exact = Decimal(row[3] or 0) * (row[2] or 0)
    return {"total": None if row[3] is None else f"{exact:.2f}", "phone": row[4]}


SHAPES: list[tuple[str, Callable[[Row], dict[str, Value]]]] = [
    (KEY + "}, mask: {phone: all}", _masked),
    (KEY + "}", lambda row: {"phone": row[4]}),
]
SHAPES_ON_LOST = [
    SHAPES[0],
    (KEY + ", total: {expression: price * qty, type: 'decimal(20,2)'}}, drop: note", _total),
]

cells = st.tuples(
    st.integers(0, 3),
    st.integers(0, 5),
    st.none() | st.sampled_from(["0.00", "1.50"]),
    st.none() | st.sampled_from(["0171", "12"]),
    st.none() | st.sampled_from(["big", "small"]),
)
steps = st.lists(
    st.tuples(st.sampled_from("IIIIUUUKDTT"), st.integers(0, 3), st.integers(0, 3), cells), min_size=1
)  # fmt: skip


@cache
def compiled(texts: tuple[str, ...], tables: tuple[SourceTable, ...]) -> RoutingPlan:
    """The plan of the last of some configurations that followed each other, each with the table as it was then."""
    previous = compiled(texts[:-1], tables[:-1]) if len(texts) > 1 else None
    plan = compile_plan(parse_config(texts[-1], env={}).config, [tables[-1]], previous)
    return RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))


def rows_sent(
    plan: RoutingPlan, schema: TableSchema, changes: Sequence[tuple[int, Any, Any]]
) -> list[RoutedMessage]:
    """What changes send, whose rows have all columns that the table ever had; each is accounted for."""
    whole = WHOLE if len(schema.columns) > len(SCHEMA.columns) else SCHEMA
    kept = [whole.column_index[column.name] for column in schema.columns]
    cut: Any = [
        (op, old and tuple(old[i] for i in kept), tuple(new[i] for i in kept))
        for op, old, new in changes
    ]
    header, value = message(cut, before_columns(plan, "s", schema), schema)
    sent = route(header, value, plan)
    for name in NAMES:
        mine = [m for m in sent if m.target == name]
        assert sum(m.header.counted + m.header.filtered for m in mine) == len(changes)
        for partition in range(plan.partitions):
            parts = [m.header for m in mine if m.partition == partition]
            # The resolver takes rows that are not behind the last one for repeats.
            assert all(
                (one.part, one.last) < (other.part, other.first) for one, other in pairwise(parts)
            )
    return sent


def told(plan: RoutingPlan, change: SchemaChange) -> set[str]:
    """The targets that hear of it."""
    header, value = schema_message(change)
    return {m.target for m in route(header, value, plan)}


def apply(held: dict[str, Keyed], sent: Sequence[RoutedMessage]) -> None:
    """What the targets hold after it, partition by partition."""
    for m in sorted(sent, key=lambda item: item.partition):
        if m.header.kind is not RoutedKind.ROWS:
            continue
        batch = decode_batch(m.value)
        for op, cells in zip(batch.ops, batch.rows(), strict=True):
            row = dict(zip(batch.schema.column_index, cells, strict=True))
            assert row.get("part", "07") == "07"
            key = int(str(row[batch.schema.key_names[0]]))
            if op in REMOVES_ROW:
                held[m.target].pop(key, None)
            else:
                held[m.target][key] = row


def advance(table: dict[int, Row], step: tuple[str, int, int, tuple[Any, ...]]) -> Any:
    """The change that a step is, if it can be one: it is in the table then."""
    what, key, other, rest = step
    new: Row = (other if what == "K" else key, *rest)  # type: ignore[assignment]
    if what == "T":
        table.clear()
        return what
    if what == "I" and key not in table:
        table[key] = new
        return INSERT, None, new
    if what in "UK" and key in table and (new[0] == key or new[0] not in table):
        old = table.pop(key)
        table[new[0]] = new
        return UPDATE, old, new
    return (DELETE, None, table.pop(key)) if what == "D" and key in table else None


@settings(max_examples=200)
@given(made=steps, count=st.integers(2, 4), data=st.data())
def test_after_another_plan_rows_are_where_it_says_though_their_table_has_changed(
    made: list[tuple[str, int, int, tuple[Any, ...]]], count: int, data: st.DataObject
) -> None:
    """It loses columns that earlier rules and transforms are about, and its rows, all at once."""
    losing = data.draw(st.integers(1, count))  # The plan that begins with it; `count`: none.
    cuts = sorted(data.draw(st.integers(0, len(made))) for _ in range(count - 1))
    held: dict[str, Keyed] = {name: {} for name in NAMES}
    table: dict[int, Row] = {}
    plans: list[RoutingPlan] = []
    texts: tuple[str, ...] = ()
    tables: tuple[SourceTable, ...] = ()
    schema = SCHEMA
    rule, shape = RULES[0], SHAPES[0]
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(made)], strict=True)):
        rule = data.draw(st.sampled_from(RULES if number >= losing else ON_LOST))
        shape = data.draw(st.sampled_from(SHAPES if number >= losing else SHAPES_ON_LOST))
        if number == losing:
            schema = replace(SCHEMA, columns=tuple(c for c in SCHEMA.columns if c.name not in LOST))
        texts, tables = (*texts, config_of(rule[0], shape[0])), (*tables, SourceTable("s", schema))
        plan = compiled(texts, tables)
        plans.append(plan)
        if number == losing:
            drops = [ColumnChange(ColumnAction.DROP, name) for name in LOST]
            told(plan, altered(TableAction.ALTER, *drops))
        is_last, is_first = number == count - 1, number == 0
        # When each key is read again: before the step of that number, or (not of the last plan) never.
        reads = {key: data.draw(st.integers(start, stop + (not is_last))) for key in range(4)}
        for at in range(start, stop + 1):
            found = [table[key] for key, when in reads.items() if when == at and key in table]
            if found and not is_first:
                apply(held, rows_sent(plan, schema, [(READ, None, row) for row in found]))
            change = advance(table, made[at]) if at < stop else None
            if change == "T":
                for name in told(plan, altered(TableAction.TRUNCATE)):
                    held[name].clear()
            elif change is not None:
                apply(held, rows_sent(plan, schema, [change]))
    shares = [{route.target for route in plan.routes if route.share} for plan in plans]
    fed = [{feed.target for feed in plan.feeds_by_name("s", "shop", "orders_07")} for plan in plans]
    for name in NAMES:
        takes = [name in targets for targets in fed]
        if takes[-1] and takes == sorted(takes):
            wanted = {key: row for key, row in table.items() if name in rule[1](row)}
            assert held[name].keys() == wanted.keys()
            for key, row in wanted.items():
                now = held[name][key]
                assert now["qty"] == row[2]
                seen = shape[1](row) if name == "b" else {"phone": row[4]}
                assert {column: now[column] for column in seen} == seen
        # Whoever had a share only keeps nothing.
        if not takes[-1] and all(
            name in mine for mine, took in zip(shares, takes, strict=True) if took
        ):
            assert held[name] == {}


LOGGED = ", whole-row: orders_07"
KEYLESS = replace(WHOLE, table="orders_07")


def _with_identity(row: Row) -> tuple[Any, ...]:
    """What tells it from others, so that some are equal: all but its number, which stands for nothing here."""
    return (*row, blake2b(repr(row[1:]).encode(), digest_size=16).digest())


@given(made=steps, count=st.integers(2, 4), data=st.data())
def test_after_another_plan_rows_without_a_key_are_where_it_says(
    made: list[tuple[str, int, int, tuple[Any, ...]]], count: int, data: st.DataObject
) -> None:
    """They are read again in one piece, in the place of all that the targets had."""
    cuts = sorted(data.draw(st.integers(0, len(made))) for _ in range(count - 1))
    held: dict[str, Counter[Value]] = {name: Counter() for name in NAMES}
    table: dict[int, Row] = {}
    plans: list[RoutingPlan] = []
    texts: tuple[str, ...] = ()
    rule = RULES[0]

    def count_in(sent: Sequence[RoutedMessage]) -> None:
        for m in sorted(sent, key=lambda item: item.partition):
            if m.header.kind is RoutedKind.ROWS:
                batch = decode_batch(m.value)
                # Without their numbers rows may be equal. One that goes though there is none counts for nothing.
                for op, cells in zip(batch.ops, batch.rows(), strict=True):
                    row = cells[batch.schema.key[0]]
                    if op not in REMOVES_ROW:
                        held[m.target][row] += 1
                    elif held[m.target][row]:
                        held[m.target][row] -= 1

    bare = SourceTable("s", replace(KEYLESS, columns=SCHEMA.columns, key=()))
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(made)], strict=True)):
        rule = data.draw(st.sampled_from(ON_LOST))
        texts = (*texts, config_of(rule[0], "rename: {qty: pieces}", LOGGED))
        plan = compiled(texts, (bare,) * len(texts))
        plans.append(plan)
        read = data.draw(st.integers(start, stop + (number < count - 1)))
        for at in range(start, stop + 1):
            if number and at == read:
                for name in told(plan, altered(TableAction.TRUNCATE)):
                    held[name].clear()
                rows = [(READ, None, _with_identity(row)) for row in table.values()]
                if rows:
                    count_in(rows_sent(plan, KEYLESS, rows))
            change = advance(table, made[at]) if at < stop else None
            if change == "T":
                for name in told(plan, altered(TableAction.TRUNCATE)):
                    held[name].clear()
            elif change is not None:
                op, old, new = change
                whole = (op, old and _with_identity(old), _with_identity(new))
                count_in(rows_sent(plan, KEYLESS, [whole]))
    shares = [{route.target for route in plan.routes if route.share} for plan in plans]
    fed = [{feed.target for feed in plan.feeds_by_name("s", "shop", "orders_07")} for plan in plans]
    for name in NAMES:
        takes = [name in targets for targets in fed]
        if takes[-1]:
            wanted = Counter(_with_identity(r)[-1] for r in table.values() if name in rule[1](r))
            assert +held[name] == wanted
        elif all(name in mine for mine, took in zip(shares, takes, strict=True) if took):
            assert not +held[name]
