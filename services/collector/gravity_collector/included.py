"""What a source server's catalog says of the tables that are read: which there are, their keys, their sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from gravity.catalog import CatalogTable, read_catalog
from gravity.errors import FatalError
from gravity_collector.chunk import TableName
from gravity_collector.ddl.ghost import is_working_table
from gravity_collector.flow import Flows, keyless
from gravity_collector.snapshot import SourceConnection

log = structlog.get_logger()


def unique_keys(connection: SourceConnection) -> Callable[[str, str], tuple[str, ...]]:
    """Gives the key columns of a table by database and name; none where it has no key."""

    def find(database: str, table: str) -> tuple[str, ...]:
        found = read_catalog(
            connection.query, lambda *_: True, connection.literal, only=(database, table)
        )
        entry = found.get((database, table))
        return entry.schema.key_names if entry is not None else ()

    return find


def rows_estimated(connection: SourceConnection) -> Mapping[TableName, int]:
    """The rows of each table, by the server's estimate."""
    rows = connection.query(
        "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_ROWS FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE'"
    )
    return {(str(database), str(table)): int(count or 0) for database, table, count in rows}


def included_tables(
    connection: SourceConnection, flows: Flows, source: str
) -> Mapping[TableName, CatalogTable]:
    """The tables that are read. Raises FatalError naming all that have no key."""
    meant = read_catalog(
        connection.query,
        lambda database, table: flows.plan.includes(source, database, table),
        connection.literal,
    )
    catalog = {name: table for name, table in meant.items() if flows.includes(*name)}
    left_out = [
        ".".join(name) for name in meant if is_working_table(name[1]) and name not in catalog
    ]
    if left_out:
        log.warning(
            "working_tables_left_out",
            source=source,
            tables=sorted(left_out),
            remedy="they look like tables of gh-ost or pt-online-schema-change: name them in `tables` to read them",
        )
    problems = [
        keyless(source, *name)
        for name, table in catalog.items()
        if not (table.schema.key or flows.plan.reads_whole_rows(source, *name))
    ]
    if len(problems) > 1:
        raise FatalError(
            f"{len(problems)} tables have neither a primary key nor a unique key of NOT NULL columns",
            where="; ".join(problem.where for problem in problems),
            remedy="add primary keys, read them by all their values (`whole-row`), or leave them out by `exclude`",
        )
    if problems:
        raise problems[0]
    return catalog
