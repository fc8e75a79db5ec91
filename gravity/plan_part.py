"""What a plan is made of: sources, targets, routes, conflict rules, and the ways that come of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from gravity.batch import TableSchema
from gravity.condition import compile_condition
from gravity.pattern import TableSelection, parse_table_pattern, select_tables
from gravity.placement import Placement, Share
from gravity.transform.rule import TransformPlan

if TYPE_CHECKING:
    from gravity.plan import RoutingPlan

Strategy = Literal["source-priority", "timestamp-latest", "merge", "error-stop"]
OnDelete = Literal["incarnation", "absolute", "fallthrough"]
Scope = Literal["key", "table", "job"]


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """Which tables of a source are read."""

    name: str
    databases: tuple[str, ...]
    tables: tuple[str, ...]
    exclude: tuple[str, ...]
    whole_row: tuple[str, ...] = ()
    """Tables that are read though they have no key."""

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The source in a plan's JSON, of this format or an older one."""
        return cls(**_tuples(record))


STRONG: Final = "strong"


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """A target, what it may take, and the orders its configuration asks for."""

    name: str
    type: str
    database: str | None
    tables: tuple[str, ...]
    exclude: tuple[str, ...]
    order_by: tuple[tuple[str, str], ...]
    """(table pattern, lane), first match."""
    formats: tuple[tuple[str, str], ...] = ()
    """Kafka: (table pattern, format), first match; flat JSON where none does."""

    def wants_old_rows(self, database: str, table: str) -> bool:
        """Whether rows of a source's table go there together with all that they were before the change."""
        for text, form in self.formats:
            if parse_table_pattern(text).matches(database, table):
                return form == "debezium"
        return False

    transforms: tuple[TransformPlan, ...] = ()
    """How tables differ here; the first that means a table is used, and no other."""
    consistency: str = "eventual"
    """Or `STRONG`: COMMITs at all its sources wait for it, and all its tables have one order."""

    def transform(self, source: str, database: str, table: str) -> TransformPlan | None:
        """The transform of a source's table."""
        for rule in self.transforms:
            if rule.means(source, database, table):
                return rule
        return None

    def table(self, source: str, database: str, table: str) -> str:
        """The name, at this target, of a source's table."""
        plain = self.database or database
        rule = self.transform(source, database, table)
        if rule is None:
            return f"{plain}.{table}"
        return ".".join(rule.renamed(source, (database, table), plain))

    def may_rename_to(self, source: str, database: str, table: str) -> bool:
        """Whether some table of `source` may come to have this name here by a transform."""
        return any(
            rule.may_make(source, (database, table), self.database) for rule in self.transforms
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The target in a plan's JSON, of this format or an older one."""
        order_by = tuple((pattern, lane) for pattern, lane in record["order_by"])
        formats = tuple((pattern, form) for pattern, form in record.get("formats", ()))
        transforms = tuple(map(TransformPlan.from_json, record.get("transforms", ())))
        made = {"order_by": order_by, "formats": formats, "transforms": transforms}
        return cls(**{**_tuples(record), **made})


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Sends rows of some tables to one target, all of them or those that meet a condition."""

    target: str
    tables: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Empty: of every source."""
    condition: str | None = None
    optional: bool = False
    """Whether a table that lacks a column of the condition is simply not meant."""
    share: Share | None = None
    """The rows of a placement that the target has."""

    def names(self, source: str, database: str, table: str) -> bool:
        """Whether it may mean the table, whatever its columns are."""
        return (not self.sources or source in self.sources) and selection_of(
            self.tables, self.exclude
        ).matches(database, table)

    def means(self, source: str, schema: TableSchema) -> bool:
        """Whether it means the table. One that is optional does not where the table lacks a column, unless it names it."""
        if not self.names(source, schema.database, schema.table):
            return False
        if self.condition is not None and self.optional:
            present = {name.lower() for name in schema.column_index}
            named = any(
                pattern.is_exact and pattern.matches(schema.database, schema.table)
                for pattern in map(parse_table_pattern, self.tables)
            )
            return named or all(
                name.lower() in present for name in compile_condition(self.condition).columns
            )
        return True

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The route in a plan's JSON, of this format or an older one."""
        share = record.get("share")
        return cls(**{**_tuples(record), "share": None if share is None else Share(**share)})


@dataclass(frozen=True, slots=True)
class Resolution:
    """How conflicts about the rows of a table are resolved."""

    strategy: Strategy
    ranks: Mapping[str, int]
    """The sources that take part; 1 is best, no two are equal."""
    on_delete: OnDelete = "incarnation"
    timestamp_column: str | None = None
    """For timestamp-latest: the column that is compared; None = commit time."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """For merge: column to `latest` (as those not named), `priority`, `owner:<source>`, `max`, `min`,
    `sum`, `union` or `coalesce`."""
    groups: tuple[tuple[str, ...], ...] = ()
    """For merge: columns that are only taken together from one source, by the rule of any of them."""
    null_is_unset: bool = True
    """For merge: whether NULL in a new row gives way to another source's value."""
    scope: Scope = "key"
    """For error-stop: what stands still while sources disagree."""
    auto_clear: bool = True
    """For error-stop: whether a hold ends when the sources agree again."""
    conflict_window_us: int | None = None
    """For error-stop: opinions further apart in commit time don't disagree, the later one stands."""
    tombstone_retention_us: int = 7 * 24 * 3600 * 1_000_000
    """How long a row that every source has deleted is remembered, by the sources' commit times."""

    leaving: tuple[str, ...] = ()
    """Sources that fed the table under an earlier plan: without a say, and a row that only they have goes."""

    @property
    def stops(self) -> Scope:
        """What stands still while a row is on hold; `key` under strategies that hold nothing."""
        return self.scope if self.strategy == "error-stop" else "key"

    @property
    def forgets_deletes(self) -> bool:
        """Whether an old delete can't decide about a newer row any more, once every source has deleted it.

        It can where times don't count (`absolute`), where another clock does (a column), and where
        sources must agree.
        """
        if self.strategy == "source-priority":
            return self.on_delete != "absolute"
        return self.strategy == "merge" or (
            self.strategy == "timestamp-latest" and self.timestamp_column is None
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The rule in a plan's JSON, of this format or an older one."""
        groups = tuple(tuple(group) for group in record.get("groups", ()))
        return cls(**{**record, "groups": groups, "leaving": tuple(record.get("leaving", ()))})


@dataclass(frozen=True, slots=True)
class RulePlan:
    """A conflict rule; the first that matches is used, exact names before wildcards."""

    tables: tuple[str, ...]
    target: str | None
    resolution: Resolution

    def matches(self, target: str, database: str, table: str) -> bool:
        """Whether the rule is for this table on its way to `target`."""
        return self.target in (None, target) and select_tables(self.tables).matches(database, table)

    def names(self, database: str, table: str) -> bool:
        """Whether a pattern without wildcards means the table."""
        patterns = map(parse_table_pattern, self.tables)
        return any(pattern.is_exact and pattern.matches(database, table) for pattern in patterns)


@dataclass(frozen=True, slots=True)
class Feed:
    """A source table's way into one target."""

    target: str
    table: str
    """`database.table` at the target."""
    lane: str
    """`key`, `table` or `group:<name>`: how wide the order of its changes is."""
    conditions: tuple[str, ...] | None
    """A row goes there if any is true, or any of `shares` holds it; None = every row does."""
    shares: tuple[Share, ...] = ()
    old_rows: bool = False
    """Whether the rows before a change travel along."""
    transform: TransformPlan | None = None
    """How the table differs there. Conditions and shares are about the row as the source has it."""

    @property
    def shapes(self) -> bool:
        """Whether rows have other columns there than at the source."""
        rule = self.transform
        return rule is not None and (rule.touches_columns or rule.joins)


@dataclass(frozen=True, slots=True)
class FormerRouting:
    """Where rows went before: under it some may lie at targets that they have no place at any more."""

    until: int
    """The plan that took its place."""
    targets: tuple[TargetPlan, ...]
    routes: tuple[RoutePlan, ...]
    placements: tuple[Placement, ...]
    divided: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Target → table at the target → sources whose rows it shared with other targets."""

    def sends_as(self, other: FormerRouting | RoutingPlan) -> bool:
        """Whether the two send every row the same way."""
        mine, theirs = (
            # How rows appear there has no part in it.
            ([replace(target, formats=()) for target in one.targets], one.routes, one.placements)
            for one in (self, other)
        )
        return mine == theirs

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The part of a plan's JSON."""
        return cls(
            record["until"],
            tuple(map(TargetPlan.from_json, record["targets"])),
            tuple(map(RoutePlan.from_json, record["routes"])),
            tuple(map(Placement.from_json, record["placements"])),
            {
                target: {table: tuple(names) for table, names in tables.items()}
                for target, tables in record.get("divided", {}).items()
            },
        )


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
    }


@lru_cache(maxsize=4096)
def selection_of(include: tuple[str, ...], exclude: tuple[str, ...]) -> TableSelection:
    """The tables that patterns mean, without those that others leave out."""
    return select_tables(include, exclude)


def configured_lane(target: TargetPlan, database: str, table: str) -> str | None:
    """The lane that the target's `order-by` asks for a source's table; None where it is silent."""
    for text, lane in target.order_by:
        if parse_table_pattern(text).matches(database, table):
            return lane
    return None
