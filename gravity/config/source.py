"""The servers that are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, SecretStr, model_validator

from gravity.config.connection import Tls
from gravity.config.model import (
    DatabasePatterns,
    Model,
    Name,
    Names,
    Patterns,
    Port,
    at,
    missing,
    require,
)
from gravity.config.problem import Problem
from gravity.config.start import (
    AfterGtids,
    AtFile,
    Latest,
    StartPoint,
    gtids_problem,
    parse_start,
)
from gravity.pattern import parse_glob, select_tables

SYSTEM_DATABASES = frozenset({"mysql", "information_schema", "performance_schema", "sys"})
"""Databases of the server itself; never read, whatever the patterns say."""

MYSQL_PORT = 3306
PORT_MAX = 65535
_ADDRESS = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.%]+)\]|(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)"
    r"|(?P<host>[^\s:\[\]]+))(?:(?<!:):(?P<port>\d+))?"
)


def _host_address(text: str) -> str:
    parse_address(text, MYSQL_PORT)
    return text


def _start_text(text: str) -> str:
    parse_start(text)
    return text


StartText = Annotated[str, AfterValidator(_start_text)]
HostAddress = Annotated[str, AfterValidator(_host_address)]
"""`host`, `host:port` or `[address]:port`."""


def parse_address(text: str, port: int) -> tuple[str, int]:
    """(host, port) of `host`, `host:port`, `[address]:port` or a bare IPv6 address; `port` where none is given.

    Raises ValueError for anything else.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a host, host:port or [address]:port")
    found = int(match["port"]) if match["port"] else port
    if not 1 <= found <= PORT_MAX:
        raise ValueError(f"{found} is no TCP port")
    return match["bracketed"] or match["bare"] or match["host"], found


class RateLimit(Model):
    """An upper bound on what one source is asked for."""

    rows_per_s_max: PositiveInt = Field(
        description="Rows read per second, existing ones and changes together."
    )


class SemiSync(Model):
    """Targets that a COMMIT at the source waits for, by semi-synchronous replication."""

    targets: Names = Field(
        min_length=1,
        description="The targets that must have a transaction before its COMMIT returns.",
    )


class Source(Model):
    """A MySQL or MariaDB server whose row changes are collected."""

    name: Name = Field(description="How everything else refers to it; part of its topic's name.")
    type: Literal["mysql", "mariadb"] = Field("mysql", description="Which server it is.")
    host: str | None = Field(None, min_length=1, description="Host name or address.")
    hosts: tuple[HostAddress, ...] = Field(
        (),
        description=(
            "Several servers of one replication group, best first, instead of `host`: `db1` or "
            "`db1:3307`. When the one that is read fails, reading goes on at another, by GTID."
        ),
        examples=[["db1:3306", "db2:3306"]],
    )
    port: Port = Field(MYSQL_PORT, description="TCP port.")
    username: str | None = Field(None, min_length=1, description="Account to read with.")
    password: SecretStr | None = Field(
        None,
        description="Its password. Better `${NAME}` or `password-file: /run/secrets/name`.",
    )
    priority: PositiveInt = Field(
        1, description="1 is best: wins conflicts, and is served first under backlog."
    )
    max_workers: int = Field(
        1, ge=1, le=64, description="Connections that read existing rows at the same time."
    )
    databases: DatabasePatterns = Field(
        ("*",), description="Databases to read. The server's own are never read."
    )
    tables: Patterns = Field(("*",), description="Tables to read: `users`, `shop.users`, `temp_*`.")
    exclude: Patterns = Field((), description="Tables to leave out of `tables`.")
    whole_row: Patterns = Field(
        (),
        description=(
            "Tables that have neither a primary key nor a unique key of NOT NULL columns, and are read all the "
            "same: `shop.log`. Their rows are told apart by all their values, and equal ones are counted. Costs "
            "more than a key: see docs/guarantees.md. Tables among them that have a key are read by it."
        ),
    )
    server_id: int | None = Field(
        None,
        ge=1,
        le=2**32 - 1,
        description="Replica id shown to the server; unset = made from topic prefix and source name.",
    )
    snapshot: Literal["initial", "never", "only", "when-needed"] = Field(
        "initial",
        description=(
            "`initial`: existing rows first, then changes. `never`: only changes from now. `only`: "
            "existing rows, then the source ends; a collector of none but such ends with exit code 0. A newer plan begins "
            "it again while its collector runs, else when that is started. `when-needed`: as "
            "`initial`, and again by itself whenever the position is lost (binlogs purged, another server), "
            "where the others halt; rows deleted meanwhile stay at the targets."
        ),
    )
    start: StartText = Field(
        "latest",
        description=(
            "Where in the binlog the first reading of all begins; later the log says where. `latest`; "
            "`earliest`: the oldest binlog the server has; `gtid:SET`: after these transactions; "
            "`file:NAME:OFFSET`: where no transaction is cut; `timestamp:2026-01-31T12:00:00Z`: with the "
            "first transaction in the binlog that was committed then or later. All but `latest` need "
            "`snapshot: never`."
        ),
    )
    semi_sync: SemiSync | None = Field(
        None,
        description=(
            "The server's COMMIT returns only when all of these targets have the transaction, or after the "
            "server's own timeout. The server must have semi-synchronous replication switched on: see "
            "docs/consistency.md. Unset = COMMITs wait for nobody."
        ),
        examples=[{"targets": ["warehouse"]}],
    )
    rate_limit: RateLimit | None = Field(
        None,
        description="Upper bound on reading; unset = none.",
        examples=[{"rows-per-s-max": 10000}],
    )
    tls: Tls | None = Field(
        None,
        description="Encryption; unset = as the server offers.",
        examples=[{"mode": "required"}],
    )

    @model_validator(mode="after")
    def _one_way_to_name_the_server(self) -> Self:
        if self.host is not None and self.hosts:
            raise at("hosts", "give either host or hosts")
        for index, endpoint in enumerate(self.endpoints):
            if endpoint in self.endpoints[:index]:
                raise at(f"hosts.{index}", "is named twice")
        return self

    @model_validator(mode="after")
    def _start_makes_sense(self) -> Self:
        start = self.start_point
        if not isinstance(start, Latest) and self.snapshot != "never":
            raise at(
                "start",
                "existing rows are copied as they are now, so changes are read from now on: "
                "say snapshot: never, or leave start out",
            )
        if isinstance(start, AtFile) and len(self.hosts) > 1:
            raise at("start", "a file is one server's: with several hosts give gtid or timestamp")
        if isinstance(start, AfterGtids) and (problem := gtids_problem(start.gtids, self.type)):
            raise at("start", problem)
        return self

    @model_validator(mode="after")
    def _copied_sources_end(self) -> Self:
        if self.semi_sync is not None and self.snapshot == "only":
            raise at(
                "semi-sync", "with snapshot: only no COMMIT is ever read: leave one of them out"
            )
        return self

    @property
    def start_point(self) -> StartPoint:
        """`start`, parsed."""
        return parse_start(self.start)

    @property
    def address(self) -> str | None:
        """The host to connect to: `host`, else the best of `hosts`."""
        return self.endpoints[0][0] if self.endpoints else None

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """(host, port) of each server, best first."""
        if self.host is not None:
            return ((self.host, self.port),)
        return tuple(parse_address(text, self.port) for text in self.hosts)

    def selects(self, database: str, table: str) -> bool:
        """Whether rows of `table` in `database` are read."""
        return (
            database.lower() not in SYSTEM_DATABASES
            and any(parse_glob(text).matches(database) for text in self.databases)
            and select_tables(self.tables, self.exclude).matches(database, table)
        )

    def require_connection(self) -> None:
        """Returns if enough is known to connect.

        Raises:
            ConfigError: naming each missing key.
        """
        require(self.connection_problems())

    def connection_problems(self) -> Iterator[Problem]:
        """What is missing before anything can connect."""
        part = f"source {self.name}"
        if self.address is None:
            yield missing(part, "host", "name the server, such as host: db.example.com")
        if self.username is None:
            yield missing(part, "username", "name the account to read with")
