"""The messages of one source that wait in a merge, in the source's order; what it knows without reading them. Pure."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

from gravity.batch import READ, UNCOUNTED, ChangeBatch
from gravity.codec import encode_batch
from gravity.header import RoutedHeader
from gravity_resolver.waiting_line import Message, dump_message, load_message

PREFIX: Final = b"b\x00"
_NUMBER_DIGITS: Final = 16

Place = tuple[int, int]
"""Commit time in microseconds, and rank of the source: the order of a merge."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A message, or consecutive rows of one, whose turn it is."""

    header: RoutedHeader
    value: bytes
    offset: int
    """Of the input that it came in."""
    row: int = 0
    """Which row of that message is its first."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits."""

    unit: str
    """What is merged with it: its table, its group, or "" for the whole target."""
    source: str
    number: int
    """In the order in which messages came, over all sources and units."""
    offset: int
    first: int
    """The commit time of its first row, or of one before it in the source's order if that is later."""
    rows: int
    """A schema change counts as one."""
    size: int
    """Bytes of its value."""
    is_marker: bool = False

    @property
    def slot(self) -> bytes:
        """Where it lies in the state."""
        return slot_of(self.number)

    def dump(self, message: Message) -> bytes:
        """It and its message, as they lie in the state."""
        fields = json.dumps(asdict(self), separators=(",", ":")).encode()
        return fields + b"\n" + dump_message(message)

    @classmethod
    def load(cls, data: bytes) -> Self:
        """What `dump` gave `data` for, without its message."""
        return cls(**json.loads(data.partition(b"\n")[0]))


def slot_of(number: int) -> bytes:
    """Where the message of that number lies in the state."""
    return PREFIX + f"{number:0{_NUMBER_DIGITS}d}".encode()


def load_waiting_message(data: bytes) -> Message:
    """The message in what `Waiting.dump` gave."""
    return load_message(data.partition(b"\n")[2])


@dataclass(slots=True)
class Opened:
    """A message that has been read, and the commit time of each of its rows (a schema change has one)."""

    header: RoutedHeader
    value: bytes
    offset: int
    batch: ChangeBatch | None
    times: Sequence[int]
    is_copy: bool = False
    """Whether its rows were read from the table, not from the binlog."""

    @classmethod
    def of(cls, message: Message, batch: ChangeBatch | None, offset: int, *, at_least: int) -> Self:
        """Commit times never go back in a source: none is less than `at_least`, nor than one before it.

        A row that was read from the table has no commit time; it is due with what came before it.
        """
        header, value = message
        if batch is None:
            return cls(header, value, offset, None, [max(at_least, header.ets)])
        times, latest, is_copy = [], at_least, True
        for op, tx in zip(batch.ops, batch.tx, strict=True):
            ets = 0 if op == READ else batch.transactions[tx].ets
            latest, is_copy = max(latest, ets), is_copy and not ets
            times.append(latest)
        return cls(header, value, offset, batch, times, is_copy)

    def before(self, place: Place | None, rank: int, start: int) -> int:
        """The first row from `start` on that does not come before `place`; None: all come before it."""
        if place is None:
            return len(self.times)
        # Of rows of one time those of the smaller rank come first.
        limit = place[0] + 1 if rank < place[1] else place[0]
        return bisect_left(self.times, limit, lo=start)

    def counted(self, start: int, stop: int) -> int:
        """How many of those rows count as rows of their source."""
        if self.batch is None:
            return 0
        if stop - start == len(self.times):
            return self.header.counted
        return sum(op not in UNCOUNTED for op in self.batch.ops[start:stop])

    def piece(self, start: int, stop: int, *, late: bool = False) -> Piece:
        """Rows `start` to `stop` as a message of their own."""
        header = self.header
        if self.batch is None or stop - start == len(self.times):
            late = late and self.batch is not None
            return Piece(replace(header, late=True) if late else header, self.value, self.offset)
        part = _cut(self.batch, start, stop)
        described = replace(
            header,
            first=part.origin_of(0),
            last=part.origin_of(len(part) - 1),
            rows=len(part),
            counted=self.counted(start, stop),
            late=late,
        )
        return Piece(described, encode_batch(part), self.offset, start)


def _cut(batch: ChangeBatch, start: int, stop: int) -> ChangeBatch:
    part = batch.take(range(start, stop))
    # Without the transactions of other rows, or a thousand pieces would hold a thousand each.
    first, last = min(part.tx), max(part.tx)
    return replace(
        part,
        transactions=batch.transactions[first : last + 1],
        tx=[tx - first for tx in part.tx],
        _rows=None,
    )
