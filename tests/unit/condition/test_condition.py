"""A condition as its users meet it: names, batches, tables it does not fit, kept programs."""

from __future__ import annotations

import random

import pytest

from gravity.batch import Column, Value
from gravity.condition import Condition, ConditionError, compile_condition, program
from tests.unit.condition.case import CASES, JSON, Case


def decide(text: str, type_text: str, *cells: Value) -> list[bool | None]:
    collation = "utf8mb4_general_ci" if "char" in type_text else None
    schema = (Column("c", type_text, collation=collation),)
    return compile_condition(text).evaluate({"c": cells}, schema, len(cells))


def test_each_column_is_named_once_as_first_written() -> None:
    condition = compile_condition(
        "Amount > 1 AND (region = 'US' OR `AMOUNT` < 0) AND REGION <> 'x'"
    )
    assert condition.columns == ("Amount", "region")
    assert condition.text.startswith("Amount > 1")


def test_a_condition_without_columns_decides_every_row_alike() -> None:
    condition = compile_condition("1 + 1 = 2")
    assert condition.columns == ()
    assert condition.evaluate({}, (), 3) == [True, True, True]
    assert compile_condition("NULL").evaluate({}, (), 2) == [None, None]


def test_an_empty_batch_has_no_verdicts() -> None:
    assert decide("c = 1 AND c LIKE '1%'", "int") == []


def test_column_names_know_no_case() -> None:
    schema = (Column("Log_Level", "varchar(8)", collation="utf8mb4_general_ci"),)
    columns = {"Log_Level": ["error", "info"]}
    assert compile_condition("LOG_LEVEL = 'ERROR'").evaluate(columns, schema, 2) == [True, False]


def test_names_that_are_words_of_sql_or_python_are_columns_in_backticks() -> None:
    names = ("order", "class", "k1", "v0", "rows", "columns", "each", 'a"b', "größe")
    schema = tuple(Column(name, "int") for name in names)
    columns = {name: [number] for number, name in enumerate(names)}
    text = " AND ".join(f"`{name}` = {number}" for number, name in enumerate(names))
    assert compile_condition(text).evaluate(columns, schema, 1) == [True]


def test_only_the_columns_of_the_condition_are_needed() -> None:
    schema = (Column("a", "int"), Column("b", "json"), Column("c", "int"))
    assert compile_condition("c = 2").evaluate({"c": [1, 2]}, schema, 2) == [False, True]


@pytest.mark.parametrize("case", [*CASES, *JSON], ids=str)
def test_not_turns_every_verdict_but_null(case: Case) -> None:
    schema = (Column("c", case.type, collation=case.collation),)
    [verdict] = compile_condition(f"NOT ({case.condition})").evaluate({"c": [case.cell]}, schema, 1)
    assert verdict is (None if case.verdict is None else not case.verdict)


@pytest.mark.parametrize(
    "predicate", ["LIKE '1%'", "REGEXP '^1'", "RLIKE '^1'", "IN (1, 12)", "BETWEEN 1 AND 12"]
)
def test_a_negated_predicate_is_not_of_the_predicate(predicate: str) -> None:
    cells = (1, 2, 12, None)
    assert decide(f"c NOT {predicate}", "int", *cells) == decide(
        f"NOT (c {predicate})", "int", *cells
    )
    assert decide(f"c NOT {predicate}", "int", 1, 2, None) == [False, predicate[0] != "B", None]


def test_a_row_s_verdict_depends_on_that_row_alone() -> None:
    words = ["vip", "VIP ", "café", "", "12", "x", None]
    cells = random.Random(7).choices(words, k=200)
    text = "c = 'vip' OR c > 11 XOR c LIKE '_' OR c IN ('CAFE', 'y')"
    together = decide(text, "varchar(9)", *cells)
    assert together == [decide(text, "varchar(9)", cell)[0] for cell in cells]


def test_a_missing_column_is_named_with_those_there_are() -> None:
    with pytest.raises(ConditionError, match=r"no column amuont.*its columns are c") as caught:
        decide("amuont > 1", "int", 1)
    assert caught.value.where == "amuont > 1"


@pytest.mark.parametrize(
    ("text", "type_text", "words"),
    [
        ("c + 1 = 2", "json", "c (JSON) can't be used as a number"),
        ("c = TRUE", "json", "c (JSON)"),
        ("c = 'x'", "geometry", "geometry"),
        ("LOWER(c) = 'x'", "double", "LOWER of c (float)"),
        ("YEAR(c) = 2024", "varchar(9)", "YEAR of c (text)"),
        ("c + INTERVAL 1 DAY > '2024-01-01'", "int", "+ INTERVAL of c (whole number)"),
        ("LEFT(c, 1.5) = 'x'", "varchar(9)", "LEFT takes a whole number"),
        ("IF(c > '2024-01-01', c, 'never') = 'x'", "date", "CASE of c (date) and 'never' (text)"),
        ("c & 1", "varchar(9)", "bits of what is not a whole number"),
        ("CAST(c AS UNSIGNED) = 1", "double", "c (float)"),
        ("LENGTH(c) = 1", "geometry", "geometry"),
        ("c > 10", "datetime", "datetime"),
        ("c = 'soon'", "date", "'soon' is not a date"),
        ("c = '2024-02-30'", "date", "is not a date"),
        ("c = '1h'", "time", "is not a time"),
        ("c = 24", "year", "not a year"),
        ("c = 'x'", "bit(8)", "c (bit)"),
        ("c + 1 = 2", "enum('a','b')", "enum"),
        ("c = 1", "varbinary(9)", "bytes"),
        ("c LIKE '1%'", "double", "LIKE of c (float)"),
        ("c DIV 2 = 1", "varchar(9)", "DIV of a float or text"),
    ],
)
def test_a_column_that_can_t_be_used_so_is_refused_by_name(
    text: str, type_text: str, words: str
) -> None:
    schema = (Column("c", type_text),)
    with pytest.raises(ConditionError) as caught:
        compile_condition(text).check(schema)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_null_can_be_asked_of_every_type() -> None:
    for type_text in ("json", "geometry", "blob", "bit(3)", "time", "set('a')", "longtext"):
        assert decide("c IS NULL", type_text, None) == [True]
        assert decide("c IS NOT NULL", type_text, None) == [False]


def test_columns_of_collations_that_don_t_mix_are_refused() -> None:
    schema = (
        Column("a", "varchar(9)", collation="utf8mb4_general_ci"),
        Column("b", "varchar(9)", collation="utf8mb4_unicode_ci"),
        Column("c", "varchar(9)", collation="utf8mb4_bin"),
    )
    with pytest.raises(ConditionError, match="different collations"):
        compile_condition("a = b").check(schema)
    cells: dict[str, list[Value]] = {"a": ["X"], "b": ["x"], "c": ["x"]}
    assert compile_condition("a = c").evaluate(cells, schema, 1) == [False]


def test_a_day_meets_moments_of_every_precision_at_midnight() -> None:
    schema = (Column("d", "date"), Column("m", "datetime"), Column("n", "timestamp(3)"))
    cells: dict[str, list[Value]] = {
        "d": ["2024-03-01", "2024-03-01", None],
        "m": ["2024-03-01 00:00:00", "2024-03-01 00:00:01", "2024-03-01 00:00:00"],
        "n": ["2024-03-01 00:00:00.000", "2024-03-01 00:00:01.001", None],
    }
    assert compile_condition("d = m").evaluate(cells, schema, 3) == [True, False, None]
    assert compile_condition("n = d").evaluate(cells, schema, 3) == [True, False, None]
    assert compile_condition("m < n").evaluate(cells, schema, 3) == [False, True, None]


def test_a_program_is_made_once_per_table_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "TABLES_MAX", 3)
    condition = compile_condition("c = 1 AND 'kept' = 'kept'")
    made: list[object] = []
    compiler = program.Compiler

    def counted(columns: tuple[Column, ...]) -> program.Compiler:
        made.append(columns)
        return compiler(columns)

    monkeypatch.setattr(program, "Compiler", counted)
    types = ("int", "bigint", "decimal(3,1)")
    for type_text in (*types, *types, "bigint"):
        cell = "1.0" if type_text.startswith("decimal") else 1
        assert condition.evaluate({"c": [cell]}, (Column("c", type_text),), 1) == [True]
    assert len(made) == 3
    for number in range(10):
        condition.check((Column("c", f"varchar({number})"),))
    assert len(condition._evaluators) <= 3


def test_texts_compile_to_one_condition_and_compare_by_text() -> None:
    assert compile_condition("c = 1") is compile_condition("c = 1")
    assert isinstance(compile_condition("c = 1"), Condition)
    assert compile_condition("c = 1") != compile_condition("c = 2")


def test_texts_of_a_condition_are_never_python() -> None:
    text = '__import__("os") \'\n\\'
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    assert decide(f"c = '{quoted}'", "varchar(40)", text, "x") == [True, False]


def test_large_conditions_are_evaluated() -> None:
    numbers = ", ".join(map(str, range(3000)))
    assert decide(f"c IN ({numbers})", "int", 2999, 3000) == [True, False]
    either = " OR ".join(f"c = {number}" for number in range(800))
    assert decide(either, "int", 799, 800, None) == [True, False, None]


@pytest.mark.parametrize(
    "text",
    ["MOD(c * c, 3)", "ROUND(c * c, -2)", "TRUNCATE(c * c, -2)", "ROUND(c * c - c * c, -1)", "CAST(c * c - c * c AS DECIMAL(9,2))"],
)  # fmt: skip
def test_what_overflows_stops_nothing(text: str) -> None:
    """MySQL refuses such a row; here it must not stop the router, which would meet it for ever."""
    assert decide(f"{text} = 0.5", "double", 1e308, -1e308, 1.0)[2] is False


@pytest.mark.parametrize("sign", ["", "+", "-", " \t-000"])
def test_a_text_of_any_length_is_cut_to_64_bits(sign: str) -> None:
    least, most = -(2**63), 2**63 - 1
    for digits in ("9" * 5000, "9" * 20, "9223372036854775808x", "9223372036854775809"):
        bound = least if "-" in sign else most
        assert decide(f"CAST(c AS SIGNED) = {bound}", "varchar(9999)", sign + digits) == [True]
    assert decide("CAST(c AS SIGNED) = 42", "varchar(9999)", "0" * 5000 + "42") == [True]
    assert decide("CAST(c AS SIGNED) = 0", "varchar(9999)", sign, sign + "0" * 5000) == [True, True]
