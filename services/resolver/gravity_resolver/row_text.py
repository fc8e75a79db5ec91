"""The rows of a batch as text, for the state and for records of conflicts, made a column at a time. Pure."""

from __future__ import annotations

from gravity.batch import ChangeBatch
from gravity.resolution.cell import array_of, cell_texts
from gravity.resolution.register import Register
from gravity_resolver.conflict_record import note_row
from gravity_resolver.row_state import note_saved


def row_texts(batch: ChangeBatch) -> list[tuple[str, ...]]:
    """The cells of each row as JSON."""
    return list(zip(*map(cell_texts, batch.columns), strict=True))


def note_texts(reg: Register, cells: tuple[str, ...], *, contended: bool) -> None:
    """Leaves with a register what its row, whose cells are given as JSON, will be written as.

    `contended`: whether other sources have spoken of the row, so that a conflict is to be expected.
    """
    array = array_of(cells)
    if array is not None:
        note_saved(reg, array)
    if contended:
        note_row(reg, reg.shape.object_form % cells)
