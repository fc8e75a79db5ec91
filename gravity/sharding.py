"""The placements that a configuration asks for, held against those of the plan in force. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from gravity.errors import FatalError
from gravity.placement import MAPS, NOWHERE, Placement, RangeShare

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.route import Route, RoutingRule


@dataclass(frozen=True, slots=True)
class Sharding:
    """A placement and the tables it is for."""

    placement: Placement
    tables: tuple[str, ...]
    exclude: tuple[str, ...]
    sources: tuple[str, ...]


def shardings_of(config: Config) -> Iterator[Sharding]:
    """Every table-dividing rule of the file, in its order: routes first, then `routing-rules`."""
    for route in config.routing:
        if route.strategy in ("hash", "range", *MAPS):
            yield Sharding(_of_route(route), route.source_tables, route.exclude, route.sources)
    for rule in config.routing_rules:
        yield Sharding(_of_rule(rule), rule.table_patterns, rule.exclude, rule.sources)


def _of_route(route: Route) -> Placement:
    name = f"routing of {', '.join(route.source_tables)}"
    if route.strategy == "range":
        return _by_range(name, route, route.otherwise[0] if route.otherwise else None)
    return _divided(name, route, dict.fromkeys(route.targets, 1), {})


def _of_rule(rule: RoutingRule) -> Placement:
    if rule.strategy == "range":
        return _by_range(rule.name, rule, rule.otherwise)
    weights = {target.target: target.weight for target in rule.targets}
    residues = {target.target: target.residues for target in rule.targets}
    return _divided(rule.name, rule, weights, residues)


def _divided(
    name: str,
    rule: Route | RoutingRule,
    weights: Mapping[str, int],
    residues: Mapping[str, tuple[int, ...]],
) -> Placement:
    targets = tuple(weights)
    if rule.strategy == "hash":
        places = {r: place for place, t in enumerate(targets) for r in residues.get(t, ())}
        by_residue = tuple(places[r] for r in range(len(places))) or tuple(range(len(targets)))
        return Placement(name, rule.strategy, "residue", rule.key, targets, residues=by_residue)
    buckets = tuple(targets.index(target) for target in MAPS[rule.strategy](weights))
    return Placement(name, rule.strategy, "bucket", rule.key, targets, buckets=buckets)


def _by_range(name: str, rule: Route | RoutingRule, otherwise: str | None) -> Placement:
    named = [part.target for part in rule.ranges] + ([otherwise] if otherwise else [])
    targets = tuple(dict.fromkeys(named))
    bounds = [(part.bounds, targets.index(part.target)) for part in rule.ranges]
    bounds.sort(key=lambda item: Decimal("-Infinity") if item[0].low is None else item[0].low)
    kind = bounds[0][0].kind

    def written(end: Decimal | None) -> str | None:
        if end is None:
            return None
        return date.fromordinal(int(end)).isoformat() if kind == "date" else f"{end:f}"

    shares = tuple(RangeShare(written(b.low), written(b.high), place) for b, place in bounds)
    return Placement(
        name,
        "range",
        "range",
        rule.key,
        targets,
        ranges=shares,
        kind=kind,
        otherwise=NOWHERE if otherwise is None else targets.index(otherwise),
    )


def require_stable(placements: Iterable[Placement], previous: Iterable[Placement]) -> None:
    """Returns if rows that were placed by `previous` stay where they are.

    Raises FatalError naming the rule that would place them anew: the rows that are there already would
    stay behind, and their later changes would go elsewhere.
    """
    earlier = {placement.name: placement for placement in previous}
    for placement in placements:
        known = earlier.get(placement.name)
        if known is not None and not placement.agrees_with(known):
            raise FatalError(
                f"{placement.name} would place rows anew, and those already placed would stay behind",
                where=f"{known.strategy} over {', '.join(known.targets)}, as the plan in force has it",
                remedy="take the change back; or empty the targets' tables, call the rule by another "
                "name and have the source copied again with `gravity reset`",
            )
