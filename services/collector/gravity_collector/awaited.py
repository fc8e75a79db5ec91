"""Sets up the answers to a source's COMMITs: both watches, and the binlog that is opened where all targets are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gravity.position import Position
from gravity_collector.acknowledger import Acknowledger
from gravity_collector.binlog import BinlogStream, Start, StartAtFile
from gravity_collector.frontier_watch import FrontierWatch
from gravity_collector.loop import Loop
from gravity_collector.server import ServerFacts
from gravity_collector.server_watch import ServerWatch
from gravity_collector.snapshot import SourceConnection

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source


def acknowledge(
    loop: Loop,
    config: Config,
    source: Source,
    facts: ServerFacts,
    *,
    open_at: Callable[[Start], BinlogStream],
    connect: Callable[[], SourceConnection],
) -> list[Callable[[], None]]:
    """Has the loop answer the source's COMMITs, if they wait for targets; gives what ends it, the last first.

    `open_at` opens the binlog with answers.
    """
    if source.semi_sync is None:
        return []
    name, targets = source.name, source.semi_sync.targets
    watch = FrontierWatch(config, name, targets)
    server = ServerWatch(name, connect)
    epoch = loop.stream.position.epoch

    def open_joined(place: Position) -> BinlogStream:
        binlog = open_at(StartAtFile(facts.binlog_file_name(place.file_index), place.offset))
        binlog.wake_by(watch.waker)
        return binlog

    loop.acknowledger = Acknowledger(name, targets, epoch, watch=watch, server=server)
    loop.open_joined = open_joined
    loop.binlog.wake_by(watch.waker)
    watch.start()
    server.start()

    def close() -> None:
        loop.binlog.close()  # By now it may be another one.

    return [watch.end, server.end, close]
