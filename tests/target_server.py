"""The four targets that every sink test runs against, behind one face."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any

import clickhouse_connect
import fastavro
import pytest
from gravity_devstack import DatabaseServer, Stack
from gravity_sink_clickhouse.writer import ClickhouseWriter
from gravity_sink_kafka.writer import KafkaWriter
from gravity_sink_mysql.writer import MysqlWriter

from gravity.batch import TableSchema, Value
from gravity.config.conflict import ConflictResolution
from gravity.config.kafka import KafkaCluster
from gravity.config.target import ClickhouseTarget, KafkaTarget, MysqlTarget
from gravity.evolution import Policy
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogMessage, LogReader
from gravity.sink import Pace, SinkWriter
from gravity.sink_stage import Surroundings
from gravity.testing.target_log import table
from gravity.testing.waiting import wait_until
from gravity.topic import TopicSpec

_numbers = itertools.count(1)
Rows = dict[str, tuple[str | None, ...]]
"""First cell → the other cells, all as text."""


class TargetServer(ABC):
    """One kind of target; each test has a database of its own there."""

    exact_history = False
    """Whether `history` counts every write: only there can a doubled one be seen."""

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.database = f"shop{self.number}"
        self.name = f"t{self.number}"
        self.partitions = 2
        self.conflicts = ConflictResolution()
        self.parked_rows_max = 10_000

    def around(self, *, adopt: bool = False) -> Surroundings:
        pace = Pace(rows_max=1000, wait_ms_max=50, wait_ms_idle=50)
        return Surroundings(
            1,
            f"topic{self.number}",
            adopt,
            pace,
            partitions=self.partitions,
            conflicts=self.conflicts,
            parked_rows_max=self.parked_rows_max,
        )

    @abstractmethod
    def writer(self, *, adopt: bool = False, create: bool = True) -> SinkWriter: ...

    @property
    @abstractmethod
    def package(self) -> str:
        """The sink's package."""

    @abstractmethod
    def yaml(self) -> str:
        """The target in a configuration, as one YAML flow mapping."""

    @abstractmethod
    def rows(self, name: str) -> Rows: ...

    def named_rows(self, name: str, key: str) -> dict[str, dict[str, str | None]]:
        """Key → other columns by name, all as text. Not of Kafka, where rows are messages."""
        raise AssertionError(f"{name}: no table with key {key}")

    def column_names(self, name: str) -> set[str]:
        """The columns of a table, without our own. Not of Kafka."""
        raise AssertionError(f"{name}: no table")

    @abstractmethod
    def fill_by_others(self, schema: TableSchema) -> None:
        """Makes the table and one row in it, as nobody of us would."""

    @abstractmethod
    def refused(self) -> tuple[TableSchema, Sequence[Value], Sequence[Value]]:
        """A shape, a row of it that is taken, and one that never will be. Prepares what is needed."""

    def history(self, name: str) -> list[str]:
        """First cells in order of arrival, where that can be seen."""
        return sorted(self.rows(name))

    @abstractmethod
    def close(self) -> None:
        """Gives connections up."""


def _named(
    columns: list[str], rows: Sequence[Sequence[Any]], key: str
) -> dict[str, dict[str, str | None]]:
    found = {}
    for row in rows:
        cells = {
            name: None if cell is None else str(cell)
            for name, cell in zip(columns, row, strict=True)
        }
        found[str(cells.pop(key))] = cells
    return found


class MysqlServer(TargetServer):
    def __init__(self, server: DatabaseServer) -> None:
        super().__init__()
        self.server = server
        self.connection = server.connect()
        self.schema_evolution: Policy = "apply"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def writer(self, *, adopt: bool = False, create: bool = True) -> SinkWriter:
        target = MysqlTarget(
            name=self.name,
            host=self.server.host,
            port=self.server.port,
            username=self.server.user,
            password=self.server.password,
            create_tables=create,
            schema_evolution=self.schema_evolution,
        )
        return MysqlWriter(target, self.around(adopt=adopt))

    @property
    def package(self) -> str:
        return "gravity_sink_mysql"

    def yaml(self) -> str:
        return (
            f"{{name: {self.name}, type: mysql, host: {self.server.host}, port: {self.server.port}, "
            f"username: {self.server.user}, password: {self.server.password}}}"
        )

    def rows(self, name: str) -> Rows:
        return {
            str(first): tuple(None if cell is None else str(cell) for cell in rest)
            for first, *rest in self.query(f"SELECT * FROM {self.database}.{name}")
        }

    def named_rows(self, name: str, key: str) -> dict[str, dict[str, str | None]]:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {self.database}.{name}")
            columns = [str(item[0]) for item in cursor.description]
            return _named(columns, list(cursor.fetchall()), key)

    def column_names(self, name: str) -> set[str]:
        found = self.query(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS "
            f"WHERE TABLE_SCHEMA='{self.database}' AND TABLE_NAME='{name}'"
        )
        return {str(row[0]) for row in found}

    def fill_by_others(self, schema: TableSchema) -> None:
        self.query(f"CREATE DATABASE {self.database}")
        columns = ", ".join(f"{c.name} {c.type}" for c in schema.columns)
        key = ", ".join(schema.key_names)
        name = f"{self.database}.{schema.table}"
        self.query(f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({key}))")
        self.query(f"INSERT INTO {name} ({key}) VALUES (77)")

    def refused(self) -> tuple[TableSchema, Sequence[Value], Sequence[Value]]:
        self.query(f"CREATE DATABASE {self.database}")
        self.query(f"CREATE TABLE {self.database}.narrow (id INT PRIMARY KEY, name VARCHAR(3))")
        schema = table(f"{self.database}.narrow", [("id", "int"), ("name", "varchar(9)")], ["id"])
        return schema, (1, "abc"), (2, "abcd")

    def close(self) -> None:
        self.connection.close()


class ClickhouseServer(TargetServer):
    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.server = stack.clickhouse()
        self.client = clickhouse_connect.get_client(
            host=self.server.host,
            port=self.server.port,
            username=self.server.user,
            password=self.server.password,
            autogenerate_session_id=False,
        )

    def writer(self, *, adopt: bool = False, create: bool = True) -> SinkWriter:
        target = ClickhouseTarget(
            name=self.name,
            host=self.server.host,
            port=self.server.port,
            username=self.server.user,
            password=self.server.password,
            create_tables=create,
        )
        return ClickhouseWriter(target, self.around(adopt=adopt))

    @property
    def package(self) -> str:
        return "gravity_sink_clickhouse"

    def yaml(self) -> str:
        return (
            f"{{name: {self.name}, type: clickhouse, host: {self.server.host}, port: {self.server.port}, "
            f"username: {self.server.user}, password: {self.server.password}}}"
        )

    def rows(self, name: str) -> Rows:
        result = self.client.query(f"SELECT * FROM {self.database}.{name}_current").result_rows
        return {
            str(first): tuple(None if cell is None else str(cell) for cell in rest)
            for first, *rest in result
        }

    def named_rows(self, name: str, key: str) -> dict[str, dict[str, str | None]]:
        result = self.client.query(f"SELECT * FROM {self.database}.{name}_current")
        return _named(list(result.column_names), list(result.result_rows), key)

    def column_names(self, name: str) -> set[str]:
        return set(self.client.query(f"SELECT * FROM {self.database}.{name}_current").column_names)

    def fill_by_others(self, schema: TableSchema) -> None:
        self.client.command(f"CREATE DATABASE {self.database}")
        name = f"{self.database}.{schema.table}"
        self.client.command(
            f"CREATE TABLE {name} (id Int32, name Nullable(String), _version UInt64, _deleted UInt8) "
            "ENGINE = ReplacingMergeTree(_version, _deleted) ORDER BY id"
        )
        view = f"CREATE VIEW {name}_current AS SELECT id, name FROM {name} FINAL"
        self.client.command(view)
        self.client.command(f"INSERT INTO {name} VALUES (77, 'x', 1, 0)")

    def refused(self) -> tuple[TableSchema, Sequence[Value], Sequence[Value]]:
        columns = [("day", "date"), ("name", "varchar(9)")]
        schema = table(f"{self.database}.days", columns, ["day"])
        return schema, ("2024-01-01", "a"), ("0000-00-00", "b")

    def close(self) -> None:
        self.client.close()


_COMMIT_S = 3.0


def _await_commit(committed: LogReader, all_there: LogReader, topic: str, partition: int) -> None:
    """Returns once nothing stands behind what is committed.

    The broker tells a partition of a commit after it has answered. A transaction that was left open is
    never settled: then it is that what is there counts after `_COMMIT_S`.
    """

    def is_settled() -> bool:
        return committed.bounds(topic, partition)[1] == all_there.bounds(topic, partition)[1]

    with suppress(TimeoutError):
        wait_until(is_settled, _COMMIT_S, what="the commit", every_s=0.01)


class KafkaServer(TargetServer):
    def close(self) -> None:
        pass

    exact_history = True

    def __init__(self, stack: Stack, form: str = "json") -> None:
        super().__init__()
        self.form = form
        self.server = stack.kafka()
        self.brokers = (f"{self.server.host}:{self.server.port}",)
        self.cluster = KafkaCluster(brokers=self.brokers)

    def writer(self, *, adopt: bool = False, create: bool = True) -> SinkWriter:
        target = KafkaTarget.model_validate(
            {
                "name": self.name,
                "brokers": self.brokers,
                "partitions": 2,
                "create-tables": create,
                "format": self.form,
            }
        )
        return KafkaWriter(target, self.around(adopt=adopt))

    def messages(self, name: str) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Key and value of each message, whatever the format as if it were flat JSON."""
        found = self.raw(f"{self.database}.{name}")
        schemas = self.schemas() if self.form == "avro" else {}
        return [
            (json.loads(m.key or b""), None if m.value is None else self._flat(m, schemas))
            for m in found
        ]

    def raw(self, topic: str) -> list[LogMessage]:
        """The committed messages of a topic, as they are."""
        reader = LogReader(self.cluster, f"test{self.number}")
        all_there = LogReader(self.cluster, f"test{self.number}.all", uncommitted=True)
        try:
            found: list[LogMessage] = []
            for partition in range(reader.partitions(topic)):
                _await_commit(reader, all_there, topic, partition)
                found += reader.read(topic, partition, *reader.bounds(topic, partition))
            return found
        finally:
            reader.close()
            all_there.close()

    def schemas(self) -> dict[str, Any]:
        """The published Avro schemas by their fingerprint."""
        found = self.raw(f"_gravity_schemas.{self.name}")
        return {(m.key or b"").decode(): json.loads(m.value or b"") for m in found}

    def _flat(self, message: LogMessage, schemas: dict[str, Any]) -> dict[str, Any]:
        value, headers = message.value or b"", dict(message.headers)
        if self.form == "json" or not headers:
            return dict(json.loads(value))
        meta = {
            "op": headers["gravity.op"].decode(),
            "version": int(headers["gravity.version"]),
        }
        record: Any
        if self.form == "avro":
            schema = fastavro.parse_schema(schemas[value[2:10].hex()])
            record = fastavro.schemaless_reader(BytesIO(value[10:]), schema, None)
        elif self.form == "debezium":
            envelope = json.loads(value)
            record = envelope["after"] or envelope["before"] or {}
        else:
            record = json.loads(value)
            del record["event_type"]
        return {**record, "_gravity": meta}

    @property
    def package(self) -> str:
        return "gravity_sink_kafka"

    def yaml(self) -> str:
        return (
            f'{{name: {self.name}, type: kafka, brokers: ["{self.brokers[0]}"], partitions: 2, '
            f"format: {self.form}}}"
        )

    def rows(self, name: str) -> Rows:
        found: Rows = {}
        for key, record in self.messages(name):
            first = str(next(iter(key.values())))
            if record is None:
                del found[first]
            else:
                cells = [cell for column, cell in record.items() if column != "_gravity"]
                found[first] = tuple(None if cell is None else str(cell) for cell in cells[1:])
        return found

    def history(self, name: str) -> list[str]:
        return [str(next(iter(key.values()))) for key, _ in self.messages(name)]

    def fill_by_others(self, schema: TableSchema) -> None:
        topic = f"{self.database}.{schema.table}"
        TopicAdmin(self.cluster).ensure([TopicSpec(topic, 2)])
        producer = LogProducer(self.cluster, "others")
        producer.send(topic, 0, b'{"id":77,"name":null}', key=b'{"id":77}')
        producer.flush()

    def refused(self) -> tuple[TableSchema, Sequence[Value], Sequence[Value]]:
        columns = [("id", "int"), ("name", "longtext")]
        schema = table(f"{self.database}.big", columns, ["id"])
        return schema, (1, "a"), (2, "x" * 21_000_000)


TABLE_KINDS = ("mariadb", "mysql", "clickhouse")
KINDS = (*TABLE_KINDS, "kafka")
OF_TABLES = pytest.mark.parametrize("server", TABLE_KINDS, indirect=True)
"""For what only targets with tables can do: a topic is told, and has nothing to alter or empty."""
KAFKA_FORMATS = ("kafka-debezium", "kafka-avro", "kafka-event")
"""The formats of a Kafka target beside flat JSON."""


def target_server(kind: str, stack: Stack) -> TargetServer:
    """A target of one of KINDS or KAFKA_FORMATS."""
    if kind == "clickhouse":
        return ClickhouseServer(stack)
    if kind.startswith("kafka"):
        return KafkaServer(stack, kind.partition("-")[2] or "json")
    return MysqlServer(stack.mariadb("target") if kind == "mariadb" else stack.mysql("target"))
