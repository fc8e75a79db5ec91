"""A merge that is saved and taken up again, in several tables at once: it sends what it would have sent."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from gravity_resolver import merging

from gravity.merge_order import MergeOrder
from gravity.plan_part import Resolution
from gravity.testing.routed_log import RoutedLog, RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.merged_histories import ORDER, OWN, RANKS, SOURCES, merging_plan, us
from tests.resolver_replica import TARGET, Replica, plan_of

BY_TABLE = MergeOrder("by-table", RANKS)
TABLES = [
    table(f"shop.{name}", [("id", "int"), ("name", "varchar(20)")], ["id"]) for name in "pqrs"
]


def replica(order: MergeOrder) -> Replica:
    made = Replica()
    feeding = {f"{t.database}.{t.table}": SOURCES for t in TABLES}
    plan = plan_of(Resolution("timestamp-latest", RANKS))
    made.plan = replace(plan, feeding={TARGET: feeding}, merge=order)
    return made


def messages(rng: Random, count: int = 60) -> list[tuple[RoutedMessage, int]]:
    """Rows of all sources in all tables, two tables to a transaction, and markers that lag behind."""
    logs = {source: RoutedLog(source) for source in SOURCES}
    made: list[tuple[RoutedMessage, int]] = []
    for at in range(1, count):
        ms = 1000 + 50 * at
        log = logs[rng.choice(SOURCES)]
        if rng.random() < 0.3:
            made.append((log.marker(0, us(ms - rng.randint(0, 600))), ms))
            continue
        for schema in rng.sample(TABLES, 2):
            row = (rng.randint(1, 9), f"{log.source}{at}")
            made.append((log.rows(schema, [RowChange("I", row, 0, ets_us=us(ms))]), ms))
    return made


def outputs(said: list[tuple[RoutedMessage, int]], order: MergeOrder, restarts: Random | None) -> list[object]:  # fmt: skip
    hit = replica(order)
    for (header, value), ms in said:
        hit.apply(header, value, time_ms=ms)
        if restarts is not None and restarts.random() < 0.3:
            hit.save()
            hit.crash_and_restore()
    return list(hit.outputs)


@pytest.mark.parametrize("rows_max", [10**6, 7])
def test_tables_leave_in_one_order_whether_or_not_it_was_restarted(rows_max: int) -> None:
    order = replace(BY_TABLE, max_ahead_rows=rows_max)
    for seed in range(60):
        said = messages(Random(seed))
        calm = outputs(said, order, None)
        assert calm
        assert outputs(said, order, Random(seed)) == calm, seed


def test_what_is_read_again_from_the_state_leaves_as_it_would_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = [messages(Random(seed)) for seed in range(20)]
    calm = [outputs(one, BY_TABLE, None) for one in said]
    monkeypatch.setattr(merging, "OPENED_BYTES_MAX", 300)
    assert [outputs(one, BY_TABLE, None) for one in said] == calm


def test_however_many_tables_wait_few_of_their_messages_stay_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merging, "OPENED_BYTES_MAX", 1000)
    hit, log = replica(BY_TABLE), RoutedLog("a")
    many = [table(f"shop.t{n}", [("id", "int")], ["id"]) for n in range(100)]
    hit.plan = replace(
        hit.plan, feeding={TARGET: {f"{t.database}.{t.table}": SOURCES for t in many}}
    )
    for n, schema in enumerate(many):
        rows = log.rows(schema, [RowChange("I", (1,), 0, ets_us=us(2000 + n))])
        hit.apply(*rows, time_ms=2000 + n)
        waiting = hit.state.merging
        assert waiting.rows == n + 1
        assert sum(len(one.value) for one in waiting._opened.values()) <= 1000 + len(rows[1])
        assert waiting._opened_bytes == sum(len(one.value) for one in waiting._opened.values())


@pytest.mark.parametrize("is_restarted", [False, True])
def test_what_waits_when_the_merge_ends_leaves_by_its_ranks(*, is_restarted: bool) -> None:
    """Two rows of one commit time, where the names say another order than the ranks."""
    ranks = {"c": 1, "a": 2, "b": 3}
    order = replace(ORDER, ranks=ranks)
    for first, second in (("a", "c"), ("c", "a"), ("b", "a"), ("b", "c")):
        hit, logs = Replica(), {source: RoutedLog(source) for source in SOURCES}
        hit.plan = merging_plan(order)
        for source in (first, second):
            rows = logs[source].rows(OWN[source], [RowChange("I", (1, "x"), 0, ets_us=us(1000))])
            hit.apply(*rows, time_ms=1000)
        assert not hit.outputs
        if is_restarted:
            hit.save()
            hit.crash_and_restore()
        hit.plan = merging_plan(None, version=2)
        [last] = set(SOURCES) - {first, second}
        header, value = logs[last].marker(0, us(1))
        hit.apply(replace(header, plan=2), value, time_ms=1100)
        left = [h.routed.source for h, _ in hit.outputs if h.routed.rows]
        assert left == sorted((first, second), key=lambda name: ranks[name])
