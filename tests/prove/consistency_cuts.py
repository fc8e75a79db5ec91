"""Real servers: cuts of a target that a bank's transfers flow to, with sinks killed while partitions stand.

Each transfer is one transaction over several partitions: two accounts, and a row that says so. What a command
reads while the partitions stand must be the bank as it was at one place of the source's binlog: the sum is what it
always is, each account is what the transfers make of it, each clerk's transfers are the first of those that he
made, and all of them together are as many as the point's GTIDs say. Afterwards a replica of the target is taken from
point to point by the recorded GTIDs of the target, and must hold the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gravity_devstack import DatabaseServer, Stack, Unavailable

from deploy.demo.pipeline import Pipeline, wait_for
from gravity.testing.waiting import wait_until
from tests.oracle.server import Address
from tests.prove.report import Report

CUTS = 20
CLERKS = 3
RESTS = 9
"""A clerk rests for so many times as long as his last transfer took: a slow machine gets fewer of them."""
ACCOUNTS = 60
EACH = 1000
PARTITIONS = 4
SOURCES = {"mariadb": "mysql", "mysql": "mariadb"}
"""Source to target."""
_KILL_EVERY = 5
_READER = """
import json, sys, time
import pymysql
host, port, user, password, database, pause_s = json.loads(sys.argv[1])
connection = pymysql.connect(host=host, port=port, user=user, password=password, database=database, autocommit=True)
cursor = connection.cursor()
def read(table, columns, where):
    cursor.execute(f"SELECT {columns} FROM {table} WHERE {where}")
    return [list(row) for row in cursor.fetchall()]
found = {"accounts": [], "transfers": []}
for part in range(5):
    found["accounts"] += read("accounts", "id, amount", f"id % 5 = {part}")
    time.sleep(pause_s / 5)  # Slow on purpose.
    found["transfers"] += read("transfers", "clerk, number, payer, payee, amount", f"number % 5 = {part}")
found["sum"] = int(read("accounts", "SUM(amount)", "1 = 1")[0][0])
print(json.dumps(found))
"""
"""Reads the bank in many statements, each of which sees what has been committed by then.

It sleeps in order to be slow: the bank shall change between two statements.
"""


@dataclass
class World:
    """A bank at a source, a target, and the configuration between them."""

    source: Address
    target: Address
    path: Path
    database: str
    target_name: str
    base: int = 0
    """Transactions of the source before the first transfer."""
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(self.path)

    def query(self, address: Address, sql: str) -> list[tuple[Any, ...]]:
        """Text of the cells."""
        with address.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return [tuple(map(_text, row)) for row in cursor.fetchall()]

    def gravity(self, *words: str, input_: Any = None) -> subprocess.CompletedProcess[str]:
        """One command."""
        return subprocess.run(
            self.command(*words), capture_output=True, text=True, timeout=150, check=False, stdin=input_
        )  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """`gravity WORD CONFIG ...`."""
        gravity = Path(sys.executable).with_name("gravity")
        return [str(gravity), words[0], str(self.path), *words[1:]]

    def cut_words(self, *words: str) -> list[str]:
        """A cut, with JSON as its last line."""
        return ["cut", "--source", "bank", "--target", self.target_name, "--json", *words]

    def reader(self, pause_s: float) -> list[str]:
        """The command that reads the bank at the target, in no less than `pause_s`."""
        at = self.target
        where = [at.host, at.port, at.user, at.password, self.database, pause_s]
        return [sys.executable, "-c", _READER, json.dumps(where)]


def _text(cell: Any) -> Any:
    return cell.decode() if isinstance(cell, bytes) else cell


def make_world(stack: Stack, folder: Path, name: str, kind: str) -> World:
    """Starts the servers and opens the bank. Raises Unavailable where the source can't be had."""
    stack.start_all(["kafka"])
    if kind == "mariadb":
        source, target = stack.mariadb("user-master"), stack.mysql("order-db")
    else:
        source, target = stack.mysql("order-db"), stack.mariadb("data-warehouse")
    ends = [Address(s.host, s.port, s.user, s.password) for s in (source, target)]
    world = World(*ends, folder / "gravity.yaml", name, f"ledger-{kind}")
    with world.source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        cursor.execute(f"USE `{name}`")
        cursor.execute("CREATE TABLE accounts (id INT PRIMARY KEY, amount INT NOT NULL)")
        cursor.execute(
            "CREATE TABLE transfers (clerk INT, number INT, payer INT NOT NULL, payee INT NOT NULL, "
            "amount INT NOT NULL, PRIMARY KEY (clerk, number))"
        )
        rows = ", ".join(f"({account}, {EACH})" for account in range(ACCOUNTS))
        cursor.execute(f"INSERT INTO accounts VALUES {rows}")

    def server(address: Address) -> dict[str, Any]:
        return {"type": "mysql", "host": address.host, "port": address.port, "username": address.user,
                "password": address.password}  # fmt: skip

    document = {
        "sources": [{"name": "bank", "databases": name, **server(world.source)}],
        "targets": [{"name": world.target_name, **server(world.target)}],
        "kafka": {
            "brokers": [stack.kafka().brokers], "partitions": PARTITIONS, "topic-prefix": f"{name}."
        },
        "state": {"folder": str(folder / "state")},
    }  # fmt: skip
    world.path.write_text(json.dumps(document), encoding="utf-8")  # YAML holds JSON.
    return world


@contextlib.contextmanager
def running(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """The pipeline and a second sink process, which it gives, at work, with the bank copied."""
    assert world.gravity("topics").returncode == 0
    log = world.path.with_suffix(".sink.log")
    with world.pipeline, log.open("wb") as output:
        command = [sys.executable, "-m", "gravity_sink_mysql", str(world.path)]
        second = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_for(
                lambda: world.gravity("wait", "--source", "bank", "--target", world.target_name,
                                      "--timeout", "2s").returncode == 0,
                world.pipeline, timeout_s=120, what="the bank has been copied",
            )  # fmt: skip
            world.base = executed(world)
            yield second
        finally:
            second.terminate()
            second.wait(60)


def last_number(gtids: str) -> int:
    """How many transactions a set says that one server has made: the number at its end."""
    return int(re.findall(r"\d+", gtids)[-1])


def executed(world: World) -> int:
    """The same of the source, now."""
    version = world.query(world.source, "SELECT VERSION()")[0][0]
    name = "gtid_binlog_pos" if "MariaDB" in version else "gtid_executed"
    return last_number(world.query(world.source, f"SELECT @@GLOBAL.{name}")[0][0])


class Clerk(threading.Thread):
    """Moves amounts between accounts until told to stop."""

    def __init__(self, world: World, number: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self.world, self.number, self.pause_s = world, number, pause_s
        sql = f"SELECT COUNT(*) FROM `{world.database}`.transfers WHERE clerk = {number}"
        self.done = int(world.query(world.source, sql)[0][0])
        """His transfers, of earlier days too."""
        self.failed: Exception | None = None
        self.stopped = threading.Event()

    def run(self) -> None:
        """One transaction after the other; whoever meets another clerk's lock begins anew."""
        draw = random.Random(self.number)
        try:
            with self.world.source.connect() as connection, connection.cursor() as cursor:
                cursor.execute(f"USE `{self.world.database}`")
                took_s = 0.0
                while not self.stopped.wait(self.pause_s + RESTS * took_s):
                    began_s = time.monotonic()
                    # By number, so that clerks never wait for each other in a circle.
                    first, second = sorted(draw.sample(range(ACCOUNTS), 2))
                    amount = draw.randint(-50, 50)
                    cursor.execute("BEGIN")
                    cursor.execute(
                        f"UPDATE accounts SET amount = amount - {amount} WHERE id = {first}"
                    )
                    cursor.execute(
                        f"UPDATE accounts SET amount = amount + {amount} WHERE id = {second}"
                    )
                    cursor.execute(
                        f"INSERT INTO transfers VALUES ({self.number}, {self.done + 1}, {first}, {second}, {amount})"
                    )
                    cursor.execute("COMMIT")
                    self.done += 1
                    took_s = time.monotonic() - began_s
        except Exception as error:  # noqa: BLE001 - a load that stopped proves nothing
            self.failed = error


@contextlib.contextmanager
def load(world: World, *, pause_s: float = 0.004) -> Iterator[list[Clerk]]:
    """Clerks at work."""
    clerks = [Clerk(world, number, pause_s) for number in range(CLERKS)]
    for clerk in clerks:
        clerk.start()
    try:
        yield clerks
    finally:
        for clerk in clerks:
            clerk.stopped.set()
        for clerk in clerks:
            clerk.join(60)
    assert not [clerk.failed for clerk in clerks if clerk.failed]


def judged(world: World, found: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """What is wrong with the bank as it was read at a point."""
    wrong = []
    if found["sum"] != ACCOUNTS * EACH:
        wrong.append(f"the sum is {found['sum']}, not {ACCOUNTS * EACH}")
    amounts = dict.fromkeys(range(ACCOUNTS), EACH)
    numbers: dict[int, list[int]] = defaultdict(list)
    for clerk, number, payer, payee, amount in found["transfers"]:
        numbers[clerk].append(number)
        amounts[payer] -= amount
        amounts[payee] += amount
    differing = {i: (a, amounts[i]) for i, a in found["accounts"] if a != amounts[i]}
    if len(found["accounts"]) != ACCOUNTS or differing:
        wrong.append(f"accounts are not what the transfers make of them: {differing}")
    for clerk, made in numbers.items():
        if sorted(made) != list(range(1, len(made) + 1)):
            wrong.append(
                f"transfers of clerk {clerk} are missing: {sorted(made)[-5:]}, {len(made)} in all"
            )
    passed = last_number(point["gtids"]) - world.base
    if len(found["transfers"]) != passed:
        wrong.append(f"{len(found['transfers'])} transfers, {passed} by the point's GTIDs")
    return wrong


@dataclass
class Made:
    """What came of many cuts."""

    points: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    kills: int = 0


def cut_and_read(world: World, made: Made, *, kills: bool) -> None:
    """One cut in which the bank is read; a sink is killed meanwhile if `kills`."""
    began_s = time.monotonic()
    command = world.command(
        *world.cut_words("--timeout", "30s", "--", *world.reader(1.5 if kills else 0.2))
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if kills:
        stands = (
            f"SELECT 1 FROM `_gravity`.`_gravity_points` WHERE target = '{world.target_name}' "
            "AND running = 1 AND state = 'reached'"
        )
        wait_for(lambda: world.query(world.target, stands) or process.poll() is not None,
                 world.pipeline, timeout_s=60, what="all partitions stand")  # fmt: skip
        pid = world.pipeline.pid("gravity_sink_mysql")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            made.kills += 1
    out, err = process.communicate(timeout=120)
    made.took_s.append(time.monotonic() - began_s)
    if process.returncode:
        made.wrong.append(f"no point: {err.strip()[-500:]}")
        return
    read, told = out.strip().splitlines()
    point = json.loads(told)
    made.points.append(point)
    made.wrong += [f"cut {point['cut']}: {text}" for text in judged(world, json.loads(read), point)]


def cuts_under_load(world: World, count: int) -> Made:
    """So many cuts while clerks are at work; every fifth sees a sink killed."""
    made = Made()
    with load(world) as clerks:
        for number in range(1, count + 1):
            cut_and_read(world, made, kills=number % _KILL_EVERY == 0)
    made.wrong += nothing_is_lost(world, clerks)
    return made


def nothing_is_lost(world: World, clerks: list[Clerk]) -> list[str]:
    """What the target lacks once it has all that the clerks did."""
    done = world.gravity(
        "wait", "--source", "bank", "--target", world.target_name, "--timeout", "60s"
    )
    if done.returncode:
        return [f"it does not get on: {done.stderr}"]
    tables = [f"`{world.database}`.{table}" for table in ("accounts", "transfers")]
    there, here = (
        [world.query(address, f"SELECT * FROM {table} ORDER BY 1, 2") for table in tables]
        for address in (world.source, world.target)
    )
    transfers = sum(clerk.done for clerk in clerks)
    if there != here or len(here[1]) != transfers:
        return [f"target and source differ after {transfers} transfers"]
    return []


class Replica:
    """A replica of the target that is taken from one recorded point to the next."""

    def __init__(self, world: World, server: DatabaseServer) -> None:
        self.world = world
        self.address = Address(server.host, server.port, server.user, server.password)
        version = self._ask("SELECT VERSION()")[0][0]
        self.is_mariadb = "MariaDB" in version
        self.is_new = not self.is_mariadb and tuple(map(int, version.split(".")[:2])) > (8, 0)
        target = world.target
        if self.is_new:
            self._ask(
                f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{target.host}', SOURCE_PORT={target.port}, "
                f"SOURCE_USER='{target.user}', SOURCE_PASSWORD='{target.password}', SOURCE_AUTO_POSITION=1, "
                "GET_SOURCE_PUBLIC_KEY=1"
            )
            return
        how = (
            "MASTER_USE_GTID=slave_pos, MASTER_SSL=0, MASTER_SSL_VERIFY_SERVER_CERT=0"
            if self.is_mariadb
            else "MASTER_AUTO_POSITION=1, GET_MASTER_PUBLIC_KEY=1"
        )
        self._ask(
            f"CHANGE MASTER TO MASTER_HOST='{target.host}', MASTER_PORT={target.port}, MASTER_USER='{target.user}', "
            f"MASTER_PASSWORD='{target.password}', {how}"
        )

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        return self.world.query(self.address, sql)

    def go_to(self, gtids: str) -> None:
        """Returns once it has applied these transactions of the target, and has stopped."""
        until = "MASTER_GTID_POS" if self.is_mariadb else "SQL_AFTER_GTIDS"
        name = "REPLICA" if self.is_new else "SLAVE"
        self._ask(f"START {name} UNTIL {until} = '{gtids}'")
        wait_until(
            lambda: self._status(name)["_sql_running"] == "no",
            what="the replica stands where it is to",
            tell=lambda: self._status(name),
        )
        status = self._status(name)
        assert not int(status["last_sql_errno"]), status
        self._ask(f"STOP {name}")

    def _status(self, name: str) -> dict[str, str]:
        with self.address.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW {name} STATUS")
            columns = [
                str(item[0]).lower().replace("slave", "").replace("replica", "")
                for item in cursor.description
            ]
            cells = [str(_text(cell)).lower() for cell in cursor.fetchone()]
            return dict(zip(columns, cells, strict=True))

    def bank(self) -> dict[str, Any]:
        """What the reader would read here."""

        def rows(columns: str, table: str) -> list[list[int]]:
            found = self._ask(f"SELECT {columns} FROM `{self.world.database}`.{table}")
            return [list(map(int, row)) for row in found]

        accounts = rows("id, amount", "accounts")
        transfers = rows("clerk, number, payer, payee, amount", "transfers")
        return {"accounts": accounts, "transfers": transfers, "sum": sum(a for _, a in accounts)}


def replayed(world: World, server: DatabaseServer, points: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a replica of the target that is stopped at each recorded point."""
    replica, wrong = Replica(world, server), []
    for point in points:
        replica.go_to(point["target_gtids"])
        texts = judged(world, replica.bank(), point)
        wrong += [f"cut {point['cut']}, at a replica of the target: {text}" for text in texts]
    return wrong


def replica_of(stack: Stack, kind: str) -> DatabaseServer:
    """An empty server of the kind that a source of `kind` flows to."""
    name = f"cut-replica-{kind}"
    return stack.mysql(name) if SOURCES[kind] == "mysql" else stack.mariadb(name)


def figures(made: Made) -> str:
    """How long the partitions stood, and how long a cut took from the request to its end."""
    if not made.points:
        return "no point"
    stood, took = sorted(p["stood_ms"] for p in made.points), sorted(made.took_s)
    return (
        f"stood p50={stood[len(stood) // 2]} max={stood[-1]} ms, whole p50={took[len(took) // 2]:.1f} "
        f"max={took[-1]:.1f} s, {made.kills} kills"
    )


def run(report: Report) -> None:
    """The line of `make prove WHAT=consistency` for each kind of source."""
    for kind, target in SOURCES.items():
        with tempfile.TemporaryDirectory(prefix="gravity-cuts-") as folder, Stack() as stack:
            try:
                world = make_world(stack, Path(folder), "prove_cuts", kind)
            except Unavailable as reason:
                sys.stdout.write(f"{kind}: skipped, {reason}\n")
                continue
            with running(world):
                made = cuts_under_load(world, report.scaled(CUTS))
            made.wrong += replayed(world, replica_of(stack, kind), made.points)
        report.tally(
            f"cuts, {kind} into {target} ({figures(made)})",
            cuts=len(made.points),
            wrong=made.wrong,
        )
