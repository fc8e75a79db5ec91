"""The bodies of binlog events, to typed events: what each says, and whether it may come here.

Pure: no socket. What can't be read truthfully stops the source by name, with its position.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from gravity.batch import DELETE, INSERT, UPDATE
from gravity.errors import FatalError, GravityError, SourceSettingError
from gravity_collector.compressed import (
    CompressedError,
    InnerEvent,
    payload_events,
    uncompressed_query,
    uncompressed_rows,
)
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
    XaCommit,
    XaPrepare,
    XaRollback,
    XaStart,
)
from gravity_collector.file_name import file_index_of
from gravity_collector.gtid_event import (
    parse_gtid,
    parse_mariadb_gtid,
    parse_tagged_gtid,
    parse_xa_prepare,
)
from gravity_collector.query import Meaning, is_begin, meaning, parse_query, parse_xa

QUERY, ROTATE, FORMAT, XID, TABLE_MAP, HEARTBEAT = 2, 4, 15, 16, 19, 27
ROWS_QUERY, GTID, ANONYMOUS_GTID, XA_PREPARE, PAYLOAD, HEARTBEAT_2, TAGGED_GTID = (
    29, 33, 34, 38, 40, 41, 42,
)  # fmt: skip
MARIADB_ANNOTATE, MARIADB_GTID, MARIADB_GTID_LIST, MARIADB_QUERY_COMPRESSED = 160, 162, 163, 165

SKIPPED: Final = frozenset((3, 5, 13, 14, 35, 36, 37, 161, 164))
"""Nothing in them for a reader of rows: stop, user variables (a statement-format change that uses them halts by
itself), previous GTIDs, group replication's contexts and views, MariaDB's checkpoints and encryption marks."""
_ROW_EVENTS: Final = {
    23: (INSERT, 8),
    24: (UPDATE, 8),
    25: (DELETE, 8),
    30: (INSERT, 10),
    31: (UPDATE, 10),
    32: (DELETE, 10),
}
_COMPRESSED_ROW_EVENTS: Final = {
    166: (INSERT, 8),
    167: (UPDATE, 8),
    168: (DELETE, 8),
    169: (INSERT, 10),
    170: (UPDATE, 10),
    171: (DELETE, 10),
}
_INNER: Final = frozenset((QUERY, XID, TABLE_MAP, ROWS_QUERY, XA_PREPARE, *_ROW_EVENTS))
"""What a compressed transaction may hold."""
_STATEMENT_REMEDY: Final = (
    "SET GLOBAL binlog_format=ROW, reconnect the writers, and snapshot the table again"
)
UNREADABLE: Final = {
    6: ("LOAD DATA was logged as a statement", _STATEMENT_REMEDY),
    17: ("LOAD DATA was logged as a statement", _STATEMENT_REMEDY),
    18: ("LOAD DATA was logged as a statement", _STATEMENT_REMEDY),
    26: ("the source lost events (incident)", "snapshot its tables again"),
    39: (
        "a JSON column was updated in part",
        "SET GLOBAL binlog_row_value_options='', reconnect the writers, and snapshot the table again",
    ),
}
_SHORT_HEADER_BYTES: Final = 8
_DUMMY_TABLE: Final = b"\xff\xff\xff\x00\x00\x00"
_MICROSECONDS: Final = 1_000_000
_COMPRESSED_REMEDY: Final = (
    "SET GLOBAL binlog_transaction_compression=OFF (MariaDB: log_bin_compress=OFF), reconnect the writers,"
    " and snapshot the source's tables again"
)

Handler = Callable[[bytes, int, int, int], None]
"""Takes an event's body, its time in seconds, its server's id and the offset it starts at."""


class UnreadableEventError(FatalError):
    """The binlog holds something that can't be read truthfully."""


class EventReader:
    """Reads events' bodies in order, each by the one of `handlers` for its type.

    What they say is appended to `events`. Whoever cuts the bytes keeps `next_offset`.
    """

    def __init__(self, source: str, decoders: TableDecoders) -> None:
        self.file_name = ""
        self.file_index = 0
        self.next_offset = 0
        """The byte after the last event, past 4 GiB too."""
        self.checksum_bytes: int | None = None
        """None until the file's format is known."""
        self.events: list[Event] = []
        self.has_xa = False
        """Whether an event about an XA transaction has been read since this was last unset."""
        self.inner: Iterator[InnerEvent] | None = None
        """What is left of a compressed transaction: `read_inner` must be called until it is None."""
        self._source = source
        self._decoders = decoders
        self._tables: dict[bytes, TableDecoder] = {}
        self._is_open = False
        self._awaits_statement = False
        self._xid = ""
        self.handlers: dict[int, Handler] = {
            QUERY: self._on_query,
            ROTATE: self._on_rotate,
            FORMAT: self._on_format,
            XID: self._on_commit,
            TABLE_MAP: self._on_table_map,
            HEARTBEAT: self._on_heartbeat,
            HEARTBEAT_2: self._on_heartbeat,
            ROWS_QUERY: self._on_rows_query,
            GTID: self._on_gtid,
            TAGGED_GTID: self._on_tagged_gtid,
            ANONYMOUS_GTID: self._on_anonymous,
            XA_PREPARE: self._on_xa_prepare,
            PAYLOAD: self._on_payload,
            MARIADB_ANNOTATE: self._on_annotate,
            MARIADB_GTID: self._on_mariadb_gtid,
            MARIADB_GTID_LIST: self._on_gtid_list,
            MARIADB_QUERY_COMPRESSED: self._on_compressed_query,
            **{kind: self._rows_handler(op, header) for kind, (op, header) in _ROW_EVENTS.items()},
            **{
                kind: self._compressed_rows_handler(op, self._rows_handler(op, header), header)
                for kind, (op, header) in _COMPRESSED_ROW_EVENTS.items()
            },
        }

    @property
    def is_in_transaction(self) -> bool:
        """Whether a Begin was given whose Commit or Rollback has not come yet."""
        return self._is_open or self._awaits_statement

    @property
    def where(self) -> str:
        """The place, for errors."""
        return f"source {self._source}, near {self.file_name}:{self.next_offset}"

    def unreadable(self, what: str, remedy: str = "") -> UnreadableEventError:
        """The error for what can't be read here."""
        return UnreadableEventError(
            what,
            where=self.where,
            remedy=remedy
            or "check the binlog with mysqlbinlog; else snapshot the source's tables again",
        )

    def read_inner(self, bytes_max: int) -> None:
        """Reads on in the compressed transaction until about `bytes_max` uncompressed bytes have passed."""
        assert self.inner is not None
        passed = 0
        try:
            for event in self.inner:
                if event.kind not in _INNER:
                    if event.kind in UNREADABLE:
                        raise self.unreadable(*UNREADABLE[event.kind])
                    raise self.unreadable(
                        f"a compressed transaction holds an event of type {event.kind}"
                    )
                self.handlers[event.kind](
                    event.body, event.seconds, event.server_id, self.next_offset
                )
                passed += event.size
                if passed >= bytes_max:
                    return
        except CompressedError as error:
            raise self.unreadable(str(error), _COMPRESSED_REMEDY) from error
        self.inner = None

    def _on_payload(self, body: bytes, *_: int) -> None:
        if not self._awaits_statement:
            raise self.unreadable("a compressed transaction comes without its GTID")
        self.inner = payload_events(body)

    def _on_rotate(self, body: bytes, seconds: int, *_: int) -> None:
        if self.is_in_transaction:
            self._is_open = self._awaits_statement = False
            self._xid = ""
            self.events.append(Rollback(self.file_index, self.next_offset))
        self.next_offset = int.from_bytes(body[:8], "little")
        self.file_name = body[8:].decode()
        self.file_index = file_index_of(self.file_name)
        self._tables.clear()
        # Made up by the server, it has no time; one that stands in the file has.
        self.events.append(
            Rotate(self.file_name, self.file_index, self.next_offset, artificial=not seconds)
        )

    def _on_format(self, body: bytes, *_: int) -> None:
        version = body[2:52].partition(b"\0")[0].decode(errors="replace")
        algorithm = body[-1]
        if algorithm > 1:
            raise self.unreadable(f"the binlog's checksum algorithm {algorithm} is not known")
        self.checksum_bytes = 4 if algorithm else 0
        self._tables.clear()
        self._decoders.read_from(version)
        self.events.append(FormatDescription(version, has_checksums=bool(algorithm)))

    def _on_heartbeat(self, *_: object) -> None:
        self.events.append(Heartbeat(self.file_index, self.next_offset))

    def _on_gtid(self, body: bytes, seconds: int, _server_id: int, offset: int) -> None:
        self._begin(*parse_gtid(body), seconds, offset)
        self._awaits_statement = True

    def _on_tagged_gtid(self, body: bytes, seconds: int, _server_id: int, offset: int) -> None:
        self._begin(*parse_tagged_gtid(body), seconds, offset)
        self._awaits_statement = True

    def _on_anonymous(self, *_: object) -> None:
        raise SourceSettingError(
            "the binlog holds transactions without GTID",
            where=self.where,
            remedy="SET GLOBAL gtid_mode=ON step by step, then start from a position after that",
        )

    def _on_mariadb_gtid(self, body: bytes, seconds: int, server_id: int, offset: int) -> None:
        begin = parse_mariadb_gtid(body, server_id)
        self._begin(begin.gtid, 0, seconds, offset)
        if begin.is_standalone:
            self._awaits_statement = True
        else:
            self._is_open = True
            if begin.prepared_xid:
                self._start_xa(begin.prepared_xid)

    def _begin(self, gtid: str, commit_us: int, seconds: int, offset: int) -> None:
        if self._is_open or self._awaits_statement:
            raise self.unreadable(f"transaction {gtid} starts inside another one")
        commit_us = commit_us or seconds * _MICROSECONDS
        self.events.append(Begin(gtid, self.file_index, offset, commit_us))

    def _start_xa(self, xid: str) -> None:
        self._xid = xid
        self.has_xa = True
        self.events.append(XaStart(xid))

    def _on_gtid_list(self, body: bytes, *_: int) -> None:
        count = int.from_bytes(body[:4], "little") & 0x0FFFFFFF
        parts = (struct.unpack_from("<IIQ", body, 4 + 16 * i) for i in range(count))
        self.events.append(
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

    def _rows_handler(self, op: int, header_bytes: int) -> Handler:
        def on_rows(body: bytes, *_: int) -> None:
            table = self._tables.get(body[:6])
            if table is None:
                if body[:6] == _DUMMY_TABLE:
                    return
                raise self.unreadable("rows come without the table they belong to")
            if not self._is_open:
                raise self.unreadable("rows come outside a transaction")
            self.events.append(Rows(table, op, body, _rows_at(body, header_bytes)))

        return on_rows

    def _compressed_rows_handler(self, op: int, handle: Handler, header_bytes: int) -> Handler:
        images = 2 if op == UPDATE else 1

        def on_rows(body: bytes, seconds: int, server_id: int, offset: int) -> None:
            try:
                plain = uncompressed_rows(body, _rows_at(body, header_bytes), images)
            except CompressedError as error:
                raise self.unreadable(str(error), _COMPRESSED_REMEDY) from error
            handle(plain, seconds, server_id, offset)

        return on_rows

    def _on_commit(self, *_: object) -> None:
        if not (self._is_open or self._awaits_statement):
            raise self.unreadable("a commit comes outside a transaction")
        self._is_open = self._awaits_statement = False
        self._xid = ""
        self.events.append(Commit(self.file_index, self.next_offset))

    def _on_query(self, body: bytes, *_: int) -> None:
        if is_begin(body):
            self._is_open, self._awaits_statement = True, False
            return
        statement = parse_query(body)
        means = meaning(statement.sql)
        if means is Meaning.BEGIN:
            self._is_open, self._awaits_statement = True, False
        elif means is Meaning.COMMIT and self._is_open:
            self._on_commit()
        elif means is Meaning.ROLLBACK and self._is_open:
            self._is_open = False
            self._xid = ""
            self.events.append(Rollback(self.file_index, self.next_offset))
        elif means is Meaning.ROW_CHANGE:
            raise self.unreadable(
                f"a change of rows was logged as a statement: {statement.sql[:200]!r}",
                _STATEMENT_REMEDY,
            )
        elif means is Meaning.ROLLBACK_TO_SAVEPOINT:
            raise self.unreadable(
                "a rollback to a savepoint was logged: a transaction mixed transactional and other tables",
                "do not mix engines in one transaction; snapshot its tables again",
            )
        elif means is Meaning.XA:
            self._on_xa(statement.sql)
        elif means is not Meaning.SAVEPOINT:
            if not self.is_in_transaction:
                raise self.unreadable("a statement comes outside a transaction")
            self.events.append(Query(statement.database, statement.sql, statement.sql_mode))
            if self._awaits_statement:
                self._on_commit()

    def _on_compressed_query(self, body: bytes, *_: int) -> None:
        try:
            plain = uncompressed_query(body)
        except CompressedError as error:
            raise self.unreadable(str(error), _COMPRESSED_REMEDY) from error
        self._on_query(plain)

    def _on_xa(self, sql: str) -> None:
        step, xid = parse_xa(sql)
        if step == "START" and self._awaits_statement:
            self._is_open, self._awaits_statement = True, False
            self._start_xa(xid)
        elif step == "END" and self._is_open and xid == self._xid:
            return  # XA_PREPARE follows.
        elif step in ("COMMIT", "ROLLBACK") and self._awaits_statement:
            self._awaits_statement = False
            self.has_xa = True
            ended = XaCommit if step == "COMMIT" else XaRollback
            self.events.append(ended(xid, self.file_index, self.next_offset))
        else:
            raise self.unreadable(f"an XA statement comes where none can be: {sql[:200]!r}")

    def _on_xa_prepare(self, body: bytes, *_: int) -> None:
        xid, in_one_phase = parse_xa_prepare(body)
        if not self._is_open or xid != self._xid:
            raise self.unreadable(f"XA transaction {xid} is prepared without its start")
        if in_one_phase:
            self._on_commit()
            return
        self._is_open = False
        self._xid = ""
        self.events.append(XaPrepare(xid, self.file_index, self.next_offset))

    def _on_rows_query(self, body: bytes, *_: int) -> None:
        self.events.append(Statement(body[1:].decode(errors="backslashreplace")))

    def _on_annotate(self, body: bytes, *_: int) -> None:
        self.events.append(Statement(body.decode(errors="backslashreplace")))


def _rows_at(body: bytes, header_bytes: int) -> int:
    """Where the number of columns stands: version 2 headers end with extra data, whose length counts itself."""
    return header_bytes if header_bytes == _SHORT_HEADER_BYTES else 8 + (body[8] | body[9] << 8)
