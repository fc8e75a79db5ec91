"""Markers of a real source that is idle, or whose tables are: how often, and what they prove."""

from __future__ import annotations

from gravity_devstack.database import DatabaseServer

from gravity.clock import now_us
from gravity.codec import decode_batch
from gravity.header import IngestHeader, IngestKind
from gravity.testing.waiting import wait_until
from tests.integration.collector.conftest import Install

NEVER = "snapshot: never"


def test_an_idle_source_has_a_marker_every_five_seconds(install: Install) -> None:
    made = install(source=NEVER)
    made.start_and_wait()

    def markers() -> list[int]:
        return [header.seq for header, _ in made.valid() if header.kind is IngestKind.MARKER]

    wait_until(markers, what="the first marker")
    count = len(markers())
    wait_until(lambda: len(markers()) > count, 7, what="the next marker")


def test_a_merged_source_says_until_when_it_is_quiet(
    install: Install, server: DatabaseServer
) -> None:
    made = install(server, source=NEVER, merge="{strategy: time-ordered}")
    made.sql("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
    made.start_and_wait()

    def quiet() -> int:
        return max((header.quiet for header, _ in made.valid()), default=0)

    began_us = now_us()
    # Idle, it proves the time since the start, and goes on to.
    for number in range(3):
        since_us = quiet()
        wait_until(lambda: quiet() > max(began_us, since_us), what="a marker that proves more")  # noqa: B023
        made.sql(f"INSERT INTO t VALUES ({number}, 'a')")
        made.wait_equal("t")
    proved, rows = 0, 0
    for header, value in made.valid():
        proved = max(proved, header.quiet)
        if header.kind is IngestKind.ROWS:
            batch = decode_batch(value)
            rows += len(batch)
            assert min(transaction.ets for transaction in batch.transactions) >= proved
    assert rows == 3


def test_a_source_whose_tables_are_idle_moves_on_with_the_others(install: Install) -> None:
    made = install(source=NEVER, exclude="other")
    made.sql("CREATE TABLE other (id INT PRIMARY KEY)")
    made.start_and_wait()

    def last_marker() -> IngestHeader | None:
        markers = [header for header, _ in made.valid() if header.kind is IngestKind.MARKER]
        return markers[-1] if markers else None

    first = wait_until(last_marker, what="the first marker")
    made.sql("INSERT INTO other VALUES (1)")

    def has_moved() -> bool:
        marker = last_marker()
        return marker is not None and marker.to > first.to and marker.gtids != first.gtids

    wait_until(has_moved, what="a marker behind what was written to the other table")
    assert not list(made.batches())
