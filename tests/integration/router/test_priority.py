"""A real router serves a source of priority 1 before what waits of a source that floods."""

from __future__ import annotations

from pathlib import Path

from gravity_devstack import Stack

from tests.router_race import FLOOD, TRICKLE, Race

MESSAGES, FLOOD_MESSAGES = 20, 2000
APART = 40
"""Messages that are routed between two of the trickle: the flood lasts for twice as many."""
PASSING_MAX = 80
"""Of the fifth of the trickle's messages that the fewest passed: the others had to wait for a fetch as well, and
more pass meanwhile the faster the router is. Served in the order of their arrival 87 and more passed these."""


def test_the_best_source_passes_what_waits_of_a_flood_and_the_flood_goes_on(
    stack: Stack, tmp_path: Path
) -> None:
    with Race(tmp_path, stack.kafka().brokers, flood_priority=3) as both:
        both.send(FLOOD, FLOOD_MESSAGES, both.flood_rows)
        both.start()
        both.await_routed(1)
        both.trickle(MESSAGES, apart=APART)
        both.await_routed(MESSAGES + FLOOD_MESSAGES)
        outcome = both.outcome()
    assert outcome.flood_waited
    assert sorted(outcome.passed)[MESSAGES // 5 - 1] < PASSING_MAX
    assert any(outcome.passed), "the flood stood still"
    assert outcome.numbers(TRICKLE) == list(range(1, MESSAGES + 1))
    assert outcome.numbers(FLOOD) == list(range(1, FLOOD_MESSAGES + 1))
