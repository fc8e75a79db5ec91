"""The resolver as processes on a real broker, and what the pure function says they must do."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from gravity_resolver.replica import META_KEY, PartitionState
from gravity_resolver.store import PartitionStore

from gravity.config import load_config
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader, committed_offsets
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.testing.routed_log import RoutedMessage
from gravity.testing.sink_process import SinkProcess
from gravity.testing.target_log import table
from gravity.testing.waiting import wait_until
from gravity.topic import Topics, plan_key

USERS = table("shop.users", [("id", "int"), ("name", "varchar(20)")], ["id"])
LOGS = table("shop.logs", [("id", "int"), ("line", "varchar(20)")], ["id"])
TARGET = "t"
TABLES = (SourceTable("a", USERS), SourceTable("b", USERS), SourceTable("a", LOGS))

_numbers = itertools.count(1)


class DictStore:
    """A store that forgets with the process: for the function itself."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(item for item in self.data.items() if item[0].startswith(prefix)))


class Installation:
    """One target's topics with the sources of `tables` in front of it, and resolvers between."""

    def __init__(
        self,
        folder: Path,
        brokers: str,
        *,
        partitions: int = 1,
        strategy: str = "timestamp-latest",
        rules: str = "[]",
        tables: Sequence[SourceTable] = TABLES,
        merge: str = "{}",
    ) -> None:
        self.folder = folder
        self.partitions = partitions
        self.path = folder / "gravity.yaml"
        self.disk = folder / "state"
        self.tables = tables
        named: dict[str, list[str]] = {}
        for item in tables:
            named.setdefault(item.source, []).append(item.schema.table)
        sources = "\n".join(
            f"    - {{name: {name}, type: mysql, host: h, username: u, password: p, databases: [shop], "
            f"tables: [{', '.join(names)}]}}"
            for name, names in named.items()
        )
        self.path.write_text(f"""
gravity:
  kafka: {{brokers: ["{brokers}"], topic-prefix: r{next(_numbers)}-, partitions: {partitions}}}
  state: {{folder: {self.disk}}}
  sources:
{sources}
  targets:
    - {{name: {TARGET}, type: kafka, brokers: ["{brokers}"]}}
  conflict-resolution: {{default-strategy: {strategy}, rules: {rules}}}
  merge: {merge}
""")
        self.cluster = load_config(self.path).config.kafka
        self.topics = Topics(self.cluster.topic_prefix)
        TopicAdmin(self.cluster).ensure(
            self.topics.all_specs(list(named), [TARGET], self.cluster.partitions)
        )
        self.plan = self._activate()
        self._producer = LogProducer(self.cluster, "test")
        self._reader = LogReader(self.cluster, "test")
        self._processes: list[SinkProcess] = []
        self.inputs: dict[int, list[RoutedMessage]] = {q: [] for q in range(partitions)}

    def _activate(self) -> RoutingPlan:
        plan = compile_plan(load_config(self.path).config, self.tables)
        control = ControlTopic(self.cluster, self.topics.control, "test")
        control.write(plan_key(plan.version), plan.to_json())
        control.close()
        return plan

    def send(self, messages: Sequence[RoutedMessage], partition: int = 0) -> None:
        """Appends to a partition of the routed topic."""
        for header, value in messages:
            self.inputs[partition].append((header, value))
            self.send_raw(header.to_kafka(), value, partition)
        self._producer.flush()

    def send_raw(
        self, headers: Sequence[tuple[str, bytes]], value: bytes, partition: int = 0
    ) -> None:
        """Appends anything at all."""
        self._producer.send(self.topics.routed(TARGET), partition, value, headers)

    def send_output(self, header: TargetHeader, value: bytes) -> None:
        """Appends to the target topic, as another resolver would."""
        self._producer.send(self.topics.target(TARGET), 0, value, header.to_kafka())
        self._producer.flush()

    def flush(self) -> None:
        self._producer.flush()

    def start(self, *, fault: str = "") -> SinkProcess:
        """A new resolver; `fault` as gravity.fault reads it."""
        timeout = ("--session-timeout-ms", "2000")  # A test can't wait ten seconds for an eviction.
        argv = [sys.executable, "-m", "gravity_resolver", str(self.path), *timeout]
        log = self.folder / f"resolver-{len(self._processes)}.log"
        process = SinkProcess(argv, log, {"GRAVITY_FAULT": fault})
        self._processes.append(process)
        return process

    def empty_disk(self) -> None:
        shutil.rmtree(self.disk, ignore_errors=True)

    def outputs(self, partition: int = 0) -> list[tuple[TargetHeader, bytes]]:
        """Everything in a partition of the target topic, copies too."""
        return self._all(self.topics.target(TARGET), partition)

    def _all(self, topic: str, partition: int) -> list[tuple[TargetHeader, bytes]]:
        low, high = self._reader.bounds(topic, partition)
        return [
            (TargetHeader.from_kafka(message.headers), message.value or b"")
            for message in self._reader.read(topic, partition, low, high)
        ]

    def values(self, topic: str) -> list[bytes]:
        """The values of a one-partition topic."""
        low, high = self._reader.bounds(topic, 0)
        return [message.value or b"" for message in self._reader.read(topic, 0, low, high)]

    def committed(self, partition: int = 0) -> int:
        topic = self.topics.routed(TARGET)
        found = committed_offsets(self.cluster, self.topics.group("resolver"), [(topic, partition)])
        return found.get((topic, partition), 0)

    def await_outputs(self, count: int, partition: int = 0, timeout_s: float = 60.0) -> None:
        wait_until(
            lambda: len(first_sights(self.outputs(partition))) >= count,
            timeout_s,
            what=f"{count} outputs",
        )

    def await_rows(self, count: int, partition: int = 0, timeout_s: float = 120.0) -> None:
        """Returns once so many rows have left."""
        wait_until(
            lambda: (
                sum(header.routed.rows for header, _ in first_sights(self.outputs(partition)))
                >= count
            ),
            timeout_s,
            what=f"{count} rows",
        )

    def end_of_rows(self, partition: int = 0) -> int:
        """The offset behind the last message that carries rows."""
        kinds = [header.kind for header, _ in self.inputs[partition]]
        return max(offset + 1 for offset, kind in enumerate(kinds) if kind is not RoutedKind.MARKER)

    def await_saved(self, partition: int = 0, timeout_s: float = 60.0) -> None:
        """Returns once the state of everything that carries rows is saved and committed."""
        end = self.end_of_rows(partition)
        wait_until(
            lambda: self.committed(partition) >= end,
            timeout_s,
            what=f"commit of {end}",
        )

    def close(self) -> None:
        for process in self._processes:
            if process.alive:
                process._process.send_signal(signal.SIGCONT)
            process.kill()

    # ------------------------------------------------------------------ judging

    def function_of_the_log(
        self, partition: int = 0, end: int | None = None
    ) -> tuple[list[tuple[TargetHeader, bytes]], dict[bytes, bytes]]:
        """What the pure function makes of the routed partition before offset `end`: outputs, state."""
        topic = self.topics.routed(TARGET)
        low, high = self._reader.bounds(topic, partition)
        state = PartitionState(TARGET, DictStore(), partition=partition)
        outputs = []
        for message in self._reader.read(topic, partition, low, high if end is None else end):
            header = RoutedHeader.from_kafka(message.headers)
            effects = state.apply(
                header, message.value or b"", offset=message.offset, plan=self.plan,
                time_ms=message.timestamp_ms,
            )  # fmt: skip
            for part in (effects, *(effects.rest or ())):
                outputs += [(output.header, output.value) for output in part.outputs]
        return outputs, dict(state.take_delta())

    def restored(self, folder: Path, partition: int = 0) -> PartitionStore:
        """The state as a new process on an empty disk gets it from the changelog."""
        topic = self.topics.state(TARGET)
        store = PartitionStore(
            self.cluster,
            topic=topic,
            topic_id=TopicAdmin(self.cluster).topic_id(topic),
            partition=partition,
            group="judge",
            folder=folder / str(partition),
        )
        store.open()
        return store

    def check(self, folder: Path, partition: int = 0) -> None:
        """The laws: no hole, one content per number, the state that of a prefix of the log."""
        expected, _ = self.function_of_the_log(partition)
        found = self.outputs(partition)
        sights = first_sights(found)
        assert sights == expected[: len(sights)], "first sights are not the function of the log"
        by_seq = {header.out_seq: (header, value) for header, value in expected}
        for header, value in found:
            assert by_seq[header.out_seq] == (header, value), "a number with two contents"
        store = self.restored(folder, partition)
        meta = json.loads(store.get(META_KEY) or b"")
        assert meta["next_input"] >= self.end_of_rows(partition), "rows are not in the state"
        assert meta["out_seq"] <= len(sights), "the state is ahead of the outputs"
        _, state = self.function_of_the_log(partition, meta["next_input"])
        different = [key for key, value in state.items() if store.get(key) != value]
        assert not different, f"not the state of the log's prefix: {different}"
        store.close()


def first_sights(
    outputs: Sequence[tuple[TargetHeader, bytes]],
) -> list[tuple[TargetHeader, bytes]]:
    """What a sink applies: copies dropped. Raises for a hole, as it does."""
    sights: list[tuple[TargetHeader, bytes]] = []
    for header, value in outputs:
        if header.out_seq > len(sights):
            assert header.out_seq == len(sights) + 1, f"{header.out_seq} follows {len(sights)}"
            sights.append((header, value))
    return sights
