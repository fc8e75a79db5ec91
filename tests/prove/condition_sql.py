"""Random conditions and rows, by type, in the SQL that MySQL and MariaDB share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from gravity.batch import Column, Value

GENERAL, BINARY = "utf8mb4_general_ci", "utf8mb4_bin"


@dataclass(frozen=True)
class Field:
    """A column of the table and the cells it is filled from."""

    name: str
    type: str
    cells: tuple[Value, ...]
    collation: str | None = None

    @property
    def definition(self) -> str:
        """As it stands in CREATE TABLE."""
        collate = f" CHARACTER SET utf8mb4 COLLATE {self.collation}" if self.collation else ""
        return f"`{self.name}` {self.type}{collate} NULL"

    @property
    def column(self) -> Column:
        """As gravity knows it."""
        return Column(self.name, self.type, collation=self.collation)


WORDS = (
    "vip",
    "VIP",
    "Vip ",
    "us",
    "EU",
    "error",
    "ERROR: 42",
    "",
    " x",
    "abcabc",
    "a_b",
    "10%",
    "café",
)
DAYS = ("2024-02-29", "2023-12-31", "2024-01-01", "1999-07-15", "2024-03-01")
JSONS = (
    '{"a": 1, "b": "vip", "c": [1, 2, {"d": null}], "e": true}',
    '{"a": 2.5, "b": "VIP", "c": []}',
    '{"a": "1", "b": null}',
    "[1, 2]",
    '{"x y": {"a": -7}}',
)
FIELDS = (
    Field("a", "int", (-7, -1, 0, 1, 2, 3, 10, 42, 100000)),
    Field("g", "tinyint", (-1, 0, 1, 2, 3, 5)),
    Field("i", "tinyint", (-2, 0, 1, 2, 4)),
    Field("u", "int unsigned", (0, 1, 2, 9, 4000000000)),
    Field("b", "bigint", (-1000000, -3, 0, 5, 7, 12, 123456789)),
    Field("c", "decimal(12,2)", ("-10.50", "-0.01", "0.00", "1.50", "2.25", "2.50", "99.99", "10000.00")),
    Field("d", "decimal(20,6)", ("-1.500000", "0.000001", "0.500000", "3.141593", "12345.678900")),
    Field("f", "double", (-2.5, -1.0, 0.0, 0.1, 0.5, 1.5, 2.5, 1000.25)),
    Field("s", "varchar(20)", WORDS, GENERAL),
    Field("z", "varchar(20)", WORDS, BINARY),
    Field("n", "varchar(20)", ("12", "12abc", "abc", "-3", " 7", "1.50", "1e2", "", "0"), GENERAL),
    Field("k", "enum('vip','us','Error')", ("vip", "us", "Error"), GENERAL),
    Field("y", "date", DAYS),
    Field("m", "datetime", tuple(f"{day} {time}" for day in DAYS for time in ("00:00:00", "23:59:59"))),
    Field("p", "datetime(3)", tuple(f"{day} 12:30:15.{ms}" for day in DAYS for ms in ("000", "499", "500"))),
    Field("h", "time", ("-01:30:00", "00:00:00", "12:30:45", "100:00:59")),
    Field("j", "json", JSONS),
)  # fmt: skip

QUOTED_NUMBERS = ("'1'", "'2.5'", "'-7'", "'true'", "'null'", "'zzz'")
FLAT_OPERATORS = (
    *("+", "-", "*", "%", "DIV", "MOD", "&", "|", "<<", ">>", "=", "<>", "<", ">=", "<=>"),
    *(
        "AND",
        "OR",
        "XOR",
        "&&",
        "||",
        "AND",
        "OR",
        "IN",
        "NOT IN",
        "BETWEEN",
        "LIKE",
        "REGEXP",
        "IS",
    ),
)
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=", "<=>")
Maker = Callable[[int], str]


FLAT_SHARE = 0.2
"""Of the conditions: those without parentheses, of which nearly half are refused as ambiguous."""


@dataclass
class Sentences:
    """Makes conditions for MySQL or MariaDB, without those on which the two disagree or one is wrong.

    docs/routing.md lists them under "Where servers disagree"; each is left out, or written another way,
    for that server alone.
    """

    random: Random
    is_mysql: bool
    depth_max: int = 4
    _texts: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {"s": ("s", "s", "n", "k"), "z": ("z",)}, repr=False
    )

    def condition(self) -> str:
        """A predicate."""
        if self.random.random() < 0.02:
            return f"({self.number(3)} <=> {self.number(2)})"
        if self.random.random() < FLAT_SHARE:
            return self.flat()
        return self.truth(self.depth_max)

    def flat(self) -> str:
        """Operators in a row without parentheses: what binds tighter is for the grammar to know."""
        parts = [self.flat_operand()]
        for _ in range(self.random.randint(1, 4)):
            operator = self.pick(FLAT_OPERATORS)
            if operator in ("IN", "NOT IN"):
                parts.append(f"{operator} (1, 2)")
            elif operator == "BETWEEN":
                parts.append(f"BETWEEN {self.pick(('0', '1', 'g'))} AND {self.pick(('2', 'i'))}")
            elif operator in ("LIKE", "REGEXP"):
                parts.append(f"{operator} '1'")
            elif operator == "IS":
                parts.append(self.pick(("IS NULL", "IS NOT NULL", "IS TRUE", "IS NOT FALSE")))
            else:
                parts.append(f"{operator} {self.flat_operand()}")
        text = " ".join(parts)
        return text if not self.is_mysql else text.replace("<=>", "=")

    def flat_operand(self) -> str:
        return self.pick(("", "", "", "- ", "NOT ", "! ")) + self.pick("gigi123")

    def one_of(self, *makers: Maker, depth: int) -> str:
        return self.random.choice(makers)(depth)

    def pick(self, items: Sequence[str]) -> str:
        return self.random.choice(items)

    # Predicates.

    def truth(self, depth: int) -> str:
        leaves = (self.compared, self.compared, self.ranged, self.listed, self.matched, self.null)
        if depth <= 0:
            return self.one_of(*leaves, depth=0)
        return self.one_of(
            *leaves, self.joined, self.joined, self.negated, self.judged, self.rows, depth=depth - 1
        )

    def joined(self, depth: int) -> str:
        operator = self.pick(("AND", "OR", "XOR"))
        return f"({self.truth(depth)} {operator} {self.truth(depth)})"

    def negated(self, depth: int) -> str:
        return f"(NOT {self.truth(depth)})"

    def judged(self, depth: int) -> str:
        what = self.pick(("TRUE", "FALSE", "UNKNOWN", "NOT TRUE", "NOT FALSE", "NOT NULL"))
        return f"({self.truth(depth)} IS {what})"

    def null(self, depth: int) -> str:
        value = self.one_of(self.number, self.strong_text, self.moment, depth=depth)
        return f"({value} IS {self.pick(('NULL', 'NOT NULL'))})"

    def rows(self, depth: int) -> str:
        operator = self.pick(("=", "<>", "<=>"))
        left = f"({self.whole(depth)}, {self.strong_text(0)})"
        right = f"({self.whole(depth)}, {self.quoted()})"
        if not self.is_mysql:
            return f"(({left} {operator} {right}) IS TRUE)"
        return self.known(f"({left} {operator} {right})", operator)

    def known(self, comparison: str, operator: str) -> str:
        """`comparison` in a form in which MySQL knows that it is not NULL."""
        return f"IF({comparison}, 1, 0)" if self.is_mysql and operator == "<=>" else comparison

    def compared(self, depth: int) -> str:
        operator = self.pick(COMPARISONS)
        return self.known(self.comparison(operator, depth), operator)

    def comparison(self, operator: str, depth: int) -> str:
        kind = self.random.randrange(8)
        if kind < 3:
            return f"({self.number(depth)} {operator} {self.number(depth)})"
        if kind == 3:
            text = self.strong_text(depth) if self.is_mysql else self.pick("szn")
            return f"({text} {operator} {self.whole(0)})"
        if kind == 4:
            return f"({self.moment(depth)} {operator} {self.moment_or_text(depth)})"
        if kind == 5:
            return self.of_json(operator)
        if kind == 6 and self.random.random() < 0.3:
            return f"(h {operator} {self.pick(self.times())})"
        family = self.pick("sz")
        return f"({self.text(family, depth)} {operator} {self.text_or_quoted(family, depth)})"

    def times(self) -> tuple[str, ...]:
        return ("'00:00:00'", "'12:30:45'", "'-01:30:00'", "'99:00:00'")

    def ranged(self, depth: int) -> str:
        negation = self.pick(("", "NOT "))
        if self.random.random() < 0.5:
            return f"({self.exact(depth)} {negation}BETWEEN {self.exact(0)} AND {self.exact(0)})"
        low, high = self.day_text(), self.day_text()
        return f"({self.moment(depth)} {negation}BETWEEN {low} AND {high})"

    def listed(self, depth: int) -> str:
        negation = self.pick(("", "NOT "))
        count = self.random.randint(1, 4)
        if self.random.random() < 0.5:
            choices = [self.pick(("NULL", *self.whole_texts(), "1.5")) for _ in range(count)]
            return f"({self.exact(depth)} {negation}IN ({', '.join(choices)}))"
        texts = ", ".join(self.quoted() for _ in range(count))
        return f"({self.strong_text(depth)} {negation}IN ({texts}))"

    def matched(self, depth: int) -> str:
        negation = self.pick(("", "NOT "))
        if self.random.random() < 0.7:
            pattern = self.pick(("v%", "%IP", "_ip%", "a|_b", "%bc%", "", "%", "1%", "ERR%4_"))
            escape = " ESCAPE '|'" if "|" in pattern else ""
            return f"({self.strong_text(depth)} {negation}LIKE '{pattern}'{escape})"
        pattern = self.pick(("^v", "ip ?$", "[0-9]+", "^(us|eu)$", "a.c", "^$"))
        return f"({self.pick('sznk')} {negation}REGEXP '{pattern}')"

    def of_json(self, operator: str) -> str:
        path = self.pick(("$.a", "$.b", "$.c[0]", "$.c[2].d", "$[1]", '$."x y".a', "$.e", "$"))
        if self.is_mysql and self.random.random() < 0.5:
            value = self.pick(("1", "2.5", "'vip'", "-7", "'1'"))
            return f"(j->'{path}' {operator} {value})"
        plain = f"JSON_UNQUOTE(JSON_EXTRACT(j, '{path}'))"
        if not self.is_mysql:
            operator = self.pick(("=", "<>", "<=>"))
            plain = plain.replace("$.b", "$.a")
            return f"({plain} {operator} {self.pick(QUOTED_NUMBERS)})"
        if self.random.random() < 0.4:
            return f"({plain} LIKE '{self.pick(('v%', '%1%', '[%'))}')"
        return f"({plain} {operator} {self.quoted()})"

    # Numbers.

    def number(self, depth: int) -> str:
        return self.one_of(self.exact, self.exact, self.exact, self.floating, depth=depth)

    def exact(self, depth: int) -> str:
        return self.one_of(self.whole, self.whole, self.decimal, depth=depth)

    def whole_texts(self) -> tuple[str, ...]:
        return ("-2", "0", "1", "2", "3", "7", "100", "42")

    def whole(self, depth: int) -> str:
        column = self.random.choice
        if depth <= 0:
            return column(("a", "a", "b", "u", *self.whole_texts(), "NULL"))
        inner = depth - 1
        makers: tuple[Maker, ...] = (
            lambda d: f"({self.whole(d)} {self.pick(('+', '-', '*', '%', 'DIV', 'MOD'))} {self.whole(d)})",
            lambda d: f"(- {self.whole(d)})",
            lambda _: f"({self.pick(('a & ', 'b & ', 'u | '))}{self.pick(('1', '4', '255'))})",
            lambda d: f"ABS({self.whole(d)})",
            lambda d: f"SIGN({self.exact(d)})",
            lambda d: f"MOD({self.whole(d)}, {self.pick(('2', '3', '4', '-5', '0'))})",
            lambda d: f"{self.pick(('FLOOR', 'CEILING', 'CEIL'))}({self.decimal(d)})",
            lambda d: f"{self.pick(('ROUND', 'TRUNCATE'))}({self.whole(d)}, {self.pick(('-1', '0', '2'))})",
            lambda d: f"{self.pick(('LENGTH', 'CHAR_LENGTH'))}({self.strong_text(d)})",
            lambda d: f"{self.pick(('YEAR', 'MONTH', 'DAY', 'QUARTER', 'DAYOFWEEK', 'WEEKDAY', 'DAYOFYEAR', 'TO_DAYS', 'DAYOFMONTH'))}({self.moment(d)})",
            lambda _: f"{self.pick(('HOUR', 'MINUTE', 'SECOND'))}({self.pick(('m', 'p', 'h', 'm'))})",
            lambda _: f"EXTRACT({self.pick(('YEAR', 'MONTH', 'DAY', 'HOUR'))} FROM {self.pick(('m', 'p'))})",
            lambda d: f"DATEDIFF({self.moment(d)}, {self.moment_or_text(d)})",
            lambda d: f"CAST({self.one_of(self.exact, self.floating, self.numeral, depth=d)} AS SIGNED)",
            lambda _: f"LOCATE({self.quoted()}, {self.strong_text(0)})",
            lambda _: f"CRC32({self.strong_text(0)})",
            lambda d: self.chosen(self.whole, d),
            lambda d: f"{self.pick(('GREATEST', 'LEAST'))}({self.whole(d)}, {self.whole(d)})",
            lambda _: self.truth(0),
        )  # fmt: skip
        return self.one_of(*makers, depth=inner)

    def numeral(self, depth: int) -> str:
        return "n" if depth <= 0 else "TRIM(n)"

    def decimal(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(("c", "d", "1.5", "-0.25", "10000.00", "c", "d"))
        makers: tuple[Maker, ...] = (
            lambda d: f"({self.decimal(d)} {self.pick(('+', '-', '*'))} {self.exact(d)})",
            self.remainder,
            lambda d: f"ABS({self.decimal(d)})",
            lambda d: f"{self.pick(('ROUND', 'TRUNCATE'))}({self.decimal(d)}, {self.pick(('-1', '0', '1', '3'))})",
            lambda d: f"ROUND({self.decimal(d)})",
            lambda d: f"CAST({self.one_of(self.exact, self.numeral, depth=d)} AS DECIMAL({self.pick(('10,2', '6,1', '5', '20,4'))}))",
            lambda d: self.chosen(self.decimal, d),
            self.quotient,
        )  # fmt: skip
        return self.one_of(*makers, depth=depth - 1)

    def quotient(self, depth: int) -> str:
        if not self.is_mysql:
            return self.decimal(0)
        quotient = f"({self.exact(0)} / {self.exact(0)})"
        # Inside CASE and the like MySQL cuts a quotient to the digits it shows.
        return quotient if depth == self.depth_max - 2 else f"ROUND({quotient}, 3)"

    def remainder(self, depth: int) -> str:
        rest = f"({self.decimal(depth)} % {self.exact(depth)})"
        return rest if self.is_mysql else f"ABS({rest})"

    def floating(self, depth: int) -> str:
        if depth <= 0:
            return self.pick(("f", "f", "1e0", "2.5e0", "-1e-1"))
        makers: tuple[Maker, ...] = (
            lambda d: (
                f"({self.floating(d)} {self.pick(('+', '-', '*', '/', '%'))} {self.number(d)})"
            ),
            lambda d: f"{self.pick(('ABS', 'FLOOR', 'CEIL', 'ROUND'))}({self.floating(d)})",
            lambda _: f"ROUND({self.floating(0)}, {self.pick(('1', '0', '-1'))})",
            lambda d: f"(n {self.pick(('+', '-', '*'))} {self.whole(d)})",
            lambda d: self.chosen(self.floating, d),
        )
        return self.one_of(*makers, depth=depth - 1)

    # Texts.

    def quoted(self) -> str:
        return f"'{self.pick((*WORDS, '12', '2024-01-01', 'zzz'))}'"

    def strong_text(self, depth: int) -> str:
        return self.text(self.pick("ssz"), depth)

    def text_or_quoted(self, family: str, depth: int) -> str:
        return self.quoted() if self.random.random() < 0.7 else self.text(family, depth)

    def text(self, family: str, depth: int) -> str:
        """A text in the collation of `family`'s columns."""
        if depth <= 0:
            return self.pick(self._texts[family])
        makers: tuple[Maker, ...] = (
            lambda d: f"{self.pick(('LOWER', 'UPPER', 'TRIM', 'LTRIM', 'RTRIM', 'REVERSE', 'LCASE'))}({self.text(family, d)})",
            lambda d: f"CONCAT({self.text(family, d)}, {self.one_of(lambda _: self.quoted(), self.whole, lambda _: 'c', lambda _: 'y', depth=0)})",
            lambda d: f"{self.pick(('SUBSTRING', 'SUBSTR', 'MID'))}({self.text(family, d)}, {self.pick(('1', '2', '-2', '0', '9'))}, {self.pick(('1', '2', '0'))})",
            lambda d: f"SUBSTRING({self.text(family, d)}, {self.pick(('1', '2', '-3', 'a'))})",
            lambda d: f"{self.pick(('LEFT', 'RIGHT'))}({self.text(family, d)}, {self.pick(('1', '2', '-1', '30', 'a'))})",
            lambda d: f"TRIM({self.pick(('LEADING', 'TRAILING', 'BOTH'))} {self.pick(('x', 'a', 'abc', ' ')).join(chr(39) * 2)} FROM {self.text(family, d)})",
            lambda d: self.chosen(lambda inner: self.text(family, inner), d),
        )  # fmt: skip
        return self.one_of(*makers, depth=depth - 1)

    # Days and moments.

    def day_text(self) -> str:
        day = self.pick(DAYS)
        return self.pick((f"'{day}'", f"'{day} 12:30:15'", f"DATE '{day}'"))

    def moment_or_text(self, depth: int) -> str:
        return self.day_text() if self.random.random() < 0.5 else self.moment(depth)

    def moment(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("ymp")
        types = ("DATE", "DATETIME(3)", "DATETIME" if self.is_mysql else "DATE")
        makers: tuple[Maker, ...] = (
            lambda d: f"DATE({self.moment(d)})",
            lambda d: f"LAST_DAY({self.moment(d)})",
            lambda d: (
                f"{self.pick(('DATE_ADD', 'DATE_SUB'))}({self.moment(d)}, INTERVAL {self.amount()})"
            ),
            lambda d: f"({self.moment(d)} {self.pick(('+', '-'))} INTERVAL {self.amount()})",
            lambda d: f"CAST({self.moment(d)} AS {self.pick(types)})",
            lambda _: f"COALESCE(y, LAST_DAY({self.pick('ym')}))",
        )
        return self.one_of(*makers, depth=depth - 1)

    def amount(self) -> str:
        units = ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
        return f"{self.pick(('1', '2', '-1', '13', 'a % 10'))} {self.pick(units)}"

    # Choices.

    def chosen(self, maker: Maker, depth: int) -> str:
        """One of several values of one type."""
        one, other = maker(depth), maker(depth)
        return self.pick(
            (
                f"COALESCE({one}, {other})",
                f"IFNULL({one}, {other})",
                f"NULLIF({one}, {other})",
                f"IF({self.truth(0)}, {one}, {other})",
                f"(CASE WHEN {self.truth(0)} THEN {one} ELSE {other} END)",
                f"(CASE WHEN {self.truth(0)} THEN {one} WHEN {self.truth(0)} THEN {other} END)",
                f"(CASE {self.whole(0)} WHEN 1 THEN {one} WHEN 2 THEN {other} ELSE {one} END)",
            )
        )
