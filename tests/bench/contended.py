"""Rows of three sources about the same keys, through the resolver's function, beside the same rows without state.

    python -m tests.bench.contended [--rows 60000] [--rounds 3]

One process, CPU seconds, messages of 500 rows of the 12-column table, headers read and written in every case:

- `untouched`: a table that one source feeds; the bytes are forwarded as they came.
- `made anew`: rows decoded, given out as an outcome a row, put into batches and encoded, by the code that
  does it behind the registers. What `ratio` refers to, since a resolver that decides about rows can't do less.
- The others keep registers: every row is loaded, resolved and saved, and a conflict is a record. The state is taken
  as often as a partition saves it; the store is a dictionary, so what Kafka and RocksDB cost is not in it.

`cold`: each source writes every key once, a source behind the other, so that rows are read from the state.
`differ`: each row differs from what the other sources say, so that each causes a conflict record with three rows.
`agree`: the sources write the same. `alone`: no key has a second source. Keys are revisited after `keys` rows of a source.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gravity_resolver.emission import batches_of
from gravity_resolver.partition import SAVE_ROWS_MAX
from gravity_resolver.replica import PartitionState

from gravity.batch import UPDATE, ChangeBatch, Transaction
from gravity.codec import decode_batch, encode_batch
from gravity.header import KafkaHeaders, RoutedHeader, RoutedKind, TargetHeader
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, RulePlan, SourcePlan, TargetPlan
from gravity.position import Position
from gravity.resolution.strategy import Outcome
from tests.bench.codec import MESSAGE_ROWS, SCHEMA
from tests.bench.decode import order

SOURCES = ("a", "b", "c")
RANKS = {"a": 1, "b": 2, "c": 3}
TABLE = f"{SCHEMA.database}.{SCHEMA.table}"
BASE = "made anew"
KEYS = 2_000
Message = tuple[KafkaHeaders, bytes]


def plan_of(rule: Resolution, sources: tuple[str, ...]) -> RoutingPlan:
    """A plan under which so many sources feed the table."""
    return RoutingPlan(
        version=1, partitions=1, sources=tuple(SourcePlan(name, ("*",), ("*",), ()) for name in SOURCES),
        targets=(TargetPlan("t", "mysql", None, ("*",), (), ()),), routes=(),
        rules=(RulePlan(("*",), None, rule),), default_resolution=rule,
        feeding={"t": {TABLE: sources}},
    )  # fmt: skip


class DictStore:
    """The saved state."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        return self.data.get(key)

    def scan(self, _prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Nobody asks."""
        return iter(())


def message(source: str, seq: int, first: int, keys: int, *, differ: bool, apart: bool) -> Message:
    """Rows `first` and what follows, of this source; keys come again after `keys` rows."""
    rows: list[tuple[Any, ...]] = []
    turn = SOURCES.index(source)
    for number in range(first, first + MESSAGE_ROWS):
        row = order(number)
        key = number % keys + (turn * keys if apart else 0)
        rows.append((key, row[1] + turn if differ else row[1], *row[2:]))
    ets = 1_700_000_000_000_000 + first * 10
    transactions = [
        Transaction(f"0-1-{first + n}", 3, (first + n) * 100, ets + n, ets + n)
        for n in range(0, MESSAGE_ROWS, 10)
    ]
    batch = ChangeBatch(
        source=source, epoch=1, schema=SCHEMA, transactions=transactions, ops=bytes([UPDATE]) * len(rows),
        tx=[n // 10 for n in range(len(rows))], ordinal=[n % 10 for n in range(len(rows))],
        columns=list(zip(*rows, strict=True)),
    )  # fmt: skip
    header = RoutedHeader(
        RoutedKind.ROWS, source, seq, first=0, last=len(rows) - 1, rows=len(rows), counted=len(rows),
        from_=Position(1, 3, first * 100), to=Position(1, 3, (first + len(rows)) * 100), ets=ets, plan=1,
        table=TABLE, schema=SCHEMA.schema_id,
    )  # fmt: skip
    return header.to_kafka(), encode_batch(batch)


def messages(count: int, keys: int, *, differ: bool = True, apart: bool = False) -> list[Message]:
    """`count` rows: the sources in turn, each about the same keys."""
    made = []
    for seq, first in enumerate(range(0, count // len(SOURCES), MESSAGE_ROWS), start=1):
        made += [
            message(source, seq, first, keys, differ=differ, apart=apart) for source in SOURCES
        ]
    return made


def one_by_one(log: list[Message]) -> list[Message]:
    """The same, a source behind the other: no row is still in memory when the next source speaks of it."""
    return [item for turn in range(len(SOURCES)) for item in log[turn :: len(SOURCES)]]


@dataclass
class Through:
    """A resolver's partition that messages go through, saved as often as a real one."""

    plan: RoutingPlan
    conflicts: int = 0
    outputs: int = 0

    def __call__(self, log: list[Message]) -> None:
        store = DictStore()
        state = PartitionState("t", store)
        rows = 0
        for offset, (headers, value) in enumerate(log):
            header = RoutedHeader.from_kafka(headers)
            effects = state.apply(header, value, offset=offset, plan=self.plan)
            for output in effects.outputs:
                output.header.to_kafka()
            self.outputs += len(effects.outputs)
            self.conflicts += len(effects.conflicts)
            rows += header.rows
            if rows >= SAVE_ROWS_MAX:
                store.data.update(state.take_delta())
                state.delta_saved()
                rows = 0


def made_anew(log: list[Message]) -> None:
    """As behind the registers, without them."""
    for offset, (headers, value) in enumerate(log):
        header = RoutedHeader.from_kafka(headers)
        batch = decode_batch(value)
        columns = batch.schema.columns
        winners = [(n, Outcome(batch.source, row, columns)) for n, row in enumerate(batch.rows())]
        for described, out in batches_of(header, batch, winners):
            TargetHeader(described, 1, offset, 1).to_kafka()
            encode_batch(out)


def decode_and_encode(log: list[Message]) -> None:
    """The codec alone."""
    for headers, value in log:
        header = RoutedHeader.from_kafka(headers)
        TargetHeader(header, 1, 1, 1).to_kafka()
        encode_batch(decode_batch(value))


def run(count: int, rounds: int) -> list[dict[str, object]]:
    """One result a case; the cases take turns, a round each."""
    latest = Resolution("timestamp-latest", RANKS)
    hot = messages(count, KEYS)
    works: dict[str, tuple[list[Message], Callable[[list[Message]], None]]] = {
        BASE: (hot, made_anew),
        "decode and encode": (hot, decode_and_encode),
        "untouched": (messages(count, KEYS), Through(plan_of(latest, ("a",)))),
        f"differ, {KEYS} keys": (hot, Through(plan_of(latest, SOURCES))),
        f"differ, {KEYS} keys, source-priority": (
            hot, Through(plan_of(Resolution("source-priority", RANKS), SOURCES)),
        ),
        f"differ, {KEYS} keys, merge": (
            hot, Through(plan_of(Resolution("merge", RANKS), SOURCES)),
        ),
        "differ, cold": (
            one_by_one(messages(count, count)), Through(plan_of(latest, SOURCES)),
        ),
        f"agree, {KEYS} keys": (
            messages(count, KEYS, differ=False), Through(plan_of(latest, SOURCES)),
        ),
        f"alone, {KEYS} keys": (
            messages(count, KEYS, apart=True), Through(plan_of(latest, SOURCES)),
        ),
    }  # fmt: skip
    cpu = dict.fromkeys(works, 0.0)
    for turn in range(rounds + 1):
        for name, (log, work) in works.items():
            gc.collect()
            before = time.process_time()
            work(log)
            cpu[name] += time.process_time() - before if turn else 0.0  # The first warms up.
    rows = rounds * len(hot) * MESSAGE_ROWS
    results: list[dict[str, object]] = []
    for case, (_, work) in works.items():
        result: dict[str, object] = {
            "bench": "contended", "case": case, "rows_per_s": round(rows / cpu[case]),
            "cpu_s_per_100k": round(cpu[case] * 100_000 / rows, 3),
            "ratio": round(cpu[BASE] / cpu[case], 3), "ratio_to": BASE,
        }  # fmt: skip
        if isinstance(work, Through):
            result["conflicts_per_row"] = round(
                work.conflicts / (len(hot) * MESSAGE_ROWS * (rounds + 1)), 2
            )
        results.append(result)
    return results


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(
        description="contended keys beside the same rows without state"
    )
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for result in run(arguments.rows, arguments.rounds):
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
