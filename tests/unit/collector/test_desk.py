"""Operators' requests between control and the log: taken once, told once, never by one that was overtaken."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from gravity_collector.desk import REQUESTS_MAX, Desk

from gravity.ingest_log import Checkpoint, Fences
from gravity.position import Position
from gravity.snapshot_request import SnapshotRequest
from gravity.topic import snapshot_request_key, snapshot_result_key
from tests.unit.collector.world import Control

FENCES = Fences([10, 50], [1, 2])


def _ask(control: Control, *numbers: int, source: str = "s") -> None:
    for number in numbers:
        record = {"id": number, "database": "d", "table": "t", "where": f"id = {number}"}
        control.records[snapshot_request_key(source, number)] = record


def _point(seq: int, offset: int = 100) -> Checkpoint:
    return Checkpoint(offset, seq, Position(1, 1, 4), "", 0, "")


def _ids(requests: list[SnapshotRequest]) -> list[int]:
    return [request.request_id for request in requests]


def test_a_request_arrives_once_and_in_order_however_often_control_is_read() -> None:
    control, desk = Control(), Desk("s", 2, FENCES)
    _ask(control, 7, 3)
    _ask(control, 5, source="other")
    desk.look(control.records)
    desk.look(control.records)
    assert _ids(desk.arrived()) == [3, 7]
    assert not desk.arrived()


def test_a_request_that_the_log_has_is_not_begun_again() -> None:
    control = Control()
    desk = Desk("s", 2, FENCES, [SnapshotRequest(3, "d", "t")])
    _ask(control, 3, 7)
    desk.look(control.records)
    assert _ids(desk.arrived()) == [7]


def test_a_result_is_told_once_the_broker_has_its_last_message_and_then_settled() -> None:
    control, desk = Control(), Desk("s", 2, FENCES)
    _ask(control, 3)
    desk.look(control.records)
    request = desk.arrived()[0]
    desk.end(request.failed("bad SQL"), rows=4, seq=9)
    desk.write(control, None)
    desk.write(control, _point(8))
    assert snapshot_result_key("s", 3) not in control.records
    desk.write(control, _point(9))
    told = control.records[snapshot_result_key("s", 3)]
    assert told == {"id": 3, "rows": 4, "error": "bad SQL", "owner": 2, "offset": 100}
    assert not desk.settled()
    desk.look(control.records)
    assert _ids(desk.settled()) == [3]
    desk.look(control.records)
    assert not desk.arrived() and not desk.settled()


def test_a_result_by_an_owner_that_had_been_overtaken_counts_for_nothing() -> None:
    control = Control()
    _ask(control, 3, 4)
    overtaken = Desk("s", 1, Fences([10], [1]), [SnapshotRequest(3), SnapshotRequest(4)])
    overtaken.end(SnapshotRequest(3), rows=1, seq=5)
    overtaken.write(control, _point(5, offset=40))
    overtaken.end(SnapshotRequest(4), rows=1, seq=6)
    del control.records[snapshot_result_key("s", 3)]
    overtaken.write(control, _point(6, offset=60))
    desk = Desk("s", 2, FENCES)
    desk.look(control.records)
    assert _ids(desk.arrived()) == [3, 4]


def test_only_so_many_are_worked_on_at_a_time() -> None:
    control, desk = Control(), Desk("s", 2, FENCES)
    _ask(control, *range(1, 20))
    desk.look(control.records)
    first = desk.arrived()
    assert len(first) == REQUESTS_MAX
    desk.end(first[0], rows=0, seq=1)
    desk.write(control, _point(1))
    desk.look(control.records)
    assert _ids(desk.arrived()) == [REQUESTS_MAX + 1]


@pytest.mark.parametrize("seed", range(30))
def test_each_request_ends_exactly_once_whoever_dies_in_between(seed: int) -> None:
    """Owners follow one another; each knows what the log has, and may die before it tells."""
    rng, control, log = random.Random(seed), Control(), dict[int, SnapshotRequest]()
    begun: list[int] = []
    ended: set[int] = set()
    _ask(control, *range(1, 6))
    for owner in range(1, 40):
        fences = Fences([1000 * n for n in range(owner)], list(range(1, owner + 1)))
        desk = Desk("s", owner, fences, log.values())
        for request in log.values():
            if request.request_id in ended:
                desk.end(request, rows=0, seq=1)
        for _ in range(rng.randint(0, 6)):
            desk.look(control.records)
            for request in desk.arrived():
                begun.append(request.request_id)
                log[request.request_id] = request
            for request in list(log.values()):
                if rng.random() < 0.3 and request.request_id not in ended:
                    ended.add(request.request_id)
                    desk.end(replace(request), rows=0, seq=1)
            if rng.random() < 0.5:
                desk.write(control, _point(1, offset=1000 * owner - 1))
            for request in desk.settled():
                log.pop(request.request_id, None)
    assert sorted(begun) == [1, 2, 3, 4, 5]
    assert all(snapshot_result_key("s", number) in control.records for number in range(1, 6))
