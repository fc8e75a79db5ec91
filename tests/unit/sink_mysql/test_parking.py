"""Rows that wait for others: nothing is lost or counted twice, and everything ends as the source has it."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
from gravity_sink_mysql.parking import (
    REST,
    ROUND_EVERY_S,
    Draft,
    Lot,
    Parked,
    ParkedRow,
    blocker_of,
    is_over,
    key_text,
    single_row,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.batch import INSERT
from gravity.codec import decode_batch, encode_batch
from gravity.header import TargetHeader
from gravity.parked import passed_by_all
from gravity.sink import Admitted, Refusal
from gravity.stored import Counts, FrontierPoint
from gravity.testing.target_log import TargetLog, table

SCHEMA = table("shop.t", [("id", "int"), ("name", "varchar(9)")], ["id"])


def message() -> Admitted:
    headers, value = TargetLog().rows(SCHEMA, [("I", (1, "a"))])
    return Admitted(TargetHeader.from_kafka(headers), 0, value, decode_batch(value))


SOME = message()


@dataclass(frozen=True)
class Change:
    """One row change of a table of the model: `parents`, `children`, `grandchildren`."""

    table: str
    key: int
    parent: int | None
    """Key in the table above; -1 = the row is deleted; None = it refers to none."""
    ets: int


LEVELS = ("parents", "children", "grandchildren")
Rows = dict[tuple[str, int], int | None]


def refusal_of(rows: Rows, change: Change) -> str | None:
    """As the server would: children may not lose their parent, nor begin without it."""
    level = LEVELS.index(change.table)
    if change.parent == -1:
        below = LEVELS[level + 1] if level + 1 < len(LEVELS) else None
        if any(name == below and up == change.key for (name, _), up in rows.items()):
            return "1451"
        return None
    if change.parent is not None and (LEVELS[level - 1], change.parent) not in rows:
        return "1452"
    return None


def apply(rows: Rows, change: Change) -> str | None:
    code = refusal_of(rows, change)
    if code is None and change.parent == -1:
        rows.pop((change.table, change.key), None)
    elif code is None:
        rows[change.table, change.key] = change.parent
    return code


def waits_for(change: Change, code: str) -> str:
    level = LEVELS.index(change.table)
    return LEVELS[level - 1] if code == "1452" else LEVELS[level + 1]


@dataclass
class LaneModel:
    """One lane: what is durable, and the memory that a crash takes."""

    topic: list[Change]
    waits_us: int | None
    read: int = 0
    counts: Counts = field(default_factory=Counts)
    durable: dict[tuple[int, int], Parked] = field(default_factory=dict)
    dead: list[Change] = field(default_factory=list)
    lot: Lot = field(default_factory=Lot)

    @property
    def frontier(self) -> dict[str, FrontierPoint]:
        more = self.read < len(self.topic)
        ets = self.topic[self.read].ets - 1 if more else 10**9
        return {"s": FrontierPoint("1:1:1:0", "", ets, 0)}

    def change_of(self, parked: Parked) -> Change:
        return self.topic[parked.offset]

    def write(self, rows: Rows, count: int) -> tuple[Rows, Draft, int]:
        """What a transaction of the next `count` changes would leave."""
        left, draft = dict(rows), Draft(self.lot)
        upto = min(len(self.topic), self.read + count)
        for offset in range(self.read, upto):
            change = self.topic[offset]
            code, key = apply(left, change), key_text([change.key])
            draft.tables.add(change.table)
            if code is None:
                draft.took(change.table, key)
            elif self.waits_us == 0:
                draft.give_up(Refusal(replace(SOME, offset=offset), 0, code, ""))
            else:
                parked = Parked(
                    offset, 0, change.table, key, "s", "shop.t", code, change.ets,
                    waits_for(change, code), 10,
                )  # fmt: skip
                draft.park(ParkedRow(parked, INSERT, "{}", b"", ""))
        return left, draft, upto

    def retry(self, rows: Rows, now: int | None) -> tuple[Rows, Draft, int]:
        left, draft = dict(rows), Draft(self.lot)
        for parked in self.lot.choose(3):
            code = apply(left, self.change_of(parked))
            if code is None:
                draft.released(parked)
                draft.tables.add(parked.table)
            elif is_over(self.waits_us, parked.since, now):
                message = replace(SOME, offset=parked.offset)
                draft.expired(parked, Refusal(message, 0, code, "", sent_as=parked.row))
        return left, draft, self.read

    def commit(self, draft: Draft, upto: int) -> None:
        self.counts = self.counts.plus(Counts(applied=upto - self.read)).plus(draft.counts)
        for place in draft.left:
            del self.durable[place]
        for row in draft.entered.values():
            self.durable[row.parked.place] = row.parked
        self.dead += [self.topic[refusal.message.offset] for refusal in draft.dead]
        self.read = upto
        self.lot.commit(draft)
        self.lot.wrote(draft.tables)

    def restart(self) -> None:
        self.lot = Lot(self.durable.values())

    def check(self) -> None:
        c = self.counts
        assert c.applied + c.superseded + c.parked + c.dead == self.read
        assert c.parked == len(self.durable) == len(self.lot)
        assert c.dead == len(self.dead)
        keys = {(parked.table, parked.key) for parked in self.durable.values()}
        assert len(keys) == len(self.durable), "one row waits under a key"
        for parked in self.durable.values():
            found = self.lot.find(parked.table, parked.key)
            assert found is not None
            assert found.place == parked.place


def source_history(draw: random.Random, count: int) -> tuple[list[Change], Rows]:
    """Changes that a source with foreign keys has taken, and what it holds in the end."""
    rows: Rows = {}
    changes: list[Change] = []
    while len(changes) < count:
        name = draw.choice(LEVELS)
        level = LEVELS.index(name)
        parent = None if level == 0 else draw.choice([None, draw.randrange(4), draw.randrange(4)])
        if draw.random() < 0.35:
            parent = -1
        change = Change(name, draw.randrange(5), parent, 1000 + 10 * len(changes))
        if apply(rows, change) is None:
            changes.append(change)
    return changes, rows


def lanes_of(changes: list[Change], count: int, waits_us: int | None) -> list[LaneModel]:
    lanes: list[list[Change]] = [[] for _ in range(count)]
    for change in changes:
        lanes[hash(LEVELS.index(change.table) * 7 + change.key) % count].append(change)
    return [LaneModel(topic, waits_us) for topic in lanes]


def run(
    draw: random.Random,
    lanes: list[LaneModel],
    *,
    watch: Callable[[Rows], object] = len,
) -> Rows:
    """Any interleaving of writes, rounds and crashes, until nothing more moves."""
    rows: Rows = {}
    idle = 0
    while idle < 250 or any(lane.read < len(lane.topic) for lane in lanes):
        lane = draw.choice(lanes)
        now = passed_by_all([item.frontier for item in lanes], "s", lanes=len(lanes))
        if lane.read < len(lane.topic) and draw.random() < 0.5:
            left, draft, upto = lane.write(rows, draw.randint(1, 4))
        else:
            left, draft, upto = lane.retry(rows, now)
        if draw.random() < 0.2:
            lane.restart()  # Killed before COMMIT.
            continue
        idle = 0 if upto != lane.read or not draft.is_empty else idle + 1
        rows = left
        lane.commit(draft, upto)
        if draw.random() < 0.2:
            lane.restart()  # Killed behind it.
        for item in lanes:
            item.check()
        watch(rows)
    return rows


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_whatever_a_source_allowed_ends_as_the_source_has_it(seed: int, count: int) -> None:
    draw = random.Random(seed)
    changes, wanted = source_history(draw, 40)
    lanes = lanes_of(changes, count, waits_us=None)

    def watch(rows: Rows) -> None:
        for (name, _), parent in rows.items():
            above = LEVELS[LEVELS.index(name) - 1]
            assert parent is None or (above, parent) in rows

    assert run(draw, lanes, watch=watch) == wanted
    assert sum(lane.counts.parked for lane in lanes) == 0
    assert sum(lane.counts.dead for lane in lanes) == 0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([0, 50, None]))
def test_a_key_ends_with_its_last_change_unless_that_one_waits_or_was_set_aside(
    seed: int, count: int, waits_us: int | None
) -> None:
    draw = random.Random(seed)
    # Parents may be missing for ever: these are no changes of one source.
    changes = [
        Change(
            name := draw.choice(LEVELS), draw.randrange(4),
            draw.choice([None, -1, *((0, 1, 2, 3) if name != "parents" else ())]), 1000 + 10 * number,
        )
        for number in range(30)
    ]  # fmt: skip
    lanes = lanes_of(changes, count, waits_us)
    rows = run(draw, lanes)
    for lane in lanes:
        assert lane.read == len(lane.topic)
        assert waits_us is None or not lane.durable, "nothing waits longer than it may"
        assert waits_us is not None or not lane.dead, "who waits for ever is not set aside"
        last = {(change.table, change.key): change for change in lane.topic}
        waits = [lane.change_of(item) for item in lane.durable.values()]
        waiting = {(change.table, change.key): change for change in waits}
        for name, change in last.items():
            if change in lane.dead:
                continue
            if name in waiting:
                assert waiting[name] == change, "what waits is the newest change of its key"
                assert refusal_of(rows, change) is not None, "nothing waits that could be applied"
            else:
                assert rows.get(name, -1) == change.parent


def parked(offset: int, *, key: str = "", waits: str = "shop.p", size: int = 10) -> Parked:
    return Parked(offset, 0, "shop.c", key or str(offset), "s", "shop.c", "1452", 5, waits, size)


def test_every_row_has_its_turn() -> None:
    lot = Lot(parked(number, waits="shop.p" if number % 2 else "shop.q") for number in range(50))
    seen: list[int] = []
    for _ in range(7):
        lot.wrote(
            ["shop.P"]
        )  # It is written all the time; rows that wait for another are tried too.
        chosen = lot.choose(10)
        assert [item.place for item in chosen] == sorted(item.place for item in chosen)
        seen += [item.offset for item in chosen]
    for _ in range(12):
        seen += [item.offset for item in lot.choose(10)]
    assert set(seen) == set(range(50))


def test_a_round_keeps_within_memory_and_still_takes_a_row_that_is_larger() -> None:
    lot = Lot(parked(number, size=9_000_000) for number in range(3))
    assert [len(lot.choose()) for _ in range(3)] == [1, 1, 1]
    assert len(Lot([parked(1, size=10**9)]).choose()) == 1


def test_rows_are_tried_when_what_they_wait_for_was_written_else_now_and_then() -> None:
    lot = Lot([parked(1)])
    assert lot.due(100.0)
    assert len(lot.choose()) == 1
    lot.tried(100.0, 100.01, released=False)
    lot.wrote(["shop.other"])
    assert not lot.due(100.01 + REST * 0.01 + 0.001)
    assert lot.due(100.02 + ROUND_EVERY_S)
    lot.wrote(["shop.p"])
    assert not lot.due(100.02), "it rests"
    assert lot.due(100.2)
    assert len(lot.choose()) == 1
    lot.tried(100.2, 100.2, released=False)
    assert not lot.due(100.3), "what was written since has been seen"
    lot.tried(100.2, 100.2, released=True)
    assert lot.due(100.3), "others may have waited for what was let go"
    assert not Lot().due(100.0)


def test_a_line_that_is_gone_is_not_waited_for() -> None:
    lot = Lot([parked(1), parked(2, waits="")])
    lot.wrote(["shop.p"])
    draft = Draft(lot)
    draft.released(parked(1))
    lot.commit(draft)
    lot.choose()
    lot.tried(0.0, 0.0, released=False)
    assert not lot.due(0.5)


def test_a_row_refused_for_another_reason_waits_in_another_line() -> None:
    lot = Lot([parked(1)])
    lot.learn(replace(parked(1), waits_for="shop.q"))
    lot.learn(parked(9))  # Left meanwhile: it does not come back.
    assert len(lot) == 1
    lot.choose()
    lot.tried(0.0, 0.0, released=False)
    lot.wrote(["shop.p"])
    assert not lot.due(0.5)
    lot.wrote(["shop.q"])
    assert lot.due(0.5)


def test_an_emptied_table_has_no_rows_that_wait() -> None:
    lot = Lot([parked(1), parked(2), replace(parked(3), table="shop.other")])
    draft = Draft(lot)
    draft.emptied("shop.c")
    assert draft.counts == Counts(parked=-2, superseded=2)
    assert draft.size == 1
    before = deepcopy(lot)
    assert len(before) == 3, "nothing counts before the commit"
    lot.commit(draft)
    assert [item.offset for item in lot.rows_of("shop.other")] == [3]
    assert not lot.has_rows_of("shop.c")


@pytest.mark.parametrize(
    ("waits_us", "since", "now", "over"),
    [
        (None, 5, 10**18, False),
        (0, 5, None, True),
        (10, 5, None, False),
        (10, 0, 10**18, False),
        (10, 5, 14, False),
        (10, 5, 15, True),
    ],
)
def test_waiting_ends_by_the_time_of_the_log(
    waits_us: int | None, since: int, now: int | None, over: bool
) -> None:
    assert is_over(waits_us, since, now) is over


def test_time_has_passed_when_it_has_in_every_lane() -> None:
    def at(ets: int) -> dict[str, FrontierPoint]:
        return {"s": FrontierPoint("1:1:1:0", "", ets, 0)}

    assert passed_by_all([at(7), at(5)], "s", lanes=2) == 5
    assert passed_by_all([at(7)], "s", lanes=2) is None
    assert passed_by_all([at(7), {}], "s", lanes=2) is None


# As MySQL 8.0 and MariaDB 10.11 print them.
CHILD = (
    "MySQL says 1452: Cannot add or update a child row: a foreign key constraint fails "
    "(`shop`.`child`, CONSTRAINT `child_ibfk_1` FOREIGN KEY (`p`) REFERENCES `parent` (`id`))"
)
ELSEWHERE = CHILD.replace("REFERENCES `parent`", "REFERENCES `other``s`.`parent`")
PARENT = (
    "MySQL says 1451: Cannot delete or update a parent row: a foreign key constraint fails "
    "(`shop`.`child`, CONSTRAINT `child_ibfk_1` FOREIGN KEY (`p`) REFERENCES `parent` (`id`))"
)


@pytest.mark.parametrize(
    ("code", "reason", "blocker"),
    [
        ("1452", CHILD, "shop.parent"),
        ("1452", ELSEWHERE, "other`s.parent"),
        ("1451", PARENT, "shop.child"),
        ("1062", "Duplicate entry 'a' for key 'code'", "shop.t"),
        ("1452", "MySQL says 1452: nothing that is known", ""),
        ("1406", CHILD, ""),
    ],
)
def test_what_a_row_waits_for_is_told_by_the_server(code: str, reason: str, blocker: str) -> None:
    assert blocker_of(code, reason, "shop.t") == blocker


def test_a_key_has_one_text_before_and_after_its_column_became_text() -> None:
    assert key_text([5, "x"]) == key_text(["5", "x"])
    assert key_text([b"5"]) != key_text(["5"])


def test_a_row_is_kept_without_its_neighbours() -> None:
    log = TargetLog()
    _, value = log.rows(SCHEMA, [("I", (1, "a")), ("U", (2, "b")), ("D", (3, "c"))])
    batch = decode_batch(value)
    alone = decode_batch(encode_batch(single_row(batch, 1)))
    assert alone.rows() == [(2, "b")]
    assert alone.ops == b"U"
    assert alone.origin_of(0) == 1
    assert alone.position_of(0) == batch.position_of(1)
    assert len(alone.transactions) == 1
