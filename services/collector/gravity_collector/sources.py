"""Which sources this process collects: those it is told, or its share of all (docs/adr/0005)."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import structlog

from gravity.errors import FatalError
from gravity.kafka.control import ControlTopic
from gravity.kafka.membership import Membership
from gravity.kafka.plan_store import PlanStore
from gravity.topic import Topics
from gravity_collector.crew import FENCED_PAUSE_S, Crew
from gravity_collector.keeper import Keeper
from gravity_collector.recall import Recall
from gravity_collector.session import Shared
from gravity_collector.source import collect

if TYPE_CHECKING:
    from gravity.config import Config

log = structlog.get_logger()

GIVE_UP_S: Final = 10.0
"""How long a rebalance waits for a source to be given up in order; later it is taken over all the same."""
_STOP_S: Final = 15.0
_STEP_S: Final = 0.25


def collect_sources(
    config: Config, names: Sequence[str], stop: threading.Event, *, member: str = ""
) -> None:
    """Collects the named sources, or (none named) this process's share of all, until `stop`.

    Returns, too, when all of them are `snapshot: only` and copied. A source that halts is reported at once
    and the others go on. `member` is a name in the group of
    collectors that outlives the process (`gravity.kafka.membership`).

    Raises:
        FatalError: all sources there are, or were named, have halted by name here; the last reason.
        FencedError: a named source was taken over.
    """
    known = [source.name for source in config.sources]
    unknown = sorted(set(names) - set(known))
    if unknown or not known:
        raise FatalError(
            f"no such source: {', '.join(unknown)}"
            if unknown
            else "the configuration has no sources",
            remedy=f"known are: {', '.join(known)}",
        )
    topics = Topics(config.kafka.topic_prefix)
    control = ControlTopic(config.kafka, topics.control, "gravity-collector")
    keeper = Keeper(control)
    shared = Shared(config, control, PlanStore(control), keeper)
    crew = Crew(
        lambda name, ended: collect(shared, config.source(name), ended),
        fenced_pause_s=None if names else FENCED_PAUSE_S,
    )
    recall = Recall(control, crew)
    keeper.start()
    try:
        if names:
            _collect_named(crew, recall, names, stop)
        else:
            _collect_share(config, crew, recall, known, stop, member=member)
    finally:
        crew.stop(list(crew.names), within_s=_STOP_S)
        keeper.end()


def _collect_named(crew: Crew, recall: Recall, names: Sequence[str], stop: threading.Event) -> None:
    crew.start(names)
    while not stop.is_set():
        crew.wait(_STEP_S)
        crew.tend()
        crew.raise_if_all_halted(names)
        recall.look()
        if recall.are_all_done(names):
            return


def _collect_share(
    config: Config,
    crew: Crew,
    recall: Recall,
    known: Sequence[str],
    stop: threading.Event,
    *,
    member: str,
) -> None:
    topics = Topics(config.kafka.topic_prefix)
    source_of = {topics.ingest(name): name for name in known}
    given: set[str] = set()

    def on_gain(gained: list[str]) -> None:
        crew.start(source_of[topic] for topic in gained)
        given.update(gained)
        if gained or not given:
            _tell("sources_gained" if gained else "spare", gained)

    def on_give_up(lost: list[str]) -> None:
        crew.stop((source_of[topic] for topic in lost), within_s=GIVE_UP_S)
        given.difference_update(lost)
        _tell("sources_given_up", lost)

    def _tell(event: str, moved: list[str]) -> None:
        log.info(event, sources=sorted(source_of[topic] for topic in moved), held=len(given))

    membership = Membership(
        config.kafka,
        topics.group("collector"),
        list(source_of),
        client_id=f"{member or socket.gethostname()}:{os.getpid()}",
        on_gain=on_gain,
        on_give_up=on_give_up,
        session_timeout_ms=config.collector.session_timeout_ms,
        member=member,
    )
    try:
        while not stop.is_set():
            membership.poll(_STEP_S)
            crew.tend()
            crew.raise_if_all_halted(known)
            recall.look()
            if recall.are_all_done(known):
                return
    finally:
        membership.close()
