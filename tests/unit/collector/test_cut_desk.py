"""Requests for cuts between control and the log: taken once by an owner, answered until control knows it."""

from __future__ import annotations

from gravity_collector.cut_desk import CUTS_MAX, CutDesk

from gravity.cut import CutMark
from gravity.ingest_log import Checkpoint, Fences
from gravity.position import Position
from gravity.topic import cut_request_key, cut_result_key
from tests.unit.collector.world import Control

FENCES = Fences([10, 50], [1, 2])


def _ask(control: Control, *numbers: int, source: str = "s") -> None:
    for number in numbers:
        control.records[cut_request_key(source, number)] = CutMark(number, 1000, "t").record


def _point(seq: int, offset: int = 100) -> Checkpoint:
    return Checkpoint(offset, seq, Position(1, 1, 4), "", 0, "")


def _ids(marks: list[CutMark]) -> list[int]:
    return [mark.cut_id for mark in marks]


def test_a_request_arrives_once_however_often_control_is_read() -> None:
    control, desk = Control(), CutDesk("s", 2, FENCES)
    _ask(control, 7, 3)
    _ask(control, 5, source="other")
    desk.look(control.records)
    desk.look(control.records)
    assert _ids(desk.arrived()) == [3, 7]
    assert not desk.arrived()


def test_an_answer_is_told_once_the_broker_has_the_marker() -> None:
    control, desk = Control(), CutDesk("s", 2, FENCES)
    _ask(control, 3)
    desk.look(control.records)
    (request,) = desk.arrived()
    desk.answer(request, seq=9)
    desk.write(control, None)
    desk.write(control, _point(8))
    assert cut_result_key("s", 3) not in control.records
    desk.write(control, _point(9))
    assert control.records[cut_result_key("s", 3)] == {
        "id": 3,
        "error": "",
        "owner": 2,
        "offset": 100,
    }


def test_what_is_answered_is_not_asked_again_unless_by_one_who_had_been_overtaken() -> None:
    for offset, again in ((40, []), (60, [3])):
        control = Control()
        _ask(control, 3)
        first = CutDesk("s", 1, Fences([10], [1]))
        first.look(control.records)
        first.answer(first.arrived()[0], seq=5)
        first.write(control, _point(5, offset=offset))
        desk = CutDesk("s", 2, FENCES)
        desk.look(control.records)
        assert _ids(desk.arrived()) == again


def test_a_request_that_was_taken_back_is_forgotten_with_its_answer() -> None:
    control, desk = Control(), CutDesk("s", 2, FENCES)
    _ask(control, 3)
    desk.look(control.records)
    desk.answer(desk.arrived()[0], seq=9)
    control.records.clear()
    desk.look(control.records)
    desk.write(control, _point(9))
    assert not control.records
    assert not desk._taken


def test_only_so_many_are_taken_at_a_time() -> None:
    control, desk = Control(), CutDesk("s", 2, FENCES)
    _ask(control, *range(1, 40))
    desk.look(control.records)
    assert _ids(desk.arrived()) == list(range(1, CUTS_MAX + 1))
    desk.look(control.records)
    assert _ids(desk.arrived()) == list(range(CUTS_MAX + 1, 2 * CUTS_MAX + 1))
