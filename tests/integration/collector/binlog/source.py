"""A server to write to and to read the binlog of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pymysql
from gravity_collector.binlog import BinlogStream, StartAtFile, open_stream, read_server_facts
from gravity_collector.event import Event
from gravity_collector.server import ServerFacts


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

    def stream(self, facts: ServerFacts, **more: Any) -> BinlogStream:
        options = {
            "source": self.flavor,
            "server_id": 4_100_001,
            "heartbeat_s": 10,
            "until_end": True,
            **more,
        }
        return open_stream(
            self.connection, StartAtFile(facts.file_name, facts.next_offset), facts, **options
        )

    def events_since(self, facts: ServerFacts, **more: Any) -> list[Event]:
        """Everything in the binlog from where it ended at `facts` to its present end."""
        stream = self.stream(facts, **more)
        events: list[Event] = []
        try:
            while not stream.is_at_end:
                events += stream.read(10)
        finally:
            stream.close()
        return events
