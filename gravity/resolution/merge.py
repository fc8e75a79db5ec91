"""The field-level merge: each column, or group of columns, chosen among several sources' rows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gravity.batch import Column, Value
from gravity.plan_part import Resolution
from gravity.resolution.register import Opinion, Register, Row
from gravity.resolution.value import as_number, comparable, total, union

OWNER_PREFIX = "owner:"
_COMPUTED = ("sum", "union")
"""Rules that make a value of all values instead of picking one."""


@dataclass(frozen=True, slots=True)
class _Cell:
    """One candidate's value of one column."""

    opinion: Opinion
    value: Value
    column: Column
    changed_ets: int
    """Latest commit time of a change of the column at the source."""

    @property
    def age(self) -> tuple[int, int]:
        return (self.changed_ets, -self.opinion.rank)


def merge(candidates: Sequence[Opinion], rule: Resolution) -> tuple[tuple[Column, ...], Row]:
    """The columns and the row that the candidates' live rows make together.

    Columns stand in the first candidate's order, then those that only later ones have.
    """
    ranked = sorted(candidates, key=lambda opinion: opinion.rank)
    shape = ranked[0].register.shape
    if not rule.groups and all(opinion.register.shape is shape for opinion in ranked):
        return shape.columns, _in_one_shape(ranked, rule)
    names = dict.fromkeys(
        column.name for opinion in candidates for column in opinion.register.shape.columns
    )
    rules = rule.columns
    chosen: dict[str, tuple[Column, Value]] = {}
    for group in rule.groups:
        how = next((rules[name] for name in group if name in rules), "latest")
        chosen.update(_group(group, ranked, how, rule))
    agreed = _agreed(ranked)
    for name in names:
        how = rules.get(name, "latest")
        if name in agreed and how not in _COMPUTED:
            chosen.setdefault(name, agreed[name])
        elif name not in chosen:
            chosen[name] = _column(name, ranked, how, rule)
    return tuple(chosen[name][0] for name in names), tuple(chosen[name][1] for name in names)


def _in_one_shape(ranked: Sequence[Opinion], rule: Resolution) -> Row:
    """The row that rows of one shape make, by position: what the rest of this module comes to, but quicker."""
    registers = [opinion.register for opinion in ranked]
    rows = [reg.row for reg in registers if reg.row is not None]
    cells: list[Value] = []
    for column, values in zip(registers[0].shape.columns, zip(*rows, strict=True), strict=True):
        name = column.name
        how = rule.columns.get(name, "latest")
        if how not in _COMPUTED and values.count(values[0]) == len(values):
            cells.append(values[0])
        elif how == "latest":
            cells.append(_latest(name, registers, values, null_is_unset=rule.null_is_unset))
        else:
            cells.append(_column(name, ranked, how, rule)[1])
    return tuple(cells)


def _latest(
    name: str, registers: Sequence[Register], values: Sequence[Value], *, null_is_unset: bool
) -> Value:
    """The value that was changed last, the best rank's first; of those that are set, if any is."""
    latest, latest_ets = values[0], -1
    for reg, value in zip(registers, values, strict=True):
        ets = reg.column_ets(name)
        if ets > latest_ets and (ets or value is not None or not null_is_unset):
            latest, latest_ets = value, ets
    return latest


def _agreed(ranked: Sequence[Opinion]) -> dict[str, tuple[Column, Value]]:
    """The columns whose value is the same in all rows, if the rows have the same columns."""
    first = ranked[0].register
    others = [opinion.register for opinion in ranked[1:]]
    if first.row is None or any(reg.shape.columns != first.shape.columns for reg in others):
        return {}
    rows = [reg.row for reg in others if reg.row is not None]
    return {
        column.name: (column, value)
        for index, (column, value) in enumerate(zip(first.shape.columns, first.row, strict=True))
        if all(row[index] == value for row in rows)
    }


def _cells(name: str, ranked: Sequence[Opinion], rule: Resolution) -> list[_Cell]:
    """The candidates' values, best rank first; those left unset only if all are."""
    cells = []
    for opinion in ranked:
        found = opinion.cell(name)
        if found is not None:
            value, column = found
            cells.append(_Cell(opinion, value, column, _changed_ets(opinion, name)))
    if rule.null_is_unset:
        # NULL that no change ever set: an inserted or copied row says nothing about the column.
        return [cell for cell in cells if cell.value is not None or cell.changed_ets] or cells
    return cells


def _changed_ets(opinion: Opinion, name: str) -> int:
    # A decision is about the whole row: it keeps no times by column, so its own time counts.
    return opinion.register.column_ets(name)


def _column(
    name: str, ranked: Sequence[Opinion], how: str, rule: Resolution
) -> tuple[Column, Value]:
    cells = _cells(name, ranked, rule)
    if how in _COMPUTED:
        return _computed(cells, total if how == "sum" else union)
    cell = _chosen(cells, how)
    return cell.column, cell.value


def _chosen(cells: Sequence[_Cell], how: str) -> _Cell:
    """The cell that one source's rule picks; ties go to the better rank, which stands first."""
    latest = max(cells, key=lambda cell: cell.age)
    if how == "priority":
        return cells[0]
    if how.startswith(OWNER_PREFIX):
        owner = how.removeprefix(OWNER_PREFIX)
        return next((cell for cell in cells if owner in cell.opinion.speaks_for), latest)
    if how == "coalesce":
        return next((cell for cell in cells if cell.value is not None), latest)
    if how in ("max", "min"):
        return _extreme(cells, max if how == "max" else min) or latest
    return latest


def _extreme(cells: Sequence[_Cell], pick: Callable[..., _Cell]) -> _Cell | None:
    orderable = [cell for cell in cells if cell.value is not None]
    if not orderable:
        return None
    return pick(orderable, key=lambda cell: comparable(cell.value, cell.column.type))


def _computed(
    cells: Sequence[_Cell], compute: Callable[[list[tuple[Value, str]]], Value]
) -> tuple[Column, Value]:
    """A value made of all cells, and the column of the first cell whose kind of value it is."""
    value = compute([(cell.value, cell.column.type) for cell in cells])
    fitting = (cell.column for cell in cells if type(cell.value) is type(value))
    if isinstance(value, str):
        # Of an INT here and a DECIMAL there the sum is a DECIMAL.
        numeric = (c.column for c in cells if isinstance(c.value, str) and as_number(c.value))
        return next(numeric, next(fitting, cells[0].column)), value
    return next(fitting, cells[0].column), value


def _group(
    names: Sequence[str], ranked: Sequence[Opinion], how: str, rule: Resolution
) -> Iterable[tuple[str, tuple[Column, Value]]]:
    """The group's columns, all from one source: of those that have them all.

    A group is as old as its latest changed column. Where no row has all its columns, each is chosen
    for itself.
    """
    whole = [opinion for opinion in ranked if all(opinion.cell(name) is not None for name in names)]
    if rule.null_is_unset:
        whole = [opinion for opinion in whole if _is_set(opinion, names)] or whole
    if not whole:
        return ()
    if how == "priority":
        source = whole[0]
    else:
        source = max(whole, key=lambda o: (max(_changed_ets(o, name) for name in names), -o.rank))
        if how.startswith(OWNER_PREFIX):
            owner = how.removeprefix(OWNER_PREFIX)
            source = next((o for o in whole if owner in o.speaks_for), source)
    picked = []
    for name in names:
        found = source.cell(name)
        assert found is not None
        value, column = found
        picked.append((name, (column, value)))
    return picked


def _is_set(opinion: Opinion, names: Sequence[str]) -> bool:
    for name in names:
        found = opinion.cell(name)
        if found is not None and (found[0] is not None or _changed_ets(opinion, name)):
            return True
    return False
