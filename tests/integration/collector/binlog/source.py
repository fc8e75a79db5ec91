"""A server to write to and to read the binlog of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pymysql
import pytest
from gravity_collector.binlog import (
    BinlogStream,
    Start,
    StartAtFile,
    open_stream,
    read_server_facts,
)
from gravity_collector.event import Event, Heartbeat, Rotate, Rows
from gravity_collector.server import ServerFacts

from gravity.batch import UPDATE
from tests.source_server import SERVERS

MARIADB = tuple(name for name, (kind, *_) in SERVERS.items() if kind == "mariadb")
MYSQL = tuple(name for name in SERVERS if name not in MARIADB)
NEWER_MYSQL = tuple(name for name in MYSQL if name != "mysql")
"""MySQL after 8.0.15."""
COMPRESSING = (*MARIADB, *NEWER_MYSQL)


def on(*servers: str) -> pytest.MarkDecorator:
    """Asks a test only of these keys of `SERVERS`: others can't do what it is about."""
    return pytest.mark.parametrize("source", servers, indirect=True)


@dataclass
class Source:
    """`flavor` is `mariadb` or `mysql`; `connection` are PyMySQL's arguments."""

    flavor: str
    connection: dict[str, Any]

    @property
    def version(self) -> tuple[int, int]:
        """The first two numbers of the server's version."""
        with self.connect() as client, client.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            row = cursor.fetchone()
        assert row is not None
        major, minor = str(row[0]).partition("-")[0].split(".")[:2]
        return int(major), int(minor)

    def connect(self, *, text: bool = False, **more: Any) -> pymysql.Connection[Any]:
        """A session that takes any value; with `text`, all values come as the server prints them."""
        if text:
            more["conv"] = {}
        client = pymysql.connect(**{**self.connection, "autocommit": True, **more})
        with client.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00', sql_mode = ''")
        return client

    def facts(self) -> ServerFacts:
        return read_server_facts(self.connection, self.flavor)

    def stream(self, facts: ServerFacts, at: Start | None = None, **more: Any) -> BinlogStream:
        """The binlog from `at`, else from where it ended at `facts`."""
        options = {
            "source": self.flavor,
            "server_id": 4_100_001,
            "heartbeat_s": 10,
            "until_end": True,
            **more,
        }
        start = at or StartAtFile(facts.file_name, facts.next_offset)
        return open_stream(self.connection, start, facts, **options)

    def events_since(self, facts: ServerFacts, at: Start | None = None, **more: Any) -> list[Event]:
        """Everything in the binlog from there to its present end."""
        stream = self.stream(facts, at, **more)
        events: list[Event] = []
        try:
            while not stream.is_at_end:
                events += stream.read(10)
        finally:
            stream.close()
        return events


def run(source: Source, database: str, *statements: str, **settings: Any) -> list[Event]:
    """The events that the statements leave, in one session."""
    facts = source.facts()
    with source.connect(database=database, **settings) as client, client.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    return source.events_since(facts)


def rows_of(events: list[Event]) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for event in events:
        if isinstance(event, Rows):
            decode = event.table.updates if event.op == UPDATE else event.table.rows
            found += [(event.op, row) for row in decode(event.body, event.at)]
    return found


def names(events: Sequence[Event]) -> list[str]:
    return [type(event).__name__ for event in events if not isinstance(event, Rotate | Heartbeat)]


_COMPRESSED = {"mariadb": "log_bin_compress", "mysql": "binlog_transaction_compression"}


@contextmanager
def compressed(source: Source) -> Iterator[None]:
    """The server's binlog is compressed for new sessions. One of `COMPRESSING` can."""
    name = _COMPRESSED[source.flavor]
    with source.connect() as client, client.cursor() as cursor:
        cursor.execute(f"SET GLOBAL {name} = ON")
        try:
            yield
        finally:
            cursor.execute(f"SET GLOBAL {name} = OFF")
