"""Answers the source's waiting COMMITs once every target of the group has them. Runs in the source's thread.

A server takes all before the place where a dump begins for acknowledged. So a source is read as any other
until the targets are where reading is; only there it is opened anew, now with answers: that is to join. What
has been answered is never more than the targets have, whoever read it, and whoever dies (docs/adr/0019).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import structlog

from gravity.clock import now_us
from gravity.errors import GravityError
from gravity.position import Position
from gravity.recency import Frontier
from gravity.semi_sync import ServerSemiSync, state_of
from gravity_collector.event import AckAsked
from gravity_collector.semi_sync import AskedFor

log = structlog.get_logger()

HOLD_S_MAX: Final = 3.0
"""How long the source is read no further so that the targets come to where reading is."""
TRY_S: Final = 0.2
"""Between two places that are tried."""
HELD_IN_VAIN_S: Final = 10.0
"""Reading goes on for so long after it was held in vain."""
CLOSE_US: Final = 3_000_000
"""Targets that are further behind would not catch up in HOLD_S_MAX: they are as far behind as they need."""
REFUSED_S: Final = 30.0
ALONE_LOOKS: Final = 3
"""Looks at a server that counts no replica, after which it has surely forgotten us."""
_OFFSET_END: Final = 1 << 32
"""A dump can't be asked for behind it; the next file has a place again."""


class Dump(Protocol):
    """A binlog connection, as far as answers go."""

    @property
    def is_semi_sync(self) -> bool | None:
        """Whether the server asks for answers; None before its first event."""

    def acknowledge(self, asked: AckAsked) -> None:
        """Sends an answer."""

    def close(self) -> None:
        """Ends it."""


class Watch(Protocol):
    """How far the targets are."""

    frontier: Frontier | None
    failure: GravityError | None

    def wait(self, timeout_s: float) -> None:
        """Returns when it has moved, or after `timeout_s`."""


class Server(Protocol):
    """What the server says of itself."""

    state: ServerSemiSync | None
    looks: int


AnyDump = TypeVar("AnyDump", bound=Dump)


@dataclass(slots=True)
class Acknowledger:
    """One source's answers. Knows no clock: it is told the time, seconds of one that never goes back."""

    source: str
    targets: tuple[str, ...]
    epoch: int
    watch: Watch
    server: Server
    is_joined: bool = False
    unmarked_since_s: float | None = None
    """Since when a COMMIT waits that no marker stands behind; None: none does."""
    answers: int = 0
    """Sent; each is for all COMMITs that waited by then."""
    _asked: AskedFor = field(init=False)
    _held_until_s: float | None = None
    _try_at_s: float = 0.0
    _refused_until_s: float = 0.0
    _tried: Position | None = None
    """A marker stands there."""
    _last_look: int = 0
    _looks_alone: int = 0

    def __post_init__(self) -> None:
        self._asked = AskedFor(self.epoch)

    @property
    def is_holding(self) -> bool:
        """Whether the source is to be read no further for now."""
        return self._held_until_s is not None

    def go_on(self) -> None:
        """The source is read on: what waits for it to be read would wait for ever."""
        self._held_until_s = None

    def take(self, asked: Sequence[AckAsked], now_s: float) -> None:
        """Takes in which COMMITs wait."""
        if asked:
            self._asked.add(asked)
            if self.unmarked_since_s is None:
                self.unmarked_since_s = now_s

    def marked(self) -> None:
        """A marker stands behind all that was taken in."""
        self.unmarked_since_s = None

    def answer(self, dump: Dump) -> None:
        """Acknowledges what the targets have by now.

        Raises what ended the watch over them.
        """
        if self.watch.failure is not None:
            raise self.watch.failure
        frontier = self.watch.frontier
        covered = self._asked.covered(None if frontier is None else frontier.position)
        if covered is not None:
            dump.acknowledge(covered)
            self.answers += 1

    def look(self, dump: Dump, now_s: float) -> None:
        """Leaves what the server does not keep up: it will be joined again."""
        if not self.is_joined:
            return
        if dump.is_semi_sync is False:
            log.error(
                "semi_sync_refused",
                source=self.source,
                remedy="the server does not ask for answers: is its plugin installed? see docs/consistency.md",
            )
            self._refused_until_s = now_s + REFUSED_S
            self._leave()
            return
        state = self.server.state
        if self.server.looks == self._last_look or state is None:
            return
        self._last_look = self.server.looks
        is_alone = state.is_enabled and state.clients == 0
        self._looks_alone = self._looks_alone + 1 if is_alone else 0
        if self._looks_alone >= ALONE_LOOKS:
            # Switched off and on again, it counts nobody who was connected before.
            log.warning("semi_sync_forgotten", source=self.source)
            self._leave()

    def _leave(self) -> None:
        self.is_joined = False
        self._looks_alone = 0
        # They are asked for again where we join.
        self._asked = AskedFor(self.epoch)
        self.unmarked_since_s = None

    def join(
        self,
        dump: AnyDump,
        here: Position,
        now_s: float,
        *,
        mark: Callable[[], None],
        open_at: Callable[[Position], AnyDump],
    ) -> AnyDump:
        """Joins where it can be done, and brings it about. To be called between transactions, with all read.

        `here` is what is read next; `mark` puts a marker there. Gives the connection to read on with.

        Raises TransientError or FatalError when the binlog can't be opened anew.
        """
        state = self.server.state
        is_wanted = state is not None and state.is_enabled and now_s >= self._refused_until_s
        if self.is_joined or not is_wanted or here.offset >= _OFFSET_END:
            self._held_until_s = None
            return dump
        frontier = self.watch.frontier
        place = None if frontier is None else frontier.position
        if place is not None and place.epoch == here.epoch and place >= here:
            self._held_until_s = None
            dump.close()
            joined = open_at(here)
            self.is_joined = True
            self._last_look, self._looks_alone = self.server.looks, 0
            log.info(
                "semi_sync_joined", source=self.source, targets=self.targets, position=str(here)
            )
            return joined
        if self._held_until_s is not None:
            if now_s >= self._held_until_s:
                self._held_until_s, self._try_at_s = None, now_s + HELD_IN_VAIN_S
        elif here != self._tried and now_s >= self._try_at_s:
            self._tried, self._try_at_s = here, now_s + TRY_S
            mark()
            if frontier is not None and now_us() - frontier.time_us < CLOSE_US:
                self._held_until_s = now_s + HOLD_S_MAX
        return dump

    def progress(self) -> dict[str, Any]:
        """What `gravity status` shows."""
        server = self.server.state
        told = server or ServerSemiSync()
        return {
            "state": state_of(server, is_joined=self.is_joined),
            "targets": list(self.targets),
            "answers": self.answers,
            "clients": told.clients,
            "acknowledged": told.acknowledged,
            "unacknowledged": told.unacknowledged,
            "fallbacks": told.fallbacks,
            "timeout_ms": told.timeout_ms,
            "wait_us": told.wait_us,
            "others_may_answer": told.others_may_answer,
        }
