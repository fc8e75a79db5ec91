"""An expression as a value: what it gives for each row, and of what kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from gravity.batch import Column, Value
from gravity.condition.expression import (
    ConditionError,
    Expression,
    columns_of,
    named_in_errors,
)
from gravity.condition.operand import Kind, describe
from gravity.condition.program import Compiler
from gravity.condition.syntax import parse_expression

_KINDS: Mapping[Kind, str] = {
    "null": "int",
    "int": "int",
    "year": "year",
    "decimal": "decimal",
    "float": "float",
    "text": "text",
    "label": "text",
    "day": "day",
    "moment": "moment",
    "time": "time",
}


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An expression on the columns of one table."""

    kind: str
    """Of its values: int, year, decimal (Decimal), float, text, day, moment, time."""
    evaluate: Callable[[Mapping[str, Sequence[Value]], int], list[Any]]
    """(values by column name as the table spells it, rows) to the value of each row, None where NULL."""


@dataclass(frozen=True, slots=True)
class ValueExpression:
    """An SQL expression over the columns of one row."""

    text: str
    """As the user wrote it."""
    columns: tuple[str, ...]
    """The columns it looks at, as written; MySQL's column names know no case."""
    _expression: Expression = field(repr=False)

    def on(self, schema: Iterable[Column]) -> Evaluated:
        """The expression on a table of these columns.

        Raises:
            ConditionError: the table lacks a column, has one of a type that can't be used so, or the value
                is of a kind that can't be stored.
        """
        with named_in_errors(self.text):
            compiler = Compiler(schema)
            operand = compiler.operand(self._expression)
            if operand.kind == "decimal":
                operand = compiler.frame.numeric(operand)
            if operand.kind not in _KINDS:
                raise ConditionError(
                    f"{describe(operand)} is no value for a column", remedy="use ->> or CAST"
                )
            result = f"[{operand.code}] * rows"
            if not operand.is_constant:
                result = f"v{operand.code[1:]}"
            return Evaluated(_KINDS[operand.kind], compiler.finished(result))


@lru_cache(maxsize=1024)
def compile_value(text: str) -> ValueExpression:
    """The expression that `text` says, in MySQL's SQL.

    Raises:
        ConditionError: not SQL, or something in it that is not supported; the text says what is.
    """
    expression = parse_expression(text)
    return ValueExpression(text, columns_of(expression), expression)
