"""Asks for a consistent cut of a MySQL target, and has a command run while its partitions stand.

The request goes to the source's collector through the control topic; everything after that is in the
target's own database, where its partitions meet.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from gravity import cut_table, target_table
from gravity.clock import monotonic_s, now_us
from gravity.config.problem import require_declared
from gravity.config.target import ClickhouseTarget, KafkaTarget, MysqlTarget
from gravity.cut import CutMark, CutRefusedError, CutState
from gravity.errors import FatalError, GravityError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.mysql import MysqlSession
from gravity.topic import Topics, cut_request_key, cut_result_key, numbered

if TYPE_CHECKING:
    from gravity.config import Config

_LOOK_S: Final = 0.05
_ANSWER_S: Final = 0.5
"""How often control is asked what the collector said."""
_END_S: Final = 5.0
"""How long a command that is told to end has for it."""
_LATE_US: Final = 1_000_000
"""So much later than the partitions who asked gives a cut up that nobody stands at."""
_TOO_LONG: Final = "the command took longer than the partitions may stand, or one of them went on"
_FORGOTTEN_US: Final = 3_600_000_000
"""Requests so old are removed from control, whoever left them there."""

_NO_CUTS: Final = {
    ClickhouseTarget: "ClickHouse has no transaction in which its partitions could stand together, and its tables "
    "are merged on while they are read: there is no moment to hold",
    KafkaTarget: "a topic is a log and has no state at a moment; its readers are where they are",
}


class CutBusyError(GravityError):
    """Another cut of the target is running."""


class CutGivenUpError(GravityError):
    """The cut ended without a point."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where source and target were when all partitions stood."""

    cut: int
    source: str
    target: str
    position: str
    """Of the source: each of its transactions before it is in the target whole, none behind it at all."""
    gtids: str
    """The source's transactions before `position`."""
    time_us: int
    """Commit time of the last of them."""
    target_gtids: str | None
    """What the target had executed; None where it does not number its transactions."""
    reached_at: str
    """By the target's clock, UTC."""
    held: int
    """Rows on hold then, which are not in it."""
    parked: int
    """Rows that waited at the target then, because its constraints refused them."""
    stood_ms: int
    """From when the first of them stood to the end."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Row:
    """What the target knows of the cut."""

    state: CutState
    left_us: int
    point: Point | None


def require_cuttable(config: Config, source: str, target: str) -> MysqlTarget:
    """The target, of which a cut by transactions of `source` can be made.

    Raises CutRefusedError where none can.
    """
    require_declared("source", source, [entry.name for entry in config.sources], CutRefusedError)
    require_declared("target", target, [entry.name for entry in config.targets], CutRefusedError)
    found = next(entry for entry in config.targets if entry.name == target)
    if not isinstance(found, MysqlTarget):
        raise CutRefusedError(
            f"no cut of this target can be made: {_NO_CUTS[type(found)]}",
            where=f"target {target}",
            remedy="cut a MySQL or MariaDB target; `gravity wait` tells when this one has a source's transactions",
        )
    return found


def require_command(command: Sequence[str]) -> None:
    """Raises CutRefusedError for a command that can't be started, before anybody stands for it."""
    if command and shutil.which(command[0]) is None:
        raise CutRefusedError(f"there is no command {command[0]}", remedy="is it on the PATH?")


class CutAsker:
    """One cut, from the request to its end."""

    def __init__(self, config: Config, source: str, target: MysqlTarget, bound_s: float) -> None:
        self._config = config
        self._source = source
        self._target = target
        self._mark = CutMark(now_us(), int(bound_s * 1000), target.name)
        self._where = f"target {target.name}, source {source}, cut {self._mark.cut_id}"
        self._bound_s = bound_s

    def run(self, command: Sequence[str] = ()) -> tuple[Point, int]:
        """The point, and the exit code of `command`, which ran while all partitions stood.

        Raises:
            CutBusyError: the target has another cut.
            CutGivenUpError: no point came of it.
            TransientError, FatalError: Kafka or the target.
        """
        control = self._control()
        try:
            with MysqlSession(self._target, kind="target") as session:
                self._open(session, waits=bool(command))
                with self._ended_at_any_rate(control):
                    self._request(control)
                    row = self._reached(session, control)
                    code = self._run(session, command) if row.state is CutState.REACHED else 0
                    row = self._look(session)
        finally:
            control.close()
        assert row.point is not None
        return row.point, code

    def _control(self) -> ControlTopic:
        name = Topics(self._config.kafka.topic_prefix).control
        if name not in TopicAdmin(self._config.kafka).partition_counts():
            raise FatalError(
                f"topic {name} does not exist: this installation never ran",
                remedy="start it with `gravity run`, then ask again",
            )
        return ControlTopic(self._config.kafka, name, "gravity-cut")

    def _open(self, session: MysqlSession, *, waits: bool) -> None:
        name = self._target.name
        if not target_table.are_there(session.query, target_table.POINTS):
            raise FatalError(
                "the target's sink has never run, or is older than cuts",
                where=self._where,
                remedy="start sink-mysql of this version, then ask again",
            )
        session.query(cut_table.end_late(name))
        if not _changed(session, cut_table.ask(self._mark, self._source, waits=waits)):
            raise self._busy(session)
        for statement in cut_table.forget_old(name, self._mark.cut_id):
            session.query(statement)

    def _busy(self, session: MysqlSession) -> CutBusyError:
        found = session.query(cut_table.running(self._target.name))
        if not found:
            return CutBusyError("another cut has just ended", where=self._where, remedy="ask again")
        cut_id, source, asked_at, deadline = map(str, found[0])
        return CutBusyError(
            f"cut {cut_id} of source {source} is running there since {asked_at} UTC",
            where=f"target {self._target.name}",
            remedy=f"a target has one cut at a time; this one is over by {deadline} UTC at the latest",
        )

    def _request(self, control: ControlTopic) -> None:
        control.write(cut_request_key(self._source, self._mark.cut_id), self._mark.record)
        for key_of in (cut_request_key, cut_result_key):
            for number in numbered(control.refresh(), key_of(self._source, 0)):
                if number < self._mark.cut_id - _FORGOTTEN_US:
                    control.delete(key_of(self._source, number))

    @contextlib.contextmanager
    def _ended_at_any_rate(self, control: ControlTopic) -> Iterator[None]:
        """Takes the request back at the end; the partitions go on at once when that is an untimely one."""
        try:
            yield
        except BaseException:
            # Where this fails too, the partitions go on when their time is over.
            with (
                contextlib.suppress(GravityError),
                MysqlSession(self._target, kind="target") as session,
            ):
                session.query(
                    cut_table.give_up(
                        self._target.name, self._mark.cut_id, "who asked was interrupted"
                    )
                )
            raise
        finally:
            with contextlib.suppress(GravityError):
                for key_of in (cut_request_key, cut_result_key):
                    control.delete(key_of(self._source, self._mark.cut_id))

    def _look(self, session: MysqlSession) -> _Row:
        """The cut as it is. Raises CutGivenUpError when it is over without a point."""
        found = session.query(cut_table.point(self._target.name, self._mark.cut_id))
        if not found:
            raise CutGivenUpError("the target has forgotten the cut", where=self._where)
        (
            state, source, position, gtids, time_us, target_gtids, held, parked, reached_at, reason, left_us,
            stood_us,
        ) = found[0]  # fmt: skip
        state = CutState(state)
        if state is CutState.GIVEN_UP:
            raise self._given_up(str(reason))
        if state is CutState.OPEN:
            return _Row(state, int(left_us), None)
        theirs = None if target_gtids is None else str(target_gtids)
        stood_ms = 0 if stood_us is None else int(stood_us) // 1000
        point = Point(
            self._mark.cut_id, str(source), self._target.name, str(position), str(gtids), int(time_us), theirs,
            str(reached_at), int(held), int(parked), stood_ms,
        )  # fmt: skip
        return _Row(state, int(left_us), point)

    def _given_up(self, reason: str) -> CutGivenUpError:
        return CutGivenUpError(
            f"no point: {reason}",
            where=self._where,
            remedy="do source, stages and target run, and is the lag small (`gravity status`)? Ask again, or "
            "with a longer --timeout",
        )

    def _give_up(self, session: MysqlSession, reason: str) -> CutGivenUpError:
        session.query(cut_table.give_up(self._target.name, self._mark.cut_id, reason))
        return self._given_up(reason)

    def _reached(self, session: MysqlSession, control: ControlTopic) -> _Row:
        """Returns once all partitions have stood, or stand."""
        answered = False
        ask_at_s = monotonic_s() + _ANSWER_S
        while True:
            row = self._look(session)
            if row.state is not CutState.OPEN:
                return row
            if row.left_us < -_LATE_US:
                what = "some partition" if answered else "the collector"
                reason = (
                    f"{what} did not come to the marker" if answered else f"{what} sent no marker"
                )
                raise self._give_up(session, f"{reason} within {self._bound_s:g} s")
            if not answered and monotonic_s() >= ask_at_s:
                answer = control.refresh().get(cut_result_key(self._source, self._mark.cut_id))
                if answer is not None and answer["error"]:
                    raise self._give_up(session, f"the collector refuses: {answer['error']}")
                answered = answer is not None
                ask_at_s = monotonic_s() + _ANSWER_S
            time.sleep(_LOOK_S)

    def _run(self, session: MysqlSession, command: Sequence[str]) -> int:
        """Runs the command and lets the partitions go; its exit code.

        Raises CutGivenUpError, with the command ended, when they did not stand all the while.
        """
        with _ended(command) as process:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = process.wait(_ANSWER_S)
                    break
                # The sinks would end a cut that is late, but they may be gone.
                if self._look(session).left_us < -_LATE_US:
                    raise self._give_up(session, _TOO_LONG)
        if not _changed(session, cut_table.let_go(self._target.name, self._mark.cut_id)):
            self._look(session)
            raise self._give_up(session, _TOO_LONG)
        return code


@contextlib.contextmanager
def _ended(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The command at work; it is ended with the block, if it has not by itself."""
    process = subprocess.Popen(list(command))  # noqa: S603 - what the operator asked for
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _changed(session: MysqlSession, statement: str) -> bool:
    """Whether a statement changed a row."""
    session.query(statement)
    return int(session.query("SELECT ROW_COUNT()")[0][0]) > 0
