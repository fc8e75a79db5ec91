"""Random histories through the resolver itself: cut into batches, mixed, told again, killed at random.

Many rows share a log, each with a history of its own. In the end what a target holds, and how many rows
are on hold, must be what tests/oracle/resolve.py says.
"""

from __future__ import annotations

import json
import multiprocessing
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from gravity.codec import decode_batch, encode_record
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.register import OPERATOR
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.oracle import resolve as oracle
from tests.prove.report import JOBS, Report
from tests.prove.resolving_histories import RULES, SOURCES, History, make_history, told
from tests.resolver_replica import Replica

ROWS = 20
"""Rows that share a log."""
TABLE = "shop.users"
SECOND_US = 1_000_000
SCHEMAS = {
    names: table(TABLE, [("id", "int"), *((name, "int") for name in names)], ["id"])
    for names in ("xyz", "xy")
}


def scaled(rule: Resolution) -> Resolution:
    """The rule for times in seconds instead of microseconds."""
    window = rule.conflict_window_us
    return rule if window is None else replace(rule, conflict_window_us=window * SECOND_US)


def place(key: int, pos: int) -> Position:
    """Where a row's change number `pos` stands in its source's binlog."""
    return Position(1, 1, pos * 1000 + key)


def messages_of(
    source: str, histories: Sequence[History], rng: random.Random
) -> list[RoutedMessage]:
    """One source's changes of all rows: mixed, each row's in order, cut anywhere, some of them sent again."""
    waiting = [
        [e for e in history.events if e["source"] == source and e["op"] != "T"]
        for history in histories
    ]
    log, cut, shape = RoutedLog(source), [], ""
    while any(waiting) or cut:
        key = rng.choice([k for k, events in enumerate(waiting) if events] or [-1])
        event = waiting[key].pop(0) if key >= 0 else None
        if cut and (event is None or event["columns"] != shape or rng.random() < 0.2):
            log.rows(SCHEMAS[shape], cut)
            cut = []
        if event is not None:
            shape = event["columns"]
            row = (key, *((event["row"] or {}).get(name) for name in shape))
            cut.append(RowChange(event["op"], row, event["ets"], place(key, event["pos"]).offset))
    sent = list(log.made)
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(sent) + 1)
        sent[at:at] = sent[rng.randrange(at + 1) : at]  # A router began again a little earlier.
    return sent


def mixed(logs: Sequence[list[RoutedMessage]], rng: random.Random) -> Iterator[RoutedMessage]:
    """The sources' messages in one log, each source's in its order."""
    logs = [list(log) for log in logs if log]
    while logs:
        log = rng.choice(logs)
        yield log.pop(0)
        logs = [left for left in logs if left]


def decision(key: int, wish: dict[str, Any]) -> RoutedMessage:
    """An operator's decision about a row."""
    row = wish["row"]
    header = RoutedHeader(RoutedKind.DECISION, OPERATOR, 0, plan=1, table=TABLE)
    record = {
        "action": "decide",
        "table": TABLE,
        "key": json.dumps([key]),
        "key_columns": ["id"],
        "keep": OPERATOR,
        "row": None if row is None else json.dumps({"id": key, **row}),
        "cover": [
            {"source": source, "position": str(place(key, pos))}
            for source, pos in wish["cover"].items()
        ],
        "reason": "",
        "time_us": 0,
    }
    return header, encode_record("decision", record)


def log_of(histories: Sequence[History], rng: random.Random) -> list[RoutedMessage]:
    """Everything that happened to the rows, in one of the orders that a log may have."""
    log = list(mixed([messages_of(source, histories, rng) for source in SOURCES], rng))
    for key, history in enumerate(histories):
        firsts = [n for n, (header, value) in enumerate(log)
                  if header.kind is RoutedKind.ROWS and key in decode_batch(value).columns[0]]  # fmt: skip
        at = firsts[0] if firsts else len(log)
        for wish in history.decisions:
            at = rng.randrange(at + 1, len(log) + 1) if firsts else len(log)
            log.insert(at, decision(key, wish))
    return log


def run_with_crashes(rule: Resolution, log: Sequence[RoutedMessage], rng: random.Random) -> Replica:
    """The resolver at the end of the log, saved and killed at random on the way."""
    replica = Replica(rule)
    replica.save()
    crashes = 4
    while replica.state.next_input < len(log):
        replica.apply(*log[replica.state.next_input])
        if rng.random() < 0.15:
            replica.save()
        if crashes and rng.random() < 0.08:
            crashes -= 1
            replica.crash_and_restore()
    return replica


def target_of(replica: Replica) -> tuple[dict[int, dict[str, Any]], str]:
    """What a target holds that applies each number once; and what was wrong with the numbers."""
    content: dict[int, bytes] = {}
    rows: dict[int, dict[str, Any]] = {}
    for header, value in replica.outputs:
        if content.setdefault(header.out_seq, value) != value:
            return rows, f"number {header.out_seq} has two contents"
    if sorted(content) != list(range(1, len(content) + 1)):
        return rows, "the numbers have a hole"
    for _, value in sorted(content.items()):
        batch = decode_batch(value)
        names = [column.name for column in batch.schema.columns]
        for op, cells in zip(batch.ops, batch.rows(), strict=True):
            row = dict(zip(names, cells, strict=True))
            key = row.pop("id")
            if chr(op) == "D":
                rows.pop(key, None)
            else:
                rows.setdefault(key, {}).update(row)
    return rows, ""


def expected(history: History, rule: Resolution) -> tuple[str, Any]:
    """What the oracle makes of one row, in the units of the log."""
    events = [
        {**event, "ets": EPOCH_US + event["ets"] * SECOND_US}
        for event in history.events
        if event["op"] != "T"
    ]
    return oracle.outcome(told(rule), events, history.decisions)


def wrong_rows(name: str, seed: int) -> list[str]:
    """What one log ended with that the oracle does not say."""
    rng = random.Random(f"replica {name} {seed}")
    rule = scaled(RULES[name])
    histories = [make_history(rng) for _ in range(ROWS)]
    for history in histories:
        for wish in history.decisions:
            # The types of a column are known to a resolver that has met it.
            wish["row"] = wish["row"] and {n: v for n, v in wish["row"].items() if n != "z"}
    replica = run_with_crashes(rule, log_of(histories, rng), rng)
    rows, trouble = target_of(replica)
    wrong = [trouble] if trouble else []
    holds = 0
    for key, history in enumerate(histories):
        kind, row = expected(history, rule)
        if kind == "hold":
            holds += 1
            continue
        have = rows.get(key)
        want = {n: (row or {}).get(n) for n in "xyz"} if kind == "row" else None
        if (have and {n: have.get(n) for n in "xyz"}) != want:
            wrong.append(f"row {key}: {have} instead of {want}: {history}")
    if replica.state.holds != holds:
        wrong.append(f"{replica.state.holds} rows on hold instead of {holds}")
    return [f"{name}, log {seed}: {what}" for what in wrong]


def run(report: Report) -> None:
    """As many histories a rule as there are seeds, in logs of `ROWS` rows."""
    logs = max(1, report.seeds // ROWS)
    work = product(RULES, range(report.seed, report.seed + logs))
    with multiprocessing.Pool(JOBS) as pool:
        wrong = [what for found in pool.starmap(wrong_rows, work) for what in found]
    report.tally(
        "resolving_replica",
        wrong=wrong,
        logs=logs * len(RULES),
        replayed=logs * len(RULES) * ROWS,
    )
