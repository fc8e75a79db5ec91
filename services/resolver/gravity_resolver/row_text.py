"""The rows of a batch as text, for the state and for records of conflicts, made a column at a time. Pure."""

from __future__ import annotations

from gravity.batch import ChangeBatch
from gravity.resolution.cell import ascii_cell_texts, cell_texts
from gravity.resolution.register import Register
from gravity_resolver.conflict_record import note_row
from gravity_resolver.row_state import note_saved

Texts = tuple[str, ...]


class RowTexts:
    """The cells of each row of a batch as JSON."""

    def __init__(self, batch: ChangeBatch) -> None:
        columns = [cell_texts(column) for column in batch.columns]
        in_ascii = [
            ascii_cell_texts(column, texts)
            for column, texts in zip(batch.columns, columns, strict=True)
        ]
        self._rows: list[Texts] = list(zip(*columns, strict=True))
        same = all(one is other for one, other in zip(columns, in_ascii, strict=True))
        self._in_ascii = self._rows if same else list(zip(*in_ascii, strict=True))

    def leave_with(self, reg: Register, row: int, *, contended: bool) -> None:
        """Leaves with a register, whose row is number `row`, what it will be written as.

        `contended`: whether other sources have spoken of the row, so that a conflict is to be expected.
        """
        note_saved(reg, f"[{','.join(self._in_ascii[row])}]")
        if contended:
            note_row(reg, reg.shape.object_form % self._rows[row])
