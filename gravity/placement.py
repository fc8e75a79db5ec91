"""Which one of several targets a row belongs to, by the values of its key. Pure.

A placement is part of the plan, as data: the remainders, ranges or buckets that each target has. So two
releases, two machines and a replay place a row alike. The hash is that of `gravity.key` (golden vectors
in schemas/examples/placement.json); never Python's, never a client library's.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any, Final, Literal, Self

import xxhash

from gravity.batch import Column, TableSchema, Value
from gravity.column import INTEGER_BYTES, ColumnType
from gravity.errors import FatalError
from gravity.key import encode_keys

BUCKETS: Final = 1024
"""Into which keys are divided before a target is chosen."""
NOWHERE: Final = -1
"""The place of a row that no target takes."""

Method = Literal["residue", "range", "bucket"]
BoundKind = Literal["number", "date"]

_NUMBERS = frozenset((*INTEGER_BYTES, "decimal", "float", "double", "year"))
_DAYS = frozenset(("date", "datetime", "timestamp"))
_DAY_LENGTH = len("2024-12-31")
_HASH_SPAN = 2.0**64


def key_hashes(key_columns: Sequence[Sequence[Value]]) -> list[int]:
    """64 bits a row, from its canonical key."""
    return list(map(xxhash.xxh64_intdigest, encode_keys(key_columns)))


def buckets_of(key_columns: Sequence[Sequence[Value]]) -> list[int]:
    """The bucket of each row."""
    return [value % BUCKETS for value in key_hashes(key_columns)]


def residues_of(key_columns: Sequence[Sequence[Value]], modulus: int) -> list[int]:
    """The remainder of each row, 0 to `modulus` - 1.

    One column of whole numbers is divided as it is, and the remainder of a negative number is counted
    up from 0 as well: -1 divided by 4 leaves 3 (MySQL's `%` says -1). Anything else is hashed first.
    """
    if len(key_columns) == 1:
        values = key_columns[0]
        if all(type(value) is int for value in values):
            return [value % modulus for value in values]  # type: ignore[operator,misc]
        return [
            value % modulus if type(value) is int else key_hashes([[value]])[0] % modulus
            for value in values
        ]
    return [value % modulus for value in key_hashes(key_columns)]


# Who has which bucket.


def rendezvous(weights: Mapping[str, int]) -> tuple[str, ...]:
    """Bucket → target by weighted rendezvous hashing: each bucket goes to the target of the best score.

    A target's score for a bucket depends on the two alone, so a new target only takes buckets, its
    share of them, and one that leaves only gives its own away.
    """
    return tuple(
        max(sorted(weights), key=lambda name: _score(name, bucket, weights[name]))
        for bucket in range(BUCKETS)
    )


def _score(name: str, bucket: int, weight: int) -> float:
    digest = xxhash.xxh64_intdigest(f"{name}\x00{bucket}".encode())
    # In (0, 1): never 0, whose logarithm does not exist, nor 1, whose logarithm is 0.
    return -weight / math.log((digest + 0.5) / (_HASH_SPAN + 1.0))


def smooth_cycle(weights: Mapping[str, int], length: int) -> tuple[str, ...]:
    """`length` turns of smooth weighted round-robin: {a: 2, b: 1} gives a, b, a and again."""
    total = sum(weights.values())
    credit = dict.fromkeys(weights, 0)
    turns = []
    for _ in range(length):
        for name, weight in weights.items():
            credit[name] += weight
        chosen = max(weights, key=lambda name: credit[name])
        credit[chosen] -= total
        turns.append(chosen)
    return tuple(turns)


def round_robin(weights: Mapping[str, int]) -> tuple[str, ...]:
    """Bucket → target, in turn and by weight."""
    return smooth_cycle(weights, BUCKETS)


def rebalanced(buckets: Sequence[str], weights: Mapping[str, int]) -> tuple[str, ...]:
    """The map with new weights or targets that takes the fewest buckets from where they are.

    Every target ends with its share of the buckets, rounded; the lowest-numbered buckets of those that
    have too many, and of those that are gone, go to those that have too few.
    """
    wanted = _quotas(weights, len(buckets))
    kept: Counter[str] = Counter()
    homeless = []
    result = list(buckets)
    for bucket in reversed(range(len(buckets))):
        name = buckets[bucket]
        if kept[name] < wanted.get(name, 0):
            kept[name] += 1
        else:
            homeless.append(bucket)
    lacking = {name: count - kept[name] for name, count in wanted.items() if count > kept[name]}
    turns = smooth_cycle(lacking, len(homeless)) if homeless else ()
    for bucket, name in zip(reversed(homeless), turns, strict=True):
        result[bucket] = name
    return tuple(result)


def _quotas(weights: Mapping[str, int], total: int) -> dict[str, int]:
    """How many of `total` each gets: by weight, the largest remainders rounded up."""
    parts = sum(weights.values())
    quotas = {name: total * weight // parts for name, weight in weights.items()}
    by_rest = sorted(weights, key=lambda name: (-(total * weights[name] % parts), name))
    for name in by_rest[: total - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def kept(buckets: Sequence[str], targets: Sequence[str]) -> tuple[str, ...]:
    """The map without what it gives to others than `targets`: those buckets are dealt out in turn."""
    turns = itertools.cycle(targets)
    return tuple(name if name in targets else next(turns) for name in buckets)


def least_loaded(loads: Mapping[str, float], current: str | None, *, margin: float) -> str:
    """The target of the least load; `current` stays unless another is better by the part `margin`.

    Loads are in-flight rows or seconds of lag; equal loads fall to the first name. Without the margin two
    targets whose loads are nearly equal would take work from each other for ever.
    """
    best = min(sorted(loads), key=lambda name: loads[name])
    if current is None or current not in loads:
        return best
    return best if loads[best] < loads[current] * (1.0 - margin) else current


# A placement as the plan holds it.


@dataclass(frozen=True, slots=True)
class Share:
    """What one target has of a placement's rows."""

    placement: str
    """Its name."""
    place: int
    """The target's number in it."""


@dataclass(frozen=True, slots=True)
class RangeShare:
    """Keys from `low` to `high`, both included; None = open end."""

    low: str | None
    high: str | None
    place: int

    @property
    def text(self) -> str:
        """As a configuration writes it."""
        return f"{self.low or '*'} to {self.high or '*'}"


@dataclass(frozen=True)
class Placement:
    """How the rows of some tables are divided among targets."""

    name: str
    strategy: str
    """As the configuration calls it."""
    method: Method
    key: tuple[str, ...]
    """Columns; empty = the table's primary key."""
    targets: tuple[str, ...]
    """Their numbers are their places."""
    residues: tuple[int, ...] = ()
    """Remainder → place."""
    ranges: tuple[RangeShare, ...] = ()
    """In ascending order."""
    kind: BoundKind = "number"
    """Of the ranges' ends."""
    otherwise: int = NOWHERE
    """The place of what no range holds."""
    buckets: tuple[int, ...] = ()
    """Bucket → place."""
    append_only: bool = False
    """Whether new rows take turns whatever their key is, so that a row may lie at any of the targets."""

    def key_indexes(self, schema: TableSchema) -> tuple[int, ...]:
        """The columns of `schema` that decide.

        Raises FatalError when the table lacks one, or has one whose values can't lie in the ranges.
        """
        where = f"{schema.database}.{schema.table}"
        if not self.key and not schema.key:
            raise FatalError(
                f"{self.name} needs a key, and the table has no primary key",
                where=where,
                remedy="name the columns with key:",
            )
        spelling = {name.lower(): index for name, index in schema.column_index.items()}
        missing = [name for name in self.key if name.lower() not in spelling]
        if missing:
            raise FatalError(
                f"{self.name} decides by column {', '.join(missing)}, which the table does not have",
                where=where,
                remedy="correct key:, or leave the table out of the rule",
            )
        indexes = tuple(spelling[name.lower()] for name in self.key) or schema.key
        if self.method == "range":
            self._check_range_column(schema.columns[indexes[0]], where)
        return indexes

    def _check_range_column(self, column: Column, where: str) -> None:
        name = ColumnType.parse(column.type).name
        if name not in (_NUMBERS if self.kind == "number" else _DAYS):
            kinds = "numbers" if self.kind == "number" else "days"
            raise FatalError(
                f"{self.name} has ranges of {kinds}, but column {column.name} is {column.type}",
                where=where,
                remedy="choose another key, or strategy: hash",
            )

    def places(self, key_columns: Sequence[Sequence[Value]]) -> list[int]:
        """The place of each row, NOWHERE where no target takes it."""
        match self.method:
            case "residue":
                residues = self.residues
                return [residues[r] for r in residues_of(key_columns, len(residues))]
            case "bucket":
                buckets = self.buckets
                return [buckets[b] for b in buckets_of(key_columns)]
            case "range":
                return self._in_ranges(key_columns[0])

    def turns(self, first: int, count: int) -> list[int]:
        """The places of `count` new rows of an append-only table, the first of which is number `first`."""
        buckets = self.buckets
        return [buckets[number % BUCKETS] for number in range(first, first + count)]

    def _in_ranges(self, values: Sequence[Value]) -> list[int]:
        known: dict[Value, int] = {None: self.otherwise}
        for value in set(values):
            if value is not None:
                known[value] = self._range_place(value)
        return [known[value] for value in values]

    def _range_place(self, value: Value) -> int:
        found = self.find_range(value)
        return self.otherwise if found is None else found.place

    def find_range(self, value: Value) -> RangeShare | None:
        """The range that holds `value`; a moment lies in its day."""
        point = _point(value, self.kind)
        if point is None:
            return None
        index = bisect_right(self._lows, point) - 1
        if index < 0:
            return None
        high = self._highs[index]
        return self.ranges[index] if high is None or point <= high else None

    @cached_property
    def _lows(self) -> list[Any]:
        least: Any = "" if self.kind == "date" else Decimal("-Infinity")
        return [least if r.low is None else _point(r.low, self.kind) for r in self.ranges]

    @cached_property
    def _highs(self) -> list[Any]:
        return [None if r.high is None else _point(r.high, self.kind) for r in self.ranges]

    def describe(self, place: int) -> str:
        """Which rows the target at `place` has, in a few words."""
        key = ", ".join(self.key) or "the primary key"
        match self.method:
            case "residue":
                mine = ", ".join(str(r) for r, at in enumerate(self.residues) if at == place)
                return f"{key} % {len(self.residues)} in ({mine})"
            case "bucket":
                of = f"buckets of {key}" if not self.append_only else "turns, whatever the key"
                return f"{self.buckets.count(place)} of {BUCKETS} {of} ({self.strategy})"
            case "range":
                parts = [f"{key} in {r.text}" for r in self.ranges if r.place == place]
                if place == self.otherwise:
                    parts.append(f"{key} in no range")
                return " or ".join(parts)

    def reason(self, key: Sequence[Value]) -> str:
        """Why a row with this key lies where it does."""
        match self.method:
            case "residue":
                modulus = len(self.residues)
                plain = len(key) == 1 and type(key[0]) is int
                [residue] = residues_of([[cell] for cell in key], modulus)
                of = _shown(key) if plain else f"hash of {_shown(key)}"
                return f"{of} % {modulus} = {residue}"
            case "bucket":
                if self.append_only:
                    return "a new row goes where the turn is; one that is read or changed goes by its key"
                return f"bucket {buckets_of([[cell] for cell in key])[0]} of {BUCKETS}"
            case "range":
                found = self.find_range(key[0])
                if found is not None:
                    return f"{_shown(key)} is in {found.text}"
                return f"{_shown(key)} is in no range"

    def portion(self, place: int) -> tuple[object, ...]:
        """What the target at `place` has, in a form that is equal exactly where the rows are the same."""
        match self.method:
            case "residue":
                own: object = tuple(r for r, at in enumerate(self.residues) if at == place)
                return self.method, self.key, len(self.residues), own
            case "bucket" if self.append_only:
                # Where buckets go decides about rows to come, and about none that are there.
                return self.method, self.key, "append-only"
            case "bucket":
                return (
                    self.method,
                    self.key,
                    tuple(b for b, at in enumerate(self.buckets) if at == place),
                )
            case "range":
                spans = [(r.low, r.high, r.place == place) for r in self.ranges]
                rest = place == self.otherwise
                # What lies in no range depends on all of them.
                return (
                    self.method,
                    self.key,
                    self.kind,
                    tuple(s for s in spans if rest or s[2]),
                    rest,
                )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The placement in a plan's JSON."""
        lists = {key: tuple(record[key]) for key in ("key", "targets", "residues", "buckets")}
        ranges = tuple(RangeShare(**item) for item in record["ranges"])
        return cls(**{**record, **lists, "ranges": ranges})


def _shown(key: Sequence[Value]) -> str:
    return ", ".join("NULL" if cell is None else repr(cell) for cell in key)


def _point(value: Value, kind: BoundKind) -> Any:
    """What ranges compare: a day as text, a number as Decimal; None for what is neither."""
    if value is None:
        return None
    if kind == "date":
        return str(value)[:_DAY_LENGTH]
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


MAPS: Mapping[str, Callable[[Mapping[str, int]], tuple[str, ...]]] = {
    "round-robin": round_robin,
    "weighted-round-robin": round_robin,
    "least-connections": round_robin,
    "consistent-hash": rendezvous,
}
"""Balancing strategy → how the buckets are first placed."""

IN_TURN: Final = frozenset(MAPS) - {"consistent-hash"}
"""Strategies whose buckets lie anywhere at first: later they are moved as little as possible."""
