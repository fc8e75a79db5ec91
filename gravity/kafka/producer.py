"""Sending to Kafka such that nothing is believed to be there before the broker said so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from gravity.errors import FencedError, GravityError, TransientError
from gravity.kafka.client import LINGER_MS, kafka_error, producer_settings

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster

Delivered = Callable[[int], None]
"""Called with the offset once the broker has the message."""


class LogProducer:
    """An idempotent producer whose failures can't go unnoticed.

    The first delivery that fails is kept: every later call raises it. Callbacks run inside `serve`,
    `flush` and `send`, in the caller's thread.
    """

    def __init__(
        self,
        cluster: Cluster,
        client_id: str,
        transactional_id: str | None = None,
        *,
        is_awaited: bool = False,
    ) -> None:
        """`is_awaited`: a COMMIT waits for what is sent, so each message leaves at once."""
        settings = producer_settings(cluster, client_id, 0.0 if is_awaited else LINGER_MS)
        if transactional_id is not None:
            settings["transactional.id"] = transactional_id
            settings["transaction.timeout.ms"] = 60000
            # A transaction is all or nothing; librdkafka wants its messages to end before it does.
            settings["delivery.timeout.ms"] = 60000
        self._producer = Producer(settings)
        self._failure: GravityError | None = None
        self._where = transactional_id or client_id

    def send(
        self,
        topic: str,
        partition: int,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        *,
        key: bytes | None = None,
        delivered: Delivered | None = None,
    ) -> None:
        """Queues one message. Waits while the queue is full: that is the back-pressure."""

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failure = self._failure or kafka_error(error, f"{topic}/{partition}")
            elif delivered is not None:
                offset = message.offset()
                delivered(-1 if offset is None else offset)

        self.check()
        while True:
            try:
                self._producer.produce(
                    topic,
                    value=value,
                    key=key,
                    partition=partition,
                    headers=list(headers),
                    on_delivery=on_delivery,
                )
            except BufferError:
                self._producer.poll(0.1)
                self.check()
            except KafkaException as error:
                raise kafka_error(error, f"{topic}/{partition}") from error
            else:
                return

    def serve(self, timeout_s: float = 0.0) -> None:
        """Runs callbacks of deliveries that are in; waits for the first at most `timeout_s`."""
        self._producer.poll(timeout_s)
        self.check()

    def flush(self, timeout_s: float = 70.0) -> None:
        """Returns once everything sent has been acknowledged; raises otherwise."""
        left = self._producer.flush(timeout_s)
        self.check()
        if left:
            raise TransientError(
                f"{left} messages were not acknowledged within {timeout_s} s", where=self._where
            )

    def check(self) -> None:
        """Raises the first failed delivery, if there was one."""
        if self._failure is not None:
            raise self._failure

    def queued(self) -> int:
        """Messages (and unserved callbacks) that are not done."""
        return len(self._producer)

    def init_transactions(self, timeout_s: float = 60.0) -> None:
        """Fences every earlier producer of the same transactional id."""
        self._transactional(lambda: self._producer.init_transactions(timeout_s))

    def begin(self) -> None:
        """Begins a transaction."""
        self._transactional(self._producer.begin_transaction)

    def commit(self, timeout_s: float = 60.0) -> None:
        """Commits; raises FencedError when another producer has this transactional id now."""
        self._transactional(lambda: self._producer.commit_transaction(timeout_s))
        self.check()

    def abort(self, timeout_s: float = 60.0) -> None:
        """Drops what the transaction sent."""
        self._transactional(lambda: self._producer.abort_transaction(timeout_s))

    def _transactional(self, step: Callable[[], object]) -> None:
        try:
            step()
        except KafkaException as error:
            problem = kafka_error(error, self._where)
            if error.args[0].fatal() and not isinstance(problem, FencedError):
                problem = FencedError(problem.what, where=self._where, remedy=problem.remedy)
            raise problem from error
