"""The outside: sources with their binlogs, targets, logs, transactions, consumer groups."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from gravity_collector.chunk import Chunk

from gravity.batch import DELETE, INSERT, UPDATE, Column
from gravity.header import IngestHeader
from gravity.merge_order import MergeOrder
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, RoutePlan, RulePlan, SourcePlan, TargetPlan
from gravity.position import Position
from gravity.schema_change import SchemaChange, TableAction
from gravity.stored import Counts

from .altering import EXTRA, NARROW_ROW, DieError, Store, Value, ViolationError
from .breaks import BREAKS, histories_of
from .parking import CHILD, PARENT, refers, refusal
from .server import Server
from .statement import ADDED, Statement

PARTS = 2
KEYS = 4
"""Few keys, so that everything contends."""
BAR_BY_PLAN = {1: 60, 2: 20}
"""From which amount on a row of a growing table goes to the first target, by the plan's number."""
AGAIN = 0.7
"""Share of ALTERs of tables that were altered before."""
REWRITES = 0.1
"""Share of rewritten tables among what a source commits."""
RESOLVED = ("merge", "stop")
"""Tables judged by tests/oracle/resolve.py, beside those judged by the scheduler's own oracle."""
MERGED = {"amount": "sum", "stamp": "max", "extra": "max"}
OWN = "own"
"""A table that every source feeds with rows that no other one has."""
RETENTION = 2
"""How long a deleted row is remembered, by the sources' clocks: short, so that it is forgotten often."""
LATEST = Resolution("timestamp-latest", {})
MERGE = Resolution("merge", {}, columns=MERGED)
PRIORITY = Resolution("source-priority", {})
NARROW = ("latest", "priority")
SILENCE = 300
"""Steps without a word after which a source is waited for no more, where others may go on."""
LAG = 2
"""How far a commit time may be behind the clock at most."""
SERVERS = 3
"""Servers of a source where another one may stand in."""


class Row(NamedTuple):
    """One row change of a source."""

    source: int
    table: str
    op: int
    key: int
    old: int | None
    """Key before the change; None where there was no row."""
    value: Value | None
    before: Value | None
    position: Position
    """Its place in what the source committed; at each server it has another one."""
    ets: int


Key = tuple[str, int]
"""A target and one of its partitions."""


class Message(NamedTuple):
    """A message of any log."""

    header: Any
    value: bytes
    time_ms: int = 0
    """When it was written, in steps."""


CONTESTED = (*NARROW, *RESOLVED)
"""Tables of which several sources may have one row."""


def shared(table: str) -> bool:
    """Whether every source feeds the table."""
    return table == OWN or table in CONTESTED


def halves(table: str, first: int = 0) -> tuple[Chunk, Chunk]:
    """The chunks in which a table is copied whose keys begin with `first`."""
    name, middle = ("app", table), (first + KEYS // 2 - 1,)
    return Chunk(name, None, middle), Chunk(name, middle, None, number=1)


def is_in(key: int, chunk: Chunk) -> bool:
    """Whether a key is one of the chunk's."""
    bounds: list[Any] = [bound and bound[0] for bound in (chunk.after, chunk.through)]
    return (bounds[0] is None or key > bounds[0]) and (bounds[1] is None or key <= bounds[1])


class Source:
    """A database: its tables now, everything it ever committed, and the servers that have it."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.binlog: list[tuple[Row, ...]] = []
        self.rewrites: dict[int, str] = {}
        """Numbers of binlog entries without rows at which a table's values changed: only reading it again tells."""
        self.statements: dict[int, Statement] = {}
        """What stands at binlog entries without rows that hold a statement."""
        servers = SERVERS if world.histories.fails_over else 1
        self.servers = [
            Server(self, k, random.Random(f"server {number}.{k} of {world.seed}"))
            for k in range(servers)
        ]
        self.ets = self.stamp = 0
        names = ("latest", "priority", f"cond{number}", f"group{number}a", f"group{number}b")
        names += (f"{PARENT}{number}", f"{CHILD}{number}") if world.histories.parks else ()
        names += RESOLVED if world.histories.resolving else ()
        names += (OWN,) if world.histories.on_down else ()
        self.thirds: dict[str, Column] = {}
        """Tables that have a third column now, and that."""
        self.tables: dict[str, dict[int, Value]] = {name: {} for name in names}
        for table, rows in self.tables.items():
            for key in self.keys(table):
                if world.rng.random() < 0.4 and not (world.histories.young and shared(table)):
                    value = self.new_value(table)  # Only a snapshot can deliver these.
                    if not (refers(table) and self.refuses(table, key, value)):
                        rows[key] = value
        self.initial = {table: dict(rows) for table, rows in self.tables.items()}
        copied = [t for t in self.tables if not (world.histories.young and shared(t))]
        self.chunks = [chunk for table in copied for chunk in halves(table, self.keys(table)[0])]
        self.log = f"log{number}"
        """A table that only grows, whose rows go to one target or the other as the plan says."""
        self.tables[self.log] = {}

    def keys(self, table: str) -> range:
        """The keys that it may have there."""
        return range(self.number * KEYS, (self.number + 1) * KEYS) if table == OWN else range(KEYS)

    def new_value(self, table: str) -> Value:
        self.stamp += 1
        value = (self.world.rng.randrange(100), f"s{self.number}v{self.stamp}")
        if table.startswith(CHILD):
            value = (self.world.rng.randrange(KEYS), value[1])
        return (*value, self.world.rng.randrange(10)) if table in self.thirds else value

    def commit_something(self) -> None:
        """One transaction of one to five row changes, or a change of values that the binlog does not show."""
        rng, number = self.world.rng, len(self.binlog) + 1
        if self.world.histories.rewrites and rng.random() < REWRITES:
            table = f"group{self.number}{rng.choice('ab')}"
            self.rewrites[len(self.binlog)] = table
            self.binlog.append(())
            self.tables[table] = {key: self.new_value(table) for key in self.tables[table]}
            return
        self.world.clock += rng.randrange(2)
        self.ets = max(self.ets, self.world.clock - rng.randrange(LAG + 1))
        truncates = self.world.histories.truncates
        if truncates and rng.random() < truncates:
            self.truncate(
                rng.choice(
                    [table for table in self.tables if table != self.log and not refers(table)]
                )
            )
            return
        free = [t for t in self.tables if t != self.log and not refers(t)]
        free = [t for t in free if not (shared(t) and t in self.thirds)]
        alters = self.world.histories.alters
        if alters and free and rng.random() < alters:
            # The same tables again and again, so that one change meets another.
            again = [t for t in free if t in self.thirds]
            self.alter(rng.choice(again if again and rng.random() < AGAIN else free))
            return
        rows = []
        for ordinal in range(rng.randint(1, 5)):
            table = rng.choice(list(self.tables))
            live = self.tables[table]
            key = len(live) if table == self.log else rng.choice(self.keys(table))
            before = live.get(key)
            old = key if before else None
            act = rng.random()
            value = None if before and act < 0.3 else self.new_value(table)
            if refers(table) and self.refuses(table, key, value):
                continue
            free = [k for k in self.keys(table) if k not in live]
            if before and value and act < 0.5 and free and not refers(table):
                key = rng.choice(free)  # The key moves.
            op = DELETE if value is None else UPDATE if before else INSERT
            if old is not None:
                live.pop(old)
            if value:
                live[key] = value
            position = Position(1, 1, number, ordinal)
            rows.append(Row(self.number, table, op, key, old, value, before, position, self.ets))
        if rows:
            self.binlog.append(tuple(rows))

    def refuses(self, table: str, key: int, value: Value | None) -> bool:
        """Whether the source's own foreign keys do."""
        rows = {(name, k): row for name in self.tables for k, row in self.tables[name].items()}
        return refusal(rows, table, key, value) != ""

    def write(self, table: str, key: int, value: Value | None) -> None:
        """A transaction that writes or deletes one row."""
        before = self.tables[table].pop(key, None)
        if value is not None:
            self.tables[table][key] = value
        op = DELETE if value is None else UPDATE if before else INSERT
        old = key if before else None
        position = Position(1, 1, len(self.binlog) + 1)
        row = Row(self.number, table, op, key, old, value, before, position, self.ets)
        self.binlog.append((row,))

    def truncate(self, table: str) -> None:
        """TRUNCATE TABLE."""
        self.tables[table].clear()
        self.state(table, TableAction.TRUNCATE, f"TRUNCATE TABLE {table}")

    def alter(self, table: str) -> None:
        """ALTER TABLE: adds a third column; renames it, makes it wider, or drops it."""
        rng, third, rows = self.world.rng, self.thirds.get(table), self.tables[table]
        if third is None:
            default = rng.choice((None, 7))
            self.thirds[table] = ADDED
            clause = f"ADD COLUMN {EXTRA} INT" + (f" DEFAULT {default}" if default else "")
            self.tables[table] = {key: (*v, default) for key, v in rows.items()}
        elif (choice := rng.random()) < 0.3:
            del self.thirds[table]
            clause = f"DROP COLUMN {third.name}"
            self.tables[table] = {key: v[:NARROW_ROW] for key, v in rows.items()}
        elif choice < 0.65 or third.type == "bigint":
            name = "more" if third.name == EXTRA else EXTRA
            self.thirds[table] = replace(third, name=name)
            clause = f"RENAME COLUMN {third.name} TO {name}"
        else:
            self.thirds[table] = replace(third, type="bigint")
            clause = f"MODIFY {third.name} BIGINT"
        self.world.stats[clause.partition(" ")[0].lower()] += 1
        self.state(table, TableAction.ALTER, f"ALTER TABLE {table} {clause}")

    def state(self, table: str, action: TableAction, sql: str) -> None:
        number = len(self.binlog)
        position, third = Position(1, 1, number + 1), self.thirds.get(table)
        self.statements[number] = Statement(
            self.number, table, action, position, self.ets, sql, third
        )
        self.binlog.append(())


class MysqlTarget(Store):
    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, int], Value] = {}
        self.progress: dict[int, dict[str, Any]] = {
            q: {
                "epoch": 0,
                "stored": None,
                "lock": None,
                "parked": {},
                "counts": Counts(),
                "dead": set(),
                "letters": set(),
                "replaced": set(),
            }
            for q in range(PARTS)
        }
        """Of each lane. Places of rows: `dead` those that it counts so, `letters` those in the dead-letter topic."""

    def reshape(self, table: str, change: Callable[[Value], Value]) -> None:
        for row in [row for row in self.rows if row[0] == table]:
            self.rows[row] = change(self.rows[row])

    def write(self, table: str, key: int, value: Value, third: Column | None = None) -> None:
        """An upsert of a row of a table with that third column."""
        self.make_ready(table, third)
        self.rows[table, key] = self.tables.fitted(table, value, self.rows.get((table, key)))


class ClickhouseTarget(Store):
    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[tuple[str, int], dict[Any, Value | None]] = collections.defaultdict(dict)
        self.progress: dict[int, Any] = dict.fromkeys(range(PARTS))

    def reshape(self, table: str, change: Callable[[Value], Value]) -> None:
        for (name, _), versions in self.rows.items():
            for version, value in versions.items() if name == table else ():
                versions[version] = None if value is None else change(value)

    def insert(
        self,
        table: str,
        key: int,
        version: Any,
        value: Value | None,
        third: Column | None = None,
    ) -> None:
        if value is not None:
            self.make_ready(table, third)
            value = self.tables.fitted(table, value)
        if self.rows[table, key].setdefault(version, value) != value:
            raise ViolationError(f"ClickHouse: one version, two contents: {table} {key} {version}")

    def final(self) -> dict[tuple[str, int], Value]:
        newest = {key: found[max(found)] for key, found in self.rows.items() if found}
        return {key: value for key, value in newest.items() if value is not None}


class Said(NamedTuple):
    """A record of a Kafka target: the row under a key, its end (value None), or of a whole table (key None).

    Of a whole table it is the end of all rows, or what became of their columns (`change`).
    """

    table: str
    key: int | None
    value: Value | None
    source: str
    position: Position
    partition: int
    change: SchemaChange | None = None


class KafkaTarget:
    def __init__(self) -> None:
        self.log: list[Said] = []
        self.progress: dict[int, Any] = dict.fromkeys(range(PARTS))


class World:
    """Everything outside the processes, and the seed's random numbers."""

    def __init__(self, seed: int, broken: str | None = None) -> None:
        self.seed, self.rng, self.broken = seed, random.Random(seed), broken
        self.clock, self.ids, self.steps, self.faults = 10, 0, 0, True
        self.histories = histories_of(seed, broken)
        self.patience = random.Random(f"patience of {seed}")
        """The sink's with refused rows: numbers of its own, so that the rest stays as it is without."""
        self.refused: set[tuple[tuple[str, int], int]] = set()
        """Decisions that came too late: the partition's log, and the offset there."""
        self.conflicts: list[tuple[tuple[str, int], bytes]] = []
        """Records of the conflicts topic, each with the partition whose resolver wrote it."""
        self.sources = self.rng.choice((2, 2, 3))
        self.targets = self.rng.sample(("mysql", "clickhouse", "kafka"), 2)
        needed = BREAKS[broken].target if broken else ""
        if needed and needed not in self.targets:
            self.targets[0] = needed
        self.mysql, self.clickhouse, self.kafka = MysqlTarget(), ClickhouseTarget(), KafkaTarget()
        self.source = [Source(self, number) for number in range(self.sources)]
        self.plans = {version: make_plan(self, version) for version in BAR_BY_PLAN}
        self.newest_plan = 1
        self.ingest: list[list[Message]] = [[] for _ in self.source]
        keys = [(target, q) for target in self.targets for q in range(PARTS)]
        self.routed: dict[tuple[str, int], list[Message]] = {key: [] for key in keys}
        self.target: dict[tuple[str, int], list[Message]] = {key: [] for key in keys}
        self.changelog: dict[tuple[str, int], list[dict[bytes, bytes]]] = {key: [] for key in keys}
        self.disks: dict[Any, tuple[int, dict[bytes, bytes]]] = {}
        self.control: dict[Any, Any] = {}
        self.code = 1
        self.tx_epoch: collections.Counter[Any] = collections.Counter()
        self.generation: collections.Counter[Any] = collections.Counter()
        self.committed: collections.Counter[Any] = collections.Counter()
        self.filtered_by_router: collections.Counter[Any] = collections.Counter()
        self.content: dict[Any, bytes] = {}
        self.twins: dict[tuple[str, int], Any] = {}
        """Partition to a resolver's state that has seen every prefix of its log, as far as it was asked for."""
        self.stats: collections.Counter[str] = collections.Counter()

    def uid(self) -> int:
        self.ids += 1
        return self.ids

    def append(self, log: list[Message], header: Any, value: bytes) -> None:
        """One stored record. The caller yields afterwards: only then does it know. A retry may store it twice."""
        log.append(Message(header, value, self.steps))
        if self.faults and self.rng.random() < 0.02:
            log.append(Message(header, value, self.steps))
            self.stats["stored twice"] += 1

    def commit(self, role: Any, generation: int, offset: int) -> None:
        """Offset commit of a consumer group; an old generation is refused."""
        if self.generation[role] != generation:
            raise DieError("commit refused")
        self.committed[role] = offset

    def init_transactions(self, name: str) -> int:
        self.tx_epoch[name] += 1
        return self.tx_epoch[name]

    def check_epoch(self, name: str, epoch: int) -> None:
        if self.tx_epoch[name] != epoch and self.broken != "no-tx-fencing":
            raise DieError("producer fenced")


def make_plan(world: World, version: int) -> RoutingPlan:
    """Conditional, multi-source by all strategies, and grouped tables, to two targets."""
    sources, targets = world.sources, world.targets
    bar = BAR_BY_PLAN[version]
    names = [f"s{number}" for number in range(sources)]
    ranks = {name: rank for rank, name in enumerate(names, 1)}

    def rule(of: Resolution) -> Resolution:
        retention = RETENTION if world.histories.forgets else of.tombstone_retention_us
        return replace(of, ranks=ranks, tombstone_retention_us=retention)

    routes = [RoutePlan(target, ("*",), exclude=("cond*", "log*")) for target in targets]
    routes.append(RoutePlan(targets[0], ("cond*",), condition="amount >= 50"))
    routes.append(RoutePlan(targets[1], ("cond*",), condition="amount < 50"))
    routes.append(RoutePlan(targets[0], ("log*",), condition=f"amount >= {bar}"))
    routes.append(RoutePlan(targets[1], ("log*",), condition=f"amount < {bar}"))
    lanes = tuple((f"group{n}?", f"group:g{n}") for n in range(sources))
    if world.histories.scope == "table":
        lanes += (("stop", "table"),)
    lanes += (("*", "table" if world.histories.on_down else "key"),)
    lanes = () if world.histories.one_lane else lanes
    every = {f"app.{table}": tuple(names) for table in (*CONTESTED, OWN)}
    single = {
        f"app.{table}{n}{suffix}": (f"s{n}",)
        for n in range(sources)
        for table, suffix in (
            (PARENT, ""),
            (CHILD, ""),
            ("cond", ""),
            ("group", "a"),
            ("group", "b"),
            ("log", ""),
        )
    }
    return RoutingPlan(
        version=version,
        partitions=PARTS,
        sources=tuple(SourcePlan(name, ("*",), ("*",), ()) for name in names),
        targets=tuple(TargetPlan(target, target, None, ("*",), (), lanes) for target in targets),
        routes=tuple(routes),
        rules=(
            RulePlan(("latest",), None, rule(LATEST)),
            RulePlan(("merge",), None, rule(MERGE)),
            RulePlan(("stop",), None, Resolution("error-stop", ranks, scope=world.histories.scope)),
        ),
        default_resolution=rule(PRIORITY),
        feeding={target: {**every, **single} for target in targets},
        merge=MergeOrder(
            world.histories.merges, ranks, max_wait_ms=SILENCE, on_down=world.histories.on_down
        )
        if world.histories.on_down
        else None,
    )


def kind_of(message: Message) -> str:
    """The kind of an ingest message."""
    header = message.header
    assert isinstance(header, IngestHeader)
    return header.kind
