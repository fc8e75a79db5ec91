"""Named places where a process may die, so that tests can stop it exactly there.

A production process reaches them at the cost of one dictionary look-up. `GRAVITY_FAULT` names a
point, the visit that triggers it (from 1) and what happens: `sink.applied_not_committed:3:kill`
(SIGKILL) or `…:freeze` (SIGSTOP). It is read here and not from the configuration because it must
never be part of one.
"""

from __future__ import annotations

import os
import signal
import threading
from enum import StrEnum


class FaultPoint(StrEnum):
    """Every place where the suite stops a process: one member, one test."""

    COLLECTOR_FENCED_NOT_RECORDED = "collector.fenced_not_recorded"
    COLLECTOR_SENT_PART_OF_SPAN = "collector.sent_part_of_span"
    COLLECTOR_SENT_PART_OF_STATEMENT = "collector.sent_part_of_statement"
    COLLECTOR_PUBLISHED_NOT_CHECKPOINTED = "collector.published_not_checkpointed"
    COLLECTOR_CHUNK_NOT_DONE = "collector.chunk_not_done"
    ROUTER_SENT_NOT_ACKED = "router.sent_not_acked"
    RESOLVER_APPLIED_NOT_SENT = "resolver.applied_not_sent"
    RESOLVER_SENT_IN_PART = "resolver.sent_in_part"
    RESOLVER_SENT_NOT_SAVED = "resolver.sent_not_saved"
    RESOLVER_WRITTEN_NOT_COMMITTED = "resolver.written_not_committed"
    RESOLVER_SAVED_NOT_STORED = "resolver.saved_not_stored"
    RESOLVER_STORED_NOT_ACKED = "resolver.stored_not_acked"
    RESOLVER_FENCED_NOT_RESTORED = "resolver.fenced_not_restored"
    RESOLVER_RESTORED_IN_PART = "resolver.restored_in_part"
    SINK_APPLIED_NOT_COMMITTED = "sink.applied_not_committed"
    SINK_CLAIMED_NOT_ALTERED = "sink.claimed_not_altered"
    SINK_ALTERED_NOT_RECORDED = "sink.altered_not_recorded"
    SINK_COMMITTED_NOT_REMEMBERED = "sink.committed_not_remembered"


_armed: dict[str, tuple[int, str]] = {}
_visits: dict[str, int] = {}


def _arm(text: str) -> None:
    for item in filter(None, text.split(",")):
        name, visit, action = item.split(":")
        _armed[FaultPoint(name)] = (int(visit), action)


_arm(os.environ.get("GRAVITY_FAULT", ""))


def is_armed(point: FaultPoint) -> bool:
    """Whether a test wants the process stopped at `point`; callers may make their state definite first."""
    return point in _armed


def reach(point: FaultPoint) -> None:
    """Says that the process stands at `point`; does not return if a test wants it dead."""
    armed = _armed.get(point)
    if armed is None:
        return
    _visits[point] = _visits.get(point, 0) + 1
    if _visits[point] == armed[0]:
        # To this thread: any thread of the process may take what is sent to the process, and this one would go on
        # until it has.
        signal.pthread_kill(
            threading.get_ident(), signal.SIGSTOP if armed[1] == "freeze" else signal.SIGKILL
        )
