"""What can't be a condition is refused when it is read, with the spot and what may be written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gravity.condition import ConditionError, compile_condition
from gravity.condition.expression import SUPPORTED
from gravity.condition.signature import SIGNATURES
from gravity.condition.syntax import TEXT_LENGTH_MAX


@pytest.mark.parametrize(
    ("text", "spot"),
    [
        ("SOUNDEX(name) = 'X'", "SOUNDEX(name)"),
        ("NOW() > created_at", "NOW()"),
        ("RAND() < 0.5", "RAND()"),
        ("YEAR(CURDATE()) = 2024", "CURDATE()"),
        ("created_at > UTC_TIMESTAMP()", "UTC_TIMESTAMP()"),
        ("UUID() = name", "UUID()"),
        ("a = 1 AND created_at > CURRENT_DATE", "CURRENT_DATE"),
        ("amount > (SELECT MAX(x) FROM t)", "(SELECT MAX(x) FROM t)"),
        ("EXISTS (SELECT 1)", "EXISTS"),
        ("@limit < amount", "@limit"),
        ("amount = ?", "?"),
        ("amount = :limit", "limit"),
        ("CAST(a AS BINARY) = '1'", "CAST(a AS BINARY)"),
        ("flags ^ 4", "flags ^ 4"),
        ("flags | 4 & 1", "4 & 1"),
        ("LEFT(name) = 'x'", "LEFT(name)"),
        ("name COLLATE utf8mb4_bin = 'x'", "COLLATE"),
        ("JSON_UNQUOTE(doc) = 1", "JSON_UNQUOTE(doc)"),
        ("a = 0x41", "x'41'"),
        ("a = TIME '10:00:00'", "10:00:00"),
        ("a + INTERVAL '1:30' HOUR_MINUTE > b", "INTERVAL"),
        ("a + INTERVAL 1.5 DAY > b", "INTERVAL"),
        ("(a, b) < (1, 2)", "(a, b)"),
        ("(a, b) = (1, 2, 3)", "(a, b)"),
        ("a = 'x' 'y'", "'x'"),
        ("*", "*"),
        ("a LIKE CONCAT(b, '%')", "CONCAT(b, '%')"),
        ("a MEMBER OF ('[1]')", "MEMBER OF"),
        ("COUNT(*) > 1", "COUNT(*)"),
    ],
)
def test_what_is_not_supported_is_named_with_what_is(text: str, spot: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    assert spot in caught.value.where
    assert caught.value.what
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NOW() > a", "NOW .its value is not the row's alone"),
        ("a > CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP .its value is not the row's alone"),
        ("SOUNDEX(a) = 'X'", "SOUNDEX is not supported"),
        ("a > (SELECT 1)", "a subquery is not supported"),
        ("a > @b", "a variable is not supported"),
        ("a ^ 1", r"\^ is not supported"),
        ("a = 0x41", "a hexadecimal literal is not supported"),
        ("a COLLATE utf8mb4_bin = 'x'", "COLLATE is not supported"),
    ],
)
def test_the_refused_thing_has_a_name_users_know(text: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        compile_condition(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("a =", "near"),
        ("a = 1 b", "near 'b', character 7"),
        ("a = 1; DROP TABLE t", "near 'DROP'"),
        ("a = 'open", "not an SQL expression"),
        ("(a = 1", "not an SQL expression"),
        ("a BETWEEN 1", "not an SQL expression"),
        ("SELECT 1", "SELECT"),
        ("a := 1", "near ':='"),
    ],
)
def test_what_is_not_sql_is_answered_with_the_spot(text: str, near: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    assert near in str(caught.value)
    assert SUPPORTED in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a = b = c",
        "a <=> b = c",
        "a <=> b < c",
        "a <=> b IN (1)",
        "1 < a < 3",
        "a = b LIKE 'x'",
        "a IN (1) = 1",
        "a = NOT b",
        "a BETWEEN 1 AND 2 = 1",
    ],
)
def test_what_mysql_and_the_parser_rank_differently_needs_parentheses(text: str) -> None:
    with pytest.raises(ConditionError, match="parentheses"):
        compile_condition(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty condition"),
        ("  \n ", "an empty condition"),
        ("t.a = 1", "write the column's name alone"),
        ("a IN ()", "IN needs a list"),
        ("a IN (SELECT 1)", "IN needs a list"),
        ("a IN (1, 'x')", "texts and numbers side by side"),
        ("a BETWEEN 1 AND 'x'", "texts and numbers side by side"),
        ("a LIKE b", "a pattern must be written out"),
        ("a LIKE 'x' ESCAPE '||'", "ESCAPE takes one character"),
        ("a LIKE 'x' ESCAPE ''", "ESCAPE takes one character"),
        ("a REGEXP '['", "not a regular expression"),
        ("a REGEXP '[[:digit:]]'", "[[ in a regular expression"),
        ("a REGEXP '\\\\p{L}'", "in a regular expression"),
        ("a IS 1", "IS takes NULL, TRUE, FALSE"),
        ("a = " + "(" * 3000 + "1" + ")" * 3000, "nested too deeply"),
        ("a = 1" + " " * TEXT_LENGTH_MAX, "longer than"),
    ],
)
def test_the_reason_and_the_remedy_are_said(text: str, words: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "text", ["user_type = 'vip'", "amount > 10000", "region in ('US', 'EU')", "log_level = 'ERROR'"]
)
def test_the_seeds_conditions_compile(text: str) -> None:
    assert compile_condition(text).columns == (text.split(maxsplit=1)[0],)


def test_the_page_names_every_function() -> None:
    page = (Path(__file__).parents[3] / "docs/routing.md").read_text(encoding="utf-8")
    words = set(re.findall(r"\w+", page))
    assert {*SIGNATURES, "DATE_ADD", "DATE_SUB", "CASE", "CAST", "EXTRACT", "TRIM"} <= words
