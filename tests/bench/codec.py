"""Change batches in columns beside one Avro message per row, the same rows, in turn.

    python -m tests.bench.codec [--rows 20000] [--rounds 5]

The other form is what most CDC tools write: a record of `before` and `after`, each a union of null and
the row, each nullable field a union of null and its type; one message per row, written and read by
fastavro with primitive types and named unions, its fastest way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import fastavro

from gravity.batch import ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import decode_batch, encode_batch
from tests.bench.decode import order

MESSAGE_ROWS = 500
_TEXT = ("utf8mb4", "utf8mb4_general_ci")
# name, MySQL type, Avro type of the row form, nullable
_COLUMNS = (
    ("id", "bigint unsigned", "long", False), ("user_id", "int unsigned", "long", False),
    ("status", "enum('new','paid','sent','done','void')", "string", False),
    ("amount", "decimal(12,2)", "string", False), ("weight", "double", "double", True),
    ("sku", "varchar(32)", "string", False), ("note", "varchar(64)", "string", True),
    ("flag", "tinyint", "long", False), ("due", "date", "string", True),
    ("created", "datetime(6)", "string", False), ("updated", "timestamp", "string", False),
    ("doc", "json", "string", True),
)  # fmt: skip
SCHEMA = TableSchema(
    "gravity_bench", "orders", tuple(Column(n, t, null, *_TEXT) for n, t, _, null in _COLUMNS), (0,)
)
_ROW = fastavro.parse_schema({
    "type": "record", "name": "Envelope", "fields": [
        {"name": "op", "type": "string"}, {"name": "gtid", "type": "string"},
        {"name": "position", "type": "long"}, {"name": "commit_us", "type": "long"},
        {"name": "before", "type": ["null", {
            "type": "record", "name": "Row", "fields": [
                {"name": n, "type": ["null", a] if null else a} for n, _, a, null in _COLUMNS
            ],
        }]},
        {"name": "after", "type": ["null", "Row"]},
    ],
})  # fmt: skip
Work = Callable[[], Any]


def batch(rows: list[tuple[Any, ...]], first: int) -> ChangeBatch:
    """A change batch of these rows as inserts, the `first` of the benchmark's and what follows it."""
    count = len(rows)
    transactions = [
        Transaction(f"0-1-{first + i}", 3, 1000 + i * 400, 1_700_000_000_000_000 + i, 0)
        for i in range(0, count, 10)
    ]
    return ChangeBatch(
        source="bench", epoch=1, schema=SCHEMA, transactions=transactions, ops=b"I" * count,
        tx=[i // 10 for i in range(count)], ordinal=[i % 10 for i in range(count)],
        columns=list(zip(*rows, strict=True)), before_columns=(0,), before=[[None] * count],
    )  # fmt: skip


def _write_row(row: tuple[Any, ...]) -> bytes:
    out = BytesIO()
    after = ("Row", {name: value for (name, *_), value in zip(_COLUMNS, row, strict=True)})
    envelope = {
        "op": "c", "gtid": "0-1-1", "position": 1000, "commit_us": 1, "before": None, "after": after,
    }  # fmt: skip
    fastavro.schemaless_writer(out, _ROW, envelope)
    return out.getvalue()


def _measure(work: Work) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def run(count: int, rounds: int) -> list[dict[str, object]]:
    """Both forms, encoding and decoding; one result each."""
    rows = [order(n) for n in range(1, count + 1)]
    batches = [batch(rows[i : i + MESSAGE_ROWS], i) for i in range(0, count, MESSAGE_ROWS)]
    columns = [encode_batch(part) for part in batches]
    messages = [_write_row(row) for row in rows]
    assert [r for data in columns for r in decode_batch(data).rows()] == rows
    other = "fastavro, a message per row"
    works: dict[tuple[str, str], Work] = {
        ("encode", "columns"): lambda: [encode_batch(part) for part in batches],
        ("encode", other): lambda: [_write_row(row) for row in rows],
        ("decode", "columns"): lambda: [decode_batch(data).rows() for data in columns],
        ("decode", other): lambda: [
            fastavro.schemaless_reader(BytesIO(data), _ROW, None) for data in messages
        ],
    }
    times: dict[tuple[str, str], list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(_measure(work))
    wall = {name: statistics.median(t for t, _ in found) for name, found in times.items()}
    cpu = {name: statistics.median(t for _, t in found) for name, found in times.items()}
    size = {"columns": sum(map(len, columns)) / count, other: sum(map(len, messages)) / count}
    return [
        {
            "bench": "codec", "case": f"{step}/{form}", "rows_per_s": round(count / wall[step, form]),
            "cpu_s_per_100k": round(cpu[step, form] * 100_000 / count, 3),
            "ratio": round(wall[step, other] / wall[step, form], 2), "ratio_to": other,
            "bytes_per_row": round(size[form], 1),
        }
        for step, form in works
    ]  # fmt: skip


def main() -> None:
    """Runs the benchmark and prints its lines."""
    parser = argparse.ArgumentParser(description="change batches beside a message per row")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for result in run(arguments.rows, arguments.rounds):
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
