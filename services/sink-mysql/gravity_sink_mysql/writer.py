"""Writes lanes to MySQL or MariaDB: rows and progress in one transaction, fenced by the progress row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from gravity.batch import REMOVES_ROW, TRUNCATE, ChangeBatch
from gravity.clock import monotonic_s
from gravity.errors import FatalError, GravityError, PoisonError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.joined_follower import JoinedFollower
from gravity.schema_change import SchemaChange, TableAction
from gravity.schema_follower import Ahead, Follower, has_rows_to_delete, means_nothing
from gravity.sink import Admitted, Pace, Refusal, SetAside, Stored, Write, split_table
from gravity_sink_mysql.catalog import Catalog, Fit
from gravity_sink_mysql.connection import Session, code_of
from gravity_sink_mysql.error_code import ALREADY_MADE, ORDER_DEPENDENT, SHAPE_CHANGED
from gravity_sink_mysql.fence import CREATE_CONTROL_TABLES, DATABASE, Fence
from gravity_sink_mysql.schema_log import CREATE_SCHEMA_TABLES, SchemaLog
from gravity_sink_mysql.statement import (
    STATEMENT_BYTES_MAX,
    STATEMENT_ROWS_MAX,
    Row,
    latest_per_key,
    quote_name,
    spans,
)
from gravity_sink_mysql.truncation import delete_all, delete_partition

if TYPE_CHECKING:
    from gravity.config.target import MysqlTarget
    from gravity.sink_stage import Surroundings

PING_S = 3.0
SHAPE_ATTEMPTS = 5
"""How often rows are written anew because their table was altered meanwhile, before a pause."""
WAIT_MS_IDLE = 5
"""A transaction costs little here: when nothing more is waiting, rows are not kept waiting either."""


@dataclass(slots=True)
class _Run:
    """Messages of one table and one shape that are written together."""

    fit: Fit
    messages: list[tuple[int, Admitted]] = field(default_factory=list)
    rows: int = 0


class _NeedsOrderError(Exception):
    """The changes have to be applied one by one, as the source made them."""


class _ShapeMovedError(Exception):
    """An alteration was recorded since the rows were fitted to their tables."""


class MysqlLane:
    """One lane, on a session of its own. The contract is `gravity.sink.LaneWriter`."""

    def __init__(
        self, target: MysqlTarget, around: Surroundings, fence: Fence, session: Session, epoch: int
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
        self._used_s = monotonic_s()
        self._reread_at: int | None = None

    def write(self, write: Write, set_aside: SetAside) -> Stored:
        """Applies `write` in one transaction."""
        try:
            if self._session is None:
                self._session = Session(self._target, DATABASE)
                stored = self._fence.rejoin(self._session, self._epoch)
                if stored.progress.next_offset > write.before.progress.next_offset:
                    return stored  # The COMMIT whose answer was lost had succeeded.
            return self._apply(self._session, write, set_aside)
        except GravityError as error:
            # Whatever happened: what is not committed goes with the session.
            self._leave()
            self._ahead.forget()
            if (
                code_of(error) in SHAPE_CHANGED
                and self._reread_at != write.before.progress.next_offset
            ):
                self._reread_at = write.before.progress.next_offset
                self._catalog.forget()
                raise TransientError(error.what, where=error.where) from error
            if isinstance(error, PoisonError):
                raise FatalError(error.what, where=error.where, remedy=error.remedy) from error
            raise
        finally:
            self._used_s = monotonic_s()

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
        self._log.session = session
        alone = write.schema_change
        if alone is not None:
            return self._apply_schema_change(session, write, alone)
        for _ in range(SHAPE_ATTEMPTS):
            try:
                return self._apply_rows(session, write, set_aside)
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
        if not self._ahead.known:
            self._ahead.learn(self._log.all())
        runs = self._runs(session, write.messages)
        try:
            return self._transact(
                session, write, set_aside, lambda: self._apply_runs(session, runs)
            )
        except _NeedsOrderError:
            session.execute("ROLLBACK")
        return self._transact(
            session, write, set_aside, lambda: self._apply_in_order(session, runs)
        )

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
        if truncates:
            stored = write.truncated(self._delete_rows(session, message))
            self._fence.correct(session, stored)
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        session.execute("COMMIT")
        return stored

    def _delete_rows(self, session: Session, message: Admitted) -> int:
        """Deletes the rows of this partition; of all partitions where the table lies in one."""
        routed = message.header.routed
        if not has_rows_to_delete(self._log, routed, self._target.name):
            return 0
        quoted = _quoted(split_table(message.header))
        if routed.first == routed.last:
            return delete_all(session, quoted)
        return delete_partition(
            session,
            quoted,
            self._log.key_of(routed.table),
            table=routed.table,
            partition=self._fence.partition,
            partitions=self._around.partitions,
        )

    def _transact(
        self,
        session: Session,
        write: Write,
        set_aside: SetAside,
        apply: Callable[[], list[Refusal]],
    ) -> Stored:
        session.execute("BEGIN")
        self._fence.advance(session, self._epoch, write.before, write.after)
        refusals = apply()
        # Our locks on the tables' definitions hold until COMMIT: whoever records an alteration after
        # this look alters the table after our rows.
        if not self._ahead.is_all(self._log.number()):
            raise _ShapeMovedError
        stored = write.after
        if refusals:
            set_aside(refusals)
            stored = write.dead_lettered(len(refusals))
            self._fence.correct(session, stored)
        reach(FaultPoint.SINK_APPLIED_NOT_COMMITTED)
        session.execute("COMMIT")
        return stored

    def _runs(self, session: Session, messages: Sequence[Admitted]) -> list[_Run]:
        """Messages by table and shape. A table whose shape changes has several runs, in order."""
        runs: list[_Run] = []
        open_run: dict[tuple[str, str], _Run] = {}
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
                run = open_run[name] = _Run(fit)
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

    def _apply_runs(self, session: Session, runs: Sequence[_Run]) -> list[Refusal]:
        refusals: list[Refusal] = []
        for run in runs:
            refusals += _RunWriter(session, run).apply()
        return refusals

    def _apply_in_order(self, session: Session, runs: Sequence[_Run]) -> list[Refusal]:
        """Each change by itself, in the order of the messages: slow, but as the source did it."""
        fits = {number: run.fit for run in runs for number, _ in run.messages}
        messages = {number: message for run in runs for number, message in run.messages}
        refusals: list[Refusal] = []
        for number in sorted(messages):
            message, fit = messages[number], fits[number]
            batch = message.batch
            if batch is None:
                continue
            images = list(zip(*(batch.columns[index] for index in fit.wanted), strict=True))
            for row, (op, image) in enumerate(zip(batch.ops, images, strict=True)):
                try:
                    _apply_one(session, fit, image, removes=op in REMOVES_ROW)
                except PoisonError as error:
                    refusals.append(Refusal(message, row, str(code_of(error)), error.what))
        return refusals


def _apply_one(session: Session, fit: Fit, image: Row, *, removes: bool) -> None:
    layout = fit.layout
    if removes:
        session.execute(layout.delete([layout.key_of(image)]))
        return
    if not session.execute(layout.update(image)):
        session.execute(layout.insert() + layout.texts([image])[0])
    for statement in layout.repairs([image]):
        session.execute(statement)


class _RunWriter:
    """Writes the final state of one run's keys with few statements."""

    def __init__(self, session: Session, run: _Run) -> None:
        self._session = session
        self._fit = run.fit
        self._run = run
        self._messages = dict(run.messages)
        self._final = latest_per_key(
            (
                (number, m.batch, run.fit.wanted)
                for number, m in run.messages
                if m.batch is not None
            ),
            run.fit.key_index,
        )
        # Some bytes of a packet are the protocol's own; characters may take four bytes.
        self._bytes_max = min(STATEMENT_BYTES_MAX, session.packet_bytes_max) // 2
        self._refusals: list[Refusal] = []

    def apply(self) -> list[Refusal]:
        """Returns the rows that the target refuses."""
        layout = self._fit.layout
        removed = [key for _, _, key in self._final.removed()]
        for start in range(0, len(removed), STATEMENT_ROWS_MAX):
            self._execute(layout.delete(removed[start : start + STATEMENT_ROWS_MAX]))
        origins, rows = self._final.upserted()
        if not rows:
            return self._refusals
        if self._fit.primary_only:
            self._insert(origins, rows, layout.on_duplicate())
        elif not self._fit.key_is_primary:
            # Which unique key an upsert would meet is not known.
            raise _NeedsOrderError
        else:
            self._update_or_insert(origins, rows)
        return self._refusals

    def _update_or_insert(self, origins: list[tuple[int, int]], rows: list[Row]) -> None:
        """Beside other unique keys an upsert may hit another row, so only keys that exist are upserted."""
        layout = self._fit.layout
        keys = [layout.key_of(row) for row in rows]
        existing: set[tuple[object, ...]] = set()
        for start in range(0, len(keys), STATEMENT_ROWS_MAX):
            found = self._session.rows(
                layout.lock_existing(keys[start : start + STATEMENT_ROWS_MAX])
            )
            existing.update(found)
        # A key that the server prints otherwise than we do counts as absent: its INSERT then fails,
        # and the changes are applied one by one.
        is_there = [
            tuple(str(v) if isinstance(v, int) else v for v in key) in existing for key in keys
        ]
        there = [index for index, known in enumerate(is_there) if known]
        absent = [index for index, known in enumerate(is_there) if not known]
        for chosen, suffix in ((there, layout.on_duplicate()), (absent, "")):
            if chosen:
                self._insert([origins[i] for i in chosen], [rows[i] for i in chosen], suffix)

    def _insert(self, origins: list[tuple[int, int]], rows: list[Row], suffix: str) -> None:
        texts = self._fit.layout.texts(rows)
        sizes = list(map(len, texts))
        for start, end in spans(sizes, rows_max=STATEMENT_ROWS_MAX, bytes_max=self._bytes_max):
            self._insert_some(origins[start:end], rows[start:end], texts[start:end], suffix)

    def _insert_some(
        self, origins: list[tuple[int, int]], rows: list[Row], texts: list[str], suffix: str
    ) -> None:
        """Inserts these rows; halves them until those that the target refuses stand alone."""
        try:
            self._execute(self._fit.layout.insert() + ",".join(texts) + suffix)
            for statement in self._fit.layout.repairs(rows):
                self._execute(statement)
        except PoisonError as error:
            if len(self._final.last) < self._run.rows:
                # An earlier change of the same key might have been taken.
                raise _NeedsOrderError from error
            if len(texts) == 1:
                number, row = origins[0]
                refusal = Refusal(self._messages[number], row, str(code_of(error)), error.what)
                self._refusals.append(refusal)
                return
            half = len(texts) // 2
            self._insert_some(origins[:half], rows[:half], texts[:half], suffix)
            self._insert_some(origins[half:], rows[half:], texts[half:], suffix)

    def _execute(self, sql: str) -> None:
        try:
            self._session.execute(sql)
        except PoisonError as error:
            if code_of(error) in ORDER_DEPENDENT:
                raise _NeedsOrderError from error
            raise


def _quoted(name: tuple[str, str]) -> str:
    return f"{quote_name(name[0])}.{quote_name(name[1])}"


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
            for statement in (*CREATE_CONTROL_TABLES, *CREATE_SCHEMA_TABLES):
                session.execute(statement)
        finally:
            session.close()

    def take_over(self, partition: int) -> tuple[MysqlLane, Stored]:
        """Bumps the lane's epoch; the former owner's transactions match no row from then on."""
        session = Session(self._target, DATABASE)
        fence = Fence(self._target.name, partition, self._around.resolver_epoch)
        try:
            epoch, stored = fence.take_over(session, kill_first=self._target.create_tables)
        except BaseException:
            session.close()
            raise
        return MysqlLane(self._target, self._around, fence, session, epoch), stored

    def close(self) -> None:
        """Lanes own their sessions; nothing is left."""
