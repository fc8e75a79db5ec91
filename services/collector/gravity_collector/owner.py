"""Taking a source over: who writes its ingest log from now on, and where that writer goes on.

The five steps are those of docs/delivery.md. They need no lock: the log's order of fences decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gravity import fault
from gravity.errors import FatalError, FencedError, OffsetLostError, TransientError
from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import PENDING, Checkpoint, Fences, IngestScan, fences_of, newest_checkpoint
from gravity.position import Position
from gravity.snapshot_request import SnapshotRequest
from gravity.topic import checkpoint_key, newest_plan, numbered, owner_key, resnapshot_key
from gravity_collector.chunk import Chunk, TableName

Stands = Callable[[int, int, TableName], bool]
"""Whether what was copied of a source's table under the plan of the first number (0 = not known) stands
under that of the second."""


class Control(Protocol):
    """The control topic: the last record of a key counts (of a plan's number, the first)."""

    def refresh(self) -> Mapping[str, Any]:
        """All records, up to the present end."""

    def write(self, key: str, value: Any) -> None:
        """Appends a record and returns once it is there."""

    def delete(self, key: str) -> None:
        """Removes a record."""


class IngestLog(Protocol):
    """One source's ingest topic."""

    def append(self, header: IngestHeader) -> int:
        """Appends a message without a value and returns its offset once it is there."""

    def bounds(self) -> tuple[int, int]:
        """(first offset there is, offset of the next message)."""

    def read(self, start: int, end: int) -> Iterable[tuple[int, IngestHeader]]:
        """The messages of [start, end) in order. Raises OffsetLostError when `start` is gone."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a collector knows once the source is its own."""

    source: str
    owner: int
    seq: int
    """The last sequence number in the log."""
    resume: Resume | None
    """None: the source has never been read."""
    chunks_done: frozenset[str]
    unfinished: IngestHeader | None
    """The last message of a span of rows whose later parts are missing."""
    snapshot_round: int = 0
    """Which copy of the source `chunks_done` is part of."""
    inside_offsets: tuple[int, ...] = ()
    """The messages of the last whole span, when it ended inside a transaction; looked into at another server."""
    unfinished_offsets: tuple[int, ...] = ()
    """The messages behind it: the parts of spans that are not whole; one was begun at each server since."""
    rereads: frozenset[str] = frozenset()
    """Tables (`database.table`) that were to be read again; `chunks_done` says how much of them is."""
    requests: tuple[SnapshotRequest, ...] = ()
    """Operators' requests that the log has; `chunks_done` says how much of them is."""
    fences: Fences = field(default_factory=Fences)
    """All up to its own."""
    rows_read: Mapping[str, int] = field(default_factory=dict)
    """Existing rows in the log by table (`database.table`); for progress only."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where reading goes on."""

    next_position: Position
    gtids: str
    ets: int
    """Running maximum of commit times before `next_position`."""
    server: str
    """The server whose binlog `next_position` is a place in."""
    plan: int
    """The plan under which rows were counted until `next_position`; 0 = not known."""


def owner_records(records: Mapping[str, Any], source: str) -> dict[int, int]:
    """Owner → offset of its fence (or PENDING), from the control topic."""
    return {
        owner: int(value["offset"])
        for owner, value in numbered(records, owner_key(source, 0)).items()
    }


def checkpoint_records(records: Mapping[str, Any], source: str) -> dict[int, Checkpoint]:
    """Owner → its newest checkpoint, from the control topic."""
    return {
        owner: checkpoint_of(value)
        for owner, value in numbered(records, checkpoint_key(source, 0)).items()
    }


def checkpoint_record(checkpoint: Checkpoint) -> dict[str, Any]:
    """The JSON value under `checkpoint_key`."""
    return {
        "offset": checkpoint.offset,
        "seq": checkpoint.seq,
        "next_position": str(checkpoint.next_position),
        "gtids": checkpoint.gtids,
        "ets": checkpoint.ets,
        "server": checkpoint.server,
        "chunks_done": list(checkpoint.chunks_done),
        "snapshot_done": checkpoint.snapshot_done,
        "snapshot_round": checkpoint.snapshot_round,
        "rereads": list(checkpoint.rereads),
        "requests": [request.text for request in checkpoint.requests],
        "rows_read": dict(checkpoint.rows_read),
        "plan": checkpoint.plan,
    }


def checkpoint_of(record: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that `checkpoint_record` wrote."""
    return Checkpoint(
        offset=record["offset"],
        seq=record["seq"],
        next_position=Position.parse(record["next_position"]),
        gtids=record["gtids"],
        ets=record["ets"],
        server=record["server"],
        chunks_done=tuple(record["chunks_done"]),
        snapshot_done=record["snapshot_done"],
        snapshot_round=record.get("snapshot_round", 0),
        rereads=tuple(record.get("rereads", ())),
        requests=tuple(map(SnapshotRequest.parse, record.get("requests", ()))),
        rows_read=dict(record.get("rows_read", {})),
        plan=record.get("plan", 0),
    )


def fence_name(process: str, server: str, snapshot_round: int = 0) -> str:
    """What a fence says: the process that fences, the server it reads, the copy that is asked for."""
    name = {"process": process, "server": server, "round": snapshot_round}
    return json.dumps(name, separators=(",", ":"))


def _said_by(fence: IngestHeader) -> tuple[str, int]:
    """(server, round of the snapshot) of a fence; ("", 0) where it says nothing."""
    try:
        said = json.loads(fence.chunk)
        return str(said["server"]), int(said.get("round", 0))
    except (ValueError, KeyError, TypeError):
        return "", 0


def asked_round(records: Mapping[str, Any], source: str) -> int:
    """The copy of the source that `gravity reset` last asked for; 0 when it never did."""
    return int(records.get(resnapshot_key(source), {}).get("request", 0))


def take_over(
    control: Control,
    log: IngestLog,
    *,
    source: str,
    process: str,
    server: str,
    plan: int,
    stands: Stands,
) -> Ownership:
    """Makes this process the one writer of the source's ingest log.

    `process` is a name that no other process ever has; `server` the identity of the server it reads;
    `stands` knows every plan that the log names.

    Raises:
        FencedError: another process took over at the same time and won.
        OffsetLostError: the source has been read before, and where it stopped is gone.
    """
    records = control.refresh()
    owners = owner_records(records, source)
    asked = asked_round(records, source)
    owner = max(owners, default=0) + 1
    control.write(owner_key(source, owner), {"offset": PENDING})  # (1)
    name = fence_name(process, server, asked)
    mine = log.append(IngestHeader(IngestKind.FENCE, source, owner, plan=plan, chunk=name))  # (2)
    fault.reach(fault.FaultPoint.COLLECTOR_FENCED_NOT_RECORDED)
    records = control.refresh()  # (3)
    fences = _all_fences(records, log, source, mine)
    _refuse_rivals(control, fences, source, owner, mine)
    checkpoint = newest_checkpoint(checkpoint_records(records, source), fences, before=mine)
    scanned = read_log(
        log, fences, checkpoint, source=source, owner=owner, mine=mine, asked=asked, stands=stands
    )
    # By what control said before our fence: a lower owner that woke up may have fenced behind us since.
    was_begun = bool(checkpoint_records(records, source)) or any(
        offset >= mine for offset in owners.values()
    )
    if scanned.resume is None and was_begun:
        raise _begun_and_lost(log, source)
    control.write(owner_key(source, owner), {"offset": mine})  # (4)
    _forget_old_owners(control, log, source, fences, owner)
    return scanned


def _all_fences(records: Mapping[str, Any], log: IngestLog, source: str, mine: int) -> Fences:
    """Every fence up to our own, those of pending owners looked up in the log."""
    owners = owner_records(records, source)
    fences = fences_of(owners.items())
    low, _ = log.bounds()
    start = max([low, *(offset for offset in fences.offsets if offset < mine)])
    pending = {owner for owner, offset in owners.items() if offset == PENDING}
    for offset, header in log.read(start, mine + 1):
        if header.kind is IngestKind.FENCE and header.owner in pending:
            fences.add(offset, header.owner)
            pending.discard(header.owner)
    return fences


def _refuse_rivals(control: Control, fences: Fences, source: str, owner: int, mine: int) -> None:
    for offset, other in zip(fences.offsets, fences.owners, strict=True):
        if other == owner and offset != mine:
            # The loser completes the winner's record: removing it would free the number.
            control.write(owner_key(source, owner), {"offset": offset})
        if other > owner or (other == owner and offset != mine):
            raise _fenced(source, other)


def _fenced(source: str, owner: int) -> FencedError:
    return FencedError(
        "another collector has taken this source over",
        where=f"source {source}, owner {owner}",
        remedy="two collectors serve the same source: end one, or leave it as a spare",
    )


def read_log(
    log: IngestLog,
    fences: Fences,
    checkpoint: Checkpoint | None,
    *,
    source: str,
    owner: int,
    mine: int,
    asked: int,
    stands: Stands,
) -> Ownership:
    """What the log says of its writer, from the checkpoint up to our own fence: step 3 behind the look at rivals.

    `fences` are all up to that fence, which stands at `mine`; `asked` is the copy that was asked for last.
    """
    start = _scan_start(log, checkpoint, source)
    scan = IngestScan.after(checkpoint)
    scan.top_owner = max(
        (
            known
            for offset, known in zip(fences.offsets, fences.owners, strict=True)
            if offset < start
        ),
        default=0,
    )
    # The server that the position belongs to is that of the last one who published a whole span: whoever
    # only fenced, and halted because the server was another one, must not make it the right one.
    server = checkpoint.server if checkpoint is not None else ""
    fenced_by: dict[int, str] = {}
    was_read = checkpoint is not None
    plan = checkpoint.plan if checkpoint is not None else 0
    snapshot_round = checkpoint.snapshot_round if checkpoint is not None else 0
    spans = _Spans()
    for offset, header in log.read(start, mine):
        if header.kind is IngestKind.FENCE and header.owner <= scan.top_owner:
            # Of rivals under one number the first has it. What a later one says, which may read another server, is
            # not of those who write: taken for theirs, their place would be looked for in a foreign binlog.
            continue
        if header.kind is IngestKind.FENCE:
            fenced_by[header.owner], said_round = _said_by(header)
            scan.read(header)
            if said_round > snapshot_round:
                # From here on another copy is being made: what was done before counts no more.
                snapshot_round = said_round
                scan.chunks_done.clear()
                scan.rows_read.clear()
            continue
        if scan.read(header):
            if header.plan != plan:
                # What was not read for a while has missed changes, whatever was copied of it before.
                _keep_tables(scan, plan, header.plan, stands)
            was_read = True
            is_open = scan.open_span is not None
            spans.read(offset, header.kind, is_open=is_open)
            plan = header.plan
            if not is_open:
                server = fenced_by.get(header.owner, server)
    unfinished = (
        scan.open_span if scan.open_span and scan.open_span.kind is IngestKind.ROWS else None
    )
    resume = Resume(scan.next_position, scan.gtids, scan.ets, server, plan) if was_read else None
    done = scan.chunks_done if snapshot_round >= asked else set()
    return Ownership(
        source,
        owner,
        scan.seq,
        resume,
        frozenset(done),
        unfinished,
        max(snapshot_round, asked),
        spans.last if scan.next_position.ordinal else (),
        spans.current if unfinished is not None else (),
        frozenset(scan.rereads),
        tuple(scan.requests.values()),
        fences,
        scan.rows_read if snapshot_round >= asked else {},
    )


def _keep_tables(scan: IngestScan, before: int, plan: int, stands: Stands) -> None:
    scan.keep_chunks(lambda chunk: stands(before, plan, Chunk.parse(chunk).table))


@dataclass(slots=True)
class _Spans:
    """The messages of the last whole span, and of the one behind it that is not whole."""

    last: tuple[int, ...] = ()
    current: tuple[int, ...] = ()

    def read(self, offset: int, kind: IngestKind, *, is_open: bool) -> None:
        if kind in (IngestKind.ROWS, IngestKind.SCHEMA):
            self.current = (*self.current, offset)
        if not is_open:
            self.last, self.current = self.current, ()


def _scan_start(log: IngestLog, checkpoint: Checkpoint | None, source: str) -> int:
    low, high = log.bounds()
    if checkpoint is None and low > 0:
        raise _begun_and_lost(log, source)
    if checkpoint is None:
        return low
    if not low <= checkpoint.offset <= high:
        raise OffsetLostError(
            f"the checkpoint stands for offset {checkpoint.offset}, which the log [{low}, {high}) does not have",
            where=f"source {source}",
            remedy=f"did retention empty the ingest topic? {_RESET}",
        )
    return checkpoint.offset


_RESET = "`gravity reset --source` reads the source again from the beginning"


def _begun_and_lost(log: IngestLog, source: str) -> OffsetLostError:
    low, high = log.bounds()
    return OffsetLostError(
        "the source has been read before, but neither control nor the log says how far",
        where=f"source {source}, log [{low}, {high})",
        remedy=f"was the ingest topic deleted, or emptied by retention? {_RESET}",
    )


def _forget_old_owners(
    control: Control, log: IngestLog, source: str, fences: Fences, owner: int
) -> None:
    """Deletes the records of owners whose fences retention has passed, but the greatest of them."""
    low, _ = log.bounds()
    passed = sorted(
        known for offset, known in zip(fences.offsets, fences.owners, strict=True) if offset < low
    )
    for old in passed[:-1]:
        if old < owner:
            control.delete(owner_key(source, old))
            control.delete(checkpoint_key(source, old))


def assert_still_owner(records: Mapping[str, Any], source: str, owner: int) -> None:
    """Raises FencedError when a greater owner's fence is in the log."""
    owners = owner_records(records, source)
    greater = [other for other, offset in owners.items() if other > owner and offset != PENDING]
    if greater:
        raise _fenced(source, max(greater))


class OtherServerError(FatalError):
    """The server behind the source is not the one that the position belongs to."""


def assert_same_server(resume: Resume, server: str, source: str) -> None:
    """Refuses another server than the one the position belongs to."""
    if resume.server and resume.server != server:
        raise OtherServerError(
            f"the server behind the source is another one: {server} instead of {resume.server}",
            where=f"source {source}, position {resume.next_position}",
            remedy="point the source at its old server; or, if it is a replica of it, name both in `hosts`; "
            "or read it again with `gravity reset --source`",
        )


def assert_newest_plan(records: Mapping[str, Any], plan: int, source: str) -> None:
    """Raises TransientError where there is a newer plan than `plan`; `records`: control, read behind our fence.

    Another collector may have taken it while this process was on its way to the fence: going on under the older
    one would place rows where they were, and have what was copied since copied again. And of a source that was
    never read nobody waits before earlier routings are forgotten (gravity.activation).
    """
    newest = newest_plan(records)
    if newest > plan:
        raise TransientError(
            f"plan {newest} is in force by now, and we came with plan {plan}",
            where=f"source {source}",
            remedy="nothing need be done: it is taken over again under the newest plan",
        )


def last_server(records: Mapping[str, Any], source: str) -> tuple[str, str]:
    """(server, GTIDs) of the newest checkpoint, void or not: a hint which server to try first."""
    points = checkpoint_records(records, source)
    if not points:
        return "", ""
    newest = points[max(points)]
    return newest.server, newest.gtids
