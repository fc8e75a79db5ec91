"""What librdkafka says is told on, but for what is known."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import Producer
from gravity_devstack.port import free_port

from gravity.config.kafka import KafkaCluster
from gravity.config.target import KafkaTarget
from gravity.errors import TransientError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.client import producer_settings


def test_a_setting_that_was_chosen_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "gravity.kafka"):
        settings = producer_settings(KafkaCluster(brokers=("127.0.0.1:1",)), "c")
        producer = Producer(settings | {"debug": "conf"})
        producer.poll(0.1)
    said = [record.getMessage() for record in caplog.records]
    assert said, "other lines are told"
    assert not [line for line in said if "experimental" in line]


def test_whose_cluster_is_away_is_said() -> None:
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(TransientError, match=r"kafka\.brokers right") as caught:
        TopicAdmin(KafkaCluster(brokers=(nobody,))).partition_counts(0.2)
    assert nobody in str(caught.value)
    with pytest.raises(TransientError, match="brokers of target bus right"):
        TopicAdmin(KafkaTarget(name="bus", brokers=(nobody,))).partition_counts(0.2)
