"""One stack for the collector's tests; each test has a database and topics of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer

from tests.integration.collector.installation import Installation, installation


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    # Tests that only read a binlog need no broker.
    kafka = (
        ["kafka"] if any("binlog" not in item.path.parts for item in request.session.items) else []
    )
    with Stack() as stack:
        stack.start_all([*kafka, "mariadb:collected", "mysql:collected"])
        yield stack


class Install(Protocol):
    def __call__(self, server: DatabaseServer | None = None, **settings: str) -> Installation: ...


@pytest.fixture(params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest, stack: Stack) -> DatabaseServer:
    return stack.mariadb("collected") if request.param == "mariadb" else stack.mysql("collected")


@pytest.fixture
def mariadb(stack: Stack) -> DatabaseServer:
    return stack.mariadb("collected")


@pytest.fixture
def install(stack: Stack, tmp_path: Path) -> Iterator[Install]:
    with ExitStack() as opened:

        def make(server: DatabaseServer | None = None, **settings: str) -> Installation:
            chosen = server or stack.mariadb("collected")
            return opened.enter_context(installation(stack, chosen, tmp_path, **settings))

        yield make
