"""Writes lanes to MySQL or MariaDB: rows and progress in one transaction, fenced by the progress row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from gravity.batch import REMOVES_ROW, TRUNCATE
from gravity.clock import monotonic_s
from gravity.errors import FatalError, GravityError, PoisonError, TransientError
from gravity.fault import FaultPoint, reach
from gravity.sink import Admitted, Pace, Refusal, SetAside, Stored, Write, split_table
from gravity_sink_mysql.catalog import Catalog, Fit
from gravity_sink_mysql.connection import Session, code_of
from gravity_sink_mysql.error_code import ORDER_DEPENDENT, SHAPE_CHANGED
from gravity_sink_mysql.fence import CREATE_CONTROL_TABLES, DATABASE, Fence
from gravity_sink_mysql.statement import (
    STATEMENT_BYTES_MAX,
    STATEMENT_ROWS_MAX,
    Row,
    latest_per_key,
    quote_name,
    spans,
)

if TYPE_CHECKING:
    from gravity.config.target import MysqlTarget
    from gravity.sink_stage import Surroundings

PING_S = 3.0
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


class MysqlLane:
    """One lane, on a session of its own. The contract is `gravity.sink.LaneWriter`."""

    def __init__(
        self, target: MysqlTarget, fence: Fence, session: Session, epoch: int, catalog: Catalog
    ) -> None:
        self._target = target
        self._fence = fence
        self._session: Session | None = session
        self._epoch = epoch
        self._catalog = catalog
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
        for number, message in enumerate(messages):
            if message.batch is None:
                continue  # A schema change: its effect on columns comes with the next rows.
            name = split_table(message.header)
            if TRUNCATE in message.batch.ops:
                raise _truncate_refused(message)
            fit = self._catalog.fit(
                session,
                name,
                message.batch.schema,
                lambda: self._fence.assert_owner(session, self._epoch),
            )
            run = open_run.get(name)
            if run is None or run.fit is not fit:
                run = open_run[name] = _Run(fit)
                runs.append(run)
            run.messages.append((number, message))
            run.rows += len(message.batch)
        return runs

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


def _truncate_refused(message: Admitted) -> FatalError:
    routed = message.header.routed
    return FatalError(
        "TRUNCATE TABLE can't be applied",
        where=f"table {routed.table}, source {routed.source}, position {routed.from_}",
        remedy="see docs/what-if.md: a truncated table",
    )


class MysqlWriter:
    """One MySQL or MariaDB target. The contract is `gravity.sink.SinkWriter`."""

    def __init__(self, target: MysqlTarget, around: Surroundings) -> None:
        self._target = target
        self._around = around

    @property
    def pace(self) -> Pace:
        """As configured; at once when nothing more is waiting."""
        return replace(self._around.pace, wait_ms_idle=WAIT_MS_IDLE)

    def open(self) -> None:
        """Makes the database and the tables that hold our progress."""
        session = Session(self._target)
        try:
            exists = session.rows(
                f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='{DATABASE}'"
            )
            if not exists:
                session.execute(f"CREATE DATABASE IF NOT EXISTS {quote_name(DATABASE)}")
            for statement in CREATE_CONTROL_TABLES:
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
        catalog = Catalog(
            self._target.name, create=self._target.create_tables, adopt=self._around.adopt
        )
        return MysqlLane(self._target, fence, session, epoch, catalog), stored

    def close(self) -> None:
        """Lanes own their sessions; nothing is left."""
