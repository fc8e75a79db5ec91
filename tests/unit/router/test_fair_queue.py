"""Whose message is routed next: nobody passes more often than stated, nobody starves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from gravity_router.fair_queue import FairQueue, between_max
from hypothesis import given, settings
from hypothesis import strategies as st

KB = 1024


def served_while_all_wait(
    priorities: dict[str, int], size_of: Callable[[str], int], turns: int
) -> list[tuple[str, int]]:
    """Sources in the order in which they are served while none of them ever runs dry, with the sizes."""
    queue: FairQueue[int] = FairQueue(priorities)
    for source in priorities:
        for _ in range(3):
            size = size_of(source)
            queue.add(source, size, size)
    served = []
    for _ in range(turns):
        source, size = queue.pop()
        served.append((source, size))
        again = size_of(source)
        queue.add(source, again, again)
    return served


def passings(served: list[tuple[str, int]], between: set[str], passing: set[str]) -> int:
    """The most messages of `passing` between two of `between`."""
    most = count = 0
    seen = False
    for source, _ in served:
        if source in between:
            most, count, seen = max(most, count) if seen else 0, 0, True
        elif source in passing:
            count += 1
    return most


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1 << 30))
@settings(max_examples=150)
def test_between_two_messages_pass_no_more_than_stated(mine: int, other: int, seed: int) -> None:
    random = Random(seed)
    priorities = {"mine": mine, "other": other, "third": random.randint(1, 6)}
    served = served_while_all_wait(
        priorities,
        lambda _: random.choice((0, 1, 10 * KB, 100 * KB, 256 * KB, 1024 * KB)),
        400,
    )
    if min(mine, 4) != min(other, 4):
        alike = [
            {source for source, number in priorities.items() if min(number, 4) == min(wanted, 4)}
            for wanted in (mine, other)
        ]
        assert passings(served, *alike) <= between_max(mine, other)


def test_the_bounds_are_these() -> None:
    # By hand: shares 11, 4, 3, 2; a message costs 32 to 256 KiB.
    assert [between_max(1, p) for p in (2, 3, 4, 9)] == [3, 3, 2, 2]
    assert between_max(4, 1) == 44


@pytest.mark.parametrize("flood", [2, 3, 4, 9])
def test_one_message_of_a_flood_at_most_passes_between_two_of_the_best_of_its_size(
    flood: int,
) -> None:
    served = served_while_all_wait({"best": 1, "flood": flood}, lambda _: 64 * KB, 2000)
    assert passings(served, {"best"}, {"flood"}) == 1


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 1 << 30))
@settings(max_examples=100)
def test_a_flood_of_the_last_priority_gets_a_tenth_whoever_else_waits(
    others: list[int], seed: int
) -> None:
    random = Random(seed)
    best = [min(other, 3) for other in others]
    priorities = {"flood": 4, **{f"s{number}": p for number, p in enumerate(best)}}
    served = served_while_all_wait(priorities, lambda _: random.randint(32 * KB, 256 * KB), 3000)
    cost = Counter[str]()
    for source, size in served:
        cost[source] += size
    # A tenth, short of one message at most.
    assert cost["flood"] >= sum(cost.values()) / 10 - 256 * KB


def test_sources_of_one_priority_get_equal_parts() -> None:
    served = served_while_all_wait({"a": 2, "b": 2, "c": 2}, lambda _: 50 * KB, 999)
    assert Counter(source for source, _ in served) == {"a": 333, "b": 333, "c": 333}


def test_a_message_of_the_best_goes_next_however_long_the_flood_has_waited() -> None:
    queue: FairQueue[str] = FairQueue({"best": 1, "flood": 3})
    for number in range(1000):
        queue.add("flood", f"flood {number}", 256 * KB)
    for _ in range(100):
        queue.pop()
    for number in range(5):
        queue.add("best", f"best {number}", KB)
        assert queue.pop() == ("best", f"best {number}")
        assert queue.pop()[0] == "flood"


def test_who_had_nothing_to_say_has_saved_nothing_up() -> None:
    queue: FairQueue[int] = FairQueue({"best": 1, "late": 1})
    for _ in range(100):
        queue.add("best", 0, 100 * KB)
        queue.pop()
    for _ in range(20):
        queue.add("best", 0, 100 * KB)
        queue.add("late", 0, 100 * KB)
    assert Counter(queue.pop()[0] for _ in range(20)) == {"best": 10, "late": 10}


def test_a_sources_messages_leave_in_the_order_in_which_they_came() -> None:
    random = Random(1)
    queue: FairQueue[int] = FairQueue({"a": 1, "b": 2, "c": 2})
    added, left = Counter[str](), Counter[str]()
    for _ in range(2000):
        if random.random() < 0.5 or not queue:
            source = random.choice("abc")
            queue.add(source, added[source], random.randint(0, 300 * KB))
            added[source] += 1
        else:
            source, number = queue.pop()
            assert number == left[source]
            left[source] += 1
    for source in "abc":
        messages, _ = queue.waiting(source)
        assert messages == added[source] - left[source]
