"""The servers that collector tests run on. Those that a machine can't have are skipped, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from gravity_devstack import Stack, Unavailable
from gravity_devstack.database import DatabaseServer

SERVERS: Final = {
    "mariadb": ("mariadb", "11.4", "collected"),
    "mysql": ("mysql", "8.0.15", "collected"),
    "mysql-9.7": ("mysql", "9.7", "collected-9"),
    "mariadb-10.11": ("mariadb", "10.11", "collected-10"),
}
"""Test id to kind, version and the server's name in the stack. The last two come by apt."""


def started(stack: Stack, name: str) -> DatabaseServer:
    """The server of that key of `SERVERS`; skips the test where it can't be had."""
    kind, version, server = SERVERS[name]
    start = stack.mariadb if kind == "mariadb" else stack.mysql
    with skipped_without(name):
        return start(server, version)


@contextmanager
def skipped_without(what: str) -> Iterator[None]:
    """Skips the test, with the reason, where a machine can't have what it begins to use.

    A machine may lack the network that a server comes by, a package of its system, or a processor
    that the server was built for. pytest ends with every skip and its reason: `-ra` in pyproject.toml.
    """
    try:
        yield
    except Unavailable as reason:
        pytest.skip(f"{what}: {reason}")
