"""Several tables of one source that become one table of a target: which may, and which may not. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gravity.batch import TableSchema
from gravity.column import ColumnType
from gravity.errors import FatalError
from gravity.transform.rule import TransformPlan
from gravity.whole_row import is_whole_row


@dataclass(frozen=True, slots=True)
class _Part:
    """A source's table among those that share one of a target."""

    name: str
    declared: bool
    known: bool
    """Whether the plan knows that its table is shared."""
    key: tuple[tuple[str, str], ...]
    """(column, kind of its cells) at the target; empty: rows are told apart by all their values."""


class Shared:
    """The tables of all sources by where they go, as far as they have been seen."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str, str], _Part] = {}

    def take_in(
        self,
        source: str,
        target: str,
        table: str,
        rule: TransformPlan | None,
        schema: TableSchema,
    ) -> None:
        """Notes that rows of `schema` (as the target has them) go to `table` of `target`.

        Raises FatalError where another table of the source goes there and no transform says that it may, or
        their rows can't lie in one table.
        """
        plain = not schema.key or is_whole_row(schema)
        columns = [schema.columns[index] for index in schema.key]
        key = tuple((c.name.lower(), ColumnType.parse(c.type).kind) for c in columns)
        part = _Part(
            f"{schema.database}.{schema.table}",
            rule is not None and rule.renames,
            rule is not None and rule.joins,
            () if plain else key,
        )
        first = self._first.setdefault((source, target, table), part)
        if first.name == part.name:
            self._first[source, target, table] = part
            return
        if not (first.declared and part.declared):
            raise two_tables_in_one(source, target, table, first.name, part.name)
        where = f"source {source}, target {target}, table {table}"
        if not (first.known and part.known):
            raise FatalError(
                f"{part.name} becomes one table with {first.name}, of which the plan in force does not know",
                where=where,
                remedy="`gravity reload CONFIG` makes a plan that does, or exclude the table",
            )
        if not first.key or not part.key:
            raise FatalError(
                f"{first.name} and {part.name} would become one, and one of them has no key",
                where=where,
                remedy="give both a primary key, or send each to a table of its own",
            )
        if first.key != part.key:
            keys = " and ".join(_shown(item.key) for item in (first, part))
            raise FatalError(
                f"{first.name} and {part.name} would become one, and their keys differ: {keys}",
                where=where,
                remedy="rename and cast the key's columns so that they are alike, or send each to a table of its own",
            )


def _shown(key: tuple[tuple[str, str], ...]) -> str:
    return "(" + ", ".join(f"{name} {kind}" for name, kind in key) + ")"


def two_tables_in_one(source: str, target: str, table: str, first: str, second: str) -> FatalError:
    """The refusal of two tables of one source that would become one table: equal keys would overwrite each other."""
    return FatalError(
        f"{first} and {second} of source {source} would both become {table}",
        where=f"target {target}",
        remedy=(
            "leave `database` out of the target, so that each keeps its own, or exclude one of them; where their "
            "keys never meet, a transform with `rename:` for both says so; "
            "if one was renamed to the other, start the collector again"
        ),
    )


def with_joins(
    rules: Iterable[tuple[str, TransformPlan]],
    ways: Iterable[tuple[str, str, str, TransformPlan | None, str]],
    before: Iterable[tuple[str, TransformPlan]],
) -> dict[tuple[str, TransformPlan], TransformPlan]:
    """(target, transform) to the transform that knows whether it joins tables.

    `ways`: (source, target, table there, transform, table at the source) of every table that was found. What
    a plan `before` knew to join goes on doing so: rows of a table that is gone may still be there.
    """
    tables: dict[tuple[str, str, str], set[str]] = {}
    used: dict[tuple[str, str, str], set[TransformPlan]] = {}
    for source, target, table, rule, name in ways:
        if rule is not None and rule.renames:
            tables.setdefault((source, target, table), set()).add(name)
            used.setdefault((source, target, table), set()).add(rule)
    joining = {
        (way[1], rule) for way, names in tables.items() if len(names) > 1 for rule in used[way]
    }
    joining |= {(target, replace(rule, joins=False)) for target, rule in before if rule.joins}
    return {
        (target, rule): replace(rule, joins=rule.joins or (target, rule) in joining)
        for target, rule in rules
    }
