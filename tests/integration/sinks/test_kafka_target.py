"""What only Kafka targets can show: the messages as a consumer sees them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from gravity_devstack import Stack

from gravity.errors import TransientError
from gravity.kafka.admin import TopicAdmin
from gravity.testing.target_log import TargetLog, table
from tests.sink_lane import cut, drain, offer, take_over
from tests.target_server import KafkaServer

pytestmark = pytest.mark.stack


@pytest.fixture(params=["json", "debezium", "avro", "event"])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[KafkaServer]:
    made = KafkaServer(stack, request.param)
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


def test_the_same_write_gives_the_same_bytes(server: KafkaServer) -> None:
    # Readers may drop by version what a replay brings again: so it must be equal in all else.
    schema = table(f"{server.database}.orders", [("id", "int"), ("name", "varchar(9)")], ["id"])
    changes = [("I", (1, "a")), ("U", (1, "b")), ("D", (1, "b"))]
    drain(take_over(server), [TargetLog().rows(schema, changes)])
    topic = f"{server.database}.orders"
    first = [(m.key, m.value, m.headers) for m in server.raw(topic)]
    admin = TopicAdmin(server.cluster)
    admin.delete([topic, f"_gravity_progress.{server.name}", f"_gravity_schemas.{server.name}"])
    drain(take_over(server), [TargetLog().rows(schema, changes)])
    assert [(m.key, m.value, m.headers) for m in server.raw(topic)] == first
    assert len(first) == 4


def test_what_is_known_of_a_change_is_in_headers_where_the_value_has_no_place(
    server: KafkaServer,
) -> None:
    schema = table(f"{server.database}.orders", [("id", "int"), ("n", "int")], ["id"])
    drain(take_over(server), [TargetLog().rows(schema, [("I", (1, 1)), ("D", (1, 1))])])
    inserted, deleted, tombstone = server.raw(f"{server.database}.orders")
    assert tombstone.value is None
    if server.form == "json":
        assert not any(m.headers for m in (inserted, deleted, tombstone))
        return
    assert dict(inserted.headers)["gravity.position"] == b"1:1:1100:0"
    assert tombstone.headers == deleted.headers
    assert dict(tombstone.headers)["gravity.op"] == b"delete"


def test_a_topic_keeps_the_last_message_of_a_row_but_every_event(server: KafkaServer) -> None:
    schema = table(f"{server.database}.orders", [("id", "int")], ["id"])
    drain(take_over(server), [TargetLog().rows(schema, [("I", (1,))])])
    admin = AdminClient({"bootstrap.servers": server.brokers[0]})
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{server.database}.orders")
    (future,) = admin.describe_configs([resource]).values()
    wanted = "delete" if server.form == "event" else "compact"
    assert future.result()["cleanup.policy"].value == wanted


def test_a_schema_is_published_before_its_first_value_and_once_for_each_shape(
    stack: Stack,
) -> None:
    server = KafkaServer(stack, "avro")
    name = f"{server.database}.orders"
    narrow = table(name, [("id", "int")], ["id"])
    wide = table(name, [("id", "int"), ("n", "bigint unsigned")], ["id"])
    log = TargetLog()
    topic = [
        log.rows(narrow, [("I", (1,))]),
        log.rows(narrow, [("I", (2,))]),
        log.rows(wide, [("I", (3, 2**64 - 1))]),
    ]
    lane = drain(take_over(server), topic[:2])
    drain(lane, topic)
    published = server.raw(f"_gravity_schemas.{server.name}")
    assert len({m.key for m in published}) == len(published) == 2
    first = min(m.timestamp_ms for m in server.raw(name))
    assert published[0].timestamp_ms <= first
    assert server.rows("orders") == {"1": (), "2": (), "3": (str(2**64 - 1),)}
