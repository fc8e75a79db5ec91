"""Every row change of a table in commit order, by the stock mysql-replication reader."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import GtidEvent, MariadbGtidEvent, QueryEvent, XidEvent
from pymysqlreplication.row_event import DeleteRowsEvent, UpdateRowsEvent, WriteRowsEvent

from tests.oracle.cell import Row
from tests.oracle.server import Address, Table, row_of

_READER_SERVER_ID = 990_001


@dataclass(frozen=True)
class Change:
    """One row of one committed transaction."""

    commit_us: int
    """Running maximum of the commit time over the source's binlog."""
    before: Row | None
    after: Row | None


def changes(
    address: Address, database: str, table: str, shape: Table, start: tuple[str, int]
) -> Iterator[Change]:
    """The changes of a table committed after `start` (file, offset), in commit order."""
    stream = BinLogStreamReader(
        connection_settings={
            "host": address.host,
            "port": address.port,
            "user": address.user,
            "passwd": address.password,
        },
        server_id=_READER_SERVER_ID,
        log_file=start[0],
        log_pos=start[1],
        resume_stream=True,
        blocking=False,
        is_mariadb=False,
        only_events=[
            GtidEvent,
            MariadbGtidEvent,
            QueryEvent,
            XidEvent,
            WriteRowsEvent,
            UpdateRowsEvent,
            DeleteRowsEvent,
        ],
    )
    pending: list[tuple[Row | None, Row | None]] = []
    commit_us = latest = 0
    try:
        for event in stream:
            if isinstance(event, GtidEvent):
                pending, commit_us = [], _mysql_commit_us(event)
            elif isinstance(event, MariadbGtidEvent):
                pending, commit_us = [], 0
            elif isinstance(event, XidEvent) or (
                isinstance(event, QueryEvent) and event.query == "COMMIT"
            ):
                latest = max(latest, commit_us or int(event.timestamp) * 1_000_000)
                for before, after in pending:
                    yield Change(latest, before, after)
                pending = []
            elif not isinstance(event, QueryEvent) and (event.schema, event.table) == (
                database,
                table,
            ):
                pending += [_images(event, row, shape) for row in event.rows]
    finally:
        stream.close()


def _mysql_commit_us(event: Any) -> int:
    """MySQL's own commit time: behind the logical clock, which is all that the stock class reads."""
    times = int.from_bytes(event.packet.read(7), "little")
    if times >> 55:
        return int.from_bytes(event.packet.read(7), "little")
    return times


def _images(event: Any, row: Mapping[str, Any], shape: Table) -> tuple[Row | None, Row | None]:
    if isinstance(event, WriteRowsEvent):
        return None, row_of(_printed(row["values"], shape), shape)
    if isinstance(event, DeleteRowsEvent):
        return row_of(_printed(row["values"], shape), shape), None
    return (
        row_of(_printed(row["before_values"], shape), shape),
        row_of(_printed(row["after_values"], shape), shape),
    )


def _printed(values: Mapping[str, Any], shape: Table) -> dict[str, Any]:
    return {
        name: _as_mysql_prints(values.get(name), kind)
        for name, kind in zip(shape.columns, shape.types, strict=True)
    }


def _as_mysql_prints(value: Any, kind: str) -> Any:
    if isinstance(value, datetime):
        text = value.strftime("%Y-%m-%d %H:%M:%S")
        return f"{text}.{value.microsecond:06}" if value.microsecond else text
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, set | frozenset):
        return ",".join(sorted(value))
    if kind == "json":
        return None if value is None else value
    return value
