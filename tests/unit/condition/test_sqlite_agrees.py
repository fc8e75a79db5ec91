"""Random conditions on random rows: this and SQLite, where SQLite decides as MySQL does.

That is NULL logic, comparison, IN, BETWEEN, LIKE and arithmetic of whole numbers, and texts in a binary
and in a case-insensitive collation.
"""

import sqlite3
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gravity.batch import Column
from gravity.condition import compile_condition

SCHEMA = (
    Column("a", "int"),
    Column("b", "bigint"),
    Column("c", "smallint"),
    Column("f", "double"),
    Column("s", "varchar(9)", collation="utf8mb4_0900_bin"),
    Column("u", "varchar(9)", collation="utf8mb4_0900_bin"),
    Column("i", "varchar(9)", collation="utf8mb4_general_ci"),
    Column("j", "varchar(9)", collation="utf8mb4_general_ci"),
)
TABLE = """CREATE TABLE t (a INT, b INT, c INT, f REAL, s TEXT, u TEXT,
    i TEXT COLLATE NOCASE, j TEXT COLLATE NOCASE)"""


@dataclass(frozen=True)
class Sql:
    """An expression in both dialects."""

    mysql: str
    sqlite: str


def same(text: str) -> Sql:
    return Sql(text, text)


def join(template: str, *parts: Sql, sqlite: str | None = None) -> Sql:
    return Sql(
        template.format(*(part.mysql for part in parts)),
        (sqlite or template).format(*(part.sqlite for part in parts)),
    )


def both(operator: str) -> str:
    return f"({{0}} {operator} {{1}})"


small = st.integers(-3, 3)
letters = st.text("abAB", max_size=3)
number_leaf = (
    st.sampled_from("abc").map(same) | small.map(lambda n: same(f"({n})")) | st.just(same("NULL"))
)
comparison = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])


def number_above(inner: st.SearchStrategy[Sql]) -> st.SearchStrategy[Sql]:
    return (
        st.builds(
            lambda op, x, y: join(both(op), x, y),
            st.sampled_from(["+", "-", "*", "%"]),
            inner,
            inner,
        )
        | st.builds(lambda x, y: join(both("DIV"), x, y, sqlite=both("/")), inner, inner)
        | st.builds(lambda x: join("(-{0})", x), inner)
    )


numbers = st.recursive(number_leaf, number_above, max_leaves=4)
like_pattern = st.text("abA%_", max_size=4)


def in_list(operand: Sql, negated: str, choices: list[Sql]) -> Sql:
    places = ", ".join(f"{{{n}}}" for n in range(1, len(choices) + 1))
    return join(f"({{0}} {negated}IN ({places}))", operand, *choices)


def on(first: st.SearchStrategy[Sql], others: st.SearchStrategy[Sql]) -> st.SearchStrategy[Sql]:
    negated = st.sampled_from(["", "NOT "])
    choices = st.lists(others, min_size=1, max_size=3)
    return (
        st.builds(lambda op, x, y: join(both(op), x, y), comparison, first, others)
        | st.builds(lambda x, y: join(both("<=>"), x, y, sqlite=both("IS")), first, others)
        | st.builds(in_list, first, negated, choices)
        | st.builds(
            lambda x, n, y, z: join(f"({{0}} {n}BETWEEN {{1}} AND {{2}})", x, y, z),
            first,
            negated,
            others,
            others,
        )
    )


# Beside a column: two constants have the connection's collation, which SQLite doesn't know.
def texts(columns: str) -> st.SearchStrategy[Sql]:
    column = st.sampled_from(columns).map(same)
    return on(column, column | letters.map(lambda text: same(f"'{text}'")))


predicate_leaf = (
    on(numbers, numbers)
    | on(st.just(same("f")), numbers)
    | st.builds(lambda x, n: join(f"({{0}} IS {n}NULL)", x), numbers, st.sampled_from(["", "NOT "]))
    | texts("su")
    | texts("ij")
    | st.builds(
        lambda n, p: same(f"(i {n}LIKE '{p}')"), st.sampled_from(["", "NOT "]), like_pattern
    )
    | numbers
)


def predicate_above(inner: st.SearchStrategy[Sql]) -> st.SearchStrategy[Sql]:
    truth = st.sampled_from(["TRUE", "FALSE", "NOT TRUE", "NOT FALSE", "NULL", "NOT NULL"])
    return (
        st.builds(
            lambda op, x, y: join(both(op), x, y), st.sampled_from(["AND", "OR"]), inner, inner
        )
        | st.builds(
            lambda x, y: join(both("XOR"), x, y, sqlite="((NOT {0}) <> (NOT {1}))"), inner, inner
        )
        | st.builds(lambda x: join("(NOT {0})", x), inner)
        | st.builds(lambda x, t: join(f"({{0}} IS {t})", x), inner, truth)
        | st.builds(lambda x, y: join(both("="), x, y), inner, inner)
    )


conditions = st.recursive(predicate_leaf, predicate_above, max_leaves=6)
integer = st.none() | small
text = st.none() | letters
floats = st.none() | st.sampled_from([-1.5, -1.0, 0.0, 0.5, 1.0, 2.5])
rows = st.lists(
    st.tuples(integer, integer, integer, floats, text, text, text, text), min_size=1, max_size=6
)


@settings(max_examples=600, suppress_health_check=list(HealthCheck))
@given(condition=conditions, table=rows)
def test_sqlite_decides_the_same(condition: Sql, table: list[tuple[object, ...]]) -> None:
    database = sqlite3.connect(":memory:")
    database.execute(TABLE)
    database.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?)", table)
    expected = [
        None if value is None else bool(value)
        for (value,) in database.execute(f"SELECT {condition.sqlite} FROM t ORDER BY rowid")
    ]
    database.close()
    columns = {column.name: [row[index] for row in table] for index, column in enumerate(SCHEMA)}
    found = compile_condition(condition.mysql).evaluate(columns, SCHEMA, len(table))  # type: ignore[arg-type]
    assert found == expected
