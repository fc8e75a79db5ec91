"""Rows that the log has already, although the server we have moved to will bring them again. Pure.

A position inside a transaction, and a span whose later parts are missing, are places in the binlog of one
server. At another server the same rows are known by what they share: the transaction's GTID and their
number in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gravity.batch import ChangeBatch
from gravity.errors import FatalError
from gravity.position import Position


@dataclass(slots=True)
class _Rows:
    """What the log has of one transaction."""

    below: int = 0
    """Every row before this one."""
    ordinals: set[int] = field(default_factory=set)

    @property
    def end(self) -> int:
        """The first row behind all of them."""
        return max(self.below, max(self.ordinals, default=-1) + 1)


class Carried:
    """The rows by transaction; what has passed is forgotten."""

    def __init__(self) -> None:
        self._rows: dict[str, _Rows] = {}

    def __bool__(self) -> bool:
        """Whether there are still some to come: until then no span may end."""
        return bool(self._rows)

    def gtids(self) -> list[str]:
        """The transactions."""
        return list(self._rows)

    def add_below(self, gtid: str, ordinal: int) -> None:
        """The log has every row of the transaction before this one."""
        rows = self._rows.setdefault(gtid, _Rows())
        rows.below = max(rows.below, ordinal)

    def add_batch(self, batch: ChangeBatch) -> None:
        """The log has the rows of this batch."""
        for tx, ordinal in zip(batch.tx, batch.ordinal, strict=True):
            gtid = batch.transactions[tx].gtid
            self._rows.setdefault(gtid, _Rows()).ordinals.add(ordinal)

    def has(self, gtid: str, ordinal: int) -> bool:
        """Whether the log has that row."""
        rows = self._rows.get(gtid)
        return rows is not None and (ordinal < rows.below or ordinal in rows.ordinals)

    def missing(self, gtid: str, ordinal: int, count: int) -> Iterator[tuple[int, int]]:
        """The stretches [start, end) of `count` rows from `ordinal` on that the log does not have."""
        if gtid not in self._rows:
            yield 0, count
            return
        start: int | None = None
        for index in range(count):
            if self.has(gtid, ordinal + index):
                if start is not None:
                    yield start, index
                start = None
            elif start is None:
                start = index
        if start is not None:
            yield start, count

    def reached(self, gtid: str, ordinal: int) -> None:
        """The next row of the transaction is `ordinal`."""
        rows = self._rows.get(gtid)
        if rows is not None and ordinal >= rows.end:
            del self._rows[gtid]

    def left(self, gtid: str, source: str) -> None:
        """The transaction has ended. Raises FatalError when rows that the log has did not come."""
        rows = self._rows.pop(gtid, None)
        if rows is not None:
            raise FatalError(
                f"transaction {gtid} has fewer rows at this server: the log has row {rows.end - 1}",
                where=f"source {source}",
                remedy="its history is not that of the server before; read the source again: `gravity reset --source`",
            )


def open_transaction(batch: ChangeBatch, inside: Position) -> str:
    """The GTID of the transaction that `inside` is a place in; empty when the batch does not have it."""
    place = inside.epoch, inside.file_index, inside.offset
    for transaction in batch.transactions:
        if (batch.epoch, transaction.file_index, transaction.offset) == place:
            return transaction.gtid
    return ""
