"""The bytes that a server sends after COM_BINLOG_DUMP, to typed events.

Pure: no socket. Network packets, binlog event headers and checksums are taken apart here; what can't be
read truthfully stops the source by name, with its position.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Final
from zlib import crc32

from gravity.batch import DELETE, INSERT, UPDATE
from gravity.errors import FatalError, GravityError, PositionLostError, SourceSettingError
from gravity_collector.decoder import TableDecoder, TableDecoders
from gravity_collector.event import (
    Begin,
    Commit,
    Event,
    FormatDescription,
    GtidList,
    Heartbeat,
    Query,
    Rollback,
    Rotate,
    Rows,
    Statement,
)
from gravity_collector.query import Meaning, is_begin, meaning, parse_query

_PACKET_HEADER_BYTES: Final = 4
_PACKET_BYTES_MAX: Final = 0xFFFFFF
_EVENT_HEADER_BYTES: Final = 19
# Packet length and number, status byte; then the event's header: time, type, server, size, end, flags.
_HEAD: Final = struct.Struct("<IBIBIIIH")
_EVENT_HEAD: Final = struct.Struct("<IBIIIH")
_HEAD_BYTES: Final = _HEAD.size
_OFFSET_MASK: Final = 0xFFFFFFFF
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_BYTES: Final = 4
_OK, _EOF, _ERROR = 0x00, 0xFE, 0xFF
_ARTIFICIAL, _IGNORABLE = 0x20, 0x80

_QUERY, _ROTATE, _FORMAT, _XID, _TABLE_MAP, _INCIDENT, _HEARTBEAT = 2, 4, 15, 16, 19, 26, 27
_ROWS_QUERY, _GTID, _ANONYMOUS_GTID, _HEARTBEAT_2 = 29, 33, 34, 41
_MARIADB_ANNOTATE, _MARIADB_GTID, _MARIADB_GTID_LIST = 160, 162, 163

# Nothing in them for a reader of rows: stop, user variables (a statement-format change that uses them halts by
# itself), previous GTIDs, group replication's contexts and views, MariaDB's checkpoints and encryption marks.
_SKIPPED: Final = frozenset((3, 5, 13, 14, 35, 36, 37, 161, 164))
_ROW_EVENTS: Final = {
    23: (INSERT, 8),
    24: (UPDATE, 8),
    25: (DELETE, 8),
    30: (INSERT, 10),
    31: (UPDATE, 10),
    32: (DELETE, 10),
}
# These can be made up by the server for one connection, and then stand nowhere in the file.
_RARE: Final = frozenset((_ROTATE, _FORMAT, _HEARTBEAT, _HEARTBEAT_2, _MARIADB_GTID_LIST))
_STATEMENT_REMEDY: Final = (
    "SET GLOBAL binlog_format=ROW, reconnect the writers, and snapshot the table again"
)
_UNREADABLE: Final = {
    6: ("LOAD DATA was logged as a statement", _STATEMENT_REMEDY),
    17: ("LOAD DATA was logged as a statement", _STATEMENT_REMEDY),
    18: ("LOAD DATA was logged as a statement", _STATEMENT_REMEDY),
    26: ("the source lost events (incident)", "snapshot its tables again"),
    38: (
        "an XA transaction was prepared",
        "end XA transactions in one phase, or exclude the source",
    ),
    39: ("a JSON column was updated in part", "SET GLOBAL binlog_row_value_options=''"),
    40: ("a transaction is compressed", "SET GLOBAL binlog_transaction_compression=OFF"),
    42: ("a GTID has a tag", "SET GTID_NEXT without a tag in the writers"),
    **dict.fromkeys(range(165, 172), ("an event is compressed", "SET GLOBAL log_bin_compress=OFF")),
}
_MARIADB_GTID_FORM: Final = struct.Struct("<QIB")
_MARIADB_STANDALONE, _MARIADB_PREPARED_XA, _MARIADB_COMPLETED_XA = 0x01, 0x40, 0x80
_DUMMY_TABLE: Final = b"\xff\xff\xff\x00\x00\x00"
_MICROSECONDS: Final = 1_000_000

_Handler = Callable[[bytes, int, int, int], None]
"""Takes an event's body, its time in seconds, its server's id and the offset it starts at."""


class UnreadableEventError(FatalError):
    """The binlog holds something that can't be read truthfully."""


class ServerMessageError(GravityError):
    """The server answered with an error packet."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"({code}) {message}")
        self.code = code
        self.message = message


class EventParser:
    """Cuts a server's bytes into events. One parser serves one connection.

    `source` names the source in errors. With `verify_checksums`, each event's CRC32 is checked.
    """

    def __init__(
        self, source: str, decoders: TableDecoders, *, verify_checksums: bool = True
    ) -> None:
        self.file_name = ""
        self.file_index = 0
        self.next_offset = 0
        """The byte after the last event, past 4 GiB too."""
        self.is_at_end = False
        """The server has said that it sends nothing more."""
        self._source = source
        self._decoders = decoders
        self._verify = verify_checksums
        self._checksum_bytes: int | None = None
        self._rest = b""
        self._chunks: list[bytes] = []
        self._wanted = 0
        self._long: list[bytes] = []
        self._failure: GravityError | None = None
        self._events: list[Event] = []
        self._tables: dict[bytes, TableDecoder] = {}
        self._server_names: dict[bytes, str] = {}
        self._is_open = False
        self._awaits_statement = False
        self._commit_us = 0
        self._handlers: dict[int, _Handler] = {
            _QUERY: self._on_query,
            _ROTATE: self._on_rotate,
            _FORMAT: self._on_format,
            _XID: self._on_commit,
            _TABLE_MAP: self._on_table_map,
            _HEARTBEAT: self._on_heartbeat,
            _HEARTBEAT_2: self._on_heartbeat,
            _ROWS_QUERY: self._on_rows_query,
            _GTID: self._on_gtid,
            _ANONYMOUS_GTID: self._on_anonymous,
            _MARIADB_ANNOTATE: self._on_annotate,
            _MARIADB_GTID: self._on_mariadb_gtid,
            _MARIADB_GTID_LIST: self._on_gtid_list,
            **{kind: self._rows_handler(op, header) for kind, (op, header) in _ROW_EVENTS.items()},
        }
        # Events of these types are cut in one go, as soon as the format is known.
        self._plain_handlers: dict[int, _Handler] = {}

    @property
    def has_failed(self) -> bool:
        """Whether the next call raises, whatever it is fed."""
        return self._failure is not None

    @property
    def is_in_transaction(self) -> bool:
        """Whether a Begin was given whose Commit or Rollback has not come yet."""
        return self._is_open or self._awaits_statement

    def feed(self, received: bytes) -> list[Event]:
        """The events that `received` completes; what is incomplete waits for the next call.

        An error waits for the next call too if there are events before it.

        Raises:
            UnreadableEventError: something that can't be read truthfully.
            ServerMessageError: the server sent an error packet.
            SourceSettingError: GTIDs or row metadata are switched off.
        """
        if self._failure is not None:
            raise self._failure
        data = self._gathered(received)
        self._events = []
        if data is None:
            return self._events
        try:
            at = self._split(data)
        except GravityError as error:
            self._failure = error
        except (struct.error, IndexError, KeyError, ValueError, TypeError) as error:
            self._failure = self._unreadable(f"an event is damaged: {type(error).__name__} {error}")
            self._failure.__cause__ = error
        if self._failure is not None:
            if self._events:
                return self._events
            raise self._failure
        self._rest = data[at:]
        missing = self._packet_bytes(self._rest) - len(self._rest)
        if missing > len(received):
            # A long packet: gathered in pieces, or each arriving piece would copy all before it.
            self._chunks, self._wanted, self._rest = [self._rest], missing, b""
        return self._events

    def _gathered(self, received: bytes) -> bytes | None:
        """All bytes not yet parsed; None while a long packet is not complete."""
        if not self._chunks:
            return self._rest + received if self._rest else received
        self._chunks.append(received)
        self._wanted -= len(received)
        if self._wanted > 0:
            return None
        data = b"".join(self._chunks)
        self._chunks = []
        return data

    @staticmethod
    def _packet_bytes(data: bytes) -> int:
        if len(data) < _PACKET_HEADER_BYTES:
            return _PACKET_HEADER_BYTES
        return _PACKET_HEADER_BYTES + int.from_bytes(data[:3], "little")

    def _split(self, data: bytes) -> int:
        """Handles all whole packets in `data`; gives where the first incomplete one starts."""
        view, at, end = memoryview(data), 0, len(data)
        unpack, checksum_at, plain = (
            _HEAD.unpack_from,
            _CHECKSUM.unpack_from,
            self._plain_handlers.get,
        )
        checksum_bytes, offset = self._checksum_bytes or 0, self.next_offset
        verify, is_long = self._verify and checksum_bytes, bool(self._long)
        while end - at >= _HEAD_BYTES:
            packet, status, seconds, kind, server_id, size, log_pos, _ = unpack(data, at)
            stop = at + _PACKET_HEADER_BYTES + (packet & _PACKET_BYTES_MAX)
            if stop > end:
                return at
            handler = plain(kind)
            if handler is None or status or stop - size - 5 != at or is_long:
                self._on_packet(data[at + _PACKET_HEADER_BYTES : stop])
                plain, checksum_bytes = self._plain_handlers.get, self._checksum_bytes or 0
                offset, verify, is_long = (
                    self.next_offset,
                    self._verify and checksum_bytes,
                    bool(self._long),
                )
                at = stop
                continue
            body_end = stop - checksum_bytes
            if verify and crc32(view[at + 5 : body_end]) != checksum_at(data, body_end)[0]:
                raise self._wrong_checksum()
            start, offset = offset, offset + size
            if offset & _OFFSET_MASK != log_pos:
                self._advance(log_pos, size)
                offset = self.next_offset
                start = offset - size
            self.next_offset = offset
            handler(data[at + _HEAD_BYTES : body_end], seconds, server_id, start)
            at = stop
        if end - at >= _PACKET_HEADER_BYTES:
            stop = at + self._packet_bytes(data[at : at + _PACKET_HEADER_BYTES])
            if stop <= end:  # A packet too short for an event: an error or the end.
                self._on_packet(data[at + _PACKET_HEADER_BYTES : stop])
                return stop + self._split(data[stop:])
        return at

    def _on_packet(self, payload: bytes) -> None:
        """Any packet, with all that can be unusual about it."""
        if len(payload) == _PACKET_BYTES_MAX:
            self._long.append(payload)
            return
        if self._long:
            self._long.append(payload)
            payload = b"".join(self._long)
            self._long = []
        elif not payload:
            return  # Follows a packet that is exactly as long as packets can be.
        status = payload[0]
        if status == _ERROR:
            code = int.from_bytes(payload[1:3], "little")
            raise ServerMessageError(
                code, payload[3:].decode(errors="replace").partition("#")[2][5:]
            )
        if status == _EOF and len(payload) < 9:  # noqa: PLR2004 - longer ones are data in the MySQL protocol
            self.is_at_end = True
            return
        if status != _OK or len(payload) < 1 + _EVENT_HEADER_BYTES:
            raise self._unreadable(f"the server sent a packet that starts with {payload[:8].hex()}")
        self._on_event(payload[1:])

    def _on_event(self, event: bytes) -> None:
        seconds, kind, server_id, size, log_pos, flags = _EVENT_HEAD.unpack_from(event)
        if size != len(event):
            raise self._unreadable(
                f"an event of type {kind} says {size} bytes and has {len(event)}"
            )
        if self._checksum_bytes is None and kind == _ROTATE:
            # The made-up ROTATE comes before the format is known. Its own checksum tells whether there is one.
            has = crc32(event[:-_CHECKSUM_BYTES]) == int.from_bytes(
                event[-_CHECKSUM_BYTES:], "little"
            )
            checksum_bytes = _CHECKSUM_BYTES if has else 0
        elif kind == _FORMAT:
            checksum_bytes = _CHECKSUM_BYTES
        else:
            checksum_bytes = self._checksum_bytes or 0
        # A format event always has room for a checksum; the byte before tells whether it is filled in.
        is_summed = checksum_bytes and (kind != _FORMAT or event[-1 - _CHECKSUM_BYTES])
        if is_summed and self._verify:
            written = int.from_bytes(event[-_CHECKSUM_BYTES:], "little")
            if crc32(memoryview(event)[:-_CHECKSUM_BYTES]) != written:
                raise self._wrong_checksum()
        if not flags & _ARTIFICIAL:
            self._advance(log_pos, size)
        handler = self._handlers.get(kind)
        if handler is not None:
            body = event[_EVENT_HEADER_BYTES : len(event) - checksum_bytes]
            handler(body, seconds, server_id, self.next_offset - size)
        elif kind in _UNREADABLE:
            what, remedy = _UNREADABLE[kind]
            raise self._unreadable(what, remedy)
        elif kind not in _SKIPPED and not flags & _IGNORABLE:
            raise self._unreadable(
                f"an event has type {kind}, which this version of gravity does not know"
            )

    def _wrong_checksum(self) -> UnreadableEventError:
        return self._unreadable(
            "an event's checksum is wrong", "check the source's disk and network"
        )

    def _advance(self, log_pos: int, size: int) -> None:
        """Moves on to the end of an event, which the header tells modulo 4 GiB; 0 = it has none."""
        expected = self.next_offset + size
        if expected & _OFFSET_MASK == log_pos:
            self.next_offset = expected
            return
        if not log_pos:
            return
        # Transactions that our GTIDs cover were left out.
        offset = (self.next_offset & ~_OFFSET_MASK) | log_pos
        self.next_offset = offset if offset >= self.next_offset else offset + (1 << 32)

    def _unreadable(self, what: str, remedy: str = "") -> UnreadableEventError:
        return UnreadableEventError(
            what,
            where=f"source {self._source}, near {self.file_name}:{self.next_offset}",
            remedy=remedy
            or "check the binlog with mysqlbinlog; else snapshot the source's tables again",
        )

    def _on_rotate(self, body: bytes, seconds: int, *_: int) -> None:
        if self.is_in_transaction:
            self._is_open = self._awaits_statement = False
            self._events.append(Rollback(self.file_index, self.next_offset))
        self.next_offset = int.from_bytes(body[:8], "little")
        self.file_name = body[8:].decode()
        self.file_index = file_index_of(self.file_name)
        self._tables.clear()
        # Made up by the server, it has no time; one that stands in the file has.
        self._events.append(
            Rotate(self.file_name, self.file_index, self.next_offset, artificial=not seconds)
        )

    def _on_format(self, body: bytes, *_: int) -> None:
        version = body[2:52].partition(b"\0")[0].decode(errors="replace")
        algorithm = body[-1]
        if algorithm > 1:
            raise self._unreadable(f"the binlog's checksum algorithm {algorithm} is not known")
        self._checksum_bytes = _CHECKSUM_BYTES if algorithm else 0
        self._plain_handlers = {
            kind: handle for kind, handle in self._handlers.items() if kind not in _RARE
        }
        self._tables.clear()
        self._decoders.read_from(version)
        self._events.append(FormatDescription(version, has_checksums=bool(algorithm)))

    def _on_heartbeat(self, *_: object) -> None:
        self._events.append(Heartbeat(self.file_index, self.next_offset))

    def _on_gtid(self, body: bytes, _seconds: int, _server_id: int, offset: int) -> None:
        server = body[1:17]
        name = self._server_names.get(server)
        if name is None:
            name = self._server_names[server] = str(uuid.UUID(bytes=server))
        gtid = f"{name}:{int.from_bytes(body[17:25], 'little')}"
        self._commit_us = 0
        if len(body) >= 49:  # noqa: PLR2004 - logical clock (17) and a commit time (7) after the 25 bytes above
            times = int.from_bytes(body[42:49], "little")
            # The highest bit says that the time of the original commit, at another server, follows.
            self._commit_us = int.from_bytes(body[49:56], "little") if times >> 55 else times
        self._begin(gtid, offset)
        self._awaits_statement = True

    def _on_anonymous(self, *_: object) -> None:
        raise SourceSettingError(
            "the binlog holds transactions without GTID",
            where=f"source {self._source}, near {self.file_name}:{self.next_offset}",
            remedy="SET GLOBAL gtid_mode=ON step by step, then start from a position after that",
        )

    def _on_mariadb_gtid(self, body: bytes, _seconds: int, server_id: int, offset: int) -> None:
        number, domain, flags = _MARIADB_GTID_FORM.unpack_from(body)
        if flags & (_MARIADB_PREPARED_XA | _MARIADB_COMPLETED_XA):
            raise self._unreadable(*_UNREADABLE[38])
        self._commit_us = 0
        self._begin(f"{domain}-{server_id}-{number}", offset)
        if flags & _MARIADB_STANDALONE:
            self._awaits_statement = True
        else:
            self._is_open = True

    def _begin(self, gtid: str, offset: int) -> None:
        if self._is_open or self._awaits_statement:
            raise self._unreadable(f"transaction {gtid} starts inside another one")
        self._events.append(Begin(gtid, self.file_index, offset))

    def _on_gtid_list(self, body: bytes, *_: int) -> None:
        count = int.from_bytes(body[:4], "little") & 0x0FFFFFFF
        parts = (struct.unpack_from("<IIQ", body, 4 + 16 * i) for i in range(count))
        self._events.append(
            GtidList(tuple(f"{domain}-{server}-{number}" for domain, server, number in parts))
        )

    def _on_table_map(self, body: bytes, *_: int) -> None:
        try:
            self._tables[body[:6]] = self._decoders.of(body)
        except GravityError as error:
            error.where = (
                f"source {self._source}, {error.where}, near {self.file_name}:{self.next_offset}"
            )
            raise

    def _rows_handler(self, op: int, header_bytes: int) -> _Handler:
        def on_rows(body: bytes, *_: int) -> None:
            table = self._tables.get(body[:6])
            if table is None:
                if body[:6] == _DUMMY_TABLE:
                    return
                raise self._unreadable("rows come without the table they belong to")
            if not self._is_open:
                raise self._unreadable("rows come outside a transaction")
            # Version 2 headers end with the length of extra data, which counts its own two bytes.
            at = header_bytes if header_bytes == 8 else 8 + (body[8] | body[9] << 8)  # noqa: PLR2004
            self._events.append(Rows(table, op, body, at))

        return on_rows

    def _on_commit(self, _body: bytes, seconds: int, *_: int) -> None:
        if not (self._is_open or self._awaits_statement):
            raise self._unreadable("a commit comes outside a transaction")
        self._is_open = self._awaits_statement = False
        self._events.append(
            Commit(self.file_index, self.next_offset, self._commit_us or seconds * _MICROSECONDS)
        )

    def _on_query(self, body: bytes, seconds: int, *_: int) -> None:
        if is_begin(body):
            self._is_open, self._awaits_statement = True, False
            return
        statement = parse_query(body)
        means = meaning(statement.sql)
        if means is Meaning.BEGIN:
            self._is_open, self._awaits_statement = True, False
        elif means is Meaning.COMMIT and self._is_open:
            self._on_commit(body, seconds)
        elif means is Meaning.ROLLBACK and self._is_open:
            self._is_open = False
            self._events.append(Rollback(self.file_index, self.next_offset))
        elif means is Meaning.ROW_CHANGE:
            raise self._unreadable(
                f"a change of rows was logged as a statement: {statement.sql[:200]!r}",
                _STATEMENT_REMEDY,
            )
        elif means is Meaning.ROLLBACK_TO_SAVEPOINT:
            raise self._unreadable(
                "a rollback to a savepoint was logged: a transaction mixed transactional and other tables",
                "do not mix engines in one transaction; snapshot its tables again",
            )
        elif means is Meaning.XA:
            raise self._unreadable(*_UNREADABLE[38])
        elif means is not Meaning.SAVEPOINT:
            if not self.is_in_transaction:
                raise self._unreadable("a statement comes outside a transaction")
            self._events.append(Query(statement.database, statement.sql, statement.sql_mode))
            if self._awaits_statement:
                self._on_commit(body, seconds)

    def _on_rows_query(self, body: bytes, *_: int) -> None:
        self._events.append(Statement(body[1:].decode(errors="backslashreplace")))

    def _on_annotate(self, body: bytes, *_: int) -> None:
        self._events.append(Statement(body.decode(errors="backslashreplace")))


def file_index_of(file_name: str) -> int:
    """The number of a binlog file: `binlog.1000000` is the millionth, after `binlog.999999`.

    Raises:
        PositionLostError: the name has no number.
    """
    number = file_name.rpartition(".")[2]
    if not number.isdecimal():
        raise PositionLostError(
            f"binlog file name {file_name!r} has no number", remedy="check log_bin at the source"
        )
    return int(number)
