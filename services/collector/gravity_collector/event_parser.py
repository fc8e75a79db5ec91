"""The bytes that a server sends after COM_BINLOG_DUMP, to typed events.

Pure: no socket. Network packets, binlog event headers and checksums are taken apart here; event_reader.py
reads what is in the events.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from gravity.errors import GravityError
from gravity_collector.decoder import TableDecoders
from gravity_collector.event import AckAsked, Event
from gravity_collector.event_reader import (
    FORMAT,
    HEARTBEAT,
    HEARTBEAT_2,
    MARIADB_GTID_LIST,
    PAYLOAD,
    ROTATE,
    SKIPPED,
    UNREADABLE,
    EventReader,
    Handler,
    UnreadableEventError,
)
from gravity_collector.semi_sync import IS_ASKED, LEAD_BYTES, MAGIC

__all__ = ["EventParser", "ServerMessageError", "UnreadableEventError"]

PIECE_BYTES: Final = 4 << 20
"""About how much of a large compressed transaction is given by one call."""

_PACKET_HEADER_BYTES: Final = 4
_PACKET_BYTES_MAX: Final = 0xFFFFFF
_EVENT_HEADER_BYTES: Final = 19
# Packet length and number, status byte; then the event's header: time, type, server, size, end, flags.
_HEAD: Final = struct.Struct("<IBIBIIIH")
_EVENT_HEAD: Final = struct.Struct("<IBIIIH")
_HEAD_BYTES: Final = _HEAD.size
_PACKET_LENGTH: Final = struct.Struct("<I")
_OFFSET_MASK: Final = 0xFFFFFFFF
_CHECKSUM: Final = struct.Struct("<I")
_CHECKSUM_BYTES: Final = 4
_OK, _EOF, _ERROR = 0x00, 0xFE, 0xFF
_ARTIFICIAL, _IGNORABLE = 0x20, 0x80

# These can be made up by the server for one connection, and then stand nowhere in the file.
_MADE_UP: Final = frozenset((ROTATE, FORMAT, HEARTBEAT, HEARTBEAT_2, MARIADB_GTID_LIST))
# A compressed transaction is given in pieces.
_RARE: Final = _MADE_UP | {PAYLOAD}
_DAMAGED: Final = (struct.error, IndexError, KeyError, ValueError, TypeError, OverflowError)


class ServerMessageError(GravityError):
    """The server answered with an error packet."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"({code}) {message}")
        self.code = code
        self.message = message


class EventParser:
    """Cuts a server's bytes into events. One parser serves one connection.

    `source` names the source in errors. With `verify_checksums`, each event's CRC32 is checked.
    `piece_bytes` bounds what one call gives of a compressed transaction. With `semi_sync` the connection asked
    for it: an AckAsked follows each transaction whose COMMIT waits.
    """

    def __init__(
        self,
        source: str,
        decoders: TableDecoders,
        *,
        verify_checksums: bool = True,
        piece_bytes: int = PIECE_BYTES,
        semi_sync: bool = False,
    ) -> None:
        self.is_at_end = False
        """The server has said that it sends nothing more."""
        self._reader = EventReader(source, decoders)
        self._verify = verify_checksums
        self._piece_bytes = piece_bytes
        self._rest = b""
        self._chunks: list[bytes] = []
        self._wanted = 0
        self._long: list[bytes] = []
        self._long_left = 0
        self._failure: GravityError | None = None
        # Events of these types are cut in one go, as soon as the format is known.
        self._plain_handlers: dict[int, Handler] = {}
        self.is_semi_sync: bool | None = None if semi_sync else False
        """Whether the server speaks semi-synchronously with us; None: the first event will tell."""
        self._lead = 0
        """Bytes between a packet's status and its event."""
        self._asked: AckAsked | None = None
        """Told behind the compressed transaction that is being given."""

    @property
    def file_name(self) -> str:
        """The file that is being read."""
        return self._reader.file_name

    @property
    def file_index(self) -> int:
        """Its number."""
        return self._reader.file_index

    @property
    def next_offset(self) -> int:
        """The byte after the last event, past 4 GiB too."""
        return self._reader.next_offset

    @property
    def has_failed(self) -> bool:
        """Whether the next call raises, whatever it is fed."""
        return self._failure is not None

    @property
    def has_more(self) -> bool:
        """Whether the next call gives more of a compressed transaction, even if it is fed nothing."""
        return self._reader.inner is not None and self._failure is None

    @property
    def has_xa(self) -> bool:
        """Whether the last call gave events about XA transactions."""
        return self._reader.has_xa

    @property
    def is_in_transaction(self) -> bool:
        """Whether a Begin was given whose Commit or Rollback has not come yet."""
        return self._reader.is_in_transaction

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
        reader = self._reader
        reader.events, reader.has_xa = [], False
        data: bytes | None = None
        at = 0
        try:
            if reader.inner is not None:
                reader.read_inner(self._piece_bytes)
            if reader.inner is not None:
                self._rest += received
                return reader.events
            self._tell_asked()
            data = self._gathered(received)
            if data is None:
                return reader.events
            at = self._split(data)
        except GravityError as error:
            self._failure = error
        except _DAMAGED as error:
            self._failure = reader.unreadable(
                f"an event is damaged: {type(error).__name__} {error}"
            )
            self._failure.__cause__ = error
        if self._failure is not None:
            if reader.events:
                return reader.events
            raise self._failure
        self._keep(data or b"", at, len(received))
        return reader.events

    def _keep(self, data: bytes, at: int, received_bytes: int) -> None:
        self._rest = data[at:]
        if self._reader.inner is not None:
            return
        missing = self._packet_bytes(self._rest) - len(self._rest)
        if missing > received_bytes:
            # A long packet: gathered in pieces, or each arriving piece would copy all before it.
            self._chunks, self._wanted, self._rest = [self._rest], missing, b""

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
        """Handles all whole packets in `data`; gives where the first incomplete one starts.

        It stops early at a compressed transaction that is given in several pieces.
        """
        view, at, end = memoryview(data), 0, len(data)
        stop: int
        unpack, checksum_at, plain = (
            _HEAD.unpack_from,
            _CHECKSUM.unpack_from,
            self._plain_handlers.get,
        )
        reader = self._reader
        checksum_bytes, offset = reader.checksum_bytes or 0, reader.next_offset
        verify, is_long = self._verify and checksum_bytes, bool(self._long)
        lead = self._lead
        while end - at >= _HEAD_BYTES + lead:
            # With a lead the status is the flag, and what comes before it is looked at apart.
            packet, status, seconds, kind, server_id, size, log_pos, _ = unpack(data, at + lead)
            if lead:
                packet = _PACKET_LENGTH.unpack_from(data, at)[0]
                status = status or data[at + 4] or data[at + 5] != MAGIC
            stop = at + _PACKET_HEADER_BYTES + (packet & _PACKET_BYTES_MAX)
            if stop > end:
                return at
            handler = plain(kind)
            if handler is None or status or stop - size - 5 - lead != at or is_long:
                self._on_packet(data[at + _PACKET_HEADER_BYTES : stop])
                if reader.inner is not None:
                    reader.read_inner(self._piece_bytes)
                    if reader.inner is not None:
                        return stop
                    self._tell_asked()
                lead = self._lead
                plain, checksum_bytes = self._plain_handlers.get, reader.checksum_bytes or 0
                offset, verify, is_long = (
                    reader.next_offset,
                    self._verify and checksum_bytes,
                    bool(self._long),
                )
                at = stop
                continue
            body_end = stop - checksum_bytes
            if verify and crc32(view[at + 5 + lead : body_end]) != checksum_at(data, body_end)[0]:
                raise self._wrong_checksum()
            start, offset = offset, offset + size
            if offset & _OFFSET_MASK != log_pos and log_pos:
                self._advance(log_pos, size)
                offset = reader.next_offset
                start = offset - size
            reader.next_offset = offset
            handler(data[at + _HEAD_BYTES + lead : body_end], seconds, server_id, start)
            at = stop
        if end - at >= _PACKET_HEADER_BYTES:
            stop = at + self._packet_bytes(data[at : at + _PACKET_HEADER_BYTES])
            if stop <= end:  # A packet too short for an event: an error or the end.
                self._on_packet(data[at + _PACKET_HEADER_BYTES : stop])
                return stop + self._split(data[stop:])
        return at

    def _on_packet(self, payload: bytes) -> None:
        """Any packet, with all that can be unusual about it."""
        if self._long or len(payload) == _PACKET_BYTES_MAX:
            if not self._lengthen(payload):
                return
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
            raise self._reader.unreadable(
                f"the server sent a packet that starts with {payload[:8].hex()}"
            )
        if self.is_semi_sync is None:
            # The first event is made up for this connection, and its time is 0.
            self.is_semi_sync = payload[1] == MAGIC
            self._lead = LEAD_BYTES if self.is_semi_sync else 0
        if self._lead and payload[1] != MAGIC:
            raise self._reader.unreadable(
                f"the server left semi-synchronous replication: a packet starts with {payload[:8].hex()}"
            )
        self._on_event(payload[1 + self._lead :])
        if self._lead and payload[2] & IS_ASKED:
            reader = self._reader
            self._asked = AckAsked(reader.file_name, reader.file_index, reader.next_offset)
            if reader.inner is None:
                self._tell_asked()

    def _tell_asked(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self._reader.events.append(asked)

    def _lengthen(self, payload: bytes) -> bool:
        """Takes a part of an event of several packets; True when it was the last."""
        if not self._long:
            size = _EVENT_HEAD.unpack_from(payload, 1 + self._lead)[3]
            self._long_left = 1 + self._lead + size
        self._long.append(payload)
        self._long_left -= len(payload)
        if self._long_left < 0:
            raise self._reader.unreadable("an event is longer than it says")
        return len(payload) < _PACKET_BYTES_MAX

    def _on_event(self, event: bytes) -> None:
        reader = self._reader
        seconds, kind, server_id, size, log_pos, flags = _EVENT_HEAD.unpack_from(event)
        if size != len(event):
            raise reader.unreadable(
                f"an event of type {kind} says {size} bytes and has {len(event)}"
            )
        if reader.checksum_bytes is None and kind == ROTATE:
            # The made-up ROTATE comes before the format is known. Its own checksum tells whether there is one.
            has = crc32(event[:-_CHECKSUM_BYTES]) == int.from_bytes(
                event[-_CHECKSUM_BYTES:], "little"
            )
            checksum_bytes = _CHECKSUM_BYTES if has else 0
        elif kind == FORMAT:
            checksum_bytes = _CHECKSUM_BYTES
        else:
            checksum_bytes = reader.checksum_bytes or 0
        # A format event always has room for a checksum; the byte before tells whether it is filled in.
        is_summed = checksum_bytes and (kind != FORMAT or event[-1 - _CHECKSUM_BYTES])
        if is_summed and self._verify:
            written = int.from_bytes(event[-_CHECKSUM_BYTES:], "little")
            if crc32(memoryview(event)[:-_CHECKSUM_BYTES]) != written:
                raise self._wrong_checksum()
        if not flags & _ARTIFICIAL and (log_pos or kind not in _MADE_UP):
            self._advance(log_pos, size)
        handler = reader.handlers.get(kind)
        if handler is not None:
            body = event[_EVENT_HEADER_BYTES : len(event) - checksum_bytes]
            handler(body, seconds, server_id, reader.next_offset - size)
            if kind == FORMAT:
                self._plain_handlers = {
                    kind: handle for kind, handle in reader.handlers.items() if kind not in _RARE
                }
        elif kind in UNREADABLE:
            what, remedy = UNREADABLE[kind]
            raise reader.unreadable(what, remedy)
        elif kind not in SKIPPED and not flags & _IGNORABLE:
            raise reader.unreadable(
                f"an event has type {kind}, which this version of gravity does not know"
            )

    def _wrong_checksum(self) -> UnreadableEventError:
        return self._reader.unreadable(
            "an event's checksum is wrong", "check the source's disk and network"
        )

    def _advance(self, log_pos: int, size: int) -> None:
        """Moves on to the end of an event of the file, which its header tells modulo 4 GiB."""
        reader = self._reader
        expected = reader.next_offset + size
        # 0: MariaDB 11 does not say where an event inside a transaction ends.
        if not log_pos or expected & _OFFSET_MASK == log_pos:
            reader.next_offset = expected
            return
        # Transactions that our GTIDs cover were left out, or statements' texts.
        offset = (reader.next_offset & ~_OFFSET_MASK) | log_pos
        reader.next_offset = offset if offset >= reader.next_offset else offset + (1 << 32)
