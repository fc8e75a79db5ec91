from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gravity_devstack import Stack

from tests.resolver_installation import Installation


@pytest.fixture
def install(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    kafka = stack.kafka()
    made = Installation(tmp_path, f"{kafka.host}:{kafka.port}")
    yield made
    made.close()
