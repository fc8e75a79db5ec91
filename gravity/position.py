"""Where a row stands in one source's binlog."""

from __future__ import annotations

from typing import NamedTuple, Self

from gravity.errors import FormatError


class Position(NamedTuple):
    """A row's place in one source, ordered within that source only.

    As `next_position` it names the first row not yet read: everything before it has been.
    """

    epoch: int
    """Grows when the server behind the source changes; positions of a later epoch are later."""
    file_index: int
    """The number after the dot of the binlog file. A number, since `.1000000` follows `.999999`."""
    offset: int
    """Where the transaction starts in its file, in bytes."""
    ordinal: int = 0
    """The row's number in its transaction, from 0."""

    def __str__(self) -> str:
        return f"{self.epoch}:{self.file_index}:{self.offset}:{self.ordinal}"

    def of_read(self, number: int) -> Position:
        """Where row `number` of a snapshot chunk stands that is published at next_position `self`.

        Older than every change that is still to come, newer than every one that has been: one byte
        before the next transaction, where none can start, since each is longer than a byte.
        """
        return Position(self.epoch, self.file_index, self.offset - 1, number)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position that `str` gave `text` for."""
        try:
            epoch, file_index, offset, ordinal = (int(part) for part in text.split(":"))
        except ValueError as error:
            raise FormatError(
                f"not a position: {text!r}", remedy="expected epoch:file:offset:row"
            ) from error
        return cls(epoch, file_index, offset, ordinal)


START = Position(0, 0, 0, 0)
"""Before every row of every source."""
