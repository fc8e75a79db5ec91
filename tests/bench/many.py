"""What many sources in one process cost: processor seconds a row with fifty, beside those with one.

Sources that are databases of one server each read that server's whole binlog, whoever collects them.
So the one source stands on a server that is written to just as much: the fifty differ from it in
nothing but being fifty.
"""

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
    """Rounds of the same writes to two servers, alternated: one source is collected, or all fifty."""
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        fleets = {
            count: Fleet(
                stack.kafka(),
                [stack.mariadb(f"bench-{count}")],
                Path(folder),
                count=SOURCES,
                session_s=10,
            )
            for count in (1, SOURCES)
        }
        try:
            collected = {count: range(count) for count in fleets}
            processes = {1: fleets[1].start("--source", "s0"), SOURCES: fleets[SOURCES].start()}
            for count, fleet in fleets.items():
                fleet.wait_begun(_PATIENCE_S, numbers=collected[count])
            costs: dict[int, list[float]] = {count: [] for count in fleets}
            for _ in range(ROUNDS):
                for count, fleet in fleets.items():
                    costs[count].append(_round(fleet, processes[count], collected[count]))
            medians = {count: statistics.median(found) for count, found in costs.items()}
            return {
                "bench": "many",
                "case": f"{SOURCES} sources beside 1, of one server each",
                "rows": ROWS,
                "rounds": ROUNDS,
                "cpu_us_a_row": {str(n): round(s * 1e6, 2) for n, s in medians.items()},
                "cpu_s_per_100k": round(medians[SOURCES] * 1e5, 3),
                "ratio_to": "one source of a server with the same traffic",
                "ratio": round(medians[SOURCES] / medians[1], 3),
                "memory_mb": {
                    str(count): round(resident_mb(process.pid), 1)
                    for count, process in processes.items()
                },
            }
        finally:
            for fleet in fleets.values():
                fleet.close()


def _round(fleet: Fleet, process: Process, collected: range) -> float:
    """Processor seconds a collected row, from the first row written to the last one in the log."""
    before, share = cpu_s(process.pid), ROWS // SOURCES
    # The collected ones last, so that all the other traffic has passed when their rows are there.
    for number in reversed(range(SOURCES)):
        fleet.flood(number, rows=share, step=TRANSACTION_ROWS)
    fleet.wait_has(collected, _PATIENCE_S)
    return (cpu_s(process.pid) - before) / (share * len(collected))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run()) + "\n")
