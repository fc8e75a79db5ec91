"""What a newer plan does to rows that an older one has sent to targets. Pure.

Rows of a table that the two send differently are read again at the source. What is read, or changes, under
the newer plan goes where that places it, and is deleted at every target where an older one had placed it.
So when all has been read, every row lies where the newer plan wants it, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from gravity.batch import TableSchema
from gravity.errors import FatalError
from gravity.plan import RoutingPlan
from gravity.plan_part import Feed, FormerRouting
from gravity.topic import checkpoint_key, numbered, owner_key
from gravity.whole_row import is_whole_row

FORMER_MAX = 8
"""Earlier routings whose rows may still be on their way: each costs the router a look at each row."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A way by which rows came to a target under an earlier plan."""

    plan: RoutingPlan
    """The earlier routing."""
    feed: Feed


def leaving(
    plan: RoutingPlan, source: str, schema: TableSchema
) -> Mapping[str, tuple[Leaving, ...]]:
    """Target → the earlier ways of this table's rows to it, where a row may have none today.

    A target that takes the table no longer at all keeps its rows, unless it shared them with others.
    """
    if not plan.former:
        return {}
    found = plan.leaving.get((source, schema))
    if found is None:
        found = plan.leaving[source, schema] = _find_leaving(plan, source, schema)
    return found


def _find_leaving(
    plan: RoutingPlan, source: str, schema: TableSchema
) -> Mapping[str, tuple[Leaving, ...]]:
    if is_whole_row(schema):
        # Tables without a key are emptied before they are filled again.
        return {}
    names = {target.name for target in plan.targets}
    today = {feed.target: feed for feed in plan.feeds(source, schema)}
    found: dict[str, tuple[Leaving, ...]] = {}
    for former in plan.former_plans:
        for feed in former.feeds(source, schema):
            now = today.get(feed.target)
            if feed.target not in names or (now is None and not feed.shares):
                continue
            if now is not None and (now.conditions is None or now.table != feed.table):
                continue
            if now is not None and is_anywhere(plan, now):
                continue  # Any row that is there may be there.
            if now is None or _rows_by(plan, now) != _rows_by(former, feed):
                ways = found.get(feed.target, ())
                found[feed.target] = (*ways, Leaving(former, feed))
    return found


def left_by_name(plan: RoutingPlan, source: str, database: str, table: str) -> tuple[Feed, ...]:
    """Ways to targets whose rows of the table are leaving and to which none go today, whatever its columns are.

    One for each name that the table has there.
    """
    if not plan.former:
        return ()
    names = {target.name for target in plan.targets}
    names -= {feed.target for feed in plan.feeds_by_name(source, database, table)}
    found: dict[tuple[str, str], Feed] = {}
    for known, former in zip(plan.former, plan.former_plans, strict=True):
        routes = former.routes_by_name(source, database, table)
        shared = names & {route.target for route in routes if route.share is not None}
        for feed in former.feeds_by_name(source, database, table):
            # What nobody has noted as leaving the resolver would not tell from what others have there.
            noted = known.divided.get(feed.target, {}).get(feed.table, ())
            if feed.target in shared and source in noted:
                found[feed.target, feed.table] = feed
    return tuple(found.values())


def is_anywhere(plan: RoutingPlan, feed: Feed) -> bool:
    """Whether a row that the target has may lie at another that takes turns with it."""
    return any(plan.placement(share.placement).append_only for share in feed.shares)


def _rows_by(plan: RoutingPlan, feed: Feed) -> tuple[object, ...]:
    portions = [plan.placement(share.placement).portion(share.place) for share in feed.shares]
    return feed.conditions, tuple(portions)


def before_columns(plan: RoutingPlan, source: str, schema: TableSchema) -> tuple[int, ...]:
    """Columns whose values before a change must travel: those that the plan asks for, or an earlier one.

    Raises FatalError where the table lacks a column that decides.
    """
    wanted = set(plan.before_columns(source, schema))
    for ways in leaving(plan, source, schema).values():
        for way in ways:
            # An earlier rule that the table has no column for can't be asked, so it needs none.
            with suppress(FatalError):
                wanted |= way.plan.deciding_columns(way.feed, schema)
    return tuple(sorted(wanted))


@dataclass(frozen=True, slots=True)
class Way:
    """What decides which rows of a table a target gets, whatever the table's columns are.

    Equal ones send the same rows.
    """

    table: str
    rules: tuple[tuple[object, ...], ...]
    """Condition, whether it may lack columns, and portion of a placement; no rules = all rows."""
    is_divided: bool
    """Whether each row is at one of several targets."""
    is_anywhere: bool
    """Whether that may be any of them."""
    is_joined: bool
    """Whether several sources feed it: only then the resolver remembers what each says of a row."""
    columns: tuple[object, ...]
    """What a transform makes of its columns; empty: nothing."""


def _ways(plan: RoutingPlan, source: str, database: str, table: str) -> dict[str, Way]:
    """Target → how rows of the table come to it."""
    ways: dict[str, Way] = {}
    for feed in plan.feeds_by_name(source, database, table):
        rules: list[tuple[object, ...]] = []
        for route in plan.routes_by_name(source, database, table):
            if route.target == feed.target:
                share = route.share
                portion = share and plan.placement(share.placement).portion(share.place)
                rules.append((route.condition, route.optional, portion))
        if (None, False, None) in rules:
            rules = []
        shares = [
            r.share for r in plan.routes_by_name(source, database, table) if r.target == feed.target
        ]
        places = [plan.placement(share.placement).append_only for share in shares if share]
        ways[feed.target] = Way(
            feed.table,
            tuple(rules),
            is_divided=bool(rules) and bool(places),
            is_anywhere=bool(rules) and True in places,
            is_joined=plan.is_joined(feed.target, feed.table),
            columns=()
            if feed.transform is None or not feed.transform.touches_columns
            else feed.transform.effect(source, database, table),
        )
    return ways


def is_placed_as(
    plan: RoutingPlan, earlier: RoutingPlan, source: str, database: str, table: str
) -> bool:
    """Whether a table's rows that were copied under `earlier` are all where `plan` wants them."""
    names = {target.name for target in plan.targets}
    was, now = (_ways(one, source, database, table) for one in (earlier, plan))
    if any(target in names and was[target].is_divided for target in was.keys() - now.keys()):
        return False
    turns = any(way.is_anywhere for way in was.values())
    # Whoever begins to take turns with others begins with none.
    new = {
        target: way
        for target, way in now.items()
        if not (turns and way.is_anywhere and target not in was)
    }
    return all(
        was.get(target) == way
        # What those said who are leaving may have hidden rows of the others, which stay.
        and set(plan.leaving_from(target, way.table)) <= {*earlier.leaving_from(target, way.table)}
        for target, way in new.items()
    )


def was_always_placed_so(plan: RoutingPlan, source: str, database: str, table: str) -> bool:
    """Whether every earlier routing that the plan remembers placed the table's rows as it does."""
    return all(is_placed_as(plan, former, source, database, table) for former in plan.former_plans)


def settled_under(records: Mapping[str, Any], sources: Iterable[str]) -> int:
    """The plan under which, or a later one, all rows of every source are in its log; 0 = not known.

    `records`: the control topic. Of a collector that has been overtaken nothing is believed, nor of one
    that may have been.
    """
    return min((_copied_under(records, source) for source in sources), default=0)


def _copied_under(records: Mapping[str, Any], source: str) -> int:
    fences = numbered(records, owner_key(source, 0))
    if not fences:
        return 0
    newest = max(fences)
    point = numbered(records, checkpoint_key(source, 0)).get(newest)
    if point is None or not point["snapshot_done"]:
        return 0
    return int(point.get("plan", 0))


def former_routings(
    plan: RoutingPlan,
    previous: RoutingPlan,
    settled: int,
    tables: Iterable[tuple[str, TableSchema]] = (),
) -> tuple[FormerRouting, ...]:
    """What `plan`, the next after `previous`, must remember of where rows went before.

    `settled`: the plan under which, or a later one, every source has been read again to the end. `tables`:
    those that the sources have now.

    Raises FatalError when there is too much to remember.
    """
    tables = list(tables)
    kept = [former for former in previous.former if former.until > settled]
    last = FormerRouting(
        plan.version,
        previous.targets,
        previous.routes,
        previous.placements,
        _divided(previous, tables),
    )
    if not last.sends_as(plan):
        kept = [former for former in kept if not former.sends_as(last)] + [last]
    if len(kept) > FORMER_MAX:
        raise FatalError(
            f"rows of {len(kept)} earlier routings are still being moved, and at most {FORMER_MAX} are remembered",
            remedy="wait until every source has been copied again (`gravity status`), then change it",
        )
    return tuple(_without_emptied(former, plan, tables) for former in kept)


def _without_emptied(
    former: FormerRouting, plan: RoutingPlan, tables: Iterable[tuple[str, TableSchema]]
) -> FormerRouting:
    """The routing without the tables that have no key where another source's takes their place.

    That one is emptied before it is filled, so nothing is left of theirs; and to empty it again when they are
    would take its rows, which nothing tells from theirs.
    """
    view = replace(
        plan, targets=former.targets, routes=former.routes, placements=former.placements, former=()
    )
    emptied = {
        (feed.target, feed.table, source)
        for source, schema in tables
        if not schema.key
        for feed in view.feeds_by_name(source, schema.database, schema.table)
        if set(plan.feeding.get(feed.target, {}).get(feed.table, ())) - {source}
    }
    if not emptied:
        return former
    divided = {
        target: {
            table: rest
            for table, names in found.items()
            if (rest := tuple(s for s in names if (target, table, s) not in emptied))
        }
        for target, found in former.divided.items()
    }
    return replace(former, divided=divided)


def _divided(
    plan: RoutingPlan, tables: Iterable[tuple[str, TableSchema]]
) -> dict[str, dict[str, tuple[str, ...]]]:
    """Target → table there → sources whose rows it shares with other targets."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for source, schema in tables:
        if not plan.includes(source, schema.database, schema.table):
            continue
        for feed in plan.feeds(source, schema):
            if feed.shares:
                there = found.setdefault(feed.target, {})
                there[feed.table] = tuple(dict.fromkeys((*there.get(feed.table, ()), source)))
    return found
