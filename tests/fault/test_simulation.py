"""The laws of delivery on the product's own cores: green as they are, red when one is broken."""

from __future__ import annotations

import pytest

from tests.fault.simulation.__main__ import one
from tests.fault.simulation.breaks import BREAKS
from tests.fault.simulation.interleavings import INTERLEAVINGS

SEEDS = 60
SEEDS_PER_BREAK = 80
"""More than the seed that catches the slowest of them."""
FIRST_SEED = {
    "finish-chunk": 80,
    "mysql-real-truncate": 60,
    "no-term": 260,
}
"""Where a variant that shows rarely is looked for."""


@pytest.mark.parametrize("tens", range(0, SEEDS, 10))
def test_no_crash_freeze_or_rebalance_breaks_a_law(tens: int) -> None:
    broken = [(seed, law) for seed in range(tens, tens + 10) if (law := one(seed)[1])]
    assert not broken


@pytest.mark.parametrize("name", sorted(BREAKS))
def test_a_broken_law_turns_the_simulation_red(name: str) -> None:
    first = FIRST_SEED.get(name, 0)
    assert any(one(seed, name)[1] for seed in range(first, first + SEEDS_PER_BREAK)), BREAKS[
        name
    ].law


@pytest.mark.parametrize("name", sorted(INTERLEAVINGS))
def test_an_interleaving_built_by_hand_keeps_the_law_and_shows_it_broken(name: str) -> None:
    assert INTERLEAVINGS[name](None) is None
    assert INTERLEAVINGS[name](name) is not None, BREAKS[name].law
