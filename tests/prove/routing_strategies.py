"""Every way of dividing a table, end to end: after a load with key moves and deaths each shard holds its rows.

One MySQL source, three databases of one MariaDB as targets, one pipeline with a table for each strategy.
What a target must hold is computed from the source's final rows by rules written out here once more.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import xxhash
from gravity_devstack import Stack

from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ProgressReader
from gravity.clock import monotonic_s, now_us
from gravity.config import load_config
from gravity.kafka.control import ControlTopic
from gravity.topic import Topics
from tests.oracle.server import Address
from tests.prove.report import Report, Verdict

TARGETS = ("a", "b", "c")
NAME = "shard-"
"""What stands before a target's letter in its name."""
BUCKETS = 1024
WAIT_S = 240.0
_numbers = count(1)

Cells = dict[str, Any]


@dataclass(frozen=True)
class Strategy:
    """A table, the rule that divides it, and which targets a row must be at."""

    table: str
    columns: str
    rule: str
    """YAML of a `routing-rules` entry or, beginning with `-`, of a `routing` entry."""
    homes: Callable[[Cells], str] | None
    """The letters of the targets; None: a row is at one of them, wherever its turn was."""
    is_balanced: bool = False
    """Whether `homes` only holds until loads move buckets: then the map in the control topic says it."""


# The documented hash, written anew.


def _cell(value: Any) -> bytes:
    content = (
        b"n"
        if value is None
        else b"i%d" % value
        if isinstance(value, int)
        else b"s" + value.encode()
    )
    return len(content).to_bytes(4, "big") + content


def _hash(*cells: Any) -> int:
    return int(xxhash.xxh64(b"".join(map(_cell, cells))).intdigest())


def _rendezvous(bucket: int) -> str:
    def score(letter: str) -> float:
        digest = xxhash.xxh64(f"{NAME}{letter}\x00{bucket}".encode()).intdigest()
        return -1 / math.log((digest + 0.5) / (2.0**64 + 1.0))

    return max(TARGETS, key=score)


def _turn(bucket: int, weights: dict[str, int]) -> str:
    credit = dict.fromkeys(weights, 0)
    chosen = ""
    for _ in range(bucket + 1):
        for name in credit:
            credit[name] += weights[name]
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= sum(weights.values())
    return chosen


def _by_residue(row: Cells) -> str:
    user = row["user_id"]
    rest = _hash(None) % 4 if user is None else user % 4
    return "aabc"[rest]


def _by_year(row: Cells) -> str:
    return {"2023": "a", "2024": "b"}.get((row["day"] or "")[:4], "c")


def _by_condition(row: Cells) -> str:
    level, day, user = row["name"], row["day"], row["user_id"]
    found = "a" if level is not None and level.lower().startswith("error") else ""
    # MySQL's % keeps the sign: -3 % 2 is -1.
    odd = user is not None and math.fmod(user, 2) == 1
    found += "b" if day is not None and day >= "2024" and odd else ""
    return found or "c"


_TURNS = {n: {b: _turn(b, w) for b in range(BUCKETS)} for n, w in (("even", dict.fromkeys(TARGETS, 1)), ("heavy", {"a": 3, "b": 1, "c": 1}))}  # fmt: skip
_COLUMNS = "id BIGINT PRIMARY KEY, user_id INT NULL, day DATETIME NULL, name VARCHAR(20) NULL, v INT NOT NULL"
STRATEGIES = (
    Strategy(
        "by_hash",
        _COLUMNS,
        "{strategy: hash, key: user_id, targets: [{target: T_a, residues: [0, 1]}, {target: T_b, residues: [2]},"
        " {target: T_c, residues: [3]}]}",
        _by_residue,
    ),
    Strategy(
        "by_range",
        _COLUMNS,
        "{strategy: range, key: day, default: T_c, ranges: [{range: 2023-01-01 to 2023-12-31, target: T_a},"
        " {range: 2024-01-01 to 2024-12-31, target: T_b}]}",
        _by_year,
    ),
    Strategy(
        "by_rendezvous",
        _COLUMNS,
        "{strategy: consistent-hash, key: [user_id, name], targets: [T_a, T_b, T_c]}",
        lambda row: _rendezvous(_hash(row["user_id"], row["name"]) % BUCKETS),
    ),
    Strategy(
        "by_turn",
        _COLUMNS,
        "- {strategy: round-robin, targets: [T_a, T_b, T_c]}",
        lambda row: _TURNS["even"][_hash(row["id"]) % BUCKETS],
    ),
    Strategy(
        "by_weight",
        _COLUMNS,
        "{strategy: weighted-round-robin, targets: [{target: T_a, weight: 3}, T_b, T_c]}",
        lambda row: _TURNS["heavy"][_hash(row["id"]) % BUCKETS],
    ),
    Strategy(
        "by_condition",
        _COLUMNS,
        "- {strategy: conditional, default: T_c, conditions: ["
        "{if: \"LOWER(LEFT(name, 5)) = 'error'\", targets: T_a},"
        ' {if: "YEAR(day) >= 2024 AND user_id % 2 = 1", targets: T_b}]}',
        _by_condition,
    ),
    Strategy(
        "by_load",
        _COLUMNS,
        "- {strategy: least-connections, targets: [T_a, T_b, T_c]}",
        lambda row: _TURNS["even"][_hash(row["id"]) % BUCKETS],
        is_balanced=True,
    ),
    Strategy(
        "appended",
        _COLUMNS,
        "- {strategy: round-robin, append-only: true, targets: [T_a, T_b, T_c]}",
        None,
    ),
    Strategy("everywhere", _COLUMNS, "- {strategy: broadcast, targets: [T_a, T_b, T_c]}", lambda _: "abc"),
)  # fmt: skip
_DAYS = ("2023-01-01 00:00:00", "2023-12-31 23:59:59", "2024-01-01 00:00:00", "2024-12-31 23:59:59", "2025-06-01 12:00:00")  # fmt: skip
_NAMES = ("error", "ERROR 7", "info", "Ärger", "", None)


class World:
    """The servers, a source with its tables, and a configuration of all strategies."""

    def __init__(self, stack: Stack, folder: Path, seed: int, partitions: int = 2) -> None:
        stack.start_all(["kafka", "mysql:order-db", "mariadb:user-master"])
        source, target = stack.mysql("order-db"), stack.mariadb("user-master")
        self.source = Address(source.host, source.port, source.user, source.password)
        self.target = Address(target.host, target.port, target.user, target.password)
        self._suffix = f"{os.getpid()}_{next(_numbers)}"
        self.database = f"shards_{self._suffix}"
        self.random = Random(seed)
        self._next_id = 1
        self._ids: dict[str, list[int]] = {s.table: [] for s in STRATEGIES}
        self._connection = source.connect()
        self._execute(f"CREATE DATABASE {self.database}")
        self._execute(f"USE {self.database}")
        for strategy in STRATEGIES:
            self._execute(f"CREATE TABLE {strategy.table} ({strategy.columns})")
        self.rules = {strategy.table: strategy for strategy in STRATEGIES}
        """By which strategy each table is divided now."""
        self._place = stack.kafka().brokers, folder, partitions
        self.path = folder / "gravity.yaml"
        self._write_configuration()
        config = load_config(self.path).config
        self.reader = ProgressReader(config)
        self._control = ControlTopic(
            config.kafka, Topics(config.kafka.topic_prefix).control, "gravity-test"
        )

    def _execute(self, statement: str, arguments: Sequence[Any] = ()) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)

    def reload(self, by: int) -> None:
        """Has each table divided by the rule of the one `by` places further, while everything runs."""
        names = list(self.rules)
        given = [self.rules[names[(at + by) % len(names)]] for at in range(len(names))]
        self.rules = dict(zip(names, given, strict=True))
        self._write_configuration()
        self._gravity("reload")

    def buckets(self, table: str) -> str:
        """The letters of the targets that a table's buckets go to, by the newest plan."""
        [placement] = [
            found
            for found in self._newest_plan()["placements"]
            if found["name"] == f"routing of {table}"
        ]
        return "".join(placement["targets"][place][-1] for place in placement["buckets"])

    def _newest_plan(self) -> dict[str, Any]:
        records = self._control.refresh()
        plans = {int(key[5:]): plan for key, plan in records.items() if key.startswith("plan/")}
        return dict(plans[max(plans)])

    def until_balanced(self, number: int) -> None:
        """Holds a target up until it gives buckets away; meanwhile `number` changes are made."""
        table = next(table for table, strategy in self.rules.items() if strategy.is_balanced)
        before = self.buckets(table)
        connection = self.target.connect()
        try:
            with connection.cursor() as cursor:
                connection.begin()
                cursor.execute(
                    "SELECT * FROM _gravity._gravity_progress WHERE target = %s FOR UPDATE",
                    [f"{NAME}b"],
                )
            self.changes(number)
            give_up_s = monotonic_s() + WAIT_S
            while self.buckets(table).count("b") >= before.count("b"):
                assert monotonic_s() < give_up_s, "no bucket was moved"
                self._gravity("balance")
        finally:
            connection.close()

    def _gravity(self, command: str) -> None:
        program = [str(Path(sys.executable).with_name("gravity")), command, str(self.path)]
        subprocess.run(program, check=True, timeout=180, stdout=subprocess.DEVNULL)

    def _write_configuration(self) -> None:
        self.path.write_text(self._configuration(*self._place), "utf-8")

    def _configuration(self, brokers: str, folder: Path, partitions: int) -> str:
        login = "host: {0.host}, port: {0.port}, username: {0.user}, password: {0.password}"
        lines = [
            "sources:",
            f"  - {{name: s, databases: {self.database}, {login.format(self.source)}}}",
            "targets:",
        ]
        lines += [
            f"  - {{name: T_{letter}, type: mysql, database: {self._home(letter)}, {login.format(self.target)}}}"
            for letter in TARGETS
        ]
        routes = {t: s.rule for t, s in self.rules.items() if s.rule.startswith("-")}
        rules = {t: s.rule for t, s in self.rules.items() if not s.rule.startswith("-")}
        lines += ["routing:"]
        lines += [
            f"  - {{source-tables: {t}, {rule.removeprefix('- {')}" for t, rule in routes.items()
        ]
        lines += ["routing-rules:"]
        lines += [f"  {table}: {rule}" for table, rule in rules.items()]
        lines += [
            f'kafka: {{brokers: ["{brokers}"], partitions: {partitions}, topic-prefix: "p{self._suffix}."}}',
            f'state: {{folder: "{folder}/state"}}',
        ]
        return "\n".join(lines).replace("T_", NAME) + "\n"

    def _home(self, letter: str) -> str:
        return f"{self.database}_{letter}"

    # The load.

    def _row(self) -> list[Any]:
        choose = self.random.choice
        user = None if self.random.random() < 0.1 else self.random.randint(-9, 9)
        day = None if self.random.random() < 0.1 else choose(_DAYS)
        return [user, day, choose(_NAMES), self.random.randint(0, 99)]

    def change(self, table: str) -> None:
        """One random change: an insert, an update of what decides or of the key, or a delete."""
        ids, dice = self._ids[table], self.random.random()
        if dice < 0.45 or not ids:
            self._execute(
                f"INSERT INTO {table} VALUES (%s, %s, %s, %s, %s)", [self._next_id, *self._row()]
            )
            ids.append(self._next_id)
            self._next_id += 1
            return
        place = self.random.randrange(len(ids))
        key = ids[place]
        if dice < 0.75:
            self._execute(
                f"UPDATE {table} SET user_id = %s, day = %s, name = %s, v = %s WHERE id = {key}",
                self._row(),
            )
        elif dice < 0.85:
            self._execute(f"UPDATE {table} SET id = {self._next_id}, v = v + 1 WHERE id = {key}")
            ids[place] = self._next_id
            self._next_id += 1
        else:
            self._execute(f"DELETE FROM {table} WHERE id = {key}")
            ids.pop(place)

    def changes(self, number: int) -> None:
        """`number` changes to each table, in transactions of a few."""
        for _ in range(number):
            self._connection.begin()
            for strategy in STRATEGIES:
                self.change(strategy.table)
            self._connection.commit()

    # The verdict.

    def until_passed(self, pipeline: Pipeline) -> None:
        """Returns once every target has passed the source's last change, by the newest plan.

        Loads may have made another plan since the last was taken, or make one meanwhile.
        """
        plan = 0
        while (newest := int(self._newest_plan()["version"])) > plan:
            plan = newest
            self._until_passed_by(plan, pipeline)

    def _until_passed_by(self, plan: int, pipeline: Pipeline) -> None:
        def is_copied() -> bool:
            return self.reader.refresh().plan_of("s") >= plan and self.reader.is_copied("s")

        wait_for(is_copied, pipeline, timeout_s=WAIT_S, what="copied")
        with self._connection.cursor() as cursor:
            cursor.execute("SHOW MASTER STATUS")
            name, offset = cursor.fetchone()[:2]
        name = name.decode() if isinstance(name, bytes) else name
        finals, since = {"s": (int(name.rpartition(".")[2]), int(offset))}, now_us()
        wait_for(
            lambda: not self.reader.refresh().behind(finals, since),
            pipeline,
            timeout_s=WAIT_S,
            what="every target passes the last change",
        )

    def verdicts(self, what: str) -> Iterator[Verdict]:
        """One for each table, by the rule that it has now."""
        for table, strategy in self.rules.items():
            rows, wrong = self._compare(table, strategy)
            yield Verdict(f"{what}: {table} as {strategy.table}", rows, wrong)

    def _compare(self, table: str, strategy: Strategy) -> tuple[int, list[str]]:
        """(rows that the targets must hold, those that differ)."""
        expected: dict[str, dict[int, Cells]] = {letter: {} for letter in TARGETS}
        held = {
            letter: {row["id"]: row for row in _rows(self.target, self._home(letter), table)}
            for letter in TARGETS
        }
        homes = strategy.homes
        if homes is None:

            def homes(row: Cells) -> str:
                return next((name for name in TARGETS if row["id"] in held[name]), "a")

        elif strategy.is_balanced:
            buckets = self.buckets(table)

            def homes(row: Cells) -> str:
                return buckets[_hash(row["id"]) % BUCKETS]

        for row in _rows(self.source, self.database, table):
            for letter in homes(row):
                expected[letter][row["id"]] = row
        wrong = []
        for letter, rows in expected.items():
            found = held[letter]
            wrong += [
                f"{table} at {letter}: id {key}: {rows.get(key)} expected, {found.get(key)} found"
                for key in rows.keys() | found.keys()
                if rows.get(key) != found.get(key)
            ]
        return sum(map(len, expected.values())), wrong

    def close(self) -> None:
        """Drops what was made."""
        with contextlib.suppress(Exception):
            self._execute(f"DROP DATABASE {self.database}")
        self._connection.close()
        self._control.close()


def _rows(address: Address, database: str, table: str) -> Iterator[Cells]:
    connection = address.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM information_schema.TABLES"
                f" WHERE TABLE_SCHEMA = '{database}' AND TABLE_NAME = '{table}'"
            )
            if not int(cursor.fetchone()[0]):
                return
            cursor.execute(f"SELECT id, user_id, day, name, v FROM {database}.{table}")
            for row in cursor.fetchall():
                cells = [cell.decode() if isinstance(cell, bytes) else cell for cell in row]
                numbers = [None if cells[i] is None else int(cells[i]) for i in (0, 1, 4)]
                yield {
                    "id": numbers[0],
                    "user_id": numbers[1],
                    "day": cells[2],
                    "name": cells[3],
                    "v": numbers[2],
                }
    finally:
        connection.close()


def kill(pipeline: Pipeline, stage: str) -> None:
    """Kills a stage and returns once it is up again."""
    pid = pipeline.pid(stage)
    assert pid is not None, f"{stage} is not up"
    os.kill(pid, signal.SIGKILL)
    wait_for(
        lambda: pipeline.pid(stage) not in (None, pid),
        pipeline,
        timeout_s=60,
        what=f"{stage} is back",
    )


def run_load(world: World, number: int, *, restarts: bool) -> Iterator[Verdict]:
    """Existing rows, then changes while stages die, then (`restarts`) while all is down; then other rules.

    The rules change hands among the tables while everything runs.
    """
    world.changes(number)
    pipeline = Pipeline(world.path)
    pipeline.start()
    try:
        wait_for(
            lambda: world.reader.refresh().is_copied("s"), pipeline, timeout_s=WAIT_S, what="copied"
        )
        world.changes(number)
        kill(pipeline, "gravity_router")
        world.until_balanced(number)
        if restarts:
            kill(pipeline, "gravity_resolver")
            kill(pipeline, "gravity_sink_mysql")
            world.changes(number)
            pipeline.kill()
            world.changes(number)
            pipeline = Pipeline(world.path)
            pipeline.start()
            world.changes(number)
        world.until_passed(pipeline)
        yield from world.verdicts("shards")
        world.changes(number)
        world.reload(by=1)
        world.changes(number)
        if restarts:
            kill(pipeline, "gravity_collector")
            world.reload(by=2)
            kill(pipeline, "gravity_router")
            world.changes(number)
        world.until_passed(pipeline)
        yield from world.verdicts("shards by another plan")
    finally:
        pipeline.stop()


def run(report: Report) -> None:
    """Six rounds of changes to every table, with deaths of router, resolver, sink and all."""
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        world = World(stack, Path(folder), report.seed)
        try:
            for found in run_load(world, report.scaled(400), restarts=True):
                report.verdict(found)
        finally:
            world.close()
