"""A source of priority 1 that trickles beside one that floods, on a real Kafka: nearly as if it were alone.

Three runs of one router: the trickle alone, beside a flood of lower priority, beside one of its own.
Nothing may be lost or overtaken inside a source, and the flood must go on meanwhile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from gravity_devstack import Stack

from tests.prove.report import Report
from tests.router_race import FLOOD, TRICKLE, Outcome, Race

PAUSE_S = 0.05
"""Between two messages of the trickle alone."""
APART = 40
"""Messages routed between two of the trickle beside a flood."""
FLOOD_A_TRICKLE = 90
"""Messages of the flood for each of the trickle: it lasts longer than the trickle, however fast the router is."""


def run(report: Report) -> None:
    """Quotes how long the trickle's messages wait from the ingest log into the routed one."""
    messages = max(40, report.scaled(400))
    with Stack() as stack:
        brokers = stack.kafka().brokers
        for name, priority, flood in (
            ("alone", 3, 0),
            ("beside a flood of priority 3", 3, FLOOD_A_TRICKLE),
            ("beside a flood of priority 1", 1, FLOOD_A_TRICKLE),
        ):
            with tempfile.TemporaryDirectory() as folder:
                outcome, seconds = race(Path(folder), brokers, priority, messages, flood * messages)
            flooded = outcome.numbers(FLOOD)
            wrong = []
            if outcome.numbers(TRICKLE) != list(range(1, messages + 1)):
                wrong.append(f"the trickle came as {outcome.numbers(TRICKLE)}")
            if flooded != list(range(1, flood * messages + 1)):
                wrong.append(f"of the flood {len(flooded)} came, or not in order")
            if flood and not outcome.flood_waited:
                wrong.append("the flood was over too early to prove anything")
            if flood and not any(outcome.passed):
                wrong.append("the flood stood still")
            waits, passed = sorted(outcome.waits_ms), sorted(outcome.passed)
            report.line(
                f"trickle {name}",
                pairs=messages,
                differences=len(wrong),
                examples=wrong,
                note=f"p50={at(waits, 50):.0f}ms p99={at(waits, 99):.0f}ms passed_p50={at(passed, 50):.0f}"
                f" passed_p99={at(passed, 99):.0f} flood_per_s={seconds:.0f}",
            )


def at(ordered: list[float] | list[int], percent: int) -> float:
    """The percentile of sorted values."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def race(
    folder: Path, brokers: str, priority: int, messages: int, flood: int
) -> tuple[Outcome, float]:
    """The outcome, and how many messages of the flood were routed a second beside the trickle."""
    with Race(folder, brokers, flood_priority=priority) as both:
        both.send(FLOOD, flood, both.flood_rows)
        both.start()
        if flood:
            both.await_routed(1)
        else:
            both.trickle(1)
            both.await_routed(1)
        began = 0 if flood else 1
        if flood:
            both.trickle(messages, apart=APART)
        else:
            both.trickle(messages - began, pause_s=PAUSE_S)
        both.await_routed(messages + flood)
        outcome = both.outcome()
    if not began:
        spent_s = (both.sent_ms[-1] - both.sent_ms[0]) / 1000
        return outcome, (both.sent_at[-1] - both.sent_at[0]) / spent_s
    # The first waited for the router to start.
    outcome.sent_ms[0] = outcome.times_ms[0]
    return outcome, 0.0
