"""A condition made into Python for one table: a column at a time, NULL as MySQL has it.

Every predicate becomes two Python expressions over one row's operands: when it is surely true, and when
it is surely false; where it is neither, it is NULL. AND, OR and NOT only combine these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple
from typing import cast as typed

from gravity.batch import Column, Value
from gravity.condition.call import as_text, call, cast, json_value, shift, unified
from gravity.condition.collation import like_matcher, like_matcher_bytes, regexp_matcher
from gravity.condition.expression import (
    Among,
    Arithmetic,
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
    Negative,
    Not,
    Predicate,
    Regexp,
    Shift,
    columns_of,
    named_in_errors,
)
from gravity.condition.moment import parse_moment
from gravity.condition.number import (
    BITWISE,
    EXACT,
    divide,
    divide_float,
    divide_whole,
    remainder,
    remainder_float,
)
from gravity.condition.operand import Frame, Kind, Operand, loop, shared_collation
from gravity.condition.syntax import parse_expression

Evaluator = Callable[[Mapping[str, Sequence[Value]], int], list[bool | None]]

CODE_LENGTH_MAX = 1_000_000
"""Characters of Python for one condition; only XOR within XOR within XOR comes near it."""

TABLES_MAX = 1024
"""Table shapes for which one condition is kept compiled; more are compiled again."""

_PYTHON_OPERATORS: Mapping[CompareOperator, str] = {
    "=": "==",
    "<>": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}


class Verdict(NamedTuple):
    """A predicate in Python: when it is true, when it is false, and the operands it looks at."""

    true: str
    false: str
    inputs: frozenset[str]

    @property
    def value(self) -> str:
        """True, False or None."""
        return f"(True if {self.true} else False if {self.false} else None)"

    @property
    def number(self) -> str:
        """1, 0 or None: a predicate as a value, which prints as one digit."""
        return f"(1 if {self.true} else 0 if {self.false} else None)"


ALWAYS_NULL = Verdict("False", "False", frozenset())


def _inputs(operands: Iterable[Operand]) -> frozenset[str]:
    return frozenset(operand.code for operand in operands if not operand.is_constant)


class Compiler:
    """Writes one expression into a frame."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self.frame = Frame(columns)

    def verdict(self, node: Expression) -> Verdict:
        """The predicate that `node` is; a value counts as true where it is not 0."""
        match node:
            case Compare(operator, left, right):
                return self.compare(operator, self.operand(left), self.operand(right))
            case Among(operand, choices):
                return self.among(self.operand(operand), [self.operand(c) for c in choices])
            case Like(operand, pattern, escape):
                return self.like(self.operand(operand), pattern, escape)
            case Regexp(operand, pattern):
                found = as_text(self.frame, self.operand(operand), "REGEXP")
                return self.matching(
                    found, regexp_matcher(pattern, found.collation), f"regexp {pattern!r}"
                )
            case IsNull(operand):
                return self.is_null(operand)
            case IsTruth(operand, truth):
                inner = self.verdict(operand)
                wanted = inner.true if truth else inner.false
                return Verdict(wanted, f"(not {wanted})", inner.inputs)
            case Not(operand):
                inner = self.verdict(operand)
                return Verdict(inner.false, inner.true, inner.inputs)
            case Logic(operator, operands):
                return _combine(operator, [self.verdict(part) for part in operands])
            case _:
                return self.truth(self.operand(node))

    def operand(self, node: Expression) -> Operand:
        """The value that `node` is; a predicate's is 1, 0 or NULL."""
        match node:
            case ColumnName(name):
                return self.frame.column(name)
            case Constant(value):
                return self.frame.constant(
                    value, str(value).upper() if isinstance(value, bool) else None
                )
            case Negative(inner):
                return self.negative(self.operand(inner))
            case Arithmetic(operator, left, right):
                return self.arithmetic(operator, self.operand(left), self.operand(right))
            case DateLiteral(kind, text):
                return self.date(kind, text)
            case Call("COALESCE", arguments):
                return self.coalesce([self.operand(part) for part in arguments])
            case Call("NULLIF", (first, second)):
                branch = (self.verdict(Compare("=", first, second)), self.frame.constant(None))
                return self.choice([branch], self.operand(first), "NULLIF")
            case Call("MOD", (left, right)):
                return self.arithmetic("%", self.operand(left), self.operand(right))
            case Call(name, arguments):
                return call(self.frame, name, [self.operand(part) for part in arguments])
            case Case(branches, default):
                chosen = [(self.verdict(when), self.operand(then)) for when, then in branches]
                return self.choice(chosen, self.operand(default), "CASE")
            case Cast(inner):
                return cast(self.frame, self.operand(inner), node)
            case Shift(inner, amount, unit):
                return shift(self.frame, self.operand(inner), self.operand(amount), unit)
            case JsonPath(inner, path, unquoted):
                return json_value(self.frame, self.operand(inner), path, unquoted=unquoted)
            case _:
                verdict = self.verdict(node)
                return self.frame.computed("int", verdict.number, verdict.inputs, "a comparison")

    def date(self, kind: str, text: str) -> Operand:
        """A date as it is written."""
        said = parse_moment(text)
        if said is None or said.is_day != (kind == "DATE"):
            form = "YYYY-MM-DD" if kind == "DATE" else "YYYY-MM-DD HH:MM:SS"
            raise ConditionError(
                f"{text!r} is not a {kind.lower()}", remedy=f"write {kind} '{form}'"
            )
        digits = len(said.fraction)
        made = self.frame.constant(said.day if said.is_day else said.text(digits))
        return replace(made, kind="day" if said.is_day else "moment", digits=digits)

    def coalesce(self, operands: list[Operand]) -> Operand:
        """The first that is not NULL."""
        branches = [
            (Verdict(f"({part.code} is not None)", "False", _inputs([part])), part)
            for part in operands[:-1]
        ]
        return self.choice(branches, operands[-1], "COALESCE")

    def choice(
        self, branches: Sequence[tuple[Verdict, Operand]], default: Operand, what: str
    ) -> Operand:
        """The operand of the first branch whose verdict is true, else `default`."""
        operands = unified(self.frame, [*(part for _, part in branches), default], what)
        valued = [part for part in operands if not part.is_null]
        if not valued:
            return self.frame.constant(None)
        code = operands[-1].code
        for (verdict, _), part in reversed(list(zip(branches, operands[:-1], strict=True))):
            code = f"({part.code} if {verdict.true} else {code})"
        inputs = _inputs(operands).union(*(verdict.inputs for verdict, _ in branches))
        text = f"{what}({', '.join(part.text for part in operands)})"
        made = self.frame.computed(valued[0].kind, code, inputs, text)
        return replace(
            made,
            collation=shared_collation(valued),
            weak=all(part.weak for part in valued),
            digits=max(part.digits for part in valued),
            is_printable=made.kind != "decimal" and all(part.is_printable for part in valued),
        )

    def negative(self, operand: Operand) -> Operand:
        """Minus `operand`."""
        value = self.frame.numeric(operand)
        if value.is_null:
            return value
        kind: Kind = value.kind if value.kind in ("decimal", "float") else "int"
        # Python's minus would round a decimal to the thread's precision.
        code = (
            f"{self.frame.name(EXACT.minus)}({value.code})"
            if kind == "decimal"
            else f"-{value.code}"
        )
        guarded = f"({code} if {value.present} else None)"
        return self.frame.computed(kind, guarded, _inputs([value]), f"-{operand.text}")

    def arithmetic(self, operator: str, left: Operand, right: Operand) -> Operand:
        """`left operator right`; NULL where either is, and where a divisor is 0."""
        text = f"{left.text} {operator} {right.text}"
        left, right = self.frame.numeric(left), self.frame.numeric(right)
        if left.is_null or right.is_null:
            return self.frame.constant(None)
        kinds = {left.kind, right.kind}
        if operator in BITWISE:
            return self.bitwise(operator, left, right, text)
        if "float" in kinds:
            if operator == "DIV":
                raise ConditionError(
                    f"DIV of a float or text: {text}", remedy="use / or whole numbers and decimals"
                )
            left, right = self.frame.approximate(left), self.frame.approximate(right)
            kind: Kind = "float"
        else:
            exact = operator == "/" or (operator != "DIV" and "decimal" in kinds)
            kind = "decimal" if exact else "int"
        code = self._arithmetic_code(operator, kind, left, right)
        guarded = f"({code} if {left.present} and {right.present} else None)"
        return self.frame.computed(kind, guarded, _inputs([left, right]), text)

    def bitwise(self, operator: str, left: Operand, right: Operand, text: str) -> Operand:
        """`left operator right` over 64 bits without a sign."""
        if not {left.kind, right.kind} <= {"int", "bit", "year"}:
            raise ConditionError(f"{text}: bits of what is not a whole number", remedy="use CAST")
        return self.frame.applied("int", BITWISE[operator], [left, right], text)

    def _arithmetic_code(self, operator: str, kind: Kind, left: Operand, right: Operand) -> str:
        functions: dict[str, Callable[..., object]] = {
            "/": divide_float if kind == "float" else divide,
            "%": remainder_float if kind == "float" else remainder,
            "DIV": divide_whole,
        }
        if kind == "decimal":
            # Python's operators would round to the thread's precision.
            functions |= {"+": EXACT.add, "-": EXACT.subtract, "*": EXACT.multiply}
        if operator == "%" and kind == "int" and right.is_constant and right.value > 0:
            # By far the commonest remainder, written out: Python's has the sign of the divisor.
            return f"({left.code} % {right.code} if {left.code} >= 0 else -(-{left.code} % {right.code}))"
        if operator in functions:
            return f"{self.frame.name(functions[operator])}({left.code}, {right.code})"
        return f"({left.code} {operator} {right.code})"

    def compare(self, operator: CompareOperator, left: Operand, right: Operand) -> Verdict:
        """`left operator right`."""
        if operator == "<=>":
            return self.null_safe_equal(left, right)
        if left.is_null or right.is_null:
            return ALWAYS_NULL
        left, right = self.frame.alike(left, right)
        test = f"{left.code} {_PYTHON_OPERATORS[operator]} {right.code}"
        present = f"{left.present} and {right.present}"
        return Verdict(
            f"({present} and {test})", f"({present} and not {test})", _inputs([left, right])
        )

    def null_safe_equal(self, left: Operand, right: Operand) -> Verdict:
        """`left <=> right`: NULL equals NULL, and nothing else."""
        if left.is_null or right.is_null:
            both = left.is_null and right.is_null
            other = right if left.is_null else left
            test = "True" if both else f"({other.code} is None)"
        else:
            left, right = self.frame.alike(left, right)
            test = f"({left.code} == {right.code})"
        return Verdict(test, f"(not {test})", _inputs([left, right]))

    def among(self, operand: Operand, choices: list[Operand]) -> Verdict:
        """`operand IN (choices)`: by a set where all choices are constants of one form."""
        if operand.is_null:
            return ALWAYS_NULL
        values = [choice for choice in choices if not choice.is_null]
        pairs = [self.frame.alike(operand, choice) for choice in values]
        if (
            all(choice.is_constant for choice in values)
            and len({left.code for left, _ in pairs}) == 1
        ):
            left = pairs[0][0]
            members = self.frame.name(frozenset(right.value for _, right in pairs))
            true = f"({left.present} and {left.code} in {members})"
            false = f"({left.present} and {left.code} not in {members})"
            if len(values) < len(choices):
                false = "False"  # Not among the others, but NULL might be it.
            return Verdict(true, false, _inputs([left]))
        return _combine("OR", [self.compare("=", operand, choice) for choice in choices])

    def like(self, operand: Operand, pattern: str, escape: str) -> Verdict:
        """`operand LIKE pattern`."""
        what = f"like {pattern!r} {escape!r}"
        if operand.kind == "bytes":
            return self.matching(operand, like_matcher_bytes(pattern, escape), what)
        operand = as_text(self.frame, operand, "LIKE")
        return self.matching(operand, like_matcher(pattern, escape, operand.collation), what)

    def matching(self, operand: Operand, matches: Callable[..., bool], what: str) -> Verdict:
        """Whether `operand` matches, each distinct value tried once."""
        if operand.is_null:
            return ALWAYS_NULL
        found = self.frame.converted(operand, "int", matches, what)
        return Verdict(f"({found.code} is True)", f"({found.code} is False)", _inputs([found]))

    def is_null(self, node: Expression) -> Verdict:
        """`node IS NULL`, which any column can answer."""
        if isinstance(node, Predicate):
            inner = self.verdict(node)
            known = f"({inner.true} or {inner.false})"
            return Verdict(f"(not {known})", known, inner.inputs)
        operand = self.operand(node)
        return Verdict(
            f"({operand.code} is None)", f"({operand.code} is not None)", _inputs([operand])
        )

    def truth(self, operand: Operand) -> Verdict:
        """A value as a predicate: true where it is not 0."""
        if operand.is_null:
            return ALWAYS_NULL
        operand = self.frame.numeric(operand)
        present = operand.present
        return Verdict(
            f"({present} and {operand.code} != 0)",
            f"({present} and {operand.code} == 0)",
            _inputs([operand]),
        )

    def evaluator(self, node: Expression) -> Evaluator:
        """The finished function."""
        verdict = self.verdict(node)
        return typed(Evaluator, self.finished(f"[{verdict.value} for {loop(verdict.inputs)}]"))

    def finished(self, result: str) -> Callable[[Mapping[str, Sequence[Value]], int], list[Any]]:
        """The function of a batch's columns and its number of rows that gives `result`."""
        body = [*self.frame.lines, f"return {result}"]
        source = "def evaluate(columns, rows):\n" + "".join(f"    {line}\n" for line in body)
        if len(source) > CODE_LENGTH_MAX:
            raise ConditionError("too long a condition", remedy="split it into several rules")
        # The source is made of operators and generated names only; every value of the user's is
        # reached through `names`.
        exec(compile(source, "<condition>", "exec"), self.frame.names)  # noqa: S102
        return typed(
            Callable[[Mapping[str, Sequence[Value]], int], list[Any]], self.frame.names["evaluate"]
        )


def _combine(operator: str, parts: Sequence[Verdict]) -> Verdict:
    inputs = frozenset[str]().union(*(part.inputs for part in parts))
    if operator == "AND":
        true = " and ".join(part.true for part in parts)
        false = " or ".join(part.false for part in parts)
        return Verdict(f"({true})", f"({false})", inputs)
    if operator == "OR":
        true = " or ".join(part.true for part in parts)
        false = " and ".join(part.false for part in parts)
        return Verdict(f"({true})", f"({false})", inputs)
    known = " and ".join(f"({part.true} or {part.false})" for part in parts)
    odd = " ^ ".join(f"bool({part.true})" for part in parts)
    return Verdict(f"({known} and {odd})", f"({known} and not ({odd}))", inputs)


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL condition over the columns of one row."""

    text: str
    """As the user wrote it."""
    columns: tuple[str, ...]
    """The columns it looks at, as written; MySQL's column names know no case."""
    _expression: Expression = field(repr=False)
    _evaluators: dict[tuple[Column, ...], Evaluator] = field(
        default_factory=dict, repr=False, compare=False
    )

    def check(self, schema: Iterable[Column]) -> None:
        """Returns if the condition can be evaluated on a table of these columns.

        Raises:
            ConditionError: the table lacks a column, or has one of a type that can't be used so.
        """
        self._evaluator(schema)

    def evaluate(
        self, columns: Mapping[str, Sequence[Value]], schema: Iterable[Column], rows: int
    ) -> list[bool | None]:
        """Whether each of `rows` rows meets the condition; None where it is NULL.

        `columns` holds the rows' values by column name as `schema` spells it, at least for the columns
        of the condition. Timestamps are compared in UTC.

        Raises:
            ConditionError: as `check`.
        """
        return self._evaluator(schema)(columns, rows)

    def _evaluator(self, schema: Iterable[Column]) -> Evaluator:
        by_name = {column.name.lower(): column for column in schema}
        missing = [name for name in self.columns if name.lower() not in by_name]
        if missing:
            raise ConditionError(
                f"the table has no column {', '.join(missing)}",
                where=self.text,
                remedy=f"its columns are {', '.join(column.name for column in by_name.values())}",
            )
        key = tuple(by_name[name.lower()] for name in self.columns)
        evaluator = self._evaluators.get(key)
        if evaluator is None:
            with named_in_errors(self.text):
                evaluator = Compiler(key).evaluator(self._expression)
            if len(self._evaluators) >= TABLES_MAX:
                self._evaluators.clear()
            self._evaluators[key] = evaluator
        return evaluator


@lru_cache(maxsize=1024)
def compile_condition(text: str) -> Condition:
    """The condition that `text` says, in MySQL's SQL.

    Raises:
        ConditionError: not SQL, or something in it that is not supported; the text says what is.
    """
    expression = parse_expression(text)
    return Condition(text, columns_of(expression), expression)
