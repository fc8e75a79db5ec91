"""Rows that every source has deleted, in the order they died, until they may be forgotten. Pure.

A queue per table, cut into chunks that are part of the partition's state: a chunk is written again for
each row that is added to it, so it is short.
"""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

CHUNK_ROWS = 64
_PREFIX = b"g\x00"

Get = Callable[[bytes], bytes | None]
Put = MutableMapping[bytes, bytes | None]


@dataclass(slots=True)
class Graveyard:
    """The queues; what they hold lies in the state, here is only where it lies."""

    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Table to the numbers of its first and its last chunk."""

    def bury(self, table: str, slot: bytes, ets: int, get: Get, put: Put) -> None:
        """Remembers that the row whose state stands under `slot` died at `ets`."""
        first, last = self.ends.get(table, (0, 0))
        chunk = _chunk(table, last)
        entries = _load(get(chunk))
        if len(entries) >= CHUNK_ROWS:
            last += 1
            chunk, entries = _chunk(table, last), []
        entries.append([slot.decode("latin-1"), ets])
        put[chunk] = json.dumps(entries, separators=(",", ":")).encode()
        self.ends[table] = (first, last)

    def exhume(self, table: str, before_ets: int, get: Get, put: Put) -> list[bytes]:
        """Takes out the table's oldest chunk if all of it died before `before_ets`; the rows' slots."""
        first, last = self.ends[table]
        chunk = _chunk(table, first)
        entries = _load(get(chunk))
        if any(ets >= before_ets for _, ets in entries):
            return []
        put[chunk] = None
        if first == last:
            del self.ends[table]
        else:
            self.ends[table] = (first + 1, last)
        return [slot.encode("latin-1") for slot, _ in entries]


def _chunk(table: str, number: int) -> bytes:
    return _PREFIX + f"{table}\x00{number}".encode()


def _load(data: bytes | None) -> list[Any]:
    return [] if data is None else list(json.loads(data))
