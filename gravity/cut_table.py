"""SQL of the two tables in which a target's partitions, and who asks for a cut, meet. Text only.

Texts are written as hexadecimal literals, so that a session's SQL mode does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gravity import target_table
from gravity.cut import Arrival, CutMark, CutState

POINTS: Final = target_table.quoted(target_table.POINTS)
ARRIVALS: Final = target_table.quoted(target_table.ARRIVALS)
_PROGRESS: Final = target_table.quoted(target_table.PROGRESS)
POINTS_KEPT: Final = 1000
"""Cuts of a target, points or given up, that it remembers."""

_NAME = "VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL"
_TEXT = "LONGTEXT CHARACTER SET utf8mb4 NULL"
CREATE_CUT_TABLES: Final[Sequence[str]] = (
    f"""CREATE TABLE IF NOT EXISTS {POINTS} (
  target {_NAME},
  cut_id BIGINT UNSIGNED NOT NULL,
  state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source {_NAME},
  position VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL,
  source_gtids {_TEXT},
  source_time_us BIGINT NULL,
  target_gtids {_TEXT},
  held BIGINT UNSIGNED NULL,
  parked BIGINT UNSIGNED NULL,
  asked_at DATETIME(6) NOT NULL,
  deadline DATETIME(6) NOT NULL,
  stood_from DATETIME(6) NULL,
  reached_at DATETIME(6) NULL,
  ended_at DATETIME(6) NULL,
  reason VARCHAR(1000) CHARACTER SET utf8mb4 NOT NULL DEFAULT '',
  waits TINYINT UNSIGNED NOT NULL,
  running TINYINT UNSIGNED NULL,
  PRIMARY KEY (target, cut_id),
  UNIQUE KEY one_at_a_time (target, running)
) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {ARRIVALS} (
  target {_NAME},
  cut_id BIGINT UNSIGNED NOT NULL,
  resolver_epoch INT UNSIGNED NOT NULL,
  part INT UNSIGNED NOT NULL,
  next_offset BIGINT UNSIGNED NOT NULL,
  position VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source_gtids {_TEXT},
  source_time_us BIGINT NOT NULL,
  held BIGINT UNSIGNED NOT NULL,
  parked BIGINT UNSIGNED NOT NULL,
  bound_ms BIGINT UNSIGNED NOT NULL,
  arrived_at DATETIME(6) NOT NULL,
  looks BIGINT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (target, cut_id, resolver_epoch, part)
) ENGINE=InnoDB""",
)

TARGET_GTIDS: Final = {
    True: "SELECT IF(@@GLOBAL.log_bin, @@GLOBAL.gtid_binlog_pos, NULL)",
    False: "SELECT IF(@@GLOBAL.log_bin AND @@GLOBAL.gtid_mode<>'OFF', @@GLOBAL.gtid_executed, NULL)",
}
"""MariaDB or not: the transactions that the target has committed; NULL where it does not number them."""


def text(value: str) -> str:
    """`value` as a literal."""
    return f"_utf8mb4 0x{value.encode().hex()}" if value else "''"


def _where(target: str, cut_id: int) -> str:
    return f" WHERE target={text(target)} AND cut_id={cut_id}"


def _lane(target: str, cut_id: int, resolver_epoch: int) -> str:
    return f"{_where(target, cut_id)} AND resolver_epoch={resolver_epoch}"


# ---------------------------------------------------------------------- who asks


def end_late(target: str) -> str:
    """Gives up what nobody ended although its time is over."""
    return (
        f"UPDATE {POINTS} SET {_ended(CutState.GIVEN_UP)}, reason='nobody ended it in time'"
        f" WHERE target={text(target)} AND running=1 AND deadline<=UTC_TIMESTAMP(6)"
    )


def forget_old(target: str, cut_id: int) -> Sequence[str]:
    """Removes what is known of earlier cuts but of the newest, once it is sure that none of them is running."""
    mine = f"target={text(target)}"
    newest = f"SELECT cut_id FROM {POINTS} WHERE {mine} ORDER BY cut_id DESC LIMIT 1 OFFSET {POINTS_KEPT - 1}"
    return (
        f"DELETE FROM {ARRIVALS} WHERE {mine} AND cut_id<{cut_id}",
        # Of the table that is deleted from only a derived one may be asked.
        f"DELETE FROM {POINTS} WHERE {mine} AND cut_id<COALESCE((SELECT * FROM ({newest}) AS oldest), 0)",
    )


def ask(mark: CutMark, source: str, *, waits: bool) -> str:
    """Opens the cut, unless the target has one that is running.

    `waits`: partitions stand until `let_go`, else only until all do.
    """
    return (
        f"INSERT IGNORE INTO {POINTS} (target, cut_id, state, source, asked_at, deadline, waits, running)"
        f" VALUES ({text(mark.target)}, {mark.cut_id}, {text(CutState.OPEN)}, {text(source)}, UTC_TIMESTAMP(6),"
        f" UTC_TIMESTAMP(6) + INTERVAL {mark.bound_ms * 1000} MICROSECOND, {int(waits)}, 1)"
    )


def running(target: str) -> str:
    """The target's cut that is running: its number, source, when it was asked for, until when it may last."""
    return f"SELECT cut_id, source, asked_at, deadline FROM {POINTS} WHERE target={text(target)} AND running=1"


def point(target: str, cut_id: int) -> str:
    """What is known of a cut; last, microseconds: how much of its time is left, how long partitions stood."""
    return (
        "SELECT state, source, position, source_gtids, source_time_us, target_gtids, held, parked, reached_at, reason, "
        "TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), deadline), TIMESTAMPDIFF(MICROSECOND, stood_from, ended_at)"
        f" FROM {POINTS}{_where(target, cut_id)}"
    )


def let_go(target: str, cut_id: int) -> str:
    """Makes a point of a cut that is still held: its partitions have stood until now."""
    return (
        f"UPDATE {POINTS} SET {_ended(CutState.DONE)}{_where(target, cut_id)}"
        f" AND state={text(CutState.REACHED)} AND deadline>UTC_TIMESTAMP(6) AND {_NOBODY_WENT_ON}"
    )


_WENT_ON: Final = (
    f"NOT EXISTS (SELECT 1 FROM {_PROGRESS} AS p WHERE p.target=a.target AND p.part=a.part"
    " AND p.resolver_epoch=a.resolver_epoch AND p.next_offset=a.next_offset)"
)
"""Of an arrival `a`: its partition does not stand there any more. A sink of an older version knows no cuts."""
_NOBODY_WENT_ON: Final = (
    f"NOT EXISTS (SELECT 1 FROM {ARRIVALS} AS a WHERE a.target={POINTS}.target AND a.cut_id={POINTS}.cut_id"
    f" AND {_WENT_ON})"
)


# ---------------------------------------------------------------------- partitions


def is_open(mark: CutMark) -> str:
    """One row if the cut is open and has time left; locks it until COMMIT."""
    return (
        f"SELECT 1 FROM {POINTS}{_where(mark.target, mark.cut_id)} AND state={text(CutState.OPEN)}"
        " AND deadline>UTC_TIMESTAMP(6) FOR UPDATE"
    )


def arrive(
    arrival: Arrival, *, resolver_epoch: int, part: int, next_offset: int, parked: int
) -> str:
    """Notes that a partition stands before `next_offset`."""
    mark = arrival.mark
    return (
        f"REPLACE INTO {ARRIVALS} (target, cut_id, resolver_epoch, part, next_offset, position, source_gtids,"
        f" source_time_us, held, parked, bound_ms, arrived_at) VALUES ({text(mark.target)}, {mark.cut_id},"
        f" {resolver_epoch}, {part}, {next_offset}, {text(arrival.position)}, {text(arrival.gtids)}, {arrival.ets}, {arrival.held}, {parked}, {mark.bound_ms}, UTC_TIMESTAMP(6))"
    )


def where_it_stands(target: str, *, resolver_epoch: int, part: int) -> str:
    """(cut, milliseconds that it may still stand) of a partition; no row if it stands nowhere."""
    return (
        "SELECT a.cut_id, LEAST(CAST(a.bound_ms AS SIGNED),"
        " TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), p.deadline) DIV 1000)"
        f" FROM {POINTS} AS p JOIN {ARRIVALS} AS a ON a.target=p.target AND a.cut_id=p.cut_id"
        f" WHERE p.target={text(target)} AND p.running=1 AND a.resolver_epoch={resolver_epoch} AND a.part={part}"
    )


def view(target: str, cut_id: int, resolver_epoch: int) -> str:
    """(state, whether it is late, partitions that stand, different places)."""
    here = _lane(target, cut_id, resolver_epoch)
    return (
        "SELECT state, deadline<=UTC_TIMESTAMP(6),"
        f" (SELECT COUNT(*) FROM {ARRIVALS} AS a{here} AND NOT {_WENT_ON}),"
        f" (SELECT COUNT(DISTINCT position) FROM {ARRIVALS}{here})"
        f" FROM {POINTS}{_where(target, cut_id)}"
    )


def look_again(target: str, cut_id: int, *, resolver_epoch: int, part: int) -> str:
    """A transaction of no other consequence."""
    return f"UPDATE {ARRIVALS} SET looks=looks+1{_lane(target, cut_id, resolver_epoch)} AND part={part}"


def stood(target: str, cut_id: int, resolver_epoch: int) -> str:
    """(position, GTIDs, commit time, rows on hold, rows parked, since when) of the partitions that stand."""
    here = _lane(target, cut_id, resolver_epoch)
    return (
        f"SELECT position, source_gtids, source_time_us, (SELECT SUM(held) FROM {ARRIVALS}{here}),"
        f" (SELECT SUM(parked) FROM {ARRIVALS}{here}), (SELECT MIN(arrived_at) FROM {ARRIVALS}{here}) FROM {ARRIVALS}{here} LIMIT 1"
    )


def record(
    target: str,
    cut_id: int,
    *,
    position: str,
    gtids: str,
    ets: int,
    target_gtids: str | None,
    held: int,
    parked: int,
    since: str,
) -> str:
    """All stand: writes down where source and target are, if the cut is open. It is over if nobody waits."""
    theirs = "NULL" if target_gtids is None else text(target_gtids)
    return (
        f"UPDATE {POINTS} SET position={text(position)}, source_gtids={text(gtids)}, source_time_us={ets},"
        f" target_gtids={theirs}, held={held}, parked={parked}, stood_from={text(since)}, reached_at=UTC_TIMESTAMP(6),"
        f" state=IF(waits, {text(CutState.REACHED)}, {text(CutState.DONE)}), running=IF(waits, 1, NULL),"
        f" ended_at=IF(waits, NULL, UTC_TIMESTAMP(6)){_where(target, cut_id)}"
        f" AND state={text(CutState.OPEN)} AND deadline>UTC_TIMESTAMP(6) AND {_NOBODY_WENT_ON}"
    )


def give_up(target: str, cut_id: int, reason: str) -> str:
    """Ends the cut without a point, if it is running."""
    return (
        f"UPDATE {POINTS} SET {_ended(CutState.GIVEN_UP)}, reason={text(reason[:1000])}{_where(target, cut_id)}"
        " AND running=1"
    )


def _ended(state: CutState) -> str:
    return f"state={text(state)}, running=NULL, ended_at=UTC_TIMESTAMP(6)"
