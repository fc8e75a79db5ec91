"""A condition as a small tree: what its parser writes and its compiler reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal as OneOf

from gravity.errors import FatalError

SUPPORTED = (
    "supported are columns, texts, numbers, dates, TRUE, FALSE, NULL, = <> < <= > >= <=>, IN, BETWEEN, "
    "LIKE, REGEXP, IS NULL, IS TRUE, AND, OR, XOR, NOT, + - * / % DIV & |, CASE, CAST, INTERVAL, -> ->> "
    "and the functions listed in docs/routing.md"
)

Scalar = str | int | float | Decimal | bool | None
CompareOperator = OneOf["=", "<>", "<", "<=", ">", ">=", "<=>"]
ArithmeticOperator = OneOf["+", "-", "*", "/", "%", "DIV", "&", "|", "<<", ">>"]


class ConditionError(FatalError):
    """A condition that can't be used: not SQL, not supported, or not fit for the table."""


@contextmanager
def named_in_errors(text: str) -> Iterator[None]:
    """Raises ConditionError for `text` where what is done in it raises one that does not say where."""
    try:
        yield
    except ConditionError as error:
        raise ConditionError(error.what, where=error.where or text, remedy=error.remedy) from error
    except (RecursionError, MemoryError):
        raise ConditionError("nested too deeply", where=text) from None


@dataclass(frozen=True, slots=True)
class ColumnName:
    """The value of a column."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A value written in the condition: int, Decimal (`1.5`), float (`1e3`), text, TRUE, NULL."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Negative:
    """Minus the operand."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`left operator right`, a number or NULL."""

    operator: ArithmeticOperator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Compare:
    """`left operator right`; NULL if either is, but for `<=>`."""

    operator: CompareOperator
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Among:
    """`operand IN (choices)`."""

    operand: Expression
    choices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """`operand LIKE pattern ESCAPE escape`; `escape` is one character."""

    operand: Expression
    pattern: str
    escape: str


@dataclass(frozen=True, slots=True)
class Regexp:
    """`operand REGEXP pattern`: whether the pattern is found anywhere."""

    operand: Expression
    pattern: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """`operand IS NULL`; never NULL itself."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class IsTruth:
    """`operand IS TRUE` or `IS FALSE`; never NULL itself."""

    operand: Expression
    truth: bool


@dataclass(frozen=True, slots=True)
class Not:
    """NOT; NULL stays NULL."""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Logic:
    """AND, OR or XOR of two or more operands."""

    operator: OneOf["AND", "OR", "XOR"]
    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class DateLiteral:
    """`DATE '...'` or `TIMESTAMP '...'`."""

    kind: OneOf["DATE", "TIMESTAMP"]
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function of its arguments; `name` in capitals, one name for each meaning."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """The value of the first branch whose condition is true, else `default`."""

    branches: tuple[tuple[Expression, Expression], ...]
    default: Expression


@dataclass(frozen=True, slots=True)
class Cast:
    """`CAST(operand AS type)`."""

    operand: Expression
    type: OneOf["SIGNED", "UNSIGNED", "DECIMAL", "CHAR", "DATE", "DATETIME"]
    length: int | None = None
    """Digits of a DECIMAL or a DATETIME's fraction, characters of a CHAR."""
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Shift:
    """`operand + INTERVAL amount unit`."""

    operand: Expression
    amount: Expression
    unit: str


@dataclass(frozen=True, slots=True)
class JsonPath:
    """`operand -> path`, or `->>` where it is unquoted."""

    operand: Expression
    path: str
    unquoted: bool


Predicate = Compare | Among | Like | Regexp | IsNull | IsTruth | Not | Logic
Expression = (
    ColumnName
    | Constant
    | DateLiteral
    | Negative
    | Arithmetic
    | Call
    | Case
    | Cast
    | Shift
    | JsonPath
    | Predicate
)


def columns_of(expression: Expression) -> tuple[str, ...]:
    """The names of the columns used, each once whatever its case, in order of appearance."""
    names: dict[str, str] = {}
    for name in _names(expression):
        names.setdefault(name.lower(), name)
    return tuple(names.values())


def _names(expression: Expression) -> Iterator[str]:
    match expression:
        case ColumnName(name):
            yield name
        case Constant() | DateLiteral():
            return
        case Arithmetic(_, left, right) | Compare(_, left, right) | Shift(left, right, _):
            yield from _names(left)
            yield from _names(right)
        case Call(_, arguments):
            for part in arguments:
                yield from _names(part)
        case Case(branches, default):
            for branch in branches:
                yield from _names(branch[0])
                yield from _names(branch[1])
            yield from _names(default)
        case Among(operand, choices):
            for part in (operand, *choices):
                yield from _names(part)
        case Logic(_, operands):
            for part in operands:
                yield from _names(part)
        case _:
            yield from _names(expression.operand)
