"""A transform on one table: its columns at the target, and a batch in them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from gravity.batch import INSERT, READ, ChangeBatch, Column, TableSchema, Value
from gravity.column import ColumnType
from gravity.condition import ConditionError, compile_value
from gravity.condition.operand import each
from gravity.errors import FatalError
from gravity.transform.columns import ColumnRules, OfCell, column_rules
from gravity.transform.disguise import DisguiseError
from gravity.transform.fit import FitError, always_fits, fitter, keeps_apart
from gravity.transform.naming import fill
from gravity.transform.rule import AddedColumn, TransformPlan


@dataclass(frozen=True, slots=True)
class _Taken:
    """A column of the source, each cell by `function` (None = as it is)."""

    index: int
    function: OfCell | None


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value


@dataclass(frozen=True, slots=True)
class _Computed:
    """An expression over columns of the source: (name, index) of each."""

    inputs: tuple[tuple[str, int], ...]
    evaluate: Callable[[Mapping[str, Sequence[Value]], int], list[Any]]
    fit: OfCell


_Made = _Taken | _Constant | _Computed
_Images = Callable[[int], Sequence[Value]]


@dataclass(frozen=True)
class Transformation:
    """A transform of one table of one shape."""

    schema: TableSchema
    """The table as the target has it, still under the source's name: that says whose rows they are."""
    _columns: tuple[_Made, ...]

    @property
    def key_constants(self) -> tuple[Value, ...]:
        """Of each column of the key the value that it has in every row; None: its rows have their own."""
        made = (self._columns[index] for index in self.schema.key)
        return tuple(one.value if isinstance(one, _Constant) else None for one in made)

    def apply(self, batch: ChangeBatch) -> ChangeBatch:
        """The batch in the target's columns. What it says of rows before a change is transformed alike."""
        place = {index: at for at, index in enumerate(batch.before_columns)}
        whole = len(place) == len(batch.schema.columns) > 0
        kept = [
            at
            for at, made in enumerate(self._columns)
            if self._has_before(at, made, place, whole=whole)
        ]
        return replace(
            batch,
            schema=self.schema,
            columns=[self._made(made, batch.columns.__getitem__, len(batch)) for made in self._columns],
            before_columns=tuple(kept) if place else (),
            before=[self._before(self._columns[at], batch, place) for at in kept] if place else (),
            _rows=None,
        )  # fmt: skip

    def _has_before(self, at: int, made: _Made, place: Mapping[int, int], *, whole: bool) -> bool:
        if isinstance(made, _Taken):
            return made.index in place
        return whole or at in self.schema.key

    def _made(self, made: _Made, images: _Images, rows: int) -> Sequence[Value]:
        match made:
            case _Taken(index, function):
                return images(index) if function is None else each(function, images(index))
            case _Constant(value):
                return [value] * rows
            case _Computed(inputs, evaluate, fit):
                found = evaluate({name: images(index) for name, index in inputs}, rows)
                return each(fit, found)

    def _before(self, made: _Made, batch: ChangeBatch, place: Mapping[int, int]) -> Sequence[Value]:
        values = self._made(made, lambda index: batch.before[place[index]], len(batch))
        if isinstance(made, _Taken):
            return values
        # A row that is new was nothing before.
        return [
            None if op in (INSERT, READ) else v for op, v in zip(batch.ops, values, strict=True)
        ]


@lru_cache(maxsize=4096)
def transformation(rule: TransformPlan, source: str, schema: TableSchema) -> Transformation:
    """The transform `rule`, which means the table, on a table of this shape of `source`.

    Raises FatalError where the table can't be transformed so: it lacks a column, has one of another type,
    or would lose what tells its rows apart.
    """
    where = f"source {source}, table {schema.database}.{schema.table}"
    try:
        return _compile(rule, source, schema)
    except (FitError, DisguiseError, _UnfitError) as error:
        raise FatalError(
            f"transform of {', '.join(rule.tables)}: {error}",
            where=where,
            remedy="mend the transform, or leave the table out of it; then `gravity reload CONFIG`",
        ) from error


class _UnfitError(ValueError):
    """The transform does not fit the table."""


def _compile(rule: TransformPlan, source: str, schema: TableSchema) -> Transformation:
    rules = column_rules(rule)
    spelling = {name.lower(): name for name in schema.column_index}
    if not rule.lenient:
        _require_columns(rule, schema, spelling)
    columns: list[Column] = []
    made: list[_Made] = []
    places: dict[int, int] = {}
    for index, column in enumerate(schema.columns):
        in_key = index in schema.key
        if in_key:
            _require_key(rules, column)
        if rules.name(column.name) is None:
            continue
        becomes = rules.column(column)
        if in_key and becomes.nullable != column.nullable:
            becomes = replace(becomes, nullable=column.nullable)
        _require_total(rules, column)
        places[index] = len(columns)
        columns.append(becomes)
        made.append(_Taken(index, rules.function(column)))
    key = [places[index] for index in schema.key]
    known = rule.known_of(source, schema.database, schema.table)
    for item, column in rules.added:
        if item.key and not schema.key:
            raise _UnfitError(f"column {item.name} can't be a key: the table has none")
        if item.key:
            key.append(len(columns))
        columns.append(column)
        made.append(_added(item, schema, spelling, known, lenient=rule.lenient))
    _require_names(columns)
    shaped = TableSchema(schema.database, schema.table, tuple(columns), tuple(key))
    return Transformation(shaped, tuple(made))


def _require_columns(rule: TransformPlan, schema: TableSchema, spelling: Mapping[str, str]) -> None:
    missing = [name for name in rule.named_columns if name.lower() not in spelling]
    if missing:
        raise _UnfitError(
            f"the table has no column {', '.join(missing)}; its columns are {', '.join(schema.column_index)}"
            " (missing-columns: ignore says that some tables may lack it)"
        )


def _require_key(rules: ColumnRules, column: Column) -> None:
    """Refuses whatever could make two rows of the source one row of the target."""
    overwritten = rules.overwrites(column.name)
    if overwritten:
        raise _UnfitError(
            f"column {column.name} is part of the key, so it can't be {overwritten}: rows would be mixed up"
        )
    cast = rules.cast_of(column.name)
    if cast is None:
        return
    here, to = ColumnType.parse(column.type), ColumnType.parse(cast.type)
    rules.function(column)  # A cast that is none says so itself.
    if cast.or_null or not always_fits(here, to) or not keeps_apart(here, to):
        raise _UnfitError(
            f"column {column.name} ({column.type}) is part of the key, and as {cast.type} two of its values "
            "might be one: cast it to a wider type"
        )


def _require_total(rules: ColumnRules, column: Column) -> None:
    cast = rules.cast_of(column.name)
    if cast is None or cast.or_null:
        return
    rules.function(column)
    if not always_fits(ColumnType.parse(column.type), ColumnType.parse(cast.type)):
        raise _UnfitError(
            f"not every {column.type} of column {column.name} fits {cast.type}: choose a wider type, or say "
            f"{{type: {cast.type}, or-null: true}}"
        )


def _require_names(columns: Sequence[Column]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.name.lower() in seen:
            raise _UnfitError(f"two columns would be called {column.name}")
        seen.add(column.name.lower())
    if not columns:
        raise _UnfitError("no column is left")


def _added(
    item: AddedColumn,
    schema: TableSchema,
    spelling: Mapping[str, str],
    known: Mapping[str, str],
    *,
    lenient: bool,
) -> _Made:
    to = ColumnType.parse(item.type)
    if item.expression is None:
        return _Constant(constant_of(item, known))
    compiled = compile_value(item.expression)
    if lenient and any(name.lower() not in spelling for name in compiled.columns):
        return _Constant(None)
    try:
        names = [spelling[name.lower()] for name in compiled.columns]
        found = compiled.on(schema.columns)
        fit = fitter(found.kind, to)
    except KeyError as error:
        raise _UnfitError(
            f"column {item.name} needs column {error.args[0]}, which the table does not have"
        ) from None
    except (ConditionError, FitError) as error:
        raise _UnfitError(f"column {item.name}: {error}") from error
    inputs = tuple((name, schema.column_index[name]) for name in names)
    return _Computed(inputs, found.evaluate, fit)


def constant_of(item: AddedColumn, known: Mapping[str, str]) -> Value:
    """The cell that an added column has in every row of a table of which `known` is known.

    Raises FitError where it does not fit the column's type.
    """
    value, to = item.value, ColumnType.parse(item.type)
    if value is None:
        return None
    if isinstance(value, str):
        filled, kind = fill(value, known), "text"
        cell = fitter(kind, to)(filled)
    else:
        filled, kind = str(value), "float" if isinstance(value, float) else "int"
        cell = fitter(kind, to)(float(value) if kind == "float" else int(value))
    if cell is None:
        raise FitError(f"column {item.name}: {filled!r} does not fit {item.type}")
    return cell
