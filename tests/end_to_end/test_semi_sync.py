"""A COMMIT at the source returns after the target has the row, whoever dies meanwhile; or after the timeout, aloud."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import pytest
from gravity_devstack import Stack

from deploy.demo.pipeline import wait_for
from tests.prove.consistency_semi_sync import (
    SOURCES,
    TIMEOUT_MS,
    World,
    Writer,
    commits,
    fallen_back,
    make_world,
    running,
)
from tests.prove.report import Report
from tests.source_server import skipped_without

COMMITS = 60


def kept(writers: list[Writer], count: int) -> None:
    """Each of so many rows was at the target when its COMMIT returned."""
    assert not [text for writer in writers for text in writer.missing]
    assert sum(len(writer.took_s) for writer in writers) == count


@pytest.mark.timeout(460)
@pytest.mark.parametrize("kind", SOURCES)
def test_who_commits_finds_the_row_at_the_target(stack: Stack, tmp_path: Path, kind: str) -> None:
    with skipped_without(kind):
        world = make_world(stack, tmp_path, f"semi{os.getpid()}{kind}", kind)
    with running(world):
        kept(commits(world, COMMITS), COMMITS)
        kept(commits(world, COMMITS, 6), COMMITS)
        _other_statements_wait_too(world)
        _a_killed_collector_is_followed_by_one_that_answers(world)
        _a_frozen_sink_is_waited_for(world)
        report = Report("consistency")
        fallen_back(world, report)
        assert not report.differences
        told = world.status()["sources"][0]["semi_sync"]
        assert told["fallbacks"] > 0
        assert told["targets"] == [world.target_name]
    _checked(world)


def _other_statements_wait_too(world: World) -> None:
    """What touches no row of the target, a schema change, and a transaction of many rows."""
    with world.source.connect() as source, world.target.connect() as target:
        write, read = source.cursor(), target.cursor()
        in_vain = world.told("no_tx")
        write.execute(f"CREATE TABLE {world.table[:-1]}2` (id INT PRIMARY KEY)")
        write.execute(f"INSERT INTO {world.table[:-1]}2` VALUES (1)")
        read.execute(f"SELECT COUNT(*) FROM {world.table[:-1]}2`")
        assert int(read.fetchone()[0]) == 1
        write.execute(f"UPDATE {world.table} SET text = 'all'")
        read.execute(f"SELECT COUNT(*), SUM(text = 'all') FROM {world.table}")
        count, changed = map(int, read.fetchone())
        assert count == changed > COMMITS
        write.execute("CREATE DATABASE IF NOT EXISTS elsewhere")
        write.execute("DROP DATABASE elsewhere")
        # XA PREPARE waits as well, although its rows wait for XA COMMIT.
        write.execute("XA START 'x'")
        write.execute(f"INSERT INTO {world.table} VALUES (-5, 'xa')")
        write.execute("XA END 'x'")
        write.execute("XA PREPARE 'x'")
        write.execute("XA COMMIT 'x'")
        read.execute(f"SELECT COUNT(*) FROM {world.table} WHERE id = -5")
        assert int(read.fetchone()[0]) == 1
        assert world.told("no_tx") == in_vain, "nothing was waited for in vain"


class _Waiting:
    """A row that is being committed, while something is done to the pipeline."""

    def __init__(self, world: World) -> None:
        self.writers: list[Writer] = []
        self._thread = threading.Thread(target=self._commit, args=(world,), daemon=True)

    def _commit(self, world: World) -> None:
        self.writers = commits(world, 1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def _a_killed_collector_is_followed_by_one_that_answers(world: World) -> None:
    world.set("timeout", 60_000)
    pid = world.pipeline.pid("gravity_collector")
    assert pid is not None
    before = int(world.told("no_times"))
    os.kill(pid, signal.SIGSTOP)
    with _Waiting(world) as waiting:
        # Dead before it has seen the row: who comes next finds it, and answers.
        wait_for(
            lambda: int(world.told("wait_sessions")) == 1,
            world.pipeline,
            timeout_s=30,
            what="it waits",
        )
        os.kill(pid, signal.SIGKILL)
    kept(waiting.writers, 1)
    assert int(world.told("no_times")) == before
    world.until_on()
    kept(commits(world, 10), 10)
    world.set("timeout", TIMEOUT_MS)


def _a_frozen_sink_is_waited_for(world: World) -> None:
    """A collector that begins anew while a COMMIT waits for a frozen sink must not end that wait."""
    world.set("timeout", 120_000)
    sink, collector = (
        world.pipeline.pid(f"gravity_{name}") for name in ("sink_mysql", "collector")
    )
    assert sink is not None
    assert collector is not None
    joined = len(world.said("semi_sync_joined"))
    taken = len(world.said("source_taken_over"))
    os.kill(sink, signal.SIGSTOP)
    try:
        with _Waiting(world) as waiting:
            wait_for(
                lambda: int(world.told("wait_sessions")) == 1,
                world.pipeline,
                timeout_s=30,
                what="it waits",
            )
            os.kill(collector, signal.SIGKILL)
            wait_for(
                lambda: len(world.said("source_taken_over")) > taken, world.pipeline, timeout_s=60,
                what="another collector",
            )  # fmt: skip
            # It reads on, behind the row, and may not say so to the server.
            wait_for(
                world.read_to_the_end,
                world.pipeline,
                timeout_s=30,
                what="the row is read",
            )
            assert int(world.told("wait_sessions")) == 1
            assert len(world.said("semi_sync_joined")) == joined
            os.kill(sink, signal.SIGCONT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(sink, signal.SIGCONT)
    kept(waiting.writers, 1)
    world.until_on()
    world.set("timeout", TIMEOUT_MS)


def _checked(world: World) -> None:
    command = [Path(sys.executable).with_name("gravity"), "check", "--json", world.path]
    world.set("enabled", "OFF")
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode != 0
    assert "no COMMIT waits" in done.stdout
