"""Fifty sources on three collectors, one killed, one frozen past takeover: they move, and every log is equal."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gravity_devstack import Stack

from tests.integration.collector.fleet import Fleet, written
from tests.prove.report import Report

SOURCES, COLLECTORS = 50, 3
_PATIENCE_S = 300.0
_IDLE_S = 15.0
_TICK_HZ = os.sysconf("SC_CLK_TCK")


def run(report: Report) -> None:
    """The law, and what a source costs idle and busy."""
    sources = report.scaled(SOURCES)
    wrong: list[str] = []
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        servers = [stack.mariadb("one"), stack.mysql("two")]
        fleet = Fleet(stack.kafka(), servers, Path(folder), count=sources, session_s=5)
        takeovers = 0
        try:
            takeovers = _prove(fleet)
        except (AssertionError, TimeoutError) as error:
            wrong.append(str(error))
        finally:
            fleet.close()
    report.tally("many sources", wrong=wrong, sources=sources, takeovers=takeovers)


def _prove(fleet: Fleet) -> int:
    """How often a source got an owner."""
    doomed, frozen, third = (fleet.start() for _ in range(COLLECTORS))
    everyone = [doomed.pid, frozen.pid, third.pid]
    fleet.wait_shared(COLLECTORS, _PATIENCE_S)
    fleet.wait_begun(_PATIENCE_S)
    sys.stdout.write(f"  idle: {cost(everyone, len(fleet.names))}\n")
    with written(lambda number: fleet.write(number % len(fleet.names)), 0.005):
        fleet.wait_flowing(timeout_s=_PATIENCE_S)
        sys.stdout.write(f"  busy: {cost(everyone, len(fleet.names))}\n")
        doomed.kill()
        fleet.wait_flowing(timeout_s=_PATIENCE_S)
        frozen.send(signal.SIGSTOP)
        fleet.wait_flowing(timeout_s=_PATIENCE_S)
        frozen.send(signal.SIGCONT)
        fleet.wait_shared(COLLECTORS - 1, _PATIENCE_S)
        fleet.wait_flowing(timeout_s=_PATIENCE_S)
    fleet.wait_equal(_PATIENCE_S)
    for log in fleet.logs:
        log.assert_lawful()
    takeovers = fleet.takeovers()
    assert frozen.exit_code is None, "the collector that was frozen ended"
    assert takeovers > len(fleet.names), "no source moved: this proves nothing"
    return takeovers


def cost(pids: Sequence[int], sources: int) -> str:
    """Memory, and CPU over some seconds, of all these processes for each source."""
    before, began = sum(map(cpu_s, pids)), time.monotonic()
    time.sleep(_IDLE_S)  # The span that is measured.
    cpu = (sum(map(cpu_s, pids)) - before) / (time.monotonic() - began)
    memory = sum(map(resident_mb, pids))
    return (
        f"{len(pids)} processes, {memory:.0f} MB, {memory / sources:.1f} MB a source; "
        f"{cpu * 100:.1f} % of a processor, {cpu * 100 / sources:.2f} % a source"
    )


def cpu_s(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK_HZ


def resident_mb(pid: int) -> float:
    """Memory that a process holds now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
