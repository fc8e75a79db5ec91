"""Events that begin a transaction: MySQL's GTID events, plain and tagged, and MariaDB's. Pure.

Sources: MySQL's libs/mysql/binlog/event/control_events.h and its serialization library's format; MariaDB's
sql/log_event.h (Gtid_log_event). Bytes of real servers are in tests/unit/collector/test_gtid_event.py.
"""

from __future__ import annotations

import struct
import uuid
from typing import Final, NamedTuple

from gravity.gtid import MysqlGtids

_SERVER_NAMES_MAX: Final = 10_000
_TIMES_END: Final = 49
"""A GTID event that is at least so long has a logical clock (17 bytes) and a commit time (7)."""
_SERIALIZATION_VERSION: Final = 1
_UUID, _NUMBER, _TAG, _COMMIT_TIME, _ORIGINAL_COMMIT_TIME = 1, 2, 3, 6, 7
_FIELDS_KNOWN: Final = 12
_MARIADB_FORM: Final = struct.Struct("<QIB")
_STANDALONE, _GROUP_COMMIT, _PREPARED_XA, _COMPLETED_XA = 0x01, 0x02, 0x40, 0x80
_XID_FORM: Final = struct.Struct("<iBB")
_XA_EVENT_FORM: Final = struct.Struct("<Biii")
_XID_PART_BYTES_MAX: Final = 64

_server_names: dict[bytes, str] = {}


class MysqlBegin(NamedTuple):
    """What a MySQL GTID event says."""

    gtid: str
    """`uuid:number` or `uuid:tag:number`."""
    commit_us: int
    """When it was committed where it was first executed; 0 if the server is too old to tell."""


class MariadbBegin(NamedTuple):
    """What a MariaDB GTID event says."""

    gtid: str
    is_standalone: bool
    """One statement follows, without a commit."""
    prepared_xid: str
    """The XA transaction that is prepared by what follows; else empty."""


def parse_gtid(body: bytes) -> MysqlBegin:
    """Reads a GTID event's body."""
    gtid = f"{_server_name(body[1:17])}:{int.from_bytes(body[17:25], 'little')}"
    if len(body) < _TIMES_END:
        return MysqlBegin(gtid, 0)
    times = int.from_bytes(body[42:49], "little")
    # The highest bit says that the time of the original commit, at another server, follows.
    return MysqlBegin(gtid, int.from_bytes(body[49:56], "little") if times >> 55 else times)


def _server_name(server: bytes) -> str:
    name = _server_names.get(server)
    if name is None:
        if len(_server_names) >= _SERVER_NAMES_MAX:
            _server_names.clear()
        name = _server_names[server] = str(uuid.UUID(bytes=server))
    return name


def parse_tagged_gtid(body: bytes) -> MysqlBegin:
    """Reads a GTID event with a tag (MySQL 8.3 and later), which is a serialized message.

    A message is its version, its size, the number of the last field that must be understood, and then
    fields, each by number. All numbers have variable length.

    Raises:
        ValueError, IndexError: the event is damaged, or holds what this version does not know.
    """
    version, at = read_number(body, 0)
    if version != _SERIALIZATION_VERSION:
        message = f"a tagged GTID event is serialized in version {version}"
        raise ValueError(message)
    size, at = read_number(body, at)
    if size > len(body):
        message = f"a tagged GTID event of {len(body)} bytes says it has {size}"
        raise ValueError(message)
    must_know, at = read_number(body, at)
    found: dict[int, int | bytes] = {}
    while at < size:
        field, at = read_number(body, at)
        if field >= _FIELDS_KNOWN:
            if field <= must_know:
                message = f"a tagged GTID event has a field {field} that must be understood"
                raise ValueError(message)
            break
        if field == _UUID:
            octets = bytearray()
            for _ in range(16):
                octet, at = read_number(body, at)
                octets.append(octet)
            found[field] = bytes(octets)
        elif field == _TAG:
            length, at = read_number(body, at)
            found[field] = body[at : at + length]
            at += length
        else:
            found[field], at = read_number(body, at)
    server, tag, number = found[_UUID], found[_TAG], found[_NUMBER]
    assert isinstance(server, bytes)
    assert isinstance(tag, bytes)
    assert isinstance(number, int)
    name = ":".join(filter(None, (_server_name(server), tag.decode("ascii"))))
    time = found.get(_ORIGINAL_COMMIT_TIME, found.get(_COMMIT_TIME, 0))
    assert isinstance(time, int)
    # The number is signed: its lowest bit is the sign. Transactions count from 1.
    return MysqlBegin(f"{name}:{number >> 1}", time)


def read_number(body: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, unsigned, and where the next thing starts.

    As many lowest bits of the first byte as are set count the bytes that follow; with the unset bit
    above them they are taken off.
    """
    first = body[at]
    more = 8 if first == 0xFF else (~first & (first + 1)).bit_length() - 1  # noqa: PLR2004 - all bits set
    raw = body[at : at + more + 1]
    if len(raw) != more + 1:
        message = "a number is cut short"
        raise ValueError(message)
    return int.from_bytes(raw, "little") >> min(more + 1, 8), at + more + 1


def encode_gtids(gtids: MysqlGtids) -> bytes:
    """The set as COM_BINLOG_DUMP_GTID carries it to servers that know tags (8.3 and later).

    Raises:
        ValueError: a UUID is none.
    """
    # The number of makers stands between two bytes that say that tags follow.
    encoded = bytearray(b"\x01" + len(gtids.intervals).to_bytes(6, "little") + b"\x01")
    for maker, intervals in sorted(gtids.intervals.items()):
        server, _, tag = maker.partition(":")
        encoded += uuid.UUID(server).bytes + write_number(len(tag)) + tag.encode()
        encoded += len(intervals).to_bytes(8, "little")
        for first, last in intervals:
            encoded += first.to_bytes(8, "little") + (last + 1).to_bytes(8, "little")
    return bytes(encoded)


def write_number(value: int) -> bytes:
    """The bytes that `read_number` reads; `value` takes 56 bits at most."""
    more = max(0, (value.bit_length() - 1) // 7)
    return ((value << more + 1) | ((1 << more) - 1)).to_bytes(more + 1, "little")


def parse_mariadb_gtid(body: bytes, server_id: int) -> MariadbBegin:
    """Reads a MariaDB GTID event's body; `server_id` stands in the event's header."""
    number, domain, flags = _MARIADB_FORM.unpack_from(body)
    xid = ""
    if flags & _PREPARED_XA:
        at = _MARIADB_FORM.size + (8 if flags & _GROUP_COMMIT else 0)
        form, first, second = _XID_FORM.unpack_from(body, at)
        xid = xid_text(form, body[at + _XID_FORM.size :], first, second)
    return MariadbBegin(
        f"{domain}-{server_id}-{number}", is_standalone=bool(flags & _STANDALONE), prepared_xid=xid
    )


def parse_xa_prepare(body: bytes) -> tuple[str, bool]:
    """The XA transaction of an XA_PREPARE event, and whether this commits it (in one phase)."""
    one_phase, form, first, second = _XA_EVENT_FORM.unpack_from(body)
    return xid_text(form, body[_XA_EVENT_FORM.size :], first, second), bool(one_phase)


def xid_text(form: int, raw: bytes, first: int, second: int) -> str:
    """An XA transaction's name as servers write it in statements: `X'67',X'62',1`, in lower case.

    `raw` begins with its global part of `first` bytes and its branch of `second`.
    """
    lengths_fit = 0 <= first <= _XID_PART_BYTES_MAX and 0 <= second <= _XID_PART_BYTES_MAX
    if not lengths_fit or len(raw) < first + second:
        message = "the name of an XA transaction is cut short"
        raise ValueError(message)
    return f"x'{raw[:first].hex()}',x'{raw[first : first + second].hex()}',{form}"
