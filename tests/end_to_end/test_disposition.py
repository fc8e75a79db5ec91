"""Who waits for a transaction is told what became of its rows: each way in which a row can end, on real servers."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack import Stack

from deploy.demo.pipeline import Pipeline
from tests.oracle.server import Address
from tests.prove.consistency_wait import ask, served

ERP, WEB, TARGET = "erp", "web", "shop"
SHARED = ("orders", "stock")
"""Tables of both sources; `stock` stops where they disagree."""
MANY = 5_000
"""Rows of a transaction that fills several messages."""


@dataclass(frozen=True)
class World:
    """MariaDB `erp` and MySQL `web` into one MariaDB."""

    erp: Address
    web: Address
    shop: Address
    database: str
    path: Path

    def write(self, source: str, *statements: str) -> str:
        """Runs them in one transaction; its GTID."""
        address = {ERP: self.erp, WEB: self.web}[source]
        with address.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"USE `{self.database}`")
            cursor.execute("BEGIN")
            for statement in statements:
                cursor.execute(statement)
            cursor.execute("COMMIT")
            cursor.execute(
                "SELECT @@last_gtid" if source == ERP else "SELECT @@GLOBAL.gtid_executed"
            )
            told = str(cursor.fetchone()[0])
        # Nobody else writes to the MySQL server: its last transaction is ours.
        return (
            told
            if source == ERP
            else f"{told.split(':', maxsplit=1)[0]}:{told.rsplit('-', maxsplit=1)[-1]}"
        )


def make_world(stack: Stack, folder: Path) -> World:
    stack.start_all(["kafka", "mariadb:user-master", "mysql:order-db", "mariadb:data-warehouse"])
    servers = stack.mariadb("user-master"), stack.mysql("order-db"), stack.mariadb("data-warehouse")
    erp, web, shop = (Address(s.host, s.port, s.user, s.password) for s in servers)
    world = World(erp, web, shop, "disposed", folder / "gravity.yaml")
    for address in (erp, web, shop):
        with address.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{world.database}`")
            cursor.execute(f"USE `{world.database}`")
            length = 3 if address is shop else 40
            cursor.execute("CREATE TABLE parent (id INT PRIMARY KEY)")
            cursor.execute(
                "CREATE TABLE child (id INT PRIMARY KEY, parent INT"
                + (", FOREIGN KEY (parent) REFERENCES parent(id))" if address is shop else ")")
            )
            cursor.execute(f"CREATE TABLE notes (id INT PRIMARY KEY, text VARCHAR({length}))")
            if address is not shop:
                for table in SHARED:
                    cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY, text VARCHAR(40))")
    with web.connect() as connection, connection.cursor() as cursor:
        for table in ("parent", "child", "notes"):
            cursor.execute(f"DROP TABLE `{world.database}`.{table}")
        cursor.execute(
            f"CREATE TABLE `{world.database}`.visits (id INT PRIMARY KEY, seconds INT NOT NULL)"
        )
    world.path.write_text(json.dumps(_document(world, stack.kafka().brokers, folder)), "utf-8")
    return world


def _document(world: World, brokers: str, folder: Path) -> dict[str, Any]:
    def server(address: Address) -> dict[str, Any]:
        return {"host": address.host, "port": address.port, "username": address.user,
                "password": address.password}  # fmt: skip

    rule = {"sources": [ERP, WEB]}
    return {
        "sources": [
            {"name": name, "type": "mysql", "databases": world.database, **server(address)}
            for name, address in ((ERP, world.erp), (WEB, world.web))
        ],
        "targets": [{"name": TARGET, "type": "mysql", **server(world.shop)}],
        "distribution-rules": [
            {"condition": "seconds > 10", "tables": "visits", "targets": [TARGET]}
        ],
        "conflict-resolution": {
            "rules": [
                {"table": "stock", "strategy": "error-stop", **rule},
                {"table": "orders", "strategy": "source-priority", **rule},
            ]
        },
        "kafka": {"brokers": [brokers], "partitions": 2, "topic-prefix": f"{world.database}."},
        "state": {"folder": str(folder / "state")},
    }


def gravity(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("gravity"), words[0], world.path, *words[1:]]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=90, check=False
    )


@pytest.mark.timeout(300)
def test_a_wait_tells_what_became_of_each_row_of_a_transaction(
    stack: Stack, tmp_path: Path
) -> None:
    world = make_world(stack, tmp_path)
    with Pipeline(world.path), served(world) as port:  # type: ignore[arg-type]  # it asks for `path` alone

        def became(source: str, *statements: str) -> dict[str, Any]:
            question = {
                "source": source,
                "target": TARGET,
                "gtid": world.write(source, *statements),
            }
            body = {**question, "timeout": 60, "processed": True, "disposition": True}
            status, answer = ask(port, body)
            assert (status, answer.get("untold")) == (200, None), answer
            told = answer["disposition"]
            assert told.pop("rows") == sum(v for v in told.values() if isinstance(v, int))
            return {name: value for name, value in told.items() if value}

        ask(port, {"source": ERP, "target": TARGET, "timeout": 120})
        ask(port, {"source": WEB, "target": TARGET, "timeout": 120})
        db = world.database
        assert became(WEB, "INSERT INTO orders VALUES (1, 'web')", "INSERT INTO stock VALUES (1, 'w')",
                      "INSERT INTO visits VALUES (1, 5), (2, 50)") == {
            "applied": 3, "filtered": 1,
            "others": [{"table": f"{db}.visits", "key": "[1]", "became": "filtered", "by": ""}],
        }  # fmt: skip
        assert became(ERP, "INSERT INTO orders VALUES (1, 'erp')", "INSERT INTO stock VALUES (1, 'e')",
                      "INSERT INTO child VALUES (7, 1)", "INSERT INTO notes VALUES (3, 'long')") == {
            "applied": 1, "held": 1, "parked": 1, "dead_lettered": 1,
            "others": [
                {"table": f"{db}.stock", "key": "[1]", "became": "held", "by": ""},
                {"table": f"{db}.child", "key": "[7]", "became": "parked", "by": ""},
                {"table": f"{db}.notes", "key": "[3]", "became": "dead_lettered", "by": ""},
            ],
        }  # fmt: skip
        assert became(WEB, "UPDATE orders SET text = 'again' WHERE id = 1") == {
            "superseded": 1,
            "others": [{"table": f"{db}.orders", "key": "[1]", "became": "superseded", "by": ERP}],
        }
        # A moved key leaves a second row behind, which is none of the transaction's.
        assert became(ERP, "UPDATE orders SET id = 2 WHERE id = 1") == {"applied": 1}
        rows = ", ".join(f"({n}, {n % 20})" for n in range(100, 100 + MANY))
        many = became(WEB, f"INSERT INTO visits VALUES {rows}")
        assert (many["applied"], many["filtered"]) == (MANY * 9 // 20, MANY * 11 // 20)
        assert len(many["others"]) == 100
        _what_cannot_be_told_is_said(world, port)


def _what_cannot_be_told_is_said(world: World, port: int) -> None:
    good = {"source": ERP, "target": TARGET, "processed": True, "disposition": True}
    status, answer = ask(port, good)
    assert (status, "named" in answer["error"]) == (400, True)
    # Of before the copy: its rows were copied, and no message is the transaction's.
    status, answer = ask(port, {**good, "gtid": "0-1-1"})
    assert (status, answer["status"], answer["disposition"]) == (200, "applied", None)
    assert "begins behind them" in answer["untold"]
    gtid = world.write(ERP, "DELETE FROM notes WHERE id = 3")
    words = ("--source", ERP, "--target", TARGET, "--gtid", gtid, "--processed", "--disposition")
    done = gravity(world, "wait", *words)
    assert (done.returncode, "1 row: 1 applied" in done.stdout) == (0, True), done.stderr
