"""How every client of the cluster is set up: addresses, security, quiet logging."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from confluent_kafka import KafkaError, KafkaException

from gravity.errors import (
    FatalError,
    FencedError,
    GravityError,
    OffsetLostError,
    PoisonError,
    TransientError,
)

if TYPE_CHECKING:
    from gravity.config.connection import KafkaSecurity

Settings = dict[str, object]


class Cluster(Protocol):
    """Any part of the configuration that says where a Kafka cluster is and how it is reached."""

    @property
    def brokers(self) -> tuple[str, ...]:
        """`host:port` of some brokers."""

    @property
    def security(self) -> KafkaSecurity:
        """Protocol, login, certificates."""


MESSAGE_BYTES_MAX = 20 * 1024 * 1024
"""Largest message that we send or read; topics are created with the same limit."""

_ERROR_BY_CODE: dict[int, type[GravityError]] = {
    KafkaError._FENCED: FencedError,
    KafkaError.FENCED_INSTANCE_ID: FencedError,
    KafkaError.INVALID_PRODUCER_EPOCH: FencedError,
    KafkaError.PRODUCER_FENCED: FencedError,
    KafkaError.MSG_SIZE_TOO_LARGE: PoisonError,
    KafkaError.OFFSET_OUT_OF_RANGE: OffsetLostError,
    KafkaError._AUTO_OFFSET_RESET: OffsetLostError,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: FatalError,
    KafkaError.GROUP_AUTHORIZATION_FAILED: FatalError,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: FatalError,
    KafkaError.SASL_AUTHENTICATION_FAILED: FatalError,
    KafkaError._AUTHENTICATION: FatalError,
}
_REMEDY: dict[type[GravityError], str] = {
    FencedError: "another process has taken over this partition; this one ends",
    OffsetLostError: "retention has taken messages that were not read yet: see docs/what-if.md",
    FatalError: "check kafka.security and the ACLs of this user",
    PoisonError: "lower batch.bytes-max, or raise the topic's max.message.bytes",
}


def kafka_error(error: KafkaError | KafkaException, where: str) -> GravityError:
    """`error` in gravity's taxonomy; unknown codes are transient only if librdkafka says so."""
    cause = error.args[0] if isinstance(error, KafkaException) else error
    kind = _ERROR_BY_CODE.get(cause.code())
    if kind is None:
        kind = TransientError if cause.retriable() or not cause.fatal() else FatalError
    return kind(
        f"Kafka says {cause.name()}: {cause.str()}", where=where, remedy=_REMEDY.get(kind, "")
    )


_AWAY = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE})


def metadata_error(error: KafkaException, cluster: Cluster, where: str) -> GravityError:
    """Why a cluster did not say which topics it has: it is away, or what it says of `where`."""
    return (
        unreachable(error, cluster) if error.args[0].code() in _AWAY else kafka_error(error, where)
    )


def unreachable(error: KafkaException, cluster: Cluster) -> TransientError:
    """No broker of `cluster` answers: which, and what to look at."""
    brokers, target = ",".join(cluster.brokers), getattr(cluster, "name", "")
    key = f"brokers of target {target}" if target else "kafka.brokers"
    return TransientError(
        f"Kafka can't be reached: {error.args[0].str()}",
        where=f"target {target}, {brokers}" if target else brokers,
        remedy=f"is the broker up, and is its address in {key} right?",
    )


def security_settings(security: KafkaSecurity) -> Settings:
    """Librdkafka settings of a protocol, a login and certificates."""
    settings: Settings = {"security.protocol": security.protocol}
    if security.sasl is not None:
        settings["sasl.mechanism"] = security.sasl.mechanism
        settings["sasl.username"] = security.sasl.username
        settings["sasl.password"] = security.sasl.password.get_secret_value()
    if security.tls is not None:
        files = {
            "ssl.ca.location": security.tls.ca,
            "ssl.certificate.location": security.tls.cert,
            "ssl.key.location": security.tls.key,
        }
        settings.update({name: str(path) for name, path in files.items() if path is not None})
        settings["enable.ssl.certificate.verification"] = security.tls.mode in (
            "verify-ca",
            "verify-identity",
        )
        settings["ssl.endpoint.identification.algorithm"] = (
            "https" if security.tls.mode == "verify-identity" else "none"
        )
    return settings


_LOGGER = logging.getLogger("gravity.kafka")


def _is_news(record: logging.LogRecord) -> bool:
    """Whether librdkafka's line tells anything: that a setting chosen here is experimental is known here."""
    return "enable.gapless.guarantee is experimental" not in record.getMessage()


_UNHEARD = logging.NullHandler()
"""For a command that keeps no log: it says once, in its own words, what librdkafka would say at each attempt."""


def client_settings(cluster: Cluster, client_id: str) -> Settings:
    """Librdkafka settings that every client of `cluster` shares."""
    _LOGGER.addFilter(_is_news)
    _LOGGER.addHandler(_UNHEARD)
    return {
        "bootstrap.servers": ",".join(cluster.brokers),
        "client.id": client_id,
        "logger": _LOGGER,
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 2000,
        **security_settings(cluster.security),
    }


def consumer_settings(cluster: Cluster, client_id: str) -> Settings:
    """Settings of every consumer: no automatic anything, and no stalls between fetches."""
    return {
        **client_settings(cluster, client_id),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An offset that is gone must be an error: `earliest` or `latest` would skip rows in silence.
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        # The default waits a second whenever the local queue is full; 2 ms doubles a drain's rate.
        "fetch.queue.backoff.ms": 2,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 65536,
        "fetch.message.max.bytes": 4 * 1024 * 1024,
        "receive.message.max.bytes": MESSAGE_BYTES_MAX + 64 * 1024 * 1024,
        "fetch.max.bytes": MESSAGE_BYTES_MAX,
        "allow.auto.create.topics": False,
    }


LINGER_MS = 2.0
"""How long a producer waits for more to send in one request."""


def producer_settings(cluster: Cluster, client_id: str, linger_ms: float = LINGER_MS) -> Settings:
    """Settings of every producer: idempotent, acknowledged by all replicas, small linger."""
    return {
        **client_settings(cluster, client_id),
        "enable.idempotence": True,
        # Without it a batch that the broker refuses is left out and the next ones are sent: what
        # comes after the gap would make the refused message, sent again later, look like a repeat.
        # Guarded by tests/integration/router: test_what_the_broker_refuses_is_not_lost.
        "enable.gapless.guarantee": True,
        "acks": "all",
        "linger.ms": linger_ms,
        "compression.type": "lz4",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.kbytes": 131072,
        "queue.buffering.max.messages": 100000,
        # For the same reason no message may time out by itself while newer ones go on: whoever has
        # waited too long (`flush`) ends the process, and with it everything that was queued.
        "delivery.timeout.ms": 0,
    }
