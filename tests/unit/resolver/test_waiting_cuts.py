"""The marker of a cut that has to wait in the resolver: whoever stops at it has nothing from behind it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gravity.cut import CutMark
from gravity.header import RoutedKind
from gravity.plan_part import Scope
from gravity.schema_change import TableAction
from gravity.testing.routed_log import RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.merged_histories import ORDER, OWN, SOURCES, MergeReplica, Said, us
from tests.resolver_replica import ALONE, TARGET, USERS
from tests.unit.resolver.test_scopes import A, B, Scene

ORDERS = table("shop.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])
MARK = str(CutMark(5, 1000, TARGET))


def by_table() -> MergeReplica:
    """`shop.users` of all three sources, `shop.orders` of a and b, and a table of each alone."""
    scene = MergeReplica(replace(ORDER, strategy="by-table"))
    feeding = {f"shop.{name}": (name,) for name in SOURCES}
    feeding |= {"shop.users": SOURCES, "shop.orders": ("a", "b")}
    scene.replica.plan = replace(scene.replica.plan, feeding={TARGET: feeding})
    return scene


def behind_a_cut(case: str, scene: MergeReplica) -> list[RoutedMessage]:
    """What a says behind the marker of a cut and leaves before it, with what b says that lets it."""
    log = scene.logs["a"]
    match case:
        case "alone":
            return [log.rows(OWN["a"], [RowChange("I", (1, "x"), 8)])]
        case "schema change":
            return [log.schema_change("shop.a", TableAction.ALTER, ets=8)]
        case "existing":
            return [log.rows(ORDERS, [RowChange("R", (1, "x"), 8)])]
        case "late":
            return [log.rows(ORDERS, [RowChange("I", (1, "x"), 2)])]
        case _:
            waits = log.rows(ORDERS, [RowChange("I", (1, "x"), 8)])
            return [waits, scene.logs["b"].marker(0, us(20_000))]


def cuts_of_a(scene: MergeReplica) -> list[tuple[str, str, str]]:
    """What left of a: kind, table and cut."""
    made = [header.routed for header, _ in scene.replica.outputs]
    return [(r.kind.value, r.table, r.cut) for r in made if r.source == "a"]


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("case", ["alone", "schema change", "existing", "late", "merged"])
def test_by_table_rows_that_overtake_the_marker_of_a_cut_take_the_cut_from_it(
    case: str, *, is_restarted: bool
) -> None:
    scene = by_table()
    log, take = scene.logs["a"], scene.replica.apply

    def restart() -> None:
        if is_restarted:
            scene.replica.save()
            scene.replica.crash_and_restore()

    # It leaves with the marker; what comes in front of it then is late.
    take(*scene.logs["b"].rows(ORDERS, [RowChange("I", (2, "x"), 3)]))
    take(*log.rows(USERS, [RowChange("I", (1, "x"), 5)]))
    take(*log.marker(0, us(5000), MARK))
    before = len(scene.replica.outputs)
    restart()
    for message in behind_a_cut(case, scene):
        take(*message)
    overtook = [h.routed.source for h, _ in scene.replica.outputs[before:] if h.routed.table]
    assert overtook.count("a") == 1
    restart()
    take(*log.rows(USERS, [RowChange("I", (2, "x"), 9)]))
    take(*log.marker(0, us(10_000), MARK))
    for source in "bc":
        scene.take(Said(source, 1, (), 10**9))
    markers = [cut for kind, _, cut in cuts_of_a(scene) if kind == "marker"]
    # The second one was overtaken by nothing; the first one says no less than an ordinary marker.
    assert markers == ["", MARK]
    assert not any(scene.replica.state.merging.cuts.values())


def test_by_table_rows_before_the_marker_of_a_cut_and_of_others_leave_the_cut_with_it() -> None:
    scene = by_table()
    log, take = scene.logs["a"], scene.replica.apply
    take(*log.rows(ORDERS, [RowChange("I", (1, "x"), 5)]))
    take(*log.rows(USERS, [RowChange("I", (1, "x"), 5)]))
    take(*log.marker(0, us(5000), MARK))
    take(*log.rows(USERS, [RowChange("I", (2, "x"), 8)]))
    take(*scene.logs["b"].rows(OWN["b"], [RowChange("I", (1, "x"), 9)]))
    scene.replica.save()
    scene.replica.crash_and_restore()
    for source in "bc":
        scene.take(Said(source, 1, (), 10**9))
    assert cuts_of_a(scene) == [
        ("rows", "shop.orders", ""), ("rows", "shop.users", ""), ("marker", "", MARK),
        ("rows", "shop.users", ""),
    ]  # fmt: skip


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("scope", ["table", "job"])
def test_a_marker_in_line_behind_rows_on_hold_marks_no_cut(
    scope: Scope, *, is_restarted: bool
) -> None:
    """Another table's row goes on past it, or a row from behind it goes out with those that waited."""
    scene = Scene(scope)
    scene.say(A, "x")
    scene.say(B, "y")
    scene.say(A, "before", key=2)
    scene.take(scene.logs[A].marker(cut=MARK))
    scene.say(A, "behind", schema=ALONE)
    if is_restarted:
        scene.replica.save()
        scene.replica.crash_and_restore()
    scene.say(A, "y")
    scene.take(scene.logs[A].marker(cut=MARK))
    markers = [h.routed for h, _ in scene.replica.outputs if h.routed.kind is RoutedKind.MARKER]
    assert [(marker.cut, marker.held) for marker in markers] == [("", 0), (MARK, 0)]
    first, second = (index for index, text in enumerate(scene.sent()) if text == "marker")
    assert scene.sent().index("alone") < first < second
