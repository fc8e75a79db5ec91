"""The type test in short: `make prove WHAT=source` has more values, more servers and all kinds of keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from gravity_devstack import Stack

from tests.prove.source_types import prove
from tests.prove.type_world import Server, start_server
from tests.source_server import skipped_without

pytestmark = pytest.mark.stack
KEYS = ("bigint_unsigned", "year", "varbinary", "ci", "several")


def server(stack: Stack, name: str, specification: str) -> Server:
    with skipped_without(specification):
        return start_server(stack, name, specification)


def test_snapshot_and_stream_bring_every_cell_exactly_to_every_target(
    stack: Stack, tmp_path: Path
) -> None:
    sources = [
        server(stack, "mariadb-11", "mariadb:types"),
        server(stack, "mysql-80", "mysql:types"),
    ]
    targets = [
        server(stack, "mariadb", "mariadb:target"),
        server(stack, "mysql80", "mysql:target"),
    ]
    found = prove(stack, sources, targets, tmp_path, drawn=0, seed=1, keys=KEYS)
    assert found.differences == 0, "\n".join(found.examples)
    assert found.pairs > 10_000
