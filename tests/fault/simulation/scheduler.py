"""Which process runs next, which one dies, and what must hold in the end."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable
from typing import Any

from gravity.batch import DELETE, READ
from gravity.codec import decode_batch, decode_record
from gravity.decision import Note, keep_source, own_row
from gravity.header import IngestKind, RoutedKind
from gravity.position import Position
from tests.oracle.resolve import outcome

from .back import resolver, restore, sink_clickhouse, sink_kafka, sink_mysql
from .front import IDLE, Steps, collector, router
from .world import (
    BAR_BY_PLAN,
    MERGED,
    NARROW,
    PARTS,
    RESOLVED,
    DieError,
    Row,
    ViolationError,
    World,
)

BODIES: dict[str, Any] = {
    "collector": collector,
    "router": router,
    "resolver": resolver,
    "mysql": sink_mysql,
    "clickhouse": sink_clickhouse,
    "kafka": sink_kafka,
}
FOCUS = {"no-term": "resolver", "finish-chunk": "collector"}
"""Broken variants that show rarely: the faults are aimed at this kind of process."""
DECISIONS = 0.004
"""How often an operator decides, a step."""
COLUMNS = ("k", "amount", "stamp")
Value = tuple[int, str]


class Process:
    def __init__(self, role: Any, run: Steps) -> None:
        self.role, self.run, self.frozen = role, run, 0
        self.life: int | None = None
        """Steps that a replaced process still makes."""


class Scheduler:
    """Runs everything in random order under random faults, then lets it drain."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: list[Process] = []
        self.current: dict[Any, Process] = {}
        self.roles: list[Any] = [("collector", s) for s in range(world.sources)]
        self.roles += [("router", s) for s in range(world.sources)]
        self.roles += [(kind, key) for kind in ("resolver", "sink") for key in world.routed]
        for role in self.roles:
            self.spawn(role)

    def spawn(self, role: Any) -> None:
        """A new owner: the group's generation moves on, whoever was there is a zombie now."""
        world = self.world
        world.generation[role] += 1
        kind, key = role
        body = BODIES[key[0] if kind == "sink" else kind]
        old = self.current.get(role)
        if old in self.processes:
            assert old is not None
            old.life = world.rng.randint(5, 80)
        process = Process(role, body(world, key, role, world.generation[role]))
        self.current[role] = process
        self.processes.append(process)

    def kill(self, process: Process) -> None:
        self.processes.remove(process)
        process.run.close()  # type: ignore[attr-defined]

    def step(self, process: Process) -> str | None:
        try:
            result = next(process.run)
        except (StopIteration, DieError):
            self.kill(process)
            return None
        if process.life is not None:
            process.life -= 1
            if process.life <= 0 and process.role[0] != "collector":
                self.kill(process)
        return result

    def fault(self) -> None:
        world, rng = self.world, self.world.rng
        aimed = [p for p in self.processes if p.role[0] == FOCUS.get(world.broken or "")]
        process = rng.choice(aimed or self.processes)
        kind = rng.random()
        if kind < 0.40:
            world.stats["crash"] += 1
            self.kill(process)
        elif kind < 0.70:
            world.stats["freeze"] += 1
            process.frozen = world.steps + rng.randint(50, 600)
            if rng.random() < 0.8:
                self.spawn(process.role)
        else:
            world.stats["rebalance"] += 1
            self.spawn(process.role)
            if rng.random() < 0.2:
                self.spawn(process.role)  # Rivals.

    def run(self) -> None:
        world, rng = self.world, self.world.rng
        rate, length = rng.choice((0.003, 0.01, 0.02)), rng.choice((1000, 2000, 3000))
        growth = rng.uniform(0.01, 0.03)
        upgrade = 0.003 if world.broken == "no-term" else 0.0005
        while world.steps < length:
            world.steps += 1
            if rng.random() < growth:
                rng.choice(world.source).commit_something()
            if world.wide and world.conflicts and rng.random() < DECISIONS:
                decide(world)
            if world.code == 1 and rng.random() < upgrade:
                world.code = 2
            if world.newest_plan == 1 and rng.random() < 0.001:
                world.newest_plan = 2
            if self.processes and rng.random() < rate:
                self.fault()
            dead = [role for role in self.roles if self.current[role] not in self.processes]
            if dead and rng.random() < 0.1:
                self.spawn(rng.choice(dead))
            ready = [p for p in self.processes if p.frozen <= world.steps]
            if ready:
                self.step(rng.choice(ready))
        self.drain()

    def drain(self) -> None:
        """The frozen wake up and do what they like; then only the present owners go on, to the end."""
        world = self.world
        world.faults = False
        for process in self.processes:
            process.frozen = 0
        for _ in range(40 * len(self.processes)):
            if self.processes:
                self.step(world.rng.choice(self.processes))
        for process in [p for p in self.processes if self.current[p.role] is not p]:
            self.kill(process)
        calm = 0
        while calm < 3:
            calm += 1
            for role in self.roles:
                if self.current[role] not in self.processes:
                    self.spawn(role)
                    calm = 0
                for _ in range(5):
                    if self.step(self.current[role]) != IDLE:
                        calm = 0
                    if self.current[role] not in self.processes:
                        break
            world.steps += 1
            if world.steps > 8000:
                raise ViolationError("no end of the drain")


def decide(world: World) -> None:
    """An operator decides about a row of some recent conflict, perhaps seeing what is old by now."""
    rng = world.rng
    key, data = rng.choice(world.conflicts[-20:])
    record = decode_record("conflict", data)
    note = Note(plan=1, time_us=world.steps)
    choice = rng.random()
    if choice < 0.6:
        source = rng.choice(record["opinions"])["source"]
        header, value = keep_source(record, source, note)
    elif choice < 0.8 and any(opinion["row"] for opinion in record["opinions"]):
        header, value = own_row(record, {"amount": rng.randrange(100)}, note)
    else:
        header, value = own_row(record, None, note)
    world.stats["decisions"] += 1
    world.append(world.routed[key], header, value)


# ---------------------------------------------------------------- the oracle: no core of the product


def wanted(world: World, target: str, table: str, value: Value | None) -> bool:
    if value is None:
        return False
    if table.startswith("cond"):
        return (value[0] >= 50) == (target == world.targets[0])
    return True


Said = tuple[Position, bool, Value | None, int]
"""(position, has the row, the row, time) of the latest that a source said."""


def hear(old: Said | None, row: Row, *, live: bool) -> Said:
    ets = 0 if row.op == READ else row.ets
    said = (row.position, live, row.value if live else None, ets)
    if old is None:
        return said
    newest = said if row.position > old[0] else old
    return (*newest[:3], max(ets, old[3]))


def verdict(table: str, said: dict[int, Said]) -> Value | None:
    """`timestamp-latest` for table latest, else `source-priority`; sources are their own ranks."""
    if table == "latest":
        winner = max(said, key=lambda s: (said[s][3], -s))
        return said[winner][2]
    deletes = [(s, held[3]) for s, held in said.items() if not held[1]]
    for source in sorted(said):
        _, live, value, ets = said[source]
        if live and not any(s <= source and when >= ets for s, when in deletes):
            return value
    return None


Heard = dict[tuple[str, int], tuple[list[dict[str, Any]], list[dict[str, Any]]]]
"""Row to its events and decisions, as tests/oracle/resolve.py reads them."""


def heard(world: World, target: str, partition: int) -> Heard:
    """What a partition's log says of the tables that several sources feed."""
    found: Heard = collections.defaultdict(lambda: ([], []))
    for offset, (header, value) in enumerate(world.routed[target, partition]):
        table = header.table.removeprefix("app.")
        if header.kind is RoutedKind.DECISION:
            record = decode_record("decision", value)
            row = None if record["row"] is None else json.loads(record["row"])
            cover = {seen["source"]: Position.parse(seen["position"]) for seen in record["cover"]}
            decision = {"seq": offset, "cover": cover, "row": row}
            found[table, json.loads(record["key"])[0]][1].append(decision)
        elif header.kind is RoutedKind.ROWS and table in (*NARROW, *RESOLVED):
            batch = decode_batch(value)
            for index, cells in enumerate(batch.rows()):
                op = {"I": "U", "M": "D"}.get(chr(batch.ops[index]), chr(batch.ops[index]))
                row = None if op == "D" else dict(zip(COLUMNS, cells, strict=True))
                event = {"source": batch.source, "op": op, "pos": batch.position_of(index), "row": row,
                         "ets": batch.transactions[batch.tx[index]].ets, "columns": COLUMNS}  # fmt: skip
                found[table, cells[0]][0].append(event)
    return found


def resolved(
    world: World, target: str
) -> tuple[dict[tuple[str, int], Value | None], set[tuple[str, int]], dict[int, int]]:
    """What the target must hold of the tables RESOLVED and of rows that an operator decided about.

    Also the rows on hold, and how many a partition has.
    """
    want: dict[tuple[str, int], Value | None] = {}
    held: set[tuple[str, int]] = set()
    holds: dict[int, int] = dict.fromkeys(range(PARTS), 0)
    sources = [f"s{source.number}" for source in world.source]
    rules = {
        "latest": {"strategy": "timestamp-latest", "sources": sources},
        "priority": {"strategy": "source-priority", "sources": sources},
        "merge": {"strategy": "merge", "sources": sources, "columns": MERGED},
        "stop": {"strategy": "error-stop", "sources": sources},
    }
    for partition in range(PARTS):
        for (table, key), (events, decisions) in heard(world, target, partition).items():
            if table in NARROW and not decisions:
                continue  # Judged by `verdict`, over the sources' own histories.
            kind, row = outcome(rules[table], events, decisions)
            if kind == "hold":
                held.add((table, key))
                holds[partition] += 1
            else:
                want[table, key] = (row["amount"], row["stamp"]) if kind == "row" else None
    return want, held, holds


def expected(world: World, target: str) -> dict[tuple[str, int], Value]:
    """What the target must hold: the verdict over all histories; single-source tables their source."""
    said: dict[tuple[str, int], dict[int, Said]] = collections.defaultdict(dict)
    for source in world.source:
        first = Position(0, 0, 0)
        rows = [
            Row(source.number, table, READ, key, None, value, None, first, 0)
            for table, held in source.initial.items()
            for key, value in held.items()
        ]
        for row in [*rows, *(row for t in source.binlog for row in t)]:
            if row.table not in NARROW:
                continue
            mine = said[row.table, row.key]
            if row.old is not None and row.old != row.key:
                left = said[row.table, row.old]
                left[source.number] = hear(left.get(source.number), row, live=False)
            mine[source.number] = hear(mine.get(source.number), row, live=row.op != DELETE)
    want = {k: value for k, held in said.items() if (value := verdict(k[0], held)) is not None}
    for source in world.source:
        for table, held in source.tables.items():
            if table not in (*NARROW, *RESOLVED, source.log):
                for key, value in held.items():
                    if wanted(world, target, table, value):
                        want[table, key] = value
        plans = plans_of_log(world, source.number)
        for row in (row for t in source.binlog for row in t if row.table == source.log):
            bar = BAR_BY_PLAN[plans(row.position)]
            if row.value and (row.value[0] >= bar) == (target == world.targets[0]):
                want[row.table, row.key] = row.value
    return want


def plans_of_log(world: World, number: int) -> Callable[[Position], int]:
    """The plan under which the row at a position was published, as the valid messages' headers say."""
    spans: list[tuple[Position, Position, int]] = []
    top = last = 0
    for message in world.ingest[number]:
        header = message.header
        if header.kind is IngestKind.FENCE:
            top = max(top, header.owner)
        elif header.owner >= top and header.seq > last:
            last = header.seq
            if header.kind is IngestKind.ROWS:
                spans.append((header.from_, header.to, header.plan))
    return lambda at: next(plan for start, end, plan in spans if start <= at < end)


def contents(world: World, target: str) -> dict[tuple[str, int], Value]:
    if target == "mysql":
        return dict(world.mysql.rows)
    if target == "clickhouse":
        return world.clickhouse.final()
    rows: dict[tuple[str, int], Value] = {}
    newest: dict[Any, Position] = {}
    for table, removes, key, value, source, position in world.kafka.log:
        if removes:
            rows.pop((table, key), None)
        else:
            rows[table, key] = value
        if table not in (*NARROW, *RESOLVED):
            if newest.get((table, key, source), Position(0, 0, 0)) > position:
                raise ViolationError(f"kafka: order of {table} {key} of {source} reversed")
            newest[table, key, source] = position
    return rows


def check(world: World) -> None:
    """Every target equals the oracle; the ingest log has no hole; every row ended in one way."""
    for target in world.targets:
        have, want = contents(world, target), expected(world, target)
        if world.wide:
            rows, held, holds = resolved(world, target)
            want = {row: value for row, value in {**want, **rows}.items() if value is not None}
            # What the target keeps while sources disagree depends on which came first.
            have = {row: value for row, value in have.items() if row not in held}
            for partition, count in holds.items():
                found = restore(world, (target, partition), None)[0].holds
                if found != count:
                    raise ViolationError(
                        f"{target} {partition}: {count} rows on hold, {found} counted"
                    )
        if have != want:
            different = {
                k: (have.get(k), want.get(k))
                for k in have.keys() | want.keys()
                if have.get(k) != want.get(k)
            }
            raise ViolationError(f"{target} differs from the oracle (has, should): {different}")
    for source in world.source:
        top = last = total = 0
        for message in world.ingest[source.number]:
            header = message.header
            if header.kind is IngestKind.FENCE:
                top = max(top, header.owner)
            elif header.owner >= top and header.seq > last:
                if header.seq != last + 1:
                    raise ViolationError(f"ingest {source.number}: {last} -> {header.seq}")
                last, total = header.seq, total + header.rows
        for target in world.targets:
            ended = world.filtered_by_router[source.number, target]
            for key in world.routed:
                if key[0] == target:
                    counters = restore(world, key, None)[0].counters.get(f"s{source.number}")
                    if counters:
                        ended += counters.applied + counters.superseded
                        ended += counters.filtered + counters.held
            if ended != total:
                raise ViolationError(
                    f"conservation: source {source.number} {target}: {total} in, {ended} counted"
                )
