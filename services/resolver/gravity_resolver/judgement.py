"""What becomes of a row by one event: its new state, whether the target hears of it, holds. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gravity.batch import Column, Value
from gravity.errors import FormatError
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.cell import cell_from_json
from gravity.resolution.register import Decision, Register, Registers, opinions_of
from gravity.resolution.strategy import (
    Hold,
    Outcome,
    Verdict,
    after,
    columns_of,
    resolve,
    same_outcome,
    with_nulls,
)
from gravity_resolver.row_state import RowState
from gravity_resolver.table_history import AS_WRITTEN, View

HoldState = Literal["met", "open", "cleared", "decided"]
"""As in schemas/conflict.avsc."""


@dataclass(slots=True)
class Judgement:
    """What became of a row by one event. Never changed; not frozen, since it is made for every row."""

    row: RowState
    verdict: Verdict | None
    emits: bool
    """Whether the target must hear the outcome."""
    hold: str
    """The hold that the event opened, met or ended; empty: none."""
    state: HoldState
    registers: Registers
    """What the sources say today: as `row` has it, and as every statement since has left it."""


def judge(
    known: RowState, now: RowState, rule: Resolution, *, hold: str, decided: bool = False,
    again: bool = False, view: View = AS_WRITTEN, known_view: View | None = None,
) -> Judgement:  # fmt: skip
    """What becomes of the row that was `known` when its registers or decision are those of `now`.

    `hold` names the hold if this event begins one. `decided`: the event is an operator's decision, which
    ends a hold that would not clear itself. `again`: the outcome is sent whether or not it is news.
    `view` shows registers as they are today; `known_view` as they were before the event, if the event
    is a schema change.
    """
    registers = view(now.registers)
    verdict = resolve(registers, rule, now.decision)
    now.came_to = view, rule, verdict
    latched = known.hold and rule.strategy == "error-stop" and not (rule.auto_clear or decided)
    if latched and isinstance(verdict, Outcome):
        verdict = Hold(tuple(opinions_of(registers, rule.ranks, now.decision, {})))
    if isinstance(verdict, Hold):
        name = known.hold or hold
        left = _left(known, _came_to(known, known_view or view, rule), verdict)
        return Judgement(
            _with_hold(now, name, left),
            verdict,
            emits=False,
            hold=name,
            state="open",
            registers=registers,
        )
    state: HoldState = "decided" if decided else "cleared" if known.hold else "met"
    # During a hold, or under another rule, the target holds what can't be told from here.
    unknown = again or bool(known.hold) or known.tag not in (now.tag, "")
    before = _came_to(known, known_view or view, rule)
    emits = verdict is not None and (unknown or not same_outcome(before, verdict))
    if verdict is not None and emits:
        verdict = after(before, verdict)
        if known.left:
            verdict = with_nulls(verdict, [c for c in known.left if view.may_have(c.name)])
    return Judgement(_with_hold(now, ""), verdict, emits, known.hold, state, registers)


def _came_to(known: RowState, view: View, rule: Resolution) -> Verdict | None:
    """What the row came to before the event; looked up where the event before it has left it there."""
    found = known.came_to
    if found is not None and found[0] is view and found[1] is rule:
        return found[2]
    return resolve(view(known.registers), rule, known.decision)


def _left(known: RowState, before: Verdict | None, now: Hold) -> tuple[Column, ...]:
    """Columns that the target's row may have a value in, and nobody speaks of while it is held."""
    spoken = {column.name for column in columns_of(now)}
    there = {column.name: column for column in (*known.left, *columns_of(before))}
    return tuple(column for name, column in there.items() if name not in spoken)


def _with_hold(row: RowState, hold: str, left: tuple[Column, ...] = ()) -> RowState:
    if row.hold == hold and row.left == left:
        return row
    held = RowState(row.tag, row.registers, row.decision, hold, left)
    held.came_to = row.came_to
    return held


@dataclass(frozen=True, slots=True)
class Wish:
    """A message of kind decision: what an operator wants of one row."""

    action: str
    """`decide` or `retry`."""
    key: tuple[Value, ...]
    key_columns: tuple[str, ...]
    keep: str
    row: Mapping[str, Value] | None
    cover: Mapping[str, Position]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Wish:
        """The wish in a record of schemas/decision.avsc. Raises FormatError where it makes no sense."""
        if record["action"] not in ("decide", "retry"):
            raise FormatError(f"an operator's decision with action {record['action']!r}")
        try:
            row = None if record["row"] is None else json.loads(record["row"])
            return cls(
                record["action"],
                tuple(cell_from_json(cell) for cell in json.loads(record["key"])),
                tuple(record["key_columns"]),
                record["keep"],
                None if row is None else {name: cell_from_json(cell) for name, cell in row.items()},
                {seen["source"]: Position.parse(seen["position"]) for seen in record["cover"]},
            )
        except (ValueError, TypeError, AttributeError, KeyError, AssertionError) as error:
            raise FormatError(f"an operator's decision that can't be read: {error}") from error

    def decision(self, seq: int, registers: Mapping[str, Register]) -> Decision:
        """The decision under number `seq`. Raises FormatError for columns that no source's table has."""
        if self.row is None:
            return Decision(seq, self.cover, None, (), self.keep)
        columns = _columns_of(registers)
        unknown = [name for name in self.row if name not in columns]
        if unknown:
            raise FormatError(
                f"an operator's decision about column {unknown[0]}, which no source has"
            )
        chosen: Sequence[Column] = [columns[name] for name in columns if name in self.row]
        return Decision(
            seq, self.cover, tuple(self.row[c.name] for c in chosen), tuple(chosen), self.keep
        )


def _columns_of(registers: Mapping[str, Register]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for _, reg in sorted(registers.items()):
        for column in reg.shape.columns:
            columns.setdefault(column.name, column)
    return columns
