"""A MySQL or MariaDB target, each in turn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack

from tests.target_server import MysqlServer, target_server


@pytest.fixture(params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[MysqlServer]:
    made = target_server(request.param, stack)
    assert isinstance(made, MysqlServer)
    made.query(f"CREATE DATABASE {made.database}")
    yield made
    made.close()
