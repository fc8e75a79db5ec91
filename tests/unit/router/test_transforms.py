"""Tables that differ at a target: every target holds what its transform makes of the rows, wherever they lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from gravity_router.routing import RoutedMessage, route
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import (
    DELETE,
    INSERT,
    MOVED,
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
from gravity.errors import FatalError
from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.placed_anew import before_columns
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.whole_row import ROW, is_whole_row

SCHEMA = TableSchema(
    "shop",
    "orders_07",
    (
        Column("id", "int", nullable=False),
        Column("cust_no", "int"),
        Column("qty", "smallint"),
        Column("price", "decimal(8,2)"),
        Column("phone", "varchar(20)", charset="utf8mb4", collation="utf8mb4_general_ci"),
        Column("note", "text", charset="utf8mb4", collation="utf8mb4_general_ci"),
    ),
    (0,),
)
Row = tuple[int, int | None, int | None, str | None, str | None, str | None]
Change = tuple[int, Row | None, Row]
"""(operation, the row before an update, the row)."""
TRANSFORM = """
      - tables: "shop.orders_{part}"
        rename: {database: dw, table: orders}
        columns:
          rename: {cust_no: customer_id, ID: number}
          add:
            origin: "{source}/{database}"
            part: {value: "{part}", type: varchar(10), key: true}
            total: {expression: "price * qty", type: "decimal(9,1)"}
          drop: note
          cast: {id: bigint, qty: "decimal(7,1)"}
          mask: {phone: last 2}
          hash: cust_no
"""
HEAD = """
sources: [{name: s, host: h, username: u, password: p}]
targets:
  - name: plain
    type: mysql
  - name: shaped
    type: mysql
    transforms:
"""
RULE = """
routing:
  - source-tables: "orders_*"
    strategy: conditional
    conditions:
      - {if: "note = 'big' OR qty > 2", targets: [plain, shaped]}
"""
SHARD = """
routing-rules: {"orders_07": {strategy: hash, key: cust_no, targets: [plain, shaped]}}
"""


def compiled(
    rules: str = "", transform: str = TRANSFORM, tables: Sequence[TableSchema] = (SCHEMA,)
) -> RoutingPlan:
    config = parse_config(HEAD + transform + rules, env={}).config
    plan = compile_plan(config, [SourceTable("s", schema) for schema in tables])
    return RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))


def message(
    changes: Sequence[Change], before: tuple[int, ...], schema: TableSchema = SCHEMA
) -> tuple[IngestHeader, bytes]:
    width = len(schema.columns)
    columns: list[list[Value]] = [[row[i] for _, _, row in changes] for i in range(width)]

    def earlier(op: int, old: Row | None, new: Row, index: int) -> Value:
        if op == DELETE:
            return new[index]
        return None if old is None else old[index]

    batch = ChangeBatch(
        "s", 1, schema, [Transaction("g", 1, 4, 5, 5)], bytes(op for op, _, _ in changes),
        [0] * len(changes), list(range(len(changes))), columns, before,
        [[earlier(*change, index) for change in changes] for index in before],
    )  # fmt: skip
    name = f"{schema.database}.{schema.table}"
    header = IngestHeader(IngestKind.ROWS, "s", 1, 7, rows=len(changes), plan=1, table=name)
    return header, encode_batch(batch)


def expected_of(row: Row, part: str = "07") -> dict[str, Value]:
    """What `TRANSFORM` makes of a row, said once more."""
    number, customer, qty, price, phone, _ = row
    total = None
    if qty is not None and price is not None:
        exact = Decimal(price) * qty
        total = str(exact.quantize(Decimal("0.1"), ROUND_HALF_UP))
        total = "0.0" if Decimal(total) == 0 else total
        if abs(Decimal(total)) >= 10**8:
            total = None
    masked = None
    if phone is not None:
        masked = "".join("*" if at < len(phone) - 2 or len(phone) <= 2 else c for at, c in enumerate(phone))  # fmt: skip
    return {
        "number": number,
        "customer_id": None
        if customer is None
        else hashlib.sha256(str(customer).encode()).hexdigest(),
        "qty": None if qty is None else f"{qty}.0",
        "price": price,
        "phone": masked,
        "origin": "s/shop",
        "part": part,
        "total": total,
    }


def tables(sent: Sequence[RoutedMessage], target: str) -> dict[str, dict[object, dict[str, Value]]]:
    """Table → key → row, after applying the target's partitions one after the other."""
    found: dict[str, dict[object, dict[str, Value]]] = {}
    for m in sorted(sent, key=lambda item: item.partition):
        if m.target != target or m.header.kind is not RoutedKind.ROWS:
            continue
        batch = decode_batch(m.value)
        assert m.header.schema == batch.schema.schema_id
        table = found.setdefault(m.header.table, {})
        for op, cells in zip(batch.ops, batch.rows(), strict=True):
            row = dict(zip(batch.schema.column_index, cells, strict=True))
            key = tuple(row[name] for name in batch.schema.key_names)
            if op in REMOVES_ROW:
                table.pop(key, None)
            else:
                table[key] = row
    return {name: rows for name, rows in found.items() if rows}


cells = st.tuples(
    st.none() | st.integers(-3, 3),
    st.none() | st.integers(-4, 32_767),
    st.none() | st.decimals(-999_999, 999_999, places=2).map(lambda d: f"{d + 0:.2f}"),
    st.none() | st.sampled_from(["", "1", "12", "0171-123", "ÄÖ€"]),
    st.none() | st.sampled_from(["big", "small", "Big"]),
)
steps = st.lists(
    st.tuples(st.sampled_from("IIUUUKDR"), st.integers(0, 6), st.integers(0, 6), cells), min_size=1
)


def history(
    made: Sequence[tuple[str, int, int, tuple[object, ...]]],
) -> tuple[list[Change], dict[int, Row]]:
    """Changes that a table could have had, and its end."""
    table: dict[int, Row] = {}
    changes: list[Change] = []
    for what, key, other, rest in made:
        new: Row = (other if what == "K" else key, *rest)  # type: ignore[assignment]
        if what == "I" and key not in table:
            changes.append((INSERT, None, new))
            table[key] = new
        elif what in "UK" and key in table and (new[0] == key or new[0] not in table):
            changes.append((UPDATE, table.pop(key), new))
            table[new[0]] = new
        elif what == "D" and key in table:
            changes.append((DELETE, None, table.pop(key)))
        elif what == "R" and key in table:
            changes.append((READ, None, table[key]))
    return changes, table


def _all(_row: Row) -> bool:
    return True


def _big(row: Row) -> bool:
    note, qty = row[5], row[2]
    return (note is not None and note.lower() == "big") or (qty is not None and qty > 2)


@pytest.mark.parametrize("rules", ["", RULE], ids=["all", "condition"])
@given(made=steps)
def test_a_target_holds_what_its_transform_makes_of_the_rows(
    rules: str, made: list[tuple[str, int, int, tuple[object, ...]]]
) -> None:
    changes, end = history(made)
    if not changes:
        return
    plan = compiled(rules)
    header, value = message(changes, before_columns(plan, "s", SCHEMA))
    sent = route(header, value, plan)
    takes = _big if rules else _all
    rows = {(key, "07"): expected_of(row) for key, row in end.items() if takes(row)}
    assert tables(sent, "shaped") == ({"dw.orders": rows} if rows else {})
    names = tuple(SCHEMA.column_index)
    same = {(k,): dict(zip(names, row, strict=True)) for k, row in end.items() if takes(row)}
    assert tables(sent, "plain") == ({"shop.orders_07": same} if same else {})
    for name in ("plain", "shaped"):
        mine = [m.header for m in sent if m.target == name]
        assert sum(h.counted + h.filtered for h in mine) == len(changes)
    assert route(header, value, plan) == sent


@given(made=steps)
def test_shards_go_by_the_row_as_the_source_has_it(
    made: list[tuple[str, int, int, tuple[object, ...]]],
) -> None:
    changes, end = history(made)
    if not changes:
        return
    plan = compiled(SHARD)
    header, value = message(changes, before_columns(plan, "s", SCHEMA))
    found = tables(route(header, value, plan), "shaped").get("dw.orders", {})
    # Hashed only at the target, so the rule sees the number.
    rows = {key: row for key, row in end.items() if row[1] is not None}
    for key, row in rows.items():
        assert ((key, "07") in found) == (row[1] % 2 == 1)  # type: ignore[operator]


def test_a_row_whose_key_changes_is_deleted_under_its_old_name_and_key() -> None:
    plan = compiled()
    old: Row = (1, 5, 2, "1.00", "0123", None)
    header, value = message([(UPDATE, old, (2, *old[1:]))], before_columns(plan, "s", SCHEMA))
    batches = [decode_batch(m.value) for m in route(header, value, plan) if m.target == "shaped"]
    rows = [(op, row) for batch in batches for op, row in zip(batch.ops, batch.rows(), strict=True)]
    assert sorted((op, row[0], row[6]) for op, row in rows) == [(MOVED, 1, "07"), (UPDATE, 2, "07")]


def test_what_no_transform_means_goes_on_byte_for_byte() -> None:
    whole = HEAD.replace("type: mysql", "type: mysql\n    order-by: table")
    config = parse_config(whole + TRANSFORM, env={}).config
    plan = compile_plan(config, [SourceTable("s", SCHEMA)])
    header, value = message(
        [(INSERT, None, (1, 2, 3, "1.00", "0123", "n"))], before_columns(plan, "s", SCHEMA)
    )
    sent = {m.target: m.value for m in route(header, value, plan)}
    assert sent["plain"] is value or sent["plain"] == value
    assert sent["shaped"] != value


def test_a_new_name_alone_changes_no_byte() -> None:
    transform = (
        '\n      - {tables: "orders_{part}", rename: {table: "o{part}", database: "{database}2"}}\n'
    )
    plan = compiled(transform=transform)
    header, value = message(
        [(INSERT, None, (1, 2, 3, "1.00", "0123", "n"))], before_columns(plan, "s", SCHEMA)
    )
    plain, shaped = (
        [m for m in route(header, value, plan) if m.target == t] for t in ("plain", "shaped")
    )
    assert [m.value for m in plain] == [m.value for m in shaped]
    assert {m.header.table for m in shaped} == {"shop2.o07"}


def test_no_secret_stays_in_what_the_rows_were_before() -> None:
    whole = HEAD.replace("type: mysql", "type: mysql\n    order-by: table")
    config = parse_config(whole + TRANSFORM, env={}).config
    plan = compile_plan(config, [SourceTable("s", SCHEMA)])
    old: Row = (1, 31_337, 2, "1.00", "0171-555", "private")
    header, value = message([(UPDATE, old, (*old[:2], 3, *old[3:]))], tuple(range(6)))
    [sent] = [m for m in route(header, value, plan) if m.target == "shaped"]
    batch = decode_batch(sent.value)
    assert len(batch.before_columns) == len(batch.schema.columns)
    image = {
        batch.schema.columns[index].name: column[0]
        for index, column in zip(batch.before_columns, batch.before, strict=True)
    }
    assert image == expected_of(old)
    for secret in (b"0171", b"private"):
        assert secret not in sent.value


def test_readers_of_old_rows_and_events_see_the_target_s_columns() -> None:
    text = HEAD.replace(
        "name: shaped\n    type: mysql",
        "name: shaped\n    type: kafka\n    brokers: [k]\n    format: debezium",
    )
    plan = compile_plan(parse_config(text + TRANSFORM, env={}).config, [SourceTable("s", SCHEMA)])
    old: Row = (1, 31_337, 2, "1.00", "0171-555", "private")
    wanted = before_columns(plan, "s", SCHEMA)
    header, value = message([(UPDATE, old, (*old[:2], 3, *old[3:]))], wanted)
    [sent] = [m for m in route(header, value, plan) if m.target == "shaped"]
    batch = decode_batch(sent.value)
    image = {
        batch.schema.columns[index].name: column[0]
        for index, column in zip(batch.before_columns, batch.before, strict=True)
    }
    assert image == expected_of(old)
    events = text.replace(
        "format: debezium", "events: [{tables: 'orders_*', fields: [number, %s]}]"
    )
    for column, fits in (("customer_id", True), ("cust_no", False)):
        config = parse_config(events % column + TRANSFORM, env={}).config
        if fits:
            compile_plan(config, [SourceTable("s", SCHEMA)])
            continue
        with pytest.raises(FatalError, match="takes column cust_no, which the table does not have"):
            compile_plan(config, [SourceTable("s", SCHEMA)])


@pytest.mark.parametrize("to", ["bigint", "decimal(9,1)", "double"])
def test_what_a_row_makes_too_large_is_null_and_stops_nothing(to: str) -> None:
    transform = f"""
      - tables: "shop.*"
        columns:
          add: {{total: {{expression: "qty * 1e308", type: "{to}"}}}}
          cast: {{note: {{type: int, or-null: true}}}}
"""
    plan = compiled(transform=transform)
    note = "1e" + "9" * 5000
    header, value = message([(INSERT, None, (1, 2, 9, "1.00", None, note))], (0,))
    sent = tables(route(header, value, plan), "shaped")["shop.orders_07"]
    assert [(row["note"], row["total"]) for row in sent.values()] == [(None, None)]


WHOLE = TableSchema("shop", "clicks", (*SCHEMA.columns, ROW), (6,))


def test_rows_without_a_key_keep_what_tells_them_apart() -> None:
    transform = """
      - {tables: clicks, rename: {table: hits}, columns: {drop: note, hash: phone}}
"""
    head = HEAD.replace("username: u,", "username: u, whole-row: clicks,")
    config = parse_config(head + transform, env={}).config
    plan = compile_plan(config, [SourceTable("s", replace(WHOLE, columns=SCHEMA.columns, key=()))])
    assert plan.may_count("s", "shaped", "shop.hits")
    assert not plan.may_count("s", "plain", "shop.hits")
    row = (1, 2, 3, "1.00", "0123", "n", b"r" * 16)
    new = (1, 2, 4, "1.00", "0123", "n", b"s" * 16)
    changes: list[Any] = [(UPDATE, row, new)]
    header, value = message(changes, before_columns(plan, "s", WHOLE), WHOLE)
    [sent] = [m for m in route(header, value, plan) if m.target == "shaped"]
    batch = decode_batch(sent.value)
    assert is_whole_row(batch.schema)
    assert [(op, cells[-1]) for op, cells in zip(batch.ops, batch.rows(), strict=True)] == [
        (MOVED, b"r" * 16), (UPDATE, b"s" * 16),
    ]  # fmt: skip
    keyed = transform.replace("drop: note", "add: {part: {value: x, key: true}}")
    with pytest.raises(FatalError, match="part can't be a key: the table has none"):
        compile_plan(
            parse_config(head + keyed, env={}).config,
            [SourceTable("s", replace(WHOLE, columns=SCHEMA.columns, key=()))],
        )
    assert plan.may_count("s", "plain", "shop.clicks")
