"""Going on at another server of the same replication group: by GTIDs, in a new epoch.

Everything before the new position is in the log, and so may be some rows behind it (`carried`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from gravity.codec import decode_batch
from gravity.errors import FatalError, PositionLostError
from gravity.header import IngestHeader, IngestKind
from gravity.position import Position
from gravity.schema_change import SchemaChange
from gravity_collector.binlog import BinlogStream, StartAfterGtids
from gravity_collector.carried import Carried, open_transaction
from gravity_collector.event import Event
from gravity_collector.host import assert_stands_in
from gravity_collector.owner import Ownership, Resume
from gravity_collector.place import Open, first_place
from gravity_collector.server import ServerFacts, identity


class Values(Protocol):
    """An ingest topic of which single messages can be read."""

    def values(self, offsets: Sequence[int]) -> Iterator[tuple[IngestHeader, bytes]]:
        """Header and value of each of these messages."""


def carried_rows(log: Values, owned: Ownership) -> Carried:
    """What the log has of transactions behind the GTIDs that it names.

    Raises:
        FatalError: the log does not say which transaction its position is inside of.
    """
    carried = Carried()
    if owned.resume is None:
        return carried
    inside, gtid = owned.resume.next_position, ""
    for header, value in log.values(owned.inside_offsets):
        if header.kind is IngestKind.SCHEMA:
            gtid = gtid or SchemaChange.decode(value).gtid
        else:
            gtid = gtid or open_transaction(decode_batch(value), inside)
    for _, value in log.values(owned.unfinished_offsets):
        carried.add_batch(decode_batch(value))
    if inside.ordinal:
        if not gtid:
            raise FatalError(
                f"the log does not tell the GTID of the transaction that it stops inside of, {inside}",
                where=f"source {owned.source}",
                remedy="let the server before come back, or `gravity reset --source`",
            )
        carried.add_below(gtid, inside.ordinal)
    return carried


def has_moved(owned: Ownership, server: str, *, may_move: bool) -> bool:
    """Whether the log can't be gone on with by its position, but by GTIDs only.

    Its position is of another server (`may_move`: which is allowed), or what is unfinished is.
    """
    resume, unfinished = owned.resume, owned.unfinished
    if resume is None:
        return False
    is_split = unfinished is not None and unfinished.from_.epoch != resume.next_position.epoch
    return is_split or (may_move and bool(resume.server) and resume.server != server)


def next_epoch(owned: Ownership) -> int:
    """The epoch of the positions at another server: later than any in the log."""
    assert owned.resume is not None
    unfinished = 0 if owned.unfinished is None else owned.unfinished.to.epoch
    return max(owned.resume.next_position.epoch, unfinished) + 1


def resume_elsewhere(owned: Ownership, place: Position, server: str) -> Resume:
    """Going on at `place`, with the event time of the last whole span: what is unfinished comes again with its own."""
    assert owned.resume is not None
    return replace(owned.resume, next_position=place, server=server)


def open_elsewhere(
    facts: ServerFacts,
    owned: Ownership,
    carried: Carried,
    open_at: Open,
    is_replicating: Callable[[], bool],
) -> tuple[BinlogStream, Resume, Sequence[Event]]:
    """The binlog of the server that stands in, from the first transaction on that the log does not have whole.

    Raises:
        TransientError: the server does not have all of the log's transactions yet.
        PositionLostError: it never will, or has purged what comes next.
    """
    resume, source = owned.resume, owned.source
    assert resume is not None
    where = f"source {source}, {identity(facts)} instead of {resume.server}"
    assert_stands_in(
        facts, resume.gtids, carried.gtids(), is_replicating=is_replicating, where=where
    )
    binlog = open_at(StartAfterGtids(resume.gtids))
    try:
        place, events = first_place(binlog, source, next_epoch(owned))
    except PositionLostError as error:
        binlog.close()
        raise PositionLostError(error.what, where=where, remedy=error.remedy) from error
    return binlog, resume_elsewhere(owned, place, identity(facts)), events
