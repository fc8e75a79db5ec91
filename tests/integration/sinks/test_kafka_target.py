"""What only Kafka targets can show: the messages as a consumer sees them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack

from gravity.errors import TransientError
from gravity.testing.target_log import TargetLog, table
from tests.sink_lane import cut, drain, offer, take_over
from tests.target_server import KafkaServer

pytestmark = pytest.mark.stack


@pytest.fixture
def server(stack: Stack) -> Iterator[KafkaServer]:
    made = KafkaServer(stack)
    yield made
    made.close()


def test_every_change_is_a_message_and_a_delete_is_two(server: KafkaServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    changes = [("I", (1, 1)), ("U", (1, 2)), ("D", (1, 2)), ("I", (1, 3))]
    drain(take_over(server), [TargetLog().rows(schema, changes)])
    seen = [
        None if record is None else (record["_gravity"]["op"], record["n"])
        for _, record in server.messages("orders")
    ]
    assert seen == [("insert", 1), ("update", 2), ("delete", 2), None, ("insert", 3)]
    versions = [r["_gravity"]["version"] for _, r in server.messages("orders") if r]
    assert versions == sorted(versions)


def test_rows_of_an_unfinished_transaction_are_never_seen(server: KafkaServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    log = TargetLog()
    topic = [log.rows(schema, [("I", (1, 1))])]
    lane = drain(take_over(server), topic)
    topic.append(log.rows(schema, [("I", (2, 2))]))
    offer(lane, topic)
    real = lane.writer._transact  # type: ignore[attr-defined]

    def die_before_commit(producer: object, *arguments: object) -> None:
        producer.commit = producer.flush  # type: ignore[attr-defined]
        real(producer, *arguments)
        raise TransientError("killed")

    lane.writer._transact = die_before_commit  # type: ignore[attr-defined]
    with pytest.raises(TransientError):
        lane.writer.write(cut(lane), lambda _: None)
    assert set(server.rows("orders")) == {"1"}
    drain(take_over(server), topic)
    assert server.history("orders") in (["1", "2"], ["2", "1"])


def test_an_existing_topic_keeps_its_own_number_of_partitions(server: KafkaServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int")], ["id"])
    server.fill_by_others(schema)
    rows = [("I", (n,)) for n in range(20)]
    drain(take_over(server, adopt=True), [TargetLog().rows(schema, rows)])
    assert len(server.history("orders")) == 21
