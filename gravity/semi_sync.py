"""Semi-synchronous replication as a source server tells of it: settings, counters, and what is alarming. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Self

QUESTIONS: Final = (
    "SHOW GLOBAL VARIABLES LIKE 'rpl\\_semi\\_sync\\_%'",
    "SHOW GLOBAL STATUS LIKE 'rpl\\_semi\\_sync\\_%'",
)
"""What tells everything; no grant is needed."""
_PREFIXES: Final = ("rpl_semi_sync_source_", "rpl_semi_sync_master_")
"""MySQL's newer plugin, and the older one, whose names MariaDB shares."""


@dataclass(frozen=True, slots=True)
class ServerSemiSync:
    """What a server says of its side of semi-synchronous replication. It may have none at all."""

    prefix: str = ""
    """What its names begin with; empty where it can't do it, or lacks the plugin."""
    is_enabled: bool = False
    is_on: bool = False
    """Whether COMMITs wait now. Off although enabled: it fell back, and goes on by itself once all is acknowledged."""
    timeout_ms: int = 0
    """How long a COMMIT waits before the server falls back."""
    waits_after_sync: bool = False
    """Whether a transaction is seen by others only once it is acknowledged."""
    waits_without_replica: bool = True
    """Whether COMMITs wait while nobody is there to acknowledge."""
    answers_wanted: int = 1
    """Replicas that must acknowledge."""
    clients: int = 0
    """Replicas that may."""
    acknowledged: int = 0
    """Transactions that waited to the end, since the server started or the counters were reset."""
    unacknowledged: int = 0
    """Those that were committed without."""
    fallbacks: int = 0
    """How often it fell back."""
    wait_us: int = 0
    """Of a transaction, on average."""

    @classmethod
    def of(cls, answers: Iterable[Iterable[Sequence[Any]]]) -> Self:
        """What the answers to `QUESTIONS` say."""
        told = {str(name).lower(): str(value) for rows in answers for name, value in rows}
        prefix = next((text for text in _PREFIXES if f"{text}enabled" in told), "")
        if not prefix:
            return cls()
        mine = {
            name.removeprefix(prefix): value
            for name, value in told.items()
            if name.startswith(prefix)
        }

        def number(*names: str, default: int = 0) -> int:
            return next((int(mine[name]) for name in names if name in mine), default)

        return cls(
            prefix=prefix,
            is_enabled=mine["enabled"] == "ON",
            is_on=mine.get("status") == "ON",
            timeout_ms=number("timeout"),
            waits_after_sync=mine.get("wait_point") == "AFTER_SYNC",
            waits_without_replica=mine.get("wait_no_slave", mine.get("wait_no_replica")) != "OFF",
            answers_wanted=number("wait_for_slave_count", "wait_for_replica_count", default=1),
            clients=number("clients"),
            acknowledged=number("yes_tx"),
            unacknowledged=number("no_tx"),
            fallbacks=number("no_times"),
            wait_us=number("tx_avg_wait_time"),
        )

    @property
    def others_may_answer(self) -> bool:
        """Whether a COMMIT may return because of another replica's answer, without ours."""
        return self.clients > self.answers_wanted


State = Literal["on", "off", "joining", "disabled", "unknown"]
"""COMMITs wait; they do not; we do not answer yet; the server is not set so; the server was not asked yet."""


def state_of(server: ServerSemiSync | None, *, is_joined: bool) -> State:
    """Whether COMMITs at the server wait for the targets."""
    if server is None:
        return "unknown"
    if not server.is_enabled:
        return "disabled"
    if not is_joined:
        return "joining"
    return "on" if server.is_on else "off"


class Alarm(NamedTuple):
    """Something that must be said aloud."""

    is_error: bool
    event: str
    fields: Mapping[str, Any]


def alarms(before: ServerSemiSync | None, now: ServerSemiSync) -> Iterator[Alarm]:
    """What has changed for the worse or the better between two looks; `before` is None at the first."""
    was = before if before is not None else ServerSemiSync(now.prefix, is_enabled=True, is_on=True)
    counts = {"fallbacks": now.fallbacks, "unacknowledged": now.unacknowledged}
    if was.is_enabled and not now.is_enabled:
        how = f"SET GLOBAL {now.prefix}enabled=ON" if now.prefix else "install its plugin"
        yield Alarm(True, "semi_sync_not_enabled", {"remedy": how})
    elif now.is_enabled:
        fell = before is not None and now.fallbacks > was.fallbacks
        if fell or (was.is_on and not now.is_on and before is not None):
            timeout = {"timeout_ms": now.timeout_ms, "clients": now.clients}
            yield Alarm(True, "semi_sync_fell_back", {**counts, **timeout})
        elif before is None and not now.is_on:
            yield Alarm(False, "semi_sync_off", counts)
        if now.is_on and before is not None and (fell or not was.is_on):
            yield Alarm(False, "semi_sync_on", counts)
    if now.others_may_answer and not (before is not None and was.others_may_answer):
        remedy = "a COMMIT may return before the targets have it: let no other replica be semi-synchronous"
        clients = {"clients": now.clients, "answers_wanted": now.answers_wanted}
        yield Alarm(True, "semi_sync_answered_by_others", {**clients, "remedy": remedy})
