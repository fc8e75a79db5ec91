"""A table for each way of dividing rows, through the whole pipeline. The long form: `make prove WHAT=routing`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gravity_devstack import Stack

from tests.prove.routing_strategies import STRATEGIES, World, run_load


def filtered_rows(path: Path) -> list[dict[str, object]]:
    """What `gravity filtered` says."""
    command = [str(Path(sys.executable).with_name("gravity")), "filtered", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


CHANGES = 30
"""To each table, in each round."""


def test_every_shard_holds_its_rows_after_key_moves_a_killed_router_and_another_plan(
    stack: Stack, tmp_path: Path
) -> None:
    world = World(stack, tmp_path, seed=7)
    try:
        found = list(run_load(world, CHANGES, restarts=False))
        assert len(found) == 2 * len(STRATEGIES)
        for verdict in found:
            assert verdict.rows > CHANGES / 2, verdict.name
            assert verdict.wrong == [], verdict.name
        left_out = {(found["table"], found["target"]) for found in filtered_rows(world.path)}
        assert (f"{world.database}.by_hash", "shard-a") in left_out
    finally:
        world.close()
