import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.errors import FormatError
from gravity.gtid import MariadbGtids, MysqlGtids, parse_gtids

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "0b1f1d5a-71ca-11e1-9e33-c80aa9429562"


def test_a_mysql_set_prints_as_the_server_prints_it() -> None:
    assert str(MysqlGtids.parse(f"{B}:1,\n{A}:1-5:7-9")) == f"{B}:1,{A}:1-5:7-9"


def test_the_next_transaction_joins_the_last_interval() -> None:
    gtids = MysqlGtids.parse(f"{A}:1-5")
    gtids.add(f"{A}:6")
    gtids.add(f"{B}:1")
    assert str(gtids) == f"{B}:1,{A}:1-6"


@given(st.lists(st.integers(1, 40)), st.integers(1, 41))
def test_a_mysql_set_contains_what_was_added_in_any_order(numbers: list[int], asked: int) -> None:
    gtids = MysqlGtids({})
    for number in numbers:
        gtids.add(f"{A}:{number}")
    assert gtids.contains(f"{A}:{asked}") == (asked in numbers)
    assert str(MysqlGtids.parse(str(gtids))) == str(gtids)


@given(st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
def test_containing_all_is_being_a_superset(mine: set[int], others: set[int]) -> None:
    sets = [MysqlGtids({}), MysqlGtids({})]
    for gtids, numbers in zip(sets, (mine, others), strict=True):
        for number in numbers:
            gtids.add(f"{A}:{number}")
    assert sets[0].contains_all(sets[1]) == (mine >= others)
    assert sets[0].contains_any(sets[1]) == bool(mine & others)


def test_a_mariadb_position_covers_every_earlier_transaction_of_its_domains() -> None:
    gtids = MariadbGtids.parse("0-1-5,1-7-3")
    assert gtids.contains("0-2-5")
    assert not gtids.contains("0-1-6")
    assert not gtids.contains("2-1-1")
    assert gtids.contains_any(MariadbGtids.parse("0-1-6,1-1-3"))
    assert not gtids.contains_any(MariadbGtids.parse("0-1-6,2-1-1"))
    gtids.add("0-2-6")
    assert str(gtids) == "0-2-6,1-7-3"


def test_a_copy_grows_apart() -> None:
    for gtids, gtid in (
        (MysqlGtids.parse(f"{A}:1"), f"{A}:2"),
        (MariadbGtids.parse("0-1-1"), "0-1-2"),
    ):
        before = str(gtids)
        gtids.copy().add(gtid)
        assert str(gtids) == before


def test_nonsense_is_refused_by_name() -> None:
    with pytest.raises(FormatError, match="not a GTID set"):
        parse_gtids("mariadb", "nonsense")
    with pytest.raises(FormatError, match="not a GTID set"):
        parse_gtids("mysql", f"{A}:x")


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_what_one_mysql_set_has_without_another(some: set[int], others: set[int]) -> None:
    def gtids(numbers: set[int]) -> MysqlGtids:
        made = MysqlGtids({})
        for number in numbers:
            made.add(f"u:{number}")
        return made

    left = gtids(some).without(gtids(others))
    assert str(left) == str(gtids(some - others))
