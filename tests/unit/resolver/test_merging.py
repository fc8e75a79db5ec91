"""Several sources merged by commit time: what leaves, in which order, what is late, and how much waits."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from gravity_resolver.merge_queue import PREFIX
from hypothesis import given
from hypothesis import strategies as st

from gravity.codec import decode_batch, decode_record, encode_batch
from gravity.cut import CutMark
from gravity.errors import FatalError
from gravity.header import RoutedKind
from gravity.merge_order import MergeOrder
from gravity.plan_part import Resolution, RulePlan
from gravity.schema_change import TableAction
from gravity.testing.routed_log import RowChange
from gravity.testing.target_log import table
from tests.merged_histories import (
    ORDER,
    OWN,
    RANKS,
    SOURCES,
    History,
    MergeReplica,
    Model,
    Out,
    Row,
    Said,
    merging_plan,
    us,
)
from tests.resolver_replica import TARGET, USERS

ORDERS = table("shop.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])

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


def far(scene: MergeReplica, *sources: str, at_ms: int = 10**9) -> None:
    """The sources say that nothing from before is left."""
    for source in sources:
        scene.take(Said(source, 1, (), at_ms))


def test_a_marker_does_not_pass_the_rows_before_it() -> None:
    scene = MergeReplica()
    scene.take(Said("a", 1, (), 5))
    scene.take(Said("a", 1, ((1000, 1),)))
    scene.take(Said("a", 1, (), 1000))
    scene.take(Said("a", 1, (), 1500))
    scene.take(Said("a", 1, ((2000, 2),)))
    scene.take(Said("a", 1, (), 2000))
    assert scene.kinds() == ["marker a"]
    far(scene, "b")
    assert scene.kinds() == ["marker a", "marker b"]
    far(scene, "c", at_ms=1500)
    # Of the two markers between the rows only the later one says anything.
    assert scene.kinds() == ["marker a", "marker b", "marker c", "rows a", "marker a"]
    assert scene.replica.outputs[-1][0].routed == scene.logs["a"].made[3][0]
    far(scene, "c")
    assert scene.kinds()[5:] == ["marker c", "rows a", "marker a"]
    assert scene.replica.state.merging.markers == {}


def test_the_marker_of_a_cut_gives_way_to_no_later_one() -> None:
    scene, mark = MergeReplica(), str(CutMark(5, 1000, TARGET))
    scene.take(Said("a", 1, ((1000, 1),)))
    for cut in ("", mark, "", ""):
        scene.take(Said("a", 1000, (), 1000, cut))
    far(scene, "b", "c")
    made = [header.routed for header, _ in scene.replica.outputs]
    assert [(r.kind.value, r.cut) for r in made if r.source == "a"] == [
        ("rows", ""), ("marker", mark), ("marker", ""),
    ]  # fmt: skip


def test_by_table_a_marker_waits_for_the_rows_of_every_table() -> None:
    scene = MergeReplica(replace(ORDER, strategy="by-table"))
    scene.replica.plan = replace(
        scene.replica.plan,
        feeding={TARGET: {"shop.users": ("a", "b"), "shop.orders": ("a", "c")}},
    )
    log, take = scene.logs["a"], scene.replica.apply
    take(*scene.logs["b"].rows(USERS, [RowChange("I", (9, "x"), 50)]))
    take(*log.rows(ORDERS, [RowChange("I", (1, "x"), 5)]))
    take(*log.rows(ORDERS, [RowChange("I", (2, "x"), 7)]))
    take(*log.marker())
    assert scene.kinds() == []
    far(scene, "c", at_ms=6000)
    assert scene.kinds() == ["marker c", "rows a"]
    take(*log.rows(USERS, [RowChange("I", (1, "x"), 55)]))
    take(*log.marker())
    assert scene.kinds()[2:] == ["rows b"]
    far(scene, "c", at_ms=10**9)
    assert scene.kinds()[3:] == ["marker c", "rows a", "marker a"]
    far(scene, "b", at_ms=10**9)
    assert scene.kinds()[6:] == ["marker b", "rows a", "marker a"]


def test_a_schema_change_keeps_its_place_among_its_sources_rows() -> None:
    scene = MergeReplica()
    log, take = scene.logs["a"], scene.replica.apply
    take(*log.rows(OWN["a"], [RowChange("I", (1, "x"), 5)]))
    take(*log.schema_change("shop.a", TableAction.ALTER, ets=6))
    take(*log.rows(OWN["a"], [RowChange("I", (2, "x"), 7)]))
    take(*scene.logs["b"].rows(OWN["b"], [RowChange("I", (1, "x"), 8)]))
    assert scene.kinds() == []
    far(scene, "a", "c")
    assert scene.kinds() == ["marker c", "rows a", "schema a", "rows a", "marker a", "rows b"]
    assert scene.counted("applied") == 3


def test_existing_rows_wait_for_nobody_but_their_own_sources_changes() -> None:
    scene = MergeReplica()
    log, take = scene.logs["a"], scene.replica.apply
    scene.take(Said("b", 1, ((10**6, 1),)))
    take(*log.rows(OWN["a"], [RowChange("R", (1, "x"), 0), RowChange("R", (2, "x"), 0)]))
    assert scene.kinds() == ["rows a"], "a copy is no older than anything: it waits for nobody"
    far(scene, "a", at_ms=2 * 10**6)
    assert scene.kinds() == ["rows a", "marker a"], "nothing is known of c"
    take(*log.rows(OWN["a"], [RowChange("U", (1, "y"), 5000)]))
    take(*log.rows(OWN["a"], [RowChange("R", (1, "y"), 10**7)]))
    assert scene.kinds() == ["rows a", "marker a"], "a change is newer than the row that was read"
    far(scene, "b", "c")
    ops = [decode_batch(v).ops for h, v in scene.replica.outputs if h.routed.source == "a"
           and h.routed.kind is RoutedKind.ROWS]  # fmt: skip
    assert ops == [b"RR", b"U", b"R"]
    far(scene, "a")
    scene.take(Said("b", 1, ((10**8, 2),)))
    assert scene.kinds()[-1] == "rows b"
    # One of them that a newer plan places elsewhere has no commit time either.
    take(*log.rows(OWN["a"], [RowChange("R", (3, "x"), 0), RowChange("L", (4, "x"), 0, ets_us=0)]))
    assert scene.kinds()[-1] == "rows a"
    assert not any(h.routed.late for h, _ in scene.replica.outputs)


def test_filtered_rows_are_counted_at_once() -> None:
    scene = MergeReplica()
    scene.take(Said("a", 1, ((1000, 1),)))
    scene.replica.apply(*scene.logs["a"].note(3))
    assert (scene.counted("filtered"), scene.counted("parked")) == (3, 1)


def test_a_late_part_of_a_message_leaves_at_once_and_the_rest_waits() -> None:
    scene = MergeReplica(replace(ORDER, max_ahead_rows=1))
    scene.take(Said("a", 1, ((1000, 1), (3000, 2))))
    assert scene.out() == [Out(Row(1000, 1, 1), late=False)]
    scene.take(Said("b", 1, ((500, 1), (900, 2), (1000, 3))))
    assert scene.out()[1:] == [
        Out(Row(500, 2, 1), late=True), Out(Row(900, 2, 2), late=True), Out(Row(1000, 2, 3), late=False),
    ]  # fmt: skip
    pieces = [h.routed for h, _ in scene.replica.outputs if h.routed.source == "b"]
    assert [(p.first, p.last, p.rows, p.late) for p in pieces] == [
        (0, 1, 2, True),
        (2, 2, 1, False),
    ]


def test_a_delete_of_a_moved_key_is_not_cut_from_its_row() -> None:
    scene = MergeReplica(replace(ORDER, max_ahead_rows=1))
    moved = [RowChange("M", (1, "x"), 5, offset=9000), RowChange("U", (2, "x"), 5, offset=9000)]
    scene.replica.apply(*scene.logs["a"].rows(OWN["a"], moved))
    ((header, value),) = scene.replica.outputs
    assert (decode_batch(value).ops, header.routed.counted) == (b"MU", 1)
    assert (scene.counted("applied"), scene.counted("parked")) == (1, 0)


def test_a_message_that_another_router_cut_elsewhere_waits_only_with_what_is_new() -> None:
    scene = MergeReplica()
    header, value = scene.message(Said("a", 1, tuple((1000 + n, n) for n in range(1, 5))))
    part = decode_batch(value).take([0, 1])
    scene.replica.apply(replace(header, last=1, rows=2, counted=2), encode_batch(part))
    scene.replica.apply(header, value)
    assert (scene.counted("parked"), scene.counted("duplicates")) == (4, 2)
    far(scene, "b", "c")
    assert [o.row.number for o in scene.out()] == [1, 2, 3, 4]
    assert (scene.counted("applied"), scene.counted("parked")) == (4, 0)


def test_a_damaged_message_is_set_aside_when_it_comes() -> None:
    scene = MergeReplica()
    header, value = scene.message(Said("a", 1, ((1000, 1),)))
    effects = scene.replica.apply(header, value[:20])
    assert effects.damage
    assert (scene.counted("dead"), scene.counted("parked")) == (1, 0)


def test_a_plan_without_a_merge_lets_everything_go_in_order() -> None:
    scene = MergeReplica()
    scene.take(Said("a", 1, ((2000, 1),)))
    scene.take(Said("b", 1, ((1000, 1),)))
    assert scene.out() == []
    scene.logs["c"].plan = 2
    scene.replica.plan = merging_plan(None, version=2)
    scene.replica.state.plans = lambda version: merging_plan(
        ORDER if version == 1 else None, version=version
    )
    scene.take(Said("c", 1, ((500, 1),)))
    assert [o.row for o in scene.out()] == [Row(1000, 2, 1), Row(2000, 1, 1), Row(500, 3, 1)]
    assert scene.counted("overtaken") == scene.counted("unawaited") == 0
    assert scene.replica.state.merging.floors == {}
    # A straggler of the first plan does not bring its order back.
    scene.replica.plan = merging_plan(ORDER)
    scene.take(Said("a", 1, ((3000, 2),)))
    assert scene.out()[-1].row == Row(3000, 1, 2)


def test_what_waits_is_resolved_by_the_plan_it_came_under() -> None:
    scene = MergeReplica(schema=USERS)
    later = merging_plan(version=2)
    by_rank = RulePlan(("*",), None, Resolution("source-priority", RANKS))
    plans = {1: scene.replica.plan, 2: replace(later, rules=(by_rank,))}
    scene.replica.state.plans = plans.__getitem__
    scene.take(Said("a", 1, ((2000, 1),)))
    scene.replica.plan = plans[2]
    for log in scene.logs.values():
        log.plan = 2
    far(scene, "a", "b", "c")
    (saved,) = [v for k, v in scene.replica.everything().items() if v and k.startswith(b"r\0")]
    under_first = MergeReplica(None, schema=USERS)
    under_first.take(Said("a", 1, ((2000, 1),)))
    (expected,) = [
        v for k, v in under_first.replica.everything().items() if v and k.startswith(b"r\0")
    ]
    assert saved == expected


def test_two_holds_that_begin_at_one_input_have_names_of_their_own() -> None:
    scene = MergeReplica()
    stop = Resolution("error-stop", RANKS)
    scene.replica.plan = replace(merging_plan(), rules=(RulePlan(("*",), None, stop),))
    for name in SOURCES[:2]:
        for key in (1, 2):
            change = RowChange("I", (key, name), 0, ets_us=us(1000 * key))
            scene.replica.apply(*scene.logs[name].rows(USERS, [change]))
    far(scene, "a", "b", "c")
    names = [decode_record("conflict", data)["hold"] for data in scene.replica.conflicts]
    assert names == ["t.-1.2.0", "t.-1.3.0"]


def test_a_row_that_is_too_late_names_the_message_it_came_in() -> None:
    scene = MergeReplica(schema=USERS)
    scene.take(Said("a", 1, ((2000, 1),)))
    far(scene, "c")
    scene.replica.state.collected["shop.users"] = us(10**6)
    effects = scene.replica.state.apply(
        *scene.message(Said("b", 1, (), 10**9)), offset=2, plan=scene.replica.plan
    )
    (told,) = [part for part in effects.rest or () if part.too_late]
    assert told.cause == (scene.logs["a"].made[0][0], 0)


def test_more_rows_than_may_wait_for_a_source_that_is_down_end_it_by_name() -> None:
    scene = MergeReplica(replace(ORDER, on_down="stall", max_ahead_rows=1))
    scene.replica.state.waiting_rows_max = 3
    scene.take(Said("a", 1, ((1000, 1), (1001, 2), (1002, 3))))
    assert scene.replica.state.merging.rows == 3
    with pytest.raises(FatalError, match="more than 3 rows wait"):
        scene.take(Said("a", 1, ((1003, 4),)))


def test_sources_in_parallel_and_a_single_source_pass_as_they_come_and_keep_their_bytes() -> None:
    said = Said("a", 1, ((2000, 1), (1000, 2)))
    for scene in (MergeReplica(None), MergeReplica()):
        if scene.replica.plan.merge is not None:
            feeding = {TARGET: {"shop.a": ("a",)}}
            scene.replica.plan = replace(scene.replica.plan, feeding=feeding)
        header, value = scene.message(said)
        scene.replica.apply(header, value)
        (sent,) = scene.replica.outputs
        assert (sent[0].routed, sent[1]) == (header, value)
        assert scene.replica.state.delta == {}
