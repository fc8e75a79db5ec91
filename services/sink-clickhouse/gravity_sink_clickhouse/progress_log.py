"""How far a lane is, in a table at the target: inserted behind the rows, so never ahead of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from gravity.errors import FencedError
from gravity.progress import SinkProgress
from gravity.stored import Stored
from gravity_sink_clickhouse.catalog import PROGRESS
from gravity_sink_clickhouse.row import escape
from gravity_sink_clickhouse.table import quote_text

if TYPE_CHECKING:
    from gravity.sink_stage import Surroundings
    from gravity_sink_clickhouse.writer import Server

_COLUMNS = ("target", "part", "resolver_epoch", "next_offset", "last_seq", "term", "frontier")


class ProgressLog:
    """One lane's progress. Of several owners at once the one that is farthest counts."""

    def __init__(self, server: Server, target: str, around: Surroundings, partition: int) -> None:
        self._server = server
        self._target = target
        self._around = around
        self._partition = partition
        self._sent = 0
        """The farthest offset that an INSERT of ours has named, whether or not it was answered."""

    def read(self) -> Stored:
        """What is stored; nothing at all before the first write."""
        rows = self._server.rows(
            f"SELECT next_offset, last_seq, term, frontier FROM {PROGRESS} FINAL "
            f"WHERE target={quote_text(self._target)} AND part={self._partition} "
            f"AND resolver_epoch={self._around.resolver_epoch}"
        )
        if not rows:
            return Stored()
        next_offset, last_seq, term, text = rows[0]
        progress = SinkProgress(next_offset, last_seq, term)
        return replace(Stored.from_json(json.loads(text)), progress=progress)

    def store(self, stored: Stored) -> None:
        """Inserts it; the same again does nothing."""
        p = stored.progress
        frontier = json.dumps(stored.to_json(), separators=(",", ":"))
        numbers = (self._partition, self._around.resolver_epoch, p.next_offset, p.last_seq, p.term)
        line = "\t".join((escape(self._target), *map(str, numbers), escape(frontier)))
        token = f"{self._target}:{self._partition}:{self._around.topic_id}:{p.next_offset}"
        self._sent = max(self._sent, p.next_offset)
        self._server.insert(PROGRESS, _COLUMNS, [line], token=token)

    def require_alone(self, stored: Stored) -> None:
        """Raises FencedError where another owner of the lane is farther than `stored`.

        It does no harm to rows, but it may have claimed a change that stands behind what we are at, and died: then
        we would wait for a claim of our own lane, which only whoever is at that change takes up.
        """
        farthest = self.read().progress.next_offset
        if farthest > max(stored.progress.next_offset, self._sent):
            raise FencedError(
                f"another process has moved this lane to offset {farthest}",
                where=f"target {self._target}, partition {self._partition}",
                remedy="nothing to do; this process ends and may be started again",
            )
