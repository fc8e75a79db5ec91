"""Routing a batch beside decoding and encoding it, in turn, by CPU time.

    python -m tests.bench.routing [--rows 20000] [--rounds 5]

`ratio` is the CPU of `route` over that of `encode_batch(decode_batch(value))` on the same messages.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from gravity_router.routing import route

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch, encode_batch
from gravity.config import parse_config
from gravity.header import IngestHeader, IngestKind
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from tests.bench.codec import MESSAGE_ROWS, SCHEMA, batch
from tests.bench.decode import order

BASE = "decode and encode"
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


def _measure(work: Callable[[], Any]) -> float:
    cpu = time.process_time()
    work()
    return time.process_time() - cpu


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
    works: dict[str, Callable[[], Any]] = {
        BASE: lambda: [encode_batch(decode_batch(value)) for value in values]
    }
    for case, plan in plans().items():
        works[case] = lambda plan=plan: [  # type: ignore[misc]
            route(header, value, plan) for header, value in zip(headers, values, strict=True)
        ]
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_measure(work))
    cpu = {name: statistics.median(found) for name, found in times.items()}
    return [
        {
            "bench": "routing", "case": case, "rows_per_s": round(count / cpu[case]),
            "cpu_s_per_100k": round(cpu[case] * 100_000 / count, 3),
            "ratio": round(cpu[case] / cpu[BASE], 2), "ratio_to": BASE,
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
