"""200,000 damaged events: a named error or an equal value, no hang, no crash, bounded memory."""

from __future__ import annotations

from tests.prove.event_fuzz import fuzz
from tests.prove.report import Report

EVENTS = 200_000


def run(report: Report) -> None:
    tally = fuzz(report.scaled(EVENTS), report.seed)
    report.line(
        "damaged events",
        pairs=tally.events,
        differences=len(tally.wrong),
        examples=tally.wrong[:5],
        note=(
            f"named errors={tally.errors} read twice={tally.compared} cut={tally.cut} with checksums={tally.summed} "
            f"longest={tally.seconds_max * 1000:.0f} ms"
        ),
    )
