"""The one way gravity sets Faust up: settings that lose nothing, measured on Kafka 4.1 (docs/adr/0003).

Plain Faust agents acknowledge events that failed, and a commit may jump over one un-acknowledged
event. So both Faust stages read with `noack()`, send through a producer of their own, acknowledge
strictly in order once the broker has everything, and end the process on any failure.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
from aiokafka.helpers import create_ssl_context
from faust.transport.drivers import aiokafka as kafka_driver
from faust.types import TP
from faust.types.auth import SASLMechanism

from gravity.errors import EXIT_RESTART
from gravity.kafka.producer import LogProducer
from gravity.stage import die

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster

STOP_S_MAX = 30.0
"""Seconds that a Faust stage may take to drain and leave its group."""

UNACKED_MESSAGES_MAX = 60
"""Inputs whose outputs are on their way; more wait. Bounds memory, the replay after a crash, and what an
urgent message must wait for: what has been sent leaves in order."""

_FETCH_WAIT_S = 0.1
"""Longest wait of a fetch. While it waits it does not learn that a partition may be fetched again."""
_FETCH_WAIT_HELD_S = 0.02
"""The same while one is held back."""


class _Consumer(kafka_driver.Consumer):
    """Faust's consumer, awake soon when a partition that was held back may be fetched again.

    Faust waits a second for messages of the others, and sleeps a second when all are held back: a
    partition that is held back because its queue is full would run dry meanwhile.
    """

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        active = self._get_active_partitions()
        if self.flow_active and not active:
            await self.sleep(_FETCH_WAIT_HELD_S)
            return {}, active
        wait_s = _FETCH_WAIT_HELD_S if self._buffered_partitions else _FETCH_WAIT_S
        return await super()._wait_next_records(min(timeout, wait_s))


def hold_back(app: faust.App, topic: str, partition: int) -> None:
    """Fetches nothing more of a partition; what has been fetched still comes. Harmless when repeated.

    Not Faust's `pause_partitions`: what has been fetched of a paused partition and not been handed out
    is dropped and counts as acknowledged.
    """
    app.consumer.on_buffer_full(TP(topic, partition))


def let_go(app: faust.App, topic: str, partition: int) -> None:
    """Fetches a partition again. Harmless when it was not held back."""
    app.consumer.on_buffer_drop(TP(topic, partition))


def _broker_credentials(cluster: Cluster) -> Any:
    security = cluster.security
    context = None
    if security.protocol.endswith("ssl"):
        tls = security.tls
        context = create_ssl_context(
            cafile=str(tls.ca) if tls and tls.ca else None,
            certfile=str(tls.cert) if tls and tls.cert else None,
            keyfile=str(tls.key) if tls and tls.key else None,
        )
        context.check_hostname = tls is None or tls.mode == "verify-identity"
    if security.sasl is not None:
        return faust.SASLCredentials(
            username=security.sasl.username,
            password=security.sasl.password.get_secret_value(),
            ssl_context=context,
            mechanism=SASLMechanism(security.sasl.mechanism),
        )
    return faust.SSLCredentials(context) if context is not None else None


def build_faust_app(
    cluster: Cluster,
    group: str,
    *,
    data_folder: Path,
    session_timeout_s: float = 10.0,
    fetch_bytes_max: int = 4 * 1024 * 1024,
    member: str = "",
) -> faust.App:
    """An app whose id, and so consumer group, is `group`. Reads raw bytes, has no tables, makes no topics.

    After `session_timeout_s` of silence its partitions go to another process. While a fetch of up to
    `fetch_bytes_max` of one partition is on its way, aiokafka fetches no other of the same broker. `member` is a
    name that outlives the process: whoever comes back under it gets its partitions back at once.
    """
    data_folder.mkdir(parents=True, exist_ok=True)  # Faust makes only the last folder.
    app = faust.App(
        group,
        broker=[f"kafka://{address}" for address in cluster.brokers],
        broker_credentials=_broker_credentials(cluster),
        autodiscover=False,
        datadir=str(data_folder),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        # No tables and no standbys: aiokafka's round-robin spreads topics of one partition over workers;
        # Faust's own assignor would give all of them to one.
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=member or None,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=min(1.0, session_timeout_s / 5),
        broker_rebalance_timeout=30.0,
        broker_request_timeout=40.0,
        broker_max_poll_interval=600.0,
        broker_commit_interval=1.0,
        # The buffer must hold five polls, or one full topic blocks the fetching of all others.
        broker_max_poll_records=100,
        stream_buffer_maxsize=600,
        consumer_max_fetch_size=fetch_bytes_max,
        stream_wait_empty=False,
        consumer_metadata_max_age_ms=30000,
        web_enabled=False,
    )
    app.transport.Consumer = _Consumer  # type: ignore[misc]  # Faust's own place for another class.
    return app


class _Worker(faust.Worker):
    """Faust's worker without its spinner, and with a bound on how long it may take to stop."""

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        # Nothing un-acknowledged is lost by an abrupt end; a worker that hangs in a rebalance is.
        timer = threading.Timer(STOP_S_MAX, os._exit, (EXIT_RESTART,))
        timer.daemon = True
        timer.start()
        super()._schedule_shutdown(signal)


def run_faust(app: faust.App) -> None:
    """Runs the app's worker until SIGTERM or SIGINT; ends at most STOP_S_MAX later."""
    # Until Faust has handlers of its own a signal would be lost; nothing has been taken in before that.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    worker = _Worker(app, loglevel=logging.WARNING, quiet=True, redirect_stdouts=False)
    worker.spinner = None
    worker.execute_from_commandline()


def end_with(task: asyncio.Task[None]) -> None:
    """A callback for tasks that never end: the process ends with them, unless they were cancelled."""
    if not task.cancelled():
        die(task.exception() or RuntimeError("a task that never ends has ended"))


class AssignmentGate:
    """Lets events through only while the hook of the latest assignment has finished.

    Faust resumes the flow while that hook still runs (docs/adr/0003), so the agent must wait itself.
    """

    def __init__(self, app: faust.App) -> None:
        self._app = app
        self._open = asyncio.Event()

    def close(self) -> None:
        """A rebalance has begun."""
        self._open.clear()

    def open(self) -> None:
        """What the assignment needs is there."""
        self._open.set()

    @property
    def is_open(self) -> bool:
        """Whether events are let through."""
        return self._open.is_set()

    async def lets_through(self, message: Any) -> bool:
        """Waits until the gate is open; then, whether `message` belongs to the present assignment.

        One that was fetched before a rebalance will be read again by whoever owns it now.
        """
        await self._open.wait()
        return bool(message.generation_id == self._app.consumer_generation_id)


@dataclass(slots=True)
class _Pending:
    event: Any
    left: int
    """Outputs that the broker has not acknowledged yet."""
    done: Callable[[], None] | None = None


@dataclass
class OrderedAcks:
    """Acknowledges inputs strictly in order, each after all its outputs; any failure ends the process.

    One instance serves one agent. Deliveries are counted in the producer's thread.
    """

    producer: LogProducer
    ack: Callable[[Any], Awaitable[object]]
    _pending: deque[_Pending] = field(default_factory=deque)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to serve deliveries, in the running event loop."""
        self._room.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def expect(self, event: object, outputs: int) -> Callable[[int], None]:
        """Registers an input about to send `outputs` messages; returns their delivery callback.

        Waits while too many inputs are un-acknowledged.
        """
        while len(self._pending) >= UNACKED_MESSAGES_MAX:
            self._room.clear()
            await self._room.wait()
        pending = _Pending(event, outputs)
        self._pending.append(pending)

        def delivered(_offset: int) -> None:
            pending.left -= 1

        return delivered

    async def drained(self) -> None:
        """Returns once every registered input has been acknowledged."""
        while self._pending:  # noqa: ASYNC110 - a rebalance or the end, milliseconds
            await asyncio.sleep(0.005)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                # Without anything in flight nothing comes back: look again soon, at no cost.
                if self.producer.queued():
                    await loop.run_in_executor(None, self.producer.serve, 0.05)
                else:
                    await asyncio.sleep(0.005)
                    self.producer.check()
                while self._pending and self._pending[0].left <= 0:
                    await self.ack(self._pending.popleft().event)
                if len(self._pending) < UNACKED_MESSAGES_MAX:
                    self._room.set()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - nothing may be acknowledged after a failure
            die(error)
