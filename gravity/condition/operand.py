"""The operands of a condition on one table: where their values come from, and how they are made alike.

A `Frame` collects the Python of a condition: lines that make one list per operand, a column at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from gravity.batch import Column, Value
from gravity.column import INTEGER_BYTES, ColumnType
from gravity.condition import json_path
from gravity.condition.collation import (
    Collation,
    common_collation,
    key_function,
    parse_collation,
)
from gravity.condition.expression import ConditionError, Scalar
from gravity.condition.moment import Moment, pad_day, pad_moment, parse_moment, time_to_us
from gravity.condition.number import text_to_float, text_to_int

Kind = Literal[
    "null",
    "int",
    "bit",
    "year",
    "decimal",
    "float",
    "text",
    "label",
    "bytes",
    "day",
    "moment",
    "time",
    "json",
    "other",
]
"""What an operand's values are. `label`: ENUM and SET; `json`: JSON text; `other`: geometry."""

EXACT_NUMBERS = frozenset({"int", "bit", "year", "decimal"})
NUMBERS = EXACT_NUMBERS | {"float"}
TEXTS = frozenset({"text", "label"})

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(INTEGER_BYTES, "int"),
    "year": "year",
    "bit": "bit",
    "decimal": "decimal",
    "float": "float",
    "double": "float",
    **dict.fromkeys(("char", "varchar", "tinytext", "text", "mediumtext", "longtext"), "text"),
    "enum": "label",
    "set": "label",
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), "bytes"),
    "date": "day",
    "datetime": "moment",
    "timestamp": "moment",
    "time": "time",
    "json": "json",
}
_YEAR_SHORT_MAX = 99


@dataclass(frozen=True, slots=True)
class Operand:
    """A value per row: a constant, or a list that the frame makes."""

    kind: Kind
    code: str
    """Python for the value in one row."""
    text: str
    """How messages call it."""
    is_constant: bool = False
    value: Any = None
    """The constant."""
    collation: Collation = field(default_factory=lambda: parse_collation(None))
    digits: int = 0
    """`moment`: digits of the second's fraction."""
    is_column: bool = False
    weak: bool = False
    """Text whose collation yields to another's: made of constants and numbers."""
    is_printable: bool = False
    """Its values are, or print as, the text that MySQL makes of them."""

    @property
    def is_null(self) -> bool:
        """Whether it is the constant NULL."""
        return self.is_constant and self.value is None

    @property
    def present(self) -> str:
        """Python for "is not NULL"."""
        return "True" if self.is_constant else f"{self.code} is not None"


def each(function: Callable[[Any], Any], values: Sequence[Value]) -> list[Any]:
    """`function` of each value, called once for values that recur; None stays None."""
    distinct = set(values)
    if len(distinct) * 2 > len(values):
        if None in distinct:
            return [None if value is None else function(value) for value in values]
        return list(map(function, values))
    known = {value: None if value is None else function(value) for value in distinct}
    return list(map(known.__getitem__, values))


def refuse_pair(left: Operand, right: Operand) -> ConditionError:
    """The error that two operands can't meet."""
    return ConditionError(
        f"can't compare {describe(left)} with {describe(right)}",
        remedy="compare numbers with numbers, text with text in quotes, dates with 'YYYY-MM-DD'",
    )


def describe(operand: Operand) -> str:
    """The operand and its kind, for a message."""
    names = {"int": "whole number", "label": "enum or set", "day": "date", "moment": "datetime"}
    kind = names.get(operand.kind, operand.kind)
    return (
        f"{operand.text} ({'geometry' if kind == 'other' else 'JSON' if kind == 'json' else kind})"
    )


def shared_collation(operands: Iterable[Operand]) -> Collation:
    """The collation in which texts meet: constants and numbers take that of the others.

    Raises:
        ConditionError: MySQL would refuse to mix them.
    """
    shared: Operand | None = None
    for operand in operands:
        if operand.weak:
            continue
        if shared is None:
            shared = operand
            continue
        common = common_collation(shared.collation, operand.collation)
        if common is None:
            raise ConditionError(
                f"{shared.text} ({shared.collation.name}) and {operand.text} "
                f"({operand.collation.name}) have different collations",
                remedy="compare columns of one collation",
            )
        shared = replace(shared, collation=common)
    return parse_collation(None) if shared is None else shared.collation


class Frame:
    """The Python of one condition on one table, as it grows."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {"each": each}
        self._columns = {column.name.lower(): column for column in columns}
        self._lists: dict[tuple[object, ...], str] = {}

    def name(self, value: object) -> str:
        """A name under which the Python of the condition finds `value`."""
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def column(self, name: str) -> Operand:
        """The operand that is a column of the table.

        Raises:
            ConditionError: the table has no such column.
        """
        column = self._columns.get(name.lower())
        if column is None:
            raise ConditionError(f"the table has no column {name}")
        declared = ColumnType.parse(column.type)
        key = ("column", column.name)
        code = self._lists.get(key)
        if code is None:
            code = self._list(key, f"columns[{self.name(column.name)}]")
        return Operand(
            _KINDS.get(declared.name, "other"),
            code,
            column.name,
            collation=parse_collation(column.collation),
            digits=declared.scale if declared.name in ("datetime", "timestamp") else 0,
            is_column=True,
            is_printable=declared.name not in ("float", "double", "bit", "json", "geometry"),
        )

    def constant(self, value: Scalar, text: str | None = None) -> Operand:
        """The operand that is a value written in the condition."""
        kind: Kind
        match value:
            case None:
                kind = "null"
            case bool() | int():
                kind, value = "int", int(value)
            case Decimal():
                kind = "decimal"
            case float():
                kind = "float"
            case str():
                kind = "text"
        shown = text or (
            "NULL" if value is None else repr(value) if isinstance(value, str) else str(value)
        )
        return Operand(
            kind,
            self.name(value),
            shown,
            is_constant=True,
            value=value,
            weak=True,
            is_printable=kind != "float",
        )

    def converted(
        self, operand: Operand, kind: Kind, function: Callable[[Any], Any], what: str
    ) -> Operand:
        """`operand` with `function` applied to each value; `what` tells conversions apart."""
        if operand.is_constant:
            value = None if operand.value is None else function(operand.value)
            return replace(operand, kind=kind, code=self.name(value), value=value)
        key = ("each", operand.code, what)
        code = self._lists.get(key)
        if code is None:
            code = self._list(key, f"each({self.name(function)}, {_list_of(operand.code)})")
        return replace(operand, kind=kind, code=code, is_column=False)

    def computed(self, kind: Kind, code: str, inputs: Iterable[str], text: str) -> Operand:
        """The operand that the Python `code` makes of the rows' operands `inputs`."""
        key = ("computed", code)
        made = self._lists.get(key) or self._list(key, f"[{code} for {loop(inputs)}]")
        return Operand(kind, made, text)

    def applied(
        self, kind: Kind, function: Callable[..., Any], operands: Sequence[Operand], text: str
    ) -> Operand:
        """`function` of the operands' values in each row; NULL where one of them is."""
        if any(operand.is_null for operand in operands):
            return self.constant(None)
        varying = [operand for operand in operands if not operand.is_constant]
        if not varying:
            value = function(*(operand.value for operand in operands))
            made = self.constant(None)
            return replace(
                made,
                kind="null" if value is None else kind,
                code=self.name(value),
                value=value,
                text=text,
            )
        if len(varying) == 1:
            place = operands.index(varying[0])
            before = [operand.value for operand in operands[:place]]
            after = [operand.value for operand in operands[place + 1 :]]
            of_value: Callable[[Any], Any] = function
            if before or after:
                of_value = lambda value: function(*before, value, *after)  # noqa: E731
            made = self.converted(varying[0], kind, of_value, f"{text} {kind}")
            return Operand(kind, made.code, text)
        name = self.name(function)
        present = " and ".join(operand.present for operand in varying)
        arguments = ", ".join(operand.code for operand in operands)
        code = f"({name}({arguments}) if {present} else None)"
        return self.computed(kind, code, [operand.code for operand in varying], text)

    def _list(self, key: tuple[object, ...], code: str) -> str:
        number = len(self._lists)
        self.lines.append(f"v{number} = {code}")
        self._lists[key] = f"e{number}"
        return f"e{number}"

    def numeric(self, operand: Operand) -> Operand:
        """`operand` as a number: exact where it is, else float.

        Raises:
            ConditionError: it has no number that is understood here.
        """
        if operand.kind == "decimal":
            return (
                operand
                if operand.is_constant
                else self.converted(operand, "decimal", Decimal, "decimal")
            )
        if operand.kind in NUMBERS or operand.kind == "null":
            return operand
        if operand.kind == "text":
            return self.converted(operand, "float", text_to_float, "float of text")
        raise ConditionError(
            f"{describe(operand)} can't be used as a number here", remedy="compare it with a text"
        )

    def approximate(self, operand: Operand) -> Operand:
        """`operand` as a float. Raises `ConditionError` as `numeric` does."""
        operand = self.numeric(operand)
        return (
            operand if operand.kind == "float" else self.converted(operand, "float", float, "float")
        )

    def alike(self, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        """Both operands in one form in which Python compares them as MySQL would.

        Raises:
            ConditionError: MySQL would not compare them, or in a way that is not supported.
        """
        kinds = {left.kind, right.kind}
        if "null" in kinds:
            return left, right
        if kinds <= NUMBERS:
            _refuse_short_year(left, right)
            if "float" in kinds:
                return self.approximate(left), self.approximate(right)
            return self.numeric(left), self.numeric(right)
        if kinds <= TEXTS:
            return self._texts_alike(left, right)
        if "text" in kinds and kinds <= NUMBERS | {"text"} and "bit" not in kinds:
            return self._text_and_number(left, right)
        if "bytes" in kinds:
            return self._bytes(left, right), self._bytes(right, left)
        if "time" in kinds:
            return self._time(left, right), self._time(right, left)
        if "json" in kinds:
            return self._json(left, right), self._json(right, left)
        if kinds & {"day", "moment"}:
            return self._moments_alike(left, right)
        raise refuse_pair(left, right)

    def _texts_alike(self, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        collation = shared_collation([left, right])
        what = f"key {collation.name}"
        key = key_function(collation)
        return self.converted(left, "text", key, what), self.converted(right, "text", key, what)

    def _text_and_number(self, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        text, other = (left, right) if left.kind == "text" else (right, left)
        # MySQL turns a text constant into the type of the whole-number column it meets, if it fits;
        # else both become floats, which are not exact beyond 2^53.
        whole = text_to_int(text.value) if text.is_constant and other.is_column else None
        if whole is not None and other.kind in ("int", "year"):
            constant = self.constant(whole)
            _refuse_short_year(other, constant)
            return (constant, right) if text is left else (left, constant)
        return self.approximate(left), self.approximate(right)

    def _bytes(self, operand: Operand, other: Operand) -> Operand:
        if operand.kind == "bytes":
            return operand
        if operand.kind == "text" and operand.is_constant:
            return self.converted(operand, "bytes", str.encode, "bytes")
        raise refuse_pair(operand, other)

    def _json(self, operand: Operand, other: Operand) -> Operand:
        if operand.kind == "json":
            return self.converted(operand, "json", json_path.key, "json key")
        if operand.kind in ("int", "decimal", "float") and operand.text not in ("TRUE", "FALSE"):
            return self.converted(
                self.numeric(operand), "json", json_path.number_key, "json number"
            )
        if operand.kind == "text":
            return self.converted(operand, "json", json_path.text_key, "json text")
        raise refuse_pair(operand, other)

    def _time(self, operand: Operand, other: Operand) -> Operand:
        if operand.kind == "time":
            return self.converted(operand, "int", time_to_us, "time")
        if operand.kind == "text" and operand.is_constant:
            if time_to_us(operand.value) is None:
                raise ConditionError(f"{operand.text} is not a time", remedy="write 'HH:MM:SS'")
            return self.converted(operand, "int", time_to_us, "time")
        raise refuse_pair(operand, other)

    def _moments_alike(self, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        literals = {part.code: _moment_of(part, left, right) for part in (left, right)}
        only_days = all(
            part.kind == "day" or (said is not None and said.is_day)
            for part, said in ((part, literals[part.code]) for part in (left, right))
        )
        digits = max(
            len(said.fraction) if said is not None else part.digits
            for part, said in ((part, literals[part.code]) for part in (left, right))
        )

        def alike(part: Operand) -> Operand:
            said = literals[part.code]
            if said is not None:
                return self.constant(said.day if only_days else said.text(digits))
            if only_days or (part.kind == "moment" and part.digits == digits):
                return part
            pad = pad_day if part.kind == "day" else pad_moment
            return self.converted(part, "moment", lambda text: pad(text, digits), f"pad {digits}")

        return alike(left), alike(right)


def _moment_of(operand: Operand, left: Operand, right: Operand) -> Moment | None:
    """What a text constant says; None for a column of days or moments."""
    if operand.kind in ("day", "moment"):
        return None
    if operand.kind != "text" or not operand.is_constant:
        raise refuse_pair(left, right)
    said = parse_moment(operand.value)
    if said is None:
        raise ConditionError(
            f"{operand.text} is not a date", remedy="write 'YYYY-MM-DD' or 'YYYY-MM-DD HH:MM:SS'"
        )
    return said


def _refuse_short_year(left: Operand, right: Operand) -> None:
    for year, other in ((left, right), (right, left)):
        if year.kind == "year" and other.is_constant and 0 < abs(other.value) <= _YEAR_SHORT_MAX:
            raise ConditionError(f"{other.text} is not a year", remedy="write all four digits")


def _list_of(code: str) -> str:
    """The list that the row's value `code` is taken from."""
    return f"v{code[1:]}"


def loop(inputs: Iterable[str]) -> str:
    """The head of a comprehension over the rows of `inputs`."""
    names = sorted(set(inputs))
    if not names:
        return "_ in range(rows)"
    if len(names) == 1:
        return f"{names[0]} in {_list_of(names[0])}"
    return f"{', '.join(names)} in zip({', '.join(map(_list_of, names))}, strict=True)"
