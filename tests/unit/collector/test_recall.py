"""Sources that have ended (`snapshot: only`) and a newer plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from gravity_collector.recall import Recall

from gravity.errors import TransientError
from gravity.topic import checkpoint_key, owner_key, plan_key
from tests.unit.collector.test_crew import Work, crew_of, settle


class Control:
    """A control topic of which what was read last may be old."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.there: dict[str, Any] = {}
        self.is_away = False

    def refresh(self) -> Mapping[str, Any]:
        if self.is_away:
            raise TransientError("no broker")
        self.records = dict(self.there)
        return self.records

    def plan(self, number: int) -> None:
        self.there[plan_key(number)] = {}

    def copied(self, source: str, plan: int, owner: int = 1) -> None:
        self.there[owner_key(source, owner)] = {"offset": owner}
        self.there[checkpoint_key(source, owner)] = {"snapshot_done": True, "plan": plan}


class Parts:
    """A crew of `only`, which has ended under plan 1, and `on`, which goes on."""

    def __init__(self) -> None:
        self.work, self.control = Work(), Control()
        self.work.done.add("only")
        self.crew = crew_of(self.work)
        self.recall = Recall(self.control, self.crew)
        self.control.plan(1)
        self.control.copied("only", 1)
        self.control.refresh()
        self.crew.start(["only", "on"])
        self.settle()

    def settle(self) -> None:
        settle(self.crew, lambda: list(self.crew.done) == ["only"])

    @property
    def starts(self) -> int:
        return self.work.starts.count("only")


@pytest.fixture
def parts() -> Parts:
    return Parts()


def test_what_has_ended_is_begun_again_for_a_newer_plan_and_once(parts: Parts) -> None:
    parts.recall.look()
    assert parts.starts == 1
    parts.control.plan(2)
    parts.recall.look()
    assert parts.starts == 1, "nobody has read control since"
    parts.control.refresh()
    parts.recall.look()
    parts.settle()
    assert parts.starts == 2
    for _ in range(3):
        # It ended without taking the plan, as where its server can't be read from where it was.
        parts.control.refresh()
        parts.recall.look()
    assert parts.starts == 2
    parts.control.copied("only", 2, owner=2)
    parts.control.plan(3)
    parts.control.refresh()
    parts.recall.look()
    parts.settle()
    assert parts.starts == 3
    assert parts.work.starts.count("on") == 1


def test_a_source_is_not_begun_again_because_its_last_checkpoint_was_not_read_yet(
    parts: Parts,
) -> None:
    parts.control.plan(2)
    parts.control.refresh()
    parts.control.copied("only", 2, owner=2)
    parts.recall.look()
    assert parts.starts == 1


def test_a_collector_of_which_all_is_copied_ends_unless_there_is_a_newer_plan(parts: Parts) -> None:
    parts.crew.stop(["on"], within_s=5)
    assert not Recall(parts.control, parts.crew).are_all_done(["only", "elsewhere"])
    parts.control.plan(2)
    assert not parts.recall.are_all_done(["only"]), "control is asked, not what was read of it"
    parts.settle()
    assert parts.starts == 2
    parts.control.copied("only", 2, owner=2)
    assert parts.recall.are_all_done(["only"])
    assert parts.starts == 2


def test_a_collector_of_which_all_is_copied_ends_while_kafka_is_away(parts: Parts) -> None:
    parts.crew.stop(["on"], within_s=5)
    parts.control.is_away = True
    assert parts.recall.are_all_done(["only"])
