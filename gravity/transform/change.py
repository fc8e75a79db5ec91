"""A schema change of the source as a target sees it whose table is transformed. Pure, and total.

Every change has a translation, whatever columns it names: a table that the transform does not fit any more
is refused where its next row is read, not here, since a message in the log must be routed for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gravity.batch import Column, Value
from gravity.evolution import default_value
from gravity.schema_change import ColumnAction, ColumnChange, SchemaChange, TableAction
from gravity.transform.columns import ColumnRules, column_rules
from gravity.transform.disguise import DisguiseError
from gravity.transform.fit import FitError
from gravity.transform.rule import TransformPlan


def translated(change: SchemaChange, rule: TransformPlan) -> SchemaChange:
    """The change under the target's names, without what is not seen there."""
    rules = column_rules(rule)
    columns = [made for item in change.columns for made in _translated(rules, item)]
    if change.action is TableAction.CREATE and change.columns:
        columns += [
            ColumnChange(ColumnAction.ADD, column.name, column=column) for _, column in rules.added
        ]
    key = tuple(name for old in change.key if (name := rules.name(old)) is not None)
    if key:
        key += tuple(item.name for item in rule.add if item.key)
    return replace(change, columns=tuple(columns), key=key)


def _translated(rules: ColumnRules, item: ColumnChange) -> Iterator[ColumnChange]:
    name = rules.name(item.name)
    after = item.after and rules.name(item.after)
    match item.action:
        case ColumnAction.ADD:
            if name is not None and item.column is not None:
                yield replace(
                    item, name=name, column=_column(rules, item.column), after=after,
                    default=_default(rules, item),
                )  # fmt: skip
        case ColumnAction.DROP:
            if name is not None:
                yield replace(item, name=name)
        case ColumnAction.RENAME | ColumnAction.MODIFY:
            yield from _moved(rules, item, name, after)


def _moved(
    rules: ColumnRules, item: ColumnChange, name: str | None, after: str | None
) -> Iterator[ColumnChange]:
    new_name = rules.name(item.new_name or item.name)
    column = None if item.column is None else _column(rules, item.column)
    if name is None:
        # It was not there; where it is under its new name, its rows bring it.
        if new_name is not None and column is not None:
            added = replace(column, nullable=True)
            yield ColumnChange(ColumnAction.ADD, new_name, column=added, after=after)
        return
    if new_name is None:
        yield ColumnChange(ColumnAction.DROP, name)
        return
    moves = new_name if new_name != name else ""
    if not moves and item.action is ColumnAction.RENAME:
        return
    yield replace(
        item, name=name, new_name=moves, column=column, default=_default(rules, item), after=after
    )


def _column(rules: ColumnRules, column: Column) -> Column:
    try:
        return rules.column(column)
    except (FitError, DisguiseError):
        # The rows that follow are refused by name; until then the column is as the source has it.
        return replace(column, name=rules.name(column.name) or column.name)


def _default(rules: ColumnRules, item: ColumnChange) -> str | None:
    """The default as rows that were there would have it at the target."""
    if item.default is None or item.column is None:
        return item.default
    try:
        function = rules.function(item.column)
        if function is None:
            return item.default
        made: Value = function(default_value(item.column, item.default))
    except (FitError, DisguiseError, ValueError):
        return None
    return None if made is None else str(made)  # No transform makes bytes.
