"""Several sources merged by commit time: what leaves, in which order, what is late, and how much waits."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from gravity_resolver.merge_queue import PREFIX
from hypothesis import given
from hypothesis import strategies as st

from gravity.header import RoutedKind
from gravity.merge_order import MergeOrder
from gravity.testing.routed_log import RowChange
from tests.merged_histories import (
    ORDER,
    RANKS,
    SOURCES,
    History,
    MergeReplica,
    Model,
    Out,
    Row,
    Said,
    us,
)
from tests.resolver_replica import USERS

seeds = st.integers(0, 2**32)


def run(history: History, order: MergeOrder = ORDER) -> MergeReplica:
    replica = MergeReplica(order)
    for said in history.said:
        replica.take(said)
    return replica


@given(seeds, st.booleans())
def test_while_nobody_is_down_everything_leaves_sorted(seed: int, coarse: bool) -> None:
    history = History.random(random.Random(seed), seconds=8, coarse=coarse).with_end()
    replica = run(history)
    assert replica.out() == [Out(row, late=False) for row in sorted(history.rows)]
    assert replica.counted("parked") == replica.counted("overtaken") == 0
    assert replica.counted("unawaited") == 0


@given(seeds, st.sampled_from(SOURCES), st.sampled_from((4_000, 9_000)), st.booleans())
def test_each_row_leaves_when_the_rule_says_and_is_late_when_it_was_overtaken(
    seed: int, dies: str, for_ms: int, coarse: bool
) -> None:
    rng = random.Random(seed)
    history = History.random(rng, seconds=15, dies=dies, for_ms=for_ms, coarse=coarse)
    replica, model = MergeReplica(), Model(ORDER.max_wait_ms)
    for said in history.said:
        replica.take(said)
        model.take(said)
        assert replica.replica.state.merging.rows == len(model.waiting)
    check(replica, model, history)
    if for_ms < ORDER.max_wait_ms // 2:
        assert not any(out.late for out in model.out)


@given(seeds, st.integers(1, 30))
def test_no_more_waits_than_may(seed: int, rows_max: int) -> None:
    order = replace(ORDER, max_ahead_rows=rows_max)
    history = History.random(random.Random(seed), seconds=12, dies="b", for_ms=20_000)
    replica, model = MergeReplica(order), Model(order.max_wait_ms, rows_max)
    for said in history.said:
        replica.take(said)
        model.take(said)
        assert replica.replica.state.merging.rows == len(model.waiting) <= rows_max
    check(replica, model, history)


@given(seeds, st.integers(100, 2000))
def test_no_more_bytes_wait_than_may(seed: int, size_max: int) -> None:
    order = replace(ORDER, max_ahead_bytes=size_max)
    history = History.random(random.Random(seed), seconds=8)
    replica = MergeReplica(order)
    for said in history.said:
        replica.take(said)
        merging = replica.replica.state.merging
        kept = [v for k, v in replica.replica.state.delta.items() if v and k.startswith(PREFIX)]
        assert merging.size <= size_max
        assert sum(map(len, kept)) >= merging.size
    assert_flags_are_exact(replica.out())


@given(seeds, st.sampled_from(SOURCES))
def test_nothing_passes_a_source_that_is_down_where_it_is_to_be_waited_for(
    seed: int, dies: str
) -> None:
    order = replace(ORDER, on_down="stall")
    history = History.random(random.Random(seed), seconds=15, dies=dies, for_ms=9_000).with_end()
    replica = run(history, order)
    assert replica.out() == [Out(row, late=False) for row in sorted(history.rows)]


@given(seeds, st.sampled_from(SOURCES))
def test_by_table_rows_of_one_table_are_merged_and_others_do_not_wait(seed: int, dies: str) -> None:
    rng = random.Random(seed)
    order = replace(ORDER, strategy="by-table")
    history = History.random(rng, seconds=12, dies=dies, for_ms=9_000)
    replica, model = MergeReplica(order, USERS), Model(order.max_wait_ms)
    alone = MergeReplica(order)
    for said in history.said:
        replica.take(said)
        model.take(said)
        alone.take(said)
    check(replica, model, history)
    assert [o.row for o in alone.out()] == history.rows
    assert alone.replica.state.merging.rows == alone.counted("unawaited") == 0


@given(seeds)
def test_what_is_sent_does_not_depend_on_how_the_logs_are_interleaved(seed: int) -> None:
    """Rows that the sources contest, each source's messages in order, between them any order."""
    rng = random.Random(seed)
    said = {
        name: [Said(name, 1, ((rng.randint(20 * n, 20 * n + 19), 0),)) for n in range(1, 12)]
        for name in SOURCES
    }
    sent = []
    for _ in range(2):
        scene = MergeReplica()
        left = {name: list(messages) for name, messages in said.items()}
        while any(left.values()):
            name = rng.choice([name for name, messages in left.items() if messages])
            (ets, _), *_ = left[name].pop(0).rows
            change = RowChange("U", (ets % 2, f"{name}{ets}"), 0, ets_us=us(ets))
            scene.replica.apply(*scene.logs[name].rows(USERS, [change]), time_ms=1)
        for name in SOURCES:
            scene.take(Said(name, 1, (), 10**9))
        rows = [h for h, _ in scene.replica.outputs if h.routed.kind is RoutedKind.ROWS]
        sent.append([(h.routed.source, h.routed.seq, h.routed.table) for h in rows])
        assert not any(h.routed.late for h in rows)
    assert sent[0] == sent[1]


def check(replica: MergeReplica, model: Model, history: History) -> None:
    out = replica.out()
    assert out == model.out
    assert_flags_are_exact(out)
    for rank in RANKS.values():
        numbers = [o.row.number for o in out if o.row.rank == rank]
        assert numbers == list(range(1, len(numbers) + 1)), "a source's own order"
    assert replica.counted("unawaited") == model.unawaited
    assert replica.counted("overtaken") == sum(o.late for o in out)
    assert replica.counted("parked") == len(model.waiting)
    assert replica.counted("applied") + replica.counted("parked") == len(history.rows)


def assert_flags_are_exact(out: list[Out]) -> None:
    """Late is what a row of a later place went before, and nothing else."""
    greatest = (-1, 0)
    for one in out:
        place = one.row.ets_ms, one.row.rank
        assert one.late == (place < greatest), one
        greatest = max(greatest, place)


@given(seeds, st.sampled_from(("", "a", "c")), st.integers(0, 20))
def test_a_crash_at_any_point_changes_nothing(seed: int, dies: str, rows_max: int) -> None:
    """What was not saved is taken in again; the same leaves under the same numbers."""
    rng = random.Random(seed)
    order = replace(ORDER, max_ahead_rows=rows_max or 10**6)
    history = History.random(rng, seconds=9, dies=dies, for_ms=8_000)
    calm = run(history, order)
    writer = MergeReplica(order)
    messages = [(*writer.message(said), said.time_ms) for said in history.said]
    hit = MergeReplica(order).replica
    hit.save()
    sights: dict[int, object] = {}
    for _ in range(20 * len(messages)):
        at = hit.state.next_input
        if at == len(messages):
            break
        hit.apply(*messages[at])
        for header, value in hit.outputs:
            assert sights.setdefault(header.out_seq, (header, value)) == (header, value)
        hit.outputs.clear()
        if rng.random() < 0.4:
            hit.save()
        if rng.random() < 0.1:
            hit.crash_and_restore()
    hit.crash_and_restore() if rng.random() < 0.5 else None
    while hit.state.next_input < len(messages):
        hit.apply(*messages[hit.state.next_input])
        sights |= {header.out_seq: (header, value) for header, value in hit.outputs}
    assert [sights[n] for n in sorted(sights)] == calm.replica.outputs
    assert hit.state.meta() == calm.replica.state.meta()
    left, right = hit.everything(), calm.replica.everything()
    assert {k: v for k, v in left.items() if v} == {k: v for k, v in right.items() if v}


def test_the_example_of_three_sources() -> None:
    """A: 10:01 a user; B: 10:02 an order; C: 10:01 a product. Whatever the order in which they come."""
    minute = 60_000
    said = {
        "a": Said("a", 1, ((601 * minute, 1),)),
        "b": Said("b", 1, ((602 * minute, 1),)),
        "c": Said("c", 1, ((601 * minute, 1),)),
    }
    for come in ("abc", "acb", "bac", "bca", "cab", "cba"):
        replica = run(History([said[name] for name in come]).with_end())
        assert [o.row for o in replica.out()] == [
            Row(601 * minute, 1, 1), Row(601 * minute, 3, 1), Row(602 * minute, 2, 1),
        ]  # fmt: skip


@pytest.mark.parametrize("silent_ms", [4_999, 5_000])
def test_a_silent_source_is_waited_for_so_long_and_no_longer(silent_ms: int) -> None:
    replica = MergeReplica()
    replica.take(Said("b", 1, (), 1))
    replica.take(Said("c", 1, (), 10**9))
    replica.take(Said("a", 1, ((1000, 1),)))
    for at in (*range(1001, silent_ms, 1000), 1 + silent_ms):
        assert replica.out() == []
        replica.take(Said("a", at, (), 2000))
    assert len(replica.out()) == (silent_ms == 5_000)
    assert replica.replica.state.merging.down() == (["b", "c"] if silent_ms == 5_000 else [])


def test_a_pause_of_the_whole_log_is_nobodys_silence() -> None:
    replica = MergeReplica()
    for source in SOURCES:
        replica.take(Said(source, 1, (), 1))
    replica.take(Said("a", 3_600_000, ((1000, 1),)))
    assert replica.out() == []
    assert replica.replica.state.merging.down() == []
    replica.take(Said("b", 3_600_001, (), 2000))
    replica.take(Said("c", 3_600_002, (), 2000))
    assert replica.out() == [Out(Row(1000, 1, 1), late=False)]


def test_routers_clocks_may_differ_and_a_wrong_stamp_does_not_stop_the_time() -> None:
    replica = MergeReplica()
    replica.take(Said("b", 10**9, (), 1))
    replica.take(Said("c", 10**9, (), 10**9))
    replica.take(Said("a", 10**9 + 3_600_000, ((1000, 1),)))
    for second in range(3):
        # Two routers, a second apart: that is no time.
        replica.take(Said("a", 10**9 + 1000 * second, (), 2000))
        replica.take(Said("c", 10**9 - 1000 + 1000 * second, (), 2000))
    assert replica.replica.state.merging.clock.spoken_ms == 2500 + 2000
    assert replica.out() == []
    replica.take(Said("a", 10**9 + 2500, (), 2000))
    assert len(replica.out()) == 1


def test_an_idle_source_delays_nobody() -> None:
    """An hour without a row: its markers say how far it is."""
    replica = MergeReplica()
    for second in range(3600):
        at = second * 1000 + 1
        for source in ("b", "c"):
            replica.take(Said(source, at, (), at))
        replica.take(Said("a", at, ((at - 1, second + 1),)))
    assert [o.late for o in replica.out()] == [False] * 3600
    assert replica.counted("unawaited") == 0


# ------------------------------------------------------------------ what else stands in a log
