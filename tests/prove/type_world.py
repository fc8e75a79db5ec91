"""Sources of every kind, all of them copied into every kind of target by one `gravity run`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clickhouse_connect
import pymysql
from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer
from gravity_devstack.errors import Unavailable

from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ProgressReader
from gravity.batch import ChangeBatch
from gravity.clock import now_us
from gravity.codec import decode_batch, decode_record
from gravity.config import Config, load_config
from gravity.header import IngestHeader, IngestKind
from gravity.kafka.reader import LogMessage, LogReader
from gravity.topic import Topics
from tests.oracle.target import Message, kafka_topics
from tests.oracle.type_text import (
    Cell,
    Shape,
    cell_of,
    clickhouse_cell,
    clickhouse_selected,
    kafka_cell,
    selected,
)
from tests.prove.type_tables import Table

Cells = tuple[Cell, ...]
TIMEOUT_S = 300.0
CHUNK_ROWS = 7
"""Few, so that every kind of key is compared in many chunk bounds."""


@dataclass
class Server:
    """A MySQL or MariaDB server, as a source or as a target."""

    name: str
    server: DatabaseServer
    version: tuple[int, int]
    tables: list[Table] = field(default_factory=list)
    """What is written there, if it is a source."""
    _client: pymysql.Connection[Any] | None = None

    @property
    def flavor(self) -> str:
        """`mysql` or `mariadb`."""
        return self.server.flavor

    @property
    def database(self) -> str:
        """The source's database, at every target too."""
        return "types_" + self.name.replace("-", "_")

    def cursor(self) -> Any:
        """A cursor of a session that takes any value and gives cells undecoded."""
        if self._client is None:
            self._client = self.server.connect(conv={})
            with self._client.cursor() as cursor:
                cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
        return self._client.cursor()

    def write(self, statements: Sequence[str], *, database: str = "") -> None:
        """Runs statements in the source's database."""
        with self.cursor() as cursor:
            if database:
                cursor.execute(f"USE {database}")
            for statement in statements:
                cursor.execute(statement)

    def end(self) -> tuple[int, int]:
        """(number of the binlog file, offset) behind everything committed."""
        is_new = self.flavor == "mysql" and self.version >= (8, 4)
        with self.cursor() as cursor:
            cursor.execute("SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS")
            row = cursor.fetchone()
        assert row is not None
        return int(str(row[0]).rpartition(".")[2]), int(row[1])

    def shapes(self, table: str, *, database: str = "") -> list[Shape]:
        """A table's columns."""
        with self.cursor() as cursor:
            cursor.execute(
                "SELECT COLUMN_NAME, DATA_TYPE, IS_NULLABLE, COLUMN_KEY FROM information_schema.COLUMNS"
                " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
                (database or self.database, table),
            )
            rows = [[c.decode() if isinstance(c, bytes) else c for c in r] for r in cursor]
        return [
            Shape(name, kind.lower(), nullable == "YES", in_key=key in ("PRI", "UNI"))
            for name, kind, nullable, key in rows
        ]

    def rows(self, table: str, shapes: Sequence[Shape], *, database: str = "") -> list[Cells]:
        """A table's cells."""
        names = ", ".join(selected(column, is_mysql=self.flavor == "mysql") for column in shapes)
        with self.cursor() as cursor:
            cursor.execute(f"SELECT {names} FROM `{database or self.database}`.`{table}`")
            return [
                tuple(cell_of(c, s.data_type) for c, s in zip(row, shapes, strict=True))
                for row in cursor
            ]


def find_server(stack: Stack, name: str, specification: str) -> Server | None:
    """A server of the stack; None where this machine can't have it."""
    try:
        return start_server(stack, name, specification)
    except Unavailable:
        return None


def start_server(stack: Stack, name: str, specification: str) -> Server:
    """A server of the stack.

    Raises:
        Unavailable: this machine can't have it, and why.
    """
    found = stack.start_all([specification])[specification]
    assert isinstance(found, DatabaseServer)
    major, minor = found.version.partition("-")[0].split(".")[:2]
    return Server(name, found, (int(major), int(minor)))


class TypeWorld:
    """Servers, and the installation that copies all sources into all targets."""

    def __init__(
        self, stack: Stack, sources: Sequence[Server], targets: Sequence[Server], folder: Path
    ) -> None:
        self.sources = sources
        self.targets = targets
        self._clickhouse = stack.clickhouse()
        self.brokers = stack.kafka().brokers
        self.path = folder / "gravity.yaml"
        self.path.write_text(self._yaml(folder), encoding="utf-8")
        self.config: Config = load_config(self.path).config
        self.reader = ProgressReader(self.config)
        self.pipeline = Pipeline(self.path)
        self._topics: dict[str, dict[str, list[Message]]] = {}
        """Messages of each database's topics."""
        self._client = clickhouse_connect.get_client(
            host=self._clickhouse.host,
            port=self._clickhouse.port,
            username=self._clickhouse.user,
            password=self._clickhouse.password,
        )
        self._log = LogReader(self.config.kafka, "prove")

    def _yaml(self, folder: Path) -> str:
        def place(server: Any) -> str:
            login = f"username: {server.user}, password: {server.password}"
            return f"host: {server.host}, port: {server.port}, {login}"

        sources = "\n".join(
            f"  - {{name: {s.name}, type: {s.flavor}, databases: [{s.database}], {place(s.server)}}}"
            for s in self.sources
        )
        targets = "\n".join(
            f"  - {{name: to-{t.name}, type: mysql, {place(t.server)}}}" for t in self.targets
        )
        return f"""
sources:
{sources}
targets:
{targets}
  - {{name: to-clickhouse, type: clickhouse, {place(self._clickhouse)}}}
  - {{name: to-kafka, type: kafka, brokers: ["{self.brokers}"], partitions: 1}}
kafka: {{brokers: ["{self.brokers}"], partitions: 1, topic-prefix: {folder.name}.}}
snapshot: {{chunk-rows: {CHUNK_ROWS}}}
state: {{folder: {folder / "state"}}}
"""

    def fill(self) -> None:
        """Makes the tables and writes what the snapshot is to find."""
        for source in self.sources:
            name = source.database
            source.write([f"CREATE DATABASE {name} CHARACTER SET utf8mb4"])
            creates = [text for table in source.tables for text in table.create]
            rows = [text for table in source.tables for text in table.before]
            source.write([*creates, "BEGIN", *rows, "COMMIT"], database=name)

    def write_live(self) -> None:
        """Writes what the stream is to bring."""
        for source in self.sources:
            rows = [text for table in source.tables for text in table.live]
            source.write(["BEGIN", *rows, "COMMIT"], database=source.database)

    def run(self) -> None:
        """Returns once every target has everything of both paths."""
        self.fill()
        with self.pipeline:
            self._wait(
                lambda: all(self.reader.refresh().is_copied(s.name) for s in self.sources),
                "the existing rows are published",
            )
            self.write_live()
            finals, since_us = {s.name: s.end() for s in self.sources}, now_us()
            self._wait(
                lambda: not self.reader.refresh().behind(finals, since_us),
                "every target passes the last change",
            )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def unless_halted() -> bool:
            halted = [x for x in self.pipeline.log.read_text().splitlines() if '"halted"' in x]
            assert not halted, halted
            return condition()

        wait_for(unless_halted, self.pipeline, timeout_s=TIMEOUT_S, what=what)

    def published(self, source: str) -> Iterator[tuple[bool, ChangeBatch]]:
        """(whether by snapshot, rows) of the source's log."""
        for message in self._messages(Topics(self.config.kafka.topic_prefix).ingest(source)):
            header = IngestHeader.from_kafka(message.headers)
            if header.kind in (IngestKind.ROWS, IngestKind.CHUNK):
                yield header.kind is IngestKind.CHUNK, decode_batch(message.value or b"")

    def dead_letters(self) -> list[Mapping[str, Any]]:
        """Every row that a target has refused."""
        topic = Topics(self.config.kafka.topic_prefix).dead_letters
        return [decode_record("dead_letter", m.value or b"") for m in self._messages(topic)]

    def _messages(self, topic: str) -> Iterator[LogMessage]:
        return self._log.read(topic, 0, *self._log.bounds(topic, 0))

    def close(self) -> None:
        """Gives the connections up."""
        self._log.close()
        self._client.close()

    def at_clickhouse(self, database: str, table: str, shapes: Sequence[Shape]) -> list[Cells]:
        """The current rows of a ClickHouse table."""
        names = ", ".join(map(clickhouse_selected, shapes))
        query = f"SELECT {names} FROM `{database}`.`{table}_current`"
        return [
            tuple(clickhouse_cell(c, s.data_type) for c, s in zip(row, shapes, strict=True))
            for row in self._client.query(query).result_rows
        ]

    def at_kafka(self, database: str, table: str, shapes: Sequence[Shape]) -> list[Cells]:
        """The rows that a reader of the topic ends up with."""
        if database not in self._topics:
            tables = [t.name for s in self.sources if s.database == database for t in s.tables]
            names = [f"{database}.{name}" for name in tables]
            self._topics[database] = kafka_topics(self.brokers, names)
        rows: dict[bytes, Cells] = {}
        for key, value in self._topics[database][f"{database}.{table}"]:
            record = value and json.loads(value, parse_int=str, parse_float=str)
            if not record or record["_gravity"]["op"] == "delete":
                rows.pop(key, None)
            else:
                rows[key] = tuple(kafka_cell(record[s.name], s.data_type) for s in shapes)
        return list(rows.values())
