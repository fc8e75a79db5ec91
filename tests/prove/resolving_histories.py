"""Random histories of one row: one outcome, whatever the order, repetition, batching or crash point.

Each is judged by tests/oracle/resolve.py, which was written from the text of the rules alone.
"""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from gravity_resolver.row_state import RowState

from gravity.batch import DELETE, INSERT, READ, UPDATE, Column
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.register import (
    Change,
    Decision,
    Floor,
    Register,
    Shape,
    changed_columns,
    register,
)
from gravity.resolution.strategy import Hold, Verdict, resolve
from tests.oracle import resolve as oracle
from tests.prove.report import JOBS, Report

_SEEDS_AT_ONCE = 100
SOURCES = ("A", "B", "C")
RANKS = {"A": 1, "B": 2, "C": 3}
SHAPES = {
    names: Shape(names, tuple(Column(name, "int") for name in names)) for names in ("xyz", "xy")
}
OPS = {"U": UPDATE, "D": DELETE, "R": READ}

RULES: dict[str, Resolution] = {
    "latest": Resolution("timestamp-latest", RANKS),
    "latest by column": Resolution("timestamp-latest", RANKS, timestamp_column="x"),
    "latest of two": Resolution("timestamp-latest", {"B": 1, "A": 2}),
    "priority": Resolution("source-priority", RANKS),
    "priority absolute": Resolution("source-priority", RANKS, on_delete="absolute"),
    "priority fallthrough": Resolution("source-priority", RANKS, on_delete="fallthrough"),
    "merge": Resolution("merge", RANKS),
    "merge NULL counts": Resolution("merge", RANKS, null_is_unset=False),
    "merge sum max": Resolution("merge", RANKS, columns={"x": "sum", "y": "max", "z": "min"}),
    "merge owner": Resolution("merge", RANKS, columns={"x": "owner:B", "y": "coalesce", "z": "priority"}),
    "merge group": Resolution("merge", RANKS, groups=(("x", "y"),)),
    "merge group owner": Resolution("merge", RANKS, columns={"x": "owner:C"}, groups=(("x", "z"),)),
    "merge group priority": Resolution("merge", RANKS, columns={"z": "priority"}, groups=(("y", "z"),)),
    "error-stop": Resolution("error-stop", RANKS),
    "error-stop window": Resolution("error-stop", RANKS, conflict_window_us=1),
}  # fmt: skip
"""The variants that are tried."""


def told(rule: Resolution) -> dict[str, Any]:
    """The rule as the oracle reads it."""
    return {
        "strategy": rule.strategy,
        "sources": sorted(rule.ranks, key=lambda source: rule.ranks[source]),
        "on_delete": rule.on_delete,
        "timestamp_column": rule.timestamp_column,
        "columns": dict(rule.columns),
        "groups": rule.groups,
        "null_is_unset": rule.null_is_unset,
        "window": rule.conflict_window_us,
    }


@dataclass
class History:
    """What happened to one row: at each source in its order, and what an operator decided."""

    events: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)


def make_history(rng: random.Random) -> History:
    """A few events of two or three sources, close in time, so that everything contends."""
    history = History()
    for source in rng.sample(SOURCES, rng.choice((2, 3, 3))):
        ets, names = rng.randrange(1, 5), rng.choice(("xyz", "xyz", "xy"))
        for pos in range(1, rng.randrange(2, 6)):
            ets += rng.choice((0, 0, 1, 1, 2))
            op = rng.choice("UUUUUDDRT") if pos > 1 else rng.choice("UUUURD")
            if rng.random() < 0.1:
                names = (
                    "xyz" if names == "xy" else "xy"
                )  # The source's table gets or loses a column.
            row = None if op in "DT" else {name: rng.choice((None, 0, 1, 2)) for name in names}
            history.events.append(
                {"source": source, "op": op, "pos": pos, "ets": ets, "row": row, "columns": names}
            )
    if rng.random() < 0.3:
        for seq in range(1, rng.randrange(2, 4)):
            cover = {s: rng.randrange(4) for s in rng.sample(SOURCES, rng.randrange(1, 4))}
            row = rng.choice((None, {"x": 7, "y": 8, "z": 9}, {"x": 7, "y": None, "z": 0}))
            history.decisions.append({"seq": seq, "cover": cover, "row": row})
    return history


Step = Change | Decision | tuple[str, Floor]


def steps_of(history: History, rule: Resolution) -> list[Step]:
    """The history as the resolver's core takes it in, source by source in order."""
    steps: list[Step] = []
    own: dict[str, Register] = {}
    for event in history.events:
        source, position = event["source"], Position(1, 1, event["pos"])
        if event["op"] == "T":
            steps.append((source, Floor(position, event["ets"])))
            own.pop(source, None)
            continue
        shape = SHAPES[event["columns"]]
        row = tuple((event["row"] or {}).get(column.name) for column in shape.columns)
        op, before = OPS[event["op"]], own.get(source)
        if op == UPDATE and (before is None or not before.live):
            op = INSERT
        changed = None
        if rule.strategy == "merge":
            changed = changed_columns(before, op, row, shape, null_is_unset=rule.null_is_unset)
        change = Change(source, position, op, event["ets"], row, shape, changed)
        own[source] = register(before, change)
        steps.append(change)
    for decision in history.decisions:
        cover = {source: Position(1, 1, pos) for source, pos in decision["cover"].items()}
        values = decision["row"]
        row = None if values is None else tuple(values.values())
        steps.append(Decision(decision["seq"], cover, row, SHAPES["xyz"].columns))
    return steps


@dataclass
class Core:
    """The state of one row, and of its table's floors."""

    row: RowState = field(default_factory=RowState)
    floors: dict[str, Floor] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        if isinstance(step, Change):
            known = self.row.registers
            self.row.registers = {**known, step.source: register(known.get(step.source), step)}
        elif isinstance(step, Decision):
            if self.row.decision is None or self.row.decision.seq < step.seq:
                self.row.decision = step
        else:
            source, floor = step
            if source not in self.floors or self.floors[source].position < floor.position:
                self.floors[source] = floor

    def verdict(self, rule: Resolution) -> Verdict | None:
        return resolve(self.row.registers, rule, self.row.decision, self.floors)

    def saved(self) -> tuple[bytes, dict[str, Floor]]:
        return self.row.dump(), dict(self.floors)

    @classmethod
    def restored(cls, saved: tuple[bytes, dict[str, Floor]]) -> Core:
        return cls(RowState.load(saved[0], SHAPES.__getitem__), dict(saved[1]))


def deliveries(steps: Sequence[Step], rng: random.Random) -> Iterator[list[Step]]:
    """The steps in several orders, with repeats."""
    yield list(steps)
    yield list(reversed(steps))
    for _ in range(3):
        shuffled = [*steps, *rng.choices(steps, k=rng.randrange(len(steps) + 1))]
        rng.shuffle(shuffled)
        yield shuffled


def with_crashes(steps: Sequence[Step], rng: random.Random) -> Core:
    """Saved and killed at random: what came after the last save comes again."""
    core, at, saved, saved_at = Core(), 0, Core().saved(), 0
    crashes = 3
    while at < len(steps):
        core.take(steps[at])
        at += 1
        if rng.random() < 0.3:
            saved, saved_at = core.saved(), at
        if crashes and rng.random() < 0.3:
            crashes -= 1
            core, at = Core.restored(saved), saved_at
    return core


def plain(verdict: Verdict | None) -> tuple[str, Any]:
    """The verdict in the oracle's words."""
    if verdict is None:
        return ("nothing", None)
    if isinstance(verdict, Hold):
        return ("hold", None)
    if verdict.row is None:
        return ("delete", None)
    names = [column.name for column in verdict.columns]
    return ("row", dict(sorted(zip(names, verdict.row, strict=True))))


def divergence(history: History, rule: Resolution, rng: random.Random) -> str:
    """How the product's outcomes differ from the oracle's, or among themselves; empty: not at all."""
    expected = oracle.outcome(told(rule), history.events, history.decisions)
    steps = steps_of(history, rule)
    states = set()
    for delivered in deliveries(steps, rng):
        core = Core()
        for step in delivered:
            core.take(step)
        crashed = with_crashes(delivered, rng)
        for one in (core, crashed):
            found = plain(one.verdict(rule))
            if found != expected:
                return f"{found} instead of {expected}: {delivered}"
        states.add(core.saved()[0])
        states.add(crashed.saved()[0])
    return "" if len(states) == 1 else f"{len(states)} final states: {steps}"


def divergences(name: str, seeds: range) -> list[str]:
    """What was wrong with the rule's random histories of these seeds."""
    found = []
    for seed in seeds:
        rng = random.Random(f"{name} {seed}")
        different = divergence(make_history(rng), RULES[name], rng)
        if different:
            found.append(f"{name}, seed {seed}: {different}")
    return found


def run(report: Report) -> None:
    """Tries every rule on as many histories as there are seeds."""
    seeds = range(report.seed, report.seed + report.seeds)
    pieces = [seeds[at : at + _SEEDS_AT_ONCE] for at in range(0, len(seeds), _SEEDS_AT_ONCE)]
    with multiprocessing.Pool(JOBS) as pool:
        found = pool.starmap(divergences, product(RULES, pieces))
    wrong = [what for one in found for what in one]
    report.tally(
        "resolving_histories", wrong=wrong, rules=len(RULES), histories=len(RULES) * len(seeds)
    )
