"""Three sources write the same rows: the short form of `make prove WHAT=resolving` on real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from gravity_devstack import Stack

from tests.prove.resolving_servers import BROKER, contend


@pytest.mark.timeout(400)
def test_targets_hold_what_every_strategy_makes_of_three_sources_although_resolver_and_broker_die(
    stack: Stack, tmp_path: Path
) -> None:
    victims = ("gravity_resolver", BROKER)
    found = contend(stack, tmp_path, seed=3, suffix="_r", victims=victims, seconds=4)
    assert not found.wrong
    assert found.written > 100
