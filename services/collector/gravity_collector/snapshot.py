"""Reading existing rows, chunk by chunk, each in a consistent view of the source.

How a chunk meets the stream without a lock and without writing to the source (docs/adr/0004): every
chunk is read in a transaction with a consistent snapshot of which it is *proved* what it saw.

- MariaDB opens the snapshot and notes the binlog position under one lock (`binlog_snapshot_file`,
  `binlog_snapshot_position`): the view saw the transactions before that position and no others.
- MySQL enters a GTID into `gtid_executed` after the storage engine's commit. What was in it before the
  snapshot was opened, the view saw; what the binlog did not yet hold after it was opened, it did not.
  What lies between comes by the stream in any case, so those rows are left out of the chunk.

The server's position alone would prove nothing: the binlog is written before a commit becomes visible,
and with semi-synchronous acknowledgement that gap is as long as the whole pipeline.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pymysql
from pymysql.connections import Connection
from pymysql.converters import conversions

from gravity.batch import TableSchema, Value
from gravity.catalog import CatalogTable, read_catalog
from gravity.column import ColumnType
from gravity.errors import FatalError, GravityError, TransientError
from gravity_collector.binlog import error_of
from gravity_collector.chunk import (
    Chunk,
    Coverage,
    GtidView,
    Key,
    PositionView,
    Row,
    TableName,
    TouchLog,
    View,
)
from gravity_collector.event_parser import file_index_of
from gravity_collector.gtid import parse_gtids
from gravity_collector.server import Flavor

# Encoders only: cells arrive as text, and gravity.column says what they become.
_CONVERSIONS: Final = {
    key: convert for key, convert in conversions.items() if not isinstance(key, int)
}
_TABLE_CHANGED: Final = frozenset((1412, 1146, 1054, 1051))
"""The table's shape is not the one that we asked for, or it is gone: the chunk is void."""
_READY_MAX: Final = 2
"""Chunks that wait to be published, beside one in each reader's hands."""
_READERS_PER_TABLE: Final = 4
_IDLE_S: Final = 0.05
"""Between two looks for something to read, or for a view that saw enough."""


@dataclass(frozen=True, slots=True)
class ChunkRead:
    """A chunk's rows as `view` saw them."""

    chunk: Chunk
    schema: TableSchema | None
    """None: the table is gone, and there are no rows."""
    rows: Sequence[Row]
    sizes: Sequence[int]
    """Characters or bytes of each row."""
    view: View
    ticket: int
    """What the touch log knows it by."""
    generation: int
    """Which reading of its table it is part of."""


class SourceConnection:
    """A connection for questions and chunks: UTC, utf8mb4, no SQL mode that changes values."""

    def __init__(self, arguments: Mapping[str, Any], source: str) -> None:
        self._source = source
        with self._errors():
            self._connection: Connection[Any] = pymysql.connect(
                **{**arguments, "charset": "utf8mb4", "autocommit": True, "conv": _CONVERSIONS}
            )
        self.query("SET SESSION time_zone = '+00:00', SESSION sql_mode = ''")
        self.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def query(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of one statement; cells are text, or bytes where the column is binary."""
        with self._errors(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def literal(self, text: str) -> str:
        """A string quoted for SQL."""
        return str(self._connection.literal(text))

    def close(self) -> None:
        """Ends the connection."""
        try:
            self._connection.close()
        except pymysql.err.Error:
            return

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except pymysql.err.MySQLError as error:
            if error.args and error.args[0] in _TABLE_CHANGED:
                raise TableChangedError(str(error), where=f"source {self._source}") from error
            raise error_of(error, self._source) from error
        except UnicodeDecodeError as error:
            raise FatalError(
                f"a cell is no text of its column's character set: {error.object[:40].hex()}",
                where=f"source {self._source}",
                remedy="find it by CONVERT(column USING binary), mend it, or exclude its table",
            ) from error


class TableChangedError(TransientError):
    """The table is no longer as it was when the chunk was planned."""


def open_view(connection: SourceConnection, flavor: Flavor) -> View:
    """Opens a transaction with a consistent snapshot and gives what is proved about it."""
    if flavor == "mariadb":
        connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        status = {
            str(name).lower(): value
            for name, value in connection.query("SHOW STATUS LIKE 'binlog_snapshot_%'")
        }
        file_name = str(status.get("binlog_snapshot_file", ""))
        if not file_name or file_name == "not-in-use":
            raise FatalError(
                "the server does not say which binlog position its snapshot stands for",
                remedy="MariaDB 5.3 or later with log_bin is needed to copy existing rows; or say snapshot: never",
            )
        return PositionView(file_index_of(file_name), int(status["binlog_snapshot_position"]))
    executed = str(connection.query("SELECT @@GLOBAL.gtid_executed")[0][0])
    connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    file_name, offset = binlog_end(connection)
    return GtidView(parse_gtids(flavor, executed), file_index_of(file_name), offset)


def binlog_end(connection: SourceConnection) -> tuple[str, int]:
    """The binlog file being written and where its next transaction will start."""
    version = str(connection.query("SELECT VERSION()")[0][0])
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".")[:2])
    is_new = "mariadb" not in version.lower() and numbers >= (8, 4)
    row = connection.query("SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS")[0]
    return str(row[0]), int(row[1])


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


class TableReader:
    """The SELECT statements over one table."""

    def __init__(self, schema: TableSchema, literal: Callable[[str], str]) -> None:
        self.schema = schema
        self._literal = literal
        types = [ColumnType.parse(column.type) for column in schema.columns]
        names = [_quoted(column.name) for column in schema.columns]
        self._convert = [kind.cell_reader() for kind in types]
        self._columns = ", ".join(
            kind.select_expression(name) for kind, name in zip(types, names, strict=True)
        )
        self._from = f"{_quoted(schema.database)}.{_quoted(schema.table)}"
        self._key = [(names[index], types[index]) for index in schema.key]
        self._key_columns = ", ".join(
            types[index].select_expression(names[index]) for index in schema.key
        )
        self._order = ", ".join(name for name, _ in self._key)

    def bound(self, after: Key | None, rows: int) -> str:
        """The key of the row that is `rows` rows behind `after`."""
        return (
            f"SELECT {self._key_columns} FROM {self._from}{self._where(after, None)}"
            f" ORDER BY {self._order} LIMIT {rows - 1}, 1"
        )

    def rows(self, chunk: Chunk) -> str:
        """The chunk's rows in key order."""
        return (
            f"SELECT {self._columns} FROM {self._from}{self._where(chunk.after, chunk.through)}"
            f" ORDER BY {self._order}"
        )

    def key_of(self, cells: Sequence[Any]) -> Key:
        """The key that `bound` found."""
        readers = [self._convert[index] for index in self.schema.key]
        return tuple(
            cell if read is None else read(cell) for read, cell in zip(readers, cells, strict=True)
        )

    def cells(self, found: Sequence[Sequence[Any]]) -> list[Row]:
        """Rows of cells, from what the server sent as text."""
        if not found:
            return []
        columns: list[Sequence[Value]] = []
        for read, column in zip(self._convert, zip(*found, strict=True), strict=True):
            if read is None:
                columns.append(column)
            elif None in column:
                columns.append([None if cell is None else read(cell) for cell in column])
            else:
                columns.append(list(map(read, column)))
        return list(zip(*columns, strict=True))

    def _where(self, after: Key | None, through: Key | None) -> str:
        parts = []
        if after is not None:
            parts.append(self._compare(after, ">", or_equal=False))
        if through is not None:
            parts.append(self._compare(through, "<", or_equal=True))
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def _compare(self, key: Key, sign: str, *, or_equal: bool) -> str:
        """`(k1, k2) > (…)` spelt out: servers use no index for comparisons of rows."""
        literals = [self._value(cell, kind) for cell, (_, kind) in zip(key, self._key, strict=True)]
        names = [name for name, _ in self._key]
        terms = []
        for depth, (name, literal) in enumerate(zip(names, literals, strict=True)):
            is_last = depth + 1 == len(names)
            equal = [f"{n} = {v}" for n, v in zip(names[:depth], literals[:depth], strict=True)]
            terms.append(
                " AND ".join(
                    [*equal, f"{name} {sign}{'=' if is_last and or_equal else ''} {literal}"]
                )
            )
        condition = " OR ".join(f"({term})" for term in terms)
        # The first column's bound alone lets the server use the index.
        return (
            f"({names[0]} {sign}= {literals[0]} AND ({condition}))"
            if len(names) > 1
            else f"({condition})"
        )

    def _value(self, cell: Value, kind: ColumnType) -> str:
        """A key's cell as SQL that compares as the column is sorted."""
        if isinstance(cell, bytes):
            return f"x'{cell.hex()}'"
        if kind.name == "enum":
            # Sorted by number, and compared with one by number; compared with text it would be by text.
            return str(kind.labels.index(str(cell)) + 1 if cell in kind.labels else 0)
        if kind.name == "set":
            chosen = str(cell).split(",") if cell else []
            return str(sum(1 << kind.labels.index(label) for label in chosen))
        if kind.name == "decimal" or not isinstance(cell, str):
            # As text a decimal would be compared as a double.
            return str(cell) if not isinstance(cell, float) else repr(cell)
        return self._literal(cell)


class SnapshotReaders:
    """Threads that read the missing chunks of a source side by side. They only read; one writer publishes.

    Chunks come out in `ready`; whoever takes one must publish it and say so, or `give_back` it (void:
    it is read again). A table may be asked for again at any time: `request`.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        source: str,
        tables: Mapping[TableName, TableSchema],
        coverage: Coverage,
        touches: TouchLog,
        *,
        flavor: Flavor,
        chunk_rows: int,
        workers: int,
    ) -> None:
        self._arguments = arguments
        self._source = source
        self._flavor: Flavor = flavor
        self._touches = touches
        self._chunk_rows = chunk_rows
        self._workers = workers
        self._lock = threading.Lock()
        """Guards all that follows but the queue."""
        self._schemas: dict[TableName, TableSchema] = dict(tables)
        self._cursors: dict[TableName, Key | None] = {
            table: coverage.next_after(table)
            for table in sorted(tables)
            if not coverage.is_complete(table)
        }
        self._generations: Counter[TableName] = Counter()
        self._again: list[tuple[Chunk, int]] = []
        self._in_hand = 0
        """Chunks taken by a reader and neither published nor given back."""
        self._running = 0
        self._asked = set(self._cursors)
        self._stop = threading.Event()
        self._ready: queue.Queue[ChunkRead | GravityError] = queue.Queue(_READY_MAX)

    @property
    def total(self) -> int:
        """Tables that were not complete at the start or have been asked for since."""
        return len(self._asked)

    def start(self) -> None:
        """Begins to read."""
        with self._lock:
            wanted = min(self._workers, len(self._cursors) * _READERS_PER_TABLE)
            missing = 0 if self._stop.is_set() else max(0, wanted - self._running)
            self._running += missing
        for _ in range(missing):
            name = f"snapshot-{self._source}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def request(self, table: TableName, schema: TableSchema | None = None) -> None:
        """Reads the whole table again; what was read of it before is void, chunks in hand included.

        For the source's thread, which must have published why, and have the table watched since. Any
        view opened from now on that covers the watch will do. Without `schema` it is looked up.
        """
        with self._lock:
            self._generations[table] += 1
            self._again = [(chunk, number) for chunk, number in self._again if chunk.table != table]
            if schema is None:
                self._schemas.pop(table, None)
            else:
                self._schemas[table] = schema
            self._cursors[table] = None
            self._asked.add(table)
        self.start()

    def stop(self) -> None:
        """Ends the readers; what they hold is dropped."""
        self._stop.set()

    @property
    def is_done(self) -> bool:
        """Whether every chunk has been published."""
        with self._lock:
            return not self._cursors and not self._again and not self._in_hand

    def ready(self) -> ChunkRead | None:
        """A chunk that waits to be published; None when there is none now. Raises a reader's failure."""
        while True:
            try:
                found = self._ready.get_nowait()
            except queue.Empty:
                return None
            if isinstance(found, GravityError):
                raise found
            if self.is_current(found):
                return found
            self.published(found)

    def is_current(self, read: ChunkRead) -> bool:
        """Whether the chunk's table has not been asked for again since."""
        return self._generations[read.chunk.table] == read.generation

    def give_back(self, read: ChunkRead) -> None:
        """The chunk is void: it is read again in a new view, unless all of its table is."""
        self._release(read.chunk, read.ticket, read.generation)

    def published(self, read: ChunkRead) -> None:
        """The chunk is in the log, or of no use any more."""
        self._touches.withdraw(read.ticket)
        with self._lock:
            self._in_hand -= 1

    def _release(self, chunk: Chunk, ticket: int, generation: int) -> None:
        self._touches.withdraw(ticket)
        with self._lock:
            if self._generations[chunk.table] == generation:
                self._again.append((chunk, generation))
            self._in_hand -= 1

    def _run(self) -> None:
        try:
            connection = SourceConnection(self._arguments, self._source)
            try:
                while not self._is_over():
                    taken = self._next_chunk(connection)
                    if taken is None:
                        self._stop.wait(_IDLE_S)
                        continue
                    self._put(self._read(connection, *taken))
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

    def _is_over(self) -> bool:
        """Whether this reader may end; nobody can ask for a table in between."""
        with self._lock:
            over = not self._cursors and not self._again and not self._in_hand
            if over or self._stop.is_set():
                self._running -= 1
                return True
            return False

    def _put(self, item: ChunkRead | GravityError | None) -> None:
        while item is not None and not self._stop.is_set():
            try:
                self._ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def _next_chunk(self, connection: SourceConnection) -> tuple[Chunk, int] | None:
        """The next chunk nobody has; its upper bound is found here, so that chunks follow one another."""
        with self._lock:
            if self._again:
                self._in_hand += 1
                return self._again.pop()
            if not self._cursors:
                return None
            table, after = next(iter(self._cursors.items()))
            found: Sequence[tuple[Any, ...]] = ()
            is_there = table in self._schemas or self._refresh(connection, table)
            if is_there:
                reader = TableReader(self._schemas[table], connection.literal)
                try:
                    found = connection.query(reader.bound(after, self._chunk_rows))
                except TableChangedError:
                    if self._refresh(connection, table):
                        return None
            # Dropped: a last chunk without rows says that nothing is left to copy.
            through = reader.key_of(found[0]) if found else None
            if through is None:
                del self._cursors[table]
            else:
                self._cursors[table] = through
            self._in_hand += 1
            return Chunk(table, after, through), self._generations[table]

    def _refresh(self, connection: SourceConnection, table: TableName) -> bool:
        """Learns the table's present shape; False when it is gone."""
        found = self._catalog_of(connection, table)
        if found is None:
            return False
        self._schemas[table] = found.schema
        return True

    @staticmethod
    def _catalog_of(connection: SourceConnection, table: TableName) -> CatalogTable | None:
        return read_catalog(connection.query, lambda *_: True, connection.literal, only=table).get(
            table
        )

    def _open_view(self, connection: SourceConnection, table: TableName) -> View | None:
        """A view that saw all that the stream had brought when the table's watch began; None at the end."""
        while not self._stop.is_set():
            view = open_view(connection, self._flavor)
            if self._touches.covers(table, view):
                return view
            connection.query("COMMIT")
            self._stop.wait(_IDLE_S)
        return None

    def _read(
        self, connection: SourceConnection, chunk: Chunk, generation: int
    ) -> ChunkRead | None:
        ticket = self._touches.announce()
        view = self._open_view(connection, chunk.table)
        if view is None:
            return None
        schema = self._schemas.get(chunk.table)
        try:
            reader: TableReader | None = None
            found: Sequence[tuple[Any, ...]] = ()
            if schema is not None:
                reader = TableReader(schema, connection.literal)
                found = connection.query(reader.rows(chunk))
            # From the SELECT on, this transaction's metadata lock keeps the shape as it is.
            now = self._catalog_of(connection, chunk.table)
        except TableChangedError:
            now, reader = None, None
        # After any other error the connection is of no use, and is closed.
        connection.query("COMMIT")
        if reader is not None and now is not None and now.schema == schema:
            rows = reader.cells(found)
            sizes = [sum(map(len, filter(None, cells))) for cells in found]
            return ChunkRead(chunk, reader.schema, rows, sizes, view, ticket, generation)
        if now is None and self._catalog_of(connection, chunk.table) is None:
            # Dropped: nothing of it is left to copy.
            rest = Chunk(chunk.table, chunk.after, None)
            return ChunkRead(rest, None, (), (), view, ticket, generation)
        self._refresh(connection, chunk.table)
        self._release(chunk, ticket, generation)
        return None
