"""Digests of everything the resolver writes for random histories: what a faster resolver must not change.

    python -m tests.resolver_digest > tests/unit/resolver/outputs.json

Written anew only in a commit that means to change outputs, and then `FUNCTION_VERSION` grows.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from gravity_resolver.replica import META_KEY

from gravity.codec import encode_record
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan_part import Resolution
from gravity.resolution.register import OPERATOR
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, TableAction
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.prove.resolving_histories import RULES, SOURCES, make_history
from tests.prove.resolving_replica import ROWS, log_of, run_with_crashes, scaled
from tests.resolver_replica import TARGET, Replica

TABLE = "shop.users"
KINDS = (
    ("amount", "decimal(12,2)", ("1", "1.0", "1.00", "-3.50", None)),
    ("weight", "double", (0.5, 1.0, 1e300, -0.0, None)),
    ("slim", "float", (0.1, 0.10000000149011612, 2.0, None)),
    ("note", "varchar(40)", ("", "plain", 'a "quote" \\ and \t', "naïve ☃ 𝄞 \x7f", None)),
    ("data", "blob", (b"", b"\x00\xff", b"plain", None)),
    ("doc", "json", ('{"a": 1, "b": 2}', '{"b":2,"a":1}', "[1, 2]", None)),
    ("at", "datetime(3)", ("2024-01-01 10:00:00", "2024-01-01 10:00:00.000", "2024-05-01 00:00:00.5", None)),
    ("tags", "set('x','y','z')", ("x,y", "y,x", "z", "", None)),
    ("count", "bigint unsigned", (0, 1, (1 << 64) - 1, None)),
)  # fmt: skip
"""Columns, and cells of them of which some are equal to others in another writing."""
FIELDS = [(name, kind) for name, kind, _ in KINDS]
CELLS = {name: cells for name, _, cells in KINDS}
SHAPES = (
    table(TABLE, [("id", "int"), ("name", "varchar(9)"), *FIELDS], ["id", "name"]),
    table(TABLE, [("name", "varchar(9)"), *FIELDS[:5], ("id", "int")], ["id", "name"]),
)
KEYS = [(1, "a"), (2, "ä"), (3, '"'), (4, "d"), (1 << 30, "")]
OPS = "UUUUUUIRDDML"
LOGS = 3
SHORT_MEMORY_US = 20 * 1_000_000
MORE_RULES = {
    "latest by time column": Resolution(
        "timestamp-latest", {"A": 1, "B": 2, "C": 3}, timestamp_column="at"
    ),
    "latest of some": Resolution("timestamp-latest", {"A": 2, "C": 1}),
    "error-stop by hand": Resolution("error-stop", {"A": 1, "B": 2, "C": 3}, auto_clear=False),
    "error-stop table": Resolution("error-stop", {"A": 1, "B": 2, "C": 3}, scope="table"),
}


class _Source:
    """What one source does to a few rows of many types."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.log, self._rng, self._shape, self._now = RoutedLog(name), rng, rng.choice(SHAPES), 1

    def step(self, common: dict[Any, dict[str, Any]]) -> Iterable[RoutedMessage]:
        """The next message; `common` is what was last written under each key, by whomever."""
        chance = self._rng.random()
        self._now += self._rng.choice((0, 1, 1, 2))
        if chance < 0.05:
            self._shape = self._rng.choice(SHAPES)
        if chance < 0.07:
            return [self._statement()]
        if chance < 0.15:
            header, value = self.log.marker()
            return [(replace(header, ets=EPOCH_US + self._now * 1_000_000), value)]
        changes = [self._change(common) for _ in range(self._rng.randrange(1, 8))]
        return [self.log.rows(self._shape, changes)]

    def _change(self, common: dict[Any, dict[str, Any]]) -> RowChange:
        key = self._rng.choice(KEYS)
        cells = dict(common.get(key, {}))
        for name, some in CELLS.items():
            if name not in cells or self._rng.random() < 0.2:
                cells[name] = self._rng.choice(some)
        common[key] = cells
        cells = {**cells, "id": key[0], "name": key[1]}
        self._now += self._rng.choice((0, 0, 0, 1))
        row = tuple(cells[column.name] for column in self._shape.columns)
        return RowChange(self._rng.choice(OPS), row, self._now)

    def _statement(self) -> RoutedMessage:
        if self._rng.random() < 0.3:
            action, items = TableAction.TRUNCATE, ()
        else:
            action = TableAction.ALTER
            column = self._rng.choice([c for c in self._shape.columns if c.name in CELLS])
            items = (ColumnChange(self._rng.choice((ColumnAction.DROP, ColumnAction.MODIFY)), column.name, column=column),)  # fmt: skip
        return self.log.schema_change(
            TABLE, action, *items, ets=self._now, rows=RowsAfter.KEPT, key=("id", "name")
        )


def _decision(rng: random.Random) -> RoutedMessage:
    key = rng.choice(KEYS)
    record = {
        "action": rng.choice(("decide", "retry")), "table": TABLE, "key": json.dumps(key),
        "key_columns": ["id", "name"], "keep": OPERATOR,
        "row": rng.choice((None, json.dumps({"id": key[0], "name": key[1], "amount": "9.99"}))),
        "cover": [{"source": s, "position": f"1:1:{rng.randrange(1000, 9000)}:0"} for s in SOURCES],
        "reason": "", "time_us": 0,
    }  # fmt: skip
    header = RoutedHeader(RoutedKind.DECISION, OPERATOR, 0, plan=1, table=TABLE)
    return header, encode_record("decision", record)


def wide_log(rng: random.Random) -> list[RoutedMessage]:
    """Three sources that write rows of many types, change their tables, and operators that decide."""
    sources = [_Source(name, rng) for name in SOURCES]
    common: dict[Any, dict[str, Any]] = {}
    log: list[RoutedMessage] = []
    for _ in range(150):
        if rng.random() < 0.04:
            log.append(_decision(rng))
        log += rng.choice(sources).step(common)
    return log


def _run(rule: Resolution, log: list[RoutedMessage], rng: random.Random) -> Replica:
    """The resolver at the end of the log, saved now and then and killed a few times on the way."""
    replica = Replica(rule)
    replica.plan = replace(replica.plan, feeding={TARGET: {TABLE: SOURCES}})
    replica.save()
    while replica.state.next_input < len(log):
        replica.apply(*log[replica.state.next_input])
        if rng.random() < 0.15:
            replica.save()
        if rng.random() < 0.02:
            replica.crash_and_restore()
    return replica


def _digest(replica: Replica) -> str:
    seen = hashlib.sha256()

    def take(part: object) -> None:
        seen.update(repr(part).encode() + b"\n")

    for header, value in replica.outputs:
        take((header.to_kafka(), value))
    for record in replica.conflicts:
        take(record)
    for item in sorted(replica.everything().items()):
        if item[0] != META_KEY:
            take(item)
    take((replica.state.holds, sorted(replica.state.collected.items())))
    for source, counters in sorted(replica.state.counters.items()):
        # Only what was counted: a counter that is new changes nothing.
        take((source, [item for item in sorted(asdict(counters).items()) if item[1]]))
    return seen.hexdigest()[:32]


def digests(name: str) -> list[str]:
    """One digest a log, under the rule of this name."""
    rule = scaled({**RULES, **MORE_RULES}[name])
    found = []
    for seed in range(LOGS):
        rng = random.Random(f"digest {name} {seed}")
        narrow = log_of([make_history(rng) for _ in range(ROWS)], rng)
        found.append(_digest(run_with_crashes(rule, narrow, rng)))
        brief = replace(rule, tombstone_retention_us=SHORT_MEMORY_US)
        found.append(_digest(_run(brief, wide_log(rng), rng)))
    return found


def all_digests() -> dict[str, list[str]]:
    """The digests under every rule."""
    return {name: digests(name) for name in (*RULES, *MORE_RULES)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(all_digests(), indent=1) + "\n")
