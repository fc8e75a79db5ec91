"""What the resolver remembers of one row, and the bytes it is saved as. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gravity.batch import Column
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.cell import cells_from_json, cells_to_json
from gravity.resolution.register import Decision, Register, Shape
from gravity.resolution.strategy import Verdict

# Made once: json.dumps with separators makes an encoder a call, which is most of its cost here.
_compact_json = json.JSONEncoder(separators=(",", ":")).encode
_ascii_text: Callable[[str], str] = json.encoder.encode_basestring_ascii
"""A text as `_compact_json` writes it."""


@dataclass(slots=True)
class RowState:
    """What is known of one row of a target table."""

    tag: str = ""
    """The rule by which the row was last resolved; empty: never."""
    registers: Mapping[str, Register] = field(default_factory=dict)
    decision: Decision | None = None
    hold: str = ""
    """The hold that is open on the row; empty: none."""
    left: tuple[Column, ...] = ()
    """Columns in which the target's row may still have a value from before the hold, and about which no source says
    anything any more."""
    came_to: tuple[object, Resolution, Verdict | None] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    """What the registers and the decision came to, and the view and the rule by which; None: not known any more."""

    @property
    def ets(self) -> int:
        """When the row was last changed by any source."""
        return max((reg.ets for reg in self.registers.values()), default=0)

    def dump(self) -> bytes:
        """The state as bytes: a function of the set of events, and not of their order."""
        opinions = ",".join(
            [
                f"[{_ascii_text(source)},{_saved_as(reg)}]"
                for source, reg in sorted(self.registers.items())
            ]
        )
        more = ""
        if self.decision is not None or self.hold:
            fields: dict[str, object] = {"decision": _decision(self.decision), "hold": self.hold}
            if self.left:
                fields["left"] = columns_to_json(self.left)
            more = "," + _compact_json(fields)
        return f"[{_ascii_text(self.tag)},[{opinions}]{more}]".encode()

    @classmethod
    def load(cls, data: bytes | None, shape_of: Callable[[str], Shape]) -> RowState:
        """What `dump` gave; `shape_of` knows the shapes by their schema id. None: an unknown row."""
        if data is None:
            return cls()
        tag, opinions, *rest = json.loads(data)
        registers = {
            source: Register(
                Position(*position),
                op,
                ets,
                None if cells is None else cells_from_json(cells),
                shape_of(schema_id),
                changed_ets[0] if changed_ets else None,
            )
            for source, position, op, ets, cells, schema_id, *changed_ets in opinions
        }
        if not rest:
            return cls(tag, registers)
        (fields,) = rest
        left = columns_from_json(fields.get("left", ()))
        return cls(tag, registers, _load_decision(fields["decision"]), fields["hold"], left)


def is_dead(row: RowState) -> bool:
    """Whether every source that ever had the row has deleted it, and nobody decided otherwise.

    That the outcome is "no row" is not enough: a tombstone may hide a row that still lives at a source.
    """
    for reg in row.registers.values():
        if reg.row is not None:
            return False
    decided = row.decision is not None and row.decision.row is not None
    return bool(row.registers) and not row.hold and not decided


def _saved_as(reg: Register) -> str:
    """What a register is saved as behind its source's name; made once."""
    if reg.saved_as is None:
        cells = None if reg.row is None else _compact_json(cells_to_json(reg.row))
        note_saved(reg, cells)
    assert reg.saved_as is not None
    return reg.saved_as


def note_saved(reg: Register, cells: str | None) -> None:
    """Remembers what a register is saved as; `cells`: its row as a JSON array in ASCII, None where it has none."""
    epoch, file_index, offset, ordinal = reg.position
    times = ""
    if reg.changed_ets is not None:
        times = "," + _compact_json(dict(sorted(reg.changed_ets.items())))
    reg.saved_as = (
        f"[{epoch},{file_index},{offset},{ordinal}],{reg.op},{reg.ets},"
        f"{'null' if cells is None else cells},{_ascii_text(reg.shape.schema_id)}{times}"
    )


def _numbers(position: Position) -> list[int]:
    return list(position)


def _decision(decision: Decision | None) -> list[object] | None:
    if decision is None:
        return None
    row = decision.row
    return [
        decision.seq,
        {source: _numbers(position) for source, position in sorted(decision.cover.items())},
        None if row is None else cells_to_json(row),
        columns_to_json(decision.columns),
        decision.keep,
    ]


def _load_decision(record: Any) -> Decision | None:
    if record is None:
        return None
    seq, cover, row, columns, keep = record
    return Decision(
        seq,
        {source: Position(*numbers) for source, numbers in cover.items()},
        None if row is None else cells_from_json(row),
        columns_from_json(columns),
        keep,
    )


def columns_to_json(columns: Sequence[Column]) -> list[list[object]]:
    """Columns as JSON values."""
    return [[c.name, c.type, c.nullable, c.charset, c.collation] for c in columns]


def columns_from_json(record: Any) -> tuple[Column, ...]:
    """The columns that `columns_to_json` was given."""
    return tuple(Column(*fields) for fields in record)
