"""`python -m gravity_sink_kafka CONFIG [--target NAME] [--adopt]`."""

from __future__ import annotations

from typing import NoReturn

from gravity import sink_stage
from gravity.config.target import KafkaTarget
from gravity_sink_kafka.writer import KafkaWriter


def main() -> NoReturn:
    """Writes every Kafka target of the configuration."""
    sink_stage.main("sink-kafka", KafkaTarget, KafkaWriter)


if __name__ == "__main__":
    main()
