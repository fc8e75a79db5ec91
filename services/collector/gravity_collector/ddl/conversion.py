"""Whether the values of a column stay what they are when its definition changes. Pure."""

from __future__ import annotations

from typing import Final

from gravity.batch import Column
from gravity.column import BLOB_BY_LENGTH_BYTES, INTEGER_BYTES, TEXT_BY_LENGTH_BYTES, ColumnType
from gravity_collector.ddl.column_definition import Definition

_SUPERSET: Final = "utf8mb4"
"""Every character of every other set is in it."""
_CHARACTER_BYTES_MAX: Final = 4


def keeps_values(old: Column, new: Definition, *, strict: bool) -> bool:
    """Whether MODIFY certainly leaves every cell as it was.

    `strict`: the statement would have failed where a value does not fit.
    """
    if new.type is None or not new.is_certain or new.has_expression or new.rounds:
        return False
    not_null = new.nullable is False or new.is_primary
    if old.nullable and not_null and not strict:
        return False
    if new.type.name == "timestamp" and new.nullable is None:
        # What NULLs become depends on explicit_defaults_for_timestamp.
        return False
    before, after = ColumnType.parse(old.type), new.type
    if before.name in INTEGER_BYTES and after.name in INTEGER_BYTES:
        return strict or _integers_fit(before, after)
    if before.has_charset and after.has_charset:
        is_same = old.charset is not None and old.charset == new.charset
        if not (is_same or strict or after.length is not None):
            # More bytes a character may not fit where bytes are counted.
            return False
        return _texts_fit(before, after) and keeps_text(old.charset, new.charset, strict=strict)
    if before.kind == "bytes":
        return _bytes_fit(before, after)
    if before.name != after.name or before.scale != after.scale:
        return False
    if before.name == "bit":
        return (after.length or 0) >= (before.length or 0)
    fits_sign = before.unsigned or not after.unsigned or strict
    if before.name == "decimal":
        return fits_sign and (strict or (after.precision or 0) >= (before.precision or 0))
    return fits_sign


def keeps_text(old: str | None, new: str | None, *, strict: bool) -> bool:
    """Whether text stays the same in another character set; None: it is not known which."""
    # In strict mode a character that the new set lacks is an error.
    return new != "binary" and (strict or new == _SUPERSET or (new is not None and new == old))


def _integers_fit(old: ColumnType, new: ColumnType) -> bool:
    bits, old_bits = 8 * INTEGER_BYTES[new.name], 8 * INTEGER_BYTES[old.name]
    if old.unsigned == new.unsigned:
        return bits >= old_bits
    return old.unsigned and bits > old_bits


def _texts_fit(old: ColumnType, new: ColumnType) -> bool:
    """Whether every text fits; in strict mode too trailing spaces are cut off without an error."""
    if old.name != new.name and (
        old.name in ("enum", "set", "char") or new.name in ("enum", "set", "char")
    ):
        return False
    if new.name in ("enum", "set"):
        return new.labels[: len(old.labels)] == old.labels
    if new.length is not None:
        return old.length is not None and new.length >= old.length
    room = _text_bytes(new)
    if old.length is not None:
        return old.length * _CHARACTER_BYTES_MAX <= room
    # The same room may be too small for more bytes a character: a strict server says so.
    return _text_bytes(old) <= room


def _text_bytes(kind: ColumnType) -> int:
    return (1 << 8 * (TEXT_BY_LENGTH_BYTES.index(kind.name) + 1)) - 1


def _bytes_fit(old: ColumnType, new: ColumnType) -> bool:
    if old.name in ("binary", "vector", "geometry"):
        return old == new and old.name != "geometry"
    if new.name == "varbinary":
        return old.name == "varbinary" and (new.length or 0) >= (old.length or 0)
    if new.name not in BLOB_BY_LENGTH_BYTES:
        return False
    room = (1 << 8 * (BLOB_BY_LENGTH_BYTES.index(new.name) + 1)) - 1
    if old.name == "varbinary":
        return (old.length or 0) <= room
    return BLOB_BY_LENGTH_BYTES.index(old.name) <= BLOB_BY_LENGTH_BYTES.index(new.name)
