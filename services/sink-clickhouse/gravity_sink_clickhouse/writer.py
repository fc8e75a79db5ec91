"""Writes lanes to ClickHouse: rows first, then progress. Rows written twice are equal, so once remains.

The only module here that knows clickhouse-connect.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from gravity.batch import TRUNCATE
from gravity.errors import FatalError, GravityError, PoisonError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.header import row_version
from gravity.progress import SinkProgress
from gravity.sink import Admitted, Pace, Refusal, SetAside, Stored, Write, split_table
from gravity_sink_clickhouse.catalog import CREATE_CONTROL_TABLES, PROGRESS, Catalog, Fit
from gravity_sink_clickhouse.error_code import UNKNOWN_SHAPE, error_of
from gravity_sink_clickhouse.row import encode_lines
from gravity_sink_clickhouse.table import DELETED, VERSION, quote_text

if TYPE_CHECKING:
    from gravity.config.connection import Tls
    from gravity.config.target import ClickhouseTarget
    from gravity.sink_stage import Surroundings

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


class ClickhouseLane:
    """One lane. The contract is `gravity.sink.LaneWriter`.

    There is no fence and none is needed: a former owner that still writes inserts rows that equal
    ours in key, version and content.
    """

    def __init__(
        self, server: Server, catalog: Catalog, around: Surroundings, target: str, partition: int
    ) -> None:
        self._server = server
        self._catalog = catalog
        self._around = around
        self._target = target
        self._partition = partition
        self._reread_at: int | None = None

    def write(self, write: Write, set_aside: SetAside) -> Stored:
        """Inserts the rows, then the progress that says so."""
        try:
            refusals = self._insert_rows(write.messages)
        except GravityError as error:
            if (
                code_of(error) in UNKNOWN_SHAPE
                and self._reread_at != write.before.progress.next_offset
            ):
                self._reread_at = write.before.progress.next_offset
                self._catalog.forget()
                raise TransientError(error.what, where=error.where) from error
            raise
        stored = write.after
        if refusals:
            set_aside(refusals)
            stored = write.dead_lettered(len(refusals))
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        self._store(stored)
        return stored

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
            batch = message.batch
            if batch is None:
                continue  # A schema change: its effect on columns comes with the next rows.
            if TRUNCATE in batch.ops:
                raise _truncate_refused(message)
            name = split_table(message.header)
            fit = self._catalog.fit(self._server, name, batch.schema)
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
        """Names this content and no other: the topic by its identity, the messages by their numbers."""
        first, last = block.parts[0][1].header.out_seq, block.parts[-1][1].header.out_seq
        token = f"{self._around.topic_id}:{self._partition}:{first}-{last}:{block.fit.table}:{block.fit.shape}"
        return token if (start, end) == (0, len(block.lines)) else f"{token}:{start}-{end}"

    def _store(self, stored: Stored) -> None:
        p = stored.progress
        frontier = json.dumps(stored.to_json(), separators=(",", ":"))
        values = (
            self._target,
            self._partition,
            self._around.resolver_epoch,
            p.next_offset,
            p.last_seq,
            p.term,
        )
        line = "\t".join([*map(str, values), frontier.replace("\\", "\\\\")])
        token = f"{self._target}:{self._partition}:{self._around.topic_id}:{p.next_offset}"
        self._server.insert(PROGRESS, PROGRESS_COLUMNS, [line], token=token)


PROGRESS_COLUMNS = (
    "target",
    "part",
    "resolver_epoch",
    "next_offset",
    "last_seq",
    "term",
    "frontier",
)


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
        for statement in CREATE_CONTROL_TABLES:
            self._server.execute(statement)

    def take_over(self, partition: int) -> tuple[ClickhouseLane, Stored]:
        """Reads the lane's progress. A former owner may go on for a while: its rows equal ours."""
        server = self._connected()
        rows = server.rows(
            f"SELECT next_offset, last_seq, term, frontier FROM {PROGRESS} FINAL "
            f"WHERE target={quote_text(self._target.name)} AND part={partition} "
            f"AND resolver_epoch={self._around.resolver_epoch}"
        )
        stored = Stored()
        if rows:
            next_offset, last_seq, term, text = rows[0]
            stored = replace(
                Stored.from_json(json.loads(text)),
                progress=SinkProgress(next_offset, last_seq, term),
            )
        catalog = Catalog(
            self._target.name, create=self._target.create_tables, adopt=self._around.adopt
        )
        lane = ClickhouseLane(server, catalog, self._around, self._target.name, partition)
        return lane, stored

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
        "TRUNCATE TABLE can't be applied",
        where=f"table {routed.table}, source {routed.source}, position {routed.from_}",
        remedy="see docs/what-if.md: a truncated table",
    )
