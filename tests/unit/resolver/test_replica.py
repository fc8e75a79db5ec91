"""One partition of the resolver as a function of its log: the laws its outputs and state must obey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest
from gravity_resolver.effects import Effects
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.batch import ChangeBatch, TableSchema
from gravity.codec import decode_batch, decode_record, encode_batch
from gravity.errors import FatalError, FormatError, NewerFormatError
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan_part import Resolution
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.resolver_replica import (
    ALONE,
    KEYLESS,
    LATEST,
    RULES,
    SOURCES,
    USERS,
    Replica,
    plan_of,
)


def batches(replica: Replica) -> list[ChangeBatch]:
    return [decode_batch(value) for header, value in replica.outputs if header.routed.rows]


# ------------------------------------------------------------------ random histories

History = dict[str, list[RowChange]]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """What each of three sources did to three keys, in its own order."""
    history: History = {}
    for source in SOURCES:
        changes, ets = [], draw(st.integers(0, 8))
        step = st.tuples(st.sampled_from("IUUDR"), st.integers(0, 2), st.integers(0, 3))
        for number, (op, key, later) in enumerate(draw(st.lists(step, max_size=7)), 1):
            ets += later
            row = (key, f"{source}{number}")
            changes.append(RowChange(op, row, ets, offset=1000 + 100 * number))
        history[source] = changes
    return history


def messages_of(history: History, random: Random) -> dict[str, list[RoutedMessage]]:
    """Each source's changes as messages, cut at random."""
    found: dict[str, list[RoutedMessage]] = {}
    for source, changes in history.items():
        log, left = RoutedLog(source), list(changes)
        while left:
            size = random.randint(1, len(left))
            log.rows(USERS, left[:size])
            left = left[size:]
            if random.random() < 0.3:
                log.marker()
        found[source] = log.made
    return found


def woven(parts: dict[str, list[RoutedMessage]], random: Random) -> list[RoutedMessage]:
    """All sources' messages, each source in its order, otherwise at random."""
    rest = {source: list(made) for source, made in parts.items() if made}
    log = []
    while rest:
        source = random.choice(sorted(rest))
        log.append(rest[source].pop(0))
        if not rest[source]:
            del rest[source]
    return log


def with_repeats(log: list[RoutedMessage], random: Random) -> list[RoutedMessage]:
    """As routers write it that crash: some suffix of what was sent is sent again."""
    sent: list[RoutedMessage] = []
    for message in log:
        sent.append(message)
        if random.random() < 0.2:
            sent += sent[-random.randint(1, len(sent)) :]
    return sent


rules = st.sampled_from(RULES)
seeds = st.integers(0, 1 << 30)


@given(histories(), rules, seeds, seeds)
@settings(max_examples=150)
def test_neither_order_between_sources_nor_batching_nor_repetition_changes_the_end(
    history: History, rule: Resolution, seed: int, other: int
) -> None:
    ends = []
    for random in (Random(seed), Random(other)):
        log = woven(messages_of(history, random), random)
        replica = Replica(rule).take(with_repeats(log, random))
        ends.append((replica.registers(), replica.target_rows()))
    assert ends[0] == ends[1]


@given(histories(), rules, seeds)
@settings(max_examples=100)
def test_a_repeat_causes_nothing(history: History, rule: Resolution, seed: int) -> None:
    random = Random(seed)
    log = woven(messages_of(history, random), random)
    repeated = with_repeats(log, random)
    once, often = Replica(rule).take(log), Replica(rule).take(repeated)
    assert once.outputs == often.outputs
    assert once.conflicts == often.conflicts
    rows = sum(header.counted for header, _ in log)
    counted = [often.counts(source) for source in often.state.counters]
    assert sum(c["applied"] + c["superseded"] for c in counted) == rows
    assert sum(c["duplicates"] for c in counted) == sum(h.counted for h, _ in repeated) - rows


@given(histories(), rules, seeds, st.sets(st.integers(0, 40)), st.integers(0, 40))
@settings(max_examples=150)
def test_a_crash_at_any_point_gives_the_same_outputs_under_the_same_numbers(
    history: History, rule: Resolution, seed: int, saves: set[int], crash: int
) -> None:
    random = Random(seed)
    log = with_repeats(woven(messages_of(history, random), random), random)
    straight = Replica(rule).take(log)
    replica = Replica(rule)
    for number, message in enumerate(log):
        replica.apply(*message)
        if number in saves:
            replica.save()
        if number == crash:
            break
    replica.crash_and_restore()
    replica.take(log[replica.state.next_input :])
    contents: dict[int, Any] = {}
    for header, value in replica.outputs:
        assert contents.setdefault(header.out_seq, (header, value)) == (header, value)
    assert list(contents) == list(range(1, len(contents) + 1))  # First sights have no hole.
    assert list(contents.values()) == straight.outputs
    assert replica.everything() == straight.everything()


@given(histories(), seeds)
@settings(max_examples=50)
def test_inputs_may_come_in_while_a_save_is_under_way(history: History, seed: int) -> None:
    random = Random(seed)
    log = woven(messages_of(history, random), random)
    straight = Replica().take(log)
    replica = Replica()
    in_flight: dict[bytes, bytes] | None = None
    for message in log:
        replica.apply(*message)
        if in_flight is None:
            in_flight = replica.state.take_delta()
        elif random.random() < 0.5:
            replica.store.data.update(in_flight)
            replica.state.delta_saved()
            in_flight = None
    replica.store.data.update(in_flight or {})
    replica.state.delta_saved()
    assert replica.outputs == straight.outputs
    assert replica.registers() == straight.registers()


# ------------------------------------------------------------------ one law each


def test_a_table_of_one_source_is_forwarded_untouched() -> None:
    log = RoutedLog("a")
    header, value = log.rows(ALONE, [RowChange("I", (1, "x"), 1)])
    effects = Replica().apply(header, value)
    assert effects.outputs[0].value is value
    assert effects.outputs[0].header.routed == header
    assert effects.outputs[0].header.out_seq == 1


def test_the_value_of_a_single_source_is_not_even_read() -> None:
    header, _ = RoutedLog("a").rows(ALONE, [RowChange("I", (1, "x"), 1)])
    assert Replica().apply(header, b"no avro at all").outputs[0].value == b"no avro at all"


def test_rows_without_a_key_are_never_merged() -> None:
    replica = Replica()
    for source in ("a", "b"):
        header, value = RoutedLog(source).rows(KEYLESS, [RowChange("I", (1, "x"), 1)])
        assert replica.apply(header, value).outputs[0].value is value


def test_markers_and_notes() -> None:
    log, replica = RoutedLog("a"), Replica()
    replica.take([log.rows(ALONE, [RowChange("I", (1, "x"), 1)]), log.note(5), log.marker()])
    assert [header.out_seq for header, _ in replica.outputs] == [1, 2]
    assert replica.outputs[1][0].routed.kind is RoutedKind.MARKER
    assert replica.counts("a")["filtered"] == 5
    assert replica.take([log.made[1]]).counts("a")["filtered"] == 5


def test_unchanged_outcomes_are_not_sent() -> None:
    a, b, replica = RoutedLog("a"), RoutedLog("b"), Replica()
    replica.take([a.rows(USERS, [RowChange("I", (1, "x"), 9)])])
    replica.take([b.rows(USERS, [RowChange("I", (1, "older"), 5), RowChange("I", (2, "new"), 6)])])
    second = batches(replica)[1]
    assert (second.rows(), second.ops, second.row_source) == ([(2, "new")], b"U", ["b"])
    assert list(second.origin) == [1]
    assert replica.outputs[1][0].routed.counted == 1
    assert (replica.counts("b")["applied"], replica.counts("b")["superseded"]) == (1, 1)


def test_the_winner_of_a_deleted_row_comes_back() -> None:
    replica = Replica(RULES[3])
    a, b = RoutedLog("a"), RoutedLog("b")
    replica.take([b.rows(USERS, [RowChange("I", (1, "b"), 1)]), a.rows(USERS, [RowChange("I", (1, "a"), 2)])])  # fmt: skip
    replica.take([a.rows(USERS, [RowChange("D", (1, "a"), 3)])])
    assert replica.target_rows() == {1: (1, "b")}
    assert batches(replica)[-1].row_source == ["b"]


def test_half_a_key_move_is_not_counted() -> None:
    a, b, replica = RoutedLog("a"), RoutedLog("b"), Replica()
    replica.take([a.rows(USERS, [RowChange("I", (1, "x"), 1)]), b.rows(USERS, [RowChange("I", (1, "y"), 0)])])  # fmt: skip
    moved = [RowChange("M", (1, "x"), 2, offset=5000), RowChange("U", (2, "x"), 2, offset=5000)]
    replica.take([a.rows(USERS, moved)])
    counts = replica.counts("a")
    assert counts["applied"] + counts["superseded"] == 2
    assert replica.target_rows() == {2: (2, "x")}
    assert replica.outputs[-1][0].routed.counted == 1


def test_a_message_cut_elsewhere_gives_only_what_is_new() -> None:
    log = RoutedLog("a")
    changes = [RowChange("I", (n, f"n{n}"), n) for n in range(4)]
    header, value = log.rows(ALONE, changes)
    first = decode_batch(value).take([0, 1])
    replica = Replica()
    replica.apply(replace(header, last=1, rows=2, counted=2), encode_batch(first))
    replica.apply(header, value)
    assert replica.target_rows() == {n: (n, f"n{n}") for n in range(4)}
    assert [list(batch.origin) for batch in batches(replica)] == [[0, 1], [2, 3]]
    assert (replica.counts("a")["applied"], replica.counts("a")["duplicates"]) == (4, 2)


def test_winners_of_different_shape_travel_apart_and_columns_are_filled() -> None:
    wide = table("shop.users", [("id", "int"), ("name", "varchar(20)"), ("z", "int")], ["id"])
    a, b, replica = RoutedLog("a"), RoutedLog("b"), Replica()
    replica.take([b.rows(wide, [RowChange("I", (1, "b", 7), 1), RowChange("I", (2, "b", 8), 99)])])
    replica.take([a.rows(USERS, [RowChange("I", (n, "a"), 10 + n) for n in (1, 2, 3)])])
    runs = batches(replica)[1:]
    assert [batch.rows() for batch in runs] == [[(1, "a", 7)], [(3, "a")]]
    assert [len(batch.schema.columns) for batch in runs] == [3, 2]
    assert [header.out_seq for header, _ in replica.outputs] == [1, 2, 3]


def test_a_conflict_is_recorded_with_all_opinions() -> None:
    a, b, replica = RoutedLog("a"), RoutedLog("b"), Replica()
    replica.take([a.rows(USERS, [RowChange("I", (1, "a"), 9)]), b.rows(USERS, [RowChange("I", (1, "b"), 5)])])  # fmt: skip
    record = decode_record("conflict", replica.conflicts[0])
    assert (record["kind"], record["winner"], record["outcome"]) == ("insert_insert", "a", "row")
    assert [o["row"] for o in record["opinions"]] == ['{"id":1,"name":"a"}', '{"id":1,"name":"b"}']
    assert record["opinions"][0]["ets"] == EPOCH_US + 9_000_000
    assert replica.counts("b")["conflicts"] == {"insert_insert": 1}


def test_a_delete_of_nothing_is_counted_and_raises_no_alert() -> None:
    a, b, replica = RoutedLog("a"), RoutedLog("b"), Replica()
    replica.take([a.rows(USERS, [RowChange("I", (1, "a"), 1)])])
    replica.take([a.rows(USERS, [RowChange("D", (1, "a"), 10)]), b.rows(USERS, [RowChange("D", (1, "a"), 11)])])  # fmt: skip
    assert replica.conflicts == []
    assert replica.counts("b")["conflicts"] == {"delete_missing": 1}
    assert replica.target_rows() == {}


def test_another_rule_says_again_what_the_target_can_not_have() -> None:
    a, b = RoutedLog("a"), RoutedLog("b")
    replica = Replica(RULES[1])
    replica.take([a.rows(USERS, [RowChange("I", (1, "a"), 1)]), b.rows(USERS, [RowChange("I", (1, "b"), 5)])])  # fmt: skip
    assert replica.target_rows() == {1: (1, "a")}
    replica.plan = plan_of(LATEST, version=2)
    a.plan = 2
    replica.take([a.rows(USERS, [RowChange("U", (1, "a2"), 3)])])
    assert replica.target_rows() == {
        1: (1, "b")
    }  # Under the new rule nothing changed, yet it is sent.


def test_a_newer_value_halts_and_changes_nothing() -> None:
    header, value = RoutedLog("a").rows(USERS, [RowChange("I", (1, "a"), 1)])
    replica = Replica()
    before = replica.state.meta()
    with pytest.raises(NewerFormatError):
        replica.apply(header, b"\x04" + value[1:])
    assert replica.state.meta() == before


@pytest.mark.parametrize("value", [b"", b"\x02", b"\xff\xff", b"\x02garbage"])
def test_a_damaged_value_is_set_aside_and_the_log_goes_on(value: bytes) -> None:
    log, replica = RoutedLog("a"), Replica()
    header, _ = log.rows(USERS, [RowChange("I", (1, "a"), 1)])
    assert replica.apply(header, value).damage
    assert replica.counts("a")["dead"] == 1
    replica.state.skip_unreadable(replica.state.next_input)
    replica.take([log.rows(USERS, [RowChange("I", (2, "b"), 2)])])
    assert replica.target_rows() == {2: (2, "b")}


def test_a_header_that_promises_other_rows_is_damage() -> None:
    header, value = RoutedLog("a").rows(USERS, [RowChange("I", (1, "a"), 1)])
    assert "1 rows" in Replica().apply(replace(header, rows=2), value).damage


def test_a_missing_input_halts() -> None:
    header, value = RoutedLog("a").marker()
    with pytest.raises(FatalError, match="messages between are missing"):
        Replica().state.apply(header, value, offset=1, plan=plan_of(LATEST))


def test_an_input_before_the_state_is_skipped() -> None:
    log, replica = RoutedLog("a"), Replica()
    replica.take([log.marker(), log.marker()])
    header, value = log.made[0]
    assert replica.state.apply(header, value, offset=0, plan=replica.plan) == Effects()
    assert replica.state.next_input == 2


def test_sources_that_disagree_about_the_key_halt() -> None:
    other = table("shop.users", [("uid", "int"), ("name", "varchar(20)")], ["uid"])
    replica = Replica().take([RoutedLog("a").rows(USERS, [RowChange("I", (1, "a"), 9)])])
    replica.take([RoutedLog("b").rows(other, [RowChange("I", (1, "b"), 1)])])
    with pytest.raises(FatalError, match="no column uid"):
        replica.take([RoutedLog("c").rows(other, [RowChange("I", (1, "c"), 1)])]).take(
            [_later(RoutedLog("b"), other)]
        )


def _later(log: RoutedLog, schema: TableSchema) -> RoutedMessage:
    log.seq, log.offset = 5, 9000
    return log.rows(schema, [RowChange("D", (1, "b"), 2)])


KINDS: Sequence[tuple[str, object]] = [
    ("varbinary(9)", b"\x00\xff"),
    ("bigint unsigned", (1 << 64) - 1),
    ("decimal(65,30)", "-0." + "1" * 30),
    ("double", 0.1),
    ("varchar(9)", "é\U0001f600\x00"),
    ("varchar(9)", None),
]


@pytest.mark.parametrize(("type_", "cell"), KINDS)
def test_every_kind_of_cell_survives_the_state(type_: str, cell: Any) -> None:
    schema = table("shop.users", [("id", "int"), ("c", type_)], ["id"])
    for order in permutations(["a", "b"]):
        replica = Replica()
        for source in order:
            log = RoutedLog(source)
            replica.take([log.rows(schema, [RowChange("I", (1, cell), 9 if source == "a" else 1)])])
            replica.save()
            replica.crash_and_restore()
        late = RoutedLog("c").rows(schema, [RowChange("D", (1, cell), 0)])
        replica.take([late])
        assert replica.target_rows() == {1: (1, cell)}


def test_a_code_fence_has_no_business_in_a_routed_topic() -> None:
    assert Replica().apply(RoutedHeader(RoutedKind.CODE, "a", 1), b"").damage


def test_a_truncate_among_rows_of_several_sources_halts() -> None:
    message = RoutedLog("a").rows(USERS, [RowChange("T", (0, ""), 1)])
    with pytest.raises(FatalError, match="TRUNCATE"):
        Replica().take([message])


def test_unreadable_is_not_unknown() -> None:
    assert issubclass(NewerFormatError, FormatError)
