"""Three sources of speeds 1 : 3 : 10 merged by time through a real Kafka; one dies, and so does the resolver.

What leaves is held, row by row, to a model that knows single rows and one list (tests/merged_histories.py).
"""

from __future__ import annotations

import random
import signal
import tempfile
from itertools import pairwise
from pathlib import Path

from confluent_kafka import Producer
from gravity_devstack import Stack

from gravity.clock import now_us
from gravity.codec import decode_batch
from gravity.fault import FaultPoint
from gravity.header import RoutedKind
from gravity.plan_compiler import SourceTable
from gravity.testing.routed_log import EPOCH_US
from tests.merged_histories import OWN, RANKS, History, MergeReplica, Model, Out, Row
from tests.prove.report import Report
from tests.resolver_installation import TARGET, Installation, first_sights

MAX_WAIT_MS = 5_000
SECONDS = 300
"""How long a history is, by its own time."""
KILLS = (FaultPoint.RESOLVER_SENT_IN_PART, FaultPoint.RESOLVER_SENT_NOT_SAVED)


def run(report: Report) -> None:
    """Quotes rows, late ones, and how many waited at most."""
    seconds = max(30, report.scaled(SECONDS))
    with Stack() as stack:
        brokers = stack.kafka().brokers
        for name, dies, for_ms, rows_max in (
            ("all alive", "", 0, 100_000),
            ("one silent for less than max-wait", "b", 2_000, 100_000),
            ("one dead for 20 s", "b", 20_000, 100_000),
            ("one dead for 20 s, 15 rows may wait", "b", 20_000, 15),
        ):
            rng = random.Random(report.seed)
            history = History.random(rng, seconds=seconds, dies=dies, for_ms=for_ms).with_end()
            model, most = Model(MAX_WAIT_MS, rows_max), 0
            for said in history.said:
                model.take(said)
                most = max(most, len(model.waiting))
            with tempfile.TemporaryDirectory() as folder:
                out, messages = through_kafka(Path(folder), brokers, history, rows_max)
            wrong = [
                f"row {number}: {found}, not {wanted}"
                for number, (found, wanted) in enumerate(zip(out, model.out, strict=False))
                if found != wanted
            ]
            if len(out) != len(model.out) or len(out) != len(history.rows):
                wrong.append(f"{len(out)} rows left of {len(history.rows)}")
            late = sum(one.late for one in out)
            if late and not for_ms:
                wrong.append(f"{late} rows are late though nobody died")
            if most > rows_max:
                wrong.append(f"{most} rows waited")
            kept = [one.row for one in out if not one.late]
            wrong += [f"{b} behind {a}" for a, b in pairwise(kept) if b < a]
            report.line(
                f"merge, {name}",
                pairs=len(out),
                differences=len(wrong),
                examples=wrong[:3],
                note=f"late={late} unawaited={model.unawaited} waited_at_most={most} messages={messages}",
            )


def through_kafka(
    folder: Path, brokers: str, history: History, rows_max: int
) -> tuple[list[Out], int]:
    """What left the real resolver, killed twice meanwhile, and in how many messages."""
    install = Installation(
        folder,
        brokers,
        tables=[SourceTable(name, schema) for name, schema in OWN.items()],
        merge=f"{{strategy: time-ordered, max-ahead-rows: {rows_max}}}",
    )
    try:
        writer, end_ms = MergeReplica(), max(said.time_ms for said in history.said)
        producer = Producer(
            {"bootstrap.servers": brokers, "enable.idempotence": True, "acks": "all"}
        )
        begin_ms = now_us() // 1000 - end_ms
        for said in history.said:
            header, value = writer.message(said)
            install.inputs[0].append((header, value))
            producer.produce(
                install.topics.routed(TARGET), value, partition=0, headers=header.to_kafka(),
                timestamp=begin_ms + said.time_ms,
            )  # fmt: skip
            producer.poll(0)
        producer.flush()
        for fault in KILLS:
            killed = install.start(fault=f"{fault}:{1 if fault is KILLS[1] else 40}:kill")
            assert killed.wait() == -signal.SIGKILL, killed.output()
            install.empty_disk()
        last = install.start()
        wanted = len(history.rows)
        install.await_rows(wanted)
        install.await_saved()
        assert last.stop() == 0, last.output()
        install.check(folder / "judge")
        return read_rows(install), len(first_sights(install.outputs()))
    finally:
        install.close()


def read_rows(install: Installation) -> list[Out]:
    """The rows in the target topic, copies of messages left out."""
    found = []
    for header, value in first_sights(install.outputs()):
        routed = header.routed
        if routed.kind is not RoutedKind.ROWS:
            continue
        batch = decode_batch(value)
        for tx, row in zip(batch.tx, batch.rows(), strict=True):
            ets = (batch.transactions[tx].ets - EPOCH_US) // 1000
            found.append(Out(Row(ets, RANKS[routed.source], int(row[0] or 0)), routed.late))
    return found
