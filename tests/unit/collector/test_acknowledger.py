"""What a server takes for acknowledged is never more than all targets have, however they come and go."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from gravity_collector.acknowledger import (
    ALONE_LOOKS,
    HELD_IN_VAIN_S,
    HOLD_S_MAX,
    REFUSED_S,
    Acknowledger,
)
from gravity_collector.event import AckAsked
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.clock import now_us
from gravity.errors import FatalError, GravityError
from gravity.position import Position
from gravity.recency import Frontier
from gravity.semi_sync import ServerSemiSync

ENABLED = ServerSemiSync("rpl_semi_sync_master_", is_enabled=True, is_on=True, clients=1)


@dataclass
class Watched:
    frontier: Frontier | None = None
    failure: GravityError | None = None

    def wait(self, timeout_s: float) -> None:
        raise AssertionError(timeout_s)

    def reach(self, offset: int, *, epoch: int = 1, old: bool = False) -> None:
        time_us = 1 if old else now_us()
        self.frontier = Frontier(Position(epoch, 1, offset), "", time_us)


@dataclass
class Seen:
    state: ServerSemiSync | None = ENABLED
    looks: int = 0


@dataclass
class Connection:
    """A dump; `taken` is what the server takes for acknowledged because of it."""

    start: int = 0
    is_semi_sync: bool | None = False
    taken: int = 0
    is_closed: bool = False

    def acknowledge(self, asked: AckAsked) -> None:
        assert not self.is_closed
        self.taken = max(self.taken, asked.next_offset)

    def close(self) -> None:
        self.is_closed = True


@dataclass
class World:
    watch: Watched = field(default_factory=Watched)
    server: Seen = field(default_factory=Seen)
    dump: Connection = field(default_factory=Connection)
    here: int = 100
    marks: list[int] = field(default_factory=list)
    now_s: float = 0.0
    offers: bool = True
    acknowledger: Acknowledger = field(init=False)

    def __post_init__(self) -> None:
        self.acknowledger = Acknowledger("s", ("t",), 1, watch=self.watch, server=self.server)

    def open_at(self, place: Position) -> Connection:
        # The server takes everything before it for acknowledged.
        return Connection(place.offset, is_semi_sync=self.offers, taken=place.offset)

    def turn(self, *asked: int, later_s: float = 0.0) -> None:
        """One turn of the source's loop, idle behind what it has read."""
        self.now_s += later_s
        mine = self.acknowledger
        mine.take([AckAsked("f.1", 1, offset) for offset in asked], self.now_s)
        mine.answer(self.dump)
        mine.look(self.dump, self.now_s)
        self.dump = mine.join(
            self.dump, Position(1, 1, self.here), self.now_s, mark=self.mark, open_at=self.open_at
        )

    def mark(self) -> None:
        self.marks.append(self.here)
        self.acknowledger.marked()


@settings(max_examples=300)
@given(draw=st.randoms(use_true_random=False))
def test_the_server_never_believes_more_than_the_targets_have(draw: random.Random) -> None:
    world = World()
    has, waiting = 50, list[int]()
    for _ in range(draw.randint(1, 60)):
        match draw.randrange(6):
            case 0:
                world.here += draw.randint(1, 40)
                waiting = [world.here] if draw.random() < 0.7 else []
            case 1 if world.marks or not world.acknowledger.is_joined:
                has = max(has, draw.choice([*world.marks, has, world.here - draw.randint(0, 30)]))
                world.watch.reach(has, old=draw.random() < 0.2)
            case 2:
                world.watch.frontier = None
            case 3:
                world.watch.reach(10_000, epoch=2)
            case 4:
                world.server.state = draw.choice([ENABLED, ServerSemiSync(), None])
                world.server.looks += 1
            case _:
                world.offers = draw.random() < 0.8
        world.turn(*waiting, later_s=draw.choice([0.01, 0.5, 40]))
        waiting = []
        if world.dump.is_semi_sync:
            assert world.dump.taken <= has


def test_it_joins_where_the_targets_are_and_not_before() -> None:
    world = World()
    world.watch.reach(99)
    world.turn()
    assert (world.marks, world.acknowledger.is_holding) == ([100], True)
    assert not world.dump.start
    world.watch.reach(100)
    world.turn(later_s=0.1)
    assert world.dump.start == 100
    assert not world.acknowledger.is_holding
    world.turn(120)
    assert world.dump.taken == 100
    world.watch.reach(120)
    world.turn()
    assert world.dump.taken == 120
    assert world.acknowledger.answers == 1


def test_a_source_is_held_for_targets_that_are_close_and_not_for_long() -> None:
    world = World()
    world.watch.reach(10, old=True)
    world.turn()
    assert not world.acknowledger.is_holding
    world.watch.reach(90)
    world.here = 110
    world.turn(later_s=1)
    assert world.acknowledger.is_holding
    world.turn(later_s=HOLD_S_MAX)
    assert not world.acknowledger.is_holding
    world.here = 120
    world.turn(later_s=HELD_IN_VAIN_S / 2)
    assert not world.acknowledger.is_holding
    world.turn(later_s=HELD_IN_VAIN_S / 2)
    assert world.acknowledger.is_holding
    assert world.marks == [100, 110, 120]


def test_one_marker_is_enough_for_one_place() -> None:
    world = World()
    for _ in range(9):
        world.turn(later_s=5)
    assert world.marks == [100]


@pytest.mark.parametrize("state", [None, ServerSemiSync(), ServerSemiSync("rpl_semi_sync_source_")])
def test_a_server_that_is_not_set_so_is_read_as_ever(state: ServerSemiSync | None) -> None:
    world = World(server=Seen(state))
    world.watch.reach(500)
    world.turn()
    assert not world.dump.start
    assert world.acknowledger.progress()["state"] == ("unknown" if state is None else "disabled")


def joined(**given: Any) -> World:
    world = World(**given)
    world.watch.reach(100)
    world.turn()
    assert world.acknowledger.is_joined
    return world


def test_a_server_that_does_not_ask_is_tried_again_later() -> None:
    world = joined(offers=False)
    world.turn(later_s=1)
    assert not world.acknowledger.is_joined
    world.turn(later_s=1)
    assert not world.acknowledger.is_joined
    world.offers = True
    world.turn(later_s=REFUSED_S)
    assert world.acknowledger.is_joined
    assert world.dump.is_semi_sync


def test_a_server_that_has_forgotten_us_is_joined_again() -> None:
    world = joined()
    first = world.dump
    world.server.state = ServerSemiSync("rpl_semi_sync_master_", is_enabled=True)
    for _ in range(ALONE_LOOKS):
        world.turn()
        assert world.dump is first
        world.server.looks += 1
        world.turn()
    world.turn()
    assert first.is_closed
    assert world.dump is not first
    assert world.acknowledger.is_joined


def test_a_question_wants_a_marker_once() -> None:
    world = joined()
    mine = world.acknowledger
    assert mine.unmarked_since_s is None
    world.turn(120, later_s=1)
    world.turn(130, later_s=1)
    assert mine.unmarked_since_s == 1
    world.mark()
    world.turn()
    assert mine.unmarked_since_s is None


def test_what_ends_the_watch_ends_the_source() -> None:
    world = joined()
    world.watch.failure = FatalError("no topics")
    with pytest.raises(FatalError, match="no topics"):
        world.turn()
