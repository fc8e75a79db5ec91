"""Cells and keys as JSON: in saved state, in records of conflicts, in operators' decisions. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from gravity.batch import Value

# Made once: json.dumps with separators makes an encoder a call, which is most of its cost here.
readable_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def cell_to_json(value: Value) -> object:
    """A cell as a JSON value; bytes as an object that no other cell looks like."""
    return {"b": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def cell_from_json(cell: Any) -> Value:
    """The cell that `cell_to_json` was given."""
    if isinstance(cell, dict):
        return base64.b64decode(cell["b"])
    assert cell is None or isinstance(cell, int | float | str)
    return cell


def cells_to_json(cells: Sequence[Value]) -> list[object]:
    """Each cell by `cell_to_json`."""
    if bytes in map(type, cells):
        return [cell_to_json(cell) for cell in cells]
    return list(cells)  # As most rows are.


def cells_from_json(cells: Sequence[Any]) -> tuple[Value, ...]:
    """The cells that `cells_to_json` was given."""
    if dict in map(type, cells):
        return tuple(map(cell_from_json, cells))
    return tuple(cells)


def key_json(key: Sequence[Value]) -> str:
    """A key as a JSON array of its cells."""
    return readable_json(cells_to_json(key))
