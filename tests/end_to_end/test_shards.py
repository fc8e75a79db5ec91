"""A table for each way of dividing rows, through the whole pipeline. The long form: `make prove WHAT=routing`."""

from __future__ import annotations

from pathlib import Path

from gravity_devstack import Stack

from tests.prove.routing_strategies import STRATEGIES, World, run_load

CHANGES = 30
"""To each table, in each round."""


def test_every_shard_holds_its_rows_after_key_moves_and_a_killed_router(
    stack: Stack, tmp_path: Path
) -> None:
    world = World(stack, tmp_path, seed=7)
    try:
        run_load(world, CHANGES, restarts=False)
        for strategy in STRATEGIES:
            rows, wrong = world.compare(strategy)
            assert rows > CHANGES / 2, strategy.table
            assert wrong == []
    finally:
        world.close()
