"""The progress row: who owns a lane, how far it is, and how ownership changes hands."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gravity import target_table
from gravity.clock import monotonic_s
from gravity.errors import FencedError, TransientError
from gravity.progress import SinkProgress
from gravity.stored import FrontierPoint, Stored
from gravity_sink_mysql.connection import LOCK_WAIT_S, Session, code_of
from gravity_sink_mysql.error_code import LOCK_WAIT_TIMEOUT, NO_SUCH_THREAD
from gravity_sink_mysql.statement import quote_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRESS = target_table.quoted(target_table.PROGRESS)
TABLES = target_table.quoted(target_table.TABLES)

CREATE_CONTROL_TABLES: Sequence[str] = (
    f"""CREATE TABLE IF NOT EXISTS {PROGRESS} (
  target VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  part INT UNSIGNED NOT NULL,
  resolver_epoch INT UNSIGNED NOT NULL,
  epoch BIGINT UNSIGNED NOT NULL,
  next_offset BIGINT UNSIGNED NOT NULL,
  last_seq BIGINT UNSIGNED NOT NULL,
  term BIGINT UNSIGNED NOT NULL,
  frontier LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
  connection_id BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (target, part, resolver_epoch)
) ENGINE=InnoDB""",
    f"""CREATE TABLE IF NOT EXISTS {TABLES} (
  target VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  PRIMARY KEY (target, name)
) ENGINE=InnoDB""",
)
_KILL_AFTER_S = 15.0
_GIVE_UP_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Fence:
    """One lane's progress row."""

    target: str
    partition: int
    resolver_epoch: int

    @property
    def _row(self) -> str:
        return (
            f" WHERE target={quote_text(self.target)} AND part={self.partition}"
            f" AND resolver_epoch={self.resolver_epoch}"
        )

    def take_over(self, session: Session, *, kill_first: bool) -> tuple[int, Stored]:
        """Makes the lane ours on `session`; returns our epoch and what is stored.

        Leaves the transaction open in which it did: nobody else takes the lane over before its COMMIT.

        The row lock decides the former owner's open transaction: it has committed before we read, or
        its compare-and-set will match no row. `kill_first` where its DDL, which no lock stops, is
        possible.

        Raises:
            TransientError: the row stayed locked; try again.
        """
        session.execute("SET SESSION innodb_lock_wait_timeout=5")
        session.execute(
            f"INSERT IGNORE INTO {PROGRESS} VALUES ({quote_text(self.target)}, {self.partition}, "
            f"{self.resolver_epoch}, 0, 0, 0, 0, '{{}}', 0)"
        )
        if kill_first:
            self._end_owner(session)
        began_s = monotonic_s()
        killed = False
        while True:
            session.execute("BEGIN")
            try:
                session.execute(
                    f"UPDATE {PROGRESS} SET epoch=epoch+1, connection_id=CONNECTION_ID(){self._row}"
                )
                break
            except TransientError as error:
                waited_s = monotonic_s() - began_s
                if code_of(error) != LOCK_WAIT_TIMEOUT or waited_s > _GIVE_UP_AFTER_S:
                    raise
                session.execute("ROLLBACK")
                if waited_s >= _KILL_AFTER_S and not killed:
                    self._end_owner(session)
                    killed = True
        session.execute(f"SET SESSION innodb_lock_wait_timeout={LOCK_WAIT_S}")
        epoch, stored = self._read(session)
        return epoch, stored

    def _end_owner(self, session: Session) -> None:
        """Ends the session that the row names, and waits until it is gone.

        Ids are used again after a restart of the server: only a session of our account in our own
        database is ended. One's own sessions are seen and ended without any extra grant.
        """
        found = session.rows(f"SELECT connection_id FROM {PROGRESS}{self._row}")
        owner = int(found[0][0]) if found else 0
        alive = (
            f"SELECT 1 FROM information_schema.PROCESSLIST WHERE ID={owner} AND DB='{target_table.DATABASE}' "
            "AND USER=SUBSTRING_INDEX(USER(),'@',1)"
        )
        if owner in (0, session.connection_id) or not session.rows(alive):
            return
        try:
            session.execute(f"KILL {owner}")
        except Exception as error:
            if getattr(error.__cause__, "args", (0,))[0] != NO_SUCH_THREAD:
                raise
        deadline_s = monotonic_s() + _KILL_AFTER_S
        while session.rows(alive):
            if monotonic_s() > deadline_s:
                raise TransientError(
                    f"session {owner} of the former owner was killed but does not end",
                    where=f"target {self.target}, partition {self.partition}",
                    remedy="the server rolls a large transaction back; wait, or look at SHOW PROCESSLIST",
                )
            time.sleep(0.05)

    def frontiers(self, session: Session) -> list[Mapping[str, FrontierPoint]]:
        """How far each lane of the target is, source by source."""
        rows = session.rows(
            f"SELECT frontier FROM {PROGRESS} WHERE target={quote_text(self.target)}"
            f" AND resolver_epoch={self.resolver_epoch}"
        )
        return [Stored.from_json(json.loads(text)).frontier for (text,) in rows]

    def _read(self, session: Session) -> tuple[int, Stored]:
        rows = session.rows(
            f"SELECT epoch, next_offset, last_seq, term, frontier FROM {PROGRESS}{self._row}"
        )
        if not rows:
            raise self.fenced("its progress row is gone")
        epoch, next_offset, last_seq, term, text = rows[0]
        stored = Stored.from_json(json.loads(text))
        progress = SinkProgress(int(next_offset), int(last_seq), int(term))
        return int(epoch), Stored(progress, stored.frontier, stored.counts)

    def rejoin(self, session: Session, epoch: int) -> Stored:
        """Goes on with the lane on a new session; what is stored decides what became of a lost COMMIT.

        In a transaction of the caller's: until its COMMIT nobody else takes the lane over.

        Raises:
            FencedError: the lane has another owner.
        """
        self.assert_owner(session, epoch)
        found, stored = self._read(session)
        if found != epoch:
            raise self.fenced(f"epoch {found} has followed ours, {epoch}")
        return stored

    def assert_owner(self, session: Session, epoch: int) -> None:
        """Proves that the lane is ours and stores this session's id, outside any transaction.

        Must precede DDL on the same session: a takeover ends the session whose id is stored.
        """
        matched = session.execute(
            f"UPDATE {PROGRESS} SET connection_id=CONNECTION_ID(){self._row} AND epoch={epoch}"
        )
        if not matched:
            raise self.fenced(f"epoch {epoch} is not the present one")

    def advance(self, session: Session, epoch: int, before: Stored, after: Stored) -> None:
        """First statement of every transaction: moves progress from `before` to `after`, if it is ours.

        Raises:
            FencedError: another process has moved it.
        """
        p = after.progress
        matched = session.execute(
            f"UPDATE {PROGRESS} SET next_offset={p.next_offset}, last_seq={p.last_seq}, term={p.term}, "
            f"frontier={quote_text(_json(after))}{self._row} AND epoch={epoch} "
            f"AND next_offset={before.progress.next_offset}"
        )
        if not matched:
            raise self.fenced(f"progress is no longer at offset {before.progress.next_offset}")

    def correct(self, session: Session, stored: Stored) -> None:
        """Puts other counts into the row that this transaction has moved."""
        session.execute(f"UPDATE {PROGRESS} SET frontier={quote_text(_json(stored))}{self._row}")

    def fenced(self, why: str) -> FencedError:
        """What ends a lane that has another owner."""
        return FencedError(
            f"another process owns this lane: {why}",
            where=f"target {self.target}, partition {self.partition}",
            remedy="nothing to do; this process ends and may be started again",
        )


def _json(stored: Stored) -> str:
    return json.dumps(stored.to_json(), separators=(",", ":"))
