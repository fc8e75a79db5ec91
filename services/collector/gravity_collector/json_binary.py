"""MySQL's binary JSON as the text that MySQL prints for it.

Source: the layout described in MySQL's sql/json_binary.h; the text follows Json_wrapper::to_string.
"""

from __future__ import annotations

import base64
import struct
from json.encoder import encode_basestring
from typing import Final

from gravity_collector.cell import decimal_text, packed_datetime_text, packed_time_text

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY = 0x00, 0x01, 0x02, 0x03
_LITERAL, _INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE = (
    0x04,
    0x05,
    0x06,
    0x07,
    0x08,
    0x09,
    0x0A,
    0x0B,
)
_STRING, _OPAQUE = 0x0C, 0x0F
_LITERALS: Final = {0: "null", 1: "true", 2: "false"}
_NUMBERS: Final = {
    _INT16: struct.Struct("<h").unpack_from,
    _UINT16: struct.Struct("<H").unpack_from,
    _INT32: struct.Struct("<i").unpack_from,
    _UINT32: struct.Struct("<I").unpack_from,
    _INT64: struct.Struct("<q").unpack_from,
    _UINT64: struct.Struct("<Q").unpack_from,
}
_DOUBLE_FORM: Final = struct.Struct("<d")
_PACKED_FORM: Final = struct.Struct("<q")
_INLINE_SMALL: Final = frozenset((_LITERAL, _INT16, _UINT16))
# By whether the container is large: number of entries and size; a key's place; a value's type and place; the
# types whose value stands in its entry.
_LAYOUTS: Final = (
    (struct.Struct("<HH"), struct.Struct("<HH"), struct.Struct("<BH"), _INLINE_SMALL),
    (
        struct.Struct("<II"),
        struct.Struct("<IH"),
        struct.Struct("<BI"),
        _INLINE_SMALL | {_INT32, _UINT32},
    ),
)
_DEPTH_MAX: Final = 100
"""MySQL refuses deeper documents."""
_CHARACTERS_PER_BYTE_MAX: Final = 16

# Field types that an opaque value can hold in a form of its own.
_OPAQUE_DECIMAL, _OPAQUE_DATE, _OPAQUE_TIME = 246, 10, 11
_OPAQUE_DATETIMES: Final = frozenset((7, 12))

_PLAIN_BELOW: Final = 1e15
"""From here on MySQL prints whole numbers with an exponent (MAX_DECPT_FOR_F_FORMAT in its dtoa.cc)."""
_LEADING_ZEROS_MAX: Final = 14
"""So many zeros after the point MySQL prints, beyond it an exponent."""

# Python's own JSON encoder escapes just what MySQL escapes, in the same way, and is written in C.
quoted = encode_basestring


def json_text(raw: bytes) -> str:
    """The document in `raw` (a JSON column's bytes in a row event) as MySQL prints it.

    Raises:
        ValueError, struct.error, IndexError, KeyError: `raw` is no valid document.
    """
    if not raw:
        return "null"  # What MySQL itself takes an empty value for.
    # Damaged offsets can make a small document print endlessly.
    return _text(raw[0], raw, 1, 0, len(raw) * _CHARACTERS_PER_BYTE_MAX + 1024)


def double_text(value: float) -> str:
    """A double as MySQL prints it in JSON: shortest digits that give it back, `.0` added to whole numbers."""
    shortest = repr(value)
    if "e" not in shortest and (
        -_PLAIN_BELOW < value < _PLAIN_BELOW or not shortest.endswith(".0")
    ):
        return shortest
    digits, _, exponent_text = shortest.partition("e")
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    significant = (whole + fraction).strip("0")
    point = len(whole) + int(exponent_text or 0)
    if -_LEADING_ZEROS_MAX <= point <= 0:
        return f"{sign}0.{'0' * -point}{significant}"
    mantissa = significant[0] + ("." + significant[1:] if len(significant) > 1 else "")
    return f"{sign}{mantissa}e{point - 1}"


def _text(kind: int, raw: bytes, at: int, depth: int, characters_max: int) -> str:
    """The text of the value of type `kind` that starts at `at`."""
    if kind == _STRING:
        length, at = (raw[at], at + 1) if raw[at] < 0x80 else _variable_length(raw, at)  # noqa: PLR2004 - 7 bits
        return quoted(_slice(raw, at, length).decode())
    if kind <= _LARGE_ARRAY:
        if depth > _DEPTH_MAX:
            raise _damaged(f"nested deeper than {_DEPTH_MAX}")
        return _container_text(kind, raw, at, depth + 1, characters_max)
    if kind in _NUMBERS:
        return str(_NUMBERS[kind](raw, at)[0])
    if kind == _LITERAL:
        return _LITERALS[raw[at]]
    if kind == _DOUBLE:
        return double_text(_DOUBLE_FORM.unpack_from(raw, at)[0])
    if kind == _OPAQUE:
        return _opaque_text(raw, at)
    raise _damaged(f"unknown type {kind}")


def _container_text(kind: int, raw: bytes, start: int, depth: int, characters_max: int) -> str:
    is_object, is_large = kind <= _LARGE_OBJECT, kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    head, key_form, value_form, inline = _LAYOUTS[is_large]
    count, size = head.unpack_from(raw, start)
    # All offsets inside count from `start`; a copy of just the container keeps them in bounds.
    body = _slice(raw, start, size)
    entry = head.size + (key_form.size * count if is_object else 0)
    header_bytes = entry + value_form.size * count
    if header_bytes > size:
        raise _damaged("more entries than room")
    keys = key_form.iter_unpack(body[head.size : entry]) if is_object else None
    texts: list[str] = []
    left = characters_max
    for value_kind, offset in value_form.iter_unpack(body[entry:header_bytes]):
        if value_kind in inline:
            offset = entry + 1  # noqa: PLW2901 - the value stands where its offset would
        elif offset < header_bytes:
            raise _damaged("a value lies inside the header")
        entry += value_form.size
        text = _text(value_kind, body, offset, depth, left)
        if keys is not None:
            key_offset, key_length = next(keys)
            text = f"{quoted(_slice(body, key_offset, key_length).decode())}: {text}"
        left -= len(text)
        if left < 0:
            raise _damaged("more text than its bytes can hold")
        texts.append(text)
    return f"{{{', '.join(texts)}}}" if is_object else f"[{', '.join(texts)}]"


def _opaque_text(raw: bytes, at: int) -> str:
    field_type = raw[at]
    length, at = _variable_length(raw, at + 1)
    value = _slice(raw, at, length)
    if field_type == _OPAQUE_DECIMAL:
        return decimal_text(value[2:], value[0], value[1])
    if field_type in _OPAQUE_DATETIMES:
        return f'"{packed_datetime_text(_PACKED_FORM.unpack(value)[0])}"'
    if field_type == _OPAQUE_DATE:
        return f'"{packed_datetime_text(_PACKED_FORM.unpack(value)[0])[:10]}"'
    if field_type == _OPAQUE_TIME:
        return f'"{packed_time_text(_PACKED_FORM.unpack(value)[0])}"'
    encoded = base64.encodebytes(value).decode().removesuffix("\n")
    return quoted(f"base64:type{field_type}:{encoded}")


def _variable_length(raw: bytes, at: int) -> tuple[int, int]:
    """A length of seven bits a byte, lowest first, and where what it measures starts."""
    length = 0
    for shift in range(0, 35, 7):
        byte = raw[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return length, at
    raise _damaged("a length of more than five bytes")


def _slice(raw: bytes, at: int, length: int) -> bytes:
    part = raw[at : at + length]
    if len(part) != length:
        raise _damaged("cut short")
    return part


def _damaged(what: str) -> ValueError:
    return ValueError(f"binary JSON: {what}")
