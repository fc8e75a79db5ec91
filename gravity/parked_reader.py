"""Reads the rows that wait at a MySQL target, from the tables in which its sink keeps them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gravity import target_table
from gravity.codec import decode_batch
from gravity.dead_letter import kind_of
from gravity.mysql import MysqlSession
from gravity.parked import WaitingRow, passed_by_all
from gravity.stored import Stored
from gravity.tail import OPERATIONS, batch_rows
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.target import MysqlTarget

_PROGRESS, _PARKED = map(target_table.quoted, (target_table.PROGRESS, target_table.PARKED))

Place = tuple[int, int, int]
"""Partition, offset and number in the message of a change."""


def _at(place: Place | None) -> str:
    if place is None:
        return ""
    partition, offset, row = place
    return f" AND r.part={partition} AND r.message_offset={offset} AND r.row_no={row}"


class ParkedReader:
    """The rows that wait at one target. Changes nothing there, and does without Kafka."""

    def __init__(self, config: Config, target: MysqlTarget) -> None:
        """Connects.

        Raises:
            TransientError: the target is away.
            FatalError: it refuses us.
            ConfigError: its host or account is missing.
        """
        self._config = config
        self._target = target
        self._session = MysqlSession(target, kind="target")
        self._name = self._session.literal(target.name)
        self._epoch = 0

    def row(self, place: Place) -> WaitingRow | None:
        """The row of that place; None when none waits there."""
        return next(iter(self.rows(place)), None)

    def rows(self, only: Place | None = None) -> list[WaitingRow]:
        """All of them, or that of one place, by partition and in the order in which they came; as of one moment."""
        if not self._is_there():
            return []
        ask = self._session.query
        # What moves between the two questions must not be missed by both.
        ask("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ask("START TRANSACTION READ ONLY")
        try:
            lanes = self._lanes()
            found = ask(
                "SELECT r.part, r.message_offset, r.row_no, r.name, r.row_key, r.op, r.source, r.origin, "
                f"r.code, r.waits_for, r.since_us, r.reason FROM {_PARKED} r{self._newest()}{_at(only)} "
                "ORDER BY r.part, r.message_offset, r.row_no"
            )
        finally:
            ask("ROLLBACK")
        return [self._row(lanes, *cells) for cells in found]

    def change(self, row: WaitingRow) -> dict[str, Any] | None:
        """The change that waits, with its cells; None when it has been let go or set aside meanwhile."""
        found = self._session.query(
            f"SELECT r.payload FROM {_PARKED} r{self._newest()}"
            f"{_at((row.partition, row.offset, row.row))}"
        )
        return next(batch_rows(decode_batch(found[0][0])), None) if found else None

    def _is_there(self) -> bool:
        tables = (target_table.PROGRESS, target_table.PARKED)
        return target_table.are_there(self._session.query, *tables)

    def _lanes(self) -> list[Stored]:
        """What the target's newest lanes have stored."""
        found = self._session.query(
            f"SELECT resolver_epoch, frontier FROM {_PROGRESS} WHERE target={self._name}"
        )
        self._epoch = max((int(epoch) for epoch, _ in found), default=0)
        return [Stored.from_json(json.loads(t)) for epoch, t in found if int(epoch) == self._epoch]

    def _newest(self) -> str:
        """Joins the lanes' progress: a lane that was set back gets what lies behind it once more."""
        return (
            f" JOIN {_PROGRESS} p USING (target, part, resolver_epoch) WHERE r.target={self._name} "
            f"AND r.resolver_epoch={self._epoch} AND r.message_offset < p.next_offset"
        )

    def _row(self, lanes: list[Stored], *cells: str) -> WaitingRow:
        part, offset, row, table, key, op, source, origin, code, waits_for, since, reason = cells
        kind = kind_of(code)
        conflicts = self._config.conflict_resolution
        return WaitingRow(
            target=self._target.name,
            topic=Topics(self._config.kafka.topic_prefix, self._epoch).target(self._target.name),
            partition=int(part),
            offset=int(offset),
            row=int(row),
            table=table,
            key=key,
            operation=OPERATIONS.get(op, op),
            source=source,
            origin=origin,
            code=code,
            kind=kind,
            reason=reason,
            waits_for=waits_for,
            since_us=int(since),
            passed_us=passed_by_all(
                [lane.frontier for lane in lanes], source, lanes=self._config.kafka.partitions
            ),
            park_us=conflicts.park_for(self._target.name, origin, kind).waits_us,
        )

    def close(self) -> None:
        """Ends the connection."""
        self._session.close()
