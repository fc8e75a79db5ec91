"""An input is acknowledged in order, and never before the broker has everything it caused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from gravity.faust_app import UNACKED_MESSAGES_MAX, OrderedAcks
from gravity.kafka.producer import LogProducer


class Producer:
    """A producer that delivers when the test says so; deliveries come from `serve`, as in life."""

    def __init__(self) -> None:
        self.delivering: list[Callable[[int], None]] = []

    def queued(self) -> int:
        return len(self.delivering)

    def serve(self, _timeout_s: float) -> None:
        while self.delivering:
            self.delivering.pop(0)(0)

    def check(self) -> None:
        pass


def run(scenario: Callable[[OrderedAcks, Producer, list[Any]], Awaitable[None]]) -> None:
    async def main() -> None:
        acked: list[Any] = []
        producer = Producer()

        async def ack(event: Any) -> None:
            acked.append(event)

        acks = OrderedAcks(cast("LogProducer", producer), ack)
        acks.start()
        await scenario(acks, producer, acked)

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the thing waited for has no event
            await asyncio.sleep(0)


async def breathe() -> None:
    """Lets the acknowledging task run often enough to do what it should not."""
    for _ in range(20):
        await asyncio.sleep(0.002)


def test_an_input_waits_for_all_its_outputs_and_for_those_before_it() -> None:
    async def scenario(acks: OrderedAcks, producer: Producer, acked: list[Any]) -> None:
        first = await acks.expect("a", 2)
        second = await acks.expect("b", 1)
        await acks.expect("c", 0)
        producer.delivering.append(second)
        producer.delivering.append(first)
        await until(lambda: not producer.delivering)
        await breathe()
        assert acked == [], "b and c are done, but a still waits for one delivery"
        producer.delivering.append(first)
        await until(lambda: len(acked) == 3)
        assert acked == ["a", "b", "c"]

    run(scenario)


def test_too_many_unacknowledged_inputs_hold_the_next_one_back() -> None:
    async def scenario(acks: OrderedAcks, producer: Producer, acked: list[Any]) -> None:
        delivered = [await acks.expect(n, 1) for n in range(UNACKED_MESSAGES_MAX)]
        held = asyncio.ensure_future(acks.expect("held", 0))
        await breathe()
        assert not held.done()
        producer.delivering += delivered
        await held
        await until(lambda: len(acked) == UNACKED_MESSAGES_MAX + 1)
        assert acked[-1] == "held"

    run(scenario)
