"""Cells and keys as JSON: in saved state, in records of conflicts, in operators' decisions. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from math import isfinite
from typing import Any

from gravity.batch import Value

# Made once: json.dumps with separators makes an encoder a call, which is most of its cost here.
readable_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_json_text: Callable[[str], str] = json.encoder.encode_basestring
"""A text as `readable_json` writes it."""
_ascii_text: Callable[[str], str] = json.encoder.encode_basestring_ascii
"""A text as JSON in ASCII alone."""
_DELETE = "\x7f"
"""The one ASCII character that JSON kept to ASCII escapes and readable JSON does not."""


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
    if len(key) == 1 and type(key[0]) is int:
        return f"[{key[0]}]"  # As most keys are.
    return readable_json(cells_to_json(key))


def cell_texts(column: Sequence[Value]) -> list[str]:
    """Each cell of a column as `readable_json` of its JSON value: quicker than a row at a time."""
    kinds = set(map(type, column))
    if len(kinds) == 1:
        return list(map(_TEXT_BY_TYPE[kinds.pop()], column))
    return [_TEXT_BY_TYPE[type(value)](value) for value in column]


def ascii_cell_texts(column: Sequence[Value], texts: list[str]) -> list[str]:
    """As `texts`, which `cell_texts` gave, in ASCII alone: other characters as JSON's escapes."""
    whole = "".join(texts)
    if whole.isascii() and _DELETE not in whole:
        return texts
    return [
        _ascii_text(value) if isinstance(value, str) else text
        for value, text in zip(column, texts, strict=True)
    ]


def _float_text(value: float) -> str:
    return float.__repr__(value) if isfinite(value) else readable_json(value)


_TEXT_BY_TYPE: dict[type, Callable[[Any], str]] = {
    int: int.__repr__,
    str: _json_text,
    float: _float_text,
    bytes: lambda value: readable_json(cell_to_json(value)),
    type(None): lambda _: "null",
}


def object_form(names: Iterable[str]) -> str:
    """A form that takes the cells of a row, given by `cell_texts`, and makes a readable JSON object of them."""
    return "{" + ",".join(_json_text(name).replace("%", "%%") + ":%s" for name in names) + "}"
