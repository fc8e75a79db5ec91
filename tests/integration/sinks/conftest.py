from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gravity_devstack import Stack

from gravity.testing.sink_process import SinkInstallation
from tests.target_server import KINDS, TargetServer, target_server


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[TargetServer]:
    """Each kind of target in turn, with a database of the test's own."""
    made = target_server(request.param, stack)
    yield made
    made.close()


@pytest.fixture
def install(
    server: TargetServer, stack: Stack, tmp_path: Path
) -> Iterator[Callable[..., SinkInstallation]]:
    """Makes the installation that writes to `server`; its processes end with the test."""
    made: list[SinkInstallation] = []

    def make(yaml: str = "") -> SinkInstallation:
        kafka = stack.kafka()
        configuration = f"""
gravity:
  kafka: {{brokers: ["{kafka.host}:{kafka.port}"], topic-prefix: {server.name}-, partitions: 2}}
  targets: [{yaml or server.yaml()}]
"""
        installation = SinkInstallation(
            tmp_path, configuration, target=server.name, package=server.package
        )
        made.append(installation)
        return installation

    yield make
    for installation in made:
        installation.close()
