"""Three sources, a resolver for each partition, two lanes: the target is what the sources come to."""

from __future__ import annotations

import pytest

from tests.lane_walk import three_sources
from tests.target_server import OF_TABLES, TargetServer

pytestmark = pytest.mark.stack


@OF_TABLES
@pytest.mark.parametrize("seed", [0, 39, 40])
def test_any_order_of_sources_and_lanes_ends_as_the_sources_come_to(
    server: TargetServer, seed: int
) -> None:
    assert three_sources(server, seed) == []
