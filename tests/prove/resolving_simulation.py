"""The simulation (tests/fault/simulation): crashes, freezes, rebalances; then each law broken on purpose."""

from __future__ import annotations

from tests.fault.simulation.__main__ import run as simulate
from tests.fault.simulation.breaks import BREAKS
from tests.fault.simulation.interleavings import INTERLEAVINGS
from tests.prove.report import JOBS, Report


def run(report: Report) -> None:
    """As many seeds as asked for; every broken law must be caught by one of them."""
    failed, _ = simulate(report.seed, report.seeds, None, JOBS)
    report.tally(
        "resolving_simulation",
        wrong=[f"seed {seed}: {law}" for seed, law in failed],
        seeds=report.seeds,
    )
    missed = []
    for name, broken in BREAKS.items():
        if name in INTERLEAVINGS:
            caught = INTERLEAVINGS[name](name) is not None
        else:
            caught = bool(simulate(0, report.seeds, name, JOBS)[0])
        if not caught:
            missed.append(f"not caught: {name}: {broken.law}")
    report.tally("resolving_simulation, laws broken on purpose", wrong=missed, broken=len(BREAKS))
