"""Transforms and tables: several become one, schema changes, other plans, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from gravity_router.routing import RoutedMessage, route

from gravity.batch import (
    INSERT,
    UPDATE,
    ChangeBatch,
    Column,
    TableSchema,
    Transaction,
)
from gravity.codec import decode_batch, encode_batch
from gravity.config import parse_config
from gravity.errors import FatalError
from gravity.header import IngestHeader, IngestKind
from gravity.placed_anew import before_columns, is_placed_as
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.position import Position
from gravity.schema_change import ColumnAction, ColumnChange, SchemaChange, TableAction
from tests.unit.router.test_transforms import (
    HEAD,
    SCHEMA,
    TRANSFORM,
    Row,
    compiled,
    expected_of,
    message,
    tables,
)


def two_parts() -> tuple[TableSchema, TableSchema]:
    return SCHEMA, replace(SCHEMA, table="orders_08")


def test_two_tables_become_one_and_their_rows_keep_apart() -> None:
    plan = compiled(tables=two_parts())
    sent: list[RoutedMessage] = []
    row: Row = (1, 2, 3, "1.00", "0123", "n")
    for schema in two_parts():
        header, value = message([(INSERT, None, row)], before_columns(plan, "s", schema), schema)
        sent += route(header, value, plan)
    assert tables(sent, "shaped") == {
        "dw.orders": {(1, part): expected_of(row, part) for part in ("07", "08")}
    }
    shaped = {decode_batch(m.value).schema.table for m in sent if m.target == "shaped"}
    assert shaped == {"orders_07", "orders_08"}, "a sink must know whose rows they are"


def test_columns_of_tables_that_become_one_take_null() -> None:
    schema = replace(SCHEMA, columns=tuple(replace(c, nullable=False) for c in SCHEMA.columns))
    plan = compiled(tables=[schema])
    [feed] = [feed for feed in plan.feeds("s", schema) if feed.target == "shaped"]
    shaping = plan.shaping(feed, "s", schema)
    assert shaping is not None
    strict = {c.name for c in shaping.schema.columns if not c.nullable}
    assert strict == {"number", "part"}


def schema_message(change: SchemaChange) -> tuple[IngestHeader, bytes]:
    name = f"{change.database}.{change.table}"
    header = IngestHeader(IngestKind.SCHEMA, change.source, 1, 9, plan=1, table=name)
    return header, change.encode()


def altered(action: TableAction, *columns: ColumnChange, source: str = "s") -> SchemaChange:
    at = str(Position(1, 1, 4, 0))
    return SchemaChange(
        source, "shop", "orders_07", action, "ALTER ...", "shop", "g", at, 5, 0, columns
    )


def test_a_schema_change_reaches_each_target_under_its_own_names() -> None:
    plan = compiled()
    header, value = schema_message(
        altered(TableAction.ALTER, ColumnChange(ColumnAction.DROP, "cust_no"))
    )
    sent = route(header, value, plan)
    plain = {m.value for m in sent if m.target == "plain"}
    assert plain == {value}
    shaped = {m.value for m in sent if m.target == "shaped"}
    [change] = map(SchemaChange.decode, shaped)
    assert change.columns == (ColumnChange(ColumnAction.DROP, "customer_id"),)
    assert {m.header.table for m in sent if m.target == "shaped"} == {"dw.orders"}


TWO_SOURCES = HEAD.replace(
    "sources: [", "sources: [{name: s2, host: h, username: u, password: p}, "
)


@pytest.mark.parametrize(
    "action", [TableAction.TRUNCATE, TableAction.DROP, TableAction.ALTER], ids=str
)
def test_where_nobody_can_tell_whose_rows_a_change_means_it_is_left_out(
    action: TableAction,
) -> None:
    config = parse_config(TWO_SOURCES + TRANSFORM, env={}).config
    tables = [SourceTable(s, schema) for s in ("s", "s2") for schema in two_parts()]
    plan = compile_plan(config, tables)
    drop = ColumnChange(ColumnAction.DROP, "price")
    header, value = schema_message(altered(action, *([drop] if action == "alter" else [])))
    targets = {m.target for m in route(header, value, plan)}
    assert targets == {"plain"}


def test_a_new_database_alone_joins_nothing_so_schema_changes_go_through() -> None:
    text = TWO_SOURCES + "\n      - {tables: 'orders_07', rename: {database: dw}}\n"
    tables = [SourceTable(s, SCHEMA) for s in ("s", "s2")]
    plan = compile_plan(parse_config(text, env={}).config, tables)
    header, value = schema_message(altered(TableAction.TRUNCATE))
    assert {m.target for m in route(header, value, plan)} == {"plain", "shaped"}
    twice = [*tables, SourceTable("s", replace(SCHEMA, database="shop2"))]
    plan = compile_plan(parse_config(text, env={}).config, twice, plan)
    assert {m.target for m in route(header, value, plan)} == {"plain"}


def test_rows_that_are_new_were_nothing_before() -> None:
    plan = compiled()
    new: Row = (2, 5, 2, "1.00", "0123", None)
    _, value = message([(INSERT, None, new), (UPDATE, new, new)], tuple(range(6)))
    batch = decode_batch(value)
    [feed] = [feed for feed in plan.feeds("s", SCHEMA) if feed.target == "shaped"]
    shaping = plan.shaping(feed, "s", SCHEMA)
    assert shaping is not None
    before = shaping.apply(batch).before
    assert [column[0] for column in before] == [None] * 8
    assert None not in [column[1] for column in before]


def test_a_topic_that_tables_share_is_not_told_that_it_was_emptied() -> None:
    text = HEAD.replace(
        "name: shaped\n    type: mysql", "name: shaped\n    type: kafka\n    brokers: [k]"
    )
    plan = compile_plan(parse_config(text + TRANSFORM, env={}).config, [SourceTable("s", SCHEMA)])
    header, value = schema_message(altered(TableAction.TRUNCATE))
    assert {m.target for m in route(header, value, plan)} == {"plain"}


def test_a_transform_that_changes_has_the_table_read_again() -> None:
    before, after = compiled(), compiled(transform=TRANSFORM.replace("last 2", "all"))
    assert is_placed_as(before, compiled(), "s", "shop", "orders_07")
    assert not is_placed_as(after, before, "s", "shop", "orders_07")


def test_a_transform_that_means_more_tables_leaves_the_others_as_they_are() -> None:
    wider = TRANSFORM.replace('"shop.orders_{part}"', '["shop.orders_{part}", "x.orders_{part}"]')
    assert is_placed_as(compiled(transform=wider), compiled(), "s", "shop", "orders_07")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("key: true", "key: false"),
        ("ID: number", "ID: nr"),
        ("{id: bigint, ", "{id: varchar(11), "),
        ("{id: bigint, ", '{id: "decimal(10,0)", '),
        ('value: "{part}"', 'value: "p{part}"'),
        ('value: "{part}"', 'value: "7"'),
        ("varchar(10), key", "char(10), key"),
    ],
)
def test_the_key_of_rows_that_flow_stays(old: str, new: str) -> None:
    before, changed = compiled(), TRANSFORM.replace(old, new)
    assert changed != TRANSFORM
    config = parse_config(HEAD + changed, env={}).config
    with pytest.raises(FatalError, match="the transform would change the key") as caught:
        compile_plan(config, [SourceTable("s", SCHEMA)], before)
    assert caught.value.where == "target shaped, table dw.orders, source s"
    # Under another name it begins anew.
    renamed = parse_config(HEAD + changed.replace("table: orders", "table: orders2"), env={}).config
    assert compile_plan(renamed, [SourceTable("s", SCHEMA)], before).version == before.version + 1


def test_the_values_of_a_key_stay_too() -> None:
    """Equal names and kinds are not enough: '5' and '5.00' are two keys."""
    cast = TRANSFORM.replace("{id: bigint, ", '{id: "decimal(10,0)", ')
    config = parse_config(HEAD + cast.replace("(10,0)", "(12,2)"), env={}).config
    with pytest.raises(
        FatalError, match=r"from \(number decimal\(10,0\), part varchar\(10\) = '07'\) to"
    ):
        compile_plan(config, [SourceTable("s", SCHEMA)], compiled(transform=cast))
    same = TRANSFORM.replace('value: "{part}"', 'value: "0{part}"').replace("orders_{", "orders_0{")
    config = parse_config(HEAD + same, env={}).config
    assert compile_plan(config, [SourceTable("s", SCHEMA)], compiled()).version == 2


@pytest.mark.parametrize(
    ("was", "old", "new"),
    [
        ("", "{id: bigint, ", "{"),
        ("", "varchar(10), key", "varchar(20), key"),
        ('{id: "decimal(10,0)", ', "decimal(10,0)", "decimal(12,0)"),
        ("{id: varchar(11), ", "varchar(11)", "varchar(20)"),
    ],
)
def test_a_wider_type_of_the_same_cells_is_no_other_key(was: str, old: str, new: str) -> None:
    """Both ways: what a cast gives fits, or is refused by itself."""
    first = TRANSFORM.replace("{id: bigint, ", was or "{id: bigint, ")
    second = first.replace(old, new)
    assert first != second
    for one, other in ((first, second), (second, first)):
        config = parse_config(HEAD + other, env={}).config
        plan = compile_plan(config, [SourceTable("s", SCHEMA)], compiled(transform=one))
        assert plan.version == 2


def test_a_plan_without_transforms_is_still_read() -> None:
    record = compiled().to_json()
    for target in record["targets"]:
        target.pop("transforms")
    plan = RoutingPlan.from_json(json.loads(json.dumps(record)))
    assert all(target.transforms == () for target in plan.targets)


def test_rows_of_an_unknown_table_are_resolved_under_its_new_name() -> None:
    reads = TWO_SOURCES.replace("username: u,", "username: u, tables: orders_*,")
    plan = compile_plan(parse_config(reads + TRANSFORM, env={}).config, [])
    assert plan.sources_of("shaped", "dw.orders") == ("s2", "s")
    assert plan.resolution("shaped", "dw.orders") is not None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{phone: last 2}", "{phone: last 2, id: all}", "id stands under cast too"),
        ("hash: cust_no", "hash: [cust_no, email]", "the table has no column email"),
        ("cast: {id: bigint,", "cast: {id: tinyint,", "two of its values might be one"),
        ('qty: "decimal(7,1)"', "qty: tinyint", "not every smallint of column qty fits tinyint"),
        ('qty: "decimal(7,1)"', "qty: date", "a int can't become date"),
        ("{phone: last 2}", "{price: all}", "mask takes texts, and price is decimal"),
        ("price * qty", "price * quantity", "total needs column quantity"),
        ("origin:", "price:", "two columns would be called price"),
        ('{value: "{part}", type: varchar(10)', '{value: "{part}x", type: varchar(2)', "'07x' does not fit varchar"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_table_is_refused_when_the_plan_is_made(
    old: str, new: str, said: str
) -> None:
    assert old in TRANSFORM
    with pytest.raises(FatalError, match=said.replace("(", r"\(")) as caught:
        compiled(transform=TRANSFORM.replace(old, new))
    if "stands under" not in said:
        assert caught.value.where == "target shaped, source s, table shop.orders_07"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("drop: ID", "can't be dropped"),
        ("mask: {id: all}", "can't be masked"),
        ("hash: [id]", "can't be hashed"),
        ("cast: {id: {type: bigint, or-null: true}}", "two of its values might be one"),
        ("cast: {id: double}", "two of its values might be one"),
    ],
)
def test_what_tells_rows_apart_stays_whole(columns: str, said: str) -> None:
    transform = f"\n      - {{tables: 'orders_*', columns: {{{columns}}}}}\n"
    with pytest.raises(FatalError, match="is part of the key") as caught:
        compiled(transform=transform)
    assert said in caught.value.what


def test_a_table_may_lack_a_column_where_the_transform_says_so() -> None:
    transform = TRANSFORM.replace("hash: cust_no", "hash: [cust_no, email]")
    transform = transform.replace("price * qty", "price * quantity")
    lenient = transform.replace(
        "rename: {database", "missing-columns: ignore\n        rename: {database"
    )
    plan = compiled(transform=lenient)
    row: Row = (1, 2, 3, "1.00", "0123", "n")
    header, value = message([(INSERT, None, row)], before_columns(plan, "s", SCHEMA))
    [found] = tables(route(header, value, plan), "shaped")["dw.orders"].values()
    assert found == {**expected_of(row), "total": None}


USERS_EVENTS = """
      - table: shop.users
        rename: {table: users_events}
        columns:
          add:
            event_type: user_created
            timestamp:
              type: bigint
              # 719528 = TO_DAYS('1970-01-01')
              expression: >-
                (TO_DAYS(created_at) - 719528) * 86400
                + HOUR(created_at) * 3600 + MINUTE(created_at) * 60 + SECOND(created_at)
          drop: created_at
"""


def test_a_row_of_an_events_table_as_the_routing_page_shows_it() -> None:
    users = TableSchema(
        "shop",
        "users",
        (Column("id", "int", nullable=False), Column("name", "varchar(20)"), Column("created_at", "datetime")),
        (0,),
    )  # fmt: skip
    plan = compiled(transform=USERS_EVENTS, tables=(users,))
    batch = ChangeBatch(
        "s", 1, users, [Transaction("g", 1, 4, 5, 5)], bytes([INSERT]), [0], [0],
        [[1], ["张三"], ["2023-01-01 10:00:00"]],
    )  # fmt: skip
    header = IngestHeader(IngestKind.ROWS, "s", 1, 7, rows=1, plan=1, table="shop.users")
    [sent] = [m for m in route(header, encode_batch(batch), plan) if m.target == "shaped"]
    assert sent.header.table == "shop.users_events"
    assert list(decode_batch(sent.value).rows()) == [(1, "张三", "user_created", 1672567200)]
    page = (Path(__file__).parents[3] / "docs/routing.md").read_text(encoding="utf-8")
    assert USERS_EVENTS in page
