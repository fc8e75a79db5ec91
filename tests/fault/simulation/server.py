"""The servers of a source: the same transactions, at each of them in other places and in other events."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gravity_collector.event import Begin, Commit, Event, Heartbeat, Query, Rows
from gravity_collector.server import ServerFacts

from gravity.batch import DELETE, UPDATE, Column, TableSchema
from gravity.gtid import parse_gtids

from .altering import DieError
from .statement import schema_of

if TYPE_CHECKING:
    from .world import Row, Source

FILE_HEAD = 4
"""Where the first transaction of a file starts."""


class Decoder:
    """Stands in for the decoder of one table's rows: an event names, by number, what it holds of them."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self._held: list[list[Any]] = []

    def event(self, op: int, rows: list[Any]) -> Rows:
        """An event with these rows; of an update: the rows before and after."""
        self._held.append(rows)
        return Rows(self, op, b"", len(self._held) - 1)  # type: ignore[arg-type]

    def rows(self, _: bytes, at: int) -> list[Any]:
        return self._held[at]

    def updates(self, _: bytes, at: int, *, wanted: Sequence[int]) -> list[Any]:
        del wanted
        return self._held[at]


class Server:
    """One server: it has every transaction under the source's GTID, and in a place of its own."""

    def __init__(self, source: Source, number: int, rng: random.Random) -> None:
        self.source, self.server_id = source, number + 1
        self._first_file = rng.randint(1, 12)
        self._step = rng.randint(20, 200)
        self._per_file = rng.randint(3, 200)
        self._rows_max = rng.choice((1, 2, 100))
        """Rows of one event."""
        self._events: list[list[Event]] = []
        self._decoders: dict[TableSchema, Decoder] = {}
        self._thirds: dict[str, Column | None] = {}
        """The tables' third columns behind the transactions that `_events` has."""
        self.back_at = 0
        """The step from which on it can be reached."""
        self._stands_until, self._stands_at = 0, 0

    # ------------------------------------------------------------------ what it is

    @property
    def is_up(self) -> bool:
        """Whether it can be reached."""
        return self.source.world.steps >= self.back_at or not self.source.world.faults

    @property
    def count(self) -> int:
        """How many of the source's transactions it has."""
        world, all_there_are = self.source.world, len(self.source.binlog)
        if world.steps >= self._stands_until or not world.faults:
            return all_there_are
        return self._stands_at

    def stand_still(self, until: int) -> None:
        """It replicates nothing until then."""
        self._stands_at, self._stands_until = self.count, until

    def facts(self) -> ServerFacts:
        """As a collector that asks is told."""
        gtids = f"0-1-{self.count}" if self.count else ""
        file_index, offset = self.end(self.count)
        return ServerFacts(
            flavor="mariadb", version="11.4.5-MariaDB", server_uuid="", server_id=self.server_id, log_bin=True,
            binlog_format="ROW", binlog_row_image="FULL", binlog_row_metadata="FULL", binlog_row_value_options="",
            gtid_mode="ON", file_name=f"b.{file_index:06}", next_offset=offset, gtid_set=gtids, gtid_purged="",
            collations={}, gtid_binlog_state=gtids,
        )  # fmt: skip

    # ------------------------------------------------------------------ where things are

    def place(self, number: int) -> tuple[int, int]:
        """File and offset where transaction `number` (from 0) starts."""
        files, before = divmod(number, self._per_file)
        return self._first_file + files, FILE_HEAD + before * self._step

    def end(self, number: int) -> tuple[int, int]:
        """Where the first `number` transactions end: not always where the next one starts."""
        if not number:
            return self.place(0)
        file_index, offset = self.place(number - 1)
        return file_index, offset + self._step

    def behind(self, file_index: int, offset: int) -> int:
        """The number of the first transaction that starts at this place or later."""
        started = -(-(offset - FILE_HEAD) // self._step)
        number = (file_index - self._first_file) * self._per_file + min(started, self._per_file)
        return max(0, number)

    # ------------------------------------------------------------------ what it sends

    def events(self, number: int) -> list[Event]:
        """Transaction `number`."""
        for missing in range(len(self._events), number + 1):
            rows, statement = self.source.binlog[missing], self.source.statements.get(missing)
            time = statement.ets if statement else rows[0].ets if rows else 0
            begin = Begin(f"0-1-{missing + 1}", *self.place(missing), time)
            events: list[Event] = [begin]
            if statement is not None:
                events.append(Query("app", statement.sql, 0))
                self._thirds[statement.table] = statement.third
            events += self._rows(rows)
            self._events.append([*events, Commit(*self.end(missing + 1))])
        return self._events[number]

    def _rows(self, rows: Sequence[Row]) -> Iterator[Rows]:
        for (table, op), run in groupby(rows, key=lambda row: (row.table, row.op)):
            images = [_image(row) for row in run]
            schema = schema_of(table, self._thirds.get(table))
            decoder = self._decoders.setdefault(schema, Decoder(schema))
            for start in range(0, len(images), self._rows_max):
                yield decoder.event(op, images[start : start + self._rows_max])


def _image(row: Row) -> Any:
    after = (row.key, *(row.value or ()))
    before = (row.old, *(row.before or ()))
    return before if row.op == DELETE else (before, after) if row.op == UPDATE else after


class Reading:
    """A binlog as one collector reads it."""

    def __init__(self, server: Server, number: int) -> None:
        self.server, self.next = server, number
        """`next`: the transaction that comes next."""

    @classmethod
    def after(cls, server: Server, gtids: str) -> Reading:
        """From the first transaction on that `gtids` does not have."""
        done = parse_gtids("mariadb", gtids)
        number = 0
        while done.contains(f"0-1-{number + 1}"):
            number += 1
        return cls(server, number)

    @property
    def has_more(self) -> bool:
        """Whether the server has a transaction that was not read."""
        return self.next < self.server.count

    def read(self, timeout_s: float = 0.0) -> list[Event]:
        """The next transaction, or the server's word that there is none."""
        del timeout_s
        if not self.server.is_up:
            raise DieError("the server is gone")
        if not self.has_more:
            return [Heartbeat(*self.server.end(self.next))]
        self.next += 1
        return self.server.events(self.next - 1)

    def close(self) -> None:
        """Ends it."""
