"""One stack with a server of each kind, started once for all tests of this folder."""

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack

EACH_KIND = ("kafka", "mariadb:user-master", "mysql:order-db", "clickhouse")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.start_all(EACH_KIND)
        yield stack
