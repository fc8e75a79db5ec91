"""What a table pattern means."""

import pytest

from gravity.config.source import Source
from gravity.pattern import PatternError, parse_table_pattern, select_tables


@pytest.mark.parametrize(
    ("pattern", "database", "table", "matches"),
    [
        ("users", "shop", "users", True),
        ("users", "shop", "users2", False),
        ("users", "shop", "Users", False),
        ("shop.users", "shop", "users", True),
        ("shop.users", "shop2", "users", False),
        ("sh*.users", "shop", "users", True),
        ("*", "shop", "users", True),
        ("*.*", "shop", "users", True),
        ("temp_*", "shop", "temp_", True),
        ("temp_*", "shop", "atemp_1", False),
        ("order?", "shop", "orders", True),
        ("order?", "shop", "order", False),
        ("orders_[0-9]", "shop", "orders_7", True),
        ("orders_[0-9]", "shop", "orders_x", False),
        ("[!_]*", "shop", "_hidden", False),
        ("[!_]*", "shop", "shown", True),
        ("a[.]b", "shop", "a.b", True),
        ("a[.]b", "a", "b", False),
        ("x.a[.]b", "x", "a.b", True),
        ("a[*]", "shop", "a*", True),
        ("a[*]", "shop", "ab", False),
        ("[]]", "shop", "]", True),
        ("a+(b)", "shop", "a+(b)", True),
        ("用户", "shop", "用户", True),
        ("a*", "shop", "a\nb", True),
    ],
)
def test_a_pattern_means(pattern: str, database: str, table: str, *, matches: bool) -> None:
    assert parse_table_pattern(pattern).matches(database, table) is matches


@pytest.mark.parametrize(
    "pattern", ["", " a", "a ", "a[", "a[]", "a.b.c", "a.", ".a", "[z-a]", "a[!]"]
)
def test_a_pattern_that_means_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        parse_table_pattern(pattern)


def test_exclusion_wins() -> None:
    selection = select_tables(["a*", "b"], ["ab*"])
    assert selection.matches("d", "aa")
    assert selection.matches("d", "b")
    assert not selection.matches("d", "abc")
    assert not selection.matches("d", "c")


@pytest.mark.parametrize(
    ("pattern", "exact"), [("users", True), ("*.users", True), ("user?", False)]
)
def test_a_pattern_knows_whether_it_names_one_table(pattern: str, *, exact: bool) -> None:
    assert parse_table_pattern(pattern).is_exact is exact


def test_a_source_is_never_read_where_its_server_keeps_its_own() -> None:
    source = Source(name="a", databases=("*",), tables=("*",), exclude=("temp_*",))
    assert source.selects("shop", "user")
    assert not source.selects("shop", "temp_1")
    for database in ("mysql", "INFORMATION_SCHEMA", "performance_schema", "sys"):
        assert not source.selects(database, "user")
