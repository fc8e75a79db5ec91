"""What an ownership refuses before it reads on."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from gravity_collector.flow import Flows
from gravity_collector.server import identity
from gravity_collector.session import Session
from gravity_collector.span import Limits

from gravity.errors import TransientError
from gravity.plan import RoutingPlan
from gravity.topic import plan_key
from tests.unit.collector.server_facts import facts
from tests.unit.collector.world import Binlog, Collector, Control, Log, Table, plan

PLANS = {1: plan(1), 2: plan(2)}


class _WentOn(Exception):  # noqa: N818 - not an error: the sign that the source would have been read
    """The ownership came to the point where it reads on."""


class _Session(Session):
    """A session between a log and a control topic in memory, with a plan in hand."""

    def __init__(self, log: Log, control: Control, in_hand: RoutingPlan) -> None:
        config = SimpleNamespace(
            batch=SimpleNamespace(rows_max=10, bytes_max=1000),
            kafka=SimpleNamespace(topic_prefix=""),
        )
        plans = SimpleNamespace(get=PLANS.__getitem__)
        shared: Any = SimpleNamespace(config=config, control=control, plans=plans, keeper=None)
        source: Any = SimpleNamespace(name="s")
        super().__init__(shared, source, SimpleNamespace())  # type: ignore[arg-type]
        self._sides: Any = SimpleNamespace(
            facts=facts(1), flows=Flows(in_hand, "s", lambda *_: ()), ingest=log
        )

    def _connect(self) -> Any:
        return self._sides

    def _looked_at_again(self, sides: Any) -> Any:
        return sides

    def _assemble(self, *_: object) -> Any:
        raise _WentOn


def _read_under(version: int) -> tuple[Log, Control]:
    """A source that a collector has read, the last of it under this plan."""
    rng = random.Random(3)
    binlog = Binlog.random(rng, [Table("a")], 3, 3)
    binlog.server = identity(facts(1))
    log, control = Log(), Control()
    known = {number: made for number, made in PLANS.items() if number <= version}
    Collector(log, control, binlog, known, Limits(9, 900), rng, "before").run()
    return log, control


def test_a_source_is_not_gone_on_with_under_an_older_plan_than_its_log_is_at() -> None:
    """Another collector took plan 2 while this process, with plan 1 in hand, had not fenced yet."""
    log, control = _read_under(2)
    for number in PLANS:
        control.write(plan_key(number), {})
    before = len(log.messages)
    with pytest.raises(TransientError, match="plan 2 is in force by now"):
        _Session(log, control, PLANS[1]).run(threading.Event())
    assert len(log.messages) == before + 1, "nothing but the fence"
    with pytest.raises(_WentOn):
        _Session(log, control, PLANS[2]).run(threading.Event())


def test_a_source_that_was_never_read_is_begun_under_the_newest_plan() -> None:
    """Activations don't wait for it: what is older may be forgotten by the time it is read."""
    log, control = Log(), Control()
    control.write(plan_key(1), {})
    control.write(plan_key(2), {})
    with pytest.raises(TransientError, match="plan 2 is in force by now"):
        _Session(log, control, PLANS[1]).run(threading.Event())
    with pytest.raises(_WentOn):
        _Session(log, control, PLANS[2]).run(threading.Event())


def test_a_plan_that_control_has_lost_is_not_waited_for() -> None:
    """Whoever needs it halts by its number; nothing else would ever be said."""
    log, control = _read_under(2)
    control.write(plan_key(1), {})
    with pytest.raises(_WentOn):
        _Session(log, control, PLANS[1]).run(threading.Event())


@pytest.mark.parametrize("version", [1, 2])
def test_a_source_is_gone_on_with_under_the_same_plan_or_a_newer_one(version: int) -> None:
    log, control = _read_under(1)
    with pytest.raises(_WentOn):
        _Session(log, control, PLANS[version]).run(threading.Event())
