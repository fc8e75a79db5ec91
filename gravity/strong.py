"""What `consistency: strong` of a target asks of everything else in the configuration. Pure.

Every source that may feed the target must have its COMMITs wait for it, and all rows of the target must have
one order, so that nobody finds there what was written later without what was written before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from gravity.errors import BEGIN_ANEW, FatalError
from gravity.key import GROUP_PREFIX, LANE_JOB
from gravity.plan import RoutingPlan
from gravity.plan_part import STRONG

EVERYTHING: Final = frozenset({"*", "*.*"})
"""Patterns that mean every table."""
_NAMED_TABLES: Final = 5


def require_strong(plan: RoutingPlan, awaited: Mapping[str, Collection[str]]) -> None:
    """Raises FatalError where a strong target of the plan could have less than was promised.

    `awaited`: source to the targets that its COMMITs wait for.
    """
    for target in plan.targets:
        if target.consistency != STRONG:
            continue
        where = f"target {target.name}"
        for source in plan.sources:
            waits_for = awaited.get(source.name, ())
            if target.name not in waits_for and may_feed(plan, source.name, target.name):
                names = ", ".join([*waits_for, target.name])
                raise FatalError(
                    f"consistency is strong, but COMMITs at source {source.name} do not wait for it",
                    where=where,
                    remedy=f"write `semi-sync: {{targets: [{names}]}}` at source {source.name}; or route all its "
                    f"tables elsewhere: `sources: [{source.name}]`, `source-tables: ['*']`; or leave "
                    "`consistency` out. docs/consistency.md says what its server needs",
                )
        _require_one_order(plan, target.name, where)


def may_feed(plan: RoutingPlan, source: str, target: str) -> bool:
    """Whether some table of the source, be it one that is made later, may go to the target.

    Which tables there may be is not looked at: a source whose tables have another name now counts as well.
    """
    rules = [rule for rule in plan.routes if not rule.sources or source in rule.sources]
    if any(rule.target == target for rule in rules):
        return True
    # A table that no rule means goes to every target that takes it.
    return not any(
        EVERYTHING & set(rule.tables) and not rule.exclude and not rule.optional for rule in rules
    )


def _require_one_order(plan: RoutingPlan, target: str, where: str) -> None:
    lanes = {
        name: plan.lanes.get(target, {}).get(name, "") for name in plan.feeding.get(target, {})
    }
    # Tables that are made later flow without another plan, in the order that is configured.
    configured = dict(plan.target(target).order_by)
    if configured:
        lanes.update(configured)
        if not EVERYTHING & set(configured):
            lanes["every other table"] = LANE_JOB
    orders = set(lanes.values())
    if len(orders) > 1 or any(not lane.startswith(GROUP_PREFIX) for lane in orders):
        told = ", ".join(f"{name}: {lanes[name]}" for name in list(lanes)[:_NAMED_TABLES])
        raise FatalError(
            f"consistency is strong, which needs all its tables in one order, but they flow under order-by {told}",
            where=where,
            remedy=f"leave order-by out for this target; where rows flow already, {BEGIN_ANEW}",
        )
