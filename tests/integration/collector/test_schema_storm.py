"""The DDL storm in short: the long form is `make prove WHAT=source ONLY=ddl`."""

from pathlib import Path

from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer

from tests.prove.source_ddl import storm


def test_whoever_follows_the_log_through_a_storm_of_schema_changes_has_the_source(
    stack: Stack, server: DatabaseServer, tmp_path: Path
) -> None:
    outcome = storm(stack, server, tmp_path, changes=40, seed=1)
    assert outcome.pairs
    assert not outcome.differences, (outcome.differences[:5], outcome.note)
