"""Which conflict a change meets in what other sources say about its row. Pure."""

from __future__ import annotations

from typing import Final

from gravity.batch import INSERT, LEFT, MOVED, READ, REMOVES_ROW
from gravity.plan_part import Resolution
from gravity.resolution.register import Change, Register, Registers
from gravity.resolution.strategy import Outcome, Verdict
from gravity.resolution.value import normalised, same_rows

KINDS: Final = {
    "insert_insert": "two sources inserted the key, with different rows",
    "update_update": "two sources hold different rows under the key",
    "update_delete": "one source changed the row, another deleted it",
    "update_after_delete": "as update_delete, and the change is older than the delete",
    "delete_stale": "a delete that the rule does not follow: the row stays",
    "delete_missing": "a delete of a row that nobody has",
    "pk_move": "a source gave the row another key, another source still uses the old one",
}
"""Every kind that the resolver finds, and what it means."""


def conflict_kind(
    before: Registers, change: Change, rule: Resolution, outcome: Verdict | None
) -> str | None:
    """Which conflict (see KINDS) `change` meets in the opinions that stood before it; None if none.

    `outcome` is what the opinions come to with it.
    """
    if change.source not in rule.ranks:
        return None
    if change.op == LEFT:
        return None
    mine = before.get(change.source)
    live: list[Register] = []
    deleted: list[Register] = []
    for source, reg in before.items():
        if source != change.source and source in rule.ranks and reg.op != LEFT:
            (deleted if reg.row is None else live).append(reg)
    if change.op in REMOVES_ROW:
        if not live:
            return "delete_missing" if mine is None or not mine.live else None
        if change.op == MOVED:
            return "pk_move"
        stands = isinstance(outcome, Outcome) and outcome.row is not None
        return "delete_stale" if stands else "update_delete"
    if _says_nothing_new(mine, change):
        return None  # Such as a second snapshot.
    for reg in live:
        assert reg.row is not None
        if not same_rows(reg.row, reg.shape.columns, change.row, change.shape.columns):
            both_new = change.op in (INSERT, READ) and reg.op in (INSERT, READ)
            return "insert_insert" if both_new else "update_update"
    if deleted and not live:
        if any(reg.op == MOVED for reg in deleted):
            return "pk_move"
        ets = 0 if change.op == READ else change.ets
        late = ets <= max(reg.ets for reg in deleted)
        return "update_after_delete" if late else "update_delete"
    return None


def _says_nothing_new(mine: Register | None, change: Change) -> bool:
    if mine is None or mine.row is None:
        return False
    if mine.row == change.row:
        return True
    if change.op != READ:
        return False
    known = normalised(mine.row, mine.shape.columns)
    read = normalised(change.row, change.shape.columns)
    return all(name in known and known[name] == value for name, value in read.items())


def is_late(before: Registers, change: Change, rule: Resolution) -> bool:
    """Whether another source has changed the row later already: the change arrives behind its time."""
    if change.op == READ:
        return False
    for source, reg in before.items():
        if reg.ets > change.ets and source != change.source and source in rule.ranks:
            return True
    return False
