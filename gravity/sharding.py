"""The placements that a configuration asks for, beginning from those of the plan in force. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import chain, count
from typing import TYPE_CHECKING

from gravity.placement import IN_TURN, MAPS, NOWHERE, Placement, RangeShare, kept, rebalanced

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.route import Route, RoutingRule
    from gravity.plan import RoutingPlan


@dataclass(frozen=True, slots=True)
class Sharding:
    """A placement and the tables it is for."""

    placement: Placement
    tables: tuple[str, ...]
    exclude: tuple[str, ...]
    sources: tuple[str, ...]


def shardings_of(config: Config, previous: RoutingPlan | None = None) -> Iterator[Sharding]:
    """Every table-dividing rule of the file, in its order: routes first, then `routing-rules`.

    Of buckets that `previous`, the plan in force, has given in turn only those change hands that must.
    """
    in_force = {p.name: p for p in (() if previous is None else previous.placements)}
    routes = [route for route in config.routing if route.strategy in ("hash", "range", *MAPS)]
    rules = {rule.name for rule in config.routing_rules}
    names = _names_of(routes, rules)
    found = [next((in_force[one] for one in tried if one in in_force), None) for tried in names]
    if previous is not None:
        claimed = {*rules, *(placement.name for placement in found if placement is not None)}
        found = _with_unclaimed(found, routes, previous, claimed)
    for route, (name, *_), known in zip(routes, names, found, strict=True):
        placement = _following(_of_route(name, route), known, dict.fromkeys(route.targets, 1))
        yield Sharding(placement, route.source_tables, route.exclude, route.sources)
    for rule in config.routing_rules:
        weights = {target.target: target.weight for target in rule.targets}
        placement = _following(_of_rule(rule), in_force.get(rule.name), weights)
        yield Sharding(placement, rule.table_patterns, rule.exclude, rule.sources)


def _names_of(routes: Sequence[Route], taken: Collection[str]) -> list[list[str]]:
    """What the placement of each route is called; behind it what it may have been called in the plan in force.

    By its tables, and where several routes are for the same ones by its sources too. No two are called alike,
    nor as a rule, whose names are `taken`.
    """
    plain = [f"routing of {', '.join(route.source_tables)}" for route in routes]
    several = Counter([*plain, *taken])
    full = [
        f"{name} of {', '.join(route.sources)}" if route.sources else name
        for route, name in zip(routes, plain, strict=True)
    ]
    names: list[str] = []
    for short, of in zip(plain, full, strict=True):
        numbered = (f"{of} ({number})" for number in count(2))
        wanted = chain([of if several[short] > 1 else short, of], numbered)
        names.append(next(one for one in wanted if one not in {*names, *taken}))
    return [
        [name, *(one for one in (of, short) if one not in names)]
        for name, of, short in zip(names, full, plain, strict=True)
    ]


def _with_unclaimed(
    found: Sequence[Placement | None],
    routes: Sequence[Route],
    previous: RoutingPlan,
    claimed: set[str],
) -> list[Placement | None]:
    """`found`, and for routes without one a placement in force of the same tables, strategy, targets and key.

    Such a route has got another name, as by one source more. Of several the one that most of its sources had.
    """
    shared = {one.share.placement: one for one in previous.routes if one.share is not None}
    result: list[Placement | None] = []
    for route, known in zip(routes, found, strict=True):
        fitting = () if known is not None else (
            placement
            for placement in previous.placements
            if placement.name not in claimed
            and placement.strategy == route.strategy
            and (tables := shared.get(placement.name)) is not None
            and (tables.tables, tables.exclude) == (route.source_tables, route.exclude)
            and (set(placement.targets), placement.key) == (set(route.targets), route.key)
        )  # fmt: skip
        chosen = max(
            fitting,
            key=lambda placement: len({*shared[placement.name].sources} & {*route.sources}),
            default=known,
        )
        if chosen is not None:
            claimed.add(chosen.name)
        result.append(chosen)
    return result


def _following(
    placement: Placement, known: Placement | None, weights: Mapping[str, int]
) -> Placement:
    """The placement with the buckets left where `known`, the one in force, has them, as far as its targets and weights let them."""
    if (
        known is None
        or not {placement.strategy, known.strategy} <= IN_TURN
        or known.key != placement.key
    ):
        return placement
    targets = placement.targets
    held = [known.targets[place] for place in known.buckets]
    if placement.strategy == "least-connections":
        buckets = kept(held, targets)  # Loads have put them there.
    else:
        buckets = rebalanced(held, weights)
    return replace(placement, buckets=tuple(targets.index(target) for target in buckets))


def _of_route(name: str, route: Route) -> Placement:
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
    return Placement(
        name,
        rule.strategy,
        "bucket",
        rule.key,
        targets,
        buckets=buckets,
        append_only=rule.append_only,
    )


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
