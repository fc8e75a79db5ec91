"""What librdkafka says is told on, but for what is known."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from confluent_kafka import Producer
from gravity_devstack.port import free_port

from gravity.config.kafka import KafkaCluster
from gravity.config.target import KafkaTarget
from gravity.errors import TransientError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.client import producer_settings
from gravity.kafka.reader import LogReader


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
    reader = LogReader(KafkaCluster(brokers=(nobody,)), "c")
    try:
        with pytest.raises(TransientError, match=r"kafka\.brokers right") as caught:
            reader.partitions("some.topic", 0.2)
        assert nobody in str(caught.value)
    finally:
        reader.close()
    with pytest.raises(TransientError, match="brokers of target bus right"):
        TopicAdmin(KafkaTarget(name="bus", brokers=(nobody,))).partition_counts(0.2)


def test_a_command_that_keeps_no_log_is_not_flooded_with_librdkafka_s() -> None:
    program = f"""
from gravity.config.kafka import KafkaCluster
from gravity.errors import TransientError
from gravity.kafka.reader import LogReader
reader = LogReader(KafkaCluster(brokers=("127.0.0.1:{free_port()}",)), "c")
try:
    reader.partitions("some.topic", 1.0)
except TransientError:
    print("told")
reader.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("told\n", "")
