"""Writes lanes to ClickHouse: rows first, then progress. Rows written twice are equal, so once remains.

The only module here that knows clickhouse-connect.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from gravity.batch import DELETE, TRUNCATE, ChangeBatch, TableSchema
from gravity.errors import FatalError, GravityError, PoisonError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.header import row_version
from gravity.joined_follower import JoinedFollower
from gravity.schema_change import SchemaChange, TableAction
from gravity.schema_follower import Ahead, Follower, has_rows_to_delete, means_nothing
from gravity.sink import Admitted, Pace, Refusal, SetAside, Write, split_table
from gravity.stored import Stored
from gravity_sink_clickhouse.alteration import tombstones
from gravity_sink_clickhouse.catalog import CREATE_CONTROL_TABLES, Catalog, Fit
from gravity_sink_clickhouse.error_code import UNKNOWN_SHAPE, error_of
from gravity_sink_clickhouse.progress_log import ProgressLog
from gravity_sink_clickhouse.row import encode_lines
from gravity_sink_clickhouse.schema_log import CREATE_SCHEMA_TABLES, SchemaLog
from gravity_sink_clickhouse.table import DELETED, VERSION, quote_table

if TYPE_CHECKING:
    from gravity.config.connection import Tls
    from gravity.config.target import ClickhouseTarget
    from gravity.sink_stage import Surroundings

SHAPE_ATTEMPTS = 5
"""How often rows are written anew because their table was altered meanwhile, before a pause."""
ROWS_FACTOR = 4
"""An insert has a price of 5 to 9 ms whatever its size, so it should hold more than a transaction."""
WAIT_MS_MIN = 500
"""Every insert makes a part that must be merged; more than a few a second overload the server."""
CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 10, 300

_SETTINGS: dict[str, Any] = {
    # Newer servers insert later by default; then neither order nor errors would be ours to see.
    "async_insert": 0,
    # The fast reader of floats may miss the last bit.
    "precise_float_parsing": 1,
    "input_format_null_as_default": 0,
}


def code_of(error: GravityError) -> int | None:
    """The server's code behind an error of `Server`."""
    code = getattr(error.__cause__, "code", None)
    return code if isinstance(code, int) else None


def _tls_arguments(tls: Tls | None) -> dict[str, Any]:
    if tls is None or tls.mode == "disabled":
        return {"secure": False}
    arguments: dict[str, Any] = {"secure": True, "verify": tls.mode.startswith("verify")}
    files = {"ca_cert": tls.ca, "client_cert": tls.cert, "client_cert_key": tls.key}
    return {**arguments, **{name: str(path) for name, path in files.items() if path is not None}}


class Server:
    """Statements and inserts over HTTP. Lanes of one target share it; it has no session."""

    def __init__(self, target: ClickhouseTarget) -> None:
        """Connects. Raises TransientError when the server is away, FatalError when it refuses us."""
        self._where = f"target {target.name}, {target.host}:{target.port}"
        for library in ("urllib3", "clickhouse_connect"):
            # What they warn of is an error with its remedy a moment later.
            logging.getLogger(library).setLevel(logging.ERROR)
        try:
            self._client = clickhouse_connect.get_client(
                host=target.host,
                port=target.port,
                username=target.username,
                password="" if target.password is None else target.password.get_secret_value(),
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=ANSWER_TIMEOUT_S,
                autogenerate_session_id=False,
                compress=False,
                **_tls_arguments(target.tls),
            )
        except (ClickHouseError, OSError) as error:
            raise self._error(error) from error

    def execute(self, sql: str) -> None:
        """Runs a statement."""
        try:
            self._client.command(sql)
        except (ClickHouseError, OSError) as error:
            raise self._error(error) from error

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        try:
            return [tuple(row) for row in self._client.query(sql).result_rows]
        except (ClickHouseError, OSError) as error:
            raise self._error(error) from error

    def insert(
        self, table: str, columns: Sequence[str], lines: Sequence[str], *, token: str
    ) -> None:
        """Inserts lines of TabSeparated. The same `token` again, within the table's window, does nothing."""
        body = "\n".join(lines).encode("utf-8", "surrogateescape")
        try:
            self._client.raw_insert(
                table,
                column_names=list(columns),
                insert_block=body,
                settings={**_SETTINGS, "insert_deduplication_token": token},
                fmt="TabSeparated",
            )
        except (ClickHouseError, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Gives the connections up."""
        self._client.close()

    def _error(self, error: Exception) -> GravityError:
        code = getattr(error, "code", None)
        return error_of(code, str(error)[:1000], where=self._where)


@dataclass(slots=True)
class _Block:
    """Lines of one table and one shape, and where each came from."""

    fit: Fit
    parts: list[tuple[int, Admitted, list[int]]] = field(default_factory=list)
    """(first line, message, the message's row of each line)."""
    lines: list[str] = field(default_factory=list)

    def origin(self, line: int) -> tuple[Admitted, int]:
        """The message and the row that a line came from."""
        at = bisect_right(self.parts, line, key=lambda part: part[0]) - 1
        start, message, rows = self.parts[at]
        return message, rows[line - start]


class _ShapeMovedError(Exception):
    """An alteration was recorded since the rows were fitted to their tables."""


class ClickhouseLane:
    """One lane. The contract is `gravity.sink.LaneWriter`.

    There is no fence and none is needed: a former owner that still writes inserts rows that equal
    ours in key, version and content.
    """

    def __init__(
        self, server: Server, target: ClickhouseTarget, around: Surroundings, partition: int
    ) -> None:
        self._server = server
        self._around = around
        self._target = target.name
        self._policy = target.schema_evolution
        self._partition = partition
        self._catalog = Catalog(target.name, create=target.create_tables, adopt=around.adopt)
        self._log = SchemaLog(server, target.name, around.resolver_epoch, partition)
        self._ahead = Ahead()
        self._noted: set[tuple[str, str, str]] = set()
        self._follower = Follower(
            target.name,
            partition,
            target.schema_evolution,
            self._log,
            may_alter=target.create_tables,
        )
        self._joined = JoinedFollower(
            target.name, target.schema_evolution, self._log, may_alter=target.create_tables
        )
        self.progress = ProgressLog(server, target.name, around, partition)
        self._reread_at: int | None = None

    def write(self, write: Write, set_aside: SetAside) -> Stored:
        """Inserts the rows, then the progress that says so."""
        try:
            stored = self._apply(write, set_aside)
        except GravityError as error:
            self._ahead.forget()
            if isinstance(error, TransientError):
                self.progress.require_alone(write.before)
            if (
                code_of(error) in UNKNOWN_SHAPE
                and self._reread_at != write.before.progress.next_offset
            ):
                self._reread_at = write.before.progress.next_offset
                self._catalog.forget()
                raise TransientError(error.what, where=error.where) from error
            raise
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        self.progress.store(stored)
        return stored

    def _apply(self, write: Write, set_aside: SetAside) -> Stored:
        alone = write.schema_change
        if alone is not None:
            return self._apply_schema_change(write, alone)
        for _ in range(SHAPE_ATTEMPTS):
            self._look()
            try:
                refusals = self._insert_rows(write.messages)
            except _ShapeMovedError:
                self._forget()
                continue
            except FatalError:
                # What does not fit, or the server refuses, may be right for the table as it was a
                # moment ago.
                if self._ahead.is_all(self._log.number()):
                    raise
                self._forget()
                continue
            # An alteration that was recorded meanwhile may have met our rows: they are written again as
            # it wants them. Of two rows of one key and version the one inserted last counts.
            if self._ahead.is_all(self._log.number()):
                break
            self._forget()
        else:
            raise TransientError("tables are being altered", where=f"target {self._target}")
        if not refusals:
            return write.after
        set_aside(refusals)
        return write.dead_lettered(len(refusals))

    def _look(self) -> None:
        """Reads the recorded alterations if there are new ones.

        A table that was dropped and made anew with another key takes rows of before the drop, if its
        columns have defaults, and nothing tells them from its own afterwards.
        """
        if self._ahead.known and self._ahead.is_all(self._log.number()):
            return
        self._forget()
        self._ahead.learn(self._log.all())

    def _forget(self) -> None:
        self._catalog.forget()
        self._ahead.forget()

    def _apply_schema_change(self, write: Write, message: Admitted) -> Stored:
        change = SchemaChange.decode(message.value)
        if change.action is TableAction.TRUNCATE:
            return write.truncated(self._bury_rows(message))
        if not means_nothing(change):
            follower = self._follower if change.source else self._joined
            follower.follow(change, message.header)
            self._forget()
        return write.after

    def _bury_rows(self, message: Admitted) -> int:
        """A tombstone for every key of this partition; of all where the table lies in one."""
        header, routed = message.header, message.header.routed
        if not has_rows_to_delete(self._log, routed, self._target, self._policy):
            return 0
        version = row_version(header.resolver_epoch, header.out_seq, 0)
        self._server.execute(
            tombstones(
                routed.table,
                self._log.key_of(routed.table),
                version,
                partition=None if routed.first == routed.last else self._partition,
                partitions=self._around.partitions,
            )
        )
        counted = self._server.rows(
            f"SELECT count() FROM {quote_table(*split_table(header))} WHERE {VERSION}={version}"
        )
        return int(counted[0][0])

    def retry(self, stored: Stored, set_aside: SetAside) -> None:
        """Nothing is parked: ClickHouse knows no constraints between rows."""

    def stands(self) -> bool:
        """Never: there are no cuts here."""
        return False

    def keep_alive(self) -> None:
        """HTTP needs no session."""

    def close(self) -> None:
        """Nothing is held open."""

    def _insert_rows(self, messages: Sequence[Admitted]) -> list[Refusal]:
        refusals: list[Refusal] = []
        for block in self._blocks(messages, refusals):
            if block.lines:
                self._insert(block, 0, len(block.lines), refusals)
        return refusals

    def _blocks(self, messages: Sequence[Admitted], refusals: list[Refusal]) -> list[_Block]:
        blocks: list[_Block] = []
        open_block: dict[tuple[str, str], _Block] = {}
        for message in messages:
            if message.batch is None:
                continue
            if TRUNCATE in message.batch.ops:
                raise _truncate_refused(message)
            name = split_table(message.header)
            batch = self._present(message)
            if batch is None:
                continue
            fit = self._fit(name, message.batch, batch)
            block = open_block.get(name)
            if block is None or block.fit is not fit:
                block = open_block[name] = _Block(fit)
                blocks.append(block)
            # The version of the last row is checked as well: it must not run into the next message.
            header = message.header
            row_version(header.resolver_epoch, header.out_seq, max(0, len(batch) - 1))
            first = row_version(header.resolver_epoch, header.out_seq, 0)
            lines = encode_lines(batch, fit.wanted, fit.fields, first)
            refusals += [Refusal(message, row, "range", reason) for row, reason in lines.refused]
            block.parts.append((len(block.lines), message, lines.rows))
            block.lines += lines.lines
        return blocks

    def _present(self, message: Admitted) -> ChangeBatch | None:
        """The message's rows as they go into the table now; None: nothing is to be written.

        Rows of a table that has been dropped since are deleted in the one that has its name now: they
        may have got there before the drop was seen.
        """
        assert message.batch is not None
        table = message.header.routed.table
        batch = self._ahead.present(message, f"target {self._target}, table {table}")
        if batch is not None:
            return batch
        old = message.batch
        names = {real.name for real in self._log.shape(table) or () if real.in_key}
        if names != set(old.schema.key_names):
            return None  # There is none, or one that these rows could not have got into.
        key = tuple(old.schema.columns[index] for index in old.schema.key)
        shape = TableSchema(old.schema.database, old.schema.table, key, tuple(range(len(key))))
        columns = [old.columns[index] for index in old.schema.key]
        return replace(
            old, schema=shape, columns=columns, ops=bytes([DELETE]) * len(old), before_columns=(),
            before=(), _rows=None,
        )  # fmt: skip

    def _fit(self, name: tuple[str, str], written: ChangeBatch, batch: ChangeBatch) -> Fit:
        """How `batch` goes into the table; `written` is what it was before it was adapted."""
        fit = self._catalog.fit(self._server, name, batch.schema, self._make)
        full = ".".join(name)
        origin = (full, written.source, f"{written.schema.database}.{written.schema.table}")
        if origin not in self._noted:
            self._log.remember_origin(full, written.source, batch.schema)
            self._noted.add(origin)
        return fit

    def _make(self, statements: Sequence[str]) -> None:
        """Runs DDL that rows want, unless an alteration has been recorded that they do not know of.

        Rows from before a DROP would bring back the table, or the column, as it was. Nothing here can
        hold an alteration off meanwhile: one that is recorded after the look may still meet them.
        """
        if not self._ahead.is_all(self._log.number()):
            raise _ShapeMovedError
        for statement in statements:
            self._server.execute(statement)

    def _insert(self, block: _Block, start: int, end: int, refusals: list[Refusal]) -> None:
        """Inserts these lines; halves them until those that the server refuses stand alone."""
        columns = [*(f.name for f in block.fit.fields), VERSION, DELETED]
        try:
            self._server.insert(
                block.fit.table,
                columns,
                block.lines[start:end],
                token=self._token(block, start, end),
            )
        except PoisonError as error:
            if end - start == 1:
                message, row = block.origin(start)
                refusals.append(Refusal(message, row, str(code_of(error)), error.what))
                return
            half = (start + end) // 2
            self._insert(block, start, half, refusals)
            self._insert(block, half, end, refusals)

    def _token(self, block: _Block, start: int, end: int) -> str:
        """Names this content and no other: the topic by its identity, the messages by their numbers.

        And what they were adapted to: the same columns may have other values after it.
        """
        first, last = block.parts[0][1].header.out_seq, block.parts[-1][1].header.out_seq
        shape = f"{block.fit.shape}:{self._ahead.number}"
        token = (
            f"{self._around.topic_id}:{self._partition}:{first}-{last}:{block.fit.table}:{shape}"
        )
        return token if (start, end) == (0, len(block.lines)) else f"{token}:{start}-{end}"


class ClickhouseWriter:
    """One ClickHouse target. The contract is `gravity.sink.SinkWriter`."""

    def __init__(self, target: ClickhouseTarget, around: Surroundings) -> None:
        self._target = target
        self._around = around
        self._server: Server | None = None

    @property
    def pace(self) -> Pace:
        """Fewer and larger writes than configured for transactions."""
        pace = self._around.pace
        wait_ms = max(pace.wait_ms_max, WAIT_MS_MIN)
        return replace(
            pace, rows_max=pace.rows_max * ROWS_FACTOR, wait_ms_max=wait_ms, wait_ms_idle=wait_ms
        )

    def open(self) -> None:
        """Makes the database and the tables that hold our progress."""
        if self._server is None:
            self._server = Server(self._target)
        for statement in (*CREATE_CONTROL_TABLES, *CREATE_SCHEMA_TABLES):
            self._server.execute(statement)

    def take_over(self, partition: int) -> tuple[ClickhouseLane, Stored]:
        """Reads the lane's progress. A former owner may go on for a while: its rows equal ours."""
        lane = ClickhouseLane(self._connected(), self._target, self._around, partition)
        return lane, lane.progress.read()

    def close(self) -> None:
        """Gives the connections up."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def _connected(self) -> Server:
        if self._server is None:
            self._server = Server(self._target)
        return self._server


def _truncate_refused(message: Admitted) -> FatalError:
    routed = message.header.routed
    return FatalError(
        "a TRUNCATE among rows",
        where=f"table {routed.table}, source {routed.source}, position {routed.from_}",
        remedy="it was written by another version of gravity: see docs/schema-changes.md",
    )
