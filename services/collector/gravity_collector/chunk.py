"""Snapshot chunks: their bounds, what is done, and how a chunk meets the stream. Pure.

A chunk is the rows of a table with keys in (after, through]. It is read in a consistent view of the
source and published behind the stream's rows, so a row that the stream has brought in a newer state
than the view's must be left out: `TouchLog` remembers which rows those are.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from gravity.batch import TableSchema, Value
from gravity.errors import FormatError
from gravity_collector.gtid import GtidSet

Row = tuple[Value, ...]
Key = tuple[Value, ...]
TableName = tuple[str, str]
"""(database, table)"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of a table behind key `after` (None: from the first) up to `through` (None: to the last)."""

    table: TableName
    after: Key | None
    through: Key | None

    @property
    def chunk_id(self) -> str:
        """The text that names the chunk in the log."""
        return json.dumps(
            [*self.table, _to_json(self.after), _to_json(self.through)], separators=(",", ":")
        )

    @classmethod
    def parse(cls, chunk_id: str) -> Self:
        """The chunk that has this id."""
        try:
            database, table, after, through = json.loads(chunk_id)
            return cls((database, table), _from_json(after), _from_json(through))
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
    """Which chunks are done: per table everything up to a key, and islands behind it.

    Islands come from parallel readers; they are few, and they are read again after a restart.
    """

    def __init__(self, chunk_ids: Iterable[str] = ()) -> None:
        self._through: dict[TableName, Key] = {}
        self._complete: set[TableName] = set()
        self._islands: dict[TableName, dict[Key, Key | None]] = {}
        chunks = [Chunk.parse(chunk_id) for chunk_id in chunk_ids]
        for chunk in sorted(chunks, key=lambda chunk: chunk.after is not None):
            self.add(chunk)

    def add(self, chunk: Chunk) -> None:
        """Takes a finished chunk in."""
        table = chunk.table
        if table in self._complete:
            return
        if chunk.after is not None and self._through.get(table) != chunk.after:
            self._islands.setdefault(table, {})[chunk.after] = chunk.through
            return
        through = chunk.through
        islands = self._islands.get(table, {})
        while through is not None and through in islands:
            through = islands.pop(through)
        if through is None:
            self._complete.add(table)
            self._through.pop(table, None)
            self._islands.pop(table, None)
        else:
            self._through[table] = through

    def is_complete(self, table: TableName) -> bool:
        """Whether the whole table is done."""
        return table in self._complete

    def next_after(self, table: TableName) -> Key | None:
        """The key behind which an incomplete table goes on."""
        return self._through.get(table)

    def forget(self, table: TableName) -> None:
        """Nothing of the table is done: it is read again."""
        self._complete.discard(table)
        self._through.pop(table, None)
        self._islands.pop(table, None)

    def keep_only(self, tables: Iterable[TableName]) -> None:
        """Forgets all other tables: if they are read again one day, they will have missed changes."""
        kept = set(tables)
        self._complete &= kept
        for by_table in (self._through, self._islands):
            for table in [table for table in by_table if table not in kept]:
                del by_table[table]

    def chunk_ids(self) -> tuple[str, ...]:
        """The fewest ids that say what is done; islands left out."""
        whole = [Chunk(table, None, None) for table in sorted(self._complete)]
        begun = [Chunk(table, None, through) for table, through in sorted(self._through.items())]
        return tuple(chunk.chunk_id for chunk in (*whole, *begun))


@dataclass(frozen=True, slots=True)
class PositionView:
    """What a consistent read saw, on MariaDB: exactly the transactions before a binlog position."""

    file_index: int
    offset: int

    def sees(self, touch: Touch) -> bool:
        """Whether the read certainly saw this transaction's changes."""
        return (touch.file_index, touch.offset) < (self.file_index, self.offset)

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
    _since: dict[TableName, Since] = field(default_factory=dict)
    _floors: dict[int, View | None] = field(default_factory=dict)
    """Ticket of a chunk being read → a view that was complete before its own was opened, oldest first."""
    _tickets: int = 0
    _newest: View | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, tables: Iterable[TableName], since: Since) -> None:
        """Remembers changes of these tables from `since` on, which is the present."""
        for table in tables:
            self._touches[table] = deque()
            self._since[table] = since

    def forget(self, table: TableName) -> None:
        """The table is done."""
        self._touches.pop(table, None)
        self._since.pop(table, None)

    def covers(self, table: TableName, view: View) -> bool:
        """Whether the view saw all that came before the table was watched. Any thread may ask."""
        since = self._since.get(table)
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

    def touched(self, table: TableName, view: View) -> set[Key] | None:
        """Keys that changed behind the view's back.

        None when the chunk is void: the table's shape changed, or the view is older than the watch.
        """
        if not self.covers(table, view):
            return None
        keys: set[Key] = set()
        for touch in self._touches.get(table, ()):
            if not view.sees(touch):
                if touch.keys is None:
                    return None
                keys.update(touch.keys)
        return keys

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


def reconcile(rows: Sequence[Row], schema: TableSchema, touched: set[Key]) -> list[int]:
    """Indexes of the chunk's rows that the stream has not brought in a newer state."""
    if not touched:
        return list(range(len(rows)))
    return [index for index, key in enumerate(keys_of(schema, rows)) if key not in touched]
