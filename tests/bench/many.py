"""What many sources in one process cost: processor seconds a row with fifty, beside those with one."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from gravity_devstack import Stack

from tests.integration.collector.fleet import Fleet
from tests.integration.collector.installation import Process
from tests.prove.source_many import cpu_s, resident_mb

SOURCES, ROUNDS, ROWS, TRANSACTION_ROWS = 50, 5, 50_000, 100
_PATIENCE_S = 300.0


def run() -> dict[str, Any]:
    """Rounds of the same rows, alternated: all in one source's log, then spread over fifty."""
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        # Servers of their own: a replica id is made from a source's name, and both have a source s0.
        one, many = (
            Fleet(stack.kafka(), [stack.mariadb(f"bench-{n}")], Path(folder), count=n, session_s=10)
            for n in (1, SOURCES)
        )
        try:
            processes = [(fleet, fleet.start()) for fleet in (one, many)]
            for fleet in (one, many):
                fleet.wait_begun(_PATIENCE_S)
            costs: dict[int, list[float]] = {1: [], SOURCES: []}
            for _ in range(ROUNDS):
                for fleet, process in processes:
                    costs[len(fleet.names)].append(_round(fleet, process))
            medians = {sources: statistics.median(found) for sources, found in costs.items()}
            return {
                "bench": "many",
                "case": f"{SOURCES} sources beside 1",
                "rows": ROWS,
                "rounds": ROUNDS,
                "cpu_us_a_row": {str(n): round(s * 1e6, 2) for n, s in medians.items()},
                "cpu_s_per_100k": round(medians[SOURCES] * 1e5, 3),
                "ratio_to": "one source",
                "ratio": round(medians[SOURCES] / medians[1], 3),
                "memory_mb": {
                    str(len(fleet.names)): round(resident_mb(process.pid), 1)
                    for fleet, process in processes
                },
            }
        finally:
            one.close()
            many.close()


def _round(fleet: Fleet, process: Process) -> float:
    """Processor seconds a row, from the first row written to the last one in the log."""
    before, share = cpu_s(process.pid), ROWS // len(fleet.names)
    for number in range(len(fleet.names)):
        fleet.flood(number, rows=share, step=TRANSACTION_ROWS)
    fleet.wait_has(range(len(fleet.names)), _PATIENCE_S)
    return (cpu_s(process.pid) - before) / ROWS


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run()) + "\n")
