"""The systems that are written: MySQL, ClickHouse, Kafka."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PositiveInt,
    SecretStr,
    Tag,
    WithJsonSchema,
)

from gravity.config.connection import KafkaSecurity, Tls
from gravity.config.event import Event, event_without_entry
from gravity.config.model import (
    Addresses,
    Model,
    Name,
    Pattern,
    Patterns,
    Port,
    TopicTemplate,
    missing,
    require,
)
from gravity.config.problem import Problem
from gravity.config.transform import Transform
from gravity.evolution import Policy
from gravity.pattern import parse_table_pattern, select_tables

TARGET_TYPES = ("mysql", "clickhouse", "kafka")
MYSQL_PORT = 3306
CLICKHOUSE_HTTP_PORT = 8123
UNTYPED = "untyped"

_ORDER = re.compile(r"key|table|group:[A-Za-z0-9_.-]+")


def _order(text: str) -> str:
    if not _ORDER.fullmatch(text):
        raise ValueError("must be key, table or group:<name>")
    return text


def _one_for_all(value: object) -> object:
    return {"*": value} if isinstance(value, str) else value


Order = Annotated[str, AfterValidator(_order)]
"""How wide the order of changes must be: `key`, `table` or `group:<name>`."""

OrderByTable = Annotated[
    dict[Pattern, Order],
    BeforeValidator(_one_for_all),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": "^(key|table|group:.+)$"},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]
"""An order for all tables, or a mapping from table patterns to orders."""

Format = Literal["json", "debezium", "avro", "event"]
"""How a row appears in a Kafka message."""

FormatByTable = Annotated[
    dict[Pattern, Format],
    BeforeValidator(_one_for_all),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(get_args(Format))},
                {
                    "type": "object",
                    "additionalProperties": {"type": "string", "enum": list(get_args(Format))},
                },
            ]
        }
    ),
]
"""A format for all tables, or a mapping from table patterns to formats."""


class TargetTables(Model):
    """Which tables a target takes, and in which order their changes arrive."""

    name: Name = Field(description="How everything else refers to it; part of its topics' names.")
    tables: Patterns = Field(
        ("*",),
        description=(
            "Source tables it may receive: `users`, `shop.users`, `temp_*`. Given without any "
            "routing rule for a table, this is the rule."
        ),
    )
    exclude: Patterns = Field((), description="Tables to leave out of `tables`.")
    order_by: OrderByTable = Field(
        {},
        description=(
            "How wide the order of changes must be: `key` (one row), `table`, or `group:<name>` "
            "(several tables together). One for all, or by table pattern, first match. "
            "Unset = chosen by the table's keys and by a conflict rule's `scope`."
        ),
        examples=[{"orders": "group:sales"}],
    )

    consistency: Literal["eventual", "strong"] = Field(
        "eventual",
        description=(
            "`strong`: when a COMMIT at a source returns, the target has the transaction. Every source that may "
            "feed it must have it in `semi-sync`, and all its rows go through one partition, in one order. Only for "
            "targets of type `mysql`. See docs/consistency.md."
        ),
    )
    transforms: tuple[Transform, ...] = Field(
        (),
        description=(
            "How tables differ here: names, columns, values. The first that means a table is used. "
            "See docs/routing.md."
        ),
        examples=[[{"tables": "users", "columns": {"drop": ["phone"]}}]],
    )
    schema_evolution: Policy = Field(
        "apply",
        description=(
            "What happens to the tables here when those of the source change: `apply` follows, "
            "`additive` adds, widens and renames but takes nothing away, `ignore` changes only what new "
            "rows need, `stop` halts. See docs/schema-changes.md."
        ),
    )

    def selects(self, database: str, table: str) -> bool:
        """Whether rows of the source's `table` in `database` may go here."""
        return select_tables(self.tables, self.exclude).matches(database, table)

    def order_for(self, database: str, table: str) -> str | None:
        """The order asked for (`key`, `table`, `group:<name>`), None = as the table's keys want."""
        for text, order in self.order_by.items():
            if parse_table_pattern(text).matches(database, table):
                return order
        return None

    def require_connection(self) -> None:
        """Returns if enough is known to connect.

        Raises:
            ConfigError: naming each missing key.
        """
        require(self.connection_problems())

    def connection_problems(self) -> Iterator[Problem]:
        """What is missing before anything can connect."""
        yield from ()


class MysqlTarget(TargetTables):
    """A MySQL or MariaDB server that rows are written to."""

    type: Literal["mysql"] = Field("mysql", description="`mysql` (or `mariadb`).")
    host: str | None = Field(None, min_length=1, description="Host name or address.")
    port: Port = Field(MYSQL_PORT, description="TCP port.")
    username: str | None = Field(None, min_length=1, description="Account to write with.")
    password: SecretStr | None = Field(
        None,
        description="Its password. Better `${NAME}` or `password-file: /run/secrets/name`.",
    )
    database: str | None = Field(
        None,
        min_length=1,
        description=(
            "Database to write to; unset = the source's database name. Two tables of one source that would get "
            "one name are refused."
        ),
    )
    create_tables: bool = Field(True, description="Whether missing tables are created.")
    tls: Tls | None = Field(
        None,
        description="Encryption; unset = as the server offers.",
        examples=[{"mode": "required"}],
    )

    def connection_problems(self) -> Iterator[Problem]:
        """What is missing before anything can connect."""
        if self.host is None:
            yield missing(f"target {self.name}", "host", "name the server")
        if self.username is None:
            yield missing(f"target {self.name}", "username", "name the account to write with")


class ClickhouseTarget(TargetTables):
    """A ClickHouse server that rows are written to, over HTTP."""

    type: Literal["clickhouse"] = Field("clickhouse", description="`clickhouse`.")
    host: str | None = Field(None, min_length=1, description="Host name or address.")
    port: Port = Field(
        CLICKHOUSE_HTTP_PORT,
        description="HTTP port. The native ports 9000 and 9440 are read as 8123 and 8443.",
    )
    username: str = Field("default", min_length=1, description="Account to write with.")
    password: SecretStr | None = Field(
        None,
        description="Its password. Better `${NAME}` or `password-file: /run/secrets/name`.",
    )
    database: str | None = Field(
        None,
        min_length=1,
        description=(
            "Database to write to; unset = the source's database name. Two tables of one source that would get "
            "one name are refused."
        ),
    )
    create_tables: bool = Field(True, description="Whether missing tables are created.")
    tls: Tls | None = Field(
        None, description="Encryption; unset = none.", examples=[{"mode": "required"}]
    )

    def connection_problems(self) -> Iterator[Problem]:
        """What is missing before anything can connect."""
        if self.host is None:
            yield missing(f"target {self.name}", "host", "name the server")


class KafkaTarget(TargetTables):
    """A Kafka cluster that one message per row is written to."""

    type: Literal["kafka"] = Field("kafka", description="`kafka`.")
    brokers: Addresses = Field((), description="`host:port` of some brokers.")
    security: KafkaSecurity = Field(
        KafkaSecurity(),
        description="How the cluster is reached, if not in plain text.",
        examples=[{"protocol": "ssl"}],
    )
    topic: TopicTemplate = Field(
        "{database}.{table}",
        description="Topic of a row: text with `{source}`, `{target}`, `{database}`, `{table}`.",
    )
    format: FormatByTable = Field(
        "json",
        validate_default=True,
        description=(
            "What a message says: `json` (the row as one flat object), `debezium` (before, after and source, "
            "as its MySQL connector does), `avro` (the row as a record), `event` (see `events`). One for all "
            "or by table pattern, first match, else `json`. See docs/messages.md."
        ),
        examples=[{"orders": "debezium"}],
    )
    events: tuple[Event, ...] = Field(
        (),
        description=(
            "Tables that appear as events of your own words, whatever `format` says. Tables of `format: event` "
            "that no entry names are events with all columns."
        ),
        examples=[[{"tables": "users", "fields": ["id", "name"]}]],
    )
    numbers: Literal["exact", "strings"] = Field(
        "exact",
        description=(
            "`exact`: BIGINT and BIT are JSON numbers of up to 64 bits. `strings`: they are strings, "
            "in keys too, for readers that keep only 53 bits. Decimals are strings always. "
            "Choose before the first row: keys change with it."
        ),
    )
    create_tables: bool = Field(True, description="Whether missing topics are created.")
    partitions: PositiveInt = Field(4, description="Partitions of a topic that is created.")
    replication_factor: PositiveInt = Field(1, description="Copies of a topic that is created.")

    @property
    def formats(self) -> tuple[tuple[str, str], ...]:
        """(table pattern, format) of all tables that are not flat JSON, first match."""
        events = [(pattern, "event") for event in self.events for pattern in event.tables]
        pairs = (*events, *self.format.items())
        return () if all(form == "json" for _, form in pairs) else pairs

    def format_of(self, database: str, table: str) -> Format:
        """How rows of the source's `table` appear."""
        if self._entry(database, table) is not None:
            return "event"
        for text, form in self.format.items():
            if parse_table_pattern(text).matches(database, table):
                return form
        return "json"

    def event_of(self, database: str, table: str) -> Event:
        """The event that changes of the source's `table` appear as."""
        return self._entry(database, table) or event_without_entry()

    def _entry(self, database: str, table: str) -> Event | None:
        for event in self.events:
            if select_tables(event.tables).matches(database, table):
                return event
        return None

    def connection_problems(self) -> Iterator[Problem]:
        """What is missing before anything can connect."""
        if not self.brokers:
            yield missing(f"target {self.name}", "brokers", "name some, such as [kafka1:9092]")


class UntypedTarget(TargetTables):
    """A target of which only the name and the tables are known. It loads, but cannot run."""

    type: None = Field(None, description="Not given: mysql, clickhouse or kafka.")

    def connection_problems(self) -> Iterator[Problem]:
        """What is missing before anything can connect."""
        yield missing(f"target {self.name}", "type", f"say one of {', '.join(TARGET_TYPES)}")


def _type_of(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return UNTYPED if kind is None else str(kind)


Target = Annotated[
    Annotated[MysqlTarget, Tag("mysql")]
    | Annotated[ClickhouseTarget, Tag("clickhouse")]
    | Annotated[KafkaTarget, Tag("kafka")]
    | Annotated[UntypedTarget, Tag(UNTYPED)],
    Discriminator(_type_of),
]
"""A target of any type."""
