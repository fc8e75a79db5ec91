"""The connection to a source's binlog. The only module that imports mysql-replication.

The library logs in, negotiates checksums and heartbeats, and asks for the binlog. From then on its
socket is read here in large pieces, because its own reader is far slower than the server.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pymysql
from pymysqlreplication import BinLogStreamReader

from gravity.errors import (
    FatalError,
    GravityError,
    PositionLostError,
    SourceSettingError,
    TransientError,
)
from gravity.gtid import Flavor, MysqlGtids
from gravity_collector.decoder import TableDecoders
from gravity_collector.event import AckAsked, Event, Rows
from gravity_collector.event_parser import EventParser, ServerMessageError
from gravity_collector.gtid_event import encode_gtids
from gravity_collector.lookback import BinlogLookBack
from gravity_collector.semi_sync import SESSION_STATEMENT, answer
from gravity_collector.server import ServerFacts, server_facts
from gravity_collector.xa import HeldTransactions

_RECEIVE_BYTES: Final = 256 * 1024
_SILENT_HEARTBEATS_MAX: Final = 3
"""Heartbeats that may fail to come before the connection counts as dead."""
# An executed set must not be empty for the library; no server has this UUID.
_NOTHING_EXECUTED: Final = "00000000-0000-0000-0000-000000000001:1"
_PRIVATE_CONNECT: Final = "_BinLogStreamReader__connect_to_stream"
_COM_BINLOG_DUMP_GTID: Final = 0x1E
_WAIT_FOR_READER_S: Final = 600
"""How long the server lets a reader pause, while it looks back for an XA transaction or waits for Kafka."""
_LOOK_BACK_BIT: Final = 1 << 29
"""A second connection with the first one's server id would end that one."""
_PIECE_BYTES: Final = 4 << 20
_PIECE_EVENTS: Final = 10_000
_ANSWER_S_MAX: Final = 10.0
"""A server that takes no twenty bytes for so long is dead."""

_RETRIED: Final = frozenset(
    (
        1040,
        1053,
        1152,
        1158,
        1159,
        1160,
        1161,
        1203,
        1205,
        1226,
        1317,
        1927,
        2002,
        2003,
        2006,
        2013,
        2055,
    )
)
_LOST: Final = frozenset((1220, 1236, 1789, 1945, 1955, 1373))
_SETTINGS: Final[Mapping[int, str]] = {
    1044: "grant the user access to the source's databases",
    1045: "check user and password of the source",
    1049: "check the database's name",
    1129: "run FLUSH HOSTS at the source",
    1130: "allow the user to connect from this host",
    1142: "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the user",
    1227: "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* to the user",
    1251: "the server wants an authentication plugin that PyMySQL lacks",
    1381: "start the source with --log-bin",
    1698: "give the user a password: the server wants to know it by its socket",
    1950: "SET GLOBAL gtid_strict_mode as it was when the binlog was written",
    2026: "check the TLS settings of the source",
    2059: "the server wants an authentication plugin that PyMySQL lacks",
}
_POSITION_REMEDY: Final = (
    "the source no longer has what comes next: snapshot it again with `gravity reset --source`, "
    "and keep its binlogs longer (binlog_expire_logs_seconds)"
)


@dataclass(frozen=True, slots=True)
class StartAtFile:
    """Start at a byte of a binlog file where a transaction starts (4 is the first one)."""

    file_name: str
    offset: int = 4


@dataclass(frozen=True, slots=True)
class StartAfterGtids:
    """Start after all transactions of a set.

    MySQL: an executed set (`uuid:1-5,uuid:1-3`); MariaDB: the last GTID of each domain (`0-1-5,1-1-3`).
    Empty means from the oldest binlog on.
    """

    gtid_set: str


Start = StartAtFile | StartAfterGtids


def read_server_facts(connection: Mapping[str, Any], source: str) -> ServerFacts:
    """The facts of the server that PyMySQL's `connection` arguments lead to.

    Raises:
        SourceSettingError: it refuses us; TransientError: it can't be reached now.
    """
    try:
        client = pymysql.connect(**connection, autocommit=True)
    except pymysql.err.MySQLError as error:
        raise error_of(error, source) from error
    try:

        def query(statement: str) -> list[tuple[object, ...]]:
            with client.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())

        return server_facts(query)
    except pymysql.err.MySQLError as error:
        raise error_of(error, source) from error
    finally:
        client.close()


class BinlogStream:
    """A source's binlog as typed events. Made by `open_stream`; close it when done."""

    def __init__(
        self,
        client: socket.socket,
        parser: EventParser,
        *,
        source: str,
        silence_s_max: float,
        on_close: Callable[[], None],
        monotonic: Callable[[], float],
        held: HeldTransactions | None = None,
    ) -> None:
        """With `held`, XA transactions come as ordinary ones where they take effect, else as they are logged."""
        self._socket = client
        self._parser = parser
        self._source = source
        self._silence_s_max = silence_s_max
        self._on_close = on_close
        self._monotonic = monotonic
        self._held = held
        self._heard_s = monotonic()
        self._later: Iterator[Event] | None = None
        self._failure: GravityError | None = None
        self._waker: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None

    @property
    def is_semi_sync(self) -> bool | None:
        """Whether the server asks for acknowledgements here; None before its first event."""
        return self._parser.is_semi_sync

    def wake_by(self, waker: socket.socket) -> None:
        """Ends `read` early when something comes in at the non-blocking `waker`, which is emptied then."""
        self._waker = waker
        self._selector = selectors.DefaultSelector()
        self._selector.register(waker, selectors.EVENT_READ)
        self._selector.register(self._socket, selectors.EVENT_READ)

    def acknowledge(self, asked: AckAsked) -> None:
        """Tells the server that everything up to `asked` is acknowledged.

        Raises TransientError when the connection is broken.
        """
        try:
            self._socket.settimeout(_ANSWER_S_MAX)
            self._socket.sendall(answer(asked.file_name, asked.next_offset))
        except OSError as error:
            raise self._broken(str(error)) from error

    @property
    def file_name(self) -> str:
        """The binlog file being read; empty until the first Rotate event."""
        return self._parser.file_name

    @property
    def is_at_end(self) -> bool:
        """Whether a stream opened with `until_end` has given everything there was."""
        return self._parser.is_at_end and self._later is None and self._failure is None

    def read(self, timeout_s: float) -> list[Event]:
        """The next events, in order; empty when nothing came for `timeout_s` seconds (0: nothing is there now).

        An empty list while a large event is on its way is possible too. What was compressed, and XA
        transactions, come in pieces of a few megabytes.

        Raises:
            TransientError: the connection broke; open the stream again.
            PositionLostError, SourceSettingError, UnreadableEventError: halt.
        """
        if self._failure is not None:
            raise self._failure
        if self._later is None:
            if self._parser.is_at_end:
                return []
            received = b"" if self._parser.has_failed else self._receive(timeout_s)
            if received is None:
                silence_s = self._monotonic() - self._heard_s
                if silence_s > self._silence_s_max:
                    raise self._broken(f"no heartbeat for {silence_s:.0f} s")
                return []
            self._heard_s = self._monotonic()
            events, parser, held = self._feed(received), self._parser, self._held
            if not parser.has_more and (held is None or not (parser.has_xa or held.is_inside)):
                return events
            self._later = self._settled(events)
        return self._piece(self._later)

    def _feed(self, received: bytes) -> list[Event]:
        try:
            return self._parser.feed(received)
        except ServerMessageError as error:
            raise _by_code(error.code, error.message, self._where) from error

    def _settled(self, events: Iterable[Event]) -> Iterator[Event]:
        settle = self._held.settle if self._held is not None else iter
        yield from settle(events)
        while self._parser.has_more:
            yield from settle(self._feed(b""))

    def _piece(self, later: Iterator[Event]) -> list[Event]:
        """The next of what was received and not given yet; an error waits until what is before it is given."""
        events: list[Event] = []
        size = 0
        try:
            for event in later:
                events.append(event)
                size += len(event.body) if isinstance(event, Rows) else 0
                if size >= _PIECE_BYTES or len(events) >= _PIECE_EVENTS:
                    return events
        except GravityError as error:
            self._later, self._failure = None, error
            if not events:
                raise
            return events
        self._later = None
        # What was read later than it was received is no silence of the server.
        self._heard_s = self._monotonic()
        return events

    def close(self) -> None:
        """Ends the connection. Harmless when repeated."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        self._on_close()

    @property
    def _where(self) -> str:
        return f"source {self._source}, near {self._parser.file_name}:{self._parser.next_offset}"

    def _receive(self, timeout_s: float) -> bytes | None:
        """What the socket gives; None if nothing came in time, or we were woken before."""
        try:
            if timeout_s and not self._is_readable(timeout_s):
                return None
            self._socket.settimeout(timeout_s)
            received = self._socket.recv(_RECEIVE_BYTES)
        except (TimeoutError, BlockingIOError, InterruptedError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise self._broken(str(error)) from error
        if not received:
            raise self._broken("the server closed it")
        return received

    def _is_readable(self, timeout_s: float) -> bool:
        """False when nothing came in time, or we were woken; without a waker the socket itself waits."""
        if self._waker is None or self._selector is None:
            return True
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        ready = {key.fileobj for key, _ in self._selector.select(timeout_s)}
        if self._waker in ready:
            with contextlib.suppress(BlockingIOError):
                self._waker.recv(4096)
        return self._socket in ready

    def _broken(self, what: str) -> TransientError:
        return TransientError(f"the binlog connection broke: {what}", where=self._where)


def open_stream(
    connection: Mapping[str, Any],
    start: Start,
    facts: ServerFacts,
    *,
    source: str,
    server_id: int,
    heartbeat_s: float,
    verify_checksums: bool = True,
    until_end: bool = False,
    decoders: TableDecoders | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    settled: bool = True,
    semi_sync: bool = False,
) -> BinlogStream:
    """Asks the server for its binlog from `start` on.

    `connection` are PyMySQL's arguments. `server_id` must be unique among the server's replicas. With
    `until_end` the server ends the stream where its binlog ends. `decoders` may be kept over reconnections.
    `settled`: XA transactions come where they take effect; otherwise as they are logged. `semi_sync`: COMMITs
    may wait for our answers. **The server takes everything before `start` for acknowledged.**

    Raises:
        TransientError: the server can't be reached now.
        PositionLostError: it has no such position; SourceSettingError: it refuses us.
    """
    known = decoders or TableDecoders(facts.collations)
    reader = BinLogStreamReader(
        connection_settings=dict(connection),
        server_id=server_id,
        blocking=not until_end,
        resume_stream=True,
        slave_heartbeat=heartbeat_s,
        pymysql_wrapper=partial(
            _connect, tagged=_tagged_gtids(start, facts.flavor), semi_sync=semi_sync
        ),
        **_start_options(start, facts.flavor),
    )
    try:
        getattr(reader, _PRIVATE_CONNECT)()
    except pymysql.err.MySQLError as error:
        reader.close()
        raise error_of(error, source) from error

    def open_again(file_name: str, offset: int) -> BinlogStream:
        return open_stream(
            connection,
            StartAtFile(file_name, offset),
            facts,
            source=source,
            server_id=server_id ^ _LOOK_BACK_BIT,
            heartbeat_s=heartbeat_s,
            verify_checksums=verify_checksums,
            until_end=True,
            monotonic=monotonic,
            settled=False,
        )

    look_back = BinlogLookBack(source, open_again, partial(_file_names, connection, source))
    client: socket.socket = reader._stream_connection._sock
    return BinlogStream(
        client,
        EventParser(source, known, verify_checksums=verify_checksums, semi_sync=semi_sync),
        source=source,
        silence_s_max=heartbeat_s * _SILENT_HEARTBEATS_MAX,
        on_close=reader._stream_connection._force_close,
        monotonic=monotonic,
        held=HeldTransactions(look_back) if settled else None,
    )


class _DumpConnection(pymysql.Connection):
    """A connection that asks for the binlog after a GTID set with tags, which the library can't write."""

    tagged: MysqlGtids | None = None

    def _write_bytes(self, data: bytes) -> None:
        # The packet's header (4 bytes), the command, flags (2), server id, an empty file name, a position.
        if self.tagged is not None and data[4:5] == bytes((_COM_BINLOG_DUMP_GTID,)):
            encoded = encode_gtids(self.tagged)
            body = data[4:26] + len(encoded).to_bytes(4, "little") + encoded
            data = len(body).to_bytes(3, "little") + data[3:4] + body
        super()._write_bytes(data)  # type: ignore[misc]


def _connect(
    *, tagged: MysqlGtids | None = None, semi_sync: bool = False, **settings: Any
) -> pymysql.Connection[Any]:
    client = _DumpConnection(**settings)
    client.tagged = tagged
    with client.cursor() as cursor:
        # The library says so only while checksums are on now; older files may have them all the same.
        cursor.execute("SET @master_binlog_checksum = @@global.binlog_checksum")
        cursor.execute(f"SET SESSION net_write_timeout = {_WAIT_FOR_READER_S}")
        if semi_sync:
            cursor.execute(SESSION_STATEMENT)
    return client


def _tagged_gtids(start: Start, flavor: Flavor) -> MysqlGtids | None:
    """The set to start after, if it has tags."""
    if flavor != "mysql" or not isinstance(start, StartAfterGtids):
        return None
    gtids = MysqlGtids.parse(start.gtid_set)
    return gtids if gtids.has_tags else None


def _file_names(connection: Mapping[str, Any], source: str) -> list[str]:
    try:
        with pymysql.connect(**connection) as client, client.cursor() as cursor:
            cursor.execute("SHOW BINARY LOGS")
            return [str(row[0]) for row in cursor.fetchall()]
    except pymysql.err.MySQLError as error:
        raise error_of(error, source) from error


def _start_options(start: Start, flavor: Flavor) -> dict[str, object]:
    if isinstance(start, StartAtFile):
        # For MariaDB the library ignores file and offset unless it takes the server for MySQL.
        return {"log_file": start.file_name, "log_pos": start.offset, "is_mariadb": False}
    if flavor == "mariadb":
        return {"auto_position": start.gtid_set, "is_mariadb": True}
    gtids = "" if _tagged_gtids(start, flavor) else start.gtid_set
    return {"auto_position": gtids or _NOTHING_EXECUTED, "is_mariadb": False}


def error_of(error: pymysql.err.MySQLError, source: str) -> GravityError:
    """What PyMySQL's error means for the source."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[1]) if len(error.args) > 1 else str(error)
    return _by_code(code, message, f"source {source}")


def _by_code(code: int, message: str, where: str) -> GravityError:
    """The error that a server's error number stands for. Unknown numbers stop."""
    what = f"the server says ({code}) {message}"
    if code in _LOST:
        return _position_error(what, message, where)
    if code in _RETRIED:
        return TransientError(what, where=where)
    if code in _SETTINGS:
        return SourceSettingError(what, where=where, remedy=_SETTINGS[code])
    return FatalError(
        what, where=where, remedy="look the number up in the server's error reference"
    )


def _position_error(what: str, message: str, where: str) -> GravityError:
    # Number 1236 covers everything that ends a dump; only its text tells these apart.
    if "same server_uuid/server_id" in message or "same server_id" in message:
        return SourceSettingError(
            what, where=where, remedy="give each reader of the source a server-id of its own"
        )
    if "max_allowed_packet" in message:
        return SourceSettingError(
            what, where=where, remedy="SET GLOBAL max_allowed_packet=1073741824 at the source"
        )
    return PositionLostError(what, where=where, remedy=_POSITION_REMEDY)
