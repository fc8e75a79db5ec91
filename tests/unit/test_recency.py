"""Whether a target has a source's transactions is a function of what the stages published."""

from __future__ import annotations

import re
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.config import parse_config
from gravity.errors import TransientError
from gravity.gtid import MariadbGtids, MysqlGtids
from gravity.recency import Frontiers, QuestionError, Transactions
from gravity.recency_reader import ask

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "0b1f1d5a-71ca-11e1-9e33-c80aa9429562"
PARTITIONS = 3


def collected(done: int = 2, at_us: int = 10, gtids: str = "0-1-99") -> dict[str, Any]:
    return {"gtids": gtids, "snapshot": {"done": done, "total": 2}, "at_us": at_us}


def applied(gtids: str, offset: int = 100, time_us: int = 10, source: str = "s") -> dict[str, Any]:
    point = {"position": f"1:1:{offset}:0", "gtids": gtids, "ets": 7, "time_us": time_us}
    return {"next_offset": 5, "frontier": {source: point}}


def frontiers(*records: tuple[str, dict[str, Any]]) -> Frontiers:
    found = Frontiers(PARTITIONS)
    for key, record in records:
        found.add(key, record)
    return found


def lanes(*gtids: str) -> list[tuple[str, dict[str, Any]]]:
    """One partition after the other, as far as these sets."""
    return [
        (f"sink/t/{q}", applied(text, offset=100 + _last(text))) for q, text in enumerate(gtids)
    ]


def _last(text: str) -> int:
    return int(re.sub(r".*\D", "", text) or 0)


def is_there(known: Frontiers, gtid: str, **options: bool) -> bool:
    return known.look("s", "t", Transactions.parse(gtid), **options).is_there


@given(st.lists(st.integers(0, 30), min_size=PARTITIONS, max_size=PARTITIONS), st.integers(1, 30))
def test_a_target_has_what_the_least_of_its_partitions_has(passed: list[int], asked: int) -> None:
    known = frontiers(("collector/s", collected()), *lanes(*(f"0-1-{n}" for n in passed)))
    look = known.look("s", "t", Transactions.parse(f"0-1-{asked}"))
    assert look.is_there == (min(passed) >= asked)
    assert look.frontier is not None
    assert look.frontier.gtids == f"0-1-{min(passed)}"


@given(
    st.lists(st.integers(0, 30), min_size=PARTITIONS, max_size=PARTITIONS),
    st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(0, 30))),
    st.integers(1, 30),
)
def test_what_is_there_stays_there_as_partitions_go_on(
    passed: list[int], moves: list[tuple[int, int]], asked: int
) -> None:
    known = frontiers(("collector/s", collected()), *lanes(*(f"0-1-{n}" for n in passed)))
    was_there = is_there(known, f"0-1-{asked}")
    for q, by in moves:
        passed[q] += by
        known.add(f"sink/t/{q}", applied(f"0-1-{passed[q]}", offset=100 + passed[q]))
        now_there = is_there(known, f"0-1-{asked}")
        assert now_there or not was_there
        was_there = now_there


@given(st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20), min_size=1))
def test_mysql_sets_are_there_when_every_transaction_is(done: set[int], asked: set[int]) -> None:
    executed = MysqlGtids({})
    for number in done:
        executed.add(f"{A}:{number}")
    text = ",".join(f"{A.upper()}:{number}" for number in sorted(asked, reverse=True))
    known = frontiers(("collector/s", collected(gtids="")), *lanes(*[f"{executed}"] * PARTITIONS))
    assert is_there(known, text) == (done >= asked)


def test_a_set_of_two_makers_needs_both() -> None:
    known = frontiers(("collector/s", collected(gtids="")), *lanes(*[f"{A}:1-5"] * PARTITIONS))
    assert is_there(known, f"{A}:2-5")
    assert not is_there(known, f"{A}:2-5,\n {B}:1")
    assert not is_there(known, f"{A}:tag:1")


def test_a_domain_that_is_named_twice_counts_by_its_greatest() -> None:
    known = frontiers(("collector/s", collected()), *lanes(*["0-1-5"] * PARTITIONS))
    assert is_there(known, "0-1-5,0-1-3")
    assert not is_there(known, "0-1-6,0-1-3")
    assert not is_there(known, "0-1-3,1-1-1")


def test_a_partition_that_has_told_nothing_is_waited_for() -> None:
    known = frontiers(("collector/s", collected()), *lanes("0-1-9", "0-1-9"))
    look = known.look("s", "t", Transactions.parse("0-1-1"))
    assert look.frontier is None
    assert "2 of 3 partitions" in look.lacks
    known.add("sink/u/2", applied("0-1-9"))
    assert not is_there(known, "0-1-1")
    known.add("sink/t/2", applied("0-1-9", source="another"))
    assert not is_there(known, "0-1-1")


def test_nothing_is_there_while_existing_rows_are_copied() -> None:
    known = frontiers(("collector/s", collected(done=1)), *lanes(*["0-1-9"] * PARTITIONS))
    assert "1 of 2 tables" in known.look("s", "t", Transactions.parse("0-1-1")).lacks
    assert not is_there(frontiers(*lanes(*["0-1-9"] * PARTITIONS)), "0-1-1")


def test_the_copys_last_rows_are_there_with_a_marker_behind_its_end() -> None:
    known = frontiers(("collector/s", collected(done=1, at_us=5)), *lanes(*["0-1-9"] * PARTITIONS))
    known.add("collector/s", collected(done=2, at_us=20))
    # A word later than the first that the copy is done moves nothing.
    known.add("collector/s", collected(done=2, at_us=90))
    for q in range(PARTITIONS):
        assert not is_there(known, "0-1-1")
        known.add(f"sink/t/{q}", applied("0-1-9", time_us=20))
    assert is_there(known, "0-1-1")


def test_a_copy_that_begins_again_counts_from_its_new_end() -> None:
    known = frontiers(("collector/s", collected(at_us=5)), *lanes(*["0-1-9"] * PARTITIONS))
    assert is_there(known, "0-1-1")
    known.add("collector/s", collected(done=1, at_us=15))
    known.add("collector/s", collected(done=2, at_us=20))
    assert not is_there(known, "0-1-1")


def test_a_collector_that_tells_when_the_copy_ended_is_believed_by_who_comes_later() -> None:
    """Who begins to read now finds its last word only, and no marker younger than that word."""

    def told(done: int, ended_us: int, at_us: int) -> dict[str, Any]:
        record = collected(done=done, at_us=at_us)
        record["snapshot"]["ended_us"] = ended_us
        return record

    known = frontiers(("collector/s", told(2, 20, 90)), *lanes(*["0-1-9"] * PARTITIONS))
    assert not is_there(known, "0-1-1")
    for q in range(PARTITIONS):
        known.add(f"sink/t/{q}", applied("0-1-9", time_us=20))
    assert is_there(known, "0-1-1")
    known.add("collector/s", told(2, 95, 99))
    assert not is_there(known, "0-1-1"), "copied again between two words"
    known.add("collector/s", told(1, 0, 99))
    known.add("collector/s", told(2, 20, 99))
    assert is_there(known, "0-1-1")


def test_parked_rows_keep_everything_back_unless_they_count_as_there() -> None:
    known = frontiers(("collector/s", collected()), *lanes(*["0-1-9"] * PARTITIONS))
    known.add("sink/u/1", {**applied("0-1-9"), "parked": 4})
    assert is_there(known, "0-1-9"), "another target's"
    known.add("sink/t/1", {**applied("0-1-9"), "parked": 2})
    look = known.look("s", "t", Transactions.parse("0-1-9"))
    assert not look.is_there
    assert (look.parked, look.holds) == (2, 0)
    assert "2 in all" in look.lacks
    assert is_there(known, "0-1-9", processed=True)
    known.add("sink/t/1", {**applied("0-1-9"), "parked": 0})
    assert is_there(known, "0-1-9")


def test_rows_on_hold_keep_everything_back_unless_they_count_as_there() -> None:
    known = frontiers(("collector/s", collected()), *lanes(*["0-1-9"] * PARTITIONS))
    known.add("resolver/u/1", {"holds": 4})
    assert is_there(known, "0-1-9")
    known.add("resolver/t/1", {"holds": 2})
    look = known.look("s", "t", Transactions.parse("0-1-9"))
    assert not look.is_there
    assert look.holds == 2
    assert "on hold" in look.lacks
    assert is_there(known, "0-1-9", processed=True)
    assert not is_there(known, "0-1-10", processed=True)
    known.add("resolver/t/1", {"holds": 0})
    assert is_there(known, "0-1-9")


def test_no_transaction_at_all_is_there_once_the_source_has_arrived() -> None:
    known = frontiers(("collector/s", collected()), *lanes("", "", ""))
    assert is_there(known, "")
    assert not is_there(known, "0-1-1")
    assert is_there(frontiers(("collector/s", collected()), *lanes("0-1-1", "0-1-1", "0-1-1")), "")


@pytest.mark.parametrize(
    "text", ["7", "0-1", "0-1-x", f"{A}", f"{A}:0", f"{A}:1,0-1-1", "0-1-1;0-1-2", f"{A}:tag"]
)
def test_nonsense_is_no_gtid(text: str) -> None:
    with pytest.raises(QuestionError, match="is no GTID"):
        Transactions.parse(text)


@pytest.mark.parametrize(
    ("known", "asked"), [("0-1-9", f"{A}:1"), (f"{A}:1-9", "0-1-1"), (f"{A}:t:1", "0-1-1")]
)
def test_a_gtid_of_the_other_kind_of_server_is_refused(known: str, asked: str) -> None:
    by_collector = frontiers(("collector/s", collected(gtids=known)))
    with pytest.raises(QuestionError, match="but the source is"):
        by_collector.check("s", Transactions.parse(asked))
    by_sink = frontiers(*lanes(known))
    with pytest.raises(QuestionError, match="but the source is"):
        by_sink.check("s", Transactions.parse(asked))
    by_sink.check("s", Transactions.parse(known))
    by_sink.check("another", Transactions.parse(asked))
    assert not is_there(
        frontiers(("collector/s", collected()), *lanes(*[known] * PARTITIONS)), asked
    )


def test_the_barrier_refuses_while_a_server_of_the_source_is_away() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        config = parse_config(
            f"sources: [{{name: s, host: 127.0.0.1, port: {port}, username: u}}]\n"
            "targets: [{name: t, type: kafka, brokers: 'k:9092'}]"
        ).config
        with pytest.raises(TransientError, match="refused"):
            ask(config, "s", "t", None)
    assert ask(config, "s", "t", "0-1-7").wanted.text == "0-1-7"


def test_what_the_configuration_does_not_name_is_refused() -> None:
    config = parse_config(
        "sources: [{name: s, host: h, username: u}]\n"
        "targets: [{name: t, type: kafka, brokers: 'k:9092'}]"
    ).config
    for names, told in ((("x", "t"), "no source"), (("s", "x"), "no target")):
        with pytest.raises(QuestionError, match=told):
            ask(config, *names, None)
    with pytest.raises(QuestionError, match="empty"):
        ask(config, "s", "t", " ")


@given(
    st.lists(st.integers(1, 30), min_size=2 * PARTITIONS, max_size=2 * PARTITIONS),
    st.integers(0, 9),
)
def test_a_group_of_targets_is_as_far_as_the_least_lane_of_all(
    passed: list[int], holds: int
) -> None:
    known = Frontiers(PARTITIONS)
    known.add("resolver/t/0", {"holds": holds})
    for number, place in enumerate(passed):
        target, q = "tu"[number // PARTITIONS], number % PARTITIONS
        assert known.least("s", ("t", "u")) is None
        known.add(f"sink/{target}/{q}", applied(f"0-1-{place}", offset=place))
    least = known.least("s", ("t", "u"))
    assert least is not None
    assert least.position.offset == min(passed)
    known.add("sink/u/1", applied("0-1-1", source="another"))
    assert known.least("s", ("t", "u")) is None
    assert known.least("s", ("t",)) is not None


def test_a_gtid_names_one_transaction_and_an_interval_all_of_its() -> None:
    maria = Transactions.parse("0-1-23, 1-1-5")
    assert [maria.name(gtid) for gtid in ("0-1-23", "1-1-5", "0-1-22", "")] == [
        True,
        True,
        False,
        False,
    ]
    mysql = Transactions.parse(f"{A}:3-5:9")
    assert [n for n in range(1, 11) if mysql.name(f"{A}:{n}")] == [3, 4, 5, 9]
    assert not mysql.name(f"{B}:3")
    assert mysql.are_begun_in(MysqlGtids.parse(f"{A}:1-3"))
    assert not mysql.are_begun_in(MysqlGtids.parse(f"{A}:1-2:6-8"))
    assert maria.are_begun_in(MariadbGtids.parse("0-1-22,1-1-5"))
