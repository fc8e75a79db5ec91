"""Rows that a newer plan places at another target: a source that has moved its row has no say here."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from gravity.plan_part import FormerRouting, Resolution
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RowChange
from tests.resolver_replica import RANKS, RULES, SOURCES, TARGET, USERS, Replica

STOP = Resolution("error-stop", RANKS)
READ_S = -EPOCH_US // 1_000_000
"""A row that is read has no commit time."""


class Moving:
    """Sources whose rows leave a target one after the other."""

    def __init__(self, rule: Resolution) -> None:
        self.replica = Replica(rule)
        self.logs = {source: RoutedLog(source) for source in SOURCES}

    def say(self, source: str, op: str, name: str, at: int, key: int = 1) -> None:
        self.replica.take([self.logs[source].rows(USERS, [RowChange(op, (key, name), at)])])

    @property
    def rows(self) -> dict[int, str]:
        return {key: str(row[1]) for key, row in self.replica.target_rows().items()}


@pytest.mark.parametrize("rule", [*RULES, STOP], ids=str)
def test_when_all_sources_have_moved_their_rows_none_is_left_and_nobody_disagrees(
    rule: Resolution,
) -> None:
    for seed in range(30):
        random, moving = Random(seed), Moving(rule)
        for at in range(20):
            moving.say(
                random.choice(SOURCES), random.choice("IUUUD"), f"n{at}", at, random.randint(1, 3)
            )
        seen = len(moving.replica.conflicts)
        ways = [(source, key) for source in SOURCES for key in (1, 2, 3)]
        random.shuffle(ways)
        open_holds = moving.replica.state.holds
        for source, key in ways:
            moving.say(source, "L", "", READ_S if random.random() < 0.5 else 50, key)
        assert moving.rows == {}, seed
        assert moving.replica.state.holds == 0
        # Holds that end are told; nothing new has begun.
        ended = len(moving.replica.conflicts) - seen
        assert ended <= 2 * open_holds, seed


@pytest.mark.parametrize("rule", [*RULES, STOP], ids=str)
def test_while_one_source_has_its_row_here_its_word_stands(rule: Resolution) -> None:
    moving = Moving(rule)
    moving.say("a", "I", "x", 10)
    moving.say("b", "I", "x", 12)
    moving.say("a", "L", "x", READ_S)
    assert moving.rows == {1: "x"}
    moving.say("b", "U", "y", 14)
    assert moving.rows == {1: "y"}, "a has no say, whatever its rank"
    moving.say("b", "L", "y", READ_S)
    assert moving.rows == {}
    assert moving.replica.conflicts == []
    for source in "ab":
        counts = moving.replica.counts(source)
        assert counts["applied"] + counts["superseded"] + counts["held"] == {"a": 1, "b": 2}[source]


def test_a_row_that_comes_back_is_there_again() -> None:
    moving = Moving(RULES[0])
    moving.say("a", "I", "x", 10)
    moving.say("a", "L", "x", READ_S)
    assert moving.rows == {}
    moving.say("a", "R", "z", READ_S)
    assert moving.rows == {1: "z"}


def leave(moving: Moving, source: str) -> None:
    """From now on the others alone feed the table, and the rows of `source` are leaving."""
    replica, name = moving.replica, "shop.users"
    plan, rest = replica.plan, tuple(other for other in SOURCES if other != source)
    former = FormerRouting(2, plan.targets, (), (), {TARGET: {name: (source,)}})
    replica.plan = replace(plan, version=2, feeding={TARGET: {name: rest}}, former=(former,))
    for log in moving.logs.values():
        log.plan = 2


@pytest.mark.parametrize("rule", [*RULES, STOP], ids=str)
def test_whoever_has_left_hides_no_row_and_disagrees_with_nobody(rule: Resolution) -> None:
    moving = Moving(rule)
    moving.say("b", "I", "x", 10)
    moving.say("a", "I", "x", 11)
    moving.say("a", "D", "x", 12)
    seen = len(moving.replica.conflicts)
    leave(moving, "a")
    moving.say("b", "R", "x", READ_S)
    assert moving.rows == {1: "x"}, "b has it, and nobody else feeds the table"
    moving.say("b", "U", "y", 5)
    moving.say("a", "L", "", 30)
    assert moving.rows == {1: "y"}
    moving.say("b", "D", "y", 31)
    assert moving.rows == {}
    ended = 2 * (rule is STOP)  # That of the hold that the delete began.
    assert len(moving.replica.conflicts) - seen <= ended
    assert moving.replica.state.holds == 0


def test_who_leaves_has_nothing_sent_again_where_all_was_resolved() -> None:
    moving = Moving(RULES[1])
    moving.say("a", "I", "x", 10)
    moving.say("b", "I", "x", 11)
    leave(moving, "a")
    moving.say("b", "R", "x", READ_S)
    sent = len(moving.replica.outputs)
    moving.say("a", "L", "", READ_S)
    assert len(moving.replica.outputs) == sent


@pytest.mark.parametrize("rule", [*RULES, STOP], ids=str)
def test_rows_go_that_only_those_had_who_leave(rule: Resolution) -> None:
    """Also those of which nothing was noted, since nobody else fed the table then."""
    moving = Moving(rule)
    plan = moving.replica.plan
    moving.replica.plan = replace(plan, feeding={TARGET: {"shop.users": ("a",)}})
    for key in (1, 2):
        moving.say("a", "I", "x", 10, key)
    moving.replica.plan = plan
    leave(moving, "a")
    moving.say("b", "R", "y", READ_S)
    # A late word under the earlier plan, which notes nothing.
    after, moving.replica.plan = moving.replica.plan, replace(plan, feeding={TARGET: {"shop.users": ("a",)}})  # fmt: skip
    moving.say("a", "U", "z", 11)
    moving.replica.plan = after
    for key in (1, 2):
        moving.say("a", "L", "x", READ_S, key)
    assert moving.rows == {1: "y"}
    assert moving.replica.conflicts == []
