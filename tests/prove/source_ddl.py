"""The DDL storm: random schema changes on five tables under load, the collector killed again and again.

Whoever reads the ingest log and does what it says ends with the source's tables, columns and rows.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer
from gravity_devstack.errors import Unavailable

from tests.integration.collector.installation import Installation, installation
from tests.prove.log_replica import LogReplica
from tests.prove.report import Report
from tests.prove.schema_storm import Storm

CHANGES = 300
CHANGES_A_LIFE = 25
"""After so many the collector is killed, and started again."""
SERVERS = ("mariadb:storm", "mysql:storm")
SETTLED_S = 120.0


@dataclass
class Outcome:
    """What the storm came to."""

    pairs: int = 0
    differences: list[str] = field(default_factory=list)
    note: str = ""


def run(report: Report) -> None:
    """The long form, on every kind of server that this machine has."""
    with tempfile.TemporaryDirectory(prefix="ddl-") as folder, Stack() as stack:
        for specification in SERVERS:
            try:
                server = stack.start_all([specification, "kafka"])[specification]
            except (Unavailable, ValueError):
                continue
            assert isinstance(server, DatabaseServer)
            inner = Path(folder) / specification.partition(":")[0]
            inner.mkdir()
            outcome = storm(stack, server, inner, report.scaled(CHANGES), report.seed)
            version = server.version.partition("-")[0]
            report.servers.add(f"{server.flavor}-{version}")
            report.line(
                f"ddl storm on {server.flavor} {version}",
                pairs=outcome.pairs,
                differences=len(outcome.differences),
                examples=outcome.differences[:5],
                note=outcome.note,
            )


def storm(stack: Stack, server: DatabaseServer, folder: Path, changes: int, seed: int) -> Outcome:
    """Changes under load, then the comparison of the log's reader with the source."""
    with installation(stack, server, folder, chunk_rows="25") as made:
        rage = Storm(server, made.database, seed)
        try:
            lives = _rage(made, rage, changes)
            replica, taken = LogReplica(), 0
            deadline = time.monotonic() + SETTLED_S
            while True:
                messages = made.valid()
                replica.take(messages[taken:])
                taken = len(messages)
                outcome = _compare(replica, rage)
                if not outcome.differences or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
            made.assert_lawful()
        finally:
            rage.close()
    counts = " ".join(f"{name}={count}" for name, count in sorted(rage.counts.items()))
    outcome.note = f"changes={changes} published={replica.changes} collectors={lives} {counts}"
    return outcome


def _rage(made: Installation, rage: Storm, changes: int) -> int:
    rage.make_tables()
    process, lives = made.start_and_wait(), 1
    with rage.applications():
        for number in range(1, changes + 1):
            rage.change()
            if number % CHANGES_A_LIFE == 0:
                process.kill()
                # The next one is behind: what it meets has changed again since.
                rage.change()
                process, lives = made.start_and_wait(), lives + 1
    return lives


def _compare(replica: LogReplica, rage: Storm) -> Outcome:
    outcome = Outcome()
    there = rage.tables()
    for table in sorted({*there, *replica.tables}):
        if table not in there:
            outcome.differences.append(f"{table} is gone at the source")
            continue
        real, ours = rage.rows(table), replica.tables.get(table, {})
        for key in sorted({*real, *ours}):
            outcome.pairs += 1
            if real.get(key) != ours.get(key):
                outcome.differences.append(
                    f"{table} {key}: source {real.get(key)}, log {ours.get(key)}"
                )
    return outcome
