"""Real servers: a COMMIT that returns after the target has the row, with MariaDB and MySQL as sources.

Writers commit one row and at once look for it at the target, on a connection that was open before: it must be
there, every time. What that costs is measured against the same commits at the same server while nobody waits,
by turns. Then the sink is stopped: the COMMIT returns after the server's own timeout, and it is said aloud.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gravity_devstack import Stack, Unavailable

from deploy.demo.pipeline import Pipeline, wait_for
from tests.oracle.server import Address
from tests.prove.report import Report

COMMITS = 1000
ROUNDS = 10
"""Turns of commits that wait and commits that don't."""
WRITERS = 20
"""Of those who commit at the same time."""
TIMEOUT_MS = 8000
SOURCES = ("mariadb", "mysql")
_OPTIONS = {
    "mariadb": (
        "--rpl-semi-sync-master-enabled=ON",
        "--rpl-semi-sync-master-wait-point=AFTER_SYNC",
        f"--rpl-semi-sync-master-timeout={TIMEOUT_MS}",
    ),
    "mysql": (
        "--plugin-load-add=semisync_source.so",
        "--loose-rpl-semi-sync-source-enabled=ON",
        f"--loose-rpl-semi-sync-source-timeout={TIMEOUT_MS}",
    ),
}
_PREFIX = {"mariadb": "rpl_semi_sync_master_", "mysql": "rpl_semi_sync_source_"}


def start_source(stack: Stack, kind: str) -> Any:
    """A server of that kind with semi-synchronous replication switched on. Raises Unavailable."""
    if kind == "mariadb":
        return stack.mariadb("awaiting", options=_OPTIONS[kind])
    return stack.mysql("awaiting-9", "9.7", options=_OPTIONS[kind])


@dataclass
class World:
    """A source whose COMMITs wait, a target, and the configuration between them."""

    kind: str
    source: Address
    target: Address
    path: Path
    database: str
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        self.pipeline = Pipeline(self.path)

    @property
    def table(self) -> str:
        """The table, at either end."""
        return f"`{self.database}`.`rows`"

    @property
    def target_name(self) -> str:
        """Its own: the target server keeps progress by name, and serves both worlds."""
        return f"for-{self.kind}"

    def told(self, name: str) -> str:
        """One of the server's counters, or one of its settings."""
        found = {}
        with self.source.connect() as connection, connection.cursor() as cursor:
            for what in ("STATUS", "VARIABLES"):
                cursor.execute(f"SHOW GLOBAL {what} LIKE 'rpl%'")
                found |= {text(key).lower(): text(value) for key, value in cursor.fetchall()}
        return found[_PREFIX[self.kind] + name]

    def set(self, name: str, value: object) -> None:
        """Changes a setting of the server's."""
        with self.source.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"SET GLOBAL {_PREFIX[self.kind]}{name} = {value}")

    @property
    def is_on(self) -> bool:
        """Whether COMMITs wait, and somebody is there to answer."""
        return self.told("status") == "ON" and int(self.told("clients")) > 0

    def read_to_the_end(self) -> bool:
        """Whether the collector has read all that the binlog has."""
        with self.source.connect() as connection, connection.cursor() as cursor:
            is_new = self.kind == "mysql"
            cursor.execute("SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS")
            end = int(cursor.fetchone()[1])
        lines = self.status()["sources"][0]["position"].split(":")
        return int(lines[2]) >= end

    def status(self) -> dict[str, Any]:
        """What `gravity status` tells."""
        command = [
            str(Path(sys.executable).with_name("gravity")),
            "status",
            "--json",
            str(self.path),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        return dict(json.loads(done.stdout))

    def answers(self) -> int:
        """Answers that the collector has sent, once all of them are told."""
        told: dict[str, Any] = {}

        def is_told() -> bool:
            told.update(self.status()["sources"][0]["semi_sync"])
            return bool(told["acknowledged"] == int(self.told("yes_tx")))

        wait_for(is_told, self.pipeline, timeout_s=30, what="all answers are told")
        return int(told["answers"])

    def until_on(self) -> None:
        """Returns once COMMITs wait for the target."""
        wait_for(lambda: self.is_on, self.pipeline, timeout_s=120, what="COMMITs wait")

    def said(self, event: str) -> list[dict[str, Any]]:
        """What the stages have said of that name."""
        lines = self.pipeline.log.read_text(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line.get("event") == event]


def text(cell: Any) -> str:
    """A cell of SHOW, which may come as bytes."""
    return cell.decode() if isinstance(cell, bytes) else str(cell)


def make_world(stack: Stack, folder: Path, name: str, kind: str) -> World:
    """Starts the servers and makes the table. Raises Unavailable where the source can't be had."""
    server = start_source(stack, kind)
    there = stack.mariadb("data-warehouse")
    source, target = (Address(s.host, s.port, s.user, s.password) for s in (server, there))
    world = World(kind, source, target, folder / f"{kind}.yaml", name)
    with source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
        cursor.execute(
            f"CREATE TABLE {world.table} (id INT PRIMARY KEY, text VARCHAR(40) NOT NULL)"
        )
        cursor.execute(f"INSERT INTO {world.table} VALUES (0, 'old')")

    def connection_of(address: Address) -> dict[str, Any]:
        return {"host": address.host, "port": address.port, "username": address.user,
                "password": address.password}  # fmt: skip

    document = {
        "sources": [{"name": kind, "type": kind, "databases": name, **connection_of(source),
                     "semi-sync": {"targets": [world.target_name]}}],
        "targets": [{"name": world.target_name, "type": "mysql", **connection_of(target)}],
        "kafka": {"brokers": [stack.kafka().brokers], "partitions": 2, "topic-prefix": f"{name}."},
        "state": {"folder": str(folder / f"state-{kind}")},
    }  # fmt: skip
    world.path.write_text(json.dumps(document), encoding="utf-8")  # YAML holds JSON.
    world.pipeline = Pipeline(world.path, ["--log-format", "json"])
    return world


@contextlib.contextmanager
def running(world: World) -> Iterator[World]:
    """The world at work, COMMITs waiting."""
    gravity = str(Path(sys.executable).with_name("gravity"))
    subprocess.run([gravity, "topics", str(world.path)], check=True, capture_output=True)
    with world.pipeline:
        world.until_on()
        yield world


@dataclass
class Writer(threading.Thread):
    """Commits one row after the other, and reads each at the target at once."""

    world: World
    first: int
    commits: int
    reads: bool = True
    took_s: list[float] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """All its commits."""
        table = self.world.table
        try:
            with self.world.source.connect() as source, self.world.target.connect() as target:
                write, read = source.cursor(), target.cursor()
                for key in range(self.first, self.first + self.commits):
                    began = time.monotonic()
                    write.execute(f"INSERT INTO {table} VALUES ({key}, 'row {key}')")
                    self.took_s.append(time.monotonic() - began)
                    if self.reads:
                        read.execute(f"SELECT text FROM {table} WHERE id = {key}")
                        row = read.fetchone()
                        if row is None or text(row[0]) != f"row {key}":
                            self.missing.append(f"{self.world.kind}: row {key} is {row}")
        except Exception as error:  # noqa: BLE001 - a proof that did not run is none
            self.missing.append(f"{self.world.kind}, writer of {self.first}: {error!r}")


_next_key = iter(range(1, 1 << 31, 1 << 16))


def commits(world: World, count: int, writers: int = 1, *, reads: bool = True) -> list[Writer]:
    """So many commits of so many writers side by side; the writers with what they saw."""
    begun = [Writer(world, next(_next_key), count // writers, reads) for _ in range(writers)]
    for writer in begun:
        writer.start()
    for writer in begun:
        writer.join()
    return begun


def figures(seconds: list[float]) -> str:
    """Milliseconds that half and nearly all of them took at most."""
    ordered = sorted(seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50={p50 * 1000:.1f}ms p99={p99 * 1000:.1f}ms"


def compared(world: World, count: int, report: Report) -> None:
    """Commits that wait and commits that don't, by turns: presence of the former, cost over the latter."""
    waiting: list[float] = []
    plain: list[float] = []
    missing: list[str] = []
    each = max(1, count // ROUNDS)
    for _ in range(ROUNDS):
        world.set("enabled", "OFF")
        plain += commits(world, each, reads=False)[0].took_s
        world.set("enabled", "ON")
        world.until_on()
        (writer,) = commits(world, each)
        waiting += writer.took_s
        missing += writer.missing
    before = world.answers()
    began = time.monotonic()
    together = commits(world, count, WRITERS)
    spent_s = time.monotonic() - began
    answers = world.answers() - before
    missing += [one for writer in together for one in writer.missing]
    together_s = [s for writer in together for s in writer.took_s]
    report.tally(
        f"commits at {world.kind} that wait for the target, {figures(waiting)}; without, {figures(plain)}; "
        f"{WRITERS} writers {figures(together_s)}, {len(together_s) / spent_s:.0f}/s, "
        f"{len(together_s) / max(1, answers):.1f} to an answer",
        commits=len(waiting) + len(together_s),
        wrong=missing,
    )


def fallen_back(world: World, report: Report) -> None:
    """The sink is frozen: one COMMIT takes the server's timeout, the next ones nothing, and all is said."""
    wrong: list[str] = []
    pid = world.pipeline.pid("gravity_sink_mysql")
    assert pid is not None
    before = len(world.said("semi_sync_fell_back"))
    os.kill(pid, signal.SIGSTOP)
    try:
        first, second = commits(world, 2, reads=False)[0].took_s
        wait_for(
            lambda: len(world.said("semi_sync_fell_back")) > before, world.pipeline, timeout_s=30,
            what="the fallback is told",
        )  # fmt: skip
    finally:
        os.kill(pid, signal.SIGCONT)
    if first < TIMEOUT_MS / 1000 * 0.99 or second > first / 2:
        wrong.append(
            f"{world.kind}: a frozen sink, and COMMITs took {first:.2f} and {second:.2f} s"
        )
    world.until_on()
    (writer,) = commits(world, 20)
    wrong += writer.missing
    report.tally(
        f"COMMIT at {world.kind} with a frozen sink: {first:.2f} s, the next {second * 1000:.1f} ms; "
        "told, and on again by itself",
        commits=len(writer.took_s),
        wrong=wrong,
    )


def run(report: Report) -> None:
    """The lines of `make prove WHAT=consistency ONLY=semi-sync`."""
    count = report.scaled(COMMITS)
    for kind in SOURCES:
        with tempfile.TemporaryDirectory(prefix="gravity-semi-") as folder, Stack() as stack:
            try:
                world = make_world(stack, Path(folder), f"prove_{kind}", kind)
            except Unavailable as reason:
                report.tally(f"commits at {kind}: {reason}", wrong=[f"{kind} can't be had"])
                continue
            with world.source.connect() as connection:
                report.servers.add(f"{kind}-{connection.get_server_info()}")
            with running(world):
                compared(world, count, report)
                fallen_back(world, report)
