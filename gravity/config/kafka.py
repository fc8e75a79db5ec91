"""The Kafka cluster between the stages, and the sizes in which rows travel through it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, StringConstraints, model_validator

from gravity.config.connection import KafkaSecurity
from gravity.config.model import Addresses, Duration, Model, at

DEFAULT_BROKER = "127.0.0.1:9092"
BROKERS_TEMPLATE = "${KAFKA_BROKERS:-" + DEFAULT_BROKER + "}"
"""What stands for `kafka.brokers` where the file does not give it."""


class KafkaCluster(Model):
    """The cluster that carries everything between the stages."""

    brokers: Addresses = Field(
        (DEFAULT_BROKER,),
        min_length=1,
        description="`host:port` of some brokers. Left out: `${KAFKA_BROKERS}`, else the default.",
    )
    topic_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]*$")] = Field(
        "", max_length=60, description="Put before every topic's name, such as `staging.`."
    )
    partitions: int = Field(
        4,
        ge=1,
        le=1024,
        description=(
            "Partitions of each target's topics; the most processes that can share its work. "
            "Fixed once rows have flowed."
        ),
    )
    replication_factor: int = Field(
        1, ge=1, le=32, description="Copies of every topic. 3 where nothing may be lost."
    )
    security: KafkaSecurity = Field(
        KafkaSecurity(),
        description="How the cluster is reached, if not in plain text.",
        examples=[{"protocol": "ssl"}],
    )


class Batch(Model):
    """When a message to Kafka is closed. Whichever limit is met first."""

    rows_max: PositiveInt = Field(1000, description="Rows in one message.")
    bytes_max: int = Field(
        262_144, ge=1024, le=16_777_216, description="Bytes of row data in one message."
    )
    wait_ms_max: NonNegativeInt = Field(20, description="Age of the oldest row, in milliseconds.")


class Snapshot(Model):
    """How existing rows are read."""

    chunk_rows: PositiveInt = Field(2000, description="Rows read by one query.")


SESSION_TIMEOUT_MIN = timedelta(seconds=1)
SESSION_TIMEOUT_MAX = timedelta(minutes=30)


class Collector(Model):
    """How the sources are shared out over collector processes."""

    session_timeout: Duration = Field(
        timedelta(seconds=10),
        description=(
            "How long a collector may be silent until its sources go to others. The broker allows 6 s "
            "to 30 min unless it is set otherwise (`group.min.session.timeout.ms`)."
        ),
    )

    @model_validator(mode="after")
    def _a_broker_could_allow_it(self) -> Self:
        if not SESSION_TIMEOUT_MIN <= self.session_timeout <= SESSION_TIMEOUT_MAX:
            raise at("session_timeout", "must lie between 1s and 30m")
        return self

    @property
    def session_timeout_ms(self) -> int:
        """The same in milliseconds."""
        return int(self.session_timeout.total_seconds() * 1000)


class Sink(Model):
    """When a sink stops collecting and writes. Whichever limit is met first."""

    rows_max: PositiveInt = Field(5000, description="Rows in one target transaction or insert.")
    wait_ms_max: NonNegativeInt = Field(
        100, description="Age of the oldest unwritten row, in milliseconds."
    )
    parked_rows_max: PositiveInt = Field(
        10_000,
        description=(
            "Rows of one partition that may wait at a MySQL target for a parent or a unique value; with "
            "more the partition stands still, and the sink halts when none is let go."
        ),
    )


class State(Model):
    """Where a resolver keeps its working copy of its state. Losing it costs time, not rows."""

    folder: Path = Field(
        Path("./gravity-state"), description="Folder; relative to where the stage was started."
    )
    waiting_rows_max: PositiveInt = Field(
        1_000_000,
        description=(
            "Rows that may wait in one partition behind rows on hold (`scope: table`, `scope: job`), or for a "
            "source that is down (`merge`, `on-down: stall`); with more the resolver halts. Raise it to go on."
        ),
    )
