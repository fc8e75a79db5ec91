"""A fault point stops a process exactly there: what stands behind it has not begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gravity.fault import FaultPoint
from gravity.testing.sink_process import SinkProcess
from gravity.testing.waiting import wait_until

POINT = FaultPoint.RESOLVER_WRITTEN_NOT_COMMITTED

IN_A_THREAD = f"""
import os, threading
from gravity.fault import FaultPoint, reach

def save():
    reach(FaultPoint.{POINT.name})
    os.write(1, b"went on")

thread = threading.Thread(target=save)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("number", range(12))
def test_a_thread_that_is_frozen_does_not_go_on(number: int, tmp_path: Path) -> None:
    # A stop that is sent to the process lets the thread go on in many a run.
    process = SinkProcess(
        [sys.executable, "-c", IN_A_THREAD],
        tmp_path / "log",
        {"GRAVITY_FAULT": f"{POINT}:1:freeze"},
    )
    wait_until(lambda: process.frozen, what="the frozen process")
    assert process.output() == ""
    process.thaw()
    assert process.wait() == 0
    assert process.output() == "went on"


def test_a_thread_that_is_killed_does_not_go_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_THREAD],
        capture_output=True,
        check=False,
        env={**os.environ, "GRAVITY_FAULT": f"{POINT}:1:kill"},
    )
    assert (done.returncode, done.stdout) == (-9, b"")
