"""Rows that were met a moment ago, decoded: contended keys come again soon. Pure.

A cache of a function: bytes of the state to what they say. An entry counts only for the very bytes it was
made of, so that whatever else changes the state never has to tell it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gravity_resolver.row_state import RowState

GENERATION_BYTES_MAX = 2 * 1024 * 1024
"""Saved bytes of the rows in one generation; decoded, with what is remembered of them, they take about eight times as much."""

_Entries = dict[bytes, tuple[bytes, RowState]]


@dataclass(slots=True)
class RowCache:
    """Two generations: the older one is dropped whole once the newer one is full."""

    _young: _Entries = field(default_factory=dict)
    _old: _Entries = field(default_factory=dict)
    _young_bytes: int = 0

    def find(self, slot: bytes, saved: bytes) -> RowState | None:
        """The row whose state under `slot` is `saved`, if it is remembered."""
        entry = self._young.get(slot)
        if entry is None:
            entry = self._old.get(slot)
            if entry is None:
                return None
        return entry[1] if entry[0] == saved else None

    def keep(self, slot: bytes, saved: bytes, row: RowState) -> None:
        """Remembers that `saved` says `row`, which nobody changes any more."""
        known = self._young.pop(slot, None)
        if known is not None:
            self._young_bytes -= len(known[0])
        if self._young_bytes >= GENERATION_BYTES_MAX:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[slot] = saved, row
        self._young_bytes += len(saved)
