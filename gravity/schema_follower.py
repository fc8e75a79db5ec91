"""What every sink does about a schema change: plan it, claim it, alter the table, say that it is done. Pure.

One partition alters a table for one change; which one is settled by an atomic claim at the target, and
its successor finishes what it left. Whoever meets a change that another partition has claimed waits
until it is done, and the altering partition waits for nobody: so nothing can wait in a circle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from gravity.batch import ChangeBatch, Column
from gravity.errors import FatalError, TransientError
from gravity.evolution import (
    DONE,
    MOVED,
    Alteration,
    Policy,
    Step,
    adapt,
    key_changed,
    present,
)
from gravity.fault import FaultPoint, reach
from gravity.header import RoutedHeader, TargetHeader
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, SchemaChange, TableAction

if TYPE_CHECKING:
    from gravity.sink import Admitted

Fitness = Literal["fits", "widen", "convert"]
"""Whether a target's column takes every value of a type as it is; once it is made wider, such that what
it holds stays; or only if what it holds is converted."""

_ALTERING = ("ALTER", "DROP TABLE")
"""How statements begin that change a table's shape; others renew a view or fill in values."""
_DELETES = re.compile(
    r"(?:\s|/\*.*?\*/|--\s[^\n]*\n|#[^\n]*\n)*TRUNCATE\b", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class RealColumn:
    """A column as the target describes it."""

    name: str
    type: str
    """In the target's own words."""
    nullable: bool
    in_key: bool
    charset: str | None = None
    collation: str | None = None
    declared: Column | None = None
    """As a source would declare it, where the target's words say that."""


Shape = Sequence[RealColumn]


@dataclass(frozen=True, slots=True)
class Stage:
    """A statement that can't be cut in two, and what tells that it has run."""

    statement: str
    columns: tuple[str, ...]
    """The table's columns after it."""


class SchemaTarget(Protocol):
    """A target as the follower needs it."""

    def alterations(self, table: str) -> Sequence[Alteration]:
        """Everything recorded about `table`, read now."""

    def origins(self, table: str) -> Sequence[str]:
        """The source tables whose rows went into `table`."""

    def shape(self, table: str) -> Shape | None:
        """The table as it is now; None = there is none."""

    def judge(self, real: RealColumn, column: Column) -> Fitness:
        """Whether `real` takes the values of `column`."""

    def claim(self, alteration: Alteration) -> Alteration:
        """Records what is planned, if nobody has; returns what stands."""

    def record(self, alteration: Alteration) -> None:
        """Records what stage the alteration has reached."""

    def refuse(self, alteration: Alteration, shape: Shape) -> None:
        """Raises FatalError for what this kind of target can't do to a table of `shape`."""

    def first_part(self, alteration: Alteration) -> list[Stage]:
        """Statements that rename and drop columns; each is atomic."""

    def second_part(self, alteration: Alteration, shape: Shape) -> list[str]:
        """Statements that add and change columns, as far as that has not been done yet."""

    def drop(self, table: str) -> list[str]:
        """Statements that drop the table, and do nothing if there is none."""

    def run(self, statements: Sequence[str]) -> None:
        """Runs statements, as the lane's owner."""


def means_nothing(change: SchemaChange) -> bool:
    """Whether no row and no column is touched, such as by an index.

    Raises FatalError for a TRUNCATE of which only the statement is known: format 1 of the message.
    """
    if not change.table:
        if _DELETES.match(change.statement):
            raise FatalError(
                f"TRUNCATE TABLE can't be applied: {change.statement[:200]}",
                where=f"source {change.source}, position {change.position}",
                remedy="the message is of an older collector: see docs/what-if.md, TRUNCATE at a source",
            )
        return True
    # A table that is created comes with its first row; of several sources' it must be said that it is back.
    return (change.action is TableAction.CREATE and change.source != "") or (
        change.action is TableAction.ALTER and not change.columns and not change.key
    )


class Follower:
    """Follows schema changes for one partition of one target."""

    def __init__(
        self, name: str, partition: int, policy: Policy, port: SchemaTarget, *, may_alter: bool
    ) -> None:
        """`name` is the target's; `may_alter`: whether statements may be run there at all."""
        self._name = name
        self._partition = partition
        self._policy: Policy = policy
        self._port = port
        self._may_alter = may_alter

    def follow(self, change: SchemaChange, header: TargetHeader) -> None:
        """Makes the table as `change` wants it, or returns because that has been done.

        Raises:
            TransientError: another partition is at it; come again.
            FatalError: the policy forbids it, or it can't be done; nothing was altered.
        """
        table = header.routed.table
        where = f"target {self._name}, table {table}, source {header.routed.source}, position {change.position}"
        known = self._port.alterations(table)
        standing = next((item for item in known if item.change_id == change.change_id), None)
        if standing is None:
            if self._policy == "stop":
                raise FatalError(
                    f"schema-evolution is `stop`, and the source ran: {change.statement[:500]}",
                    where=where,
                    remedy="alter the target by hand, then start the sink with schema-evolution: apply",
                )
            if self._policy == "ignore" and not change.key:
                return
            refuse_unfinished(known, where)
            planned = self._plan(change, header, where)
            if planned is None:
                return
            standing = self._port.claim(planned)
        if standing.done:
            return
        if standing.partition != self._partition:
            refuse_unfinished([standing], where)
        reach(FaultPoint.SINK_CLAIMED_NOT_ALTERED)
        self._alter(standing)
        reach(FaultPoint.SINK_ALTERED_NOT_RECORDED)
        self._port.record(replace(standing, stage=DONE))

    def _plan(self, change: SchemaChange, header: TargetHeader, where: str) -> Alteration | None:
        table = header.routed.table
        shared = bool(change.source) and len(self._port.origins(table)) > 1
        if shared:
            _refuse_for_one(change, where)
        shape = self._port.shape(table)
        steps: tuple[Step, ...] = ()
        if change.action is TableAction.DROP:
            if self._policy == "additive":
                return None
        else:
            steps = plan_steps(
                change,
                shape,
                self._port.judge,
                additive=self._policy == "additive",
                shared=shared,
                where=where,
            )
            _refuse_new_key(change, shape, steps, table)
        before = tuple(column.name for column in shape or ())
        planned = Alteration(
            table, change.change_id, header.routed.source, header.routed.seq, self._partition,
            change.action, steps, before,
        )  # fmt: skip
        statements = self._statements(planned, shape)
        altering = [text for text in statements if text.startswith(_ALTERING)]
        if altering and not self._may_alter:
            raise FatalError(
                f"the source ran {change.statement[:500]}, and create-tables is false",
                where=where,
                remedy=f"run at the target, then start again: {'; '.join(altering)}",
            )
        return planned

    def _statements(self, planned: Alteration, shape: Shape | None) -> list[str]:
        if shape is None:
            return []
        if planned.action is TableAction.DROP:
            return self._port.drop(planned.table)
        self._port.refuse(planned, shape)
        first = [stage.statement for stage in self._port.first_part(planned)]
        return first + self._port.second_part(planned, shape_after(shape, planned.steps))

    def _alter(self, planned: Alteration) -> None:
        if planned.action is TableAction.DROP:
            self._run(self._port.drop(planned.table))
            return
        shape = self._port.shape(planned.table)
        if shape is None:
            return
        if planned.stage < MOVED:
            self._move(planned, shape)
            self._port.record(replace(planned, stage=MOVED))
        self._run(self._port.second_part(planned, self._port.shape(planned.table) or ()))

    def _move(self, planned: Alteration, shape: Shape) -> None:
        """Renames and drops columns, from wherever a former attempt was cut off.

        No column is added before all of it is recorded, so no two states have the same columns.
        """
        stages = self._port.first_part(planned)
        lists = [planned.before, *(stage.columns for stage in stages)]
        found = tuple(column.name for column in shape)
        if found in lists:
            self._run([stage.statement for stage in stages[lists.index(found) :]])

    def _run(self, statements: Sequence[str]) -> None:
        if not self._may_alter:
            # An operator has altered the table; values are ours to fill in.
            statements = [text for text in statements if text.startswith("UPDATE")]
        self._port.run(statements)


def columns_after(names: Sequence[str], steps: Sequence[Step]) -> tuple[str, ...]:
    """The names of a table's columns once `steps` have renamed and dropped some, all at once."""
    gone = {step.name.lower() for step in steps if leaves(step)}
    moves = {step.name.lower(): step.new_name for step in steps if step.new_name}
    return tuple(moves.get(name.lower(), name) for name in names if name.lower() not in gone)


def leaves(step: Step) -> bool:
    """Whether the column and what it holds go."""
    return step.anew or (step.action is ColumnAction.DROP and not step.kept)


def refuse_unfinished(alterations: Sequence[Alteration], where: str) -> None:
    """Raises TransientError while a partition is still altering the table."""
    for item in alterations:
        if not item.done:
            raise TransientError(
                f"partition {item.partition} is altering the table ({item.change_id})", where=where
            )


def shape_after(shape: Shape, steps: Sequence[Step]) -> list[RealColumn]:
    """`shape` once columns have been renamed and dropped."""
    moves = {step.name.lower(): step for step in steps if step.new_name or leaves(step)}
    left = []
    for real in shape:
        step = moves.get(real.name.lower())
        if step is None:
            left.append(real)
        elif not leaves(step):
            left.append(replace(real, name=step.new_name))
    return left


def plan_steps(
    change: SchemaChange,
    shape: Shape | None,
    judge: Callable[[RealColumn, Column], Fitness],
    *,
    additive: bool,
    where: str,
    shared: bool = False,
) -> tuple[Step, ...]:
    """What `change` comes to at a table that has `shape` now.

    `shared`: other tables of the source have their rows there too, so nothing may be taken away, and what
    is added may be there already.

    Raises FatalError for what `additive` forbids, or a shared table does.
    """
    real = None if shape is None else {column.name.lower(): column for column in shape}
    steps: list[Step] = []
    for item in change.columns:
        found = None if real is None else real.get(item.name.lower())
        match item.action:
            case ColumnAction.ADD:
                steps.append(_added(item, change.rows))
                if shared and found is not None:
                    steps += _modified(item, found, change.rows, judge, missing=False)
            case ColumnAction.DROP:
                steps.append(_dropped(item, found, additive=additive or shared))
            case ColumnAction.RENAME:
                steps.append(Step(ColumnAction.RENAME, item.name, item.new_name))
            case ColumnAction.MODIFY:
                steps += _modified(item, found, change.rows, judge, missing=real is None)
    for step in steps if shared else ():
        if step.anew or (step.action is ColumnAction.MODIFY and not _widens(step, real, judge)):
            raise _only_of_one(f"column {step.name} would be converted", change, where)
    for step in steps if additive and not shared else ():
        taken = real is not None and step.name.lower() in real
        if step.anew or (step.action is ColumnAction.ADD and taken):
            raise FatalError(
                f"column {step.name} would lose its values, and schema-evolution is `additive`",
                where=where,
                remedy="rename the column at the target, then start the sink again",
            )
    return tuple(steps)


def _widens(
    step: Step,
    real: Mapping[str, RealColumn] | None,
    judge: Callable[[RealColumn, Column], Fitness],
) -> bool:
    found = None if real is None else real.get(step.name.lower())
    return found is None or step.column is None or judge(found, step.column) != "convert"


def _refuse_for_one(change: SchemaChange, where: str) -> None:
    """Raises FatalError for what would be done to the rows of other tables as well."""
    if change.action is TableAction.DROP:
        raise _only_of_one("its rows would have to go, and no others", change, where)
    for item in change.columns:
        if item.new_name:
            raise _only_of_one(f"column {item.name} has another name in others", change, where)


def _only_of_one(what: str, change: SchemaChange, where: str) -> FatalError:
    return FatalError(
        f"several tables of a source share this one, and one of them changes: {what}: {change.statement[:500]}",
        where=where,
        remedy=(
            "make the same change to the others, then the target's table as they are by hand, and start the "
            "sink with schema-evolution: ignore until it is past it; or give each table one of its own"
        ),
    )


def _added(item: ColumnChange, rows: RowsAfter) -> Step:
    default = item.default if rows is RowsAfter.FILLED else None
    column = item.column
    if column is not None and default is None and rows is not RowsAfter.FILLED:
        # Rows that are there have NULL, whatever the source says of those to come.
        column = replace(column, nullable=True)
    return Step(ColumnAction.ADD, item.name, column=column, default=default)


def _dropped(item: ColumnChange, found: RealColumn | None, *, additive: bool) -> Step:
    if not additive or found is None:
        return Step(ColumnAction.DROP, item.name)
    stays = None if found.declared is None else replace(found.declared, nullable=True)
    return Step(ColumnAction.DROP, found.name, column=stays, kept=True)


def _modified(
    item: ColumnChange,
    found: RealColumn | None,
    rows: RowsAfter,
    judge: Callable[[RealColumn, Column], Fitness],
    *,
    missing: bool,
) -> list[Step]:
    step = Step(ColumnAction.MODIFY, item.name, item.new_name, item.column)
    rename = [Step(ColumnAction.RENAME, item.name, item.new_name)] if item.new_name else []
    if item.column is None:
        return rename
    anew = Step(ColumnAction.MODIFY, item.name, item.new_name, item.column, anew=True)
    if found is None:
        if not missing:
            return rename
        return [anew if rows is RowsAfter.REREAD else step]
    match judge(found, item.column):
        case "fits":
            return rename
        case "widen":
            return [step]
        case "convert":
            # Rows that the source says have kept their values are converted in place.
            return [anew if rows is RowsAfter.REREAD else step]


def _refuse_new_key(
    change: SchemaChange, shape: Shape | None, steps: Sequence[Step], table: str
) -> None:
    if shape is None:
        return
    lost = {step.name.lower() for step in steps if leaves(step)}
    if any(real.in_key and real.name.lower() in lost for real in shape):
        raise key_changed(table, change.source)
    if change.key:
        key = {real.name.lower() for real in shape_after(shape, steps) if real.in_key}
        if key != {name.lower() for name in change.key}:
            raise key_changed(table, change.source)


def has_rows_to_delete(
    port: SchemaTarget, routed: RoutedHeader, target: str, policy: Policy
) -> bool:
    """Whether a TRUNCATE of the source's table finds rows at `target`: not where the table was dropped since.

    Nor, under policy `ignore`, where other tables have rows in it: an operator deletes those of this one.

    Raises:
        TransientError: the table is being altered; FatalError: rows of other tables are in it, too.
    """
    where = f"target {target}, table {routed.table}"
    known = port.alterations(routed.table)
    refuse_unfinished(known, where)
    origins = port.origins(routed.table)
    if len(origins) > 1:
        if policy == "ignore":
            return False
        raise FatalError(
            f"TRUNCATE of one of several tables that share this one: {', '.join(origins)}",
            where=f"{where}, source {routed.source}, position {routed.from_}",
            remedy=(
                "delete its rows at the target by hand, and start the sink with schema-evolution: ignore until "
                "it is past it; or give each table one of its own: see docs/schema-changes.md"
            ),
        )
    dropped = any(
        item.action is TableAction.DROP and item.source == routed.source and item.seq > routed.seq
        for item in known
    )
    return not dropped and port.shape(routed.table) is not None


class Ahead:
    """What a lane knows of the changes that tables of its target have made, and until when it holds."""

    def __init__(self) -> None:
        self._by_table: dict[str, list[Alteration]] = {}
        self._number: int | None = None

    @property
    def known(self) -> bool:
        """Whether it has been read since it was last forgotten."""
        return self._number is not None

    @property
    def number(self) -> int:
        """How many records it knows."""
        return self._number or 0

    def learn(self, alterations: Sequence[Alteration]) -> None:
        """Takes in everything recorded for the target."""
        self._by_table = {}
        for item in alterations:
            self._by_table.setdefault(item.table, []).append(item)
        self._number = len(alterations)

    def forget(self) -> None:
        """Reads everything again when it is next needed."""
        self._number = None

    def is_all(self, number: int) -> bool:
        """Whether nothing was recorded since, when there are `number` records now."""
        return number == self._number

    def of(self, table: str) -> Sequence[Alteration]:
        """Those of one table."""
        return self._by_table.get(table, ())

    def present(self, message: Admitted, where: str) -> ChangeBatch | None:
        """The message's rows as they go into the table now; None: the table was dropped after them.

        Raises TransientError while the table is being altered.
        """
        batch = message.batch
        assert batch is not None
        routed = message.header.routed
        alterations = self._by_table.get(routed.table)
        if not alterations:
            return batch
        refuse_unfinished(alterations, where)
        adapted = adapt(batch.schema, routed.source, routed.seq, alterations)
        return None if adapted is None else present(batch, adapted)
