"""The DDL storm: random schema changes on five tables under load, the collector killed again and again.

Whoever reads the ingest log and does what it says ends with the source's tables, columns and rows; and so
do the targets.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer
from gravity_devstack.errors import Unavailable

from deploy.demo.pipeline import PipelineEndedError
from gravity.testing.waiting import wait_until
from tests.integration.collector.installation import Installation, installation
from tests.prove.log_replica import LogReplica
from tests.prove.report import Report
from tests.prove.schema_storm import Storm
from tests.prove.storm_world import Outcome, StormWorld

CHANGES = 300
CHANGES_A_LIFE = 25
"""After so many the collector is killed, and started again."""
ROWS_BETWEEN = 5
"""Rows that applications write from one change to the next, at least."""
SERVERS = ("mariadb:storm", "mysql:storm")
SETTLED_S = 120.0


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
            _report(report, f"ddl storm on {server.flavor} {version}, in the log", outcome)
            (inner / "targets").mkdir()
            outcome = storm_at_targets(
                stack, server, inner / "targets", report.scaled(CHANGES), report.seed
            )
            _report(report, f"ddl storm on {server.flavor} {version}, at the targets", outcome)


def _report(report: Report, name: str, outcome: Outcome) -> None:
    report.line(
        name,
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
            replica = LogReplica()
            outcome = _settled(made, replica, rage)
            made.assert_lawful()
        finally:
            rage.close()
    published = f"published={replica.changes} collectors={lives}"
    outcome.note = f"changes={changes} {published} {_counted(rage)}"
    return outcome


def _settled(made: Installation, replica: LogReplica, rage: Storm) -> Outcome:
    """The comparison, once it shows no difference, or has had its time to."""
    outcome, taken, deadline = Outcome(), 0, time.monotonic() + SETTLED_S

    def is_last() -> bool:
        nonlocal outcome, taken
        messages = made.valid()
        replica.take(messages[taken:])
        taken = len(messages)
        outcome = _compare(replica, rage)
        return not outcome.differences or time.monotonic() > deadline

    wait_until(is_last, 2 * SETTLED_S, what="the last comparison", every_s=0.5)
    return outcome


def _rage(made: Installation, rage: Storm, changes: int) -> int:
    rage.make_tables()
    process, lives = made.start_and_wait(), 1
    with rage.applications():
        for number in range(1, changes + 1):
            rage.change()
            rage.until_written(ROWS_BETWEEN)
            if number % CHANGES_A_LIFE == 0:
                process.kill()
                # The next one is behind: what it meets has changed again since.
                rage.change()
                process, lives = made.start_and_wait(), lives + 1
    return lives


def storm_at_targets(
    stack: Stack, server: DatabaseServer, folder: Path, changes: int, seed: int
) -> Outcome:
    """Changes under load through the whole pipeline, then the comparison of the targets with the source."""
    with StormWorld(stack, server, folder, seed) as world:
        halted = ""
        try:
            with world.pipeline:
                _rage_through(world, changes)
                outcome = world.until_equal(SETTLED_S)
        except (PipelineEndedError, TimeoutError) as error:
            halted = str(error)[-3000:]
            outcome = Outcome()
        if halted or world.halts():
            outcome.differences.insert(0, halted or world.halts()[0])
        outcome.note = f"changes={changes} {_counted(world.storm)}"
        return outcome


def _rage_through(world: StormWorld, changes: int) -> None:
    world.storm.make_tables()
    world.until_begun()
    with world.storm.applications():
        for number in range(1, changes + 1):
            world.storm.change()
            world.storm.until_written(ROWS_BETWEEN)
            if number % CHANGES_A_LIFE == 0:
                world.kill_collector()


def _counted(rage: Storm) -> str:
    return " ".join(f"{name}={count}" for name, count in sorted(rage.counts.items()))


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
