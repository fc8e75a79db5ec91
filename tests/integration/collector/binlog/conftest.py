"""The stack's MariaDB and MySQL servers as sources whose binlog is read directly, without a collector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack

from tests.integration.collector.binlog.source import Source
from tests.source_server import SERVERS, started


@pytest.fixture(scope="session", params=list(SERVERS))
def source(request: pytest.FixtureRequest, stack: Stack) -> Source:
    server = started(stack, request.param)
    connection = {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": server.password,
        "charset": "utf8mb4",
    }
    return Source(server.flavor, connection)


@pytest.fixture
def database(source: Source, request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.name.partition("[")[0][:50]
    with source.connect() as client, client.cursor() as cursor:
        # A test that fails may leave a transaction that holds locks.
        cursor.execute("SET lock_wait_timeout = 10")
        cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")
        cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        yield name
        cursor.execute(f"DROP DATABASE `{name}`")
