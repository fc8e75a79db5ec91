"""Rows of a query's answer, from the bytes of the text protocol into columns. Pure.

A driver makes an object of every row and every cell; here one generated loop takes whole blocks of
bytes apart, cell by cell into columns, and text is decoded a column at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from gravity.errors import FormatError

RawColumn = list[bytes | None]

_LARGE: Final = 0xFFFFFF
"""Payload of a packet that goes on in the next one."""
_EOF_BYTES_MAX: Final = 9
_HEADER: Final = 4

_Parse = Callable[[bytes, int, list[RawColumn], list[int]], int]

_PROLOGUE: Final = """\
def parse(data, at, columns, sizes):
    {names} = [column.append for column in columns]
    sized = sizes.append
    end = len(data)
    while end - at >= 4:
        size = data[at] | data[at + 1] << 8 | data[at + 2] << 16
        p = at + 4
        stop = p + size
        if stop > end or size == 0xFFFFFF or data[p] >= 0xFE:
            break
"""
_CELL: Final = """\
        n = data[p]
        p += 1
        if n < 251:
            q = p + n
            a{column}(data[p:q])
            p = q
        elif n == 251:
            a{column}(None)
        else:
            value, p = long(data, p, n)
            a{column}(value)
"""
_EPILOGUE: Final = """\
        if p != stop:
            raise Damaged
        sized(size)
        at = stop
    return at
"""


class _DamagedError(Exception):
    """A row's cells do not fill its packet."""


def _long(data: bytes, at: int, first: int) -> tuple[bytes, int]:
    """A cell whose length takes more than a byte, and where it ends."""
    width = {252: 2, 253: 3, 254: 8}[first]
    start = at + width
    stop = start + int.from_bytes(data[at:start], "little")
    return data[start:stop], stop


@lru_cache(maxsize=256)
def _parser(columns: int) -> _Parse:
    """The loop for rows of so many cells. Its source is made of numbers only."""
    names = ", ".join(f"a{number}" for number in range(columns)) + ","
    source = _PROLOGUE.format(names=names)
    source += "".join(_CELL.format(column=number) for number in range(columns)) + _EPILOGUE
    space: dict[str, object] = {"long": _long, "Damaged": _DamagedError}
    exec(compile(source, f"<text rows of {columns} columns>", "exec"), space)  # noqa: S102
    parse: _Parse = space["parse"]  # type: ignore[assignment]
    return parse


class TextRows:
    """Takes the bytes behind a result's column definitions, block by block, until its end packet."""

    def __init__(self, columns: int) -> None:
        self.columns: list[RawColumn] = [[] for _ in range(columns)]
        self.sizes: list[int] = []
        """Bytes of each row."""
        self.is_done = False
        self.error: bytes | None = None
        """The error packet that ended the rows."""
        self._parse = _parser(columns)
        self._rest = b""
        self._large = b""
        """What has come of a row that needs several packets."""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes in. Raises FormatError for what is no result."""
        data = self._rest + data if self._rest else data
        at = 0
        try:
            while not self.is_done:
                if not self._large:
                    at = self._parse(data, at, self.columns, self.sizes)
                taken = self._packet(data, at)
                if taken == at:
                    break
                at = taken
        except (_DamagedError, IndexError, KeyError) as error:
            raise FormatError("a row of the server's answer is damaged") from error
        self._rest = data[at:]

    def _packet(self, data: bytes, at: int) -> int:
        """Takes one packet that the loop leaves alone: an end, an error, a part of a large row."""
        start = at + _HEADER
        if len(data) < start:
            return at
        size = int.from_bytes(data[at : at + 3], "little")
        stop = start + size
        if len(data) < stop:
            return at
        payload = data[start:stop]
        if self._large or size == _LARGE:
            self._large += payload
            if size < _LARGE:
                self._take_large()
        elif not payload:
            raise _DamagedError
        elif payload[0] == 0xFF:  # noqa: PLR2004 - the mark of an error
            self.error, self.is_done = payload, True
        elif payload[0] == 0xFE and size < _EOF_BYTES_MAX:  # noqa: PLR2004 - the mark of the end
            self.is_done = True
        else:
            self._large = payload
            self._take_large()
        return stop

    def _take_large(self) -> None:
        payload, self._large, at = self._large, b"", 0
        for column in self.columns:
            first = payload[at]
            at += 1
            if first < 251:  # noqa: PLR2004 - 251 is NULL, above are wider lengths
                column.append(payload[at : at + first])
                at += first
            elif first == 251:  # noqa: PLR2004
                column.append(None)
            else:
                value, at = _long(payload, at, first)
                column.append(value)
        if at != len(payload):
            raise _DamagedError
        self.sizes.append(len(payload))


def texts(column: Sequence[bytes | None]) -> list[str | None]:
    """Cells of UTF-8 as text. Raises UnicodeDecodeError for any that is none."""
    if None not in column:
        # One decoding for all: a NUL parts them, unless one of them holds it.
        found: list[str | None] = list(b"\0".join(column).decode().split("\0"))  # type: ignore[arg-type]
        if len(found) == len(column):
            return found
    return [None if cell is None else cell.decode() for cell in column]
