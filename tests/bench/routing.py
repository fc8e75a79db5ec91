"""Routing a batch, and passing it through the resolver, beside decoding and encoding it, by CPU time.

    python -m tests.bench.routing [--rows 20000] [--rounds 5]

`ratio` is the CPU of `route` over that of `encode_batch(decode_batch(value))` on the same messages: `pass-through`
is what the resolver does to a message of a table with one source: headers read, state moved, headers
written. All cases take each message in turn, since the machine may be faster in one second than in the next.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from gravity_resolver.replica import PartitionState
from gravity_router.routing import route

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch, encode_batch
from gravity.config import parse_config
from gravity.header import IngestHeader, IngestKind, KafkaHeaders, RoutedHeader
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from tests.bench.codec import MESSAGE_ROWS, SCHEMA, batch
from tests.bench.decode import order

BASE = "decode and encode"
PASS = "pass-through in the resolver"
_HEAD = """
sources: [{name: bench, host: h, username: u, password: p}]
targets: [TARGETS]
"""
_CONDITIONS = (
    "user_id % 4 = 1 AND amount > 100",
    "status IN ('new', 'paid')",
    "YEAR(created) = 2024",
)
_CONDITIONAL = (
    "routing: [{source-tables: orders, strategy: conditional, default: t4, conditions: [CASES]}]"
)
_DIVIDED = (
    "routing: [{source-tables: orders, strategy: STRATEGY, key: KEY, targets: [t1, t2, t3, t4]}]"
)


def _plan(rules: str, *, targets: int = 4, lane: str = "key") -> RoutingPlan:
    named = ", ".join(
        f"{{name: t{n}, type: mysql, order-by: {lane}}}" for n in range(1, targets + 1)
    )
    config = parse_config(_HEAD.replace("TARGETS", named) + rules, env={}).config
    return compile_plan(config, [SourceTable("bench", SCHEMA)])


def plans() -> dict[str, RoutingPlan]:
    """Case → the plan it is routed under."""
    cases = ", ".join(
        f'{{if: "{text}", targets: t{n}}}' for n, text in enumerate(_CONDITIONS, start=1)
    )
    one = _CONDITIONAL.replace("CASES", f'{{if: "{_CONDITIONS[0]}", targets: t1}}')

    def divided(strategy: str, key: str) -> str:
        return _DIVIDED.replace("STRATEGY", strategy).replace("KEY", key)

    return {
        "one target, table whole": _plan("", targets=1, lane="table"),
        "five targets, table whole": _plan("", targets=5, lane="table"),
        "one target, by key": _plan("", targets=1),
        "five targets, by key": _plan("", targets=5),
        "one condition and a default, two targets": _plan(one),
        "three conditions and a default, four targets": _plan(_CONDITIONAL.replace("CASES", cases)),
        "hash, four targets": _plan(divided("hash", "user_id")),
        "consistent-hash of two columns, four targets": _plan(
            divided("consistent-hash", "[user_id, sku]")
        ),
    }


class NoStore:
    """Of a table with one source no row is kept."""

    def get(self, _key: bytes) -> bytes | None:
        """Nothing."""
        return None

    def scan(self, _prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Nothing."""
        return iter(())


class PassThrough:
    """A resolver's partition that whole messages of one source go through."""

    def __init__(self) -> None:
        self._plan = _plan("", targets=1, lane="table")
        self._state = PartitionState("t1", NoStore())
        self._seq = 0

    def __call__(self, header: IngestHeader, value: bytes) -> float:
        """CPU seconds of a message under the next number, without making it."""
        self._seq += 1
        [sent] = [m for m in route(replace(header, seq=self._seq), value, self._plan) if m.value]
        headers = sent.header.to_kafka()
        return _measure(lambda: self._pass(headers, sent.value))

    def _pass(self, headers: KafkaHeaders, value: bytes) -> None:
        routed = RoutedHeader.from_kafka(headers)
        at = self._state.next_input
        [output] = self._state.apply(routed, value, offset=at, plan=self._plan).outputs
        assert output.value is value
        output.header.to_kafka()


def _measure(work: Callable[[], Any]) -> float:
    cpu = time.process_time()
    work()
    return time.process_time() - cpu


def _route(plan: RoutingPlan, header: IngestHeader, value: bytes) -> float:
    return _measure(lambda: route(header, value, plan))


def run(count: int, rounds: int) -> list[dict[str, object]]:
    """One result a case."""
    rows = [order(n) for n in range(1, count + 1)]
    batches: list[ChangeBatch] = [
        batch(rows[i : i + MESSAGE_ROWS], i) for i in range(0, count, MESSAGE_ROWS)
    ]
    values = [encode_batch(part) for part in batches]
    headers = [
        IngestHeader(
            IngestKind.ROWS, "bench", 1, n, rows=len(part), plan=1, table="gravity_bench.orders"
        )
        for n, part in enumerate(batches, start=1)
    ]
    works: dict[str, Callable[[IngestHeader, bytes], float]] = {
        BASE: lambda _header, value: _measure(lambda: encode_batch(decode_batch(value))),
        **{case: partial(_route, plan) for case, plan in plans().items()},
        PASS: PassThrough(),
    }
    cpu = dict.fromkeys(works, 0.0)
    for turn in range(rounds + 1):
        for header, value in zip(headers, values, strict=True):
            for name, work in works.items():
                spent = work(header, value)
                cpu[name] += spent if turn else 0.0  # The first warms up: conditions are compiled.
    count *= rounds
    return [
        {
            "bench": "routing", "case": case, "rows_per_s": round(count / cpu[case]),
            "cpu_s_per_100k": round(cpu[case] * 100_000 / count, 3),
            "ratio": round(cpu[case] / cpu[BASE], 3), "ratio_to": BASE,
        }
        for case in works
    ]  # fmt: skip


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(description="routing a batch beside decoding and encoding it")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for result in run(arguments.rows, arguments.rounds):
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
