"""Loads move buckets, a few at a time, until no target is far behind the others."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from gravity_router.routing import route
from hypothesis import given
from hypothesis import strategies as st

from gravity.balancing import BUSY_S, STEP, Load, moved, next_move
from gravity.batch import DELETE, INSERT, READ
from gravity.config import parse_config
from gravity.config.problem import ConfigError
from gravity.placed_anew import before_columns
from gravity.placement import BUCKETS, Placement, round_robin
from tests.unit.router.test_sharding import HEAD, IN_TURN, SCHEMA, compiled, message, tables

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
