"""What happens when several sources hold different rows under one key of one target table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    model_validator,
)

from gravity.config.model import Duration, Model, Name, Names, Patterns, at
from gravity.config.source import Source
from gravity.pattern import parse_table_pattern, select_tables

Strategy = Literal["source-priority", "timestamp-latest", "merge", "error-stop"]

_TIMESTAMP_SOURCE = re.compile(r"commit|column:[^\s:]+")
_COLUMN_RULE = re.compile(r"latest|priority|max|min|union|sum|coalesce|owner:[A-Za-z0-9._-]+")


def _timestamp_source(text: str) -> str:
    if not _TIMESTAMP_SOURCE.fullmatch(text):
        raise ValueError("must be commit, or column:<name>")
    return text


def _column_rule(text: str) -> str:
    if not _COLUMN_RULE.fullmatch(text):
        raise ValueError(
            "must be latest, priority, owner:<source>, max, min, union, sum or coalesce"
        )
    return text


Refused = Literal["fk_parent_missing", "fk_child_exists", "unique_secondary", "data"]
"""Which of a target's constraints refuses a row."""


class Park(Model):
    """How long a refused row waits at the target, and what happens then."""

    park: Duration = Field(
        timedelta(minutes=10),
        description=(
            "Longest wait, in commit time of the row's source. Only used with `then: dlq`."
        ),
    )
    then: Literal["hold", "dlq"] = Field(
        "dlq",
        description="`dlq`: after it the row is dead-lettered; `hold`: it waits for ever, and is shown.",
    )

    @property
    def waits_us(self) -> int | None:
        """The longest wait in microseconds; 0 = it does not wait at all, None = for ever."""
        return None if self.then == "hold" else self.park // timedelta(microseconds=1)


def _park(value: Any) -> Any:
    if value in ("hold", "dlq"):
        return {"then": value, "park": "0s"}
    if not isinstance(value, (dict, Park)):
        # Pydantic collects value errors only.
        raise ValueError("say dlq, hold, or {park: 10m, then: dlq}")  # noqa: TRY004
    return value


ParkOrAction = Annotated[Park, BeforeValidator(_park)]
"""`hold`, `dlq`, or how long to park and what then."""


class Constraint(Model):
    """What happens to a row that a MySQL target's own constraints refuse.

    `dlq`: it is dead-lettered at once; `hold`: it waits at the target for as long as it is refused.
    """

    fk_parent_missing: ParkOrAction = Field(
        Park(),
        description=(
            "A foreign key: the parent is not there (yet), or, of a row that is to be deleted, children "
            "still are."
        ),
        examples=[{"park": "10m", "then": "dlq"}],
    )
    unique_secondary: ParkOrAction = Field(
        Park(park=timedelta(0)),
        description="Another row holds the same value of a secondary unique key.",
        examples=[{"park": "10m", "then": "dlq"}],
    )
    data: Literal["hold", "dlq"] = Field("dlq", description="A value that the column can't take.")

    def park_for(self, kind: Refused) -> Park:
        """What a row leads to that is refused so."""
        match kind:
            case "fk_parent_missing" | "fk_child_exists":
                return self.fk_parent_missing
            case "unique_secondary":
                return self.unique_secondary
            case "data":
                return Park(park=timedelta(0), then=self.data)


class ConflictRule(Model):
    """How conflicts in some tables are resolved.

    The first rule that matches is used, and one that names the table before one with a wildcard.
    """

    tables: Patterns = Field(
        ("*",), description="Source tables it is for. `table:` and `match: {table:}` say the same."
    )
    target: Name | None = Field(None, description="Only at this target; unset = at every one.")
    strategy: Strategy = Field(description="Who wins.")
    sources: Names = Field(
        (), description="The sources that take part, best first; unset = all, by their rank."
    )
    timestamp_source: Annotated[str, AfterValidator(_timestamp_source)] = Field(
        "commit",
        description="`timestamp-latest`: what is compared: `commit` time or `column:<name>`.",
    )
    on_delete: Literal["incarnation", "absolute", "fallthrough"] = Field(
        "incarnation",
        description=(
            "`source-priority`: what a better source's delete does to others' rows. "
            "`incarnation`: hides those written before it; `absolute`: all; `fallthrough`: none."
        ),
    )
    columns: dict[str, Annotated[str, AfterValidator(_column_rule)]] = Field(
        {},
        description=(
            "`merge`: who wins a column: `latest` (default), `priority`, `owner:<source>`, "
            "`max`, `min`, `union`, `sum`, `coalesce`."
        ),
        examples=[{"email": "latest"}],
    )
    groups: tuple[tuple[str, ...], ...] = Field(
        (),
        description="`merge`: columns that are only taken together from one source.",
        examples=[[["street", "city"]]],
    )
    null_is_unset: bool = Field(
        True, description="`merge`: whether NULL in an inserted row gives way to another's value."
    )
    constraint: Constraint = Field(
        Constraint(),
        description="What a target's refusal leads to.",
        examples=[{"fk-parent-missing": "dlq"}],
    )
    tombstone_retention: Duration = Field(
        timedelta(days=7),
        description=(
            "How long a row that every source has deleted is remembered, by their commit times. Must be "
            "longer than any source may be behind, than its binlogs are kept, and than a snapshot takes."
        ),
    )
    scope: Literal["key", "table", "job"] = Field(
        "key",
        description=(
            "`error-stop`: what stands still at the target while sources disagree about a row: `key`, that "
            "row; `table`, its table (a declared `order-by` group as a whole); `job`, everything. What is wider "
            "than a key is kept in one partition."
        ),
    )
    auto_clear: bool = Field(
        True, description="`error-stop`: whether a hold ends when the sources agree again."
    )
    conflict_window: Duration | None = Field(
        None,
        description=(
            "`error-stop`: only changes committed within this time of each other disagree; of those "
            "further apart the later one stands. Unset = whatever the time between them."
        ),
    )

    def matches(self, target: str, database: str, table: str) -> bool:
        """Whether the rule is for the source's `table` in `database` on its way to `target`."""
        return self.target in (None, target) and select_tables(self.tables).matches(database, table)

    def names(self, database: str, table: str) -> bool:
        """Whether a pattern without wildcards means `table`."""
        patterns = map(parse_table_pattern, self.tables)
        return any(p.is_exact and p.matches(database, table) for p in patterns)

    @model_validator(mode="after")
    def _parts_fit_the_strategy(self) -> Self:
        if self.strategy != "merge":
            for key in ("columns", "groups"):
                if getattr(self, key):
                    raise at(key, f"only used by strategy merge, not by {self.strategy}")
        if self.strategy != "error-stop" and self.conflict_window is not None:
            raise at("conflict-window", f"only used by strategy error-stop, not by {self.strategy}")
        if self.strategy != "error-stop" and self.scope != "key":
            raise at("scope", f"only used by strategy error-stop, not by {self.strategy}")
        if self.strategy != "timestamp-latest" and self.timestamp_source != "commit":
            raise at("timestamp-source", f"only used by timestamp-latest, not by {self.strategy}")
        if len(set(self.sources)) < len(self.sources):
            raise at("sources", "a source is given twice")
        self._require_sound_groups()
        for column, how in self.columns.items():
            owner = how.removeprefix("owner:")
            if owner != how and self.sources and owner not in self.sources:
                raise at(f"columns.{column}", f"its owner {owner} is not among the rule's sources")
        return self

    def _require_sound_groups(self) -> None:
        grouped: set[str] = set()
        for group in self.groups:
            if len(group) < 2:  # noqa: PLR2004 - one column alone needs no group
                raise at("groups", "a group needs two columns or more")
            for column in group:
                if column in grouped:
                    raise at("groups", f"column {column} is given twice")
                grouped.add(column)
            rules = {self.columns[column] for column in group if column in self.columns}
            if len(rules) > 1:
                raise at("groups", f"the columns of group {', '.join(group)} have different rules")
            for rule in rules:
                if rule not in ("latest", "priority") and not rule.startswith("owner:"):
                    raise at(
                        "groups",
                        f"a group is taken from one source, so its rule can't be {rule}: "
                        "use latest, priority or owner:<source>",
                    )


class ConflictResolution(Model):
    """What happens when several sources hold different rows under one key."""

    default_strategy: Strategy = Field(
        "source-priority", description="Who wins where no rule matches. `strategy:` says the same."
    )
    source_priorities: dict[Name, PositiveInt] = Field(
        {},
        description="Rank of each source, 1 is best; unset = `priority` of the source.",
        examples=[{"shop": 1}],
    )
    rules: tuple[ConflictRule, ...] = Field(
        (),
        description="Exceptions by table. `custom-rules:`, `special-rules:` say the same.",
        examples=[[{"tables": ["users"], "strategy": "timestamp-latest"}]],
    )

    def rule_for(self, target: str, database: str, table: str) -> ConflictRule:
        """The rule in force for a table on its way to `target`.

        The first that names the table, else the first whose wildcard matches, else the default.
        """
        matching = [rule for rule in self.rules if rule.matches(target, database, table)]
        for rule in matching:
            if rule.names(database, table):
                return rule
        return matching[0] if matching else ConflictRule(strategy=self.default_strategy)

    def park_for(self, target: str, origin: str, kind: Refused) -> Park:
        """What a row of `origin` (`database.table` at the source) leads to that `target` refuses so."""
        database, _, table = origin.partition(".")
        return self.rule_for(target, database, table).constraint.park_for(kind)


def rank_sources(
    sources: tuple[Source, ...], rule: ConflictRule, priorities: Mapping[str, int]
) -> dict[str, int]:
    """The sources that take part under `rule` and their ranks: 1 is best, no two are equal.

    A rule's own `sources` are its ranking. Else: by `priorities`, sources without one after those
    with one; then by `Source.priority`; then by their order in the file.
    """
    if rule.sources:
        return {name: rank for rank, name in enumerate(rule.sources, start=1)}
    unranked = max(priorities.values(), default=0) + 1
    ordered = sorted(sources, key=lambda s: (priorities.get(s.name, unranked), s.priority))
    return {source.name: rank for rank, source in enumerate(ordered, start=1)}
