"""Kafka: ready for groups and transactions at once, and what survives a crash."""

import uuid

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from gravity_devstack import KafkaServer, Stack

TIMEOUT_S = 30


@pytest.fixture
def kafka(stack: Stack) -> KafkaServer:
    return stack.kafka()


@pytest.fixture
def topic(kafka: KafkaServer) -> str:
    name = f"test-{uuid.uuid4()}"
    admin = AdminClient({"bootstrap.servers": kafka.brokers})
    admin.create_topics([NewTopic(name, 1)])[name].result(TIMEOUT_S)
    return name


def produce(kafka: KafkaServer, topic: str, value: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.brokers, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(TIMEOUT_S) == 0


def consume(kafka: KafkaServer, topic: str, count: int) -> list[str]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.brokers,
            "group.id": f"group-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "session.timeout.ms": 1000,
            "heartbeat.interval.ms": 300,
        }
    )
    consumer.subscribe([topic])
    try:
        messages = consumer.consume(count, TIMEOUT_S)
    finally:
        consumer.close()
    return [(message.value() or b"").decode() for message in messages if not message.error()]


def test_only_internal_topics_are_there_and_they_are_there() -> None:
    with Stack() as other:
        brokers = other.kafka().brokers
        names = set(AdminClient({"bootstrap.servers": brokers}).list_topics(timeout=10).topics)
    assert names == {"__consumer_offsets", "__transaction_state"}


def test_topics_are_not_made_by_accident(kafka: KafkaServer) -> None:
    producer = Producer({"bootstrap.servers": kafka.brokers, "message.timeout.ms": 2000})
    errors: list[object] = []
    producer.produce("misspelt", "x", on_delivery=lambda error, _: errors.append(error))
    producer.flush(TIMEOUT_S)
    assert errors
    assert errors[0] is not None


def test_records_and_groups_survive_a_kill(kafka: KafkaServer, topic: str) -> None:
    produce(kafka, topic, "before")
    kafka.kill()
    kafka.start()
    produce(kafka, topic, "after")
    assert consume(kafka, topic, 2) == ["before", "after"]


def test_a_transaction_is_committed(kafka: KafkaServer, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka.brokers, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_S)
    for value, end in (
        ("dropped", producer.abort_transaction),
        ("kept", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.produce(topic, value)
        end(TIMEOUT_S)
    assert consume(kafka, topic, 1) == ["kept"]


def test_a_frozen_broker_keeps_silent_until_thawed(kafka: KafkaServer) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.brokers})
    assert admin.list_topics(timeout=TIMEOUT_S)
    kafka.freeze()
    try:
        with pytest.raises(KafkaException):
            admin.list_topics(timeout=1)
    finally:
        kafka.thaw()
    assert admin.list_topics(timeout=TIMEOUT_S)
