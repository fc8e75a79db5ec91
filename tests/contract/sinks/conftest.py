from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack

from tests.target_server import KAFKA_FORMATS, KINDS, TargetServer, target_server


@pytest.fixture(params=(*KINDS, *KAFKA_FORMATS))
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[TargetServer]:
    """Each kind of target in turn, with a database of the test's own."""
    made = target_server(request.param, stack)
    yield made
    made.close()
