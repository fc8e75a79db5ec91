"""A row on hold: what waits and what does not, how it ends, and what an operator decides about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gravity.batch import Column
from gravity.codec import decode_record
from gravity.cut import CutMark
from gravity.decision import Message, Note, RowName, keep_source, own_row, retry
from gravity.errors import FatalError
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan_part import Resolution
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, TableAction
from gravity.testing.routed_log import RoutedLog, RowChange
from tests.resolver_replica import ALONE, LATEST, RANKS, SIZED, TARGET, USERS, Replica, plan_of

STOP = Resolution("error-stop", RANKS)
LATCHED = replace(STOP, auto_clear=False)
A, B = "a", "b"
NOTE = Note(plan=1, time_us=5)


class Quarrel:
    """Two sources, and a resolver that stops when they disagree."""

    def __init__(self, rule: Resolution = STOP) -> None:
        self.replica = Replica(rule)
        self.logs = {source: RoutedLog(source) for source in (A, B)}
        self.seconds = 10

    def say(self, source: str, name: str | None, key: int = 1) -> None:
        """The source writes the row, or deletes it."""
        self.seconds += 1
        op, row = ("D", (key, "")) if name is None else ("U", (key, name))
        self.replica.take([self.logs[source].rows(USERS, [RowChange(op, row, self.seconds)])])

    def tell(self, message: Message) -> Any:
        return self.replica.apply(*message)

    @property
    def rows(self) -> dict[Any, Any]:
        return {key: row[1] for key, row in self.replica.target_rows().items()}

    @property
    def records(self) -> list[dict[str, Any]]:
        return [decode_record("conflict", data) for data in self.replica.conflicts]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(record["state"], record["outcome"]) for record in self.records]

    def keep(self, source: str) -> Message:
        return keep_source(self.records[-1], source, NOTE)


def test_the_marker_of_a_cut_says_how_many_rows_are_on_hold_where_it_passes() -> None:
    quarrel, mark = Quarrel(), str(CutMark(7, 1000, TARGET))
    quarrel.say(A, "x")
    quarrel.replica.take([quarrel.logs[A].marker(cut=mark)])
    quarrel.say(B, "y")
    quarrel.replica.take([quarrel.logs[A].marker(cut=mark), quarrel.logs[B].marker()])
    markers = [h.routed for h, _ in quarrel.replica.outputs if h.routed.kind is RoutedKind.MARKER]
    assert [(m.cut, m.held) for m in markers] == [(mark, 0), (mark, 1), ("", 0)]


def test_a_row_is_decided_with_a_column_that_only_a_statement_has_told_of() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    added = ColumnChange(ColumnAction.ADD, "size", column=Column("size", "varchar(9)"), default="L")
    alter = quarrel.logs[A].schema_change(
        "shop.users", TableAction.ALTER, added, ets=20, rows=RowsAfter.FILLED
    )
    quarrel.replica.take([alter])
    assert "size" in quarrel.records[-1]["opinions"][0]["row"]
    assert quarrel.tell(quarrel.keep(A)).damage == ""
    assert quarrel.replica.state.holds == 0
    assert quarrel.replica.target_rows() == {1: (1, "x", "L")}


def test_what_only_the_row_before_a_hold_had_is_gone_after_it() -> None:
    quarrel = Quarrel()
    quarrel.replica.take([quarrel.logs[A].rows(SIZED, [RowChange("U", (1, "x", 7), 1)])])
    quarrel.say(B, "y")
    quarrel.say(A, "x")  # Its table has no such column any more.
    quarrel.say(A, "z")
    quarrel.replica.save()
    quarrel.replica.crash_and_restore()
    quarrel.say(B, "z")
    assert quarrel.replica.target_rows() == {1: (1, "z", None)}
    # It is said once, and remembered no longer.
    quarrel.say(A, "w")
    quarrel.say(B, "w")
    assert quarrel.replica.target_rows() == {1: (1, "w")}


def test_a_column_that_is_dropped_during_a_hold_does_not_come_back_with_its_end() -> None:
    quarrel = Quarrel()
    quarrel.logs["c"] = RoutedLog("c")
    quarrel.replica.take([quarrel.logs[A].rows(SIZED, [RowChange("U", (1, "x", 7), 1)])])
    quarrel.say(B, "y")
    quarrel.say("c", "else", key=2)
    drop = ColumnChange(ColumnAction.DROP, "size")
    quarrel.replica.take(
        [quarrel.logs[A].schema_change("shop.users", TableAction.ALTER, drop, ets=20)]
    )
    quarrel.say(A, "y")
    assert quarrel.replica.target_rows()[1] == (1, "y")


def test_a_held_row_keeps_what_it_has_and_nothing_else_waits() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    quarrel.say(A, "other", key=2)
    assert quarrel.rows == {1: "x", 2: "other"}
    assert quarrel.replica.state.holds == 1
    (record,) = quarrel.records
    assert (record["state"], record["outcome"], record["winner"]) == ("open", "hold", "")
    assert (record["kind"], record["key"], record["key_columns"]) == (
        "update_update",
        "[1]",
        ["id"],
    )
    assert [opinion["row"] for opinion in record["opinions"]] == [
        '{"id":1,"name":"x"}',
        '{"id":1,"name":"y"}',
    ]
    assert quarrel.replica.counts(A)["applied"] == 2
    assert quarrel.replica.counts(B)["held"] == 1


def test_a_hold_ends_when_the_sources_agree() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    quarrel.say(A, "z")
    quarrel.say(B, "z")
    assert quarrel.rows == {1: "z"}
    assert quarrel.states == [("open", "hold"), ("open", "hold"), ("cleared", "row")]
    assert len({record["hold"] for record in quarrel.records}) == 1
    assert quarrel.replica.state.holds == 0
    quarrel.say(A, None)
    quarrel.say(B, None)
    assert quarrel.rows == {}
    assert quarrel.records[-1]["hold"] != quarrel.records[0]["hold"]


def test_a_row_is_sent_after_a_hold_even_if_it_is_what_stood_before() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    quarrel.say(B, "x")
    assert quarrel.states[-1] == ("cleared", "row")
    assert len(quarrel.replica.outputs) == 2


def test_an_operator_keeps_a_source_and_newer_changes_compete() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    quarrel.tell(quarrel.keep(B))
    assert quarrel.rows == {1: "y"}
    assert quarrel.states[-1] == ("decided", "row")
    assert quarrel.records[-1]["winner"] == B
    quarrel.say(B, "y2")
    assert quarrel.states[-1] == ("open", "hold")
    assert quarrel.records[-1]["hold"] != quarrel.records[0]["hold"]


def test_a_row_that_one_source_truncated_is_shown_as_gone_and_can_be_decided() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "x")
    log, name = quarrel.logs[A], f"{USERS.database}.{USERS.table}"
    quarrel.replica.take([log.schema_change(name, TableAction.TRUNCATE, ets=50)])
    assert quarrel.states[-1] == ("open", "hold")
    assert [o["row"] for o in quarrel.records[-1]["opinions"]] == [None, '{"id":1,"name":"x"}']
    quarrel.tell(quarrel.keep(A))
    assert quarrel.states[-1] == ("decided", "delete")
    assert quarrel.rows == {}


def test_a_decision_covers_only_what_the_operator_saw() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    decision = quarrel.keep(B)
    quarrel.say(A, "unseen")
    quarrel.tell(decision)
    assert quarrel.rows == {1: "x"}
    assert quarrel.replica.state.holds == 1
    quarrel.tell(quarrel.keep(A))
    assert quarrel.rows == {1: "unseen"}


@pytest.mark.parametrize("rule", [STOP, LATCHED, LATEST])
def test_a_decision_survives_a_crash_and_a_replay(rule: Resolution) -> None:
    quarrel = Quarrel(rule)
    quarrel.say(A, "x")
    quarrel.replica.save()
    quarrel.say(B, "y")
    messages = [*quarrel.logs[A].made, *quarrel.logs[B].made, quarrel.keep(A)]
    quarrel.tell(messages[-1])
    before = quarrel.replica.everything(), [value for _, value in quarrel.replica.outputs]
    quarrel.replica.crash_and_restore()
    again = quarrel.replica.state.next_input
    assert again == 1
    del quarrel.replica.outputs[1:]
    quarrel.replica.take(messages[again:])
    assert (quarrel.replica.everything(), [v for _, v in quarrel.replica.outputs]) == before
    assert quarrel.rows == {1: "x"}
    quarrel.replica.take(quarrel.logs[B].made)  # The router sends it again: no change.
    assert quarrel.rows == {1: "x"}


def test_a_row_of_the_operators_own_stands() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    record = quarrel.records[-1]
    quarrel.tell(own_row(record, {"name": "mine"}, NOTE))
    assert quarrel.rows == {1: "mine"}
    assert quarrel.records[-1]["winner"] == "@operator"
    assert quarrel.records[-1]["result"] == '{"id":1,"name":"mine"}'
    quarrel.tell(own_row(record, None, NOTE))
    assert quarrel.rows == {}


def test_what_an_operator_can_not_mean_is_refused_at_once() -> None:
    quarrel = Quarrel()
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    record = quarrel.records[-1]
    for row, message in (({"nmae": "z"}, "no source's table has a column"), ({"id": 2}, "the key")):
        with pytest.raises(FatalError, match=message):
            own_row(record, row, NOTE)
    with pytest.raises(FatalError, match="source c has said nothing"):
        keep_source(record, "c", NOTE)


def test_a_hold_that_does_not_clear_itself_waits_for_the_operator() -> None:
    quarrel = Quarrel(LATCHED)
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    quarrel.say(B, "x")
    assert quarrel.states == [("open", "hold")] * 2
    assert quarrel.replica.state.holds == 1
    quarrel.tell(quarrel.keep(B))
    assert quarrel.states[-1] == ("decided", "row")
    assert quarrel.replica.state.holds == 0


def test_a_retry_sends_the_outcome_again() -> None:
    quarrel = Quarrel(LATEST)
    quarrel.say(A, "x")
    quarrel.say(B, "y")
    quarrel.tell(retry(RowName.of(quarrel.records[-1]), NOTE))
    assert [header.out_seq for header, _ in quarrel.replica.outputs] == [1, 2, 3]
    assert quarrel.replica.outputs[-1][0].routed.counted == 0
    assert quarrel.rows == {1: "y"}


def test_every_row_is_counted_once_with_holds_and_decisions() -> None:
    quarrel = Quarrel()
    for name in ("x", "y", "y", "x", "z"):
        quarrel.say(A, name)
        quarrel.say(B, "y")
        if quarrel.states and quarrel.states[-1][1] == "hold":
            quarrel.tell(quarrel.keep(A))
    for source in (A, B):
        counts = quarrel.replica.counts(source)
        assert counts["applied"] + counts["superseded"] + counts["held"] == 5
    assert quarrel.replica.state.holds == 0


def test_a_decision_that_means_no_row_is_set_aside_and_the_log_goes_on() -> None:
    quarrel = Quarrel()
    alone = f"{ALONE.database}.{ALONE.table}"
    users = f"{USERS.database}.{USERS.table}"
    for table, key, message in (
        (alone, "[1]", "one source feeds"),
        (users, "[9]", "no source has spoken of"),
        (users, "[1", "can't be read"),
    ):
        name = RowName("t", table, key, ("id",))
        effects = quarrel.tell(retry(name, NOTE))
        assert message in effects.damage
    damaged = RoutedHeader(RoutedKind.DECISION, "@operator", 0, plan=1, table=users)
    assert "damaged decision" in quarrel.tell((damaged, b"\x02nonsense")).damage
    assert quarrel.replica.state.next_input == 4
    assert plan_of(STOP).resolution("t", alone) is None
