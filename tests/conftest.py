"""One set of real servers for the whole run, each started when a test first asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack
from hypothesis import settings

# Machines are shared: how long an example takes says nothing about the law.
settings.register_profile("gravity", deadline=None)
settings.load_profile("gravity")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Kafka, MariaDB, MySQL and ClickHouse on loopback. Tests use databases and prefixes of their own."""
    with Stack() as servers:
        yield servers
