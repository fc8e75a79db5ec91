"""Writes lanes to MySQL or MariaDB: rows and progress in one transaction, fenced by the progress row."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gravity.batch import TRUNCATE, ChangeBatch
from gravity.clock import monotonic_s
from gravity.cut_table import CREATE_CUT_TABLES
from gravity.errors import FatalError, GravityError, PoisonError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.joined_follower import JoinedFollower
from gravity.parked import passed_by_all
from gravity.schema_change import SchemaChange, TableAction
from gravity.schema_follower import Ahead, Follower, means_nothing
from gravity.sink import Admitted, Pace, SetAside, Write, split_table
from gravity.stored import Counts, Stored
from gravity.target_table import DATABASE
from gravity_sink_mysql.catalog import Catalog, Fit
from gravity_sink_mysql.connection import LOCK_WAIT_S, Session, code_of
from gravity_sink_mysql.error_code import ALREADY_MADE, SHAPE_CHANGED
from gravity_sink_mysql.fence import CREATE_CONTROL_TABLES, Fence
from gravity_sink_mysql.parked_table import CREATE_PARKED_TABLE, ParkedTable
from gravity_sink_mysql.parking import Draft, Lot, Parked
from gravity_sink_mysql.room import NoRoomError, Room
from gravity_sink_mysql.row_application import Clock, Policy, RowApplication
from gravity_sink_mysql.run_writer import NeedsOrderError, Run
from gravity_sink_mysql.schema_log import CREATE_SCHEMA_TABLES, SchemaLog
from gravity_sink_mysql.standing import Standing
from gravity_sink_mysql.statement import quote_name
from gravity_sink_mysql.truncation import delete_rows

if TYPE_CHECKING:
    from gravity.config.target import MysqlTarget
    from gravity.sink_stage import Surroundings

PING_S = 3.0
ROUND_LOCK_WAIT_S = 1
"""How long a round of parked rows waits for a lock, such as that of an open transaction of somebody else."""
SHAPE_ATTEMPTS = 5
"""How often rows are written anew because their table was altered meanwhile, before a pause."""
WAIT_MS_IDLE = 5
"""A transaction costs little here: when nothing more is waiting, rows are not kept waiting either."""


class _ShapeMovedError(Exception):
    """An alteration was recorded since the rows were fitted to their tables."""


class MysqlLane:
    """One lane, on a session of its own. The contract is `gravity.sink.LaneWriter`."""

    def __init__(
        self,
        target: MysqlTarget,
        around: Surroundings,
        fence: Fence,
        *,
        session: Session,
        epoch: int,
        stored: Stored,
    ) -> None:
        self._target = target
        self._around = around
        self._fence = fence
        self._session: Session | None = session
        self._epoch = epoch
        self._catalog = Catalog(target.name, create=target.create_tables, adopt=around.adopt)
        self._log = SchemaLog(fence, epoch, self._catalog.dialect)
        self._ahead = Ahead()
        self._noted: set[tuple[str, str, str]] = set()
        self._follower = Follower(
            target.name,
            fence.partition,
            target.schema_evolution,
            self._log,
            may_alter=target.create_tables,
        )
        self._joined = JoinedFollower(
            target.name, target.schema_evolution, self._log, may_alter=target.create_tables
        )
        self._policy = Policy(target.name, around.conflicts)
        self._parked = ParkedTable(fence)
        self._lot = self._load(session, stored)
        self._standing = Standing(fence, around.partitions)
        self._standing.resume(session)
        self._room = Room(
            around.parked_rows_max, where=f"target {target.name}, partition {fence.partition}"
        )
        self._used_s = monotonic_s()
        self._reread_at: int | None = None

    def write(self, write: Write, set_aside: SetAside) -> Stored:
        """Applies `write` in one transaction."""
        try:
            session = self._session
            if session is None:
                session, stored = self._rejoin()
                if stored.progress.next_offset > write.before.progress.next_offset:
                    return stored  # The COMMIT whose answer was lost had succeeded.
                # So may that of a round of parked rows have, which moves counts alone.
                write = write.behind(stored)
            stored = self._apply(session, write, set_aside)
            if write.cut is not None:
                self._standing.resume(session)
        except NoRoomError:
            if self._session is not None:
                self._session.execute("ROLLBACK")
            raise
        except GravityError as error:
            self._give_up(error, write.before)
            raise
        else:
            return stored
        finally:
            self._used_s = monotonic_s()

    def retry(self, stored: Stored, set_aside: SetAside) -> Stored | None:
        """One round of parked rows, in a transaction of its own.

        Without a session there is none: the next write makes one, and finds out what is stored.
        """
        session, began_s = self._session, monotonic_s()
        if session is None or self._standing.cut_id is not None or not self._lot.due(began_s):
            return None
        chosen = self._lot.choose()
        write = Write(self._fence.partition, stored, stored, (), 0)
        found = stored
        try:
            # Rows that flow don't wait because one that is parked has to wait for a lock.
            session.execute(f"SET SESSION innodb_lock_wait_timeout={ROUND_LOCK_WAIT_S}")
            found = self._persist(
                session, lambda: self._try_again(session, write, chosen, set_aside)
            )
            session.execute(f"SET SESSION innodb_lock_wait_timeout={LOCK_WAIT_S}")
        except GravityError as error:
            self._give_up(error, stored)
            raise
        finally:
            self._used_s = monotonic_s()
            self._lot.tried(began_s, self._used_s, released=found != stored)
        return None if found == stored else found

    def stands(self) -> bool:
        """Whether the lane is at a cut. Where it is, the target is asked whether the cut is over."""
        if self._standing.cut_id is None:
            return False
        self._used_s = monotonic_s()
        try:
            session = self._session or self._rejoin()[0]
            return self._standing.look(session)
        except GravityError:
            self._leave()
            raise

    def _rejoin(self) -> tuple[Session, Stored]:
        """Goes on with the lane on a new session; what is stored tells whether a COMMIT without an answer succeeded."""
        session = self._session = Session(self._target, DATABASE)
        session.execute("BEGIN")
        stored = self._fence.rejoin(session, self._epoch)
        self._lot = self._load(session, stored, after=self._lot)
        self._standing.resume(session)
        session.execute("COMMIT")
        return session, stored

    def _give_up(self, error: GravityError, before: Stored) -> None:
        """Whatever happened: what is not committed goes with the session. Raises what `error` means here."""
        self._leave()
        self._ahead.forget()
        if code_of(error) in SHAPE_CHANGED and self._reread_at != before.progress.next_offset:
            self._reread_at = before.progress.next_offset
            self._catalog.forget()
            raise TransientError(error.what, where=error.where) from error
        if isinstance(error, PoisonError):
            raise FatalError(error.what, where=error.where, remedy=error.remedy) from error

    def _load(self, session: Session, stored: Stored, after: Lot | None = None) -> Lot:
        """What waits, in the transaction in which the lane was made ours: no other owner's rows are touched."""
        rows = self._parked.load(
            session, next_offset=stored.progress.next_offset, count=stored.counts.parked
        )
        return Lot(rows, after=after)

    def keep_alive(self) -> None:
        """Pings, so that the server does not take us for frozen."""
        if self._session is not None and monotonic_s() - self._used_s >= PING_S:
            self._used_s = monotonic_s()
            try:
                self._session.ping()
            except TransientError:
                self._leave()

    def close(self) -> None:
        """Ends the session."""
        self._leave()

    def _leave(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _apply(self, session: Session, write: Write, set_aside: SetAside) -> Stored:
        alone = write.schema_change
        if alone is not None:
            self._log.session = session
            return self._apply_schema_change(session, write, alone)
        return self._persist(session, lambda: self._apply_rows(session, write, set_aside))

    def _persist(self, session: Session, attempt: Callable[[], Stored]) -> Stored:
        """Makes `attempt` until no alteration of a table comes between."""
        self._log.session = session
        for _ in range(SHAPE_ATTEMPTS):
            try:
                if not self._ahead.known:
                    self._ahead.learn(self._log.all())
                return attempt()
            except _ShapeMovedError:
                pass
            except FatalError:
                # What does not fit, or the server refuses, may be right for the table as it was a
                # moment ago.
                if self._ahead.is_all(self._log.number()):
                    raise
            session.execute("ROLLBACK")
            self._forget()
        raise TransientError("tables are being altered", where=f"target {self._target.name}")

    def _forget(self) -> None:
        self._catalog.forget()
        self._ahead.forget()

    def _apply_rows(self, session: Session, write: Write, set_aside: SetAside) -> Stored:
        runs = self._runs(session, write.messages)
        try:
            return self._transact(
                session, write, set_aside, lambda rows: rows.apply_runs(runs, write.messages)
            )
        except NeedsOrderError:
            session.execute("ROLLBACK")
        return self._transact(
            session, write, set_aside, lambda rows: rows.apply_in_order(runs, write.messages)
        )

    def _try_again(
        self, session: Session, write: Write, chosen: Sequence[Parked], set_aside: SetAside
    ) -> Stored:
        runs = self._runs(session, self._parked.read(session, chosen))
        waiting: list[Parked] = []
        stored = self._transact(
            session,
            write,
            set_aside,
            lambda rows: waiting.extend(rows.try_again(chosen, runs, self._clock(session))),
        )
        for parked in waiting:
            self._lot.learn(parked)
        return stored

    def _clock(self, session: Session) -> Clock:
        """Asks for the lanes' frontiers once, when a row's time may be over."""
        ask = functools.cache(lambda: self._fence.frontiers(session))
        return lambda source: passed_by_all(ask(), source, lanes=self._around.partitions)

    def _apply_schema_change(self, session: Session, write: Write, message: Admitted) -> Stored:
        """Alters the table outside any transaction, or deletes its rows inside one; then moves progress."""
        change = SchemaChange.decode(message.value)
        truncates = change.action is TableAction.TRUNCATE
        if not truncates and not means_nothing(change):
            follower = self._follower if change.source else self._joined
            follower.follow(change, message.header)
            self._forget()
        session.execute("BEGIN")
        self._fence.advance(session, self._epoch, write.before, write.after)
        stored = write.after
        draft = Draft(self._lot)
        if truncates:
            table = message.header.routed.table
            if len(self._log.origins(table)) <= 1:  # Else those of other tables would go, too.
                draft.emptied(table)
            draft.tables.add(table)
            self._parked.store(session, draft)
            deleted = delete_rows(
                session,
                self._log,
                message.header,
                self._target,
                partition=self._fence.partition,
                partitions=self._around.partitions,
            )
            stored = write.corrected(draft.counts.plus(Counts(truncated=deleted)))
            self._fence.correct(session, stored)
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        session.execute("COMMIT")
        self._settle(draft)
        return stored

    def _transact(
        self,
        session: Session,
        write: Write,
        set_aside: SetAside,
        apply: Callable[[RowApplication], None],
    ) -> Stored:
        session.execute("BEGIN")
        self._fence.advance(session, self._epoch, write.before, write.after)
        draft = Draft(self._lot)
        apply(RowApplication(session, draft, self._policy))
        # Our locks on the tables' definitions hold until COMMIT: whoever records an alteration after
        # this look alters the table after our rows.
        if not self._ahead.is_all(self._log.number()):
            raise _ShapeMovedError
        stored = write.corrected(draft.counts)
        if not draft.is_empty:
            self._room.require(draft)
            if draft.dead:
                set_aside(draft.dead)
            self._parked.store(session, draft)
            self._fence.correct(session, stored)
        elif write.before is write.after:
            session.execute("ROLLBACK")  # A round in which nothing moved.
            return stored
        if write.cut is not None:
            self._standing.arrive(
                session,
                write.cut,
                next_offset=stored.progress.next_offset,
                parked=stored.counts.parked,
            )
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        session.execute("COMMIT")
        self._settle(draft)
        if write.before is not write.after:
            self._room.moved()
        return stored

    def _settle(self, draft: Draft) -> None:
        if draft.left or draft.entered:
            self._room.moved()
        self._lot.commit(draft)
        self._lot.wrote(draft.tables)

    def _runs(self, session: Session, messages: Sequence[Admitted]) -> list[Run]:
        """Messages by table and shape. A table whose shape changes has several runs, in order."""
        runs: list[Run] = []
        open_run: dict[tuple[str, str], Run] = {}
        for number, admitted in enumerate(messages):
            name = split_table(admitted.header)
            if admitted.batch is None:
                continue
            if TRUNCATE in admitted.batch.ops:
                raise _truncate_refused(admitted)
            batch = self._ahead.present(
                admitted, f"target {self._target.name}, table {'.'.join(name)}"
            )
            if batch is None:
                continue  # Its table has been dropped since, at the source and here.
            fit = self._fit(session, name, admitted.batch, batch)
            message = replace(admitted, batch=batch)
            run = open_run.get(name)
            if run is None or run.fit is not fit:
                run = open_run[name] = Run(fit)
                runs.append(run)
            run.messages.append((number, message))
            run.rows += len(batch)
        return runs

    def _fit(
        self, session: Session, name: tuple[str, str], written: ChangeBatch, batch: ChangeBatch
    ) -> Fit:
        """How `batch` goes into the table; `written` is what it was before it was adapted."""
        fit = self._catalog.fit(session, name, batch.schema, partial(self._make, session))
        origin = (
            ".".join(name),
            written.source,
            f"{written.schema.database}.{written.schema.table}",
        )
        if origin not in self._noted:
            self._log.remember_origin(origin[0], written.source, batch.schema)
            self._noted.add(origin)
        return fit

    def _make(self, session: Session, name: tuple[str, str], statements: Sequence[str]) -> None:
        """Runs DDL that rows want, unless an alteration has been recorded that they do not know of.

        Rows from before a DROP would bring back the table, or the column, as it was. Alterations are
        recorded under the same lock, so none comes between the look and the last statement.
        """
        with self._log.lock(".".join(name)):
            knows_all = self._ahead.is_all(self._log.number())
            for statement in statements if knows_all else ():
                self._fence.assert_owner(session, self._epoch)
                try:
                    session.execute(statement)
                except GravityError as error:
                    if code_of(error) not in ALREADY_MADE:
                        raise
        if not knows_all:
            raise _ShapeMovedError


def _truncate_refused(message: Admitted) -> FatalError:
    routed = message.header.routed
    return FatalError(
        "a TRUNCATE among rows",
        where=f"table {routed.table}, source {routed.source}, position {routed.from_}",
        remedy="it was written by another version of gravity: see docs/schema-changes.md",
    )


class MysqlWriter:
    """One MySQL or MariaDB target. The contract is `gravity.sink.SinkWriter`."""

    def __init__(self, target: MysqlTarget, around: Surroundings) -> None:
        self._target = target
        self._around = around

    @property
    def pace(self) -> Pace:
        """As configured; at once when nothing more is waiting."""
        wait_ms_idle = 0 if self._around.is_awaited else WAIT_MS_IDLE
        return replace(self._around.pace, wait_ms_idle=wait_ms_idle)

    def open(self) -> None:
        """Makes the database and the tables that hold our progress."""
        session = Session(self._target)
        try:
            exists = session.rows(
                f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='{DATABASE}'"
            )
            if not exists:
                session.execute(f"CREATE DATABASE IF NOT EXISTS {quote_name(DATABASE)}")
            for statement in (
                *CREATE_CONTROL_TABLES,
                CREATE_PARKED_TABLE,
                *CREATE_SCHEMA_TABLES,
                *CREATE_CUT_TABLES,
            ):
                session.execute(statement)
        finally:
            session.close()

    def take_over(self, partition: int) -> tuple[MysqlLane, Stored]:
        """Bumps the lane's epoch; the former owner's transactions match no row from then on."""
        session = Session(self._target, DATABASE)
        fence = Fence(self._target.name, partition, self._around.resolver_epoch)
        try:
            epoch, stored = fence.take_over(session, kill_first=self._target.create_tables)
            lane = MysqlLane(
                self._target, self._around, fence, session=session, epoch=epoch, stored=stored
            )
            session.execute("COMMIT")
        except BaseException:
            session.close()
            raise
        return lane, stored

    def close(self) -> None:
        """Lanes own their sessions; nothing is left."""
