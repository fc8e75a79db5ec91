from __future__ import annotations

import pytest

from gravity.codec import decode_batch, decode_record
from gravity.dead_letter import DEAD_MAX, DeadLetters
from gravity.errors import FatalError
from gravity.header import TargetHeader
from gravity.sink import Admitted, Refusal
from gravity.testing.target_log import TargetLog, table

ORDERS = table("shop.orders", [("id", "int"), ("name", "varchar(9)")], ["id"])


class Sent:
    """Remembers what is sent, and whether it was flushed."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes, bytes]] = []
        self.flushed = 0

    def send(
        self, topic: str, partition: int, value: bytes | None, *, key: bytes | None = None
    ) -> None:
        assert partition == 0
        self.messages.append((topic, key or b"", value or b""))

    def flush(self) -> None:
        self.flushed = len(self.messages)


def message(rows: int) -> Admitted:
    headers, value = TargetLog().rows(ORDERS, [("I", (n, f"n{n}")) for n in range(rows)])
    return Admitted(TargetHeader.from_kafka(headers), 7, value, decode_batch(value))


def letters(sent: Sent) -> DeadLetters:
    return DeadLetters(
        sent, "dead", conflicts="conflicts", stage="sink-x", target="t1", target_topic="target.t1"
    )


def test_a_dead_letter_names_the_row_and_carries_it() -> None:
    sent = Sent()
    letters(sent).set_aside(3, [Refusal(message(2), 1, "1406", "too long")])
    assert sent.flushed == len(sent.messages) == 2
    topic, key, value = sent.messages[0]
    record = decode_record("dead_letter", value)
    assert (topic, key) == ("dead", b"t1/3/7/1")
    assert record["stage"] == "sink-x"
    assert (record["code"], record["reason"], record["row"]) == ("1406", "too long", 1)
    assert (record["topic"], record["partition"], record["offset"]) == ("target.t1", 3, 7)
    assert record["position"] == "1:1:1200:0"
    assert record["gtid"] == "0-1-1200"
    assert decode_batch(record["value"]).rows() == [(1, "n1")]


def test_a_row_that_was_parked_is_named_by_its_place_in_the_message_it_came_with() -> None:
    sent = Sent()
    dead = letters(sent)
    whole = message(3)
    assert whole.batch is not None
    alone = Admitted(whole.header, whole.offset, b"", whole.batch.take([2]))
    dead.set_aside(3, [Refusal(alone, 0, "1452", "no parent", sent_as=2)])
    dead.set_aside(3, [Refusal(whole, 2, "1452", "no parent")])
    topic, key, value = sent.messages[0]
    record = decode_record("dead_letter", value)
    assert (topic, key) == ("dead", b"t1/3/7/2")
    assert (record["row"], record["origin_row"], record["offset"]) == (2, 2, 7)
    assert decode_batch(record["value"]).rows() == [(2, "n2")]
    assert len(sent.messages) == 2, "it is known when it comes again"


def test_a_row_refused_again_in_a_retry_is_not_written_again() -> None:
    sent = Sent()
    dead = letters(sent)
    for _ in range(3):
        dead.set_aside(0, [Refusal(message(1), 0, "x", "y")])
    assert [topic for topic, _, _ in sent.messages] == ["dead", "conflicts"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("1062", "unique_secondary"),
        ("1452", "fk_parent_missing"),
        ("1451", "fk_child_exists"),
        ("1406", "data"),
    ],
)
def test_a_row_that_the_targets_constraints_refuse_is_a_conflict(code: str, kind: str) -> None:
    sent = Sent()
    letters(sent).set_aside(3, [Refusal(message(2), 1, code, "reason")])
    record = decode_record("conflict", sent.messages[1][2])
    assert (record["kind"], record["outcome"], record["state"]) == (kind, "dead_letter", "met")
    assert (record["key"], record["key_columns"], record["partition"]) == ("[1]", ["id"], 3)
    assert record["opinions"][0]["row"] == '{"id":1,"name":"n1"}'


def test_too_many_dead_letters_halt() -> None:
    sent = Sent()
    big = message(DEAD_MAX + 1)
    with pytest.raises(FatalError, match=f"more than {DEAD_MAX} rows were refused"):
        letters(sent).set_aside(0, [Refusal(big, row, "x", "y") for row in range(DEAD_MAX + 1)])
    assert sent.messages == []
