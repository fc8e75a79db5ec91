"""Generated code that turns one row image into a tuple of cells.

For each set of columns that are there and not NULL, Python source is written once and compiled: one
`struct` call for each run of fixed-width columns, lookups in place of formatting, no decision per value.
The source is built from types, numbers and object references only; no text from outside enters it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from gravity.batch import Value
from gravity_collector.cell import (
    DATE,
    DAY,
    DAY_HOUR,
    MINUTE_SECOND,
    PADDED,
    SECOND_OF_DAY,
    YEAR_MONTH,
    SetLabels,
    decimal_bytes,
    decimal_groups,
    fraction_bytes,
    time_text,
)
from gravity_collector.charset import contains_ascii, decoder_of, is_utf8
from gravity_collector.json_binary import json_text
from gravity_collector.table_map import StoredColumn

ReadImage = Callable[[bytes, int], tuple[tuple[Value, ...], int]]
"""Reads the image that starts at a byte of an event's body; gives its cells and where it ends.

It does not check that it stays inside the body: an image that ends beyond it was cut short.
"""

_INTEGER_CODES: Final[Mapping[tuple[str, bool], str]] = {
    ("tinyint", False): "b",
    ("tinyint", True): "B",
    ("smallint", False): "h",
    ("smallint", True): "H",
    ("int", False): "i",
    ("int", True): "I",
    ("bigint", False): "q",
    ("bigint", True): "Q",
}
_UNSIGNED_CODES: Final[Mapping[int, str]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_GLOBALS: Final[Mapping[str, object]] = {
    "from_bytes": int.from_bytes,
    "DATE": DATE,
    "DAY": DAY,
    "DAY_HOUR": DAY_HOUR,
    "MINUTE_SECOND": MINUTE_SECOND,
    "SECOND_OF_DAY": SECOND_OF_DAY,
    "YEAR_MONTH": YEAR_MONTH,
    "time_text": time_text,
    "json_text": json_text,
    **{f"PADDED{digits}": texts for digits, texts in PADDED.items()},
}
_ONE_BYTE_LENGTH_MAX: Final = 255
_MICROSECOND_DIGITS: Final = 6


class _Absent:
    """Stands for a cell that a row image leaves out (binlog_row_image other than FULL)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


def build_reader(
    columns: Sequence[StoredColumn], here: Sequence[bool], null: Sequence[bool]
) -> ReadImage:
    """The reader of row images in which just the columns `here` appear and those `null` are NULL.

    All three sequences are per column of the table; the tuples it reads have a cell for each column, with
    ABSENT where the image has none.
    """
    source = _Source()
    cells: list[str] = []
    for index, column in enumerate(columns):
        if not here[index]:
            cells.append("ABSENT")
        elif null[index]:
            cells.append("None")
        else:
            cells.append(f"c{index}")
            _read_cell(source, index, column)
    return source.compile(cells)


class _Source:
    """The body of a reader under construction.

    The place of the next byte is `p<n> + <offset>`: a name that is assigned after each column of variable
    width, and a constant that grows with the fixed-width ones. These wait in a run until one `struct` call
    can read them together.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._globals: dict[str, object] = {**_GLOBALS, "ABSENT": ABSENT}
        self._run: list[tuple[str, str, list[str]]] = []
        self._place = 0
        self._offset = 0

    def bind(self, value: object) -> str:
        """A global name for `value`."""
        name = f"g{len(self._globals)}"
        self._globals[name] = value
        return name

    def fixed(self, code: str, name: str, lines: Sequence[str] = ()) -> None:
        """Reads `name` by struct `code`, then runs `lines`."""
        self._run.append((code, name, list(lines)))

    def variable(self, length_bytes: int, name: str, convert: str) -> None:
        """Reads bytes after a length of `length_bytes`; `convert` makes the cell of `{}`."""
        if self._run or length_bytes not in (1, 2):
            # The length is read along with the fixed-width columns before it.
            code = _UNSIGNED_CODES.get(length_bytes)
            self._run.append(
                (code or f"{length_bytes}s", "n", [] if code else ["n = from_bytes(n, 'little')"])
            )
            self.flush()
            length, start = "n", self._at(0)
        else:
            at, start = self._at(0), self._at(length_bytes)
            length = f"b[{at}]" if length_bytes == 1 else f"(b[{at}] | b[{self._at(1)}] << 8)"
        self._place += 1
        self._offset = 0
        self._lines.append(f"p{self._place} = {start} + {length}")
        self._lines.append(f"{name} = {convert.format(f'b[{start}:p{self._place}]')}")

    def flush(self) -> None:
        """Ends the run of fixed-width columns."""
        if not self._run:
            return
        form = struct.Struct("<" + "".join(code for code, _, _ in self._run))
        names = ", ".join(name for _, name, _ in self._run)
        self._lines.append(f"{names}, = {self.bind(form.unpack_from)}(b, {self._at(0)})")
        for _, _, lines in self._run:
            self._lines.extend(lines)
        self._offset += form.size
        self._run.clear()

    def compile(self, cells: Sequence[str]) -> ReadImage:
        """The finished function, which returns `cells` as a tuple and where the image ends."""
        self.flush()
        returned = f"({', '.join(cells)}{',' if len(cells) == 1 else ''})"
        text = "\n ".join(("def read(b, p0):", *self._lines, f"return {returned}, {self._at(0)}"))
        found: dict[str, ReadImage] = {}
        exec(compile(text, "<row reader>", "exec"), self._globals, found)  # noqa: S102
        return found["read"]

    def _at(self, more: int) -> str:
        offset = self._offset + more
        return f"p{self._place} + {offset}" if offset else f"p{self._place}"


def _read_cell(source: _Source, index: int, column: StoredColumn) -> None:
    name, kind = f"c{index}", column.type.name
    if (code := _INTEGER_CODES.get((kind, column.type.unsigned))) is not None:
        source.fixed(code, name)
    elif kind in ("float", "double"):
        source.fixed("f" if kind == "float" else "d", name)
    elif kind in _FIXED:
        _FIXED[kind](source, name, column)
    else:
        _read_variable(source, name, column)


def _read_mediumint(source: _Source, name: str, column: StoredColumn) -> None:
    signed = "" if column.type.unsigned else ", signed=True"
    source.fixed("3s", name, [f"{name} = from_bytes({name}, 'little'{signed})"])


def _read_year(source: _Source, name: str, _: StoredColumn) -> None:
    source.fixed("B", name, [f"{name} = {name} and {name} + 1900"])


def _read_bit(source: _Source, name: str, column: StoredColumn) -> None:
    size = ((column.type.length or 1) + 7) // 8
    if size == 1:
        source.fixed("B", name)
    else:
        source.fixed(f"{size}s", name, [f"{name} = from_bytes({name})"])


def _read_enum(source: _Source, name: str, column: StoredColumn) -> None:
    labels = source.bind(("", *column.type.labels))
    source.fixed(_UNSIGNED_CODES[column.size], name, [f"{name} = {labels}[{name}]"])


def _read_set(source: _Source, name: str, column: StoredColumn) -> None:
    labels = source.bind(SetLabels(column.type.labels))
    if column.size in _UNSIGNED_CODES:
        source.fixed(_UNSIGNED_CODES[column.size], name, [f"{name} = {labels}[{name}]"])
    else:
        source.fixed(f"{column.size}s", name, [f"{name} = {labels}[from_bytes({name}, 'little')]"])


def _read_date(source: _Source, name: str, _: StoredColumn) -> None:
    source.fixed("3s", name, [f"{name} = DATE[{name}]"])


def _padded(number: str, digits: int) -> str:
    """A replacement field for `number`, an expression, as so many digits."""
    return f"{{PADDED{digits}[{number}]}}" if digits in PADDED else f"{{{number}:0{digits}d}}"


def _fraction(bits: str, digits: int) -> str:
    """The fraction of a second in `bits` as text; odd precisions are stored one digit longer."""
    if not digits:
        return ""
    if digits == _MICROSECOND_DIGITS:
        return "." + _padded(f"{bits} // 1000", 3) + _padded(f"{bits} % 1000", 3)
    return "." + _padded(f"{bits} // 10" if digits % 2 else bits, digits)


def _read_datetime(source: _Source, name: str, column: StoredColumn) -> None:
    digits = column.type.scale
    size = fraction_bytes(digits)
    width = 5 + size
    # The highest bit is set for all years there are; taken off, the rest counts from year 0.
    lines = [f"t = from_bytes({name}) ^ {1 << (8 * width - 1)}"]
    if digits:
        lines += [f"u = t & {(1 << 8 * size) - 1}", f"t >>= {8 * size}"]
    whole = "{YEAR_MONTH[t >> 22]}{DAY_HOUR[t >> 12 & 1023]}{MINUTE_SECOND[t & 4095]}"
    source.fixed(f"{width}s", name, [*lines, f"{name} = f'{whole}{_fraction('u', digits)}'"])


def _read_timestamp(source: _Source, name: str, column: StoredColumn) -> None:
    digits = column.type.scale
    size = fraction_bytes(digits)
    lines = [f"t = from_bytes({name})"]
    if digits:
        lines += [f"u = t & {(1 << 8 * size) - 1}", f"t >>= {8 * size}"]
    fraction = _fraction("u", digits)
    # Second 0 is not a time but MySQL's zero timestamp: the earliest time is one second later.
    zero = f"f'0000-00-00 00:00:00{fraction}'"
    lines.append(
        f"{name} = f'{{DAY[t // 86400]}}{{SECOND_OF_DAY[t % 86400]}}{fraction}' if t else {zero}"
    )
    source.fixed(f"{4 + size}s", name, lines)


def _read_time(source: _Source, name: str, column: StoredColumn) -> None:
    digits = column.type.scale
    source.fixed(f"{3 + fraction_bytes(digits)}s", name, [f"{name} = time_text({name}, {digits})"])


def _read_decimal(source: _Source, name: str, column: StoredColumn) -> None:
    precision, scale = column.type.precision or 0, column.type.scale
    before, after = decimal_groups(precision, scale)
    size = decimal_bytes(precision, scale)
    top = 1 << (8 * size - 1)
    left = 8 * size
    whole, fraction = "", ""
    for digits, width in before:
        left -= 8 * width
        group = _group("t", left, width, is_first=not whole)
        whole = f"({whole}) * {10**digits} + {group}" if whole else group
    for digits, width in after:
        left -= 8 * width
        fraction += _padded(_group("t", left, width, is_first=not whole and not fraction), digits)
    text = f"{{{whole or 0}}}" + (f".{fraction}" if scale else "")
    lines = [
        f"t = from_bytes({name})",
        # Positive numbers have the highest bit set, negative ones are the complement of that.
        f"{name} = f'{text}' if (t := t ^ {top}) < {top} else f'-{text}' if (t := t ^ {2 * top - 1}) else f'{text}'",
    ]
    source.fixed(f"{size}s", name, lines)


def _group(bits: str, shift: int, width: int, *, is_first: bool) -> str:
    shifted = f"{bits} >> {shift}" if shift else bits
    return shifted if is_first else f"({shifted} & {(1 << 8 * width) - 1})"


_FIXED: Final[Mapping[str, Callable[[_Source, str, StoredColumn], None]]] = {
    "mediumint": _read_mediumint,
    "year": _read_year,
    "bit": _read_bit,
    "enum": _read_enum,
    "set": _read_set,
    "date": _read_date,
    "datetime": _read_datetime,
    "timestamp": _read_timestamp,
    "time": _read_time,
    "decimal": _read_decimal,
}


def _read_variable(source: _Source, name: str, column: StoredColumn) -> None:
    kind = column.type.name
    if kind in ("char", "varchar", "binary", "varbinary"):
        length_bytes = 1 if column.size <= _ONE_BYTE_LENGTH_MAX else 2
    else:
        length_bytes = column.size
    source.variable(length_bytes, name, _conversion(source, column))


def _conversion(source: _Source, column: StoredColumn) -> str:
    """What makes the cell of a column of variable width from its bytes, for `{}`."""
    kind = column.type.name
    if kind == "json":
        return "json_text({})"
    if kind == "binary":
        # The server strips trailing zero bytes from the row event.
        return "{}" + f".ljust({column.type.length}, b'\\0')"
    if column.type.kind == "bytes":
        return "{}"
    charset = column.charset or "binary"
    if is_utf8(charset):
        return "{}.decode()"
    decode = source.bind(decoder_of(charset, strict=column.in_key))
    if contains_ascii(charset):
        return f"s.decode() if (s := {{}}).isascii() else {decode}(s)"
    return decode + "({})"
