"""Driving a SinkWriter by hand: what the loop does, without Kafka in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type
from tenacity.stop import stop_after_delay
from tenacity.wait import wait_fixed

from gravity.errors import TransientError
from gravity.sink import Lane, Refusal, Write
from gravity.testing.target_log import Message
from gravity.testing.waiting import wait_until
from tests.target_server import TargetServer

Result = TypeVar("Result")
INSIST_S = 10.0


class Refused:
    """Stands for the dead-letter topic."""

    def __init__(self) -> None:
        self.letters: list[Refusal] = []

    def __call__(self, refusals: Sequence[Refusal]) -> None:
        self.letters += refusals


def insist(step: Callable[[], Result]) -> Result:
    """Calls again while the target says so, as the loop does; what it says after `INSIST_S` is raised."""
    return Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_delay(INSIST_S),
        wait=wait_fixed(0.1),
        reraise=True,
    )(step)


def take_over(server: TargetServer, *, adopt: bool = False, partition: int = 0) -> Lane:
    writer = server.writer(adopt=adopt)
    insist(writer.open)
    lane_writer, stored = insist(lambda: writer.take_over(partition))
    return Lane(server.name, partition, lane_writer, stored, writer.pace)


def offer(lane: Lane, topic: Sequence[Message]) -> None:
    """Reads the topic from where the lane continues."""
    start = lane.stored.progress.next_offset
    for offset in range(start, len(topic)):
        lane.offer(*topic[offset], offset, 0.0)


def cut(lane: Lane) -> Write:
    write = lane.cut(0.0)
    assert write is not None
    return write


def drain(lane: Lane, topic: Sequence[Message], refused: Refused | None = None) -> Lane:
    """Applies the whole topic."""
    offer(lane, topic)
    set_aside = refused or Refused()
    while (write := lane.cut(0.0)) is not None:
        lane.done(insist(partial(lane.writer.write, write, set_aside)), 0.0)
    return lane


def retry_until(
    lane: Lane, is_so: Callable[[], bool], refused: Refused | None = None, *, within_s: float = 20.0
) -> None:
    """Tries parked rows again, as the loop does while idle, until something is so."""
    set_aside = refused or Refused()

    def is_so_by_now() -> bool:
        if is_so():
            return True
        stored = insist(partial(lane.writer.retry, lane.stored, set_aside))
        if stored is not None:
            lane.moved(stored)
        return False

    wait_until(
        is_so_by_now,
        within_s,
        what="what parked rows are tried for",
        every_s=0.005,
        tell=lambda: lane.stored.counts,
    )
