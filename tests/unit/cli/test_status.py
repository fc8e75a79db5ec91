"""The status as a function of what the stages published."""

from __future__ import annotations

import io
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gravity.cli.status import chart, lag_text
from gravity.status import CollectorStatus, Installation, PipelineStatus, ProgressHistory, Queue

TWO = Installation(("s",), (("t", "mysql"),), 2)
SECOND = 1_000_000


def collected(
    at_s: float, rows: int = 0, position: str = "1:1:500:0", copied: int = 2
) -> dict[str, Any]:
    return {
        "position": position, "gtids": "", "ets": 7, "rows": rows,
        "snapshot": {"done": copied, "total": 2}, "at_us": int(at_s * SECOND),
    }  # fmt: skip


def applied(
    at_s: float, rows: int = 0, position: str = "1:1:500:0", time_s: float = 0
) -> dict[str, Any]:
    return {
        "next_offset": 5, "applied": rows, "dead": 1, "repeats": 2, "at_us": int(at_s * SECOND),
        "frontier": {"s": {"position": position, "gtids": "", "ets": 7, "time_us": int(time_s * SECOND)}},
    }  # fmt: skip


def status(
    records: list[tuple[str, dict[str, Any]]], now_s: float, queues: list[Queue] | None = None
) -> PipelineStatus:
    history = ProgressHistory()
    for key, record in records:
        history.add(key, record)
    return history.status(TWO, queues or [], 1, int(now_s * SECOND))


def test_parked_rows_are_added_up_over_the_partitions() -> None:
    one = {**applied(10, rows=3), "parked": 2, "superseded": 1}
    two = {**applied(10, rows=3), "parked": 5}
    target = status([("sink/t/0", one), ("sink/t/1", two)], 60).targets[0]
    assert (target.applied, target.parked_at_target, target.superseded) == (6, 7, 1)
    older = status([("sink/t/0", applied(10)), ("sink/t/1", applied(10))], 60).targets[0]
    assert (older.parked_at_target, older.superseded) == (0, 0)


def test_lag_is_nothing_once_every_partition_has_what_was_collected() -> None:
    now = status(
        [("collector/s", collected(10)), ("sink/t/0", applied(10)), ("sink/t/1", applied(10))], 60
    )
    assert now.targets[0].lag_ms == {"s": 0}
    assert now.is_caught_up


def test_nothing_is_caught_up_while_rows_are_parked_though_the_lag_goes_on_without_them() -> None:
    collector = ("collector/s", collected(10))
    parked = status(
        [collector, ("sink/t/0", {**applied(10), "parked": 1}), ("sink/t/1", applied(10))], 60
    )
    assert parked.targets[0].lag_ms == {"s": 0}
    assert not parked.is_caught_up
    assert parked.to_json()["is_caught_up"] is False
    later = {**applied(10), "parked": 0, "superseded": 1}
    assert status([collector, ("sink/t/0", later), ("sink/t/1", applied(10))], 60).is_caught_up


def test_nothing_is_caught_up_while_existing_rows_are_being_copied() -> None:
    applied_everywhere = [("sink/t/0", applied(10)), ("sink/t/1", applied(10))]
    now = status([("collector/s", collected(10, copied=1)), *applied_everywhere], 10)
    assert now.targets[0].lag_ms == {"s": 0}
    assert not now.is_caught_up
    now = status([("collector/s", collected(10, copied=2)), *applied_everywhere], 10)
    assert now.is_caught_up


def test_lag_is_the_age_of_the_slowest_partition() -> None:
    now = status(
        [
            ("collector/s", collected(10)),
            ("sink/t/0", applied(10)),
            ("sink/t/1", applied(10, position="1:1:499:0", time_s=7)),
        ],
        10,
    )
    assert now.targets[0].lag_ms == {"s": 10_000}
    late = status(
        [
            ("collector/s", collected(10)),
            ("sink/t/0", applied(10, position="1:1:9:0", time_s=8)),
            ("sink/t/1", applied(10, position="1:1:499:0", time_s=7)),
        ],
        10,
    )
    assert late.targets[0].lag_ms == {"s": 3000}
    assert not late.is_caught_up


def test_a_partition_that_was_never_heard_of_is_no_good_news() -> None:
    now = status([("collector/s", collected(10)), ("sink/t/0", applied(10))], 10)
    assert now.targets[0].lag_ms == {"s": None}
    assert not now.is_caught_up
    assert now.targets[0].is_silent
    assert status([], 10).sources[0].is_silent


def test_positions_are_compared_as_numbers() -> None:
    now = status(
        [
            ("collector/s", collected(10, position="1:9:500:0")),
            ("sink/t/0", applied(10, position="1:10:4:0")),
            ("sink/t/1", applied(10, position="1:9:500:0")),
        ],
        11,
    )
    assert now.targets[0].lag_ms == {"s": 0}


def test_rates_are_of_the_last_seconds_and_end_with_the_stage() -> None:
    records = [("collector/s", collected(t, rows=100 * t)) for t in range(30)]
    assert status(records, 29.5).sources[0].rows_per_s == 100
    assert status(records, 60).sources[0].rows_per_s == 0
    assert status(records, 60).sources[0].is_silent


def test_a_collector_that_starts_again_at_nothing_has_no_negative_rate() -> None:
    records = [("collector/s", collected(1, rows=5000)), ("collector/s", collected(2, rows=10))]
    assert status(records, 2).sources[0].rows_per_s == 0


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_the_history_does_not_grow_beyond_its_window(steps_s: list[int]) -> None:
    history, at_s = ProgressHistory(), 0
    for step in steps_s:
        at_s += step
        history.add("collector/s", collected(at_s))
    kept = history._records["collector/s"]
    assert kept[-1]["at_us"] == at_s * SECOND
    if len(kept) > 2:
        assert kept[1]["at_us"] > (at_s - 10) * SECOND


def test_waiting_counts_from_the_first_message_there_still_is() -> None:
    queues = [
        Queue("router", "ingest.s", {0: 30}, {}, {0: 20}),
        Queue("sink/t", "target.t", {0: 9, 1: 4}, {0: 5, 1: 6}, {0: 0, 1: 0}),
    ]
    now = status([], 1, queues)
    assert [(stage.stage, stage.waiting) for stage in now.stages] == [("router", 10)]
    assert now.targets[0].waiting == 4


def test_it_can_be_shown_and_printed() -> None:
    now = status([("collector/s", collected(10)), ("sink/t/0", applied(10))], 10)
    assert len(chart(now).renderables) == 3
    assert now.to_json()["targets"][0]["applied"] == 0
    assert [lag_text(lag) for lag in (None, 0, 350, 12_300, 300_000)] == [
        "?", "0", "350 ms", "12.3 s", "5 min",
    ]  # fmt: skip


def test_a_collector_without_sources_is_shown_as_a_spare() -> None:
    collectors = [CollectorStatus("b:2", ()), CollectorStatus("a:1", ("s",))]
    now = ProgressHistory().status(TWO, [], 1, SECOND, collectors)
    assert [(c.name, c.is_spare) for c in now.collectors] == [("a:1", False), ("b:2", True)]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(chart(now))
    assert "nothing: a spare" in console.export_text()


def test_rows_on_hold_are_told_by_table_over_all_partitions() -> None:
    def resolved(at_s: float, rows: int, oldest_s: float, waiting: int) -> dict[str, Any]:
        part = {"rows": rows, "oldest_us": int(oldest_s * SECOND)}
        return {
            "holds": rows, "held": {"d.x": part}, "waiting_rows": waiting, "at_us": int(at_s * SECOND),
        }  # fmt: skip

    records = [
        ("resolver/t/0", resolved(90, 2, 40, 1000)),
        ("resolver/t/1", resolved(90, 1, 30, 7)),
    ]
    now = status(records, 100)
    target = now.to_json()["targets"][0]
    assert (target["holds"], target["waiting_rows"]) == (3, 1007)
    assert target["held"] == {"d.x": {"rows": 3, "oldest_us": 30 * SECOND, "oldest_s": 70.0}}
    console = Console(file=io.StringIO(), width=150)
    console.print(chart(now))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "on hold" in text
    assert "d.x" in text
    assert "1 min" in text
    assert "1,007" in text
    console.print(chart(status([], 100)))
    # An older resolver tells only how many.
    assert status([("resolver/t/0", {"holds": 4, "at_us": 1})], 100).targets[0].holds == 4
    assert status([], 100).targets[0].held == {}


def test_what_waits_for_a_source_and_what_was_late_is_told() -> None:
    def resolved(parked: int, late: int, *down: str) -> dict[str, Any]:
        return {
            "parked_rows": parked, "down": list(down), "at_us": SECOND,
            "counters": {"s": {"overtaken": late}, "r": {"overtaken": 1}},
        }  # fmt: skip

    now = status([("resolver/t/0", resolved(1000, 3)), ("resolver/t/1", resolved(5, 0, "s"))], 2)
    target = now.to_json()["targets"][0]
    assert (target["parked_rows"], target["late_rows"], target["down"]) == (1005, 5, ("s",))
    console = Console(file=io.StringIO(), width=150)
    console.print(chart(now))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "waiting for a source" in text
    assert "1,005" in text
    # An older resolver tells nothing of it.
    assert status([("resolver/t/0", {"at_us": 1})], 2).targets[0].down == ()
