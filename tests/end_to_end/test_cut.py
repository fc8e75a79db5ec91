"""A point is one although sinks die while partitions stand; without a point the exit says so and all go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gravity_devstack import Stack

from deploy.demo.pipeline import wait_for
from tests.prove.consistency_cuts import (
    Made,
    World,
    cut_and_read,
    cuts_under_load,
    figures,
    load,
    make_world,
    nothing_is_lost,
    replayed,
    replica_of,
    running,
)
from tests.source_server import skipped_without

CUTS = 5


@pytest.mark.timeout(460)
def test_what_is_read_while_all_stand_is_of_one_place_of_the_source(
    stack: Stack, tmp_path: Path
) -> None:
    """MariaDB into MySQL; the other way takes as long, and is in `make prove WHAT=consistency ONLY=cuts`."""
    kind = "mariadb"
    with skipped_without(kind):
        world = make_world(stack, tmp_path, f"cut{os.getpid()}{kind}", kind)
    before = world.gravity(*world.cut_words("--timeout", "2s"))
    assert before.returncode == 78
    assert "never ran" in before.stderr
    with running(world) as second:
        made = cuts_under_load(world, CUTS)
        sys.stdout.write(f"{figures(made)}\n")
        assert not made.wrong
        assert (len(made.points), made.kills) == (CUTS, 1)
        assert not replayed(world, replica_of(stack, kind), made.points)
        with load(world) as clerks:
            # In which a cut surely comes to its point here; a command that is still at work then is late.
            ample = f"{max(12, round(2 * max(made.took_s)))}s"
            _stages_may_die(world)
            _without_a_point_the_exit_says_so(world, ample)
            _whoever_asked_may_die(world, ample)
            _frozen_sinks_are_not_waited_for(world, second.pid)
        assert not nothing_is_lost(world, clerks)


def _running(world: World) -> list[str]:
    """State of the cut that is running, if one is."""
    sql = f"SELECT state FROM `_gravity`.`_gravity_points` WHERE target = '{world.target_name}' AND running = 1"
    return [row[0] for row in world.query(world.target, sql)]


def _last(world: World) -> tuple[str, str]:
    """(state, reason) of the newest cut."""
    sql = f"SELECT state, reason FROM `_gravity`.`_gravity_points` WHERE target = '{world.target_name}'"
    (found,) = world.query(world.target, f"{sql} ORDER BY cut_id DESC LIMIT 1")
    return found[0], found[1]


def _applied(world: World) -> int:
    return int(
        world.query(world.target, f"SELECT COUNT(*) FROM `{world.database}`.transfers")[0][0]
    )


def _goes_on(world: World) -> None:
    before = _applied(world)
    wait_for(lambda: _applied(world) > before, world.pipeline, timeout_s=120, what="rows flow on")


def _stages_may_die(world: World) -> None:
    """A collector and a resolver that die under a cut: it makes a right point, or none."""
    for module in ("gravity_collector", "gravity_resolver"):
        made = Made()
        pid = world.pipeline.pid(module)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        cut_and_read(world, made, kills=False)
        assert all("no point" in text for text in made.wrong), made.wrong
        _goes_on(world)


def _without_a_point_the_exit_says_so(world: World, ample: str) -> None:
    """A command that fails, and one that takes too long."""
    failing = world.gravity(*world.cut_words("--", "false"))
    assert failing.returncode == 1
    assert "the point is one, but false ended with 1" in failing.stderr
    assert _last(world)[0] == "done"
    slow = world.gravity(*world.cut_words("--timeout", ample, "--", "sleep", "600"))
    assert (slow.returncode, slow.stdout) == (1, "")
    assert "the command had not ended" in slow.stderr
    assert _last(world)[0] == "given up"
    _goes_on(world)


def _whoever_asked_may_die(world: World, ample: str) -> None:
    """Told to end, it lets the partitions go; killed, they go by themselves. Meanwhile nobody else cuts."""
    for number, timeout in ((signal.SIGTERM, "180s"), (signal.SIGKILL, ample)):
        words = world.cut_words("--timeout", timeout, "--", "sleep", "40")
        asker = subprocess.Popen(world.command(*words))
        wait_for(
            lambda: _running(world) == ["reached"], world.pipeline, timeout_s=120, what="all stand"
        )
        if number == signal.SIGTERM:
            second = world.gravity(*world.cut_words("--timeout", "5s"))
            assert second.returncode == 1
            assert "a target has one cut at a time" in second.stderr
            assert _running(world) == ["reached"]
        asker.send_signal(number)
        asker.wait(30)
        wait_for(lambda: not _running(world), world.pipeline, timeout_s=120, what="they go")
        state, reason = _last(world)
        assert state == "given up"
        assert ("interrupted" in reason) == (number == signal.SIGTERM)
        _goes_on(world)


def _frozen_sinks_are_not_waited_for(world: World, second: int) -> None:
    """Both, so that the one does not take over from the other."""
    first = world.pipeline.pid("gravity_sink_mysql")
    assert first is not None
    for sink in (first, second):
        os.kill(sink, signal.SIGSTOP)
    try:
        began_s = time.monotonic()
        frozen = world.gravity(*world.cut_words("--timeout", "7s"))
        sys.stdout.write(f"given up after {time.monotonic() - began_s:.1f} s\n")
        assert frozen.returncode == 1
        assert "no point" in frozen.stderr
    finally:
        for sink in (first, second):
            os.kill(sink, signal.SIGCONT)
    assert not _running(world)
    _goes_on(world)
