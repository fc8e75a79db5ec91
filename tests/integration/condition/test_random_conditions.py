"""Random conditions on random rows: gravity and the server decide alike. The long form: `make prove WHAT=routing`."""

from __future__ import annotations

import pytest
from gravity_devstack import DatabaseServer, Stack

from tests.prove.routing_conditions import compare

PAIRS = 3_000
REFUSED_MAX, FAILED_MAX = 0.15, 0.03
"""Share of the conditions that may end in no verdict."""
pytestmark = pytest.mark.stack


@pytest.mark.parametrize("flavor", ["mysql", "mariadb"])
def test_random_conditions_are_decided_as_the_server_decides(stack: Stack, flavor: str) -> None:
    server: DatabaseServer = (
        stack.mysql("order-db") if flavor == "mysql" else stack.mariadb("user-master")
    )
    found = compare(server, flavor, seed=20260101, pairs=PAIRS)
    assert found.different == []
    assert found.pairs >= PAIRS
    assert found.refused <= found.asked * REFUSED_MAX
    assert found.failed <= found.asked * FAILED_MAX
