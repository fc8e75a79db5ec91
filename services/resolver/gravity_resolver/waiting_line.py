"""Messages that may not go out while rows are on hold (`scope: table`, `scope: job`). Pure.

They are part of the partition's state, each under its table and its number in the line, as they would
have gone out. So a table's target gets, later, exactly what it would have got.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from heapq import merge
from typing import Any, Final

from gravity.errors import FatalError
from gravity.header import RoutedHeader
from gravity_resolver.hold_book import Put, Under

RELEASED_AT_ONCE: Final = 100
"""Messages that go out in one go; they are in the log before the next are read."""

_PREFIX, _MARKER_PREFIX = b"q\x00", b"m\x00"
_NUMBER_DIGITS: Final = 16

Message = tuple[RoutedHeader, bytes]


@dataclass(slots=True)
class WaitingLine:
    """The line of a partition; what waits lies in the state, here is only how much and where."""

    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Table to the messages that wait and their rows; none with 0 messages."""
    last: int = 0
    """Number of the last message that was put into the line."""
    markers: list[str] = field(default_factory=list)
    """Sources of which a marker waits."""
    rows: int = 0
    """Rows that wait in all tables; a schema change counts as one."""

    def __post_init__(self) -> None:
        self.rows = sum(rows for _, rows in self.tables.values())

    def put(self, message: Message, put: Put, *, rows_max: int) -> None:
        """Adds a message. Raises FatalError when more than `rows_max` rows would wait."""
        header, _ = message
        self.last += 1
        put[_prefix(header.table) + f"{self.last:0{_NUMBER_DIGITS}d}".encode()] = dump_message(
            message
        )
        self._count(header, 1)
        if self.rows > rows_max:
            raise FatalError(
                f"more than {rows_max} rows wait behind rows on hold",
                where=f"table {header.table}, source {header.source}",
                remedy="raise state.waiting-rows-max and start again, then decide about the rows on hold "
                "(`gravity conflicts list`): their decisions come behind what waits",
            )

    def keep_marker(self, message: Message, put: Put) -> None:
        """Has a source's marker wait; an earlier one of it says less and is dropped.

        It waits without its cut. Rows from behind it go on meanwhile where their tables do not stand, and
        those that wait go out before it: nobody may stop here.
        """
        header, value = message
        source = header.source
        kept = replace(header, cut="", held=0), value
        put[_MARKER_PREFIX + source.encode()] = dump_message(kept)
        if source not in self.markers:
            self.markers = sorted([*self.markers, source])

    def release(self, tables: Iterable[str], under: Under, put: Put) -> Iterator[list[Message]]:
        """Takes out what waits for `tables`, in the order in which it came; then, with an empty line, the markers."""
        lines = [under(_prefix(table)) for table in sorted(tables)]
        gone: list[Message] = []
        for slot, data in merge(*lines, key=lambda entry: entry[0][-_NUMBER_DIGITS:]):
            put[slot] = None
            gone.append(load_message(data))
            self._count(gone[-1][0], -1)
            if len(gone) == RELEASED_AT_ONCE:
                yield gone
                gone = []
        if not self.tables:
            for source in self.markers:
                slot = _MARKER_PREFIX + source.encode()
                gone += [load_message(data) for key, data in under(slot) if key == slot]
                put[slot] = None
            self.markers = []
        yield gone

    def _count(self, header: RoutedHeader, sign: int) -> None:
        messages, rows = self.tables.pop(header.table, (0, 0))
        messages += sign
        moved = sign * max(1, header.rows)
        self.rows += moved
        if messages:
            self.tables[header.table] = (messages, rows + moved)


def _prefix(table: str) -> bytes:
    return _PREFIX + table.encode() + b"\x00"


def dump_message(message: Message) -> bytes:
    """A message as it lies in the state."""
    header, value = message
    fields = {name: text.decode() for name, text in header.to_kafka()}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n" + value


def load_message(data: bytes) -> Message:
    """The message that `dump_message` gave `data` for."""
    fields, _, value = data.partition(b"\n")
    record: dict[str, Any] = json.loads(fields)
    return RoutedHeader.from_kafka((n, text.encode()) for n, text in record.items()), value
