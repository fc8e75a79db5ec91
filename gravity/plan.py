"""What a configuration means: one immutable, numbered version of every routing decision. Pure.

A plan is written to the control topic under its number before its first use, and every ingest
message names the number under which it is to be read. So the router's outputs are a function of the
message alone, on a replay as on the first pass, whatever the configuration file says by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from gravity.batch import TableSchema
from gravity.condition import compile_condition
from gravity.errors import FatalError, FormatError
from gravity.key import GROUP_PREFIX, LANE_JOB, LANE_TABLE
from gravity.merge_order import MergeOrder
from gravity.pattern import parse_glob, parse_table_pattern
from gravity.placement import Placement
from gravity.plan_part import (
    STRONG,
    Feed,
    FormerRouting,
    Resolution,
    RoutePlan,
    RulePlan,
    SourcePlan,
    TargetPlan,
    configured_lane,
    selection_of,
)
from gravity.transform.shape import Transformation, transformation

if TYPE_CHECKING:
    from gravity.placed_anew import Leaving

PLAN_FORMAT = 3
_READABLE_FORMATS = (1, 2, 3)
"""Format 1 knew fewer strategies, format 2 no tables without a key; what they lack has a default."""


@dataclass(frozen=True)
class RoutingPlan:
    """One version of everything that decides where rows go and who wins."""

    version: int
    partitions: int
    sources: tuple[SourcePlan, ...]
    targets: tuple[TargetPlan, ...]
    routes: tuple[RoutePlan, ...]
    rules: tuple[RulePlan, ...]
    default_resolution: Resolution
    lanes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Target → table at the target → lane, fixed when the table first appears in a plan."""
    feeding: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Target → table at the target → sources that have such a table."""
    resolver_epoch: int = 1
    placements: tuple[Placement, ...] = ()
    """How tables are divided among targets."""
    former: tuple[FormerRouting, ...] = ()
    """Earlier routings, the oldest first, by which rows may lie where this plan has no place for them."""
    merge: MergeOrder | None = None
    """In which order rows of several sources leave; None: as they come."""

    @cached_property
    def _placements(self) -> dict[str, Placement]:
        return {placement.name: placement for placement in self.placements}

    def placement(self, name: str) -> Placement:
        """The placement called `name`."""
        return self._placements[name]

    @cached_property
    def _targets(self) -> dict[str, TargetPlan]:
        return {target.name: target for target in self.targets}

    @cached_property
    def _sources(self) -> dict[str, SourcePlan]:
        return {source.name: source for source in self.sources}

    def target(self, name: str) -> TargetPlan:
        """The target called `name`."""
        try:
            return self._targets[name]
        except KeyError:
            raise FatalError(f"plan {self.version} knows no target {name!r}") from None

    def includes(self, source: str, database: str, table: str) -> bool:
        """Whether rows of this table are read at all."""
        plan = self._sources.get(source)
        return plan is not None and (
            any(parse_glob(text).matches(database) for text in plan.databases)
            and selection_of(plan.tables, plan.exclude).matches(database, table)
        )

    def reads_whole_rows(self, source: str, database: str, table: str) -> bool:
        """Whether the table is read although it has no key, if it has none."""
        plan = self._sources.get(source)
        return plan is not None and any(
            parse_table_pattern(text).matches(database, table) for text in plan.whole_row
        )

    def may_count(self, source: str, target: str, name: str) -> bool:
        """Whether the target table `name` may be fed with whole rows by that source: it may be called otherwise there."""
        plan = self._sources.get(source)
        if plan is None or not plan.whole_row:
            return False
        database, _, table = name.partition(".")
        return any(
            parse_table_pattern(text).table.matches(table) for text in plan.whole_row
        ) or self.target(target).may_rename_to(source, database, table)

    def feeds(self, source: str, schema: TableSchema) -> tuple[Feed, ...]:
        """Where rows of this table go, each target once, in the order of the configuration.

        Raises FatalError when a condition needs a column that the table does not have.
        """
        cached = self._feeds.get((source, schema))
        if cached is None:
            cached = self._feeds[source, schema] = tuple(self._find_feeds(source, schema))
        return cached

    @cached_property
    def _feeds(self) -> dict[tuple[str, TableSchema], tuple[Feed, ...]]:
        return {}

    def routes_for(self, source: str, schema: TableSchema) -> list[RoutePlan]:
        """The rules that mean the table, in the order of the configuration."""
        return [route for route in self.routes if route.means(source, schema)]

    def routes_by_name(self, source: str, database: str, table: str) -> list[RoutePlan]:
        """The rules that may mean the table, whatever its columns are."""
        return [route for route in self.routes if route.names(source, database, table)]

    def takes(self, target: str, schema: TableSchema) -> bool:
        """Whether the target's own `tables` and `exclude` let the table in."""
        plan = self.target(target)
        return selection_of(plan.tables, plan.exclude).matches(schema.database, schema.table)

    def rows_of(self, feed: Feed) -> tuple[str, ...] | None:
        """Which rows a feed takes, in words: any of these; None = all."""
        if feed.conditions is None:
            return None
        shares = (self.placement(s.placement).describe(s.place) for s in feed.shares)
        return (*feed.conditions, *shares)

    @cached_property
    def former_plans(self) -> tuple[RoutingPlan, ...]:
        """The earlier routings, with the names of lanes and the rules of today."""
        return tuple(
            replace(
                self,
                targets=former.targets,
                routes=former.routes,
                placements=former.placements,
                feeding=self._fed,
                former=(),
            )
            for former in self.former
        )

    @cached_property
    def leaving(self) -> dict[tuple[str, TableSchema], Mapping[str, tuple[Leaving, ...]]]:
        """What `gravity.placed_anew.leaving` has found about tables: it is asked about every message."""
        return {}

    def _find_feeds(self, source: str, schema: TableSchema) -> Iterable[Feed]:
        database, table = schema.database, schema.table
        matching = self.routes_for(source, schema)
        for target in self.targets:
            if not selection_of(target.tables, target.exclude).matches(database, table):
                continue
            routes = [route for route in matching if route.target == target.name]
            if matching and not routes:
                continue
            conditions = None if not matching else _conditions(routes)
            name = target.table(source, database, table)
            lane = self.lane(target.name, name, database, table)
            shares = () if conditions is None else tuple(r.share for r in routes if r.share)
            # Of several sources the resolver decides, which lets go of what rows were.
            shown = target.wants_old_rows(database, table)
            old_rows = shown and not self.is_joined(target.name, name)
            rule = target.transform(source, database, table)
            yield Feed(target.name, name, lane, conditions, shares, old_rows, rule)

    def feeds_by_name(self, source: str, database: str, table: str) -> tuple[Feed, ...]:
        """Where rows of this table may go, whatever its columns are: a schema change goes there too."""
        matching = self.routes_by_name(source, database, table)
        ruled = any(not route.optional for route in matching)
        found = []
        for target in self.targets:
            if not selection_of(target.tables, target.exclude).matches(database, table):
                continue
            if ruled and all(route.target != target.name for route in matching):
                continue
            name = target.table(source, database, table)
            lane = self.lane(target.name, name, database, table)
            rule = target.transform(source, database, table)
            found.append(Feed(target.name, name, lane, None, transform=rule))
        return tuple(found)

    def shaping(self, feed: Feed, source: str, schema: TableSchema) -> Transformation | None:
        """How rows of a table get the columns that they have by `feed`; None: they have them.

        Raises FatalError where the transform does not fit the table.
        """
        if feed.transform is None or not feed.shapes:
            return None
        try:
            return transformation(feed.transform, source, schema)
        except FatalError as error:
            where = f"target {feed.target}, {error.where}"
            raise FatalError(error.what, where=where, remedy=error.remedy) from error

    def lane(self, target: str, name: str, database: str, table: str) -> str:
        """The lane of a target table: as fixed, as configured, as a merge or a rule needs it, else `table`."""
        fixed = self.lanes.get(target, {}).get(name)
        if fixed is not None:
            return fixed
        configured = configured_lane(self.target(target), database, table)
        return configured or self.lane_needed(target, name) or LANE_TABLE

    def lane_needed(self, target: str, name: str) -> str | None:
        """The lane that a table must have for strong consistency, for a merge to order it, and a conflict rule to stop it.

        None: any will do.
        """
        if self.target(target).consistency == STRONG:
            return LANE_JOB
        if len(self.sources) < 2:  # noqa: PLR2004 - an order, or a conflict, needs two
            return None
        merge = self.merge_at(target)
        strategy = "parallel" if merge is None else merge.strategy
        if strategy == "time-ordered" or any(
            rule.target in (None, target) and rule.resolution.stops == "job" for rule in self.rules
        ):
            return LANE_JOB
        by_table = strategy == "by-table" or self._rule_of(target, name).stops == "table"
        return LANE_TABLE if by_table else None

    def line(self, target: str, table: str) -> str:
        """What has one order together with a target table: its declared group, or else the table alone."""
        database, _, name = table.partition(".")
        lane = self.lane(target, table, database, name)
        return lane if lane.startswith(GROUP_PREFIX) and lane != LANE_JOB else table

    def merge_at(self, target: str) -> MergeOrder | None:
        """In which order rows of several sources reach `target`; None: as they come."""
        if self.merge is None or (self.merge.targets and target not in self.merge.targets):
            return None
        return self.merge

    def merged_sources(self, target: str, unit: str) -> tuple[str, ...]:
        """The sources whose rows are merged in a table or group, or under the name "" in the whole target."""
        key = (target, unit)
        if key not in self._merged:
            fed = self.feeding.get(target, {}).items()
            found = {
                s for table, names in fed if unit in ("", self.line(target, table)) for s in names
            }
            might = self.sources_of(target, unit) if "." in unit else tuple(self._sources)
            self._merged[key] = tuple(sorted(found or might))
        return self._merged[key]

    @cached_property
    def _merged(self) -> dict[tuple[str, str], tuple[str, ...]]:
        return {}

    def before_columns(self, source: str, schema: TableSchema) -> tuple[int, ...]:
        """Columns whose values before a change must travel: the key's, and those that decide its way.

        All of them where a target is told what rows were before.

        Raises FatalError where a table has not the columns that decide, or that a transform needs.
        """
        wanted = set(schema.key)
        for feed in self.feeds(source, schema):
            self.shaping(feed, source, schema)
            wanted.update(self.deciding_columns(feed, schema))
            if feed.old_rows:
                wanted.update(range(len(schema.columns)))
        return tuple(sorted(wanted))

    def deciding_columns(self, feed: Feed, schema: TableSchema) -> set[int]:
        """Columns that decide which rows go by `feed`. Raises FatalError where the table lacks one."""
        wanted: set[int] = set()
        for condition in feed.conditions or ():
            wanted.update(schema.column_index[name] for name in _columns_of(condition, schema))
        for share in feed.shares:
            wanted.update(self.placement(share.placement).key_indexes(schema))
        return wanted

    def is_joined(self, target: str, table: str) -> bool:
        """Whether several sources feed a target table; those whose rows are leaving do not."""
        return len(self._feeders(target, table)) > 1

    def resolution(self, target: str, table: str) -> Resolution | None:
        """How conflicts in a target table are resolved; None when a single source has rows there.

        Where rows of others are leaving it is also what tells them from those that stay.
        """
        key = (target, table)
        if key not in self._resolutions:
            self._resolutions[key] = self._find_resolution(target, table)
        return self._resolutions[key]

    @cached_property
    def _resolutions(self) -> dict[tuple[str, str], Resolution | None]:
        return {}

    def _find_resolution(self, target: str, name: str) -> Resolution | None:
        if len(self.sources_of(target, name)) < 2:  # noqa: PLR2004 - a conflict needs two
            return None
        rule = self._rule_of(target, name)
        leaving = self.leaving_from(target, name)
        if not leaving:
            return rule
        ranks = {source: rank for source, rank in rule.ranks.items() if source not in leaving}
        return replace(rule, ranks=ranks, leaving=leaving)

    def _rule_of(self, target: str, name: str) -> Resolution:
        database, _, table = name.partition(".")
        matching = [rule for rule in self.rules if rule.matches(target, database, table)]
        named = [rule for rule in matching if rule.names(database, table)]
        chosen = (named or matching)[:1]
        return chosen[0].resolution if chosen else self.default_resolution

    def sources_of(self, target: str, name: str) -> tuple[str, ...]:
        """The sources that have rows in a target table: those that feed it, and those whose rows are leaving still."""
        return (*self._feeders(target, name), *self.leaving_from(target, name))

    def leaving_from(self, target: str, name: str) -> tuple[str, ...]:
        """The sources that an earlier plan sent to a target table, which they feed no longer: their rows are leaving.

        They have no say there. That their rows go must not take along what others have under the same keys.
        """
        if not self.former:
            return ()
        fed = self.feeding.get(target, {}).get(name, ())
        return tuple(s for s in self._fed.get(target, {}).get(name, ()) if s not in fed)

    def _feeders(self, target: str, name: str) -> tuple[str, ...]:
        """The sources that feed a target table: as found when the plan was made, else all that might."""
        found = self.feeding.get(target, {}).get(name)
        if found is not None:
            return found
        if name in self._fed.get(target, {}):
            return ()  # Those that had it have left.
        database, _, table = name.partition(".")
        any_database = self.target(target).database is not None

        def may_have(source: SourcePlan) -> bool:
            return any(
                pattern.table.matches(table)
                and (any_database or pattern.database is None or pattern.database.matches(database))
                for pattern in map(parse_table_pattern, source.tables)
            ) and (
                any_database or any(parse_glob(text).matches(database) for text in source.databases)
            )

        return tuple(
            source.name
            for source in self.sources
            if may_have(source) or self.target(target).may_rename_to(source.name, database, table)
        )

    @cached_property
    def _fed(self) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
        """`feeding`, with the sources whose rows are leaving."""
        if not any(former.divided for former in self.former):
            return self.feeding
        fed = {target: dict(tables) for target, tables in self.feeding.items()}
        for former in self.former:
            for target, tables in former.divided.items():
                mine = fed.setdefault(target, {})
                for table, names in tables.items():
                    mine[table] = tuple(dict.fromkeys((*mine.get(table, ()), *names)))
        return fed

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        return {"format": PLAN_FORMAT, **asdict(self)}

    def same_content(self, other: RoutingPlan) -> bool:
        """Whether the two differ in nothing but their number, and what they remember of earlier ones."""
        mine, theirs = (replace(plan, version=0, former=()).to_json() for plan in (self, other))
        return mine == theirs

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The plan that `to_json` gave `record` for. Raises FormatError when it is newer than this reader."""
        if record.get("format") not in _READABLE_FORMATS:
            raise FormatError(
                f"plan format {record.get('format')} is not the one this reader knows ({PLAN_FORMAT})",
                remedy="upgrade this stage before the one that wrote the plan",
            )
        return cls(
            version=record["version"],
            partitions=record["partitions"],
            sources=tuple(map(SourcePlan.from_json, record["sources"])),
            targets=tuple(map(TargetPlan.from_json, record["targets"])),
            routes=tuple(RoutePlan.from_json(item) for item in record["routes"]),
            rules=tuple(
                RulePlan(
                    tuple(item["tables"]), item["target"], Resolution.from_json(item["resolution"])
                )
                for item in record["rules"]
            ),
            default_resolution=Resolution.from_json(record["default_resolution"]),
            lanes=record["lanes"],
            feeding={
                target: {table: tuple(names) for table, names in tables.items()}
                for target, tables in record["feeding"].items()
            },
            resolver_epoch=record["resolver_epoch"],
            placements=tuple(Placement.from_json(item) for item in record.get("placements", ())),
            former=tuple(FormerRouting.from_json(item) for item in record.get("former", ())),
            merge=None if record.get("merge") is None else MergeOrder.from_json(record["merge"]),
        )


def _columns_of(condition: str, schema: TableSchema) -> list[str]:
    """The condition's columns as the table spells them: MySQL's column names know no case."""
    spelling = {name.lower(): name for name in schema.column_index}
    try:
        return [spelling[name.lower()] for name in compile_condition(condition).columns]
    except KeyError as error:
        raise FatalError(
            f"condition {condition!r} needs column {error.args[0]}, which the table does not have",
            where=f"{schema.database}.{schema.table}",
            remedy="mend the condition, or leave the table out of its rule",
        ) from None


def _conditions(routes: Sequence[RoutePlan]) -> tuple[str, ...] | None:
    texts = [route.condition for route in routes if route.share is None]
    return (
        None if None in texts else tuple(dict.fromkeys(text for text in texts if text is not None))
    )
