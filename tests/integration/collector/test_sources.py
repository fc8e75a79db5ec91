"""Many sources, several collectors: shared out, moved when a collector dies or freezes, apart from one another."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from gravity_devstack.stack import Stack

from tests.integration.collector.fleet import Fleet, written

SOURCES = 6


@pytest.fixture
def fleet(stack: Stack, tmp_path: Path) -> Iterator[Fleet]:
    servers = [stack.mariadb("collected"), stack.mysql("collected")]
    made = Fleet(stack.kafka(), servers, tmp_path, count=SOURCES)
    yield made
    made.close()


def test_sources_move_from_a_dead_and_from_a_frozen_collector_and_no_change_counts_twice(
    fleet: Fleet,
) -> None:
    doomed, frozen = fleet.start(), fleet.start()
    fleet.wait_shared(2)
    fleet.wait_begun()
    with written(lambda number: fleet.write(number % SOURCES), 0.01):
        fleet.wait_flowing()
        doomed.kill()
        fleet.wait_flowing()
        heir = fleet.start()
        fleet.wait_shared(2)
        fleet.wait_flowing()
        frozen.send(signal.SIGSTOP)
        fleet.wait_flowing()
        frozen.send(signal.SIGCONT)
        fleet.wait_shared(2)
        fleet.wait_flowing()
    fleet.wait_equal()
    for log in fleet.logs:
        log.assert_lawful()
    assert heir.exit_code is None
    assert frozen.exit_code is None, "overtaken, it goes on with what it is given now"
    assert fleet.takeovers() >= SOURCES * 2, "hardly any source moved: the test proves nothing"


def test_a_source_that_hangs_and_one_that_floods_hold_up_no_other(
    stack: Stack, tmp_path: Path
) -> None:
    hanging = stack.mariadb("restarted")
    servers = [stack.mariadb("collected"), stack.mysql("collected"), hanging]
    fleet = Fleet(stack.kafka(), servers, tmp_path, count=3)
    flooded, trickling = 0, 1
    try:
        collector = fleet.start()
        fleet.wait_shared(1)
        fleet.wait_begun()
        hanging.freeze()
        try:
            with written(lambda _: fleet.flood(flooded, rows=5000), 0.0):
                waiting: list[int] = []
                # Now and then the flood is read as soon as it has come.
                while len(waiting) < 5 or (max(waiting) == 0 and len(waiting) < 100):
                    fleet.write(trickling)
                    fleet.wait_has([trickling])
                    waiting.append(fleet.backlog(flooded))
            assert max(waiting) > 0, "the flood was no flood: the test proves nothing"
            fleet.wait_has([flooded])
        finally:
            hanging.thaw()
        fleet.wait_equal()
        assert collector.stop() == 0
    finally:
        fleet.close()
