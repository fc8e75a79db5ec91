"""Who owns a source's ingest log, and what in it is void. Pure.

A collector takes a source over by appending a fence with a greater owner number. The rule for every
reader: a message that stands after a fence whose owner is greater than the message's own is void.
The log decides, so all readers agree, and a frozen collector that wakes up harms nobody.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gravity.header import IngestHeader, IngestKind
from gravity.position import START, Position
from gravity.snapshot_request import SnapshotRequest, is_chunk_of

PENDING = -1
"""Offset of an owner record whose fence has not been written, or not been found, yet."""


@dataclass(slots=True)
class Fences:
    """The fences of one ingest log that a reader knows, in offset order."""

    offsets: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    def add(self, offset: int, owner: int) -> None:
        """Learns of a fence. The same fence may be learned any number of times."""
        index = bisect_left(self.offsets, offset)
        if index < len(self.offsets) and self.offsets[index] == offset:
            return
        self.offsets.insert(index, offset)
        self.owners.insert(index, owner)

    def is_void(self, offset: int, owner: int) -> bool:
        """Whether a message at `offset` by `owner` stands behind the fence of a greater owner."""
        return max(self.owners[: bisect_left(self.offsets, offset)], default=0) > owner

    def top_owner(self) -> int:
        """The greatest owner that has a fence; 0 when there is none."""
        return max(self.owners, default=0)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a collector writes to control now and then, so that retention can't take its position away."""

    offset: int
    """The ingest offset it stands for: everything below is covered."""
    seq: int
    next_position: Position
    gtids: str
    ets: int
    server: str
    """Identity of the server that `next_position` belongs to."""
    chunks_done: tuple[str, ...] = ()
    snapshot_done: bool = False
    snapshot_round: int = 0
    """Which copy of the source `chunks_done` is part of; `gravity reset` asks for the next one."""
    rereads: tuple[str, ...] = ()
    """Tables (`database.table`) that are being read again; `chunks_done` says how much of them is."""
    requests: tuple[SnapshotRequest, ...] = ()
    """Operators' requests in the log of whose end control does not know yet."""
    rows_read: Mapping[str, int] = field(default_factory=dict)
    """Existing rows in the log of each table that is not complete; for progress only."""
    plan: int = 0
    """The plan of the last message; 0 = not known, as in checkpoints of before it was written down."""


@dataclass(slots=True)
class IngestScan:
    """What a reader of the ingest log, from a valid checkpoint on, knows of its writer.

    Feed it every message in offset order; void messages and stored repeats change nothing.
    """

    seq: int = 0
    next_position: Position = START
    gtids: str = ""
    ets: int = 0
    """Like position and GTIDs as of the last whole span."""
    chunks_done: set[str] = field(default_factory=set)
    rereads: set[str] = field(default_factory=set)
    """Tables that were to be read again, the finished ones included."""
    requests: dict[int, SnapshotRequest] = field(default_factory=dict)
    """Operators' requests by id, the ended ones included."""
    rows_read: Counter[str] = field(default_factory=Counter)
    """Existing rows by table; for progress only."""
    top_owner: int = 0
    open_span: IngestHeader | None = None
    """The last message of a span whose later parts are missing."""

    @classmethod
    def after(cls, checkpoint: Checkpoint | None) -> IngestScan:
        """A scan that starts at `checkpoint.offset`, or at the log's beginning."""
        if checkpoint is None:
            return cls()
        return cls(
            seq=checkpoint.seq,
            next_position=checkpoint.next_position,
            gtids=checkpoint.gtids,
            ets=checkpoint.ets,
            chunks_done=set(checkpoint.chunks_done),
            rereads=set(checkpoint.rereads),
            requests={request.request_id: request for request in checkpoint.requests},
            rows_read=Counter(checkpoint.rows_read),
        )

    def keep_chunks(self, is_kept: Callable[[str], bool]) -> None:
        """Forgets the finished chunks that are not kept; told by their ids."""
        self.chunks_done = set(filter(is_kept, self.chunks_done))

    def read(self, header: IngestHeader) -> bool:
        """Takes one message in; returns whether it counts (neither void nor a repeat)."""
        if header.kind is IngestKind.FENCE:
            self.top_owner = max(self.top_owner, header.owner)
            return True
        if header.owner < self.top_owner or header.seq <= self.seq:
            return False
        self.seq = header.seq
        self.open_span = header if header.part + 1 < header.parts else None
        if self.open_span is None:
            self.next_position, self.gtids = header.to, header.gtids
            # Of a span that is not whole the time of its end is no floor for what is still to come of it.
            # Snapshot reads have none at all.
            self.ets = max(self.ets, header.ets)
        if header.kind is IngestKind.CHUNK:
            self.rows_read[header.table] += header.rows
        elif header.kind is IngestKind.CHUNK_DONE:
            self.chunks_done.add(header.chunk)
        elif header.restarts_copy:
            self.chunks_done = {
                chunk for chunk in self.chunks_done if not is_chunk_of(chunk, header.table)
            }
            self.rereads.add(header.table)
            self.rows_read.pop(header.table, None)
        if header.kind is IngestKind.SNAPSHOT:
            request = SnapshotRequest.parse(header.chunk)
            if request.request_id:
                self.requests[request.request_id] = request
        return True


def newest_checkpoint(
    checkpoints: Mapping[int, Checkpoint], fences: Fences, *, before: int
) -> Checkpoint | None:
    """The newest checkpoint (by owner) that may be believed; `before` is the reader's own fence.

    A checkpoint is void exactly when a message at its offset by its owner would be: a collector that
    was overtaken goes on writing them for a while.
    """
    good = [
        checkpoint
        for owner, checkpoint in checkpoints.items()
        if checkpoint.offset <= before and not fences.is_void(checkpoint.offset, owner)
    ]
    return max(good, key=lambda checkpoint: (checkpoint.offset, checkpoint.seq), default=None)


def fences_of(records: Iterable[tuple[int, int]]) -> Fences:
    """The fences that owner records (owner, offset) of the control topic name; pending ones left out."""
    fences = Fences()
    for owner, offset in records:
        if offset != PENDING:
            fences.add(offset, owner)
    return fences
