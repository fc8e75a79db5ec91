"""A configuration, and the tables that its sources have, made into a plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from gravity.batch import TableSchema, Value
from gravity.column import INTEGER_BYTES, ColumnType
from gravity.condition import ConditionError, compile_condition
from gravity.config.conflict import ConflictRule
from gravity.errors import BEGIN_ANEW, FatalError
from gravity.event_fit import require_fits
from gravity.key import GROUP_PREFIX, LANE_KEY, LANE_TABLE
from gravity.merge_fit import require_merge
from gravity.merge_order import MergeOrder
from gravity.placed_anew import former_routings, is_anywhere
from gravity.placement import Share
from gravity.plan import RoutingPlan
from gravity.plan_part import (
    Feed,
    Resolution,
    RoutePlan,
    RulePlan,
    SourcePlan,
    TargetPlan,
    configured_lane,
)
from gravity.sharding import shardings_of
from gravity.strong import require_strong
from gravity.transform.sharing import Shared, with_joins

if TYPE_CHECKING:
    from gravity.config import Config

log = structlog.get_logger()

_NAMED_TABLES = 5
"""Tables that a refusal names at most."""
_WHOLE = ("broadcast", "single", "conditional")
"""Routing strategies that don't divide a table's rows among their targets."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as a source has it when the plan is made."""

    source: str
    schema: TableSchema
    unique_secondary: bool = False
    """Whether it has a unique key beside its primary key."""


def default_lane(table: SourceTable) -> str:
    """The narrowest lane that keeps this table's rows right.

    A secondary unique key ties rows of different keys together, and under a non-binary collation
    two spellings are one key: both need the table's rows in one order.
    """
    schema = table.schema
    ambiguous = any(
        (collation := schema.columns[index].collation) is not None and not collation.endswith("_bin")
        and collation != "binary"
        for index in schema.key
    )  # fmt: skip
    return LANE_TABLE if table.unique_secondary or ambiguous or not schema.key else LANE_KEY


def compile_plan(
    config: Config,
    tables: Sequence[SourceTable],
    previous: RoutingPlan | None = None,
    settled: int = 0,
) -> RoutingPlan:
    """The plan of `config` for the tables that its sources have now.

    `previous` is the newest plan in force: the result has its number if nothing differs, else the
    next one, and a table's lane stays what it was. `settled`: the plan under which every source's
    tables have been copied to the end (0 = not known).

    Raises FatalError when the configuration asks for another lane than the table has, or the rows of
    too many earlier plans are still on their way.
    """
    placements = tuple(sharding.placement for sharding in shardings_of(config, previous))
    bare = RoutingPlan(
        version=1 if previous is None else previous.version + 1,
        partitions=config.kafka.partitions,
        sources=tuple(
            SourcePlan(s.name, s.databases, s.tables, s.exclude, s.whole_row)
            for s in config.sources
        ),
        targets=tuple(
            TargetPlan(
                t.name,
                t.type or "",
                getattr(t, "database", None),
                t.tables,
                t.exclude,
                tuple(t.order_by.items()),
                getattr(t, "formats", ()),
                tuple(transform.plan() for transform in t.transforms),
                t.consistency,
            )
            for t in config.targets
        ),
        routes=tuple(_routes_of(config)),
        rules=tuple(_rules_of(config)),
        default_resolution=_resolution_of(config, config.conflict_resolution.rule_for("", "", "")),
        lanes={} if previous is None else previous.lanes,
        placements=placements,
        merge=_merge_of(config),
    )
    plan = _with_tables(_with_joins(bare, tables, previous), tables, previous)
    require_strong(plan, {s.name: s.semi_sync.targets for s in config.sources if s.semi_sync})
    require_fits(
        config,
        (
            (table.source, _shape_by(plan, table, feed), [feed.target])
            for table in tables
            if plan.includes(table.source, table.schema.database, table.schema.table)
            for feed in plan.feeds(table.source, table.schema)
        ),
    )
    if previous is None:
        return plan
    if plan.same_content(previous):
        return previous
    known = ((table.source, table.schema) for table in tables)
    return replace(plan, former=former_routings(plan, previous, settled, known))


def _with_tables(
    plan: RoutingPlan, tables: Sequence[SourceTable], previous: RoutingPlan | None
) -> RoutingPlan:
    lanes = {target: dict(by_table) for target, by_table in plan.lanes.items()}
    feeding: dict[str, dict[str, list[str]]] = {target.name: {} for target in plan.targets}
    wider: dict[tuple[str, str], str] = {}
    shared = Shared()
    for table in tables:
        schema = table.schema
        if not plan.includes(table.source, schema.database, schema.table):
            continue
        _check_fit(plan, table)
        for feed in plan.feeds(table.source, schema):
            shape = _shape_by(plan, table, feed)
            shared.take_in(table.source, feed.target, feed.table, feed.transform, shape)
            if previous is not None:
                _refuse_other_key(previous, plan, table, feed)
            names = feeding[feed.target].setdefault(feed.table, [])
            if table.source not in names:
                names.append(table.source)
            asked = configured_lane(plan.target(feed.target), schema.database, schema.table)
            fixed = plan.lanes.get(feed.target, {}).get(feed.table)
            if fixed is not None:
                if asked is not None and asked != fixed:
                    raise FatalError(
                        f"order-by asks for {asked}, but the table's rows already flow under {fixed}",
                        where=f"target {feed.target}, table {feed.table}",
                        remedy=f"take order-by back, or {BEGIN_ANEW}",
                    )
                continue
            lane = asked or _lane_of(plan, feed, table, previous)
            known = wider.get((feed.target, feed.table))
            wider[feed.target, feed.table] = lane if known in (None, LANE_KEY) else str(known)
    for (target, name), lane in wider.items():
        lanes.setdefault(target, {})[name] = lane
    made = replace(
        plan,
        lanes=lanes,
        feeding={
            target: {t: tuple(names) for t, names in found.items()}
            for target, found in feeding.items()
        },
    )
    _require_scopes(made)
    require_merge(made, previous)
    _require_single_source(made, tables, previous)
    return made


def _with_joins(
    plan: RoutingPlan, tables: Sequence[SourceTable], previous: RoutingPlan | None
) -> RoutingPlan:
    """The plan whose transforms know which tables they join."""
    made = with_joins(
        [(target.name, rule) for target in plan.targets for rule in target.transforms],
        (
            (table.source, feed.target, feed.table, feed.transform, f"{database}.{name}")
            for table in tables
            for database, name in [(table.schema.database, table.schema.table)]
            if plan.includes(table.source, database, name)
            for feed in plan.feeds_by_name(table.source, database, name)
        ),
        [(t.name, rule) for t in (previous.targets if previous else ()) for rule in t.transforms],
    )
    targets = (
        replace(target, transforms=tuple(made[target.name, rule] for rule in target.transforms))
        for target in plan.targets
    )
    return replace(plan, targets=tuple(targets))


def _shape_by(plan: RoutingPlan, table: SourceTable, feed: Feed) -> TableSchema:
    """The table as it goes by `feed`."""
    shaping = plan.shaping(feed, table.source, table.schema)
    return table.schema if shaping is None else shaping.schema


def _key_by(plan: RoutingPlan, table: SourceTable, feed: Feed) -> list[tuple[str, str, Value]]:
    """(name, type, value in every row or None) of the key's columns, as rows have them that go by `feed`."""
    shaping = plan.shaping(feed, table.source, table.schema)
    shape = table.schema if shaping is None else shaping.schema
    fixed = [None] * len(shape.key) if shaping is None else shaping.key_constants
    columns = [shape.columns[index] for index in shape.key]
    return [(c.name.lower(), c.type, value) for c, value in zip(columns, fixed, strict=True)]


def _refuse_other_key(
    previous: RoutingPlan, plan: RoutingPlan, table: SourceTable, feed: Feed
) -> None:
    """Raises FatalError where a transform would give the rows of a table other keys than before.

    Rows that are there would stay beside those that come, which nobody takes for the same.
    """
    for known in previous.feeds_by_name(table.source, table.schema.database, table.schema.table):
        if (known.target, known.table) != (
            feed.target,
            feed.table,
        ) or known.transform == feed.transform:
            continue
        try:
            was = _key_by(previous, table, known)
        except FatalError:
            continue  # The table has changed since: which key its rows had is not known.
        now = _key_by(plan, table, feed)
        if _cells_of(was) != _cells_of(now):
            raise FatalError(
                f"the transform would change the key from ({_shown(was)}) to ({_shown(now)}), but rows flow already",
                where=f"target {feed.target}, table {feed.table}, source {table.source}",
                remedy="give the table another name at the target, where it is filled anew; "
                f"or take the change back, or {BEGIN_ANEW}",
            )


def _cells_of(key: Sequence[tuple[str, str, Value]]) -> list[tuple[object, ...]]:
    """What the cells of a key as `_key_by` gives it depend on: a wider type of the same kind has the same ones."""
    kinds = [(name, ColumnType.parse(text), value) for name, text, value in key]
    return [
        (name, "int" if kind.name in INTEGER_BYTES else kind.name, kind.scale, value)
        for name, kind, value in kinds
    ]


def _shown(key: Sequence[tuple[str, str, Value]]) -> str:
    return ", ".join(
        f"{name} {kind}" if value is None else f"{name} {kind} = {value!r}"
        for name, kind, value in key
    )


def _lane_of(
    plan: RoutingPlan, feed: Feed, table: SourceTable, previous: RoutingPlan | None
) -> str:
    """The lane of a table for which `order-by` asks for none and that has none yet."""
    if previous is None:
        return plan.lane_needed(feed.target, feed.table) or default_lane(table)
    # A table that appears in a later plan may have flowed already, under the safe lane.
    known = any(target.name == feed.target for target in previous.targets)
    judge = previous if known else plan
    return judge.lane_needed(feed.target, feed.table) or LANE_TABLE


def _require_scopes(plan: RoutingPlan) -> None:
    """Raises FatalError where a rule's scope is wider than what one partition sees.

    Partitions know nothing of one another: a hold in one would stop its own share of the rows only.
    """
    if plan.partitions == 1:
        return
    for target, tables in plan.feeding.items():
        lanes = plan.lanes.get(target, {})
        lines = {lane if (lane := lanes[n]).startswith(GROUP_PREFIX) else n for n in tables}
        for name in tables:
            rule = plan.resolution(target, name)
            stops = "key" if rule is None else rule.stops
            if stops == "key" or (
                lanes[name] != LANE_KEY and (stops == "table" or len(lines) == 1)
            ):
                continue
            what = "the table" if stops == "table" else "all tables of the target"
            orders = ", ".join(f"{n}: {lanes[n]}" for n in list(tables)[:_NAMED_TABLES])
            raise FatalError(
                f"scope {stops} needs {what} in one partition, but they flow under order-by {orders}",
                where=f"target {target}, table {name}",
                remedy="leave order-by out for this target, or use scope: key; "
                f"where rows flow already, {BEGIN_ANEW}",
            )


_SINGLE_REMEDY = (
    "leave append-only out, or give each source's rows a table of their own (a transform "
    'with `rename: {table: "{source}_{table}"}`)'
)


def _require_single_source(
    plan: RoutingPlan, tables: Sequence[SourceTable], previous: RoutingPlan | None
) -> None:
    """Raises FatalError where rows take turns among targets, and several sources may have the same row.

    What they say of it would lie at two targets, and a conflict is resolved within one. Where the plan in force
    has it so already (releases before did not refuse it) the log says it, and what runs goes on.
    """
    found = _in_turns_of_several(plan, tables)
    known = {} if previous is None else _in_turns_of_several(previous, tables)
    for (target, name), source in found.items():
        names = ", ".join(plan.sources_of(target, name))
        what = (
            f"append-only: new rows go where the turn is, and {names} feed one table: a row that two of "
            "them have could be at two targets"
        )
        if (target, name) not in known:
            where = f"target {target}, table {name}, source {source}"
            raise FatalError(what, where=where, remedy=_SINGLE_REMEDY)
        log.warning(
            "append_only_of_several_sources", target=target, table=name, what=what, remedy=_SINGLE_REMEDY,
        )  # fmt: skip


def _in_turns_of_several(
    plan: RoutingPlan, tables: Sequence[SourceTable]
) -> dict[tuple[str, str], str]:
    """(target, table there) whose rows take turns though several sources feed it → one of them."""
    found: dict[tuple[str, str], str] = {}
    for table in tables:
        schema = table.schema
        if not plan.includes(table.source, schema.database, schema.table):
            continue
        try:
            feeds = plan.feeds(table.source, schema)
        except FatalError:
            continue  # An earlier plan's rule may fit the table no longer; this one's have been checked.
        for feed in feeds:
            if is_anywhere(plan, feed) and plan.is_joined(feed.target, feed.table):
                found.setdefault((feed.target, feed.table), table.source)
    return found


def _check_fit(plan: RoutingPlan, table: SourceTable) -> None:
    """Raises FatalError when a condition or a placement can't be used on the table."""
    schema = table.schema
    plan.before_columns(table.source, schema)
    for feed in plan.feeds(table.source, schema):
        for condition in feed.conditions or ():
            try:
                compile_condition(condition).check(schema.columns)
            except ConditionError as error:
                raise FatalError(
                    f"condition {error}",
                    where=f"{table.source} {schema.database}.{schema.table}",
                    remedy="mend the condition, or leave the table out of its rule",
                ) from error


def _routes_of(config: Config) -> Iterable[RoutePlan]:
    for route in config.routing:
        if route.strategy not in _WHOLE:
            continue
        if route.strategy == "conditional":
            for case in route.conditions:
                for name in case.targets:
                    yield RoutePlan(
                        name, route.source_tables, route.exclude, route.sources, case.condition
                    )
            for name in route.otherwise:
                met = " OR ".join(f"({case.condition})" for case in route.conditions)
                yield RoutePlan(
                    name, route.source_tables, route.exclude, route.sources, f"({met}) IS NOT TRUE"
                )
        else:
            for name in route.targets:
                yield RoutePlan(name, route.source_tables, route.exclude, route.sources)
    for part in shardings_of(config):
        for place, name in enumerate(part.placement.targets):
            share = Share(part.placement.name, place)
            yield RoutePlan(name, part.tables, part.exclude, part.sources, share=share)
    for rule in config.distribution_rules:
        for name in rule.targets:
            yield RoutePlan(
                name, rule.tables, rule.exclude, rule.sources, rule.condition, optional=True
            )


def _merge_of(config: Config) -> MergeOrder | None:
    asked = config.merge
    if asked.strategy == "parallel":
        return None
    return MergeOrder(
        strategy=asked.strategy,
        # Of every source: a conflict rule may leave some out.
        ranks=config.source_ranks(ConflictRule(strategy="source-priority")),
        targets=asked.targets,
        max_wait_ms=round(asked.max_wait.total_seconds() * 1000),
        on_down=asked.on_down,
        max_ahead_rows=asked.max_ahead_rows,
        max_ahead_bytes=asked.max_ahead_bytes,
    )


def _rules_of(config: Config) -> Iterable[RulePlan]:
    for rule in config.conflict_resolution.rules:
        yield RulePlan(rule.tables, rule.target, _resolution_of(config, rule))


def _resolution_of(config: Config, rule: Any) -> Resolution:
    return resolution_of(rule, config.source_ranks(rule))


def resolution_of(rule: ConflictRule, ranks: Mapping[str, int]) -> Resolution:
    """The rule of a configuration, for sources that rank so."""
    source, _, column = rule.timestamp_source.partition(":")
    window = rule.conflict_window
    return Resolution(
        strategy=rule.strategy,
        ranks=ranks,
        on_delete=rule.on_delete,
        timestamp_column=column if source == "column" else None,
        columns=rule.columns,
        groups=rule.groups,
        null_is_unset=rule.null_is_unset,
        scope=rule.scope,
        auto_clear=rule.auto_clear,
        conflict_window_us=None if window is None else round(window.total_seconds() * 1_000_000),
        tombstone_retention_us=round(rule.tombstone_retention.total_seconds() * 1_000_000),
    )
