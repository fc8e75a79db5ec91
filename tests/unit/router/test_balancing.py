"""Loads move buckets, a few at a time, until no target is far behind the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from gravity_router.routing import route
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gravity.balancing import BUSY_S, STEP, Load, Move, moved, next_move, next_moves
from gravity.batch import DELETE, INSERT, READ
from gravity.cli.balance import being_copied
from gravity.config import parse_config
from gravity.config.problem import ConfigError
from gravity.errors import FatalError
from gravity.placed_anew import FORMER_MAX, before_columns, former_routings
from gravity.placement import BUCKETS, Placement, buckets_of, round_robin
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.status import PipelineStatus, SourceStatus
from tests.unit.router.test_placed_anew import advance, play
from tests.unit.router.test_sharding import (
    HEAD,
    IN_TURN,
    SCHEMA,
    Row,
    compiled,
    history,
    message,
    steps,
    tables,
)

NAMES = ("a", "b", "c")
MAP = tuple(NAMES.index(name) for name in round_robin(dict.fromkeys(NAMES, 1)))
PLACEMENT = Placement("p", "least-connections", "bucket", (), NAMES, buckets=MAP)
LEAST = IN_TURN.replace("round-robin", "least-connections")
APPENDED = IN_TURN.replace("targets:", "append-only: true, targets:")
loads = st.fixed_dictionaries(
    {name: st.builds(Load, st.floats(0, 1000), st.integers(0, 10**6)) for name in NAMES}
)


@given(loads)
def test_only_the_one_farthest_behind_gives_and_only_to_the_one_least_behind(
    found: dict[str, Load],
) -> None:
    move = next_move(PLACEMENT, found)
    lags = sorted(load.lag_s for load in found.values())
    if move is None:
        assert lags[-1] < BUSY_S or lags[0] >= lags[-1] / 2 - 0.01
        return
    assert found[move.from_].lag_s == lags[-1] >= BUSY_S
    assert found[move.to].lag_s <= lags[0] + 0.01 <= lags[-1] / 2 + 0.02
    after = moved(PLACEMENT, move)
    changed = [b for b in range(BUCKETS) if after.buckets[b] != MAP[b]]
    assert tuple(changed) == move.buckets
    assert len(changed) == STEP
    assert {MAP[b] for b in changed} == {NAMES.index(move.from_)}
    assert {after.buckets[b] for b in changed} == {NAMES.index(move.to)}


def test_nothing_moves_while_the_one_farthest_behind_is_not_far_behind() -> None:
    rest = {"b": Load(0, 0), "c": Load(0, 0)}
    assert next_move(PLACEMENT, {"a": Load(BUSY_S - 0.1, 10**6), **rest}) is None
    assert next_move(PLACEMENT, {"a": Load(BUSY_S, 0), **rest}) is not None


def test_of_equal_ages_the_longer_queue_counts() -> None:
    move = next_move(PLACEMENT, {"a": Load(100, 0), "b": Load(100, 9), "c": Load(0, 0)})
    assert move is not None
    assert (move.from_, move.to) == ("b", "c")
    # A queue never outweighs an age.
    assert Load(1, 10**9).weight < Load(1.1, 0).weight


def test_a_target_of_which_nothing_was_ever_heard_stops_all_moves() -> None:
    assert next_move(PLACEMENT, {"a": Load(100, 0), "b": Load(0, 0)}) is None


def test_targets_of_different_speed_come_to_a_rest() -> None:
    """Each takes in rows by its buckets and works them off at its own rate; queues are in seconds of work."""
    rates = {"a": 1.0, "b": 1.0, "c": 4.0}
    placement, queue, moves = PLACEMENT, dict.fromkeys(NAMES, 0.0), 0
    last = 0
    for step in range(400):
        for place, name in enumerate(NAMES):
            rows = 5.0 * placement.buckets.count(place) / BUCKETS
            queue[name] = max(0.0, queue[name] + (rows - rates[name]) * 10)
        move = next_move(placement, {n: Load(queue[n] / rates[n], 0) for n in NAMES})
        if move is not None:
            placement, moves, last = moved(placement, move), moves + 1, step
    assert moves
    assert max(queue.values()) < BUSY_S * 4
    assert last < 300, "still moving"


def test_a_target_keeps_half_of_what_it_has_and_its_last_bucket() -> None:
    placement, slow = PLACEMENT, {"a": Load(100, 0), "b": Load(0, 0), "c": Load(0, 0)}
    counts = []
    while (move := next_move(placement, slow)) is not None:
        placement = moved(placement, move)
        counts.append(placement.buckets.count(0))
    assert counts[-1] == 1
    assert all(after >= before - max(STEP, before // 2) for before, after in pairwise(counts))


def test_where_loads_have_put_a_bucket_it_stays_when_the_file_is_read_again() -> None:
    first = compiled(LEAST)
    [placement] = first.placements
    move = next_move(placement, {"a": Load(50, 0), "b": Load(0, 0), "c": Load(9, 0)})
    assert move is not None
    heavy = moved(placement, move)
    plan = type(first).from_json({**first.to_json(), "placements": [heavy.__dict__]})
    assert compiled(LEAST, plan).version == plan.version
    fewer = compiled(LEAST.replace("[a, b, c]", "[b, c]"), plan).placements[0]
    stays = [b for b in range(BUCKETS) if heavy.targets[heavy.buckets[b]] != "a"]
    assert all(fewer.targets[fewer.buckets[b]] == heavy.targets[heavy.buckets[b]] for b in stays)


def test_nothing_that_must_be_read_again_moves_while_existing_rows_are_being_read() -> None:
    slow = {"a": Load(100, 0), "b": Load(0, 0), "c": Load(0, 0)}
    appended = replace(PLACEMENT, name="q", append_only=True)
    by_rule = replace(PLACEMENT, name="r", strategy="round-robin")
    maps = (PLACEMENT, appended, by_rule)
    move = next_move(PLACEMENT, slow)
    assert next_moves(maps, slow, is_copying=False) == {"p": move, "q": move}
    assert next_moves(maps, slow, is_copying=True) == {"q": move}


def test_a_source_that_has_not_taken_the_last_move_yet_is_about_to_be_read_again() -> None:
    taken = SourceStatus(
        "s", 0, 0.0, "", 0, snapshot_done=2, snapshot_total=2, silent_s=0.0, plan=4
    )
    reading = replace(taken, snapshot_done=1)
    told = [
        (4, taken, False),
        (5, taken, True),
        (4, reading, True),
        (1, replace(taken, plan=None), True),
    ]
    for plan, source, expected in told:
        status = PipelineStatus(0, plan, (taken, source), (), ())
        assert bool(being_copied(status)) is expected, (plan, source)


@given(made=steps, data=st.data())
def test_moves_in_the_middle_of_a_copy_lose_and_double_no_row(
    made: list[tuple[str, int, int, tuple[int | None, str | None, int]]], data: st.DataObject
) -> None:
    """Existing rows are read again under each plan, seldom to the end, while they change."""
    changes, end = history(made)
    existing = data.draw(st.integers(0, len(changes)), "changes of before anything was collected")
    table: dict[int, Row] = {}
    for change in changes[:existing]:
        advance(table, change)
    changes = changes[existing:]
    homes = {key: buckets_of([[key]])[0] for key in range(7)}
    plan, held = compiled(LEAST), {name: dict[int, Row]() for name in NAMES}
    place_of = dict(enumerate(plan.placements[0].buckets))
    rounds = data.draw(st.integers(1, 1 + FORMER_MAX), "plans")
    cuts = sorted(data.draw(st.integers(0, len(changes))) for _ in range(rounds - 1))
    settled = 0
    for number, (start, stop) in enumerate(pairwise([0, *cuts, len(changes)])):
        if number:
            bucket, to = homes[data.draw(st.integers(0, 6))], data.draw(st.integers(0, 2))
            move = Move(NAMES[place_of[bucket]], NAMES[to], (bucket,))
            after = replace(
                plan, version=plan.version + 1, placements=(moved(plan.placements[0], move),)
            )
            if not after.same_content(plan):
                plan = replace(after, former=former_routings(after, plan, settled))
            place_of[bucket] = to
        is_whole = number == rounds - 1 or data.draw(st.booleans(), "whether it is read to the end")
        reads = {key: data.draw(st.integers(start, stop + (not is_whole))) for key in range(7)}
        for at in range(start, stop + 1):
            found = [table[key] for key, when in reads.items() if when == at and key in table]
            play(held, [(READ, None, row) for row in found], plan)
            if at < stop:
                play(held, [changes[at]], plan)
                advance(table, changes[at])
        settled = plan.version if is_whole else settled
    assert table == end
    for place, name in enumerate(NAMES):
        assert held[name] == {key: row for key, row in end.items() if place_of[homes[key]] == place}


# names


TURNS = "{source-tables: orders, sources: [%s], strategy: round-robin, targets: [%s]}"


def named(*routes: str, previous: RoutingPlan | None = None) -> RoutingPlan:
    """The plan of some `routing` entries."""
    return compiled(f"routing: [{', '.join(routes)}]", previous)


def test_each_source_s_rows_of_a_table_are_divided_by_their_own_entry() -> None:
    plan = named(TURNS % ("s", "a, b"), TURNS % ("other", "b, c"))
    assert [placement.name for placement in plan.placements] == [
        "routing of orders of s",
        "routing of orders of other",
    ]
    taken = {
        source: [
            (feed.target, row)
            for feed in plan.feeds(source, SCHEMA)
            for row in range(40)
            if plan.placement(feed.shares[0].placement).places([[row]]) == [feed.shares[0].place]
        ]
        for source in ("s", "other")
    }
    for source, targets in (("s", "ab"), ("other", "bc")):
        assert sorted(row for _, row in taken[source]) == list(range(40))
        assert {target for target, _ in taken[source]} == set(targets)


def test_no_two_placements_are_called_alike_and_the_only_one_of_a_table_as_ever() -> None:
    hashed = "{source-tables: orders, strategy: hash, key: %s, targets: [a, b]}"
    plan = named(hashed % "id", hashed % "v", TURNS % ("s", "a, b"), TURNS % ("s", "b, c"))
    assert [placement.name for placement in plan.placements] == [
        "routing of orders", "routing of orders (2)", "routing of orders of s", "routing of orders of s (2)",
    ]  # fmt: skip
    assert len({route.share.placement for route in plan.routes if route.share}) == len(plan.placements)  # fmt: skip
    assert [p.name for p in named(TURNS % ("s", "a, b")).placements] == ["routing of orders"]


def test_a_second_entry_for_a_table_moves_no_bucket_of_the_first() -> None:
    one = named(TURNS % ("s", "a, b, c"))
    first = named(TURNS % ("s", "a, b"), previous=one)
    two = named(TURNS % ("other", "b, c"), TURNS % ("s", "a, b"), previous=first)
    assert two.placements[1].name != first.placements[0].name
    assert two.placements[1].buckets == first.placements[0].buckets
    assert two.placements[1].buckets != named(TURNS % ("s", "a, b")).placements[0].buckets
    again = named(TURNS % ("s", "a, b"), previous=two)
    assert again.placements == first.placements


@pytest.mark.parametrize("strategy", ["round-robin", "least-connections"])
def test_a_source_more_moves_no_bucket(strategy: str) -> None:
    """The entry gets another name by it; of two that were there it is the one that had its sources."""
    turns = TURNS.replace("round-robin", strategy)
    head = HEAD.replace(
        "name: other,", "name: other, host: h, username: u, password: p}, {name: c,"
    )
    assert head != HEAD

    def under(*routes: str, previous: RoutingPlan | None) -> RoutingPlan:
        text = head + f"routing: [{', '.join(routes)}]"
        return compile_plan(parse_config(text, env={}).config, [SourceTable("s", SCHEMA)], previous)

    first = under(turns % ("other", "a, b"), turns % ("s", "a, b"), previous=None)
    loads = [tuple((bucket // by) % 2 for bucket in range(BUCKETS)) for by in (3, 7)]
    loaded = tuple(
        replace(placement, buckets=buckets)
        for placement, buckets in zip(first.placements, loads, strict=True)
    )
    first = replace(first, placements=loaded)
    one_more = under(turns % ("other", "a, b"), turns % ("s, c", "a, b"), previous=first)
    assert [p.name for p in one_more.placements] == [
        "routing of orders of other",
        "routing of orders of s, c",
    ]
    kept = [under(turns % (s, "a, b"), turns % (t, "a, b"), previous=first).placements
            for s, t in (("other", "s"), ("s, c", "other, c"))]  # fmt: skip
    assert [p.buckets for p in one_more.placements] == [p.buckets for p in kept[0]]
    assert [p.buckets for p in kept[1]] == [p.buckets for p in reversed(kept[0])]
    apart = under(turns % ("other, c", "b, c"), turns % ("s", "a, b"), previous=first).placements
    assert apart[1].buckets == kept[0][1].buckets
    assert apart[0].buckets == under(turns % ("c", "b, c"), previous=None).placements[0].buckets

    entries = [turns % (source, "a, b") for source in ("other", "s", "c")]
    new = under(*entries, previous=first).placements[2]
    assert new.buckets == under(turns % ("c", "a, b"), previous=None).placements[0].buckets


def test_a_table_that_is_called_as_an_entry_of_a_source_has_a_name_of_its_own() -> None:
    odd = "{source-tables: 'orders of s', strategy: round-robin, targets: [a, b]}"
    entries = [TURNS % ("s", "a, b"), TURNS % ("other", "b, c"), odd]
    for order in (entries, entries[::-1]):
        plan = named(*order)
        names = [placement.name for placement in plan.placements]
        assert len(set(names)) == 3
        assert {route.share.placement for route in plan.routes if route.share} == set(names)


# append-only


def test_new_rows_of_an_append_only_table_take_turns_whatever_their_key() -> None:
    plan = compiled(APPENDED)
    changes = [(INSERT, None, (key * 1024, 7, None, 0)) for key in range(300)]
    header, value = message(changes, before_columns(plan, "s", SCHEMA))
    sent = route(header, value, plan)
    assert sent == route(header, value, plan), "a replay"
    held = tables(sent, plan.partitions)
    assert Counter({name: len(held[name]) for name in NAMES}) == dict.fromkeys(NAMES, 100)


@pytest.mark.parametrize("op", [READ, DELETE])
def test_a_row_that_may_be_anywhere_goes_from_everywhere_but_where_it_is_sent(op: int) -> None:
    plan = compiled(APPENDED)
    header, value = message([(op, None, (5, 7, None, 0))], before_columns(plan, "s", SCHEMA))
    sent = [m for m in route(header, value, plan) if m.header.rows]
    assert {m.target for m in sent} == set(NAMES)
    assert sum(m.header.counted for m in sent) == 1


def test_turns_are_for_balancing_only() -> None:
    with pytest.raises(ConfigError, match=r"append-only.*not used by strategy hash"):
        parse_config(HEAD + "routing: [{source-tables: o, strategy: hash, key: k, append-only: true, targets: [a]}]", env={})  # fmt: skip


def test_rows_that_two_sources_may_have_do_not_take_turns() -> None:
    """Each would have its say at another target, where nobody hears the other."""
    tables = [SourceTable(source, SCHEMA) for source in ("s", "other")]

    def made(
        text: str, *, of: Sequence[SourceTable] = tables, previous: RoutingPlan | None = None
    ) -> RoutingPlan:
        return compile_plan(parse_config(text, env={}).config, of, previous)

    with pytest.raises(FatalError, match=r"append-only.* s, other feed one table") as caught:
        made(HEAD + APPENDED)
    assert caught.value.where == "target a, table app.orders, source s"
    assert made(HEAD + APPENDED, of=tables[:1]).placements[0].append_only
    assert not made(HEAD + IN_TURN).placements[0].append_only
    # A plan in force that has it so already stays, with a word about it, and others follow it.
    old = made(HEAD + IN_TURN)
    kept = tuple(replace(placement, append_only=True) for placement in old.placements)
    in_force = replace(old, placements=kept)
    other = "\nconflict-resolution: {default-strategy: timestamp-latest}"
    for text, version in ((HEAD + APPENDED, 1), (HEAD + APPENDED + other, 2)):
        with capture_logs() as logs:
            plan = made(text, previous=in_force)
        assert plan.version == version
        assert plan.placements[0].append_only
        assert [(one["log_level"], one["target"], one["table"]) for one in logs] == [
            ("warning", name, "app.orders") for name in NAMES
        ]
        assert "leave append-only out" in logs[0]["remedy"]
    with pytest.raises(FatalError, match="s, other feed one table"):
        made(HEAD + APPENDED, previous=old)
    # As the remedy says.
    own = "type: mysql, transforms: [{tables: orders, rename: {table: '{source}_{table}'}}]"
    apart = made(HEAD.replace("type: mysql", own) + APPENDED)
    assert set(apart.feeding["a"]) == {"app.s_orders", "app.other_orders"}
