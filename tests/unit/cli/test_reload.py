"""`gravity reload` and what it shows before: against a broker in memory."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gravity import status_reader
from gravity.activation import activate
from gravity.batch import Column, TableSchema
from gravity.cli.plan import difference
from gravity.cli.reload import reload
from gravity.config import Config, parse_config
from gravity.errors import FatalError, TransientError
from gravity.placed_anew import FORMER_MAX
from gravity.plan_compiler import SourceTable
from gravity.topic import plan_key
from tests.unit.activation_broker import Broker, Killed

COLUMNS = (Column("id", "int", nullable=False), Column("v", "int"))
TABLES = [SourceTable("s", TableSchema("app", "orders", COLUMNS, (0,)))]


def config(bound: int, **parts: str) -> Config:
    """As `text` says."""
    return parse_config(text(bound, **parts), env={}).config


def text(bound: int, *, sources: str = "s", targets: str = "a") -> str:
    """A configuration by which rows of `orders` go to `a` if their value is above the bound."""
    account = "type: mysql, host: db, username: gravity, password: p"
    lines = [
        *("sources:", *(f"  - {{name: {name}, {account}}}" for name in sources.split())),
        *("targets:", *(f"  - {{name: {name}, {account}, database: d}}" for name in targets.split())),
        "routing:",
        "  - source-tables: [orders]",
        "    strategy: conditional",
        f"    conditions: [{{if: 'v > {bound}', targets: [a]}}]",
    ]  # fmt: skip
    return "\n".join(lines)


class Sources:
    """The plans that sources are read by, in place of the status; `told`: what was on the screen meanwhile."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.plans: dict[str, int | None] = {}
        """None: no collector ever spoke of it."""
        self.told: list[str] = []
        self._capsys = capsys

    def __call__(self, _: Config) -> Sources:
        return self

    def read(self) -> Any:
        self.told.append(self._capsys.readouterr().err)
        return SimpleNamespace(
            sources=[
                SimpleNamespace(name=name, plan=plan, silent_s=None if plan is None else 1.0)
                for name, plan in self.plans.items()
            ]
        )

    def close(self) -> None: ...


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sources:
    read = Sources(capsys)
    monkeypatch.setattr(status_reader, "StatusReader", read)
    return read


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    return Broker().install(monkeypatch, TABLES)


def test_what_the_sources_have_settled_is_forgotten_in_a_difference_as_in_an_activation(
    broker: Broker,
) -> None:
    for bound in range(FORMER_MAX + 1):
        activate(config(bound))
    assert len(broker.plans()[FORMER_MAX + 1].former) == FORMER_MAX
    with pytest.raises(FatalError, match="earlier routings are still being moved"):
        difference(config(99), 1.0)
    broker.settle("s", FORMER_MAX + 1)
    shown = difference(config(99), 1.0).new
    plan = activate(config(99))
    assert shown.same_content(plan)
    assert [former.until for former in shown.former] == [FORMER_MAX + 2]
    assert shown.former == plan.former


def test_a_source_that_was_never_read_holds_no_earlier_routing(broker: Broker) -> None:
    """Else no plan could follow that adds it: it can't be read before it is part of one."""
    for bound in range(FORMER_MAX + 1):
        activate(config(bound))
    broker.settle("s", FORMER_MAX + 1)
    more = config(99, sources="s other")
    shown = difference(more, 1.0).new
    assert [former.until for former in shown.former] == [FORMER_MAX + 2]
    assert activate(more).former == shown.former
    broker.settle("other", 0)
    broker.settle("s", FORMER_MAX + 2)
    held = difference(config(1, sources="s other"), 1.0).new
    assert [former.until for former in held.former] == [FORMER_MAX + 2, FORMER_MAX + 3]


def test_a_new_source_is_told_of_and_not_waited_for(
    broker: Broker, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activate(config(1))
    sources.plans = {"s": 2, "other": None}
    path = tmp_path / "gravity.yaml"
    path.write_text(text(1, sources="s other", targets="a b"))
    reload(path, as_json=True, wait_s=0.0)
    hint = "start the stages again: source other is new to them"
    assert hint in sources.told[1], "before the wait"
    said = json.loads(capsys.readouterr().out)
    assert (said["plan"], said["waiting_for"]) == (2, [])
    assert said["start_again"] == ["source other", "target b"]
    assert "ingest.other" in broker.topics


def test_a_source_that_was_there_is_waited_for(
    broker: Broker, sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activate(config(1))
    sources.plans = {"s": 1, "other": None}
    path = tmp_path / "gravity.yaml"
    path.write_text(text(1, sources="s other"))
    with pytest.raises(TransientError, match="not every source is read by it yet") as refused:
        reload(path, as_json=True, wait_s=0.0)
    assert refused.value.where == "s"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["waiting_for"] == ["s"]
    assert max(broker.plans()) == 2


@pytest.mark.usefixtures("broker")
def test_the_first_plan_waits_for_nobody(
    sources: Sources, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gravity.yaml"
    path.write_text(text(1))
    reload(path, as_json=False, wait_s=0.0)
    assert "routing plan 1 is in force" in capsys.readouterr().out


def test_whoever_finds_a_plan_finds_the_topics_of_its_targets(broker: Broker) -> None:
    """A router sends to a target as soon as a message bears a number by which it gets rows."""
    found: list[int] = []

    def look() -> None:
        for number, plan in broker.plans().items():
            found.append(number)
            for target in plan.targets:
                assert {f"routed.{target.name}", f"target.{target.name}"} <= broker.topics.keys()

    broker.look = look
    activate(config(1))
    activate(config(1, targets="a b"))
    assert set(found) == {1, 2}


def _steps_of_a_reload(broker: Broker, path: Path) -> int:
    before = broker.steps
    reload(path, as_json=True, wait_s=0.0)
    return broker.steps - before


def test_a_reload_killed_anywhere_is_finished_by_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
    sources: Sources,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the same content under the same number, with all topics, and with the same hint."""
    path = tmp_path / "gravity.yaml"
    changed = text(2, sources="s other", targets="a b")
    sources.plans = {"s": 2, "other": None}

    def activated() -> Broker:
        with monkeypatch.context() as patch:
            made = Broker().install(patch, TABLES)
            activate(config(1))
        return made

    path.write_text(changed)
    whole = activated().install(monkeypatch, TABLES)
    steps = _steps_of_a_reload(whole, path)
    assert steps >= 6, "four topics, the plan, and what the broker answers to it"
    for number in range(steps):
        broker = activated().install(monkeypatch, TABLES)
        broker.dies_at = broker.steps + number
        with pytest.raises(Killed):
            reload(path, as_json=True, wait_s=0.0)
        broker.dies_at = None
        capsys.readouterr()
        reload(path, as_json=True, wait_s=0.0)
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (said["plan"], said["waiting_for"]) == (2, [])
        assert "source other" in said["start_again"]
        assert broker.topics == whole.topics
        assert {n: plan.to_json() for n, plan in broker.plans().items()} == {
            n: plan.to_json() for n, plan in whole.plans().items()
        }
        assert len(broker.values(plan_key(2))) == 1
        assert _steps_of_a_reload(broker, path) == 0
