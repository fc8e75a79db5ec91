"""What became of a transaction's rows is a function of what the logs hold of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity import disposition
from gravity.batch import (
    DELETE,
    INSERT,
    LEFT,
    MOVED,
    UPDATE,
    ChangeBatch,
    Column,
    TableSchema,
    Transaction,
)
from gravity.disposition import Disposition, Dispositions, Fate, UntoldError
from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind, TargetHeader
from gravity.kafka.reader import LogMessage
from gravity.recency import Transactions

MINE, OTHER = "0-1-7", "0-1-8"
TABLE = "shop.orders"
COLUMNS = Column("id", "int", nullable=False), Column("said", "varchar(9)")
SCHEMA = TableSchema("db", "orders", COLUMNS, (0,))
SEQ = 5


def batch(
    *keys: int, ops: bytes = b"", gtid: str = MINE, said: str = "", **fields: Any
) -> ChangeBatch:
    """Rows under `keys`, of which each source says something else unless all have `said` the same."""
    cells = [said] * len(keys) if said else fields.get("row_source", ["a"] * len(keys))
    return ChangeBatch(
        source="a", epoch=1, schema=SCHEMA, transactions=[Transaction(gtid, 1, 400, 10, 10)],
        ops=ops or bytes([INSERT]) * len(keys), tx=[0] * len(keys), ordinal=list(range(len(keys))),
        columns=[list(keys), cells], **fields,
    )  # fmt: skip


def message(topic: str, offset: int, partition: int = 0) -> LogMessage:
    return LogMessage(topic, partition, offset, None, None, [], 0)


class Story:
    """Rows of one ingest message on their way to target `t`, topic by topic."""

    def __init__(self, *keys: int, ops: bytes = b"", merges: int = 0) -> None:
        """`merges`: the number of the only plan that merges."""
        self.told = Dispositions(
            "a",
            "t",
            Transactions.parse(MINE),
            merges=lambda table, plan: (table, plan) == (TABLE, merges),
        )
        self.told.ingest(IngestHeader(IngestKind.ROWS, "a", 1, SEQ), batch(*keys, ops=ops))

    def routed(
        self, *keys: int, offset: int = 30, part: int = 0, seq: int = SEQ, **fields: Any
    ) -> Story:
        header = RoutedHeader(RoutedKind.ROWS, "a", seq, part=part, table=TABLE, plan=1)
        self.told.routed(message("routed.t", offset), header, batch(*keys, **fields))
        return self

    def sent(
        self,
        *keys: int,
        offset: int = 60,
        term: int = 1,
        seq: int = SEQ,
        part: int = 0,
        **fields: Any,
    ) -> Story:
        routed = RoutedHeader(RoutedKind.ROWS, "a", seq, part=part, table=TABLE)
        header = TargetHeader(routed, 1, offset, term)
        self.told.sent(message("target.t", offset), header, batch(*keys, **fields))
        return self

    def conflict(self, number: int, row: int, **fields: Any) -> Story:
        record = {"hold": "", "source": "a", "target": "t", "seq": SEQ, "row": row, "table": TABLE,
                  "state": "met", "outcome": "row", "winner": "b", "opinions": [], **fields}  # fmt: skip
        self.told.conflict(number, record)
        return self

    def dead(self, topic: str, offset: int, row: int) -> Story:
        self.told.dead_letter({"topic": topic, "partition": 0, "offset": offset, "row": row})
        return self

    def ends(self) -> list[tuple[str, str]]:
        """(fate, by) of the rows that were not applied; no more of them."""
        ended = self.told.ended()
        assert sum(ended.counts.values()) - ended.counts.get(Fate.APPLIED, 0) == len(ended.others)
        return [(str(row.fate), row.by) for row in ended.others]

    def ended(self) -> Disposition:
        return self.told.ended()


def test_rows_that_no_rule_sends_are_filtered_and_those_sent_under_their_source_are_applied() -> (
    None
):
    story = Story(1, 2, 3).routed(1, 3, origin=[0, 2]).sent(1, 3, origin=[0, 2])
    assert story.ends() == [("filtered", "")]
    assert story.ended().counts == {Fate.APPLIED: 2, Fate.FILTERED: 1}
    assert story.ended().others[0].key == "[2]"
    assert story.ended().others[0].table == "db.orders"


def test_rows_of_other_transactions_and_messages_are_none_of_them() -> None:
    story = Story(1).routed(1).routed(8, seq=SEQ + 1).sent(1).sent(8, seq=SEQ + 1)
    header = IngestHeader(IngestKind.ROWS, "a", 1, SEQ + 1)
    story.told.ingest(header, batch(8, gtid=OTHER))
    assert story.ended().counts == {Fate.APPLIED: 1}
    assert story.told.seqs == {SEQ}


def test_a_row_for_which_the_resolver_had_no_word_is_superseded_by_who_won() -> None:
    story = Story(1, 2).routed(1, 2)
    assert story.told.lacks_words
    story.conflict(8, row=0, target="u").conflict(8, row=0, source="b")
    assert story.conflict(9, row=1).ends() == [("superseded", ""), ("superseded", "b")]
    assert not Story(1).routed(1).sent(1).told.lacks_words


def test_where_another_sources_row_was_sent_that_one_stands() -> None:
    story = Story(1, 2).routed(1, 2).sent(1, 2, row_source=["b", "a"])
    assert story.ends() == [("superseded", "b")]


def test_where_another_sources_opinion_is_the_same_the_row_is_applied() -> None:
    ops = bytes([UPDATE, DELETE, DELETE])
    story = Story(1, 2, 3, ops=ops).routed(1, 2, 3, ops=ops)
    # A hold ends as both agree; of several deletes the best source's counts. `b` is only of better rank.
    stands = ops[:2] + bytes([UPDATE])
    assert story.sent(1, 2, 3, ops=stands, row_source=["b"] * 3, said="a").ends() == [
        ("superseded", "b")
    ]
    assert story.ended().others[0].key == "[3]"


def test_a_row_is_merged_if_it_is_by_the_rules_that_it_passed_under() -> None:
    for number, ends in ((1, []), (2, [("superseded", "b")])):
        story = Story(1, merges=number).routed(1).sent(1, row_source=["b"])
        assert story.ends() == ends


def test_a_merged_row_has_a_part_of_the_change_unless_that_was_a_delete() -> None:
    ops = bytes([UPDATE, DELETE])
    story = Story(1, 2, ops=ops, merges=1).routed(1, 2, ops=ops)
    assert story.sent(1, 2, row_source=["b", "b"]).ends() == [("superseded", "b")]


def test_what_stands_under_the_key_that_a_row_left_says_nothing_of_the_row() -> None:
    story = Story(2, ops=bytes([UPDATE])).routed(1, 2, ops=bytes([MOVED, UPDATE]), origin=[0, 0])
    # Another source's row has been there all the time, and stands there now.
    story.sent(2, origin=[0]).sent(1, offset=61, ops=bytes([UPDATE]), row_source=["b"], origin=[0])
    assert story.ended().counts == {Fate.APPLIED: 1}


def test_a_counted_row_leaves_under_a_key_that_the_router_did_not_know() -> None:
    story = Story(2, ops=bytes([UPDATE])).routed(1, 2, ops=bytes([MOVED, UPDATE]), origin=[0, 0])
    story.sent(2, origin=[0]).sent(7, offset=61, ops=bytes([MOVED]), row_source=["b"], origin=[0])
    assert story.ended().counts == {Fate.APPLIED: 1}


def test_a_row_that_only_leaves_the_target_is_filtered_there() -> None:
    story = Story(1).routed(1, ops=bytes([LEFT])).sent(1, ops=bytes([LEFT]))
    assert story.ends() == [("filtered", "")]


def test_what_a_replaced_resolver_goes_on_sending_is_void() -> None:
    story = Story(1).routed(1).sent(1, term=2).sent(1, offset=61, term=1, row_source=["b"])
    assert story.ended().counts == {Fate.APPLIED: 1}


@pytest.mark.parametrize(
    ("topic", "offset"), [("routed.t", 30), ("routed.t", 31), ("target.t", 60)]
)
@pytest.mark.parametrize("row", [1, -1])
def test_a_row_that_was_set_aside_is_found_by_the_place_of_its_message(
    topic: str, offset: int, row: int
) -> None:
    story = Story(1, 2).routed(1, 2).routed(1, 2, offset=31).dead(topic, offset, row)
    if topic == "target.t":
        story.sent(1, 2)
    else:
        assert story.dead("routed.t", 33, 0).ends()[0] == (
            ("superseded", "") if row == 1 else ("dead_lettered", "")
        )
    assert story.ends()[-1] == ("dead_lettered", "")
    assert len(story.ends()) == (2 if row == -1 or topic == "routed.t" else 1)


def test_what_the_resolver_sends_again_after_a_death_is_not_what_the_sink_took() -> None:
    story = Story(1, 2, 3).routed(1, 2, 3).sent(1, 2, 3).sent(1, 2, 3, offset=61)
    story.told.parked([("target.t", 0, 60, 1)])
    assert story.dead("target.t", 60, 0).ends() == [("dead_lettered", ""), ("parked", "")]


def test_a_sinks_record_about_another_sources_row_hides_no_hold() -> None:
    story = Story(1).routed(1).conflict(3, row=0, hold="t.0.30.0", state="open", winner="")
    # Message 5 of source `b` had row 0 of `a` sent once more, which the target refused.
    story.conflict(4, row=0, outcome="dead_letter", winner="")
    assert story.ends() == [("held", "")]


def test_a_row_that_waits_at_the_target_is_parked() -> None:
    story = Story(1, 2).routed(1, 2).sent(1, 2)
    story.told.parked([("target.t", 0, 60, 1), ("target.t", 0, 61, 0)])
    assert story.ends() == [("parked", "")]


@pytest.mark.parametrize(
    ("end", "fate"),
    [
        ({"state": "open", "winner": ""}, [("held", "")]),
        ({"state": "decided", "winner": "b"}, [("superseded", "b")]),
        ({"state": "cleared", "winner": "a"}, []),
        # By then its source had said something else of the row.
        ({"state": "cleared", "winner": "a", "opinions": [{"source": "a", "position": "1:1:900:0"}]},
         [("superseded", "a")]),
    ],
)  # fmt: skip
def test_a_row_on_hold_ends_as_its_hold_did(
    end: dict[str, Any], fate: list[tuple[str, str]]
) -> None:
    opinions = [{"source": "a", "position": "1:1:400:0"}, {"source": "b", "position": "1:1:1:0"}]
    story = Story(1).routed(1)
    story.conflict(3, row=0, hold="t.0.30.0", state="open", winner="", opinions=opinions)
    story.conflict(
        4, row=6, hold="t.0.30.0", source="b", opinions=end.pop("opinions", opinions), **end
    )
    assert story.ends() == fate


def test_one_row_may_feed_several_tables_and_ends_in_each() -> None:
    story = Story(1).routed(1).routed(1, part=1, offset=31).sent(1)
    assert story.ended().counts == {Fate.APPLIED: 1, Fate.SUPERSEDED: 1}
    assert story.sent(1, part=1, offset=61).ended().counts == {Fate.APPLIED: 2}


def test_more_rows_than_an_answer_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disposition, "ROWS_MAX", 3)
    Story(1, 2, 3)
    with pytest.raises(UntoldError, match="more than 3 rows"):
        Story(1, 2, 3, 4)


def test_an_answer_names_no_more_rows_than_a_reader_can_take() -> None:
    ended = Story(*range(150)).ended()
    assert ended.counts == {Fate.FILTERED: 150}
    assert [row.key for row in ended.others] == [f"[{key}]" for key in range(100)]


@given(st.lists(st.sampled_from(["applied", "superseded", "filtered"]), max_size=250))
def test_every_row_ends_once_and_the_answer_says_how_many_and_names_some(ways: list[str]) -> None:
    routed = [row for row, way in enumerate(ways) if way != "filtered"]
    sent = [row for row, way in enumerate(ways) if way == "applied"]
    story = Story(*range(len(ways)))
    if routed:
        story.routed(*routed, origin=routed)
    if sent:
        story.sent(*sent, origin=sent)
    shown = story.ended().to_json()
    assert shown["rows"] == len(ways)
    assert {way: shown[way] for way in ("applied", "superseded", "filtered")} == {
        way: ways.count(way) for way in ("applied", "superseded", "filtered")
    }
    others = [way for way in ways if way != "applied"]
    assert [row["became"] for row in shown["others"]] == others[:100]
