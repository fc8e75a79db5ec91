"""The process of a sink: from its command line to one loop per target."""

from __future__ import annotations

import argparse
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

from gravity.config import load_config
from gravity.config.conflict import ConflictResolution
from gravity.config.target import ClickhouseTarget, KafkaTarget, MysqlTarget
from gravity.errors import FatalError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.sink import Pace, SinkWriter
from gravity.sink_loop import SinkLoop
from gravity.stage import run_stage
from gravity.topic import Topics

TargetT = TypeVar("TargetT", MysqlTarget, ClickhouseTarget, KafkaTarget)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a writer is told beside its target's own configuration."""

    resolver_epoch: int
    topic_id: str
    """Identity of the target topic: another one although its name is the same means another log."""
    adopt: bool
    """Whether tables that already hold rows may be written to."""
    pace: Pace
    prefix: str = ""
    """The installation's topic prefix."""
    partitions: int = 1
    """Partitions of the target topic: how many lanes there are."""
    is_awaited: bool = False
    """Whether COMMITs at a source wait for this target."""
    conflicts: ConflictResolution = field(default_factory=ConflictResolution)
    """What a row leads to that the target's constraints refuse."""
    parked_rows_max: int = 10_000
    """Rows of a lane that may wait at the target."""


WriterFactory = Callable[[TargetT, Surroundings], SinkWriter]


def main(stage: str, kind: type[TargetT], make_writer: WriterFactory[TargetT]) -> NoReturn:
    """Runs the sink `stage` for the targets of type `kind` that the command line's file names."""
    parser = argparse.ArgumentParser(
        prog=f"gravity-{stage}", description=f"Writes {kind.__name__} targets."
    )
    parser.add_argument("config", type=Path, help="configuration file")
    parser.add_argument(
        "--target", action="append", default=[], help="only this target; may be repeated"
    )
    parser.add_argument(
        "--adopt", action="store_true", help="write to tables that already hold rows of their own"
    )
    parser.add_argument(
        "--session-timeout-ms",
        type=int,
        default=10000,
        help="silence after which Kafka gives this process's partitions to another",
    )
    parser.add_argument("--member", default="", help="a name that stays the same after a restart")
    arguments = parser.parse_args()

    def body(stop: threading.Event) -> None:
        _run_targets(stage, kind, make_writer, arguments, stop)

    run_stage(stage, body)


def _run_targets(
    stage: str,
    kind: type[TargetT],
    make_writer: WriterFactory[TargetT],
    arguments: argparse.Namespace,
    stop: threading.Event,
) -> None:
    config = load_config(arguments.config).config
    names = set(arguments.target)
    targets = [t for t in config.targets if isinstance(t, kind) and (not names or t.name in names)]
    unknown = names - {target.name for target in targets}
    if unknown or not targets:
        raise FatalError(
            f"no target of this stage's type is called {', '.join(sorted(unknown)) or 'anything'}",
            where=str(arguments.config),
            remedy="name one with --target, or add it to the configuration",
        )
    cluster = config.kafka
    control = ControlTopic(cluster, Topics(cluster.topic_prefix).control, stage)
    epoch = PlanStore(control).require_newest().resolver_epoch
    control.close()
    topics = Topics(cluster.topic_prefix, epoch)
    admin = TopicAdmin(cluster)
    loops = []
    for target in targets:
        target.require_connection()
        around = Surroundings(
            resolver_epoch=epoch,
            topic_id=admin.topic_id(topics.target(target.name)),
            adopt=arguments.adopt,
            pace=Pace(
                rows_max=config.sink.rows_max,
                wait_ms_max=config.sink.wait_ms_max,
                wait_ms_idle=config.sink.wait_ms_max,
            ),
            prefix=cluster.topic_prefix,
            partitions=cluster.partitions,
            is_awaited=config.is_awaited(target.name),
            conflicts=config.conflict_resolution,
            parked_rows_max=config.sink.parked_rows_max,
        )
        loops.append(
            SinkLoop(
                stage=stage,
                target=target.name,
                cluster=cluster,
                topics=topics,
                writer=make_writer(target, around),
                session_timeout_ms=arguments.session_timeout_ms,
                member=arguments.member,
                is_awaited=config.is_awaited(target.name),
            )
        )
    _run_together(loops, stop)


def _run_together(loops: list[SinkLoop], stop: threading.Event) -> None:
    """Runs all loops until `stop`; the first failure of any is raised here and ends the process.

    A target that is away is no failure: its loop waits, and the others go on.
    """
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(loop: SinkLoop) -> None:
        try:
            loop.run(stop)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            ended.put(error)
        else:
            ended.put(None)

    for loop in loops:
        threading.Thread(target=run, args=(loop,), daemon=True).start()
    for _ in loops:
        error = ended.get()
        if error is not None:
            raise error
