"""Schema changes at real targets: two partitions in random order, killed in the middle, end as the sources are.

One source whose table changes all the time, and three that change one table each as it likes.
"""

from __future__ import annotations

from contextlib import suppress

from gravity_devstack import Stack
from gravity_devstack.errors import Unavailable

from tests.lane_walk import one_source, three_sources
from tests.prove.report import Report
from tests.target_server import TargetServer, target_server

HISTORIES = 40
STEPS = 30


def run(report: Report) -> None:
    """The long form of tests/contract/sinks/test_schema_changes.py and test_joined_changes.py."""
    with Stack() as stack:
        for kind in ("mariadb", "mysql", "clickhouse"):
            with suppress(Unavailable):
                server = target_server(kind, stack)
                _lines(report, kind, server)
                server.close()


def _lines(report: Report, kind: str, server: TargetServer) -> None:
    seeds = range(report.seed, report.seed + report.scaled(HISTORIES))
    found = [text for seed in seeds for text in one_source(server, seed, STEPS)]
    _line(report, f"lanes of one source at {kind}", found, len(seeds))
    found = [text for seed in seeds for text in three_sources(server, seed)]
    _line(report, f"lanes of three sources at {kind}", found, len(seeds))


def _line(report: Report, name: str, found: list[str], histories: int) -> None:
    report.line(name, pairs=histories, differences=len(found), examples=found[:3])
