"""SQL conditions over one row, compiled once and evaluated over a batch's columns. Pure.

MySQL's rules for what is supported: three-valued logic, comparison by the column's collation,
numbers against text as MySQL coerces them, exact decimals. What is not supported is refused when
the configuration is loaded, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

import sqlglot
from sqlglot import expressions as exp
from sqlglot.errors import SqlglotError

from gravity.batch import Column, Value

SUPPORTED = (
    "comparison (=, <>, <, <=, >, >=, <=>), IN, BETWEEN, LIKE, REGEXP, IS [NOT] NULL/TRUE/FALSE, "
    "AND, OR, XOR, NOT, + - * / DIV %, parentheses, numbers, texts, columns"
)

Verdict = bool | None
"""True, False, or None for SQL's unknown."""
Evaluator = Callable[[Sequence[Sequence[Value]], int], list[Verdict]]


class ConditionError(ValueError):
    """A condition that can't be used; the text says what, where and what could be."""


@dataclass(frozen=True)
class Condition:
    """A compiled condition."""

    text: str
    columns: tuple[str, ...]
    """Names of the columns it uses, as written, each once."""
    _tree: exp.Expr = field(repr=False, compare=False)

    def evaluate(
        self, columns: Mapping[str, Sequence[Value]], schema: Sequence[Column], rows: int
    ) -> list[Verdict]:
        """The verdict on each of `rows` rows. `columns` holds values by name, `schema` their types.

        Raises ConditionError when a column is missing or a text can't be compared with its type.
        """
        by_name = {column.name.lower(): column for column in schema}
        values = {name.lower(): column for name, column in columns.items()}
        try:
            used = [by_name[name.lower()] for name in self.columns]
            data = [values[name.lower()] for name in self.columns]
        except KeyError as error:
            raise ConditionError(f"{self.text}: no column {error.args[0]}") from None
        kinds = tuple((column.type, column.collation) for column in used)
        return _bind(self, kinds)(data, rows)


@lru_cache(maxsize=4096)
def compile_condition(text: str) -> Condition:
    """The condition that `text` says.

    Raises:
        ConditionError: not SQL, or something that is not supported.
    """
    try:
        tree = sqlglot.parse_one(text, dialect="mysql")
    except SqlglotError as error:
        detail = getattr(error, "errors", None)
        said = detail[0].get("description", str(error)) if detail else str(error).splitlines()[0]
        raise ConditionError(f"{text!r} is not an SQL condition: {said}") from None
    names: dict[str, str] = {}
    for node in tree.walk():
        if not isinstance(node, _NODES):
            raise ConditionError(
                f"{text!r}: {node.sql(dialect='mysql')} is not supported; supported are {SUPPORTED}"
            )
        if isinstance(node, exp.Column):
            if node.args.get("table") is not None:
                raise ConditionError(f"{text!r}: name the column alone, not {node.sql()}")
            names.setdefault(node.name.lower(), node.name)
    if not names:
        raise ConditionError(f"{text!r} uses no column")
    return Condition(text, tuple(names.values()), tree)


_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "eq",
    exp.NEQ: "ne",
    exp.LT: "lt",
    exp.LTE: "le",
    exp.GT: "gt",
    exp.GTE: "ge",
    exp.NullSafeEQ: "same",
}
_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "add",
    exp.Sub: "sub",
    exp.Mul: "mul",
    exp.Div: "div",
    exp.IntDiv: "intdiv",
    exp.Mod: "mod",
}
_NODES = (
    *_COMPARISONS,
    *_ARITHMETIC,
    exp.And, exp.Or, exp.Xor, exp.Not, exp.Paren, exp.Neg, exp.In, exp.Between, exp.Like, exp.Escape,
    exp.RegexpLike, exp.Is, exp.Null, exp.Boolean, exp.Literal, exp.Column, exp.Identifier, exp.Tuple,
)  # fmt: skip


# ---------------------------------------------------------------------- what values are


@dataclass(frozen=True, slots=True)
class _Operand:
    """A piece of generated code, and what kind of value it gives: number, text, moment, time, bytes, truth, null."""

    code: str
    kind: str
    collation: str | None = None
    literal: Any = None


_NUMBER = (
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "bigint",
    "decimal",
    "float",
    "double",
    "year",
    "bit",
)
_PREFIX = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_DATE = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)?"
)
_TIME = re.compile(r"(-?)(\d{1,3}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?")


def _moment(text: str) -> str | None:
    """A date or time stamp in one spelling, whose order as text is its order in time."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction = match.groups(default="0")
    clock = f"{int(hour):02}:{int(minute):02}:{int(second):02}.{fraction.ljust(6, '0')}"
    return f"{year}-{int(month):02}-{int(day):02} {clock}"


def _microseconds(text: str) -> int | None:
    """A TIME in microseconds."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    sign, hour, minute, second, fraction = match.groups(default="0")
    seconds = (int(hour) * 60 + int(minute)) * 60 + int(second)
    size = seconds * 1_000_000 + int(fraction.ljust(6, "0"))
    return -size if sign == "-" else size


def _number(value: Value) -> Any:
    """A text as the number MySQL reads at its beginning; 0 where there is none."""
    if isinstance(value, str):
        match = _PREFIX.match(value)
        return float(match[0]) if match else 0.0
    if isinstance(value, bytes):
        return _number(value.decode("latin-1"))
    return value


def _folder(collation: str | None) -> Callable[[str], str]:
    """How texts are made equal that a collation holds equal."""
    name = collation or "utf8mb4_general_ci"
    pads = "_0900_" not in name and not name.endswith("_nopad_ci")

    def strip(text: str) -> str:
        return text.rstrip(" ") if pads else text

    if name == "binary" or name.endswith("_bin"):
        return strip if name != "binary" else str
    if name.endswith("_as_cs"):
        return strip
    if name.endswith("_as_ci"):
        return lambda text: strip(text.casefold())

    def fold(text: str) -> str:
        if text.isascii():
            return strip(text.lower())
        decomposed = unicodedata.normalize("NFKD", text.casefold())
        return strip("".join(c for c in decomposed if not unicodedata.combining(c)))

    return fold


def _column_operand(index: int, kind: tuple[str, str | None]) -> _Operand:
    type_text, collation = kind
    base = re.split(r"[( ]", type_text, maxsplit=1)[0]
    code = f"c{index}"
    if base in _NUMBER:
        return _Operand(code, "number")
    if base in ("date", "datetime", "timestamp"):
        return _Operand(code, "moment")
    if base == "time":
        return _Operand(code, "time")
    if base in (
        "char",
        "varchar",
        "tinytext",
        "text",
        "mediumtext",
        "longtext",
        "enum",
        "set",
        "json",
    ):
        return _Operand(code, "text", "utf8mb4_bin" if base == "json" else collation)
    return _Operand(code, "bytes")


def _prepare(type_text: str, values: Sequence[Value]) -> Sequence[Any]:
    """A column's wire values as values that Python compares as MySQL does."""
    if type_text.startswith("decimal"):
        return [None if value is None else Decimal(str(value)) for value in values]
    if type_text.startswith(("date", "timestamp")):
        return [None if value is None else _moment(str(value)) for value in values]
    if type_text.startswith("time"):
        return [None if value is None else _microseconds(str(value)) for value in values]
    return values


# ---------------------------------------------------------------------- three-valued operations


def _and(a: Verdict, b: Verdict) -> Verdict:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def _or(a: Verdict, b: Verdict) -> Verdict:
    if a or b:
        return True
    return None if a is None or b is None else False


def _not(a: Verdict) -> Verdict:
    return None if a is None else not a


def _xor(a: Verdict, b: Verdict) -> Verdict:
    return None if a is None or b is None else a is not b


def _truth(value: Any) -> Verdict:
    return None if value is None else bool(_number(value))


def _balanced(a: Any, b: Any) -> tuple[Any, Any]:
    """A double beside an exact number makes both doubles, as in MySQL."""
    if isinstance(a, float) and isinstance(b, Decimal):
        return a, float(b)
    if isinstance(b, float) and isinstance(a, Decimal):
        return float(a), b
    return a, b


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}


def _comparer(name: str, key: Callable[[Any], Any] | None) -> Callable[[Any, Any], Verdict]:
    if name == "same":

        def same(a: Any, b: Any) -> Verdict:
            if a is None or b is None:
                return a is b
            return bool(a == b) if key is None else bool(key(a) == key(b))

        return same
    compare = _COMPARE[name]

    def compared(a: Any, b: Any) -> Verdict:
        if a is None or b is None:
            return None
        if key is None:
            a, b = _balanced(a, b)
            return compare(a, b)
        return compare(key(a), key(b))

    return compared


def _arithmetic(name: str) -> Callable[[Any, Any], Any]:
    def calculate(a: Any, b: Any) -> Any:
        if a is None or b is None:
            return None
        a, b = _balanced(_number(a), _number(b))
        if name in ("div", "intdiv", "mod"):
            if b == 0:
                return None
            exact = a if isinstance(a, float) else Decimal(a)
            by = b if isinstance(b, float) else Decimal(b)
            exact, by = _balanced(exact, by)
            if name == "div":
                return exact / by
            # MySQL cuts towards zero and gives the remainder the sign of the dividend.
            quotient = int(exact / by)
            return quotient if name == "intdiv" else exact - by * quotient
        return {"add": a + b, "sub": a - b, "mul": a * b}[name]

    return calculate


def _like_expression(pattern: str, escape: str) -> str:
    parts: list[str] = []
    letters = iter(pattern)
    for letter in letters:
        if letter == escape:
            parts.append(re.escape(next(letters, escape)))
        elif letter == "%":
            parts.append(".*")
        elif letter == "_":
            parts.append(".")
        else:
            parts.append(re.escape(letter))
    return "".join(parts)


def _unpadded(collation: str | None) -> Callable[[str], str]:
    """LIKE and REGEXP compare letter by letter, so trailing spaces count."""
    fold = _folder(collation)
    return lambda text: fold(text + "\x00")[:-1]


@lru_cache(maxsize=1024)
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.DOTALL)


def _matcher(collation: str | None, *, escape: str | None) -> Callable[[Any, Any], Verdict]:
    """LIKE where `escape` is given, else REGEXP."""
    fold = _unpadded(collation)

    def matches(value: Any, pattern: Any) -> Verdict:
        if value is None or pattern is None:
            return None
        text = fold(str(value) if not isinstance(value, bytes) else value.decode("latin-1"))
        if escape is not None:
            return _pattern(_like_expression(fold(pattern), escape)).fullmatch(text) is not None
        return _pattern(fold(pattern)).search(text) is not None

    return matches


# ---------------------------------------------------------------------- code


class _Coder:
    """Turns a parsed condition into one Python expression over the columns c0, c1 and so on."""

    def __init__(self, condition: Condition, kinds: Sequence[tuple[str, str | None]]) -> None:
        self._text = condition.text
        self._index = {name.lower(): i for i, name in enumerate(condition.columns)}
        self._kinds = kinds
        self.names: dict[str, Any] = {}

    def _name(self, value: Any) -> str:
        name = f"k{len(self.names)}"
        self.names[name] = value
        return name

    def _call(self, function: Callable[..., Any], *codes: str) -> str:
        return f"{self._name(function)}({', '.join(codes)})"

    def truth(self, node: exp.Expr) -> str:
        """Code of a verdict."""
        operand = self.operand(node)
        if operand.kind == "truth":
            return operand.code
        if operand.kind in ("moment", "time"):
            raise ConditionError(f"{self._text!r}: a date or time is not a condition")
        return self._call(_truth, operand.code)

    def operand(self, node: exp.Expr) -> _Operand:
        """Code of a value."""
        match node:
            case exp.Paren():
                return self.operand(node.this)
            case exp.Column():
                index = self._index[node.name.lower()]
                return _column_operand(index, self._kinds[index])
            case exp.Null():
                return _Operand("None", "null")
            case exp.Boolean():
                return _Operand(repr(bool(node.this)), "truth")
            case exp.Literal():
                return self._literal(node)
            case exp.Neg():
                return self._arithmetic("sub", _Operand("0", "number"), self.operand(node.this))
            case exp.And() | exp.Or() | exp.Xor():
                function = {"And": _and, "Or": _or, "Xor": _xor}[type(node).__name__]
                code = self._call(function, self.truth(node.this), self.truth(node.expression))
                return _Operand(code, "truth")
            case exp.Not():
                return _Operand(self._call(_not, self.truth(node.this)), "truth")
            case exp.Is():
                return _Operand(self._is(node), "truth")
            case exp.In():
                return _Operand(self._in(node), "truth")
            case exp.Between():
                low = self._compare("ge", node.this, node.args["low"])
                high = self._compare("le", node.this, node.args["high"])
                return _Operand(self._call(_and, low, high), "truth")
            case exp.Like() | exp.Escape() | exp.RegexpLike():
                return _Operand(self._match(node), "truth")
        if type(node) in _COMPARISONS:
            return _Operand(
                self._compare(_COMPARISONS[type(node)], node.this, node.expression), "truth"
            )
        if type(node) in _ARITHMETIC:
            left, right = self.operand(node.this), self.operand(node.expression)
            return self._arithmetic(_ARITHMETIC[type(node)], left, right)
        raise ConditionError(f"{self._text!r}: {node.sql(dialect='mysql')} can't stand here")

    def _literal(self, node: exp.Literal) -> _Operand:
        if node.is_string:
            return _Operand(self._name(node.this), "text", literal=node.this)
        try:
            value: Any = int(node.this)
        except ValueError:
            value = float(node.this) if "e" in node.this.lower() else Decimal(node.this)
        return _Operand(self._name(value), "number", literal=value)

    def _arithmetic(self, name: str, left: _Operand, right: _Operand) -> _Operand:
        for side in (left, right):
            if side.kind in ("moment", "time"):
                raise ConditionError(f"{self._text!r}: no arithmetic with dates and times")
        return _Operand(self._call(_arithmetic(name), left.code, right.code), "number")

    def _compare(self, name: str, left_node: exp.Expr, right_node: exp.Expr) -> str:
        left, right = self.operand(left_node), self.operand(right_node)
        left, right = self._as_moment(left, right), self._as_moment(right, left)
        kinds = {left.kind, right.kind} - {"null"}
        key: Callable[[Any], Any] | None = None
        if kinds == {"text"}:
            key = _folder(left.collation or right.collation)
        elif kinds <= {"number", "truth", "text"} and "text" in kinds:
            key = _number
        elif kinds == {"bytes", "text"}:
            key = _as_bytes
        elif len(kinds) > 1 and not kinds <= {"number", "truth"}:
            raise ConditionError(
                f"{self._text!r}: a {left.kind} can't be compared with a {right.kind}"
            )
        return self._call(_comparer(name, key), left.code, right.code)

    def _as_moment(self, operand: _Operand, other: _Operand) -> _Operand:
        """A text literal beside a date or time column, as one."""
        if operand.kind != "text" or other.kind not in ("moment", "time"):
            return operand
        if operand.literal is None:
            raise ConditionError(f"{self._text!r}: a text column can't be compared with a date")
        value = (_moment if other.kind == "moment" else _microseconds)(operand.literal)
        if value is None:
            raise ConditionError(f"{self._text!r}: {operand.literal!r} is not a date or time")
        return _Operand(self._name(value), other.kind, literal=value)

    def _is(self, node: exp.Is) -> str:
        if isinstance(node.expression, exp.Null):
            return f"({self.operand(node.this).code} is None)"
        wanted = bool(node.expression.this)
        return f"({self.truth(node.this)} is {wanted})"

    def _in(self, node: exp.In) -> str:
        if node.args.get("query") is not None or not node.expressions:
            raise ConditionError(f"{self._text!r}: IN needs a list of values")
        code = self._compare("eq", node.this, node.expressions[0])
        for item in node.expressions[1:]:
            code = self._call(_or, code, self._compare("eq", node.this, item))
        return code

    def _match(self, node: exp.Expr) -> str:
        escape = "\\"
        if isinstance(node, exp.Escape):
            escape = str(node.expression.this)
            node = node.this
        value, pattern = self.operand(node.this), self.operand(node.expression)
        if value.kind not in ("text", "number", "bytes") or not isinstance(pattern.literal, str):
            raise ConditionError(
                f"{self._text!r}: LIKE and REGEXP need a text and a pattern in quotes"
            )
        if isinstance(node, exp.Like):
            matcher = _matcher(value.collation, escape=escape)
        else:
            matcher = _matcher(value.collation, escape=None)
            try:
                _pattern(_unpadded(value.collation)(pattern.literal))
            except re.error as error:
                raise ConditionError(f"{self._text!r}: bad REGEXP: {error}") from None
        return self._call(matcher, value.code, pattern.code)


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


@lru_cache(maxsize=1024)
def _bind(condition: Condition, kinds: tuple[tuple[str, str | None], ...]) -> Evaluator:
    """The condition as a function over columns of these (type, collation)."""
    coder = _Coder(condition, kinds)
    code = coder.truth(condition._tree)
    names = [f"c{index}" for index in range(len(kinds))]
    source = f"lambda columns: [{code} for {', '.join(names)}, in zip(*columns)]"
    # The code is made of our own names only: literals and functions stand in `coder.names`.
    function = eval(source, {"__builtins__": {"zip": zip}, **coder.names})  # noqa: S307
    types = [type_text for type_text, _ in kinds]

    def evaluate(columns: Sequence[Sequence[Value]], rows: int) -> list[Verdict]:
        if rows == 0:
            return []
        try:
            prepared = [_prepare(text, values) for text, values in zip(types, columns, strict=True)]
        except InvalidOperation as error:
            raise ConditionError(f"{condition.text!r}: not a decimal: {error}") from None
        verdicts: list[Verdict] = function(prepared)
        return verdicts

    return evaluate
