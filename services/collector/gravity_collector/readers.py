"""Threads that read existing rows side by side, each chunk in a view of which it is proved what it saw."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gravity.batch import TableSchema
from gravity.catalog import read_catalog
from gravity.errors import FatalError, GravityError, TransientError
from gravity.gtid import Flavor
from gravity.whole_row import BYTES_MAX, ROWS_MAX
from gravity_collector.agenda import Agenda, Taken
from gravity_collector.bucket import RowBucket
from gravity_collector.chunk import Chunk, TableName, TouchLog, View, Work
from gravity_collector.flow import keyless, too_many_rows
from gravity_collector.snapshot import SourceConnection, TableChangedError, open_view
from gravity_collector.table_reader import Column, TableReader, quoted

_IDLE_S: Final = 0.05
"""Between two looks whether a view saw enough."""
_WAKE_S: Final = 0.5
"""Longest sleep of a reader that has nothing to do."""
CHUNK_BYTES_MAX: Final = 32 << 20
"""About how many bytes one query may answer with: of long rows a chunk has fewer."""
_LOOKS_MAX: Final = 5
"""How often a table is looked for that the server describes and does not list."""
_COUNTER = re.compile(r" AUTO_INCREMENT=\d+")


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as the server described it last."""

    schema: TableSchema
    definition: str
    """By SHOW CREATE TABLE: as long as it stays the same, so does the schema."""
    rows: int
    """By the server's estimate."""
    row_bytes: int


@dataclass(frozen=True, slots=True)
class ChunkRead:
    """A chunk's rows as `view` saw them."""

    taken: Taken
    schema: TableSchema | None
    """None: the table is gone, and there are no rows."""
    columns: Sequence[Column]
    sizes: Sequence[int]
    """Bytes of each row."""
    view: View
    ticket: int
    """What the touch log knows it by."""

    @property
    def chunk(self) -> Chunk:
        """Which chunk it is."""
        return self.taken.chunk


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Rows that an operator asked for can't be read; the source itself is well."""

    work: Work
    error: str


_Item = ChunkRead | RequestFailed | GravityError


class SnapshotReaders:
    """Readers of the missing chunks of a source. They only read; one writer publishes.

    Chunks come out in `ready`; whoever takes one must publish it and say when it is `sent` and when it is
    `stored`, or `give_back` it (void: it is read again). A table may be asked for again at any time: `request`.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        source: str,
        touches: TouchLog,
        *,
        flavor: Flavor,
        chunk_rows: int,
        workers: int,
        bucket: RowBucket,
        reads_whole_rows: Callable[[str, str], bool] = lambda *_: False,
    ) -> None:
        """`reads_whole_rows` says of which tables all is read at once if they have no key."""
        self._reads_whole_rows = reads_whole_rows
        self._arguments = arguments
        self._source = source
        self._touches = touches
        self._flavor: Flavor = flavor
        self._chunk_rows = chunk_rows
        self._workers = workers
        self._bucket = bucket
        self._changed = threading.Condition()
        """Guards the agenda and what follows; told whenever the agenda may have more to give."""
        # One chunk for each reader, and one that waits to be published.
        self._agenda = Agenda(workers + 1)
        self._running = 0
        self._asked: set[Work] = set()
        self._where: dict[Work, str] = {}
        self._shapes: dict[TableName, Shape] = {}
        self._stop = threading.Event()
        self._ready: queue.Queue[_Item] = queue.Queue()

    @property
    def total(self) -> int:
        """Tables that were to be read at the start or since."""
        return len(self._asked)

    def add(self, work: Work, gaps: Iterable[Chunk], where: str = "") -> None:
        """Puts what is missing of a table on the agenda; what was in hand of it is void.

        `where` is SQL that chooses rows, for a request.
        """
        with self._changed:
            self._where[work] = where
            self._agenda.begin(work, gaps)
            self._asked.add(work)
            self._changed.notify_all()

    def rows_estimated(self, table: TableName) -> int:
        """How many rows a table has, by the server's estimate; 0 while it was not asked."""
        shape = self._shapes.get(table)
        return shape.rows if shape is not None else 0

    def start(self) -> None:
        """Begins to read, with as many threads as there may be; they end when nothing is left."""
        with self._changed:
            if self._stop.is_set() or self._agenda.is_done:
                return
            missing = self._workers - self._running
            self._running += missing
        for _ in range(missing):
            name = f"snapshot-{self._source}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def request(self, table: TableName) -> None:
        """Reads the whole table again; what was read of it before is void, chunks in hand included.

        For the source's thread, which must have published why, and have the table watched since.
        """
        self.add(Work(table), [Chunk(table, None, None)])
        self.start()

    def give_up(self, work: Work) -> None:
        """Nothing of it is read any more."""
        with self._changed:
            self._agenda.end(work)
            self._changed.notify_all()

    def stop(self) -> None:
        """Ends the readers; what they hold is dropped."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def is_done(self) -> bool:
        """Whether every chunk has been published."""
        with self._changed:
            return self._agenda.is_done

    def ready(self) -> ChunkRead | RequestFailed | None:
        """A chunk that waits to be published; None when there is none now. Raises a reader's failure."""
        while True:
            try:
                found = self._ready.get_nowait()
            except queue.Empty:
                return None
            if isinstance(found, GravityError):
                raise found
            if isinstance(found, RequestFailed) or self.is_current(found):
                return found
            self.drop(found)

    def is_current(self, read: ChunkRead) -> bool:
        """Whether the chunk's table has not been asked for again since."""
        with self._changed:
            return self._agenda.is_current(read.taken)

    def give_back(self, read: ChunkRead) -> None:
        """The chunk is void: it is read again in a new view, unless all of its table is."""
        self._release(read.taken, read.ticket)

    def drop(self, read: ChunkRead) -> None:
        """The chunk is of no use any more."""
        self.sent(read)
        self.stored(read)

    def sent(self, read: ChunkRead) -> None:
        """The chunk is on its way: whatever the stream brings from now on comes behind it."""
        self._touches.withdraw(read.ticket)

    def stored(self, read: ChunkRead) -> None:
        """The broker has the chunk."""
        with self._changed:
            self._agenda.finish(read.taken)
            self._changed.notify_all()

    def _release(self, taken: Taken, ticket: int) -> None:
        self._touches.withdraw(ticket)
        with self._changed:
            self._agenda.give_back(taken)
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            connection = SourceConnection(self._arguments, self._source)
            try:
                while (taken := self._take()) is not None:
                    # The source is asked for no more than it is to give.
                    self._stop.wait(self._bucket.debt_s())
                    self._put(self._chunk(connection, taken))
            finally:
                connection.close()
        except GravityError as error:
            self._put(error)
        except Exception as error:  # noqa: BLE001 - a thread's outermost frame: handed to the source's thread
            self._put(
                FatalError(
                    f"a snapshot reader failed: {type(error).__name__} {error}", where=self._source
                )
            )

    def _take(self) -> Taken | None:
        """The next chunk; None when this reader ends, in which moment nobody can ask for a table."""
        with self._changed:
            while not (self._stop.is_set() or self._agenda.is_done):
                taken = self._agenda.take()
                if taken is not None:
                    return taken
                self._changed.wait(_WAKE_S)
            self._running -= 1
            return None

    def _chunk(self, connection: SourceConnection, taken: Taken) -> _Item | None:
        """What comes of a chunk; None when nothing does, such as when it must be read again."""
        # Before the view is opened: what changes from here on is remembered for it.
        ticket = self._touches.announce()
        try:
            return self._read(connection, self._cut(connection, taken), ticket)
        except (FatalError, TransientError) as error:
            self._touches.withdraw(ticket)
            if not (self._where[taken.chunk.work] and connection.is_alive()):
                raise
            # The connection works, so it is the operator's SQL that does not.
            with self._changed:
                self._agenda.end(taken.chunk.work)
                self._agenda.finish(taken)
            return RequestFailed(taken.chunk.work, str(error))

    def _put(self, item: _Item | None) -> None:
        if item is not None:
            self._ready.put(item)

    def _cut(self, connection: SourceConnection, taken: Taken) -> Taken:
        """The chunk itself; of a tail the first chunk, whose end is asked for here."""
        if not taken.is_tail:
            return taken
        through = None
        while (
            shape := self._shape(connection, taken.chunk.table)
        ) is not None and shape.schema.key:
            reader = self._reader(shape, taken.chunk, connection)
            rows = max(1, min(self._chunk_rows, CHUNK_BYTES_MAX // max(1, shape.row_bytes)))
            try:
                found = connection.columns(reader.bound(taken.chunk.after, rows))
            except TableChangedError as error:
                self._learn_anew(connection, taken.chunk.work, shape, error)
                continue
            through = reader.key_of(found.columns)
            break
        with self._changed:
            taken = self._agenda.cut(taken, through)
            self._changed.notify_all()
        return taken

    def _read(self, connection: SourceConnection, taken: Taken, ticket: int) -> ChunkRead | None:
        chunk = taken.chunk
        shape = self._shape(connection, chunk.table)
        view = self._open_view(connection, chunk.work)
        if view is None:
            return None
        found, definition, changed = None, "", None
        try:
            if shape is not None:
                reader = self._reader(shape, chunk, connection)
                if chunk.after is None:
                    self._refuse_ambiguous_keys(connection, reader)
                is_whole = not shape.schema.key
                if is_whole and shape.rows * shape.row_bytes > BYTES_MAX:
                    raise too_many_rows(self._source, *chunk.table)
                found = connection.columns(reader.rows(chunk))
                if is_whole and len(found.sizes) > ROWS_MAX:
                    raise too_many_rows(self._source, *chunk.table)
                # From the SELECT on, this transaction's metadata lock keeps the shape as it is.
                definition = self._definition(connection, chunk.table)
        except TableChangedError as error:
            found, changed = None, error
        # After any other error the connection is of no use, and is closed.
        connection.query("COMMIT")
        if changed is not None:
            # Not before: a server with locks of ours leaves tables that are being altered out of its catalog.
            self._learn_anew(connection, chunk.work, shape, changed)
        if shape is not None and found is not None and definition == shape.definition:
            with connection.reading_text():
                columns = reader.columns(found.columns)
            self._note_sizes(chunk.table, shape, found.sizes)
            self._bucket.take(len(found.sizes))
            return ChunkRead(taken, shape.schema, columns, found.sizes, view, ticket)
        if self._learn(connection, chunk.table) is None:
            # Dropped: nothing of it is left to copy.
            rest = replace(taken, chunk=replace(chunk, through=None))
            return ChunkRead(rest, None, (), (), view, ticket)
        self._release(taken, ticket)
        return None

    def _reader(self, shape: Shape, chunk: Chunk, connection: SourceConnection) -> TableReader:
        return TableReader(shape.schema, connection.literal, self._where[chunk.work])

    def _refuse_ambiguous_keys(self, connection: SourceConnection, reader: TableReader) -> None:
        query = reader.ambiguous_keys()
        if query and (rows := connection.query(query)):
            raise FatalError(
                f"the key {rows[0]!r} has a character without Unicode of its own",
                where=f"source {self._source}, table {reader.schema.database}.{reader.schema.table}",
                remedy="convert the key's columns to utf8mb4, or exclude the table",
            )

    def _open_view(self, connection: SourceConnection, work: Work) -> View | None:
        """A view that saw all that the stream had brought when the work was begun; None at the end."""
        while not self._stop.is_set():
            view = open_view(connection, self._flavor)
            if self._touches.covers(work, view):
                return view
            connection.query("COMMIT")
            self._stop.wait(_IDLE_S)
        return None

    def _shape(self, connection: SourceConnection, table: TableName) -> Shape | None:
        """The table's shape as far as known; None when it is gone."""
        return self._shapes.get(table) or self._learn(connection, table)

    def _learn(self, connection: SourceConnection, table: TableName) -> Shape | None:
        """Asks for the table's present shape; None when it is gone. Raises FatalError if it has no key."""
        shape = None
        for _ in range(_LOOKS_MAX):
            definition = self._definition(connection, table)
            shape = self._described(connection, table, definition) if definition else None
            if shape is not None or not definition:
                break
            # Not in the catalog: a moment later it is, or it is gone, or has become a view.
            self._stop.wait(_IDLE_S)
        with self._changed:
            if shape is None:
                self._shapes.pop(table, None)
            else:
                self._shapes[table] = shape
        return shape

    def _described(
        self, connection: SourceConnection, table: TableName, definition: str
    ) -> Shape | None:
        """The table's shape by the catalog; None when that lacks it."""
        catalog = read_catalog(connection.query, lambda *_: True, connection.literal, only=table)
        if table not in catalog:
            return None
        schema = catalog[table].schema
        if not (schema.key or self._reads_whole_rows(*table)):
            raise keyless(self._source, *table)
        database, name = map(connection.literal, table)
        sizes = connection.query(
            "SELECT TABLE_ROWS, AVG_ROW_LENGTH FROM information_schema.TABLES"
            f" WHERE TABLE_SCHEMA = {database} AND TABLE_NAME = {name}"
        )
        rows, row_bytes = (int(cell or 0) for cell in sizes[0]) if sizes else (0, 0)
        return Shape(schema, definition, rows, row_bytes)

    def _learn_anew(
        self, connection: SourceConnection, work: Work, before: Shape | None, error: GravityError
    ) -> None:
        """Learns what changed; if nothing did, it is the request's own SQL that names what is not there."""
        now = self._learn(connection, work.table)
        is_same = now is not None and before is not None and now.definition == before.definition
        if self._where[work] and is_same:
            raise error

    @staticmethod
    def _definition(connection: SourceConnection, table: TableName) -> str:
        """SHOW CREATE TABLE without what grows; empty when the table is gone."""
        try:
            row = connection.query(f"SHOW CREATE TABLE {'.'.join(map(quoted, table))}")[0]
        except TableChangedError:
            return ""
        return _COUNTER.sub("", str(row[1]))

    def _note_sizes(self, table: TableName, shape: Shape, sizes: Sequence[int]) -> None:
        """Remembers how long rows are, if they are longer than the server said."""
        if sizes and (size := sum(sizes) // len(sizes)) > shape.row_bytes:
            with self._changed:
                if self._shapes.get(table) is shape:
                    self._shapes[table] = replace(shape, row_bytes=size)
