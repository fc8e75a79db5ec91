"""Where rows go: rules by table, by content, and by shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from gravity.config.model import Condition, Model, Name, Names, Patterns, at
from gravity.pattern import select_tables

DIVIDING = (
    "hash",
    "range",
    "round-robin",
    "weighted-round-robin",
    "least-connections",
    "consistent-hash",
)
"""Strategies by which each row has one of several targets."""
BALANCING = ("round-robin", "weighted-round-robin", "least-connections")
"""Those by which any target would do."""


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


Columns = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One column, or a list of them."""

AppendOnly = Annotated[
    bool,
    Field(
        description=(
            "Balancing strategies: rows are only ever inserted, and by one source, so each new one goes where the "
            "turn is, whatever its key. An update or delete still finds its row, at the price of a look at every "
            "target."
        )
    ),
]
"""Whether new rows of a balanced table take turns."""


class ConditionalTargets(Model):
    """One condition of a `conditional` route and where the rows that meet it go."""

    condition: Condition = Field(
        validation_alias="if",
        serialization_alias="if",
        description="SQL expression over the row: `log_level = 'ERROR'`. NULL is not true.",
    )
    targets: Names = Field(min_length=1, description="Where such rows go.")


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of numbers or days, both ends included; None = open end.

    Days are counted as `date.toordinal` does.
    """

    kind: Literal["number", "date"]
    low: Decimal | None
    high: Decimal | None


def _bound(text: str) -> tuple[Literal["number", "date"], Decimal] | None:
    if text == "*":
        return None
    try:
        return "date", Decimal(date.fromisoformat(text).toordinal())
    except ValueError:
        pass
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f"{text} is neither a number nor a day such as 2024-12-31")
    return "number", number


def parse_range(text: str) -> Bounds:
    """The bounds that `text` says: `A to B`, numbers or days, `*` for an open end.

    Raises:
        ValueError: another form, two kinds of ends, or a range that runs backwards.
    """
    ends = [end.strip() for end in text.split(" to ")]
    if len(ends) != 2:  # noqa: PLR2004 — a range has two ends
        raise ValueError("must be A to B, such as 2024-01-01 to 2024-12-31, 0 to 999 or 1000 to *")
    low, high = (_bound(end) for end in ends)
    kinds = {end[0] for end in (low, high) if end is not None}
    if len(kinds) > 1:
        raise ValueError("one end is a number and the other a day")
    if low is not None and high is not None and low[1] > high[1]:
        raise ValueError(f"the range runs backwards: {ends[0]} comes after {ends[1]}")
    kind = kinds.pop() if kinds else "number"
    return Bounds(kind, None if low is None else low[1], None if high is None else high[1])


def _range(text: str) -> str:
    parse_range(text)
    return text


class Range(Model):
    """The rows of one range and their target."""

    range: Annotated[str, AfterValidator(_range)] = Field(
        description=(
            "`A to B`, both included: numbers, or days (the last one whole); `*` = open end."
        )
    )
    target: Name = Field(description="Where such rows go.")

    @property
    def bounds(self) -> Bounds:
        """The ends of the range."""
        return parse_range(self.range)


_SHARES_ELSEWHERE = (
    "takes names alone; weights and residues stand in `routing-rules`: "
    "{users: {strategy: weighted-round-robin, targets: [{target: db1, weight: 2}, db2]}}"
)


class Route(Model):
    """Which targets get the rows of some tables. Every route that matches a table is followed."""

    source_tables: Patterns = Field(
        min_length=1, description="Tables it is for: `users`, `shop.users`, `orders_*`."
    )
    exclude: Patterns = Field((), description="Tables to leave out of `source-tables`.")
    sources: Names = Field((), description="Only rows of these sources; unset = of all.")
    targets: Names = Field((), description="The targets.")
    strategy: Literal[
        "broadcast",
        "single",
        "conditional",
        "hash",
        "range",
        "round-robin",
        "weighted-round-robin",
        "least-connections",
        "consistent-hash",
    ] = Field(
        "broadcast",
        description=(
            "`broadcast`: every row to every target; `single`: to the one target; `conditional`: "
            "to the targets of each condition that is true; `hash`: by the remainder of `key`; "
            "`range`: by the range that `key` lies in; the others give each key one of `targets`."
        ),
    )
    key: Columns = Field(
        (), description="Column (or columns) that decides; unset = the table's primary key."
    )
    append_only: AppendOnly = False
    ranges: tuple[Range, ...] = Field(
        (),
        description="`range`: what goes where.",
        examples=[[{"range": "0 to 999", "target": "db1"}]],
    )
    conditions: tuple[ConditionalTargets, ...] = Field(
        (),
        description="`conditional`: each is tried, and all that are true are followed.",
        examples=[[{"if": "log_level = 'ERROR'", "targets": ["warehouse"]}]],
    )
    otherwise: Names = Field(
        (),
        validation_alias="default",
        serialization_alias="default",
        description="`conditional`, `range`: where other rows go; unset = nowhere, and counted.",
    )

    @field_validator("targets", mode="before")
    @classmethod
    def _shares_stand_in_a_rule(cls, value: object) -> object:
        """A target's share of the rows is not for this list, whichever way it is written."""
        if isinstance(value, dict):
            if any(isinstance(share, int | float | list) for share in value.values()):
                raise at("", _SHARES_ELSEWHERE)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if isinstance(item, dict):
                    raise at(str(index), _SHARES_ELSEWHERE)
        return value

    def matches(self, source: str, database: str, table: str) -> bool:
        """Whether the route is for `table` in `database` of `source`."""
        return (not self.sources or source in self.sources) and select_tables(
            self.source_tables, self.exclude
        ).matches(database, table)

    @property
    def all_targets(self) -> tuple[str, ...]:
        """Every target a row may reach by this route, in order, each once."""
        named = [
            *(name for case in self.conditions for name in case.targets),
            *(part.target for part in self.ranges),
        ]
        names = [*self.targets, *named, *self.otherwise]
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _parts_fit_the_strategy(self) -> Self:
        _check_append_only(self.strategy, append_only=self.append_only)
        if self.strategy == "conditional":
            if not self.conditions:
                raise at("strategy", "conditional needs conditions: [{if: ..., targets: [...]}]")
            for index, case in enumerate(self.conditions):
                for name in case.targets:
                    if self.targets and name not in self.targets:
                        key = f"conditions.{index}.targets"
                        raise at(key, f"{name} is not among the targets of this route")
            return self._without("key", "ranges")
        if self.conditions:
            raise at("conditions", f"not used by strategy {self.strategy}", "strategy: conditional")
        if self.strategy == "range":
            if len(self.otherwise) > 1:
                raise at("default", "range takes one target for all other rows")
            _check_range_parts(self.key, self.targets, self.ranges)
            return self
        self._without("otherwise", "ranges")
        if self.strategy not in DIVIDING:
            self._without("key")
        if self.strategy == "hash" and not self.key:
            raise at("", "key: missing: hash needs the column that decides")
        if not self.targets:
            raise at("", "targets: missing: name at least one")
        if self.strategy == "single" and len(self.targets) > 1:
            raise at("targets", "single takes one target", "strategy: broadcast")
        return self

    def _without(self, *fields: str) -> Self:
        """The route, if none of these was given."""
        for name in fields:
            if getattr(self, name):
                key = "default" if name == "otherwise" else name
                raise at(key, f"not used by strategy {self.strategy}")
        return self


class DistributionRule(Model):
    """Where rows with some content go, whatever their table."""

    condition: Condition = Field(
        description=(
            "SQL expression over the row: `amount > 10000`. Tables that lack one of its columns "
            "are not meant."
        )
    )
    targets: Names = Field(min_length=1, description="Where such rows go.")
    tables: Patterns = Field(
        ("*",),
        description=(
            "Tables it is for. A table named here without wildcards must have all the columns."
        ),
    )
    exclude: Patterns = Field((), description="Tables to leave out of `tables`.")
    sources: Names = Field((), description="Only rows of these sources; unset = of all.")

    def matches(self, source: str, database: str, table: str) -> bool:
        """Whether the rule is for `table` in `database` of `source`."""
        return (not self.sources or source in self.sources) and select_tables(
            self.tables, self.exclude
        ).matches(database, table)


class ShardTarget(Model):
    """One target of a sharded table."""

    target: Name = Field(description="The target.")
    residues: tuple[NonNegativeInt, ...] = Field(
        (),
        description="`hash`: the remainders it takes; unset = its place in the list.",
        examples=[[0, 1]],
    )
    weight: PositiveInt = Field(1, description="Its share, for weighted and consistent hashing.")


def _shard_target(value: Any) -> Any:
    return {"target": value} if isinstance(value, str) else value


ShardTargetForm = Annotated[ShardTarget, BeforeValidator(_shard_target)]
"""A target of a sharded table, or its name alone."""


class RoutingRule(Model):
    """A table whose rows are divided among several targets."""

    name: str = Field(min_length=1, description="What the rule is called.")
    tables: Patterns = Field(
        (),
        description="Tables it is for; unset = the rule's name, without `-table` at its end.",
    )
    exclude: Patterns = Field((), description="Tables to leave out of `tables`.")
    sources: Names = Field((), description="Only rows of these sources; unset = of all.")
    strategy: Literal[
        "hash",
        "range",
        "round-robin",
        "weighted-round-robin",
        "least-connections",
        "consistent-hash",
    ] = Field(description="How a row's target is found.")
    key: Columns = Field(
        (), description="Column (or columns) that decides; unset = the table's primary key."
    )
    targets: tuple[ShardTargetForm, ...] = Field(
        (),
        description="The targets: names, or `{target, residues, weight}`.",
        examples=[["db1", "db2"]],
    )
    append_only: AppendOnly = False
    ranges: tuple[Range, ...] = Field(
        (),
        description="`range`: what goes where.",
        examples=[[{"range": "0 to 999", "target": "db1"}]],
    )
    otherwise: Name | None = Field(
        None,
        validation_alias="default",
        serialization_alias="default",
        description="`range`: where rows go that lie in no range; unset = nowhere, and counted.",
    )

    @property
    def table_patterns(self) -> tuple[str, ...]:
        """The tables the rule is for."""
        return self.tables or (self.name.removesuffix("-table"),)

    @model_validator(mode="after")
    def _parts_fit_the_strategy(self) -> Self:
        _check_append_only(self.strategy, append_only=self.append_only)
        if self.strategy in ("hash", "range", "consistent-hash") and not self.key:
            raise at("", f"key: missing: {self.strategy} needs the column that decides")
        if self.strategy == "range":
            _check_range_parts(self.key, self.targets, self.ranges)
            return self
        if self.otherwise:
            raise at("default", f"not used by strategy {self.strategy}", "strategy: range")
        if self.ranges:
            raise at("ranges", f"not used by strategy {self.strategy}", "strategy: range")
        if not self.targets:
            raise at("", "targets: missing: name at least one")
        names = [target.target for target in self.targets]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise at(f"targets.{index}", f"{name} is named twice; give it weight or residues")
        _check_residues(self.strategy, self.targets)
        return self


def _check_append_only(strategy: str, *, append_only: bool) -> None:
    """Refuses rows in turn where the strategy goes by something else."""
    if append_only and strategy not in BALANCING:
        raise at("append-only", f"not used by strategy {strategy}", "strategy: round-robin")


def _check_range_parts(
    key: Sequence[str], targets: Sequence[object], ranges: Sequence[Range]
) -> None:
    """Refuses a range rule that lacks something, or has something that it does not use."""
    if not key:
        raise at("", "key: missing: range needs the column that decides")
    if len(key) > 1:
        raise at("key", "range goes by one column")
    if targets:
        raise at("targets", "range names a target per range", "ranges")
    if not ranges:
        raise at("", "ranges: missing: range needs [{range: A to B, target: ...}]")
    _check_ranges(ranges)


def _check_residues(strategy: str, targets: Sequence[ShardTarget]) -> None:
    """Refuses remainders that leave a row without a target or give it two."""
    given = [index for index, target in enumerate(targets) if target.residues]
    if not given:
        return
    if strategy != "hash":
        raise at(f"targets.{given[0]}.residues", f"not used by strategy {strategy}")
    if len(given) < len(targets):
        raise at("targets", "residues: give them for every target or for none")
    taken = [residue for target in targets for residue in target.residues]
    if sorted(taken) != list(range(len(taken))):
        raise at("targets", f"residues must be each of 0 to {len(taken) - 1} once")


def _check_ranges(ranges: Sequence[Range]) -> None:
    """Refuses ranges of two kinds, ranges that overlap, and gaps between them."""
    bounds = [part.bounds for part in ranges]
    for index, part in enumerate(bounds):
        if part.kind != bounds[0].kind:
            raise at(f"ranges.{index}.range", "days and numbers are mixed in one rule")
    exponents = [
        int(end.as_tuple().exponent) for b in bounds for end in (b.low, b.high) if end is not None
    ]
    step = Decimal(1).scaleb(min([*exponents, 0]))
    lows = [Decimal("-Infinity") if b.low is None else b.low for b in bounds]
    order = sorted(range(len(ranges)), key=lows.__getitem__)
    for before, after in pairwise(order):
        end, start = bounds[before].high, bounds[after].low
        key = f"ranges.{after}.range"
        if end is None or start is None or start <= end:
            raise at(key, f"overlaps {ranges[before].range}")
        if start > end + step:
            raise at(key, f"leaves a gap after {ranges[before].range}; rows in it would go nowhere")
