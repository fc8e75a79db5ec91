"""Which record of a key counts, whoever reads control when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gravity.kafka import control
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.topic import plan_key
from tests.unit.collector.world import plan

Message = tuple[str, Any]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """The topic's messages, (key, value) in order; a value of None removes."""
    messages: list[Message] = []

    class Reader:
        def __init__(self, *_: object) -> None: ...

        def bounds(self, *_: object) -> tuple[int, int]:
            return 0, len(messages)

        def read(self, _topic: str, _partition: int, start: int, end: int) -> Iterator[Any]:
            for key, value in messages[start:end]:
                raw = None if value is None else json.dumps(value).encode()
                yield SimpleNamespace(key=key.encode(), value=raw)

    monkeypatch.setattr(control, "LogReader", Reader)
    return messages


def _topic() -> ControlTopic:
    return ControlTopic(SimpleNamespace(), "gravity.control", "test")


def test_the_last_record_of_a_key_counts_and_a_removal_removes(written: list[Message]) -> None:
    topic = _topic()
    written += [("owner/s/1", {"offset": -1}), ("snapshot/s/1", {}), ("owner/s/1", {"offset": 7})]
    assert topic.refresh() == {"owner/s/1": {"offset": 7}, "snapshot/s/1": {}}
    written += [("snapshot/s/1", None), ("owner/s/1", {"offset": 8})]
    assert topic.refresh() == {"owner/s/1": {"offset": 8}} == _topic().refresh()


def test_of_a_plans_number_the_first_record_counts(written: list[Message]) -> None:
    """A loser that was killed left its record behind the winner's, and nobody has mended it yet."""
    winner, loser = plan(1).to_json(), plan(1, excluded=["a"]).to_json()
    written.append((plan_key(1), winner))
    early = _topic()
    seen = PlanStore(early).require_newest()
    written.append((plan_key(1), loser))
    late = PlanStore(_topic()).require_newest()
    assert late.to_json() == seen.to_json() == winner
    assert PlanStore(early).require_newest().same_content(late), "who read before reads on"
    written.append((plan_key(1), winner))
    assert PlanStore(_topic()).require_newest().same_content(late)
