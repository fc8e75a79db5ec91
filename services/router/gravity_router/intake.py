"""Between Faust and routing: messages wait here by source, so that the next one can be chosen.

Faust gives one stream in which the messages of all partitions stand one behind the other. They are taken
out of it at once; a source whose queue is full is not fetched until half of it has been routed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from gravity_router.fair_queue import FairQueue

MESSAGES_MAX: Final = 250
"""Of one source; a fetch of at most a hundred may come on top."""
_ALL_BYTES_MAX: Final = 128 * 1024 * 1024
_BYTES_MIN: Final = 1024 * 1024
_LET_IN_EVERY_S: Final = 0.005
"""How long messages are routed before others may arrive."""
_IDLE_TURNS: Final = 6
"""Turns of the event loop without an arrival that end the letting in. Faust needs about three to hand over a
message: if each turn routed one, none would ever wait here, and all order would be that of its fetches."""


class Intake:
    """The messages that were fetched and not yet routed."""

    def __init__(
        self,
        source_of: Mapping[str, str],
        priorities: Mapping[str, int],
        hold_back: Callable[[str], None],
        let_go: Callable[[str], None],
    ) -> None:
        """`source_of`: topic to its source; `priorities`: source to its priority, 1 is best.

        `hold_back` ends the fetching of a topic, `let_go` begins it again.
        """
        self._source_of = source_of
        self._hold_back, self._let_go = hold_back, let_go
        self._bytes_max = max(_BYTES_MIN, _ALL_BYTES_MAX // max(1, len(priorities)))
        self._count = 0
        """Messages that have been put in."""
        self._let_in_at_s = 0.0
        self._queue: FairQueue[Any] = FairQueue(priorities)
        self._arrived = asyncio.Event()
        self._held: dict[str, str] = {}
        """Sources that are not fetched now, and their topics."""

    def put(self, event: Any) -> None:
        """Takes in a message that Faust has fetched."""
        message = event.message
        source = self._source_of[message.topic]
        self._queue.add(source, event, len(message.value or b""))
        self._count += 1
        if self._share_used(source) >= 1:
            self._held[source] = message.topic
            self._hold_back(message.topic)
        self._arrived.set()

    async def next(self) -> Any:
        """The message to be routed now; waits until there is one."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()
        source, event = self._queue.pop()
        if source in self._held and self._share_used(source) <= 1 / 2:
            self._let_go(self._held.pop(source))
        return event

    async def let_in(self) -> None:
        """Lets messages in that have arrived meanwhile, since their turn may be earlier."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._let_in_at_s:
            return
        idle_turns = 0
        while idle_turns < _IDLE_TURNS:
            count = self._count
            await asyncio.sleep(0)
            idle_turns = idle_turns + 1 if self._count == count else 0
        self._let_in_at_s = loop.time() + _LET_IN_EVERY_S

    def _share_used(self, source: str) -> float:
        messages, size_bytes = self._queue.waiting(source)
        return max(messages / MESSAGES_MAX, size_bytes / self._bytes_max)

    def clear(self) -> None:
        """Drops everything: at a rebalance, after which Faust reads from the last commit."""
        self._queue.clear()
        for topic in self._held.values():
            self._let_go(topic)
        self._held.clear()
