"""Why one row goes where it goes: every rule that might mean it, and what the rule says. Pure.

The ways themselves are the router's own answer for a batch of this one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gravity.batch import ChangeBatch, TableSchema, Transaction, Value
from gravity.column import ColumnType
from gravity.condition import compile_condition
from gravity.errors import FatalError
from gravity.placement import NOWHERE, Placement
from gravity.plan import RoutingPlan
from gravity.plan_part import RoutePlan


@dataclass(frozen=True, slots=True)
class Reason:
    """What one rule says about the row on its way to one target."""

    target: str
    rule: str
    """The rule's condition or share, or that it takes every row."""
    now: bool | None
    """Whether it takes the row; None = its condition is NULL, so it does not."""
    before: bool | None
    """The same of the row before the change; as `now` where there was none."""
    why: str
    """What was computed."""


def cells_of(schema: TableSchema, row: Mapping[str, Any]) -> list[Value]:
    """The row as a batch carries it; columns that `row` leaves out are NULL.

    Raises FatalError for a column that the table does not have, or a value that can't stand in its column.
    """
    spelling = {name.lower(): name for name in schema.column_index}
    given: dict[str, Any] = {}
    for name, value in row.items():
        if name.lower() not in spelling:
            raise FatalError(
                f"the table has no column {name}",
                where=f"{schema.database}.{schema.table}",
                remedy=f"its columns are {', '.join(schema.column_index)}",
            )
        given[spelling[name.lower()]] = value
    return [_cell(given.get(column.name), column.name, column.type) for column in schema.columns]


def _cell(value: Any, name: str, type_text: str) -> Value:
    if value is None:
        return None
    try:
        match ColumnType.parse(type_text).kind:
            case "long":
                return int(value)
            case "double":
                return float(value)
            case "bytes":
                return (
                    bytes.fromhex(value["hex"]) if isinstance(value, dict) else str(value).encode()
                )
            case "string":
                return json.dumps(value) if isinstance(value, (dict, list)) else str(value)
    except (TypeError, ValueError, KeyError) as error:
        raise FatalError(
            f"{value!r} is no value of column {name} ({type_text})",
            remedy='numbers as numbers, dates as "YYYY-MM-DD", bytes as text or {"hex": "00ff"}',
        ) from error


def batch_of(
    plan: RoutingPlan,
    source: str,
    schema: TableSchema,
    op: int,
    rows: tuple[Sequence[Value], Sequence[Value] | None],
) -> ChangeBatch:
    """The batch of one change: (the row after it, or that was deleted; the row before an update)."""
    after, before = rows
    wanted = plan.before_columns(source, schema)
    return ChangeBatch(
        source=source,
        epoch=1,
        schema=schema,
        transactions=[Transaction("", 1, 4, 0, 0)],
        ops=bytes([op]),
        tx=[0],
        ordinal=[0],
        columns=[[cell] for cell in after],
        before_columns=wanted,
        before=[[None if before is None else before[index]] for index in wanted],
    )


def reasons(
    plan: RoutingPlan,
    source: str,
    schema: TableSchema,
    rows: tuple[Sequence[Value], Sequence[Value] | None],
) -> list[Reason]:
    """What every rule that means the table says, in the order of the plan.

    Where no rule means it, every target that takes the table gets all of its rows.
    """
    matching = plan.routes_for(source, schema)
    found = [
        Reason(route.target, *_says(plan, route, schema, rows))
        for route in matching
        if plan.takes(route.target, schema)
    ]
    refused = dict.fromkeys(
        route.target for route in matching if not plan.takes(route.target, schema)
    )
    found += [_not_taken(name) for name in refused]
    if not matching:
        for target in plan.targets:
            if plan.takes(target.name, schema):
                why = "no rule names the table, and the target takes it"
                found.append(Reason(target.name, "every row", now=True, before=True, why=why))
            else:
                found.append(_not_taken(target.name))
    return found


def _not_taken(target: str) -> Reason:
    why = "the target's `tables` and `exclude` leave the table out"
    return Reason(target, "tables of the target", now=False, before=False, why=why)


def _says(
    plan: RoutingPlan,
    route: RoutePlan,
    schema: TableSchema,
    rows: tuple[Sequence[Value], Sequence[Value] | None],
) -> tuple[str, bool | None, bool | None, str]:
    after, before = rows
    if route.share is not None:
        placement = plan.placement(route.share.placement)
        now, why = _placed(placement, route.share.place, schema, after)
        earlier, why_before = (
            (now, "") if before is None else _placed(placement, route.share.place, schema, before)
        )
        why += f"; before: {why_before}" if why_before and why_before != why else ""
        return f"{placement.name}: {placement.describe(route.share.place)}", now, earlier, why
    if route.condition is None:
        return "every row", True, True, f"the table is among {', '.join(route.tables)}"
    verdicts = list(_verdicts(route.condition, schema, [after, *([before] if before else [])]))
    used = compile_condition(route.condition).columns
    row = {column.name.lower(): cell for column, cell in zip(schema.columns, after, strict=True)}
    why = ", ".join(f"{name} is {_shown(row[name.lower()])}" for name in used)
    return route.condition, verdicts[0], verdicts[-1], why


def _verdicts(
    condition: str, schema: TableSchema, rows: Sequence[Sequence[Value]]
) -> Iterator[bool | None]:
    columns = {
        column.name: [row[index] for row in rows] for index, column in enumerate(schema.columns)
    }
    yield from compile_condition(condition).evaluate(columns, schema.columns, len(rows))


def _placed(
    placement: Placement, place: int, schema: TableSchema, row: Sequence[Value]
) -> tuple[bool, str]:
    key = [row[index] for index in placement.key_indexes(schema)]
    [found] = placement.places([[cell] for cell in key])
    where = "nowhere" if found == NOWHERE else placement.targets[found]
    return found == place, f"{placement.reason(key)}, so {where}"


def _shown(cell: Value) -> str:
    return "NULL" if cell is None else repr(cell)
