"""Where each row of an ingest message goes. Pure: a function of the message and its plan.

A router keeps no state, so on a replay it sends the same messages again in the same order, and the
resolver knows them by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import structlog

from gravity.batch import DELETE, INSERT, LEFT, MOVED, READ, UNCOUNTED, UPDATE, ChangeBatch
from gravity.codec import decode_batch
from gravity.cut import CutMark
from gravity.errors import FormatError
from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind
from gravity.key import key_partitions, lane_partition
from gravity.placed_anew import is_anywhere, leaving, left_by_name
from gravity.plan import RoutingPlan
from gravity.plan_part import Feed
from gravity.schema_change import SchemaChange, TableAction
from gravity.transform.change import translated
from gravity.whole_row import is_whole_row
from gravity_router.deciding import Deciding
from gravity_router.leaving import Earlier, Left, ways_to
from gravity_router.shaping import Shaped, Shapes

log = structlog.get_logger()

NOTE_PART = 1 << 16
"""Part number of a note: after every part that carries rows."""

_ROWS_ONLY = frozenset((INSERT, READ, DELETE, UPDATE))
"""Operations on one row, which a condition or share can judge."""
_TAKING_ALL = (TableAction.TRUNCATE, TableAction.DROP)
"""What takes all rows of a table away."""


@dataclass(frozen=True, slots=True)
class RoutedMessage:
    """A message for partition `partition` of `routed.<target>`."""

    target: str
    partition: int
    header: RoutedHeader
    value: bytes


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one target table gets of one row."""

    row: int
    op: int
    old_key: bool
    """Whether it concerns the key the row had before the change."""


@dataclass(frozen=True, slots=True)
class _Part:
    partition: int
    first: int
    last: int
    """Row numbers in the ingest message."""
    rows: int
    counted: int
    value: bytes


@dataclass(frozen=True, slots=True)
class _Cut:
    """A batch cut for one way of feeding: encoded once, however many targets share it."""

    parts: tuple[_Part, ...]
    filtered: int


def route(header: IngestHeader, value: bytes, plan: RoutingPlan) -> list[RoutedMessage]:
    """Everything that an ingest message sends, in sending order.

    Fences, requests and ends of chunks send nothing. Raises FormatError for a value that can't be read.
    """
    match header.kind:
        case IngestKind.ROWS | IngestKind.CHUNK:
            return list(_route_rows(header, value, plan))
        case IngestKind.MARKER:
            return list(_marker_copies(header, value, plan))
        case IngestKind.SCHEMA:
            return list(_schema_copies(header, value, plan))
        case IngestKind.FENCE | IngestKind.CHUNK_DONE | IngestKind.SNAPSHOT:
            return []


def _routed(header: IngestHeader, kind: RoutedKind) -> RoutedHeader:
    return RoutedHeader(
        kind=kind,
        source=header.source,
        seq=header.seq,
        from_=header.from_,
        to=header.to,
        gtids=header.gtids,
        ets=header.ets,
        plan=header.plan,
    )


def _marker_copies(
    header: IngestHeader, value: bytes, plan: RoutingPlan
) -> Iterator[RoutedMessage]:
    """One copy for every partition of every target; it marks a cut at the target that is cut alone."""
    routed = replace(_routed(header, RoutedKind.MARKER), quiet=header.quiet)
    cut_target = CutMark.parse(header.cut).target if header.cut else None
    for target in plan.targets:
        copy = replace(routed, cut=header.cut) if target.name == cut_target else routed
        for partition in range(plan.partitions):
            yield RoutedMessage(target.name, partition, copy, value)


def _schema_copies(
    header: IngestHeader, value: bytes, plan: RoutingPlan
) -> Iterator[RoutedMessage]:
    """One copy for every partition that rows of the table lie in, at the targets that they flow to.

    `first` and `last` say which partitions those are: all, or the one of a whole table or group. Where rows
    are leaving, only that all of them are gone is of interest.
    """
    database, _, table = header.table.partition(".")
    if not table:
        return
    base = _routed(header, RoutedKind.SCHEMA)
    feeds = plan.feeds_by_name(header.source, database, table)
    left = left_by_name(plan, header.source, database, table)
    if left and SchemaChange.decode(value).action in _TAKING_ALL:
        feeds += left
    numbers: dict[str, int] = {}
    for feed in feeds:
        number = numbers[feed.target] = numbers.get(feed.target, -1) + 1
        sent = value
        if feed.transform is not None and feed.shapes:
            change = SchemaChange.decode(value)
            if _is_of_some_rows(plan, feed, change):
                log.error(
                    "schema_change_left_out", source=header.source, table=header.table, target=feed.target,
                    target_table=feed.table, position=str(header.from_), statement=change.statement[:500],
                    why="other tables share the target's table, and nobody there can tell whose rows are whose",
                )  # fmt: skip
                continue
            sent = translated(change, feed.transform).encode()
        whole = lane_partition(feed.table, feed.lane, plan.partitions)
        first, last = (0, plan.partitions - 1) if whole is None else (whole, whole)
        routed = replace(base, part=number, table=feed.table, first=first, last=last)
        for partition in range(first, last + 1):
            yield RoutedMessage(feed.target, partition, routed, sent)


def _is_of_some_rows(plan: RoutingPlan, feed: Feed, change: SchemaChange) -> bool:
    """Whether the change is about some rows of the target's table, and nobody after us knows which.

    Sinks of databases know which tables fill one of theirs; the resolver, which has a say where several
    sources do, goes by source, and a Kafka topic by nothing. What is left out is told in the log of the
    stage; new columns come with rows (docs/adr/0016).
    """
    if feed.transform is None or not feed.transform.joins:
        return False
    if plan.resolution(feed.target, feed.table) is not None:
        return True
    return change.action in _TAKING_ALL and plan.target(feed.target).type == "kafka"


def _route_rows(header: IngestHeader, value: bytes, plan: RoutingPlan) -> Iterator[RoutedMessage]:
    batch = decode_batch(value)
    if len(batch) != header.rows:
        raise FormatError(f"a batch of {len(batch)} rows whose header says {header.rows}")
    feeds = {feed.target: feed for feed in plan.feeds(batch.source, batch.schema)}
    earlier = Earlier(batch, leaving(plan, batch.source, batch.schema))
    # A replay cuts the log as it is, so the same rows have the same numbers.
    deciding, shapes = Deciding(batch, plan, header.seq), Shapes(batch, value, plan)
    moved: frozenset[int] | None = None
    cuts: dict[tuple[object, ...], _Cut] = {}
    base = _routed(header, RoutedKind.ROWS)
    for target in plan.targets:
        filtered = len(batch)
        ways = ways_to(feeds.get(target.name), earlier.ways.get(target.name, ()))
        for number, (feed, left) in enumerate(ways):
            gone = earlier.left(left, feed, deciding, anywhere=is_anywhere(plan, feed))
            is_old = target.name not in feeds
            if is_old and not gone and _ROWS_ONLY.issuperset(batch.ops):
                continue
            shaped = shapes.of_left(feed) if is_old else shapes.of(feed)
            if shaped is None:
                continue
            # By the rows that are gone, not by whose ways they came: earlier feeds name their target.
            way = (feed.table, feed.lane, feed.conditions, feed.shares, shaped, feed.old_rows, gone)
            if way not in cuts:
                if moved is None:
                    moved = moved_rows(batch)
                cuts[way] = _cut(batch, moved, feed, deciding, shaped, left=gone)
            cut = cuts[way]
            for part in cut.parts:
                described = replace(
                    base,
                    part=number,
                    first=part.first,
                    last=part.last,
                    rows=part.rows,
                    counted=part.counted,
                    table=feed.table,
                    schema=shaped.batch.schema.schema_id,
                )
                yield RoutedMessage(target.name, part.partition, described, part.value)
            filtered = cut.filtered
        if filtered:
            note = replace(
                base, kind=RoutedKind.NOTE, part=NOTE_PART, filtered=filtered, table=header.table
            )
            yield RoutedMessage(target.name, header.seq % plan.partitions, note, b"")


def _cut(
    batch: ChangeBatch,
    moved: frozenset[int],
    feed: Feed,
    deciding: Deciding,
    shaped: Shaped,
    *,
    left: Left,
) -> _Cut:
    """Rules are asked about `batch`, the rows as the source has them; what is sent is `shaped`."""
    partitions = shaped.partition_count
    whole = lane_partition(feed.table, feed.lane, partitions)
    if not batch.schema.key and whole is None:
        whole = lane_partition(feed.table, "table", partitions)
    if whole is None and partitions == 1:
        whole = 0
    rows = None if left else _plain_rows(batch, moved, feed, deciding)
    if rows is None:
        return _cut_pieces(batch, moved, feed, deciding, shaped, left=left, whole=whole)
    filtered = len(batch) - len(rows)
    if whole is not None:
        if not filtered:
            return _Cut((_Part(whole, 0, len(batch) - 1, len(batch), len(batch), shaped.value),), 0)
        groups = {whole: rows} if rows else {}
    else:
        now = shaped.partitions(feed.table)
        groups = {}
        for row in rows:
            groups.setdefault(now[row], []).append(row)
    encoder = shaped.encoder
    encoder.expect(len(rows))
    parts = [
        _Part(
            partition,
            group[0],
            group[-1],
            len(group),
            len(group),
            encoder.encode(group, before=feed.old_rows),
        )
        for partition, group in groups.items()
    ]
    return _Cut(tuple(parts), filtered)


def _plain_rows(
    batch: ChangeBatch, moved: frozenset[int], feed: Feed, deciding: Deciding
) -> list[int] | None:
    """The rows that go by the feed as they are; None where one is no longer, or is under another key."""
    if moved:
        return None
    if feed.conditions is None:
        return list(range(len(batch)))
    has = deciding.takes(feed, after=True)
    if UPDATE in batch.ops:
        had = deciding.takes(feed, after=False)
        left = (row for row, was in enumerate(had) if was and not has[row])
        if any(batch.ops[row] == UPDATE for row in left):
            return None
    if _ROWS_ONLY.issuperset(batch.ops):
        return list(compress(range(len(has)), has))
    return [row for row, op in enumerate(batch.ops) if has[row] or op not in _ROWS_ONLY]


def _cut_pieces(
    batch: ChangeBatch,
    moved: frozenset[int],
    feed: Feed,
    deciding: Deciding,
    shaped: Shaped,
    *,
    left: Left,
    whole: int | None,
) -> _Cut:
    """As `_cut`, where rows leave the target or change their key."""
    if feed.conditions is None:
        pieces, filtered = _whole(batch, moved), 0
    else:
        pieces, filtered = _conditional(batch, moved, feed, deciding, left)
    by_partition: dict[int, list[_Piece]] = {}
    if whole is not None:
        if pieces:
            by_partition[whole] = list(pieces)
    else:
        now = shaped.partitions(feed.table)
        was = _old_partitions(shaped.batch, feed.table, shaped.partition_count, pieces)
        for piece in pieces:
            partition = was[piece.row] if piece.old_key else now[piece.row]
            by_partition.setdefault(partition, []).append(piece)
    encoder = shaped.encoder
    encoder.expect(len(pieces))
    parts = [
        _Part(
            partition,
            group[0].row,
            group[-1].row,
            len(group),
            sum(piece.op not in UNCOUNTED for piece in group),
            encoder.encode(
                [piece.row for piece in group],
                bytes([piece.op for piece in group]),
                # Of a delete that a changed key caused only the key means anything: it is the old one.
                [piece.old_key for piece in group],
                before=feed.old_rows,
            ),
        )
        for partition, group in by_partition.items()
    ]
    return _Cut(tuple(parts), filtered)


def moved_rows(batch: ChangeBatch) -> frozenset[int]:
    """The updates that changed the row's key."""
    if UPDATE not in batch.ops:
        return frozenset()
    if is_whole_row(batch.schema):
        # One of equal rows goes and one comes, whatever their values: both are counted.
        return frozenset(row for row, op in enumerate(batch.ops) if op == UPDATE)
    moved: set[int] = set()
    for index in batch.schema.key:
        if index not in batch.before_columns:
            raise FormatError(
                f"updates without the key's values before them: column {batch.schema.columns[index].name}",
                where=f"{batch.source} {batch.schema.database}.{batch.schema.table}",
            )
        before = batch.before[batch.before_columns.index(index)]
        after = batch.columns[index]
        if before != after:
            moved.update(
                row
                for row, (old, new) in enumerate(zip(before, after, strict=True))
                if old != new and batch.ops[row] == UPDATE
            )
    return frozenset(moved)


def _old_partitions(
    batch: ChangeBatch, table: str, partitions: int, pieces: Sequence[_Piece]
) -> Mapping[int, int]:
    rows = [piece.row for piece in pieces if piece.old_key]
    if not rows:
        return {}
    key = [
        [batch.before[batch.before_columns.index(index)][row] for row in rows]
        for index in batch.schema.key
    ]
    return dict(zip(rows, key_partitions(table, key, partitions), strict=True))


def _whole(batch: ChangeBatch, moved: frozenset[int]) -> list[_Piece]:
    """Every row; an update of the key as a delete of the old one before the row under the new one."""
    pieces = []
    for row, op in enumerate(batch.ops):
        if row in moved:
            pieces.append(_Piece(row, MOVED, old_key=True))
        pieces.append(_Piece(row, op, old_key=False))
    return pieces


def _conditional(
    batch: ChangeBatch, moved: frozenset[int], feed: Feed, deciding: Deciding, left: Left
) -> tuple[list[_Piece], int]:
    """The rows that go by this feed, did before the change or by an earlier plan; and how many others there are."""
    has = deciding.takes(feed, after=True)
    had = deciding.takes(feed, after=False) if UPDATE in batch.ops else has
    pieces: list[_Piece] = []
    filtered = 0
    for row, op in enumerate(batch.ops):
        if op in (INSERT, READ, DELETE):
            if has[row]:
                pieces.append(_Piece(row, op, old_key=False))
                continue
            filtered += 1
            if row in left.now:
                pieces.append(_Piece(row, LEFT, old_key=False))
        elif op != UPDATE:
            pieces.append(_Piece(row, op, old_key=False))
        elif has[row]:
            if row in moved and (had[row] or row in left.old):
                pieces.append(_Piece(row, MOVED if had[row] else LEFT, old_key=True))
            pieces.append(_Piece(row, UPDATE, old_key=False))
        elif had[row]:
            # The update moved the row out of the condition or the share: it is gone from this target.
            pieces.append(_Piece(row, DELETE, old_key=True))
        else:
            filtered += 1
            if row in left.old:
                pieces.append(_Piece(row, LEFT, old_key=True))
    return pieces, filtered
