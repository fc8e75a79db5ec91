"""Values that keep their place but not what they say: masked, or hashed. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from gravity.batch import Column, Value
from gravity.column import TEXT_BY_LENGTH_BYTES, ColumnType

MASK: Final = "*"
_SPEC = re.compile(r"all|(first|last) ([1-9]\d{0,3})")
_TEXTS: Final = frozenset(("char", "varchar", *TEXT_BY_LENGTH_BYTES))
HASHED: Final = "char(64)"
"""The type of a hashed column."""


class DisguiseError(ValueError):
    """A column that can't be disguised so; the text says why."""


def masker(spec: str) -> Callable[[str], str]:
    """The function that `all`, `first N` or `last N` says: which characters stay, all others are `*`.

    A text of N characters or fewer is masked whole: else it would stay as it is.

    Raises:
        DisguiseError: none of the three.
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise DisguiseError(f"{spec!r} is no mask: write all, first N or last N")
    kept = int(match[2] or 0)

    def mask(text: str) -> str:
        size = len(text)
        if not kept or size <= kept:
            return MASK * size
        if match[1] == "first":
            return text[:kept] + MASK * (size - kept)
        return MASK * (size - kept) + text[-kept:]

    return mask


def masked_column(column: Column) -> Column:
    """The column once it is masked. Raises DisguiseError for one that holds no text."""
    kind = ColumnType.parse(column.type)
    if kind.name in _TEXTS:
        return column
    if kind.name in ("enum", "set"):
        sizes = list(map(len, kind.labels))
        length = max(sizes) if kind.name == "enum" else sum(sizes) + len(sizes) - 1
        text = ColumnType("varchar", length=max(1, length)).text
        return Column(column.name, text, column.nullable, column.charset, column.collation)
    raise DisguiseError(
        f"mask takes texts, and {column.name} is {column.type}; hash it, drop it, or add an expression"
    )


def hashed_column(column: Column) -> Column:
    """The column once it is hashed."""
    return Column(column.name, HASHED, column.nullable, "ascii", "ascii_bin")


def digest(value: Any) -> Value:
    """SHA-256 of a cell in hexadecimal digits: of bytes as they are, of all else as text in UTF-8."""
    if isinstance(value, float):
        value += 0.0  # Minus zero equals zero, so it has the same digest.
    content = value if isinstance(value, bytes) else str(value).encode()
    return sha256(content).hexdigest()
