"""A newer plan: every row ends where it wants it and nowhere else, once the source has been read again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from gravity_router.routing import RoutedMessage, route
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, LEFT, READ, REMOVES_ROW, UPDATE
from gravity.codec import decode_batch
from gravity.errors import FatalError
from gravity.header import RoutedKind
from gravity.placed_anew import FORMER_MAX, before_columns, is_placed_as, leaving, settled_under
from gravity.plan import RoutingPlan
from tests.unit.router.test_sharding import (
    BY_RENDEZVOUS,
    CONDITIONAL,
    HASH,
    IN_TURN,
    NAMES,
    ORACLES,
    RANGE,
    SCHEMA,
    WEIGHTED,
    Change,
    Row,
    compiled,
    history,
    message,
    steps,
)

TO_ALL = ("", lambda _: NAMES)
TO_ONE = ("routing: [{source-tables: orders, targets: [b]}]", lambda _: ("b",))
APPENDED = IN_TURN.replace("targets:", "append-only: true, targets:")
RULES = [*ORACLES, TO_ALL, TO_ONE, (APPENDED, None)]
FEW = "routing: [{source-tables: orders, strategy: conditional, conditions: [{if: v > 1, targets: a}]}]"
Tables = dict[str, dict[int, Row]]


def apply(held: Tables, sent: Sequence[RoutedMessage], partitions: int) -> None:
    """What the targets hold after it, partition by partition."""
    for partition in range(partitions):
        for m in sent:
            if m.partition == partition and m.header.kind is RoutedKind.ROWS:
                batch = decode_batch(m.value)
                for op, row in zip(batch.ops, batch.rows(), strict=True):
                    if op in REMOVES_ROW:
                        held[m.target].pop(int(str(row[0])), None)
                    else:
                        held[m.target][int(str(row[0]))] = row  # type: ignore[assignment]


def play(held: Tables, changes: Sequence[Change], plan: RoutingPlan) -> None:
    """Sends the changes under a plan; every row is accounted for at every target."""
    if not changes:
        return
    header, value = message(changes, before_columns(plan, "s", SCHEMA))
    sent = route(header, value, plan)
    apply(held, sent, plan.partitions)
    for name in NAMES:
        mine = [m.header for m in sent if m.target == name]
        assert sum(h.counted + h.filtered for h in mine) == len(changes)
        for partition in range(plan.partitions):
            parts = [
                m.header
                for m in sent
                if (m.target, m.partition) == (name, partition) and m.header.kind is RoutedKind.ROWS
            ]
            # The resolver takes rows at or below the last one for repeats.
            assert all(one.last < other.first for one, other in pairwise(parts))


def advance(table: dict[int, Row], change: Change) -> None:
    op, old, new = change
    if op == UPDATE:
        assert old is not None
        del table[old[0]]
    if op == DELETE:
        del table[new[0]]
    else:
        table[new[0]] = new


@given(
    made=steps,
    rules=st.lists(st.sampled_from(range(len(RULES))), min_size=2, max_size=4),
    data=st.data(),
)
def test_after_another_plan_every_row_is_where_it_says_and_nowhere_else(
    made: list[tuple[str, int, int, tuple[int | None, str | None, int]]],
    rules: list[int],
    data: st.DataObject,
) -> None:
    changes, end = history(made)
    cuts = sorted(data.draw(st.integers(0, len(changes))) for _ in rules[1:])
    plans: list[RoutingPlan] = []
    for number in rules:
        plans.append(compiled(RULES[number][0], plans[-1] if plans else None))
    held: Tables = {name: {} for name in NAMES}
    table: dict[int, Row] = {}
    for plan, start, stop in zip(plans, [0, *cuts], [*cuts, len(changes)], strict=True):
        is_last = plan is plans[-1]
        # When each key is read again: before the change of that number, or (not of the last plan) never.
        latest = stop if is_last or plan is plans[0] else stop + 1
        reads = {key: data.draw(st.integers(start, latest)) for key in range(7)}
        for at in range(start, stop + 1):
            if plan is not plans[0]:
                found = [table[key] for key, when in reads.items() if when == at and key in table]
                play(held, [(READ, None, row) for row in found], plan)
            if at < stop:
                play(held, [changes[at]], plan)
                advance(table, changes[at])
    assert table == end
    oracle = RULES[rules[-1]][1]
    fed = {feed.target for feed in plans[-1].feeds("s", SCHEMA)}
    for name in fed:
        takes = [name in {feed.target for feed in plan.feeds("s", SCHEMA)} for plan in plans]
        # A target that leaves a table out keeps its rows as they are, also those that go meanwhile.
        if oracle is not None and takes == sorted(takes):
            assert held[name] == {key: row for key, row in end.items() if name in oracle(row)}
    if oracle is None and all(len(plan.feeds("s", SCHEMA)) == len(NAMES) for plan in plans):
        rows = [item for mine in held.values() for item in mine.items()]
        assert sorted(rows) == sorted(end.items())  # Each at one target, whichever.
    # Where rows were shared out, none stays at a target that has no share any more.
    if len(plans) == 2 and plans[0].placements and plans[-1].version != plans[0].version:
        for name in {share.target for share in plans[0].routes if share.share} - fed:
            assert not held[name]


def test_a_key_that_moves_leaves_the_target_where_an_earlier_plan_had_it() -> None:
    """The new plan sends the new key there, but never had the old one there."""
    first = compiled(HASH)
    plan = compiled(IN_TURN, first)
    homes = [ORACLES[4][1]((key, 0, None, 0)) for key in range(40)]
    old, new = homes.index(("b",)), homes.index(("a",))
    row: Row = (old, 0, None, 0)  # user_id 0: by the first plan at a.
    header, value = message([(UPDATE, row, (new, 0, None, 0))], before_columns(plan, "s", SCHEMA))
    held: Tables = {"a": {old: row}, "b": {}, "c": {}}
    apply(held, route(header, value, plan), plan.partitions)
    assert held == {"a": {new: (new, 0, None, 0)}, "b": {}, "c": {}}


def test_targets_that_rows_leave_alike_share_the_encoded_parts() -> None:
    former = FEW.replace("targets: a", "targets: [a, b, c]")
    plan = compiled(former.replace("v > 1", "v > 2"), compiled(former))
    changes: list[Change] = [(READ, None, (1, 0, None, 2)), (READ, None, (2, 0, None, 3))]
    changes.append((UPDATE, (3, 0, None, 2), (3, 0, None, 2)))
    header, value = message(changes, before_columns(plan, "s", SCHEMA))
    sent = [m for m in route(header, value, plan) if m.header.kind is RoutedKind.ROWS]
    a, *others = ([m.value for m in sent if m.target == name] for name in NAMES)
    told = [op for part in a for op in decode_batch(part).ops]
    assert sorted(told) == sorted([LEFT, READ, LEFT])
    for values in others:
        assert all(one is other for one, other in zip(a, values, strict=True))


def test_a_plan_that_sends_rows_as_before_reads_nothing_again_and_remembers_nothing() -> None:
    first = compiled(HASH)
    assert compiled(HASH, first).version == first.version
    ruled = compiled(HASH + "\nconflict-resolution: {default-strategy: timestamp-latest}", first)
    assert (ruled.version, ruled.former) == (2, ())
    assert is_placed_as(ruled, first, "s", "app", "orders")


@pytest.mark.parametrize(
    ("before", "after", "stands"),
    [
        (HASH, IN_TURN, False),
        (RANGE, RANGE.replace("to *", "to 2024-12-31"), False),
        ("", TO_ONE[0], True),  # The others keep what they have.
        (TO_ONE[0], "", False),
        (FEW, FEW.replace("v > 1", "v > 2"), False),
        (FEW, FEW + "\ndistribution-rules: [{condition: 'nowhere = 1', targets: [b]}]", False),
    ],
)
def test_which_plans_have_a_table_read_again(before: str, after: str, *, stands: bool) -> None:
    first = compiled(before)
    plan = compiled(after, first)
    assert is_placed_as(plan, first, "s", "app", "orders") is stands
    assert is_placed_as(plan, first, "s", "app", "users") or "nowhere" in after


def test_a_table_that_a_second_source_begins_to_feed_is_read_again() -> None:
    """From then on the resolver must know what the first one says."""
    plan = compiled("")
    assert plan.resolution("a", "app.orders") is None
    joined = replace(plan, feeding={name: {"app.orders": ("s", "other")} for name in NAMES})
    assert not is_placed_as(joined, plan, "s", "app", "orders")


def test_new_weights_move_only_the_buckets_they_must() -> None:
    first = compiled(WEIGHTED)
    [old] = first.placements
    [new] = compiled(WEIGHTED.replace("weight: 3", "weight: 2"), first).placements
    moved = [b for b in range(1024) if old.buckets[b] != new.buckets[b]]
    assert [new.buckets.count(place) for place in range(3)] == [512, 256, 256]
    assert len(moved) == old.buckets.count(0) - 512
    assert {old.buckets[bucket] for bucket in moved} == {0}


def test_what_is_settled_is_forgotten() -> None:
    first = compiled(HASH)
    second = compiled(IN_TURN, first)
    assert [former.until for former in second.former] == [2]
    third = compiled(BY_RENDEZVOUS, second)
    assert [former.until for former in third.former] == [2, 3]
    again = compiled(HASH, second)
    assert [former.until for former in again.former] == [2, 3]
    assert [f.until for f in compiled(BY_RENDEZVOUS, second, settled=2).former] == [3]


def test_of_equal_routings_one_is_remembered_and_of_too_many_none_more() -> None:
    plan = compiled(HASH)
    for round_ in range(20):
        plan = compiled((IN_TURN, HASH)[round_ % 2], plan)
    assert [former.until for former in plan.former] == [20, 21]
    with pytest.raises(FatalError, match="earlier routings are still being moved"):
        for number in range(FORMER_MAX + 1):
            plan = compiled(FEW.replace("v > 1", f"v > {number}"), plan)


def test_rows_leave_even_where_the_earlier_rule_can_not_be_asked_any_more() -> None:
    """The table has lost the column it was about."""
    first = compiled(RANGE)
    plan = compiled(BY_RENDEZVOUS, first)
    lost = replace(SCHEMA, columns=tuple(c for c in SCHEMA.columns if c.name != "day"))
    assert set(leaving(plan, "s", lost)) == {"a", "b"}
    assert before_columns(plan, "s", lost) == (0, 1, 2)


def test_what_leaves_is_found_once_for_each_table_and_shape() -> None:
    """The router asks about every message."""
    plan = compiled(BY_RENDEZVOUS, compiled(RANGE))
    found = leaving(plan, "s", SCHEMA)
    assert leaving(plan, "s", replace(SCHEMA)) is found
    other = leaving(plan, "s", replace(SCHEMA, table="users"))
    assert other is not found
    assert other != found


def test_a_collector_that_was_overtaken_settles_nothing() -> None:
    def point(plan: int, *, done: bool = True) -> dict[str, Any]:
        return {"offset": 9, "snapshot_done": done, "plan": plan}

    records: dict[str, Any] = {"owner/s/1": {"offset": 0}, "point/s/1": point(3)}
    assert settled_under(records, ["s"]) == 3
    assert settled_under(records, ["s", "t"]) == 0
    assert settled_under({**records, "owner/s/2": {"offset": -1}}, ["s"]) == 0
    records |= {"owner/s/2": {"offset": 5}, "point/s/2": point(4, done=False)}
    assert settled_under(records, ["s"]) == 0
    assert settled_under({**records, "point/s/2": point(4)}, ["s"]) == 4
    assert settled_under({"owner/s/1": {"offset": 0}, "point/s/1": {"offset": 1, "snapshot_done": True}}, ["s"]) == 0  # fmt: skip


def test_the_earlier_routings_are_part_of_the_plan_in_control() -> None:
    plan = compiled(IN_TURN, compiled(CONDITIONAL, compiled(HASH)))
    assert RoutingPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    header, value = message([(INSERT, None, (1, 2, None, 3))], before_columns(plan, "s", SCHEMA))
    assert route(header, value, plan) == route(header, value, plan)
