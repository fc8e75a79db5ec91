"""Real servers: applications write to a source, wait through `gravity serve`, and read the target at once.

Half of them write to MariaDB and wait for the transaction's own GTID, half to MySQL and wait for everything
that is committed (the barrier). What they then read must be what they wrote, every time.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gravity_devstack import Stack

from deploy.demo.pipeline import Pipeline, wait_for
from gravity.testing.waiting import wait_until
from tests.oracle.server import Address
from tests.prove.report import Report

WRITES = 1000
CLIENTS = 8
SOURCES = ("with-gtid", "barrier")
"""MariaDB, MySQL."""
TARGET = "warehouse"
EXISTING = 200
"""Rows that are there before."""
_WAIT_S = 60


@dataclass(frozen=True)
class World:
    """Two sources, a target, and the configuration between them."""

    sources: dict[str, Address]
    target: Address
    path: Path
    database: str

    def table(self, source: str) -> str:
        """The table that only this source writes."""
        return f"`{self.database}`.`{source}`"


def make_world(stack: Stack, folder: Path, name: str) -> World:
    """Starts the servers and fills the sources."""
    stack.start_all(["kafka", "mariadb:user-master", "mysql:order-db", "mariadb:data-warehouse"])
    servers = stack.mariadb("user-master"), stack.mysql("order-db"), stack.mariadb("data-warehouse")
    first, second, target = (Address(s.host, s.port, s.user, s.password) for s in servers)
    world = World(
        dict(zip(SOURCES, (first, second), strict=True)), target, folder / "gravity.yaml", name
    )
    for source, address in world.sources.items():
        with address.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")
            cursor.execute(
                f"CREATE TABLE {world.table(source)} (id INT PRIMARY KEY, text VARCHAR(40) NOT NULL)"
            )
            rows = ", ".join(f"({-number}, 'old')" for number in range(1, EXISTING + 1))
            cursor.execute(f"INSERT INTO {world.table(source)} VALUES {rows}")

    def server(address: Address) -> dict[str, Any]:
        return {"host": address.host, "port": address.port, "username": address.user,
                "password": address.password}  # fmt: skip

    document = {
        "sources": [
            {"name": source, "type": "mysql", "databases": name, **server(address)}
            for source, address in world.sources.items()
        ],
        "targets": [{"name": TARGET, "type": "mysql", **server(target)}],
        "kafka": {"brokers": [stack.kafka().brokers], "partitions": 2, "topic-prefix": f"{name}."},
        "state": {"folder": str(folder / "state")},
    }
    world.path.write_text(json.dumps(document), encoding="utf-8")  # YAML holds JSON.
    return world


@contextlib.contextmanager
def served(world: World, *options: str) -> Iterator[int]:
    """`gravity serve` on a port of its own, which it gives."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("gravity"), "serve", world.path]
    log = world.path.with_suffix(".serve.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command), "--listen", f"127.0.0.1:{port}", *options], stdout=output, stderr=output
        )  # fmt: skip
    try:

        def listens() -> bool:
            assert process.poll() is None, log.read_text()
            with socket.socket() as asking:
                return not asking.connect_ex(("127.0.0.1", port))

        wait_until(listens, 30, what="it listens", tell=log.read_text)
        yield port
    finally:
        process.terminate()
        assert process.wait(20) == 0, log.read_text()


def ask(port: int, body: Any, kind: str = "application/json") -> tuple[int, dict[str, Any]]:
    """The status and the answer of one POST /wait."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_WAIT_S + 30)
    text = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", "/wait", text, {"Content-Type": kind})
    response = connection.getresponse()
    found = json.loads(response.read())
    connection.close()
    return response.status, found


@dataclass
class Client(threading.Thread):
    """An application that writes a row, waits, and reads it: inserted, changed, deleted, and anew."""

    world: World
    source: str
    number: int
    writes: int
    port: int
    waited_s: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """Writes, waits and reads so many times."""
        try:
            with (
                self.world.sources[self.source].connect() as source,
                self.world.target.connect() as target,
            ):
                for turn in range(self.writes):
                    self._turn(source.cursor(), target.cursor(), turn)
        except Exception as error:  # noqa: BLE001 - a proof that did not run is none
            self.wrong.append(f"{self.source} {self.number}: {error!r}")

    def _turn(self, source: Any, target: Any, turn: int) -> None:
        table, key = self.world.table(self.source), self.number * 1_000_000 + turn // 3
        text = f"turn {turn}"
        source.execute(
            (
                f"INSERT INTO {table} VALUES ({key}, '{text}')",
                f"UPDATE {table} SET text = '{text}' WHERE id = {key}",
                f"DELETE FROM {table} WHERE id = {key}",
            )[turn % 3]
        )
        body: dict[str, Any] = {"source": self.source, "target": TARGET, "timeout": _WAIT_S}
        if self.source == "with-gtid":
            source.execute("SELECT @@last_gtid")
            body["gtid"] = _text(source.fetchone()[0])
        began = time.monotonic()
        status, found = ask(self.port, body)
        self.waited_s.append(time.monotonic() - began)
        target.execute(f"SELECT text FROM {table} WHERE id = {key}")
        row = target.fetchone()
        have, want = None if row is None else _text(row[0]), None if turn % 3 == 2 else text
        if status != 200 or have != want:
            self.wrong.append(f"{body}: {have!r} instead of {want!r}, {status} {found}")


def _text(cell: Any) -> str:
    return cell.decode() if isinstance(cell, bytes) else str(cell)


def write_and_read(world: World, port: int, writes: int, clients: int) -> list[Client]:
    """That many writes in all, each waited for and read; the clients with what they saw."""
    begun = [
        Client(world, SOURCES[number % 2], number + 1, writes // clients, port)
        for number in range(clients)
    ]
    for client in begun:
        client.start()
    for client in begun:
        client.join()
    return begun


def until_copied(world: World, pipeline: Pipeline, port: int) -> None:
    """Returns once the barrier of every source is passed for the first time."""
    for source in world.sources:
        body = {"source": source, "target": TARGET, "timeout": 1}
        wait_for(
            lambda b=body: ask(port, b)[0] == 200,  # type: ignore[misc]
            pipeline, timeout_s=120, what=f"{source} has been copied",
        )  # fmt: skip


def figures(clients: list[Client]) -> str:
    """How long the waits took."""
    parts = []
    for source in SOURCES:
        waited = sorted(s for client in clients if client.source == source for s in client.waited_s)
        if waited:
            p50, p99 = waited[len(waited) // 2], waited[int(len(waited) * 0.99)]
            parts.append(f"{source} p50={p50:.2f}s p99={p99:.2f}s max={waited[-1]:.2f}s")
    return ", ".join(parts)


def run(report: Report) -> None:
    """The line of `make prove WHAT=consistency`."""
    writes = report.scaled(WRITES)
    with tempfile.TemporaryDirectory(prefix="gravity-wait-") as folder, Stack() as stack:
        world = make_world(stack, Path(folder), "prove_wait")
        topics = [str(Path(sys.executable).with_name("gravity")), "topics", str(world.path)]
        subprocess.run(topics, check=True, capture_output=True)
        with Pipeline(world.path) as pipeline, served(world) as port:
            until_copied(world, pipeline, port)
            clients = write_and_read(world, port, writes, CLIENTS)
    wrong = [text for client in clients for text in client.wrong]
    done = sum(len(client.waited_s) for client in clients)
    report.tally(f"writes, each waited for and read ({figures(clients)})", writes=done, wrong=wrong)
