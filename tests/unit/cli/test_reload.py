"""`gravity reload` and what it shows before: against a broker in memory."""

from __future__ import annotations

import pytest

from gravity.activation import activate
from gravity.batch import Column, TableSchema
from gravity.cli.plan import difference
from gravity.config import Config, parse_config
from gravity.errors import FatalError
from gravity.placed_anew import FORMER_MAX
from gravity.plan_compiler import SourceTable
from tests.unit.activation_broker import Broker

COLUMNS = (Column("id", "int", nullable=False), Column("v", "int"))
TABLES = [SourceTable("s", TableSchema("app", "orders", COLUMNS, (0,)))]


def config(bound: int, *, sources: str = "s", targets: str = "a") -> Config:
    """Rows of `orders` go to `a` if their value is above the bound."""
    account = "type: mysql, host: db, username: gravity, password: p"
    lines = [
        *("sources:", *(f"  - {{name: {name}, {account}}}" for name in sources.split())),
        *("targets:", *(f"  - {{name: {name}, {account}, database: d}}" for name in targets.split())),
        "routing:",
        "  - source-tables: [orders]",
        "    strategy: conditional",
        f"    conditions: [{{if: 'v > {bound}', targets: [a]}}]",
    ]  # fmt: skip
    return parse_config("\n".join(lines), env={}).config


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
