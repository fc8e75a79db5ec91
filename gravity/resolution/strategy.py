"""What several sources' opinions about one row come to. Pure.

The outcome is a function of the registers, the decision, the floors and the rule, and of nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import combinations, takewhile

import xxhash

from gravity.batch import LEFT, Column
from gravity.plan_part import Resolution
from gravity.resolution.merge import merge
from gravity.resolution.register import (
    Decision,
    Floors,
    Opinion,
    Register,
    Registers,
    Row,
    opinions_of,
)
from gravity.resolution.value import normalised, same_rows

_MOMENT_TYPES = ("datetime", "timestamp", "date")


@dataclass(slots=True)
class Outcome:
    """What a target must hold under a key. Never changed; not frozen, since it is made for every row."""

    winner: str
    """The source that decided; OPERATOR where a row of an operator's own stands."""
    row: Row | None
    """None: no row."""
    columns: tuple[Column, ...]
    filled_from: tuple[str, ...] = ()
    """Sources that gave columns which the winner does not have."""
    lacking: tuple[str, ...] = ()
    """Columns that nobody has whose row counts: NULL in `row`, the target's default to be exact."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The sources disagree and the rule says that nobody wins: the target keeps what it has."""

    opinions: tuple[Opinion, ...]
    """Best rank first."""


Verdict = Outcome | Hold


def resolve(
    registers: Registers,
    rule: Resolution,
    decision: Decision | None = None,
    floors: Floors | None = None,
) -> Verdict | None:
    """What `registers` come to under `rule`; None when no source that takes part has spoken, nor one that leaves."""
    if decision is None and not floors:
        plain = _plain(registers, rule)
        if plain is not None:
            return plain
    opinions = opinions_of(registers, rule.ranks, decision, floors or {})
    if not opinions:
        left = next((source for source in rule.leaving if source in registers), None)
        return None if left is None else Outcome(left, None, registers[left].shape.columns)
    if rule.strategy == "error-stop":
        return _unanimous(opinions, rule)
    if rule.strategy == "merge":
        return _merged(opinions, rule)
    if rule.strategy == "timestamp-latest":
        winner, candidates = _by_time(opinions, rule)
    else:
        winner, candidates = _by_priority(opinions, rule)
    if not candidates:
        return _no_row(winner)
    return _filled(candidates, opinions)


def _plain(registers: Registers, rule: Resolution) -> Outcome | None:
    """What nearly all rows come to, found without opinions; None: it takes the long way.

    All sources' rows have one shape, so that no column has to be filled, and no row is at another target.
    """
    ranks = rule.ranks
    by_time = rule.strategy == "timestamp-latest"
    if not by_time and rule.strategy != "source-priority":
        return None
    if by_time and rule.timestamp_column is not None:
        return None
    winner, best, best_rank, shape = "", None, 0, None
    for source, reg in registers.items():
        rank = ranks.get(source)
        if rank is None:
            continue
        if reg.op == LEFT or (reg.row is None and not by_time):
            return None
        if best is None:
            shape = reg.shape
        elif reg.shape is not shape:
            return None
        elif by_time:
            if reg.ets < best.ets or (reg.ets == best.ets and rank > best_rank):
                continue
        elif rank > best_rank:
            continue
        winner, best, best_rank = source, reg, rank
    return None if best is None else Outcome(winner, best.row, best.shape.columns)


def _no_row(winner: Opinion) -> Outcome:
    return Outcome(winner.source, None, winner.register.shape.columns)


def _by_time(opinions: Sequence[Opinion], rule: Resolution) -> tuple[Opinion, list[Opinion]]:
    """The winner, and the live rows later than every delete; latest first, ties to the better rank."""

    def age(opinion: Opinion) -> tuple[int, Decimal, int]:
        reg = opinion.register
        if rule.timestamp_column is None or reg.row is None:
            # A delete has no row to read a column from, so it counts by its commit time.
            return (1, Decimal(reg.ets), -opinion.rank)
        return (*_moment(reg, rule.timestamp_column), -opinion.rank)

    order = sorted(opinions, key=age, reverse=True)
    return order[0], list(takewhile(lambda opinion: opinion.live, order))


def _moment(reg: Register, column: str) -> tuple[int, Decimal]:
    """The column's value as a number: (1, value), or (0, 0), lowest, where there is none.

    Dates become microseconds since 1970 UTC, so that they also compare with commit times.
    """
    assert reg.row is not None
    cells = zip(reg.shape.columns, reg.row, strict=True)
    type_, value = next(((c.type, cell) for c, cell in cells if c.name == column), ("", None))
    try:
        if value is None:
            return (0, Decimal(0))
        if isinstance(value, bytes):
            return (1, Decimal(int.from_bytes(value)))
        if isinstance(value, str) and type_.startswith(_MOMENT_TYPES):
            moment = datetime.fromisoformat(value).replace(tzinfo=UTC)
            whole = int(moment.replace(microsecond=0).timestamp())
            return (1, Decimal(whole * 1_000_000 + moment.microsecond))
        number = Decimal(value)
    except (ValueError, InvalidOperation):
        # A zero date, or text that is no number.
        return (0, Decimal(0))
    return (1, number) if number.is_finite() else (0, Decimal(0))


def _by_priority(opinions: Sequence[Opinion], rule: Resolution) -> tuple[Opinion, list[Opinion]]:
    """The winner, and the live rows that no delete hides; best rank first.

    With no such row the best of the deletes decides.
    """
    deletes = [opinion for opinion in opinions if not opinion.live]

    def hidden(opinion: Opinion) -> bool:
        if rule.on_delete == "fallthrough":
            return False
        return any(
            delete.rank <= opinion.rank
            and (rule.on_delete == "absolute" or delete.register.ets >= opinion.register.ets)
            for delete in deletes
        )

    visible = [opinion for opinion in opinions if opinion.live and not hidden(opinion)]
    return visible[0] if visible else deletes[0], visible


def _merged(opinions: Sequence[Opinion], rule: Resolution) -> Outcome:
    """Column by column, of the live rows later than every delete."""
    order = sorted(opinions, key=lambda opinion: opinion.age, reverse=True)
    candidates = list(takewhile(lambda opinion: opinion.live, order))
    if not candidates:
        return _no_row(order[0])
    columns, row = merge(candidates, rule)
    return _complete(Outcome(candidates[0].source, row, columns), opinions)


def _unanimous(opinions: Sequence[Opinion], rule: Resolution) -> Verdict:
    """The one opinion of all sources, or a hold."""
    live = [opinion for opinion in opinions if opinion.live]
    images = [_image(opinion, live) for opinion in opinions]
    window = rule.conflict_window_us
    for (one, image), (other, other_image) in combinations(zip(opinions, images, strict=True), 2):
        apart = abs(one.register.ets - other.register.ets)
        if image != other_image and (window is None or apart <= window):
            return Hold(tuple(opinions))
    # Without a window all agree; with one, those that differ are changes one after the other.
    latest = max(opinions, key=lambda opinion: opinion.age)
    if not latest.live:
        return _no_row(latest)
    agreeing = [opinion for opinion, image in zip(opinions, images, strict=True)
                if image == images[opinions.index(latest)]]  # fmt: skip
    return _filled([agreeing[0], *(o for o in live if o is not agreeing[0])], opinions)


def _image(opinion: Opinion, live: Sequence[Opinion]) -> dict[str, object] | None:
    """The row as it is compared; what the source has no column for counts as the best other's value."""
    if opinion.register.row is None:
        return None
    filled = _filled([opinion, *(other for other in live if other is not opinion)], ())
    assert filled.row is not None
    return normalised(filled.row, filled.columns)


def _filled(candidates: Sequence[Opinion], opinions: Sequence[Opinion]) -> Outcome:
    """The first candidate's row, and for columns it lacks the next ones' values.

    Left as they are in the target, such columns would depend on the order of arrival.
    """
    winner = candidates[0]
    best = winner.register
    assert best.row is not None
    columns, row = best.shape.columns, best.row
    filled_from: list[str] = []
    for candidate in candidates[1:]:
        other = candidate.register
        if other.shape is best.shape or other.shape.schema_id == best.shape.schema_id:
            continue
        present = {column.name for column in columns}
        extra = [i for i, column in enumerate(other.shape.columns) if column.name not in present]
        if extra:
            assert other.row is not None
            columns += tuple(other.shape.columns[i] for i in extra)
            row += tuple(other.row[i] for i in extra)
            filled_from.append(candidate.source)
    return _complete(Outcome(winner.source, row, columns, tuple(filled_from)), opinions)


def _complete(outcome: Outcome, opinions: Sequence[Opinion]) -> Outcome:
    """With NULL for the columns that only opinions have which don't count: their values must not stay.

    At the target every column but the key's may be NULL (gravity_resolver.emission).
    """
    assert outcome.row is not None
    columns, row = outcome.columns, outcome.row
    lacking: list[str] = []
    present: set[str] = set()
    for opinion in opinions:
        if opinion.columns == outcome.columns:
            continue
        present = present or {column.name for column in columns}
        for column in opinion.columns:
            if column.name not in present:
                present.add(column.name)
                lacking.append(column.name)
                columns, row = (*columns, column), (*row, None)
    if not lacking:
        return outcome
    return Outcome(outcome.winner, row, columns, outcome.filled_from, tuple(lacking))


def after(before: Verdict | None, outcome: Outcome) -> Outcome:
    """The outcome with NULL for columns that only what stood `before` had: a source's table lost them.

    Their values would stay at the target, and a target that never saw them would differ.
    """
    columns = columns_of(before)
    if columns is outcome.columns or columns == outcome.columns:
        return outcome
    return with_nulls(outcome, columns)


def columns_of(verdict: Verdict | None) -> tuple[Column, ...]:
    """The columns that a verdict speaks of; none where there is no row."""
    if verdict is None:
        return ()
    if isinstance(verdict, Outcome):
        return () if verdict.row is None else verdict.columns
    return tuple(column for opinion in verdict.opinions for column in opinion.columns)


def with_nulls(outcome: Outcome, columns: Sequence[Column]) -> Outcome:
    """The outcome with NULL for those of `columns` that it has not."""
    if outcome.row is None:
        return outcome
    present = {column.name for column in outcome.columns}
    gone = {c.name: c for c in columns if c.name not in present}
    if not gone:
        return outcome
    return Outcome(
        outcome.winner,
        (*outcome.row, *(None for _ in gone)),
        (*outcome.columns, *gone.values()),
        outcome.filled_from,
        (*outcome.lacking, *gone),
    )


def same_outcome(one: Verdict | None, other: Verdict | None) -> bool:
    """Whether two outcomes leave the target the same. What it holds during a hold is not known."""
    if not isinstance(one, Outcome) or not isinstance(other, Outcome):
        return one is None and other is None
    if one.row is None or other.row is None:
        return one.row is other.row
    return same_rows(one.row, one.columns, other.row, other.columns)


_FIELDS_OF_FIRST_FORMAT = ("strategy", "ranks", "on_delete", "timestamp_column")


def rule_tag(rule: Resolution) -> str:
    """8 hex digits that differ when the rule decides otherwise."""
    default = asdict(Resolution("source-priority", {}))
    fields = {
        name: value
        for name, value in asdict(rule).items()
        # So that a rule of before a field was there keeps its tag.
        if name in _FIELDS_OF_FIRST_FORMAT
        or (value != default[name] and name != "tombstone_retention_us")
    }
    return xxhash.xxh32_hexdigest(json.dumps(fields, sort_keys=True).encode())
