"""What several sources' opinions about one row come to. Pure.

State is one register per source and key; each part of a register is a maximum over a total order,
so it depends only on the set of changes seen, never on their order or on repeats. The outcome is a
function of the registers and the rule, and of nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from gravity.batch import INSERT, READ, REMOVES_ROW, Column, Value
from gravity.plan import Resolution
from gravity.position import Position

Row = tuple[Value, ...]


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
    """Commit time (running maximum); 0 for a snapshot's read."""
    row: Row
    shape: Shape


@dataclass(frozen=True, slots=True)
class Register:
    """The latest that one source said about a row."""

    position: Position
    op: int
    ets: int
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
    if rule.strategy == "timestamp-latest":
        order = _by_time(taking_part, rule)
    else:
        order = _by_priority(taking_part, rule)
    winner = order[0]
    if not taking_part[winner].live:
        return Outcome(winner, None, taking_part[winner].shape.columns)
    return _filled(winner, [source for source in order if taking_part[source].live], taking_part)


def _by_time(registers: Registers, rule: Resolution) -> list[str]:
    """Sources from the latest to the earliest; a tie goes to the better rank."""

    def age(source: str) -> tuple[int, Decimal, int]:
        reg = registers[source]
        if rule.timestamp_column is None or reg.row is None:
            # A delete has no row to read a column from, so it counts by its commit time.
            return (1, Decimal(reg.ets), -rule.ranks[source])
        return (*_comparable(reg, rule.timestamp_column), -rule.ranks[source])

    return sorted(registers, key=age, reverse=True)


def _comparable(reg: Register, column: str) -> tuple[int, Decimal]:
    """The column's value as a number that also compares with commit times; NULL lowest."""
    index = next((i for i, c in enumerate(reg.shape.columns) if c.name == column), None)
    value = reg.row[index] if index is not None and reg.row is not None else None
    if value is None:
        return (0, Decimal(0))
    if isinstance(value, int | float):
        return (1, Decimal(value))
    if isinstance(value, bytes):
        return (1, Decimal(int.from_bytes(value)))
    try:
        moment = datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError:
        try:
            return (1, Decimal(value))
        except InvalidOperation:
            return (0, Decimal(0))
    whole = int(moment.replace(microsecond=0).timestamp())
    return (1, Decimal(whole * 1_000_000 + moment.microsecond))


def _by_priority(registers: Registers, rule: Resolution) -> list[str]:
    """Sources by how good their opinion is; a live row that a better delete hides comes last.

    The first is the winner: the best live row that no delete hides, else the best of the deletes.
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

    visible = sorted(
        (source for source, reg in registers.items() if reg.live and not hidden(source)),
        key=rank.__getitem__,
    )
    deletes.sort(key=rank.__getitem__)
    rest = sorted(registers.keys() - set(visible) - set(deletes), key=rank.__getitem__)
    return [*visible, *deletes, *rest]


def _filled(winner: str, live: Sequence[str], registers: Registers) -> Outcome:
    """The winner's row, and for columns it lacks the next candidate's values.

    Left as they are in the target, such columns would depend on the order of arrival.
    """
    best = registers[winner]
    assert best.row is not None
    columns, row = best.shape.columns, best.row
    filled_from: list[str] = []
    for source in live[1:]:
        other = registers[source]
        if other.shape.schema_id == best.shape.schema_id:
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
    """The row such that two rows are equal exactly when a target would hold the same.

    1.0 and 1.00 are one DECIMAL, `10:00:00` and `10:00:00.000` one time.
    """
    result: dict[str, object] = {}
    for column, value in zip(columns, row, strict=True):
        if isinstance(value, str):
            if column.type.startswith("decimal"):
                result[column.name] = Decimal(value).normalize()
                continue
            if column.type.startswith(("datetime", "timestamp", "time")) and "." in value:
                result[column.name] = value.rstrip("0").rstrip(".")
                continue
        result[column.name] = value
    return result


def same_outcome(one: Outcome | None, other: Outcome | None) -> bool:
    """Whether two outcomes leave the target the same."""
    if one is None or other is None:
        return one is other
    if one.row is None or other.row is None:
        return one.row is other.row
    if one.row == other.row and one.columns == other.columns:
        return True
    return normalised(one.row, one.columns) == normalised(other.row, other.columns)


def conflict_kind(before: Registers, change: Change, rule: Resolution) -> str | None:
    """Which conflict `change` meets in the opinions that stood before it; None when there is none.

    `insert_insert`, `update_update`, `update_delete` (a change of a row that another source has
    deleted, or the other way about), `update_after_delete` (the change is older than that delete),
    `delete_stale` (the delete is not followed) and `delete_missing`.
    """
    if change.source not in rule.ranks:
        return None
    others = {s: reg for s, reg in before.items() if s != change.source and s in rule.ranks}
    live = [reg for reg in others.values() if reg.live]
    if change.op in REMOVES_ROW:
        mine = before.get(change.source)
        if not live:
            return "delete_missing" if mine is None or not mine.live else None
        after = dict(before)
        after[change.source] = register(before.get(change.source), change)
        outcome = resolve(after, rule)
        return (
            "delete_stale" if outcome is not None and outcome.row is not None else "update_delete"
        )
    mine_row = normalised(change.row, change.shape.columns)
    for reg in live:
        assert reg.row is not None
        if normalised(reg.row, reg.shape.columns) != mine_row:
            both_new = change.op in (INSERT, READ) and reg.op in (INSERT, READ)
            return "insert_insert" if both_new else "update_update"
    deletes = [reg.ets for reg in others.values() if not reg.live]
    if deletes and not live:
        return "update_after_delete" if change.ets <= max(deletes) else "update_delete"
    return None
