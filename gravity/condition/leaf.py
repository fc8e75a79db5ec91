"""What one node of the parser's tree says by itself, and how a node is refused. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

from sqlglot import expressions as exp

from gravity.condition.expression import (
    SUPPORTED,
    ConditionError,
    Constant,
    Expression,
    Negative,
    Scalar,
)

_NAMES: dict[type, str] = {
    exp.Subquery: "a subquery",
    exp.Exists: "a subquery",
    exp.Parameter: "a variable",
    exp.SessionParameter: "a variable",
    exp.Placeholder: "a placeholder",
    exp.HexString: "a hexadecimal literal",
    exp.BitString: "a bit literal",
    exp.Introducer: "a character set before a text",
    exp.Collate: "COLLATE",
    exp.BitwiseXor: "^",
    exp.BitwiseNot: "~",
    exp.Star: "*",
}
"""What users call what the parser calls otherwise."""
_IMPURE_TEXT = """
    NOW CURDATE CURTIME CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP LOCALTIME LOCALTIMESTAMP
    SYSDATE UTC_DATE UTC_TIME UTC_TIMESTAMP UNIX_TIMESTAMP RAND UUID UUID_SHORT SLEEP USER
    CURRENT_USER SESSION_USER SYSTEM_USER DATABASE SCHEMA VERSION CONNECTION_ID LAST_INSERT_ID
    ROW_COUNT FOUND_ROWS BENCHMARK GET_LOCK RELEASE_LOCK IS_FREE_LOCK LOAD_FILE NEXTVAL
    LASTVAL SETVAL
"""
IMPURE = frozenset(_IMPURE_TEXT.split())
"""Functions whose value is not the row's alone."""
# What Python's `re` reads otherwise than ICU (MySQL) and PCRE (MariaDB), or not at all.
_FOREIGN_REGEXP = re.compile(r"\[\[|\\[pPzZNRXQEGhHKk]|\(\?P|\(\?\(|\(\?#|&&|--|~~|\|\|")


def short(text: str) -> str:
    """The text as an error shows it."""
    limit = 120
    return text if len(text) <= limit else f"{text[:limit]}..."


def refusal(node: exp.Expression, what: str = "", remedy: str = SUPPORTED) -> ConditionError:
    """The error for a node that can't be in a condition; without `what` it is the kind of node."""
    name = next((name for kind, name in _NAMES.items() if isinstance(node, kind)), None)
    if name is None and isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous):
        function = node.sql_name()
        name = impure(function) if function in IMPURE else function
    return ConditionError(
        what or f"{name or type(node).__name__} is not supported in a condition",
        where=short(node.sql(dialect="mysql")),
        remedy=remedy,
    )


def impure(name: str) -> str:
    """How a function of `IMPURE` is called in an error."""
    return f"{name} (its value is not the row's alone, so a replay would decide otherwise)"


def chain(node: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """The operands of a row of equal operators; a loop, since a long row nests deeply."""
    parts: list[exp.Expression] = []
    while type(node) is kind:
        parts.append(node.expression)
        node = node.this
    parts.append(node)
    return parts[::-1]


def negative(operand: Expression) -> Expression:
    """The operand with the other sign."""
    if isinstance(operand, Constant) and type(operand.value) in (int, float, Decimal):
        # `copy_negate` keeps the digits; minus would round to the context's precision.
        value = operand.value
        return Constant(value.copy_negate() if isinstance(value, Decimal) else -value)  # type: ignore[operator]
    return Negative(operand)


def value_of(node: exp.Literal | exp.Boolean | exp.Null) -> Scalar:
    """The value that is written there. Raises ConditionError for a number of an unknown form."""
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return bool(node.this)
    text = str(node.this)
    if node.is_string:
        return text
    if text.isdecimal():
        return int(text)
    if re.fullmatch(r"\d*\.\d*", text):
        return Decimal(text)
    if re.fullmatch(r"(\d+\.?\d*|\.\d+)[eE][+-]?\d+", text):
        return float(text)
    raise refusal(node, "not a number that is understood here")


def text_of(node: exp.Expression) -> str:
    """The text that is written there. Raises ConditionError for anything else."""
    if isinstance(node, exp.Paren):
        return text_of(node.this)
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
    raise refusal(node, "a pattern must be written out as a text", "write it in quotes")


def regexp_of(node: exp.Expression) -> str:
    """The pattern that is written there. Raises ConditionError where Python's would be another."""
    pattern = text_of(node)
    foreign = _FOREIGN_REGEXP.search(pattern)
    if foreign is not None:
        raise refusal(
            node,
            f"{foreign[0]} in a regular expression is not supported in a condition",
            "use sets such as [a-z], classes such as \\d and \\w, groups and repetitions",
        )
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise refusal(node, f"not a regular expression: {error}", "mend the pattern") from None
    return pattern


def refuse_mixture(node: exp.Expression, constants: tuple[Constant, ...]) -> None:
    """Refuses texts beside numbers: MySQL picks one way to compare for all of them together."""
    texts = {isinstance(c.value, str) for c in constants if c.value is not None}
    if len(texts) > 1:
        raise refusal(node, "texts and numbers side by side", "write either only texts or numbers")
