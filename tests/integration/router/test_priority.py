"""A real router serves a source of priority 1 before what waits of a source that floods."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from gravity_devstack import Stack

from tests.router_race import FLOOD, TRICKLE, Race

MESSAGES, FLOOD_MESSAGES = 30, 2000
PASSING_MAX = 150
"""Less than wait in the router alone (fair_queue aside), far less than wait in Kafka."""


def test_the_best_source_passes_what_waits_of_a_flood_and_the_flood_goes_on(
    stack: Stack, tmp_path: Path
) -> None:
    with Race(tmp_path, stack.kafka().brokers, flood_priority=3) as both:
        both.send(FLOOD, FLOOD_MESSAGES, both.flood_rows)
        both.start()
        both.await_routed(1)
        both.trickle(MESSAGES, 0.05)
        both.await_routed(MESSAGES + FLOOD_MESSAGES)
        outcome = both.outcome()
    assert outcome.flood_waited
    assert median(outcome.passed) < PASSING_MAX
    assert any(outcome.passed), "the flood stood still"
    assert outcome.numbers(TRICKLE) == list(range(1, MESSAGES + 1))
    assert outcome.numbers(FLOOD) == list(range(1, FLOOD_MESSAGES + 1))
