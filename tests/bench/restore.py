"""How long a resolver takes to restore a partition's rows from the changelog, onto an empty disk.

    python -m tests.bench.restore [--keys 1000000] [--rounds 1]

A real broker; the state is that of 12-column rows of which three sources have spoken, about 750 bytes a key,
written by `PartitionStore.save` in transactions as a resolver writes it. CPU is of this process with all its threads
(librdkafka's and RocksDB's too); `kafka_cpu_s` is the broker's beside it.

`fill`: making and saving the state. `restore`: `PartitionStore.open` with no local copy. `read alone`: the same records
by the same reader and nothing done with them, which is what `ratio` refers to. `open again`: with the copy there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gravity_devstack import Stack
from gravity_resolver.partition import SAVE_ROWS_MAX
from gravity_resolver.row_memory import slot_of
from gravity_resolver.row_state import RowState
from gravity_resolver.store import PartitionStore

from gravity.batch import UPDATE
from gravity.config import parse_config
from gravity.config.kafka import KafkaCluster
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.reader import LogReader
from gravity.position import Position
from gravity.resolution.register import Register, Shape
from gravity.topic import Topics
from tests.bench.codec import SCHEMA
from tests.bench.decode import order
from tests.bench.installation import cpu_s

TARGET = "t"
TABLE = f"{SCHEMA.database}.{SCHEMA.table}"
SOURCES = ("a", "b", "c")
SHAPE = Shape(SCHEMA.schema_id, SCHEMA.columns)
ETS_US = 1_700_000_000_000_000
_CONFIGURATION = """
kafka: {{brokers: ["{brokers}"], topic-prefix: "restore.", partitions: 1}}
sources: [{{name: a, type: mysql, host: h, username: u, password: p}}]
targets: [{{name: t, type: kafka, brokers: ["{brokers}"]}}]
"""


def entry(number: int) -> tuple[bytes, bytes]:
    """Where the row of this number stands, and what three sources said of it."""
    row = order(number)
    registers = {
        source: Register(
            Position(1, 3, number * 100 + turn), UPDATE, ETS_US + number, (row[0], row[1] + turn, *row[2:]), SHAPE
        )
        for turn, source in enumerate(SOURCES)
    }  # fmt: skip
    return slot_of(TABLE, [row[0]]), RowState("0badcafe", registers).dump()


def states(count: int) -> Iterator[dict[bytes, bytes]]:
    """The rows' states, as many at a time as a resolver saves."""
    for first in range(0, count, SAVE_ROWS_MAX):
        yield dict(entry(n) for n in range(first, min(first + SAVE_ROWS_MAX, count)))


class Bench:
    """A changelog of one partition, and what is done with it."""

    def __init__(self, broker: Any, keys: int) -> None:
        self._broker, self._keys = broker, keys
        text = _CONFIGURATION.format(brokers=broker.brokers)
        self._cluster: KafkaCluster = parse_config(text, env={}).config.kafka
        topics = Topics(self._cluster.topic_prefix)
        self._admin = TopicAdmin(self._cluster)
        self._admin.ensure(topics.all_specs(["a"], [TARGET], 1))
        self._topic = topics.state(TARGET)
        self._result: dict[str, object] = {}

    @contextmanager
    def _store(self, folder: Path) -> Iterator[PartitionStore]:
        store = PartitionStore(
            self._cluster, topic=self._topic, topic_id=self._admin.topic_id(self._topic), partition=0,
            group="restore", folder=folder,
        )  # fmt: skip
        try:
            yield store
        finally:
            store.close()

    def _measured(self, case: str, work: Callable[[], object]) -> dict[str, Any]:
        began, cpu, kafka = time.perf_counter(), time.process_time(), cpu_s(self._broker.pid)
        work()
        seconds = time.perf_counter() - began
        spent = time.process_time() - cpu
        return {
            "bench": "restore", "case": case, "keys": self._keys, "seconds": round(seconds, 2),
            "rows_per_s": round(self._keys / seconds), "cpu_s": round(spent, 2),
            "cpu_s_per_100k": round(spent * 100_000 / self._keys, 3),
            "kafka_cpu_s": round(cpu_s(self._broker.pid) - kafka, 2),
        }  # fmt: skip

    def fill(self, folder: Path) -> dict[str, Any]:
        """Writes the changelog."""
        size = 0
        with self._store(folder) as store:
            store.open()

            def work() -> None:
                nonlocal size
                for changes in states(self._keys):
                    size += sum(map(len, changes.values()))
                    store.save(changes)

            return {**self._measured("fill", work), "bytes_per_key": round(size / self._keys)}

    def read_alone(self) -> dict[str, Any]:
        """Reads the changelog, for its own sake."""
        reader = LogReader(self._cluster, "restore.alone")

        def work() -> None:
            low, high = reader.bounds(self._topic, 0)
            found = sum(1 for _ in reader.read(self._topic, 0, low, high))
            assert found == self._keys, found

        result = self._measured("read alone", work)
        reader.close()
        return result

    def restore(self, folder: Path, case: str, records: int) -> dict[str, Any]:
        """Opens the store in `folder`, which is to read so many records."""
        found = 0
        with self._store(folder) as store:

            def work() -> None:
                nonlocal found
                found = store.open()

            result = self._measured(case, work)
            assert found == records, found
            for number in range(0, self._keys, max(1, self._keys // 1000)):
                slot, value = entry(number)
                assert store.get(slot) == value, slot
        return result


def run(keys: int, rounds: int) -> Iterator[dict[str, Any]]:
    """The results, one after the other."""
    with Stack() as stack, tempfile.TemporaryDirectory(prefix="gravity-bench-") as folder:
        bench = Bench(stack.kafka(), keys)
        yield bench.fill(Path(folder) / "first")
        for turn in range(rounds):
            alone = bench.read_alone()
            yield alone
            disk = Path(folder) / f"empty-{turn}"
            restored = bench.restore(disk, "restore", keys)
            ratio = {
                "ratio": round(alone["seconds"] / restored["seconds"], 2), "ratio_to": "read alone",
            }  # fmt: skip
            yield restored | ratio
            yield bench.restore(disk, "open again", 0)


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(description="restoring a partition's rows from the changelog")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    for result in run(arguments.keys, arguments.rounds):
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
