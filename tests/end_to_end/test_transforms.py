"""Tables that differ at their targets, through the whole pipeline. The long form: `make prove WHAT=routing`."""

from __future__ import annotations

from pathlib import Path

from gravity_devstack import Stack

from tests.prove.routing_transforms import World, run_load

CHANGES = 25
"""To each table, in each round."""


def test_targets_hold_what_sql_makes_of_the_rows_after_key_moves_alters_and_another_plan(
    stack: Stack, tmp_path: Path
) -> None:
    world = World(stack, tmp_path, seed=3)
    try:
        found = list(run_load(world, CHANGES, restarts=False))
        assert len(found) == 3 * 2 * 5
        for verdict in found:
            assert verdict.rows > CHANGES / 3, verdict.name
            assert not verdict.wrong, "\n".join([verdict.name, *verdict.wrong[:9]])
        columns = world.columns_of("persons")
        assert not {"note", "old_stuff", "id", "cust_no", "label"} & set(columns)
        assert "w" in world.columns_of("orders"), "a column that one of several tables drops stays"
    finally:
        world.close()
