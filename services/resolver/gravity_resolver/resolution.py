"""What several sources' opinions about one row come to. Pure.

State is one register per source and key; each part of a register is a maximum over a total order,
so it depends only on the set of changes seen, never on their order or on repeats. The outcome is a
function of the registers and the rule, and of nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import takewhile

import xxhash

from gravity.batch import INSERT, READ, REMOVES_ROW, Column, Value
from gravity.plan import Resolution
from gravity.position import Position

Row = tuple[Value, ...]

_MOMENT_TYPES = ("datetime", "timestamp", "date")
_FRACTION_TYPES = ("datetime", "timestamp", "time")


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a row, in order. Rows of one source and schema share one."""

    schema_id: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One source's change of one row."""

    source: str
    position: Position
    op: int
    ets: int
    """Commit time (running maximum); ignored for a snapshot's read."""
    row: Row
    shape: Shape


@dataclass(frozen=True, slots=True)
class Register:
    """The latest that one source said about a row."""

    position: Position
    op: int
    ets: int
    """Latest commit time of a change of this row at this source; 0 while it is known from reads only."""
    row: Row | None
    """None: the source has deleted it."""
    shape: Shape

    @property
    def live(self) -> bool:
        """Whether the source has the row."""
        return self.row is not None


Registers = Mapping[str, Register]


def register(old: Register | None, change: Change) -> Register:
    """The register after `change`, whatever order changes arrive in."""
    # A snapshot read says nothing about when the row was written: any real change beats it.
    ets = 0 if change.op == READ else change.ets
    if old is not None:
        ets = max(ets, old.ets)
        if change.position <= old.position:
            return Register(old.position, old.op, ets, old.row, old.shape)
    row = None if change.op in REMOVES_ROW else change.row
    return Register(change.position, change.op, ets, row, change.shape)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a target must hold under a key."""

    winner: str
    """The source that decided."""
    row: Row | None
    """None: no row."""
    columns: tuple[Column, ...]
    filled_from: tuple[str, ...] = ()
    """Sources that gave columns which the winner does not have."""


def resolve(registers: Registers, rule: Resolution) -> Outcome | None:
    """What `registers` come to under `rule`; None when no source that takes part has spoken."""
    taking_part = {source: reg for source, reg in registers.items() if source in rule.ranks}
    if not taking_part:
        return None
    if len(taking_part) == 1:
        ((source, only),) = taking_part.items()
        return Outcome(source, only.row, only.shape.columns)
    if rule.strategy == "timestamp-latest":
        winner, candidates = _by_time(taking_part, rule)
    else:
        winner, candidates = _by_priority(taking_part, rule)
    if not candidates:
        return Outcome(winner, None, taking_part[winner].shape.columns)
    return _filled(candidates, taking_part)


def _by_time(registers: Registers, rule: Resolution) -> tuple[str, list[str]]:
    """The winner, and the live rows later than every delete; latest first, ties to the better rank."""

    def age(source: str) -> tuple[int, Decimal, int]:
        reg = registers[source]
        if rule.timestamp_column is None or reg.row is None:
            # A delete has no row to read a column from, so it counts by its commit time.
            return (1, Decimal(reg.ets), -rule.ranks[source])
        return (*_comparable(reg, rule.timestamp_column), -rule.ranks[source])

    order = sorted(registers, key=age, reverse=True)
    return order[0], list(takewhile(lambda source: registers[source].live, order))


def _comparable(reg: Register, column: str) -> tuple[int, Decimal]:
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


def _by_priority(registers: Registers, rule: Resolution) -> tuple[str, list[str]]:
    """The winner, and the live rows that no delete hides; best rank first.

    With no such row the best of the deletes decides.
    """
    rank = rule.ranks
    deletes = [source for source, reg in registers.items() if not reg.live]

    def hidden(source: str) -> bool:
        if rule.on_delete == "fallthrough":
            return False
        return any(
            rank[delete] <= rank[source]
            and (rule.on_delete == "absolute" or registers[delete].ets >= registers[source].ets)
            for delete in deletes
        )

    visible = [source for source, reg in registers.items() if reg.live and not hidden(source)]
    visible.sort(key=rank.__getitem__)
    return visible[0] if visible else min(deletes, key=rank.__getitem__), visible


def _filled(candidates: Sequence[str], registers: Registers) -> Outcome:
    """The first candidate's row, and for columns it lacks the next ones' values.

    Left as they are in the target, such columns would depend on the order of arrival.
    """
    winner = candidates[0]
    best = registers[winner]
    assert best.row is not None
    columns, row = best.shape.columns, best.row
    filled_from: list[str] = []
    for source in candidates[1:]:
        other = registers[source]
        if other.shape is best.shape or other.shape.schema_id == best.shape.schema_id:
            continue
        present = {column.name for column in columns}
        extra = [i for i, column in enumerate(other.shape.columns) if column.name not in present]
        if extra:
            assert other.row is not None
            columns += tuple(other.shape.columns[i] for i in extra)
            row += tuple(other.row[i] for i in extra)
            filled_from.append(source)
    return Outcome(winner, row, columns, tuple(filled_from))


def normalised(row: Row, columns: Sequence[Column]) -> dict[str, object]:
    """The row such that rows that are equal here are equal in a target.

    1.0 and 1.00 are one DECIMAL, `10:00:00` and `10:00:00.000` one time.
    """
    return {
        column.name: _normalised_text(value, column.type) if isinstance(value, str) else value
        for column, value in zip(columns, row, strict=True)
    }


def _normalised_text(value: str, type_: str) -> str:
    # By text and not by number: arithmetic would round a DECIMAL of up to 65 digits.
    if "." in value and type_.startswith(("decimal", *_FRACTION_TYPES)):
        return value.rstrip("0").rstrip(".")
    return value


def same_outcome(one: Outcome | None, other: Outcome | None) -> bool:
    """Whether two outcomes leave the target the same."""
    if one is None or other is None:
        return one is other
    if one.row is None or other.row is None:
        return one.row is other.row
    if one.row == other.row and one.columns == other.columns:
        return True
    return normalised(one.row, one.columns) == normalised(other.row, other.columns)


def rule_tag(rule: Resolution) -> str:
    """8 hex digits that differ when the rule does."""
    text = json.dumps(asdict(rule), sort_keys=True)
    return xxhash.xxh32_hexdigest(text.encode())


def conflict_kind(
    before: Registers, change: Change, rule: Resolution, outcome: Outcome | None
) -> str | None:
    """Which conflict `change` meets in the opinions that stood before it; None when there is none.

    `outcome` is what the opinions come to with it. Kinds: `insert_insert`; `update_update`;
    `update_delete`, a change of a row that another source has deleted, or the other way about;
    `update_after_delete`, such a change that is older than the delete; `delete_stale`, a delete that
    is not followed; `delete_missing`, a delete of a row that nobody has.
    """
    if change.source not in rule.ranks:
        return None
    mine = before.get(change.source)
    others = [reg for s, reg in before.items() if s != change.source and s in rule.ranks]
    live = [reg for reg in others if reg.live]
    if change.op in REMOVES_ROW:
        if not live:
            return "delete_missing" if mine is None or not mine.live else None
        stands = outcome is not None and outcome.row is not None
        return "delete_stale" if stands else "update_delete"
    if mine is not None and mine.row == change.row:
        return None  # The source says nothing new, such as in a second snapshot.
    mine_row = normalised(change.row, change.shape.columns)
    for reg in live:
        assert reg.row is not None
        if normalised(reg.row, reg.shape.columns) != mine_row:
            both_new = change.op in (INSERT, READ) and reg.op in (INSERT, READ)
            return "insert_insert" if both_new else "update_update"
    deletes = [reg.ets for reg in others if not reg.live]
    if deletes and not live:
        ets = 0 if change.op == READ else change.ets
        return "update_after_delete" if ets <= max(deletes) else "update_delete"
    return None
