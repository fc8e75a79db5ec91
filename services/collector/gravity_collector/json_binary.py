"""MySQL's binary JSON as the text that MySQL prints for it.

Source: the layout described in MySQL's sql/json_binary.h; the text follows Json_wrapper::to_string.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Final

from gravity_collector.cell import decimal_text, packed_datetime_text, packed_time_text

_SMALL_OBJECT, _LARGE_OBJECT, _SMALL_ARRAY, _LARGE_ARRAY = 0x00, 0x01, 0x02, 0x03
_LITERAL, _INT16, _UINT16, _INT32, _UINT32, _INT64, _UINT64, _DOUBLE = 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B
_STRING, _OPAQUE = 0x0C, 0x0F
_LITERALS: Final = {0: "null", 1: "true", 2: "false"}
_NUMBERS: Final = {
    _INT16: struct.Struct("<h"),
    _UINT16: struct.Struct("<H"),
    _INT32: struct.Struct("<i"),
    _UINT32: struct.Struct("<I"),
    _INT64: struct.Struct("<q"),
    _UINT64: struct.Struct("<Q"),
}
_DOUBLE_FORM: Final = struct.Struct("<d")
_PACKED_FORM: Final = struct.Struct("<q")
_INLINE_SMALL: Final = frozenset((_LITERAL, _INT16, _UINT16))
_INLINE_LARGE: Final = _INLINE_SMALL | {_INT32, _UINT32}
_DEPTH_MAX: Final = 100
"""MySQL refuses deeper documents."""
_CHARACTERS_PER_BYTE_MAX: Final = 16

# Field types that an opaque value can hold in a form of its own.
_OPAQUE_DECIMAL, _OPAQUE_DATE, _OPAQUE_TIME = 246, 10, 11
_OPAQUE_DATETIMES: Final = frozenset((7, 12))

_ESCAPES: Final = {code: f"\\u{code:04x}" for code in range(0x20)} | {
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0C: "\\f",
    0x0D: "\\r",
    0x22: '\\"',
    0x5C: "\\\\",
}


def json_text(raw: bytes) -> str:
    """The document in `raw` (a JSON column's bytes in a row event) as MySQL prints it.

    Raises:
        ValueError: `raw` is no valid document.
    """
    if not raw:
        return "null"  # What MySQL itself takes an empty value for.
    parts = _Parts(len(raw))
    _write(raw[0], raw, 1, parts, depth=0)
    return "".join(parts.texts)


class _Parts:
    """The pieces of the text. Damaged offsets can make a small document print endlessly: not here."""

    def __init__(self, raw_bytes: int) -> None:
        self.texts: list[str] = []
        self._left = raw_bytes * _CHARACTERS_PER_BYTE_MAX + 1024

    def append(self, text: str) -> None:
        """Adds `text`; raises ValueError once there is more than the document can stand for."""
        self._left -= len(text)
        if self._left < 0:
            raise _damaged("more text than its bytes can hold")
        self.texts.append(text)


def double_text(value: float) -> str:
    """A double as MySQL prints it in JSON: shortest digits that give it back, `.0` added to whole numbers."""
    digits, _, exponent_text = f"{value!r}e0".partition("e")
    sign = "-" if digits.startswith("-") else ""
    whole, _, fraction = digits.lstrip("-").partition(".")
    exponent = int(exponent_text.removesuffix("e0"))
    significant = (whole + fraction).lstrip("0")
    if not significant:
        return f"{sign}0.0"
    point = len(whole) + exponent - (len(whole + fraction) - len(significant))
    significant = significant.rstrip("0")
    if -_PLAIN_DIGITS_MAX < point <= 0:
        return f"{sign}0.{'0' * -point}{significant}"
    if 0 < point <= _PLAIN_DIGITS_MAX:
        whole, fraction = significant[:point].ljust(point, "0"), significant[point:]
        return f"{sign}{whole}.{fraction or '0'}"
    mantissa = significant[0] + ("." + significant[1:] if len(significant) > 1 else "")
    return f"{sign}{mantissa}e{point - 1}"


_PLAIN_DIGITS_MAX: Final = 15
"""Beyond so many places before or after the point MySQL prints an exponent (MAX_DECPT_FOR_F_FORMAT)."""


def _write(kind: int, raw: bytes, at: int, parts: _Parts, *, depth: int) -> None:
    """Appends the text of the value of type `kind` at `at` to `parts`."""
    if depth > _DEPTH_MAX:
        raise _damaged(f"nested deeper than {_DEPTH_MAX}")
    if kind <= _LARGE_ARRAY:
        _write_container(kind, raw, at, parts, depth=depth)
    elif kind == _LITERAL:
        literal = _LITERALS.get(raw[at]) if at < len(raw) else None
        if literal is None:
            raise _damaged("unknown literal")
        parts.append(literal)
    elif kind in _NUMBERS:
        parts.append(str(_unpack(_NUMBERS[kind], raw, at)))
    elif kind == _DOUBLE:
        parts.append(double_text(float(_unpack(_DOUBLE_FORM, raw, at))))
    elif kind == _STRING:
        length, at = _variable_length(raw, at)
        parts.append(_quoted(_slice(raw, at, length).decode()))
    elif kind == _OPAQUE:
        parts.append(_opaque_text(raw, at))
    else:
        raise _damaged(f"unknown type {kind}")


def _write_container(kind: int, raw: bytes, start: int, parts: _Parts, *, depth: int) -> None:
    is_object, is_large = kind <= _LARGE_OBJECT, kind in (_LARGE_OBJECT, _LARGE_ARRAY)
    width = 4 if is_large else 2
    count = int.from_bytes(_slice(raw, start, width), "little")
    size = int.from_bytes(_slice(raw, start + width, width), "little")
    # All offsets inside count from `start`; a view of just the container keeps them in bounds.
    body = _slice(raw, start, size)
    key_entries = 2 * width
    value_entries = key_entries + (count * (width + 2) if is_object else 0)
    if value_entries + count * (1 + width) > size:
        raise _damaged("more entries than room")
    keys = _keys(body, key_entries, count, width) if is_object else None
    inline = _INLINE_LARGE if is_large else _INLINE_SMALL
    parts.append("{" if is_object else "[")
    for index in range(count):
        if index:
            parts.append(", ")
        if keys is not None:
            parts.append(_quoted(next(keys)) + ": ")
        entry = value_entries + index * (1 + width)
        value_kind = body[entry]
        if value_kind in inline:
            _write(value_kind, body, entry + 1, parts, depth=depth + 1)
            continue
        offset = int.from_bytes(body[entry + 1 : entry + 1 + width], "little")
        if offset < value_entries:
            raise _damaged("a value lies inside the header")
        _write(value_kind, body, offset, parts, depth=depth + 1)
    parts.append("}" if is_object else "]")


def _keys(body: bytes, entries: int, count: int, width: int) -> Iterator[str]:
    for index in range(count):
        entry = entries + index * (width + 2)
        offset = int.from_bytes(body[entry : entry + width], "little")
        length = int.from_bytes(body[entry + width : entry + width + 2], "little")
        yield _slice(body, offset, length).decode()


def _opaque_text(raw: bytes, at: int) -> str:
    field_type = _slice(raw, at, 1)[0]
    length, at = _variable_length(raw, at + 1)
    value = _slice(raw, at, length)
    if field_type == _OPAQUE_DECIMAL:
        return decimal_text(value[2:], value[0], value[1])
    if field_type in _OPAQUE_DATETIMES:
        return f'"{packed_datetime_text(int(_unpack(_PACKED_FORM, value, 0)))}"'
    if field_type == _OPAQUE_DATE:
        return f'"{packed_datetime_text(int(_unpack(_PACKED_FORM, value, 0))).partition(" ")[0]}"'
    if field_type == _OPAQUE_TIME:
        return f'"{packed_time_text(int(_unpack(_PACKED_FORM, value, 0)))}"'
    encoded = base64.encodebytes(value).decode().removesuffix("\n")
    return _quoted(f"base64:type{field_type}:{encoded}")


def _variable_length(raw: bytes, at: int) -> tuple[int, int]:
    """A length of seven bits a byte, lowest first, and where what it measures starts."""
    length = 0
    for shift in range(0, 35, 7):
        byte = _slice(raw, at, 1)[0]
        at += 1
        length |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return length, at
    raise _damaged("a length of more than five bytes")


def _unpack(form: struct.Struct, raw: bytes, at: int) -> int | float:
    value: int | float = form.unpack(_slice(raw, at, form.size))[0]
    return value


def _slice(raw: bytes, at: int, length: int) -> bytes:
    part = raw[at : at + length]
    if len(part) != length:
        raise _damaged("cut short")
    return part


def _quoted(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _damaged(what: str) -> ValueError:
    return ValueError(f"binary JSON: {what}")
