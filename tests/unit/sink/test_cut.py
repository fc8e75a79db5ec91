"""The laws of a consistent cut: a point is one, nobody stands for longer than the bound, nothing is lost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.cut import (
    Arrival,
    CutMark,
    CutState,
    CutView,
    Step,
    next_step,
    why_given_up,
)
from gravity.errors import FormatError
from gravity.header import TargetHeader
from gravity.sink import Lane, Pace, Write
from gravity.stored import Stored
from gravity.testing.target_log import Message, TargetLog, table

ACCOUNTS = table("bank.accounts", [("id", "int"), ("amount", "int")], ["id"])
PACE = Pace(rows_max=3, wait_ms_max=100, wait_ms_idle=10)
BOUND_S = 5.0
SLACK_S = 1.0
"""A lane that is at work looks at least as often."""
STATES = st.sampled_from(CutState)


@given(STATES, st.booleans(), st.integers(0, 4), st.integers(0, 2), st.booleans())
def test_a_lane_goes_only_when_the_target_says_that_the_cut_is_over(
    state: CutState, late: bool, arrived: int, places: int, overdue: bool
) -> None:
    view = CutView(state, late, arrived, places)
    step = next_step(view, partitions=4, is_overdue=overdue)
    running = state in (CutState.OPEN, CutState.REACHED)
    assert (step is Step.GO) == (not running)
    if running and (late or overdue or places > 1):
        assert step is Step.GIVE_UP
    if step is Step.RECORD:
        assert (state, arrived, places < 2, late, overdue) == (
            CutState.OPEN, 4, True, False, False,
        )  # fmt: skip
    if step is Step.GIVE_UP:
        assert why_given_up(view, partitions=4)


@pytest.mark.parametrize(
    ("view", "why"),
    [
        (CutView(CutState.OPEN, True, 3, 2), "met markers at different places"),
        (CutView(CutState.REACHED, True, 4, 1), "the command had not ended"),
        (CutView(CutState.OPEN, True, 3, 1), "3 of 4 partitions had come"),
    ],
)
def test_who_asked_is_told_why_a_cut_was_given_up(view: CutView, why: str) -> None:
    assert why in why_given_up(view, partitions=4)


@pytest.mark.parametrize("text", ["", "7", "7/500", "x/500/t", "7/x/t"])
def test_what_is_no_mark_of_a_cut_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="not the mark of a cut"):
        CutMark.parse(text)


def test_a_cut_that_the_target_does_not_know_keeps_nobody() -> None:
    assert next_step(None, partitions=1, is_overdue=False) is Step.GO


@dataclass
class Point:
    """A row of `_gravity_points`, and who has arrived."""

    mark: CutMark
    deadline_s: float
    waits: bool
    state: CutState = CutState.OPEN
    arrived: dict[int, str] = field(default_factory=dict)
    at_record: list[list[int]] = field(default_factory=list)
    """What every partition had when the point was recorded."""

    @property
    def runs(self) -> bool:
        return self.state in (CutState.OPEN, CutState.REACHED)


@dataclass
class Target:
    """The target: rows and progress of each partition, and its cuts, each changed in one go."""

    partitions: int
    now_s: float = 0.0
    skew_s: float = 0.0
    """Its clock may be put back."""
    stored: list[Stored] = field(init=False)
    epochs: list[int] = field(init=False)
    rows: list[list[int]] = field(init=False)
    points: dict[int, Point] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stored = [Stored() for _ in range(self.partitions)]
        self.epochs = [0] * self.partitions
        self.rows = [[] for _ in range(self.partitions)]

    @property
    def clock_s(self) -> float:
        return self.now_s - self.skew_s

    def view(self, cut_id: int) -> CutView | None:
        point = self.points.get(cut_id)
        if point is None:
            return None
        late = point.deadline_s <= self.clock_s
        places = len(set(point.arrived.values()))
        return CutView(point.state, late, len(point.arrived), places)

    def stands_at(self, part: int) -> int | None:
        return next(
            (p.mark.cut_id for p in self.points.values() if p.runs and part in p.arrived), None
        )


class Worker:
    """A sink process that owns one partition, as MysqlLane goes about it."""

    def __init__(self, target: Target, part: int, topic: list[Message]) -> None:
        self.target, self.part, self.topic = target, part, topic
        target.epochs[part] += 1
        self.epoch = target.epochs[part]
        self.lane = Lane("t", part, None, target.stored[part], PACE)  # type: ignore[arg-type]
        for offset in range(self.lane.stored.progress.next_offset, len(topic)):
            self.lane.offer(*topic[offset], offset, 0.0)
        self.resume()

    def resume(self) -> None:
        self.cut_id = self.target.stands_at(self.part)
        self.since_s = self.target.now_s

    @property
    def is_done(self) -> bool:
        return not self.lane.has_messages

    def step(self) -> bool:
        """One round; false: another process has the partition."""
        if self.cut_id is not None:
            self.look()
            if self.cut_id is not None:  # What it did is seen at once.
                self.look()
            return True
        write = self.lane.cut(self.target.now_s)
        if write is None:
            return True
        if self.target.epochs[self.part] != self.epoch:
            return False
        self.commit(write)
        self.lane.done(write.after, self.target.now_s)
        if write.cut is not None:
            self.resume()
        return True

    def commit(self, write: Write) -> None:
        target = self.target
        assert target.stored[self.part].progress == write.before.progress
        target.stored[self.part] = write.after
        target.rows[self.part] += [
            row[0] for m in write.messages if m.batch for row in m.batch.rows()
        ]
        if write.cut is not None:
            self.arrive(write.cut)

    def arrive(self, arrival: Arrival) -> None:
        point = self.target.points.get(arrival.mark.cut_id)
        if point and point.state is CutState.OPEN and point.deadline_s > self.target.clock_s:
            point.arrived[self.part] = arrival.position

    def look(self) -> None:
        assert self.cut_id is not None
        target = self.target
        overdue = target.now_s - self.since_s >= BOUND_S
        step = next_step(target.view(self.cut_id), partitions=target.partitions, is_overdue=overdue)
        point = target.points.get(self.cut_id)
        if step is Step.GO:
            self.cut_id = None
        elif step is Step.RECORD:
            assert point is not None
            point.at_record.append([list(rows) for rows in target.rows])  # type: ignore[arg-type]
            point.state = CutState.REACHED if point.waits else CutState.DONE
        elif step is Step.GIVE_UP and point is not None and point.runs:
            point.state = CutState.GIVEN_UP


class World:
    """Partitions that hold rows 0, 1, ... of one source in order, with markers of cuts between them."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.target = Target(draw.randint(1, 4))
        parts = range(self.target.partitions)
        logs, self.topics = [TargetLog() for _ in parts], [[] for _ in parts]  # type: ignore[var-annotated]
        self.before: dict[int, list[list[int]]] = {}
        """The rows of each partition before the cut's (first) marker."""
        self.asked: list[CutMark] = []
        held: list[list[int]] = [[] for _ in parts]
        for number in range(draw.randint(5, 40)):
            part = draw.choice(parts)
            held[part].append(number)
            self.topics[part].append(logs[part].rows(ACCOUNTS, [("I", (number, 1))]))
            if draw.random() < 0.15:
                mark = CutMark(len(self.asked) + 1, int(BOUND_S * 1000), "t")
                self.asked.append(mark)
                self.before[mark.cut_id] = [list(rows) for rows in held]
                # A collector that takes over may send the marker of the same cut once more.
                for _ in range(draw.choice((1, 1, 2))):
                    for q in parts:
                        logs[q].offset = 1000 + number * 100
                        self.topics[q].append(logs[q].marker(cut=str(mark)))
        self.workers = [Worker(self.target, q, self.topics[q]) for q in parts]
        self.zombies: list[Worker] = []
        self.frozen: dict[int, float] = {}
        self.standing_s: dict[tuple[int, int], float] = {}
        self.held_rows: dict[int, list[list[int]]] = {}
        """What all had when who asked was told that all stand."""
        self.good: set[int] = set()

    def ask(self) -> None:
        """Asks for the next cut, unless one runs."""
        target = self.target
        for point in target.points.values():
            if point.runs and point.deadline_s <= target.clock_s:
                point.state = CutState.GIVEN_UP
        if self.asked and not any(point.runs for point in target.points.values()):
            mark = self.asked.pop(0)
            target.points[mark.cut_id] = Point(
                mark, target.clock_s + BOUND_S, waits=self.draw.random() < 0.7
            )
            self.asker_lives = self.draw.random() < 0.7

    def serve_asker(self) -> None:
        for cut_id, point in self.target.points.items():
            if point.state is not CutState.REACHED or not self.asker_lives:
                continue
            if cut_id not in self.held_rows:
                self.held_rows[cut_id] = [list(rows) for rows in self.target.rows]
            elif self.draw.random() < 0.3:
                point.state = CutState.DONE
                self.good.add(cut_id)
                assert self.target.rows == self.held_rows[cut_id], "something moved while all stood"

    def advance(self) -> None:
        """Something happens; time goes on."""
        draw, target = self.draw, self.target
        target.now_s += draw.random() * SLACK_S / 2
        part = draw.randrange(target.partitions)
        luck = draw.random()
        if luck < 0.05:
            # Taken over; whoever was frozen may wake up later.
            self.zombies.append(self.workers[part])
            self.workers[part] = Worker(target, part, self.topics[part])
            self.frozen.pop(part, None)
        elif luck < 0.08:
            self.frozen[part] = target.now_s + draw.random() * 2 * BOUND_S
        elif luck < 0.1 and self.zombies:
            zombie = draw.choice(self.zombies)
            if not zombie.step():
                self.zombies.remove(zombie)
        elif luck < 0.11:
            target.skew_s += 3.0
        self.ask()
        self.serve_asker()
        for q, worker in enumerate(self.workers):
            if self.frozen.get(q, 0.0) <= target.now_s:
                worker.step()
                self.watch(q, worker)

    def watch(self, q: int, worker: Worker) -> None:
        for key in [k for k in self.standing_s if k[0] == q and k[1] != worker.cut_id]:
            del self.standing_s[key]
        if worker.cut_id is not None:
            since_s = self.standing_s.setdefault((q, worker.cut_id), worker.since_s)
            if worker.since_s == since_s:
                assert self.target.now_s - since_s <= BOUND_S + SLACK_S, "it stands for too long"


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_point_is_a_point_whoever_dies_freezes_or_is_taken_over(seed: int) -> None:
    world = World(random.Random(seed))
    for _ in range(3000):
        world.advance()
        if all(worker.is_done and worker.cut_id is None for worker in world.workers):
            break
    assert all(worker.is_done for worker in world.workers), "everybody gets on in the end"
    for part, topic in enumerate(world.topics):
        sent = [m for m in topic if TargetHeader.from_kafka(m[0]).routed.rows]
        assert len(world.target.rows[part]) == len(set(world.target.rows[part])) == len(sent)
    for cut_id, point in world.target.points.items():
        if point.state is CutState.DONE:
            assert point.at_record
        assert all(found == world.before[cut_id] for found in point.at_record)
    for cut_id in world.good:
        assert world.held_rows[cut_id] == world.before[cut_id]


def test_the_world_above_sees_points_and_cuts_that_were_given_up() -> None:
    states = []
    for seed in range(40):
        world = World(random.Random(seed))
        for _ in range(600):
            world.advance()
        states += [point.state for point in world.target.points.values()]
    assert states.count(CutState.DONE) > 20
    assert states.count(CutState.GIVEN_UP) > 5


def lane_of(*messages: Message) -> Lane:
    lane = Lane("t", 0, None, Stored(), PACE)  # type: ignore[arg-type]
    for offset, message in enumerate(messages):
        lane.offer(*message, offset, 0.0)
    return lane


def test_the_marker_of_a_cut_ends_its_write_and_waits_for_nothing() -> None:
    log, mark = TargetLog(), CutMark(3, 9000, "t")
    lane = lane_of(
        log.rows(ACCOUNTS, [("I", (1, 1))]),
        log.marker("0-1-4", cut=str(mark), held=2),
        log.rows(ACCOUNTS, [("I", (2, 1))]),
    )
    assert lane.due(0.0, caught_up=False)
    write = lane.cut(0.0)
    assert write is not None and write.cut is not None
    assert (write.rows, write.after.progress.next_offset) == (1, 2)
    assert (write.cut.mark, write.cut.gtids, write.cut.held) == (mark, "0-1-4", 2)
    lane.done(write.after, 0.0)
    assert not lane.due(0.0, caught_up=False), "what is behind it is as urgent as ever"
    rest = lane.cut(0.0)
    assert rest is not None and (rest.rows, rest.cut) == (1, None)


@pytest.mark.parametrize("repeated", [False, True])
def test_a_marker_that_was_sent_again_marks_no_cut(repeated: bool) -> None:
    log = TargetLog()
    made = [log.marker(cut=str(CutMark(3, 9000, "t")))]
    lane = lane_of(*made)
    first = lane.cut(0.0)
    assert first is not None and first.cut is not None
    if repeated:
        lane.done(first.after, 0.0)
        lane.offer(*made[0], 1, 0.0)
        again = lane.cut(0.0)
        assert again is not None and again.cut is None
