"""What real servers sent, byte by byte: two without and two with compression, tags and XA transactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gravity_collector.decoder import TableDecoders
from gravity_collector.event import Event, Rows
from gravity_collector.event_parser import EventParser
from gravity_collector.table_map import Collation

from gravity.batch import UPDATE

COLLATIONS: Final = {
    8: Collation("latin1_swedish_ci", "latin1", 1),
    45: Collation("utf8mb4_general_ci", "utf8mb4", 4),
    46: Collation("utf8mb4_bin", "utf8mb4", 4),
    63: Collation("binary", "binary", 1),
    255: Collation("utf8mb4_0900_ai_ci", "utf8mb4", 4),
    2304: Collation("utf8mb4_uca1400_ai_ci", "utf8mb4", 4),
}
STREAMS: Final = {
    name: (Path(__file__).parent / "stream_bytes" / f"{name}.binlog").read_bytes()
    for name in ("mariadb", "mysql", "mariadb-compressed", "mysql-compressed")
}


def parser(**options: Any) -> EventParser:
    return EventParser("s", TableDecoders(COLLATIONS), **options)


def packet(payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + b"\x00" + payload


def event(
    kind: int, body: bytes, *, end: int, flags: int = 0, seconds: int = 1, size: int | None = None
) -> bytes:
    """An event without checksum, as a network packet."""
    length = 19 + len(body) if size is None else size
    head = seconds.to_bytes(4, "little") + bytes((kind,)) + (7).to_bytes(4, "little")
    head += length.to_bytes(4, "little") + (end & 0xFFFFFFFF).to_bytes(4, "little")
    return packet(b"\x00" + head + flags.to_bytes(2, "little") + body)


def start_of_file(name: str = "binlog.000001", offset: int = 4, version: str = "9.7.4") -> bytes:
    """The made-up events that begin a connection: file and format, without checksums."""
    rotate = event(4, offset.to_bytes(8, "little") + name.encode(), end=0, flags=0x20, seconds=0)
    form = b"\x04\x00" + version.encode().ljust(50, b"\0") + bytes(4) + b"\x13" + bytes(40)
    return rotate + event(15, form + b"\x00" + bytes(4), end=0)


def changes_of(events: list[Event]) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for one in events:
        if isinstance(one, Rows):
            decode = one.table.updates if one.op == UPDATE else one.table.rows
            found += [(one.op, row) for row in decode(one.body, one.at)]
    return found


def all_of(reader: EventParser, received: bytes) -> list[Event]:
    """What the bytes give, compressed transactions to their ends."""
    events = list(reader.feed(received))
    while reader.has_more:
        events += reader.feed(b"")
    return events
