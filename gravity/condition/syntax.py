"""The text of a condition as a small tree. With `leaf` the only module that knows sqlglot.

What the tree can't say, or what sqlglot reads otherwise than MySQL, is refused here by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast
from typing import Literal as OneOf

import sqlglot
from sqlglot import expressions as exp
from sqlglot.dialects.mysql import MySQL
from sqlglot.errors import SqlglotError
from sqlglot.parsers.mysql import MySQLParser

from gravity.condition.expression import (
    SUPPORTED,
    Among,
    Arithmetic,
    ArithmeticOperator,
    Call,
    Case,
    Cast,
    ColumnName,
    Compare,
    CompareOperator,
    ConditionError,
    Constant,
    DateLiteral,
    Expression,
    IsNull,
    IsTruth,
    JsonPath,
    Like,
    Logic,
    Not,
    Regexp,
    Shift,
)
from gravity.condition.leaf import (
    IMPURE,
    chain,
    impure,
    negative,
    refusal,
    refuse_mixture,
    regexp_of,
    short,
    text_of,
    value_of,
)
from gravity.condition.signature import ALIASES, SIGNATURES, UNITS

TEXT_LENGTH_MAX = 20_000

_COMPARISONS: dict[type[exp.Expression], CompareOperator] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "<=>",
}
_ARITHMETIC: dict[type[exp.Expression], ArithmeticOperator] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
    exp.IntDiv: "DIV",
}
_BITWISE: dict[type[exp.Expression], ArithmeticOperator] = {
    exp.BitwiseAnd: "&",
    exp.BitwiseOr: "|",
    exp.BitwiseLeftShift: "<<",
    exp.BitwiseRightShift: ">>",
}
_LOGIC: dict[type[exp.Expression], OneOf["AND", "OR", "XOR"]] = {
    exp.And: "AND",
    exp.Or: "OR",
    exp.Xor: "XOR",
}
_NEEDS_PARENTHESES = (
    *_COMPARISONS,
    *_LOGIC,
    exp.Not,
    exp.In,
    exp.Between,
    exp.Like,
    exp.Escape,
    exp.RegexpLike,
    exp.Is,
)
_READ_ARGUMENTS = frozenset(
    {"this", "expression", "expressions", "low", "high", "is_string", "to", "unit", "position"}
    | {"start", "length", "substr", "ifs", "default", "true", "false"}
)
_REFUSED_ARGUMENTS = frozenset({"table", "query", "unnest", "field", "flag"})
_ADDED_ARGUMENTS = frozenset({"typed", "safe", "_type", "only_json_types", "scalar_only"})
"""What sqlglot adds of itself: about division and types, which are ours."""
_KNOWN_ARGUMENTS = _READ_ARGUMENTS | _REFUSED_ARGUMENTS | _ADDED_ARGUMENTS
_CASTS: dict[str, OneOf["SIGNED", "UNSIGNED", "DECIMAL", "CHAR", "DATE", "DATETIME"]] = {
    "BIGINT": "SIGNED",
    "UBIGINT": "UNSIGNED",
    "DECIMAL": "DECIMAL",
    "CHAR": "CHAR",
    "DATE": "DATE",
    "DATETIME": "DATETIME",
}


class _RowDialect(MySQL):
    """MySQL's grammar with every function left as it is written, for us to judge by its name."""

    class Parser(MySQLParser):
        FUNCTIONS: ClassVar[dict[str, Callable[..., Any]]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
            name: parser
            for name, parser in MySQLParser.FUNCTION_PARSERS.items()
            if name in ("CAST", "EXTRACT", "TRIM", "SUBSTRING", "POSITION")
        }

        def _build_predicate(
            self,
            klass: Any,
            this: Any,
            expression: Any,
            comments: list[str] | None = None,
            negate: bool = False,  # noqa: FBT001, FBT002 - as the parser calls it
        ) -> Any:
            """The comparison as it stands: put into parentheses it would pass for unambiguous."""
            predicate = klass(this=this, expression=expression)
            return self.expression(
                exp.Not(this=predicate) if negate else predicate, comments=comments
            )

    def to_json_path(self, path: Any) -> Any:
        """The path as it is written: MySQL's grammar of paths is ours."""
        return path


def parse_expression(text: str) -> Expression:
    """The tree of the condition `text`, in MySQL's SQL.

    Raises:
        ConditionError: not one expression, or something in it that is not supported.
    """
    if not text.strip():
        raise ConditionError("an empty condition", remedy="write one, such as amount > 10000")
    if len(text) > TEXT_LENGTH_MAX:
        raise ConditionError(f"a condition longer than {TEXT_LENGTH_MAX} characters")
    try:
        tree = sqlglot.parse_one(text, read=_RowDialect, into=exp.Condition)
        return _expression(cast(exp.Expression, tree))
    except SqlglotError as error:
        raise ConditionError(
            f"not an SQL expression{_spot(error)}", where=short(text), remedy=SUPPORTED
        ) from error
    except RecursionError:
        raise ConditionError("nested too deeply", where=short(text)) from None


def _spot(error: SqlglotError) -> str:
    """Where the parser stumbled, if it says so."""
    details = getattr(error, "errors", None) or [{}]
    column, highlight = details[0].get("col"), details[0].get("highlight")
    return f" (near {highlight!r}, character {column})" if highlight and column else ""


def _operand(node: exp.Expression) -> Expression:
    """An operand of an operator that binds tighter than what may stand in it without parentheses.

    MySQL and sqlglot rank comparisons differently: `a = b LIKE c` is `(a = b) LIKE c` to one and
    `a = (b LIKE c)` to the other. So the reader must say.
    """
    if isinstance(node, _NEEDS_PARENTHESES):
        raise refusal(node, "ambiguous without parentheses", "put parentheses around it")
    return _expression(node)


def _expression(node: exp.Expression) -> Expression:
    kind = type(node)
    # A newer sqlglot may say with an argument what it said with a node: never pass one over.
    # Guarded by test_not_turns_every_verdict_but_null.
    given = {key for key, value in node.args.items() if value}
    if given - _KNOWN_ARGUMENTS - ({"negate"} if kind is exp.Like else set()):
        raise refusal(node)
    if isinstance(node, exp.Paren):
        return _expression(node.this)
    if isinstance(node, exp.Column):
        if node.args.get("table") is not None:
            raise refusal(node, "a column with a table's name", "write the column's name alone")
        if not isinstance(node.this, exp.Identifier):
            raise refusal(node)
        return ColumnName(node.name)
    if kind in _LOGIC:
        return Logic(_LOGIC[kind], tuple(_expression(part) for part in chain(node, kind)))
    if kind in _COMPARISONS:
        return _comparison(node, _COMPARISONS[kind])
    if isinstance(node, (exp.Add, exp.Sub)) and (shift := _shift(node)) is not None:
        return shift
    if kind in _ARITHMETIC:
        return Arithmetic(_ARITHMETIC[kind], _operand(node.this), _operand(node.expression))
    if kind in _BITWISE:
        return Arithmetic(_BITWISE[kind], _bits(node.this), _bits(node.expression))
    if isinstance(node, exp.Not):
        return Not(_expression(node.this))
    if isinstance(node, exp.Neg):
        return negative(_operand(node.this))
    if isinstance(node, (exp.Literal, exp.Boolean, exp.Null)):
        return Constant(value_of(node))
    return _range_predicate(node)


def _comparison(node: exp.Expression, operator: CompareOperator) -> Expression:
    left, right = _row(node.this), _row(node.expression)
    if left is None and right is None:
        return Compare(operator, _operand(node.this), _operand(node.expression))
    if left is None or right is None or len(left) != len(right):
        raise refusal(node, "a row compared with something of another width")
    if operator not in ("=", "<>", "<=>"):
        raise refusal(node, f"{operator} of rows", "compare the columns one by one")
    pairs = tuple(
        Compare("<=>" if operator == "<=>" else "=", _operand(a), _operand(b))
        for a, b in zip(left, right, strict=True)
    )
    return Not(Logic("AND", pairs)) if operator == "<>" else Logic("AND", pairs)


def _row(node: exp.Expression) -> Sequence[exp.Expression] | None:
    """The parts of `(a, b)` or `ROW(a, b)`; None for anything else."""
    named = isinstance(node, exp.Anonymous) and str(node.this).upper() == "ROW"
    return node.expressions if named or isinstance(node, exp.Tuple) else None


def _bits(node: exp.Expression) -> Expression:
    if type(node) in _BITWISE:
        raise refusal(node, "ambiguous without parentheses", "put parentheses around it")
    return _operand(node)


def _shift(node: exp.Add | exp.Sub) -> Shift | None:
    left, right = node.this, node.expression
    if isinstance(left, exp.Interval) and isinstance(node, exp.Add):
        left, right = right, left
    if not isinstance(right, exp.Interval):
        return None
    return _shifted(left, right, back=isinstance(node, exp.Sub))


def _shifted(base: exp.Expression, interval: exp.Expression, *, back: bool) -> Shift:
    unit = str(getattr(interval.args.get("unit"), "name", "")).upper()
    if unit not in UNITS:
        raise refusal(
            interval, f"an interval of {unit or 'no unit'}", f"units are {', '.join(UNITS)}"
        )
    amount = _operand(interval.this)
    if isinstance(amount, Constant) and isinstance(amount.value, str):
        # The parser puts plain numbers in quotes.
        if not re.fullmatch(r"\s*[+-]?\d+\s*", amount.value):
            raise refusal(interval, "an interval that is not a whole number of its unit")
        amount = Constant(int(amount.value))
    return Shift(_operand(base), negative(amount) if back else amount, unit)


def _range_predicate(node: exp.Expression) -> Expression:
    if isinstance(node, exp.In):
        return _among(node)
    if isinstance(node, exp.Between):
        operand = _operand(node.this)
        low, high = _operand(node.args["low"]), _operand(node.args["high"])
        if isinstance(low, Constant) and isinstance(high, Constant):
            refuse_mixture(node, (low, high))
        return Logic("AND", (Compare(">=", operand, low), Compare("<=", operand, high)))
    if isinstance(node, exp.Escape):
        if not isinstance(node.this, exp.Like):
            raise refusal(node)
        return _like(node.this, text_of(node.expression))
    if isinstance(node, exp.Like):
        return _like(node, "\\")
    if isinstance(node, exp.RegexpLike):
        if node.args.get("flag") is not None:
            raise refusal(node)
        return Regexp(_operand(node.this), regexp_of(node.expression))
    if isinstance(node, exp.Is):
        if isinstance(node.expression, exp.Null):
            return IsNull(_operand(node.this))
        if isinstance(node.expression, exp.Boolean):
            return IsTruth(_operand(node.this), bool(node.expression.this))
        raise refusal(node, "IS takes NULL, TRUE, FALSE or UNKNOWN", "write = to compare values")
    return _function(node)


def _among(node: exp.In) -> Expression:
    choices = node.expressions
    if not choices or any(node.args.get(key) for key in ("query", "unnest", "field")):
        raise refusal(node, "IN needs a list of values", "write IN (1, 2, 3)")
    if _row(node.this) is not None:
        rows = tuple(
            _comparison(exp.EQ(this=node.this.copy(), expression=choice.copy()), "=")
            for choice in choices
        )
        return Logic("OR", rows) if len(rows) > 1 else rows[0]
    among = Among(_operand(node.this), tuple(_operand(choice) for choice in choices))
    refuse_mixture(node, tuple(c for c in among.choices if isinstance(c, Constant)))
    return among


def _function(node: exp.Expression) -> Expression:
    if isinstance(node, exp.Case):
        return _case(node)
    if isinstance(node, exp.If):
        default = node.args.get("false")
        if default is None:
            raise refusal(node, "IF takes three arguments")
        return Case(
            ((_expression(node.this), _expression(node.args["true"])),), _expression(default)
        )
    if type(node) is exp.Cast:
        return _cast(node)
    if isinstance(node, exp.Trim):
        side = f"{node.args.get('position') or 'BOTH'}".upper()
        removed = node.expression or exp.Literal.string(" ")
        return Call(f"TRIM_{side}", (_expression(node.this), _expression(removed)))
    if isinstance(node, exp.Substring):
        given = (node.this, node.args.get("start"), node.args.get("length"))
        return _call(node, "SUBSTRING", [part for part in given if part is not None])
    if isinstance(node, exp.StrPosition):
        return _call(node, "LOCATE", [node.args["substr"], node.this])
    if isinstance(node, exp.Extract):
        name = str(node.this.name).upper()
        if name not in SIGNATURES or name not in (*UNITS, "WEEK") or name == "WEEK":
            raise refusal(node, f"EXTRACT of {name} is not supported in a condition")
        return _call(node, name, [node.expression])
    if isinstance(node, (exp.JSONExtract, exp.JSONExtractScalar)):
        return JsonPath(
            _operand(node.this), text_of(node.expression), isinstance(node, exp.JSONExtractScalar)
        )
    if isinstance(node, exp.Anonymous):
        return _named(node)
    raise refusal(node)


def _named(node: exp.Anonymous) -> Expression:
    name = str(node.this).upper()
    name = ALIASES.get(name, name)
    parts: list[exp.Expression] = node.expressions
    if name in IMPURE:
        raise refusal(node, f"{impure(name)} is not supported in a condition")
    if name in ("DATE_ADD", "DATE_SUB") and len(parts) == 2:  # noqa: PLR2004
        if isinstance(parts[1], exp.Interval):
            return _shifted(parts[0], parts[1], back=name == "DATE_SUB")
        raise refusal(node, "", "write INTERVAL 1 DAY as the second argument")
    if name == "ISNULL" and len(parts) == 1:
        return IsNull(_operand(parts[0]))
    if name == "JSON_EXTRACT" and len(parts) == 2:  # noqa: PLR2004
        return JsonPath(_expression(parts[0]), text_of(parts[1]), unquoted=False)
    if name == "JSON_UNQUOTE" and len(parts) == 1:
        inner = _expression(parts[0])
        if isinstance(inner, JsonPath):
            return JsonPath(inner.operand, inner.path, unquoted=True)
        raise refusal(node, "JSON_UNQUOTE of anything but JSON_EXTRACT")
    if name not in SIGNATURES:
        raise refusal(node, f"{name} is not supported in a condition")
    return _call(node, name, parts)


def _call(node: exp.Expression, name: str, parts: Sequence[exp.Expression]) -> Call:
    least, most = SIGNATURES[name]
    if not least <= len(parts) <= most:
        takes = f"{least}" if least == most else f"{least} to {most}"
        raise refusal(node, f"{name} takes {takes} arguments", "give as many")
    return Call(name, tuple(_expression(part) for part in parts))


def _case(node: exp.Case) -> Case:
    subject = None if node.this is None else _operand(node.this)
    branches = []
    for branch in node.args["ifs"]:
        condition = _expression(branch.this)
        if subject is not None:
            condition = Compare("=", subject, condition)
        branches.append((condition, _expression(branch.args["true"])))
    default = node.args.get("default")
    return Case(tuple(branches), Constant(None) if default is None else _expression(default))


def _cast(node: exp.Cast) -> Expression:
    to: exp.DataType = node.to
    name = to.this.name if isinstance(to.this, exp.DType) else str(to.this)
    if isinstance(node.this, exp.Literal) and node.this.is_string and name == "TIMESTAMPTZ":
        return DateLiteral("TIMESTAMP", str(node.this.this))
    if name not in _CASTS:
        raise refusal(
            node,
            "CAST to that type is not supported in a condition",
            f"known are {', '.join(_CASTS.values())}",
        )
    sizes = [int(str(part.this.this)) for part in to.expressions]
    if isinstance(node.this, exp.Literal) and node.this.is_string and name == "DATE":
        return DateLiteral("DATE", str(node.this.this))
    return Cast(
        _expression(node.this),
        _CASTS[name],
        sizes[0] if sizes else None,
        sizes[1] if len(sizes) > 1 else 0,
    )


def _like(node: exp.Like, escape: str) -> Like | Not:
    if len(escape) != 1:
        # Of ESCAPE '' the manual says that nothing escapes, and the server that a backslash does.
        raise refusal(node, "ESCAPE takes one character")
    like = Like(_operand(node.this), text_of(node.expression), escape)
    return Not(like) if node.args.get("negate") else like
