"""How rows written before a schema change go into a table that has made it already. Pure.

A change reaches a target once in every partition, and the partitions are not equally far. The first
one that meets it alters the table and records what was done; the others meet a table that is ahead of
their rows. Which changes are ahead of a batch follows from numbers alone: a change and a batch of one
source both carry the number of their ingest message.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from gravity.batch import ChangeBatch, Column, TableSchema, Value
from gravity.column import ColumnType
from gravity.errors import FatalError
from gravity.schema_change import ColumnAction, TableAction

Policy = Literal["apply", "additive", "ignore", "stop"]
"""What a target does about schema changes: `apply` follows all; `additive` adds, widens and renames,
but takes nothing away; `ignore` changes only what rows need; `stop` halts at the first."""


PLANNED, MOVED, DONE = 0, 1, 2
"""Stages of an alteration: nothing is known to be done; columns have been renamed and dropped; all is."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was done to one column of a target's table."""

    action: ColumnAction
    name: str
    """Before the change; of an added column: its name."""
    new_name: str = ""
    column: Column | None = None
    default: str | None = None
    anew: bool = False
    """Of MODIFY: the column was dropped and added again, its values come with the rows read again."""
    kept: bool = False
    """Of DROP: the column stayed, rows written afterwards have NULL in it."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """What one schema change does to one table of a target, as it is recorded there."""

    table: str
    """`database.table` at the target."""
    change_id: str
    source: str
    seq: int
    """Of the ingest message that brought it."""
    partition: int
    """The one that alters the table; no other does."""
    action: TableAction
    steps: tuple[Step, ...] = ()
    before: tuple[str, ...] = ()
    """The table's columns when it was planned: until `stage` is MOVED they tell what has been done of it."""
    stage: int = 0

    @property
    def done(self) -> bool:
        """Whether the table is as the change wants it."""
        return self.stage >= DONE

    def to_json(self) -> dict[str, Any]:
        """What is not a column of the record, as JSON values."""
        return {
            "action": self.action,
            "steps": [asdict(step) for step in self.steps],
            "before": self.before,
        }

    def with_json(self, record: dict[str, Any]) -> Self:
        """The same with what `to_json` gave."""
        return replace(
            self,
            action=TableAction(record["action"]),
            steps=tuple(_step(item) for item in record["steps"]),
            before=tuple(record["before"]),
        )


def _step(item: dict[str, Any]) -> Step:
    column = item["column"]
    return Step(
        **{
            **item,
            "action": ColumnAction(item["action"]),
            "column": None if column is None else Column(**column),
        }
    )


@dataclass(frozen=True, slots=True)
class Adapted:
    """How a batch of some shape goes into the table as it is now."""

    schema: TableSchema
    """The columns that are written, under their present names."""
    taken: tuple[int, ...]
    """Where each stands in the batch; -1: it is not there, and `constants` has its value."""
    constants: dict[int, Value]
    """Index in `schema` → the value in every row."""


def adapt(
    schema: TableSchema, source: str, seq: int, alterations: Iterable[Alteration]
) -> Adapted | None:
    """How a batch of `schema` that ingest message `seq` of `source` brought is written now.

    None: the table was dropped after it, so its rows are gone at the source. `alterations` are those of
    the batch's table; what other sources did is none of its business.
    """
    ours = sorted(
        (item for item in alterations if item.source == source), key=lambda item: item.seq
    )
    ahead = [item for item in ours if item.seq > seq]
    if any(item.action is TableAction.DROP for item in ahead):
        return None
    columns: list[tuple[Column, int]] = list(
        zip(schema.columns, range(len(schema.columns)), strict=True)
    )
    constants: dict[str, Value] = {}
    for item in ours:
        if item.seq <= seq:
            _keep_empty(item, columns, constants)
        else:
            columns = _advance(item, columns, constants)
    if all(taken >= 0 for _, taken in columns) and len(columns) == len(schema.columns):
        same = tuple(column for column, _ in columns) == schema.columns
        if same:
            return Adapted(schema, tuple(range(len(columns))), {})
    names = tuple(column for column, _ in columns)
    taken = tuple(index for _, index in columns)
    try:
        key = tuple(taken.index(index) for index in schema.key)
    except ValueError:
        raise key_changed(f"{schema.database}.{schema.table}", source) from None
    present = TableSchema(schema.database, schema.table, names, key)
    values = {
        index: constants[column.name.lower()]
        for index, (column, origin) in enumerate(columns)
        if origin < 0
    }
    return Adapted(present, taken, values)


def _keep_empty(
    item: Alteration, columns: list[tuple[Column, int]], constants: dict[str, Value]
) -> None:
    """A column that was dropped at the source and kept here is NULL in rows written since."""
    names = {column.name.lower() for column, _ in columns}
    for step in item.steps:
        if step.kept and step.column is not None and step.name.lower() not in names:
            columns.append((step.column, -1))
            constants[step.name.lower()] = None


def _advance(
    item: Alteration, columns: list[tuple[Column, int]], constants: dict[str, Value]
) -> list[tuple[Column, int]]:
    """The batch's columns after one more change. Names of a step are those before the statement."""
    by_name = {
        step.name.lower(): step for step in item.steps if step.action is not ColumnAction.ADD
    }
    moved: list[tuple[Column, int]] = []
    values: dict[str, Value] = {}
    for column, taken in columns:
        step = by_name.get(column.name.lower())
        if step is not None and (step.anew or (step.action is ColumnAction.DROP and not step.kept)):
            continue
        name = column.name if step is None else step.new_name or column.name
        if taken < 0:
            values[name.lower()] = constants[column.name.lower()]
        now = column
        if step is not None and step.action is ColumnAction.MODIFY and step.column is not None:
            now = step.column
        moved.append((now if now.name == name else replace(now, name=name), taken))
    present = {column.name.lower() for column, _ in moved}
    for step in item.steps:
        added = step.action is ColumnAction.ADD and step.column is not None
        if added and step.name.lower() not in present:
            assert step.column is not None
            moved.append((step.column, -1))
            values[step.name.lower()] = default_value(step.column, step.default)
    constants.clear()
    constants.update(values)
    return moved


def present(batch: ChangeBatch, adapted: Adapted) -> ChangeBatch:
    """The batch in the columns that the table has now."""
    if adapted.schema is batch.schema:
        return batch
    columns = [
        [adapted.constants[index]] * len(batch) if taken < 0 else batch.columns[taken]
        for index, taken in enumerate(adapted.taken)
    ]
    return replace(
        batch, schema=adapted.schema, columns=columns, before_columns=(), before=(), _rows=None
    )


def default_value(column: Column, default: str | None) -> Value:
    """The value that rows which were there have in an added column."""
    kind = ColumnType.parse(column.type).kind
    if default is None:
        if column.nullable:
            return None
        implicit: dict[str, Value] = {"long": 0, "double": 0.0, "bytes": b"", "string": ""}
        return implicit[kind]
    if kind == "long":
        return int(default)
    if kind == "double":
        return float(default)
    return default.encode() if kind == "bytes" else default


def key_changed(table: str, source: str) -> FatalError:
    """The error for a table whose rows are no longer told apart by the columns they were."""
    return FatalError(
        "primary key changed: rows at the target can't be matched to those of the source any more",
        where=f"table {table}, source {source}",
        remedy=(
            "drop the table at the target, start the sink again, then read the source's rows anew: "
            "`gravity snapshot SOURCE TABLE`"
        ),
    )


def renamed_key(key: Sequence[str], alterations: Iterable[Alteration]) -> tuple[str, ...]:
    """The present names of key columns, lower case, after `alterations` in their order."""
    names = [name.lower() for name in key]
    for item in alterations:
        moves = {step.name.lower(): step.new_name.lower() for step in item.steps if step.new_name}
        names = [moves.get(name, name) for name in names]
    return tuple(names)
