"""The lane's laws: nothing lost, nothing twice, counts that add up, whatever is cut where."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.errors import FatalError, HoleError
from gravity.progress import SinkProgress
from gravity.schema_change import TableAction
from gravity.sink import Lane, Pace, Write
from gravity.stored import Counts, FrontierPoint, Stored
from gravity.testing.target_log import Message, TargetLog, change_of, table

ORDERS = table("shop.orders", [("id", "int"), ("name", "varchar(9)")], ["id"])
PACE = Pace(rows_max=5, wait_ms_max=100, wait_ms_idle=10)


class NoWriter:
    """A lane under test writes nothing."""


def lane(stored: Stored | None = None, pace: Pace = PACE) -> Lane:
    return Lane("t1", 0, NoWriter(), stored or Stored(), pace)  # type: ignore[arg-type]


def offer_all(lane_: Lane, messages: list[Message], first_offset: int = 0) -> None:
    for offset, (headers, value) in enumerate(messages, first_offset):
        lane_.offer(headers, value, offset, 0.0)


def rows_of(write: Write) -> list[tuple[object, ...]]:
    return [row for message in write.messages if message.batch for row in message.batch.rows()]


def batches(log: TargetLog, sizes: list[int]) -> list[Message]:
    number = iter(range(10_000))
    return [log.rows(ORDERS, [("I", (next(number), "x")) for _ in range(n)]) for n in sizes]


@settings(max_examples=60)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_every_row_is_cut_exactly_once_in_order_whatever_crashes_and_is_repeated(
    sizes: list[int], draw: random.Random
) -> None:
    messages = batches(TargetLog(), sizes)
    # The resolver sends suffixes again: what is in the topic is first sights with repeats between.
    topic: list[Message] = []
    for message in messages:
        topic.append(message)
        topic += topic[-draw.randint(0, 3) :] if draw.random() < 0.5 else []
    stored, seen = Stored(), []
    while stored.progress.next_offset < len(topic):
        lane_ = lane(stored)
        offer_all(lane_, topic[stored.progress.next_offset :], stored.progress.next_offset)
        while (write := lane_.cut(0.0)) and draw.random() < 0.8:
            seen += rows_of(write)
            stored = write.after
            lane_.done(stored, 0.0)
    total = sum(sizes)
    assert [row[0] for row in seen] == list(range(total))
    assert stored.counts.applied == total
    assert stored.progress.last_seq == len(messages)
    topic_rows = sum(len(rows_of_message(m)) for m in topic)
    assert stored.counts.applied + stored.counts.repeats == topic_rows


def rows_of_message(message: Message) -> range:
    return range(int(dict(message[0])["rows"]))


def test_a_hole_halts() -> None:
    messages = batches(TargetLog(), [1, 1, 1])
    lane_ = lane()
    offer_all(lane_, messages[:1])
    with pytest.raises(HoleError, match="message 3 follows 1"):
        lane_.offer(*messages[2], 1, 0.0)


def test_messages_of_a_lower_term_are_void_after_the_fence() -> None:
    old, new = TargetLog(), TargetLog()
    first = batches(old, [2])
    fence = new.code()
    new.out_seq = 1
    zombie = batches(old, [3])
    second = batches(new, [1])
    lane_ = lane()
    offer_all(lane_, [*first, fence, *zombie, *second])
    write = lane_.cut(0.0)
    assert write is not None
    assert write.after.counts == Counts(applied=3, void=3)
    assert write.after.progress == SinkProgress(4, 2, 1)


def test_a_failed_write_is_cut_again_with_the_same_beginning() -> None:
    lane_ = lane()
    log = TargetLog()
    offer_all(lane_, batches(log, [2]))
    first = lane_.cut(0.0)
    lane_.failed(5.0)
    assert not lane_.due(4.0, caught_up=True)
    offer_all(lane_, batches(log, [2]), 1)
    again = lane_.cut(6.0)
    assert first is not None
    assert again is not None
    assert rows_of(again)[:2] == rows_of(first)
    assert again.before == first.before


def test_markers_move_the_frontier_with_what_precedes_them() -> None:
    log = TargetLog()
    lane_ = lane()
    offer_all(lane_, [*batches(log, [1]), log.marker("0-1-7", time_us=5), *batches(log, [1])])
    write = lane_.cut(0.0)
    assert write is not None
    assert write.after.frontier == {"s1": FrontierPoint("1:1:1101:0", "0-1-7", 1100, 5)}
    assert write.before.frontier == {}


@given(st.lists(st.sampled_from("rmnav"), max_size=12))
def test_what_has_passed_is_never_ahead_of_rows_and_alterations_that_wait(kinds: list[str]) -> None:
    log, replaced = TargetLog(term=1), TargetLog()
    makers = {
        "r": lambda _: batches(log, [1])[0],
        "m": lambda number: log.marker(f"0-1-{number}"),
        "n": lambda _: log.note(),
        "a": lambda _: log.schema_change(change_of("shop.orders", TableAction.TRUNCATE)),
        "v": lambda _: replaced.marker("0-1-999"),
    }
    lane_ = lane(Stored(SinkProgress(term=1)))
    offer_all(lane_, [makers[kind](number) for number, kind in enumerate(kinds)])
    written = 0
    while True:
        ahead = [n for n in range(written, len(kinds)) if kinds[n] in "ra"]
        passed = [n for n in range(ahead[0] if ahead else len(kinds)) if kinds[n] == "m"]
        point = lane_.passed.get("s1")
        assert (point.gtids if point else None) == (f"0-1-{passed[-1]}" if passed else None)
        write = lane_.cut(0.0)
        if write is None:
            return
        lane_.done(write.after, 0.0)
        written = write.after.progress.next_offset


@given(st.lists(st.sampled_from("rmnavcd"), max_size=30))
def test_what_has_passed_is_the_same_however_often_it_is_asked(steps: list[str]) -> None:
    """`c` cuts a write, `d` has it done; everything else is offered."""
    log, replaced = TargetLog(term=1), TargetLog()
    stored = Stored(SinkProgress(term=1))
    asked = lane(stored)
    offered: list[Message] = []
    write: Write | None = None
    for step in steps:
        if step == "c":
            write = write or asked.cut(0.0)
        elif step == "d" and write is not None:
            asked.done(write.after, 0.0)
            stored, write = write.after, None
        elif step in "rmnav":
            message = {
                "r": lambda: batches(log, [1])[0],
                "m": lambda: log.marker(f"0-1-{len(offered)}"),
                "n": log.note,
                "a": lambda: log.schema_change(change_of("shop.orders", TableAction.TRUNCATE)),
                "v": lambda: replaced.marker("0-1-999"),
            }[step]()
            offer_all(asked, [message], len(offered))
            offered.append(message)
        before = asked.passed
        fresh, first = lane(stored), stored.progress.next_offset
        offer_all(fresh, offered[first:], first)
        assert before == fresh.passed
        assert before is not asked.passed, "what was given does not change"


def test_due_by_rows_by_age_and_by_silence() -> None:
    log = TargetLog()
    lane_ = lane()
    offer_all(lane_, batches(log, [1]))
    assert not lane_.due(0.005, caught_up=True)
    assert lane_.due(0.011, caught_up=True)
    assert not lane_.due(0.05, caught_up=False)
    assert lane_.due(0.1, caught_up=False)
    offer_all(lane_, batches(log, [5]), 1)
    assert lane_.due(0.0, caught_up=False)


def test_markers_alone_are_written_at_leisure() -> None:
    log = TargetLog()
    lane_ = lane()
    offer_all(lane_, [log.marker()])
    assert not lane_.due(0.5, caught_up=True)
    assert lane_.due(1.0, caught_up=True)


def test_writes_keep_their_distance_where_the_target_asks_for_it() -> None:
    log = TargetLog()
    lane_ = lane(pace=Pace(rows_max=1, wait_ms_max=0, wait_ms_idle=0, interval_ms=200))
    offer_all(lane_, batches(log, [1, 1]))
    write = lane_.cut(10.0)
    assert write is not None
    lane_.done(write.after, 10.01)
    assert not lane_.due(10.1, caught_up=False)
    assert lane_.due(10.25, caught_up=False)


def test_a_lane_with_enough_to_do_says_so() -> None:
    log = TargetLog()
    lane_ = lane()
    offer_all(lane_, batches(log, [7, 7, 7]))
    assert lane_.full
    write = lane_.cut(0.0)
    assert write is not None
    assert write.rows == 7
    lane_.done(write.after, 0.0)
    assert not lane_.full
    assert not lane_.has_room


def test_a_message_with_fewer_rows_than_its_header_says_halts() -> None:
    log = TargetLog()
    headers, value = log.rows(ORDERS, [("I", (1, "x"))])
    headers = [(name, b"2" if name == "rows" else text) for name, text in headers]
    lane_ = lane()
    lane_.offer(headers, value, 0, 0.0)
    with pytest.raises(FatalError, match="holds 1 rows, its header says 2"):
        lane_.cut(0.0)


def test_a_schema_change_is_written_by_itself_and_at_once() -> None:
    log = TargetLog()
    lane_ = lane()
    change = change_of("shop.orders", TableAction.ALTER)
    offer_all(lane_, [*batches(log, [1]), log.schema_change(change), *batches(log, [1, 1])])
    kinds = []
    while (write := lane_.cut(0.0)) is not None:
        assert (write.schema_change is None) == (write.rows > 0)
        kinds.append([message.batch is None for message in write.messages])
        lane_.done(write.after, 0.0)
        assert lane_.due(0.0, caught_up=False) == (len(kinds) == 1)
    assert kinds == [[False], [True], [False, False]]


@given(st.integers(0, 2**63), st.integers(0, 2**40), st.text(max_size=5))
def test_what_is_stored_survives_json(offset: int, number: int, gtids: str) -> None:
    stored = Stored(
        SinkProgress(offset, number, 3),
        {"s": FrontierPoint("1:2:3:4", gtids, number, 7)},
        Counts(number, 1, 2, 3, 4, 5, 6),
    )
    assert Stored.from_json(stored.to_json()) == stored
    assert Stored.from_json({}) == Stored()


def test_a_write_stands_on_counts_that_moved_without_it() -> None:
    """As a round of parked rows does whose answer was lost."""
    lane_, log = lane(stored=Stored(counts=Counts(applied=5, parked=2))), TargetLog()
    offer_all(lane_, batches(log, [3]))
    write = lane_.cut(0.0)
    assert write is not None
    found = Stored(counts=Counts(applied=6, parked=0, dead=1))
    moved = write.behind(found)
    assert moved.before == found
    assert moved.after.counts == Counts(applied=9, parked=0, dead=1)
    assert moved.after.progress == write.after.progress
