from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gravity_devstack import Stack

from tests.resolver_installation import Installation


@pytest.fixture
def installed(stack: Stack, tmp_path: Path) -> Iterator[Callable[[int], Installation]]:
    """Makes an installation of so many partitions; its processes end with the test."""
    made: list[Installation] = []

    def make(partitions: int) -> Installation:
        kafka = stack.kafka()
        made.append(Installation(tmp_path, f"{kafka.host}:{kafka.port}", partitions=partitions))
        return made[-1]

    yield make
    for installation in made:
        installation.close()


@pytest.fixture
def install(installed: Callable[[int], Installation]) -> Installation:
    """An installation with one partition."""
    return installed(1)
