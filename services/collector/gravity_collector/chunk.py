"""Snapshot chunks: their bounds, what is done, and how a chunk meets the stream. Pure.

A chunk is the rows of a table with keys in (after, through]. It is read in a consistent view of the
source and published behind the stream's rows, so a row that the stream has brought in a newer state
than the view's must be left out: `TouchLog` remembers which rows those are.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

from gravity.batch import TableSchema, Value
from gravity.errors import FatalError, FormatError
from gravity.gtid import GtidSet

Key = tuple[Value, ...]
TableName = tuple[str, str]
"""(database, table)"""


class Work(NamedTuple):
    """What existing rows are read for: a table itself, or a request for some of its rows."""

    table: TableName
    request: int = 0
    """The request's id; 0: the table itself."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of a table behind key `after` (None: from the first) up to `through` (None: to the last)."""

    table: TableName
    after: Key | None
    through: Key | None
    request: int = 0
    """Of the request for some rows of the table that the chunk is part of; 0: it is the table's own."""
    number: int = 0
    """Grows with the key from chunk to chunk: only the server can compare keys."""

    @property
    def work(self) -> Work:
        """What the chunk is part of."""
        return Work(self.table, self.request)

    @property
    def chunk_id(self) -> str:
        """The text that names the chunk in the log."""
        return json.dumps(
            [*self.table, _to_json(self.after), _to_json(self.through), self.request, self.number],
            separators=(",", ":"),
        )

    @classmethod
    def parse(cls, chunk_id: str) -> Self:
        """The chunk that has this id."""
        try:
            database, table, after, through, *more = json.loads(chunk_id)
            return cls((database, table), _from_json(after), _from_json(through), *more[:2])
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(f"not the id of a snapshot chunk: {chunk_id[:200]!r}") from error


def _to_json(key: Key | None) -> list[object] | None:
    return (
        None
        if key is None
        else [{"hex": cell.hex()} if isinstance(cell, bytes) else cell for cell in key]
    )


def _from_json(cells: list[object] | None) -> Key | None:
    if cells is None:
        return None
    return tuple(bytes.fromhex(cell["hex"]) if isinstance(cell, dict) else cell for cell in cells)  # type: ignore[misc]


class Coverage:
    """Which chunks are done: for each work, stretches of keys. Stretches that meet are one.

    Parallel readers finish chunks in another order than that of their keys, so there are a few more
    stretches than one: no more than chunks that are being read.
    """

    def __init__(self, chunk_ids: Iterable[str] = ()) -> None:
        self._complete: set[Work] = set()
        self._stretches: dict[Work, dict[Key | None, Chunk]] = {}
        """Work → start of a stretch → the stretch; its number is that of its last chunk."""
        for chunk_id in chunk_ids:
            self.add(Chunk.parse(chunk_id))

    def add(self, chunk: Chunk) -> None:
        """Takes a finished chunk in."""
        work = chunk.work
        if work in self._complete:
            return
        stretches = self._stretches.setdefault(work, {})
        before = next(
            (
                one
                for one in stretches.values()
                if chunk.after is not None and one.through == chunk.after
            ),
            None,
        )
        if before is not None:
            del stretches[before.after]
            chunk = replace(chunk, after=before.after)
        if chunk.through is not None and chunk.through in stretches:
            behind = stretches.pop(chunk.through)
            chunk = replace(chunk, through=behind.through, number=behind.number)
        stretches[chunk.after] = chunk
        if chunk.after is None and chunk.through is None:
            self._complete.add(work)
            del self._stretches[work]

    def is_complete(self, table: TableName, request: int = 0) -> bool:
        """Whether the whole work is done."""
        return Work(table, request) in self._complete

    def gaps(self, table: TableName, request: int = 0) -> list[Chunk]:
        """What is not done of the work, in key order; the last gap is open if its `through` is None."""
        work = Work(table, request)
        if work in self._complete:
            return []
        found: list[Chunk] = []
        after: Key | None = None
        number, is_first = 0, True
        for stretch in sorted(
            self._stretches.get(work, {}).values(), key=lambda s: (s.after is not None, s.number)
        ):
            if not (is_first and stretch.after is None):
                found.append(Chunk(table, after, stretch.after, request, number + 1))
            after, number, is_first = stretch.through, stretch.number, False
        if is_first or after is not None:
            found.append(Chunk(table, after, None, request, number + 1))
        return found

    def forget(self, table: TableName, request: int = 0) -> None:
        """Nothing of the work is done: it is done again, or was given up."""
        self._complete.discard(Work(table, request))
        self._stretches.pop(Work(table, request), None)

    def keep_only(self, tables: Iterable[TableName]) -> None:
        """Forgets all other tables: if they are read again one day, they will have missed changes."""
        kept = set(tables)
        self._complete = {work for work in self._complete if work.table in kept}
        self._stretches = {
            work: stretches for work, stretches in self._stretches.items() if work.table in kept
        }

    def chunk_ids(self) -> tuple[str, ...]:
        """The fewest ids that say what is done."""
        whole = [Chunk(work.table, None, None, work.request) for work in sorted(self._complete)]
        parts = [
            chunk
            for work in sorted(self._stretches)
            for chunk in sorted(self._stretches[work].values(), key=lambda chunk: chunk.number)
        ]
        return tuple(chunk.chunk_id for chunk in (*whole, *parts))


@dataclass(frozen=True, slots=True)
class PositionView:
    """What a consistent read saw, on MariaDB: exactly the transactions before a binlog position."""

    file_index: int
    offset: int

    def sees(self, touch: Touch) -> bool:
        """Whether the read certainly saw this transaction's changes."""
        return (touch.file_index, touch.offset) < (self.file_index, self.offset)

    def may_see(self, touch: Touch) -> bool:
        """Whether a read that does not certainly see this transaction's changes may see them all the same."""
        del touch
        return False

    def is_older_than(self, other: PositionView | GtidView) -> bool:
        """Whether the other read saw more."""
        return (self.file_index, self.offset) < (other.file_index, other.offset)


@dataclass(frozen=True, slots=True)
class GtidView:
    """What a consistent read saw, on MySQL: at least `gtids`, at most what the binlog held at (file, offset).

    What lies between may have been seen or not; the stream brings it in any case.
    """

    gtids: GtidSet
    file_index: int
    offset: int

    def sees(self, touch: Touch) -> bool:
        """Whether the read certainly saw this transaction's changes."""
        return self.gtids.contains(touch.gtid)

    def may_see(self, touch: Touch) -> bool:
        """Whether a read that does not certainly see this transaction's changes may see them all the same."""
        return (touch.file_index, touch.offset) < (self.file_index, self.offset)

    def is_older_than(self, other: PositionView | GtidView) -> bool:
        """Whether the other read certainly saw more."""
        return isinstance(other, GtidView) and not self.gtids.contains_all(other.gtids)


View = PositionView | GtidView


@dataclass(frozen=True, slots=True)
class Since:
    """The place in the binlog from where on changes of a table are remembered."""

    file_index: int
    offset: int
    gtids: GtidSet
    """What had been executed before it. Must not change afterwards."""


def covers(view: View, since: Since) -> bool:
    """Whether the view saw every transaction before that place."""
    if isinstance(view, GtidView):
        return view.gtids.contains_all(since.gtids)
    return (view.file_index, view.offset) >= (since.file_index, since.offset)


@dataclass(frozen=True, slots=True)
class Touch:
    """The rows of one table that a transaction changed. No keys: its shape changed, all rows count."""

    gtid: str
    file_index: int
    offset: int
    keys: tuple[Key, ...] | None
    """Of a table without a key: the rows that came."""
    gone: tuple[Key, ...] = ()
    """Of a table without a key: the rows that went."""


def keys_of(schema: TableSchema, rows: Iterable[Sequence[Value]]) -> list[Key]:
    """The keys of some rows."""
    if len(schema.key) == 1:
        index = schema.key[0]
        return [(row[index],) for row in rows]
    return [tuple(row[index] for index in schema.key) for row in rows]


@dataclass(slots=True)
class TouchLog:
    """Which rows of the tables under snapshot the stream has brought lately.

    The stream's thread records and asks; readers' threads announce the views they are about to open.
    """

    _touches: dict[TableName, deque[Touch]] = field(default_factory=dict)
    _since: dict[Work, Since] = field(default_factory=dict)
    _floors: dict[int, View | None] = field(default_factory=dict)
    """Ticket of a chunk being read → a view that was complete before its own was opened, oldest first."""
    _tickets: int = 0
    _newest: View | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, table: TableName, since: Since, request: int = 0) -> None:
        """Remembers changes of the table from `since` on, which is the present."""
        self._touches.setdefault(table, deque())
        self._since[Work(table, request)] = since

    def forget(self, table: TableName, request: int = 0) -> None:
        """The work is done; the table's changes are of interest no more unless to another."""
        self._since.pop(Work(table, request), None)
        if all(work.table != table for work in self._since):
            self._touches.pop(table, None)

    def covers(self, work: Work, view: View) -> bool:
        """Whether the view saw all that came before the watch began. Any thread may ask."""
        since = self._since.get(work)
        return since is None or covers(view, since)

    def tables(self) -> list[TableName]:
        """The tables that are watched."""
        return list(self._touches)

    def watches(self, table: TableName) -> bool:
        """Whether changes of this table are of interest."""
        return table in self._touches

    def record(self, table: TableName, touch: Touch) -> None:
        """The stream has read this change of a watched table."""
        self._touches[table].append(touch)

    def record_shape(
        self, tables: Iterable[TableName], *, gtid: str, file_index: int, offset: int
    ) -> None:
        """The stream has read a statement that changes the shape of these tables, or empties them."""
        for table in tables:
            if table in self._touches:
                self._touches[table].append(Touch(gtid, file_index, offset, None))

    def announce(self) -> int:
        """A view for a chunk is about to be opened; gives the ticket by which the chunk is withdrawn."""
        with self._lock:
            self._tickets += 1
            self._floors[self._tickets] = self._newest
            return self._tickets

    def withdraw(self, ticket: int) -> None:
        """The chunk was given up or published; what only it needed is forgotten."""
        with self._lock:
            self._floors.pop(ticket, None)

    def touched(self, work: Work, view: View) -> set[Key] | None:
        """Keys that changed behind the view's back.

        None when the chunk is void: the table's shape changed, or the view is older than the watch.
        """
        if not self.covers(work, view):
            return None
        keys: set[Key] = set()
        for touch in self._touches.get(work.table, ()):
            if not view.sees(touch):
                if touch.keys is None:
                    return None
                keys.update(touch.keys)
        return keys

    def counted(self, work: Work, view: View) -> Counter[Key] | None:
        """By how much the number of each row of a table without a key has changed behind the view's back.

        None when the chunk is void, as for `touched`, or when the view may have seen a change or not.
        """
        if not self.covers(work, view):
            return None
        changed: Counter[Key] = Counter()
        for touch in self._touches.get(work.table, ()):
            if not view.sees(touch):
                if touch.keys is None or view.may_see(touch):
                    return None
                changed.update(touch.keys)
                changed.subtract(touch.gone)
        return changed

    def complete(self, view: View) -> None:
        """The chunk of this view is published: every view opened from now on sees as much at least."""
        with self._lock:
            if self._newest is None or self._newest.is_older_than(view):
                self._newest = view
            floor = next(iter(self._floors.values()), self._newest)
        if floor is None:
            return
        for touches in self._touches.values():
            while touches and floor.sees(touches[0]):
                touches.popleft()


def reconcile(
    columns: Sequence[Sequence[Value]], key: Sequence[int], touched: set[Key]
) -> list[int] | None:
    """Indexes of the chunk's rows that the stream has not brought in a newer state; None: all of them.

    `columns` hold the chunk's cells, `key` says which of them are the key's.
    """
    if not touched:
        return None
    keys = zip(*(columns[index] for index in key), strict=True)
    kept = [index for index, cells in enumerate(keys) if cells not in touched]
    return None if len(kept) == len(columns[0]) else kept


def recount(
    columns: Sequence[Sequence[Value]], sizes: Sequence[int], changed: Mapping[Key, int], where: str
) -> tuple[list[Sequence[Value]], list[int]]:
    """Rows of a table without a key as they were read, with what has `changed` since; and their sizes.

    Raises FatalError when a row went that was not there: then the binlog does not tell what changed the table.
    """
    left = dict(changed)
    rows, kept_sizes = [], []
    for row, size in zip(zip(*columns, strict=True), sizes, strict=True):
        if left.get(row, 0) < 0:
            left[row] += 1
        else:
            rows.append(row)
            kept_sizes.append(size)
    if any(count < 0 for count in left.values()):
        raise FatalError(
            "a row was deleted that the table did not have",
            where=where,
            remedy="is the table changed past the binlog (sql_log_bin=0, foreign keys)? Add a primary key",
        )
    average = sum(sizes) // max(1, len(sizes))
    for row, count in left.items():
        rows += [row] * count
        kept_sizes += [average] * count
    width = len(columns)
    return [*map(list, zip(*rows, strict=True))] if rows else [[] for _ in range(width)], kept_sizes
