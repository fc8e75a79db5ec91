"""What a transform makes of single columns, whatever table they are of. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

from gravity.batch import Column, Value
from gravity.column import ColumnType
from gravity.transform.disguise import digest, hashed_column, masked_column, masker
from gravity.transform.fit import cast_column, fitter, kind_of
from gravity.transform.rule import AddedColumn, CastColumn, TransformPlan

OfCell = Callable[[Any], Value]
"""A cell that is not NULL to the cell at the target."""


class ColumnRules:
    """A transform by the columns it names. Names of columns know no case."""

    def __init__(self, rule: TransformPlan) -> None:
        self.rule = rule
        self._new_names = {old.lower(): new for old, new in rule.rename}
        self._dropped = {name.lower() for name in rule.drop}
        self._casts: dict[str, CastColumn] = {cast.name.lower(): cast for cast in rule.cast}
        self._masks = {name.lower(): masker(spec) for name, spec in rule.mask}
        self._hashed = {name.lower() for name in rule.hash}

    def name(self, column: str) -> str | None:
        """What the source's column is called at the target; None: it does not go there."""
        folded = column.lower()
        return None if folded in self._dropped else self._new_names.get(folded, column)

    def column(self, column: Column) -> Column:
        """The column as the target has it; it must go there.

        Raises FitError or DisguiseError where its type does not allow what the transform wants.
        """
        folded = column.name.lower()
        if folded in self._masks:
            made = masked_column(column)
        elif folded in self._hashed:
            made = hashed_column(column)
        elif folded in self._casts:
            cast = self._casts[folded]
            made = cast_column(column, ColumnType.parse(cast.type), or_null=cast.or_null)
        else:
            made = column
        # One of several tables that become one may lack it, now or later.
        nullable = made.nullable or self.rule.joins
        name = self._new_names.get(folded, column.name)
        if (made.name, made.nullable) == (name, nullable):
            return made
        return replace(made, name=name, nullable=nullable)

    def function(self, column: Column) -> OfCell | None:
        """What becomes of its cells; None: they stay. Raises FitError as `column` does."""
        folded = column.name.lower()
        if folded in self._masks:
            return self._masks[folded]
        if folded in self._hashed:
            return digest
        if folded in self._casts:
            here, to = ColumnType.parse(column.type), ColumnType.parse(self._casts[folded].type)
            return fitter(kind_of(here), to)
        return None

    def overwrites(self, column: str) -> str:
        """What the transform does to the column's values, in a word; "" = nothing."""
        folded = column.lower()
        if folded in self._dropped:
            return "dropped"
        if folded in self._masks:
            return "masked"
        return "hashed" if folded in self._hashed else ""

    def cast_of(self, column: str) -> CastColumn | None:
        """The cast of the column."""
        return self._casts.get(column.lower())

    @cached_property
    def added(self) -> tuple[tuple[AddedColumn, Column], ...]:
        """The columns that the source lacks."""
        return tuple((item, _added(item)) for item in self.rule.add)


def _added(item: AddedColumn) -> Column:
    nullable = not item.key
    if ColumnType.parse(item.type).has_charset:
        return Column(item.name, item.type, nullable, "utf8mb4", "utf8mb4_bin")
    return Column(item.name, item.type, nullable)


@lru_cache(maxsize=1024)
def column_rules(rule: TransformPlan) -> ColumnRules:
    """The rules of a transform, made once."""
    return ColumnRules(rule)
