"""What librdkafka says is told on, but for what is known."""

from __future__ import annotations

import logging

import pytest
from confluent_kafka import Producer

from gravity.config.kafka import KafkaCluster
from gravity.kafka.client import producer_settings


def test_a_setting_that_was_chosen_is_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "gravity.kafka"):
        settings = producer_settings(KafkaCluster(brokers=("127.0.0.1:1",)), "c")
        producer = Producer(settings | {"debug": "conf"})
        producer.poll(0.1)
    said = [record.getMessage() for record in caplog.records]
    assert said, "other lines are told"
    assert not [line for line in said if "experimental" in line]
