"""What `merge` asks of the order in which a target's rows flow. Pure.

Rows of several sources can only be put in order where they meet: under `by-table` each table must have one
order, under `time-ordered` all tables of the target. Judged by the tables there are and by the rules, for a
table that is made later flows without another plan.
"""

from __future__ import annotations

from typing import Final

import structlog

from gravity.errors import BEGIN_ANEW, FatalError
from gravity.key import GROUP_PREFIX, LANE_JOB, LANE_KEY
from gravity.pattern import parse_table_pattern
from gravity.plan import RoutingPlan
from gravity.strong import EVERYTHING, may_feed

log = structlog.get_logger()

_NAMED_TABLES: Final = 5
"""Tables that a refusal names at most."""


def require_merge(plan: RoutingPlan, previous: RoutingPlan | None) -> None:
    """Raises FatalError where rows that a merge must order do not come, or may come one day, as more than one line.

    Where only tables to come would be out of order, and the plan in force has it so already (releases before
    did not refuse it), the log says it, and what runs goes on.
    """
    for target in plan.targets:
        if plan.merge_at(target.name) is None:
            continue
        error = _refusal(plan, target.name, _spread(plan, target.name))
        if error is not None:
            raise error
        error = _refusal(plan, target.name, _spread_to_come(plan, target.name))
        if error is None:
            continue
        if previous is None or not _has_it_so(previous, plan, target.name):
            raise error
        log.warning(
            "merge_of_tables_to_come", target=target.name, what=error.what, remedy=error.remedy
        )


def _refusal(plan: RoutingPlan, target: str, spread: dict[str, str]) -> FatalError | None:
    merge = plan.merge_at(target)
    if merge is None or not spread:
        return None
    what = "each table" if merge.strategy == "by-table" else "all tables of the target"
    orders = ", ".join(f"{name}: {lane}" for name, lane in list(spread.items())[:_NAMED_TABLES])
    return FatalError(
        f"merge {merge.strategy} needs {what} in one order, but they flow under order-by {orders}",
        where=f"target {target}",
        remedy="leave order-by out for this target, or name the targets to merge for in "
        f"`merge.targets`; where rows flow already, {BEGIN_ANEW}",
    )


def _spread(plan: RoutingPlan, target: str) -> dict[str, str]:
    """The tables there are that lack the order, with the one they have.

    In one partition tables without a common order still have messages of their own in each span, so
    `time-ordered` needs a group whatever the number of partitions.
    """
    merge, tables = plan.merge_at(target), plan.feeding.get(target, {})
    lanes = {name: plan.lanes.get(target, {})[name] for name in tables}
    if merge is not None and merge.strategy == "by-table":
        return {
            name: lane
            for name, lane in lanes.items()
            if lane == LANE_KEY and len(tables[name]) > 1 and plan.partitions > 1
        }
    lines = {lane if lane.startswith(GROUP_PREFIX) else name for name, lane in lanes.items()}
    one = len(lines) < 2 and (plan.partitions == 1 or LANE_KEY not in lanes.values())  # noqa: PLR2004
    return {} if one or len(plan.merged_sources(target, "")) < 2 else lanes  # noqa: PLR2004


def _spread_to_come(plan: RoutingPlan, target: str) -> dict[str, str]:
    """What `order-by` says of tables that may be made later, where it is not the order that is needed."""
    merge, asked = plan.merge_at(target), dict(plan.target(target).order_by)
    feeders = [s.name for s in plan.sources if may_feed(plan, s.name, target)]
    if merge is None or not asked or len(feeders) < 2:  # noqa: PLR2004 - an order needs two
        return {}
    if merge.strategy == "by-table":
        return {
            text: lane
            for text, lane in asked.items()
            if lane == LANE_KEY
            and plan.partitions > 1
            and sum(_may_have(plan, source, text) for source in feeders) > 1
        }
    taken = plan.target(target).tables
    if _is_one_table(plan, target) and (plan.partitions == 1 or LANE_KEY not in asked.values()):
        return {}
    if not EVERYTHING & set(asked) and not set(taken) <= set(asked):
        asked["every other table"] = LANE_JOB
    orders = set(asked.values())
    one = len(orders) == 1 and all(lane.startswith(GROUP_PREFIX) for lane in orders)
    return {} if one else asked


def _may_have(plan: RoutingPlan, source: str, pattern: str) -> bool:
    """Whether the source may have a table that the pattern means; where it has wildcards, any may."""
    asked = parse_table_pattern(pattern)
    if not asked.table.is_exact:
        return True
    chosen = next(s for s in plan.sources if s.name == source)
    return any(
        known.table.matches(asked.table.text) for known in map(parse_table_pattern, chosen.tables)
    )


def _is_one_table(plan: RoutingPlan, target: str) -> bool:
    """Whether the target takes a single table, whatever is made later."""
    own = plan.target(target)
    patterns = [parse_table_pattern(text) for text in own.tables]
    return all(
        p.table.is_exact
        and (own.database is not None or (p.database is not None and p.database.is_exact))
        for p in patterns
    ) and len({p.table.text for p in patterns}) == 1  # fmt: skip


def _has_it_so(previous: RoutingPlan, plan: RoutingPlan, target: str) -> bool:
    if all(known.name != target for known in previous.targets):
        return False
    before, after = previous.merge_at(target), plan.merge_at(target)
    return (
        before is not None
        and after is not None
        and before.strategy == after.strategy
        and bool(_spread_to_come(previous, target))
    )
