"""The simulation (tests/fault/simulation): crashes, freezes, rebalances; then each law broken on purpose."""

from __future__ import annotations

from tests.fault.simulation.__main__ import BREAKS
from tests.fault.simulation.__main__ import run as simulate
from tests.prove.report import Report

_JOBS = 2


def run(report: Report) -> None:
    """As many seeds as asked for; every broken law must be caught by one of them."""
    failed, _ = simulate(report.seed, report.seeds, None, _JOBS)
    report.tally(
        "resolving_simulation",
        wrong=[f"seed {seed}: {law}" for seed, law in failed],
        seeds=report.seeds,
    )
    missed = []
    for name, law in BREAKS.items():
        caught, _ = simulate(0, report.seeds, name, _JOBS)
        if not caught:
            missed.append(f"not caught: {name}: {law}")
    report.tally("resolving_simulation, laws broken on purpose", wrong=missed, broken=len(BREAKS))
