"""Plans by number, from the control topic."""

from __future__ import annotations

from gravity.errors import FatalError
from gravity.kafka.control import ControlTopic
from gravity.plan import RoutingPlan
from gravity.topic import newest_plan, plan_key


class PlanStore:
    """Looks plans up; each number is read once, since its content never changes."""

    def __init__(self, control: ControlTopic) -> None:
        self._control = control
        self._plans: dict[int, RoutingPlan] = {}

    def get(self, version: int) -> RoutingPlan:
        """Plan `version`. Halts by name when control does not have it."""
        plan = self._plans.get(version)
        if plan is None:
            record = self._control.records.get(plan_key(version)) or self._control.refresh().get(
                plan_key(version)
            )
            if record is None:
                raise FatalError(
                    f"routing plan {version} is not in the control topic",
                    remedy="was the control topic deleted? `gravity topics CONFIG` writes the present plan",
                )
            plan = self._plans[version] = RoutingPlan.from_json(record)
        return plan

    def newest(self) -> RoutingPlan | None:
        """The plan with the greatest number; None when there is none yet."""
        number = newest_plan(self._control.refresh())
        return self.get(number) if number else None

    def require_newest(self) -> RoutingPlan:
        """The newest plan. Halts by name when the installation has not been activated."""
        plan = self.newest()
        if plan is None:
            raise FatalError(
                "no routing plan in the control topic",
                remedy="run `gravity topics CONFIG` (or `gravity run`) first",
            )
        return plan
