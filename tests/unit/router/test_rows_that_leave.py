"""Targets that only an earlier plan feeds: what goes there still, whatever the table has become since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from gravity_collector.flow import Flows
from gravity_router.routing import RoutedMessage, route
from structlog.testing import capture_logs

from gravity.batch import DELETE, INSERT, LEFT, READ, UPDATE, TableSchema, Value
from gravity.codec import decode_batch
from gravity.config import parse_config
from gravity.header import RoutedKind
from gravity.placed_anew import before_columns, is_placed_as, was_always_placed_so
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.schema_change import ColumnAction, ColumnChange, TableAction
from tests.unit.router import test_sharding as sharding
from tests.unit.router.test_transformed_tables import altered, schema_message
from tests.unit.router.test_transforms import (
    HEAD,
    SCHEMA,
    SHARD,
    TRANSFORM,
    WHOLE,
    Change,
    Row,
    message,
)

ONLY_PLAIN = """
routing: [{source-tables: "orders_*", targets: [plain]}]
"""


def compiled(
    rules: str,
    previous: RoutingPlan | None = None,
    *,
    transform: str = TRANSFORM,
    schema: TableSchema = SCHEMA,
) -> RoutingPlan:
    config = parse_config(HEAD + transform + rules, env={}).config
    plan = compile_plan(config, [SourceTable("s", schema)], previous)
    return RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))


def without(*names: str, schema: TableSchema = SCHEMA) -> TableSchema:
    """The table once it has lost columns."""
    return replace(schema, columns=tuple(c for c in schema.columns if c.name not in names))


def sent_under(
    plan: RoutingPlan, changes: Sequence[Change], schema: TableSchema
) -> list[RoutedMessage]:
    """What changes of a table that has fewer columns by now send."""
    kept = [SCHEMA.columns.index(column) for column in schema.columns]
    cut = [
        (op, old and tuple(old[i] for i in kept), tuple(new[i] for i in kept))
        for op, old, new in changes
    ]
    header, value = message(cut, before_columns(plan, "s", schema), schema)  # type: ignore[arg-type]
    sent = route(header, value, plan)
    assert route(header, value, plan) == sent
    for target in plan.targets:
        mine = [m.header for m in sent if m.target == target.name]
        assert sum(h.counted + h.filtered for h in mine) == len(changes)
    return sent


def gone_from(
    sent: Sequence[RoutedMessage], target: str
) -> dict[str, list[tuple[int, dict[str, Value]]]]:
    """Table → (operation, key), as a target is told."""
    found: dict[str, list[tuple[int, dict[str, Value]]]] = {}
    for m in sent:
        if m.target == target and m.header.kind is RoutedKind.ROWS:
            batch = decode_batch(m.value)
            for op, row in zip(batch.ops, batch.rows(), strict=True):
                key = {
                    name: row[batch.schema.column_index[name]] for name in batch.schema.key_names
                }
                found.setdefault(m.header.table, []).append((op, key))
    return found


ROWS: list[Row] = [(n, n, n, "1.00", "0123", "x") for n in range(4)]
"""Those with an odd `cust_no` lie at `shaped` under `SHARD`."""


@pytest.mark.parametrize("lost", [("price",), ("note",), ("qty", "price", "phone", "note")])
def test_a_row_leaves_though_the_transform_fits_its_table_no_longer(lost: tuple[str, ...]) -> None:
    plan = compiled(ONLY_PLAIN, compiled(SHARD))
    changes: list[Change] = [(READ, None, row) for row in ROWS]
    changes += [(UPDATE, ROWS[1], (9, *ROWS[1][1:])), (DELETE, None, ROWS[3])]
    sent = sent_under(plan, changes, without(*lost))
    [(table, gone)] = gone_from(sent, "shaped").items()
    assert table == "dw.orders"
    assert sorted(gone, key=str) == [(LEFT, {"number": n, "part": "07"}) for n in (1, 1, 3, 3)]
    whole = sent_under(plan, changes, SCHEMA)
    assert gone_from(whole, "shaped") == gone_from(sent, "shaped")
    places = [[m.partition for m in s if m.target == "shaped" and m.value] for s in (sent, whole)]
    assert places[0] == places[1]


KEYED_ANEW = replace(without("price", "note"), key=(3,))
"""By the phone, which the earlier plan's transform masks."""


def test_where_nothing_leaves_no_transform_is_asked() -> None:
    """New rows lie nowhere yet."""
    plan = compiled(ONLY_PLAIN, compiled(SHARD))
    with capture_logs() as logs:
        sent = sent_under(plan, [(INSERT, None, row) for row in ROWS], KEYED_ANEW)
    assert logs == []
    assert gone_from(sent, "shaped") == {}
    assert len(gone_from(sent, "plain")["shop.orders_07"]) == len(ROWS)


def test_rows_whose_key_the_earlier_transform_hides_are_left_behind_by_name() -> None:
    plan = compiled(ONLY_PLAIN, compiled(SHARD))
    with capture_logs() as logs:
        for _ in range(3):
            assert gone_from(sent_under(plan, [(READ, None, ROWS[1])], KEYED_ANEW), "shaped") == {}
    [said] = [entry for entry in logs if entry["event"] == "rows_left_behind"]
    assert (said["table"], said["target_table"]) == ("shop.orders_07", "dw.orders")
    assert "phone is part of the key, so it can't be masked" in said["why"]


def test_rows_leave_each_table_that_earlier_plans_sent_them_to() -> None:
    """Under two names: neither the older nor the newer one keeps a row."""
    first = compiled(SHARD)
    renamed = TRANSFORM.replace("table: orders", "table: sales")
    second = compiled(SHARD, first, transform=renamed)
    plan = compiled(ONLY_PLAIN, second, transform=renamed)
    assert len(plan.former) == 2
    changes: list[Change] = [(READ, None, row) for row in ROWS]
    sent = sent_under(plan, changes, SCHEMA)
    keys = [(LEFT, {"number": n, "part": "07"}) for n in (1, 3)]
    found = {table: sorted(gone, key=str) for table, gone in gone_from(sent, "shaped").items()}
    assert found == {"dw.orders": keys, "dw.sales": keys}
    crowded = sent_under(replace(plan, partitions=1), changes, SCHEMA)
    places = [(m.header.part, m.header.last) for m in crowded if m.target == "shaped"]
    # What is not behind the last one the resolver takes for a repeat.
    assert places == sorted(set(places))


RENAMED = "\n      - {tables: 'orders_07', rename: {table: sales}}\n"
"""By which no tables are joined."""
DROP_NOTE = [ColumnChange(ColumnAction.DROP, "note")]


def told(plan: RoutingPlan, action: TableAction) -> dict[str, dict[str, list[int]]]:
    """Target → table there → partitions that hear of a change of `orders_07`."""
    header, value = schema_message(altered(action, *(DROP_NOTE if action == "alter" else [])))
    found: dict[str, dict[str, list[int]]] = {}
    for m in route(header, value, plan):
        found.setdefault(m.target, {}).setdefault(m.header.table, []).append(m.partition)
    return found


@pytest.mark.parametrize("action", [TableAction.TRUNCATE, TableAction.DROP, TableAction.ALTER])
def test_where_rows_are_leaving_they_go_too_when_all_are_gone(action: TableAction) -> None:
    first = compiled(SHARD, transform=RENAMED)
    plan = compiled(ONLY_PLAIN, first, transform=RENAMED)
    sent = told(plan, action)
    assert set(sent["plain"]) == {"shop.orders_07"}
    if action is TableAction.ALTER:
        assert set(sent) == {"plain"}
        return
    assert sent["shaped"] == told(first, action)["shaped"]
    # Whoever takes a table no longer keeps its rows, unless it shared them with others.
    unshared = compiled(ONLY_PLAIN, compiled("", transform=RENAMED), transform=RENAMED)
    assert set(told(unshared, action)) == {"plain"}


def test_a_routing_that_an_older_release_noted_empties_nothing() -> None:
    """It does not say whose rows are leaving: others may have theirs there, and would lose them."""
    plan = compiled(ONLY_PLAIN, compiled(SHARD, transform=RENAMED), transform=RENAMED)
    record = json.loads(json.dumps(plan.to_json()))
    for former in record["former"]:
        del former["divided"]
    for action in (TableAction.TRUNCATE, TableAction.DROP):
        assert set(told(RoutingPlan.from_json(record), action)) == {"plain"}


def test_all_names_under_which_rows_are_leaving_are_told_that_all_are_gone() -> None:
    first = compiled(SHARD, transform=RENAMED)
    other = RENAMED.replace("sales", "deals")
    plan = compiled(ONLY_PLAIN, compiled(SHARD, first, transform=other), transform=other)
    assert set(told(plan, TableAction.TRUNCATE)["shaped"]) == {"shop.sales", "shop.deals"}
    header, value = schema_message(altered(TableAction.TRUNCATE))
    sent = route(header, value, replace(plan, partitions=1))
    assert [m.header.part for m in sent if m.target == "shaped"] == [0, 1]


def test_a_table_without_a_key_is_emptied_where_it_is_no_longer_divided() -> None:
    """That is all its targets hear before it is filled again: none of its rows can be told from another."""
    head = HEAD.replace("username: u,", "username: u, whole-row: orders_07,") + RENAMED
    keyless = SourceTable("s", replace(WHOLE, table="orders_07", columns=SCHEMA.columns, key=()))
    first = compile_plan(parse_config(head + SHARD, env={}).config, [keyless])
    plan = compile_plan(parse_config(head + ONLY_PLAIN, env={}).config, [keyless], first)
    assert set(told(plan, TableAction.TRUNCATE)["shaped"]) == {"shop.sales"}


MINE = "\nrouting: [{source-tables: orders, sources: [s], strategy: hash, key: user_id, targets: [a, b]}"
THEIRS = ", {source-tables: orders, sources: [other], targets: [a]}]"
MOVED = "\nrouting: [{source-tables: orders, sources: [s], strategy: hash, key: user_id, targets: [b, c]}"


def of_two(rules: str, previous: RoutingPlan | None = None, settled: int = 0) -> RoutingPlan:
    """Of `orders` at `s` and at `other`."""
    tables = [SourceTable(source, sharding.SCHEMA) for source in ("s", "other")]
    plan = compile_plan(
        parse_config(sharding.HEAD + rules, env={}).config, tables, previous, settled
    )
    return RoutingPlan.from_json(json.loads(json.dumps(plan.to_json())))


def emptied_by(source: str, plan: RoutingPlan) -> set[str]:
    """The targets that hear of a TRUNCATE of `orders`."""
    change = replace(altered(TableAction.TRUNCATE), source=source, database="app", table="orders")
    header, value = schema_message(change)
    sent = route(replace(header, source=source, table="app.orders"), value, plan)
    return {m.target for m in sent}


def test_another_source_s_table_without_a_key_takes_the_place_of_one_that_leaves() -> None:
    """It is emptied before it is filled, and not emptied again when the one that left is copied elsewhere."""
    head = sharding.HEAD.replace("password: p}", "password: p, whole-row: [orders]}")
    keyless = replace(sharding.SCHEMA, key=())
    plans: list[RoutingPlan] = []
    for mine, theirs in (
        ("strategy: hash, key: id, targets: [a, b]", "[c]"),
        ("targets: [c]", "[a]"),
        ("targets: [b]", "[a]"),  # Nothing is settled yet.
    ):
        rules = f"""
routing:
  - {{source-tables: orders, sources: [s], {mine}}}
  - {{source-tables: orders, sources: [other], targets: {theirs}}}
"""
        tables = [SourceTable(source, keyless) for source in ("s", "other")]
        config = parse_config(head + rules, env={}).config
        plans.append(compile_plan(config, tables, plans[-1] if plans else None))
    for plan in plans[1:]:
        for source in ("s", "other"):
            flow = Flows(plan, source, lambda *_: ()).of_schema(keyless)
            assert flow.is_whole_row
        assert plan.resolution("a", "app.orders") is None
        assert emptied_by("other", plan) == {"a"}
    assert emptied_by("s", plans[1]) == {"b", "c"}, "at a are rows of the other source"
    assert emptied_by("s", plans[2]) == {"b"}
    assert not is_placed_as(plans[1], plans[0], "other", "app", "orders")


def test_whose_rows_are_leaving_is_known_until_they_are_gone_and_has_no_say() -> None:
    """Else the rows of those that stay would go with them, or stay hidden by what it said of them."""
    first = of_two(MINE + THEIRS)
    plan = of_two(MOVED + THEIRS, first)
    assert set(plan.sources_of("a", "app.orders")) == {"s", "other"}
    assert plan.leaving_from("a", "app.orders") == ("s",)
    assert (first.is_joined("a", "app.orders"), plan.is_joined("a", "app.orders")) == (True, False)
    rule, was = (one.resolution("a", "app.orders") for one in (plan, first))
    assert rule is not None
    assert was is not None
    assert (set(rule.ranks), rule.leaving) == ({"other"}, ("s",))
    assert replace(rule, ranks=was.ranks, leaving=()) == was
    # It may have hidden rows of the other by a delete.
    assert not is_placed_as(plan, first, "other", "app", "orders")
    assert not was_always_placed_so(plan, "other", "app", "orders")
    other_rule = "\nconflict-resolution: {default-strategy: timestamp-latest}"
    settled = of_two(MOVED + THEIRS + other_rule, plan, settled=plan.version)
    assert settled.former == ()
    assert settled.sources_of("a", "app.orders") == ("other",)
    assert settled.resolution("a", "app.orders") is None
    assert is_placed_as(settled, plan, "other", "app", "orders"), "once is enough"


def test_those_that_stay_are_read_again_however_many_they_are() -> None:
    """Two still feed the table, and a third, which leaves, may have deleted a row of theirs."""
    first = of_two(MINE + THEIRS)
    plan = of_two(MOVED + THEIRS, first)
    more = {"a": {"app.orders": ("other", "third")}}
    plan = replace(plan, feeding={**plan.feeding, **more})
    first = replace(first, feeding={**first.feeding, "a": {"app.orders": ("s", "other", "third")}})
    assert plan.is_joined("a", "app.orders")
    assert not is_placed_as(plan, first, "other", "app", "orders")
    settled = replace(plan, former=(), version=3)
    assert is_placed_as(settled, plan, "other", "app", "orders")


def test_readers_of_debezium_hear_what_rows_were_while_those_of_others_leave() -> None:
    """That is not told where several sources feed a table."""
    head = sharding.HEAD.replace("a, type: mysql", "a, type: kafka, format: debezium")
    tables = [SourceTable(source, sharding.SCHEMA) for source in ("s", "other")]
    first, plan = (parse_config(head + rules + THEIRS, env={}).config for rules in (MINE, MOVED))
    before = compile_plan(first, tables)
    for made, shown in ((before, False), (compile_plan(plan, tables, before), True)):
        [feed] = made.feeds("other", sharding.SCHEMA)
        assert feed.old_rows is shown


def test_rows_of_one_source_leave_as_they_came() -> None:
    """Nobody has noted what it said of them, though by their names others might have such a table."""
    first = sharding.compiled(sharding.HASH)
    assert first.resolution("a", "app.orders") is None
    plan = sharding.compiled("routing: [{source-tables: orders, targets: [b]}]", first)
    assert plan.resolution("a", "app.orders") is None
