"""What single messages do in a merge: markers, schema changes, existing rows, parts that come late, holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gravity.codec import decode_batch, decode_record, encode_batch
from gravity.cut import CutMark
from gravity.errors import FatalError
from gravity.header import RoutedKind
from gravity.plan_part import Resolution, RulePlan
from gravity.schema_change import TableAction
from gravity.testing.routed_log import RowChange
from gravity.testing.target_log import table
from tests.merged_histories import (
    ORDER,
    OWN,
    RANKS,
    SOURCES,
    MergeReplica,
    Out,
    Row,
    Said,
    merging_plan,
    us,
)
from tests.resolver_replica import TARGET, USERS

ORDERS = table("shop.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])


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
