"""One set of real servers for the whole run, each started when a test first asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Kafka, MariaDB, MySQL and ClickHouse on loopback. Tests use databases and prefixes of their own."""
    with Stack() as servers:
        yield servers
