"""ALTER TABLE, and the tombstones of a TRUNCATE, for what a source's schema change comes to here. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from gravity.batch import Column, Value
from gravity.column import ColumnType
from gravity.errors import FatalError
from gravity.evolution import Alteration, Step, default_value
from gravity.schema_change import ColumnAction
from gravity.schema_follower import Fitness, RealColumn, Shape, Stage, columns_after, leaves
from gravity_sink_clickhouse.row import nearest_date
from gravity_sink_clickhouse.table import (
    DELETED,
    VERSION,
    column_type,
    create_view,
    quote_name,
    quote_table,
    quote_text,
)

_INTEGER = re.compile(r"(U?)Int(8|16|32|64)")
_DECIMAL = re.compile(r"Decimal\((\d+), ?(\d+)\)")
_DIGITS_MAX = 76
_MOMENT = re.compile(r"DateTime64\((\d)")


def split(table: str) -> tuple[str, str]:
    """(database, table) of a full name."""
    database, _, name = table.partition(".")
    return database, name


def bare(text: str) -> str:
    """A type without Nullable and LowCardinality."""
    for wrapper in ("LowCardinality(", "Nullable("):
        if text.startswith(wrapper):
            text = text[len(wrapper) : -1]
    return text


def judge(real: RealColumn, column: Column) -> Fitness:
    """Whether the column at the target takes what `column` of the source has."""
    there, here = bare(real.type), bare(column_type(column, in_key=real.in_key))
    null_fits = real.nullable or real.in_key or not column.nullable
    if null_fits and _holds(there, here):
        return "fits"
    return "convert" if common(there, here) is None else "widen"


def common(there: str, here: str) -> str | None:
    """The type that holds what a column has and what it is to have; None: no such type is known.

    A column never becomes narrower: a partition that is behind the change has rows in it, and will write
    more, whose values the source has got rid of before it made the change.
    """
    if _holds(there, here):
        return there
    if _holds(here, there) or _grows(there, here):
        return here
    one, other = _INTEGER.fullmatch(there), _INTEGER.fullmatch(here)
    if one and other:
        (low, high), (least, most) = _bounds(one), _bounds(other)
        low, high = min(low, least), max(high, most)
        return next(
            f"Int{bits}"
            for bits in (16, 32, 64, 128)
            if -(1 << bits - 1) <= low and high < 1 << bits - 1
        )
    one, other = _DECIMAL.fullmatch(there), _DECIMAL.fullmatch(here)
    if one and other:
        scale = max(int(one[2]), int(other[2]))
        digits = scale + max(int(one[1]) - int(one[2]), int(other[1]) - int(other[2]))
        return f"Decimal({digits}, {scale})" if digits <= _DIGITS_MAX else None
    return None


def _holds(wide: str, narrow: str) -> bool:
    """Whether every value of `narrow` is one of `wide`, printed alike."""
    if wide.replace(" ", "") == narrow.replace(" ", ""):
        return True
    one, other = _INTEGER.fullmatch(wide), _INTEGER.fullmatch(narrow)
    if one and other:
        (low, high), (least, most) = _bounds(one), _bounds(other)
        return low <= least and most <= high
    one, other = _DECIMAL.fullmatch(wide), _DECIMAL.fullmatch(narrow)
    return bool(one and other and one[2] == other[2] and int(one[1]) >= int(other[1]))


def _bounds(match: re.Match[str]) -> tuple[int, int]:
    bits = int(match[2])
    return (0, (1 << bits) - 1) if match[1] else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _grows(there: str, here: str) -> bool:
    """Whether the server may turn one into the other and every value stays what it is."""
    one, other = _DECIMAL.fullmatch(there), _DECIMAL.fullmatch(here)
    if one and other:
        digits, needed = int(other[1]) - int(other[2]), int(one[1]) - int(one[2])
        return int(other[2]) >= int(one[2]) and digits >= needed
    one, other = _MOMENT.match(there), _MOMENT.match(here)
    if one and other:
        return int(other[1]) >= int(one[1])
    return (there, here) == ("Float32", "Float64")


def refuse(alteration: Alteration, shape: Shape) -> None:
    """Raises FatalError for what ClickHouse can't do to a column of the key, or to two that swap names."""
    there = {real.name.lower(): real for real in shape}
    for step in alteration.steps:
        real = there.get(step.name.lower())
        if real is None or leaves(step):
            continue
        if step.new_name and step.new_name != real.name:
            _refuse_key(real, "renamed", alteration)
            _refuse_collision(step, alteration, there)
        if step.action is ColumnAction.MODIFY and step.column is not None:
            _refuse_key(real, "given another type", alteration)


def first_part(alteration: Alteration) -> list[Stage]:
    """Renames and drops, a statement each."""
    head = f"ALTER TABLE {quote_table(*split(alteration.table))}"
    stages = []
    names = alteration.before
    # What is dropped first leaves its name to what is renamed.
    for step in sorted(alteration.steps, key=leaves, reverse=True):
        name = next((name for name in names if name.lower() == step.name.lower()), None)
        if name is None:
            continue
        if leaves(step):
            text = f"{head} DROP COLUMN IF EXISTS {quote_name(name)}"
        elif step.new_name and step.new_name != name:
            text = f"{head} RENAME COLUMN {quote_name(name)} TO {quote_name(step.new_name)}"
        else:
            continue
        names = columns_after(names, [step])
        stages.append(Stage(text, names))
    return stages


def second_part(alteration: Alteration, shape: Shape) -> list[str]:
    """Additions and changes of type, as far as `shape` still wants them; then the view anew."""
    database, table = split(alteration.table)
    head = f"ALTER TABLE {quote_table(database, table)}"
    there = {real.name.lower(): real for real in shape}
    statements = []
    for step in alteration.steps:
        name = step.new_name or step.name
        real = there.get(name.lower())
        if step.column is None or step.action not in (ColumnAction.ADD, ColumnAction.MODIFY):
            continue
        if real is None:
            if step.action is ColumnAction.ADD or step.anew:
                statements.append(f"{head} ADD COLUMN IF NOT EXISTS {_added(step, name)}")
        elif step.action is ColumnAction.MODIFY and judge(real, step.column) != "fits":
            nullable = real.nullable or step.column.nullable
            kind = column_type(replace(step.column, nullable=nullable), in_key=False)
            wide = common(bare(real.type), bare(kind))
            if wide not in (None, bare(kind)):
                kind = f"Nullable({wide})" if nullable else f"{wide}"
            statements.append(f"{head} MODIFY COLUMN {quote_name(real.name)} {kind}")
    return [*statements, create_view(database, table)] if alteration.steps else []


def _added(step: Step, name: str) -> str:
    assert step.column is not None
    column = replace(step.column, nullable=step.column.nullable or step.anew)
    text = f"{quote_name(name)} {column_type(column, in_key=False)}"
    if step.anew or (step.default is None and column.nullable):
        return text
    return f"{text} DEFAULT {_literal(default_value(column, step.default), column)}"


def _literal(value: Value, column: Column) -> str:
    kind = ColumnType.parse(column.type)
    if isinstance(value, str) and kind.name in ("date", "datetime", "timestamp"):
        value = nearest_date(value, nullable=column.nullable, has_time=kind.name != "date")
    elif value == "" and kind.name == "decimal":
        value = "0"
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"unhex('{value.hex()}')"
    return quote_text(value) if isinstance(value, str) else repr(value)


def _refuse_key(real: RealColumn, what: str, alteration: Alteration) -> None:
    if real.in_key:
        raise FatalError(
            f"column {real.name} is {what} at the source; ClickHouse can't do that to a column of the key",
            where=f"table {alteration.table}, source {alteration.source}",
            remedy=(
                "drop the table at the target, start the sink again, then read the source's rows anew: "
                "`gravity snapshot SOURCE TABLE`"
            ),
        )


def _refuse_collision(step: Step, alteration: Alteration, there: dict[str, RealColumn]) -> None:
    free = {other.name.lower() for other in alteration.steps if leaves(other)}
    taken = step.new_name.lower()
    if taken in there and taken != step.name.lower() and taken not in free:
        raise FatalError(
            f"column {step.name} is renamed to {step.new_name}, a name that another column has here",
            where=f"table {alteration.table}, source {alteration.source}",
            remedy="columns that swap names can't be followed: rename them at the target by hand, then start again",
        )


def tombstones(
    table: str,
    key: Sequence[tuple[str, str]],
    version: int,
    *,
    partition: int | None,
    partitions: int,
) -> str:
    """The INSERT that says of every key ever stored that it is gone as of `version`.

    `key` is (column, type at the source). With `partition`: only of keys that lie in it; the server
    computes `gravity.key.key_partitions` by itself. Repeated, it inserts equal rows.
    """
    names = ", ".join(quote_name(name) for name, _ in key)
    quoted = quote_table(*split(table))
    where = ""
    if partition is not None:
        cells = ", ".join(_cell(name, kind, table) for name, kind in key)
        where = f" WHERE xxHash64(concat({quote_text(table)}, '\\0', {cells})) % {partitions} = {partition}"
    return (
        f"INSERT INTO {quoted} ({names}, {VERSION}, {DELETED}) "
        f"SELECT DISTINCT {names}, {version}, 1 FROM {quoted}{where} "
        "SETTINGS optimize_distinct_in_order = 1, insert_deduplicate = 0"
    )


def _cell(name: str, type_: str, table: str) -> str:
    """SQL for one cell of the canonical key: its length in four bytes, a letter, its text."""
    kind, quoted = ColumnType.parse(type_), quote_name(name)
    if kind.kind == "long":
        text = f"concat('i', toString({quoted}))"
    elif kind.name == "decimal":
        text = f"concat('s', toDecimalString({quoted}, {kind.scale}))"
    elif kind.kind == "string":
        text = f"concat('s', toString({quoted}))"
    elif kind.kind == "bytes":
        text = f"concat('b', {quoted})"
    else:
        raise FatalError(
            f"TRUNCATE of a table whose key has a column of type {type_}",
            where=f"table {table}, column {name}",
            remedy="give the table the order `order-by: table`, or delete its rows instead",
        )
    return f"unhex(leftPad(hex(toUInt32(length({text}))), 8, '0')), {text}"
