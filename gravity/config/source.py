"""The servers that are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import Field, PositiveInt, SecretStr, model_validator

from gravity.config.connection import Tls
from gravity.config.model import (
    DatabasePatterns,
    Model,
    Name,
    Patterns,
    Port,
    at,
    missing,
    require,
)
from gravity.config.problem import Problem
from gravity.pattern import parse_glob, select_tables

SYSTEM_DATABASES = frozenset({"mysql", "information_schema", "performance_schema", "sys"})
"""Databases of the server itself; never read, whatever the patterns say."""

MYSQL_PORT = 3306


class RateLimit(Model):
    """An upper bound on what one source is asked for."""

    rows_per_s_max: PositiveInt = Field(description="Rows read per second.")


class Source(Model):
    """A MySQL or MariaDB server whose row changes are collected."""

    name: Name = Field(description="How everything else refers to it; part of its topic's name.")
    type: Literal["mysql", "mariadb"] = Field("mysql", description="Which server it is.")
    host: str | None = Field(None, min_length=1, description="Host name or address.")
    hosts: tuple[str, ...] = Field(
        (), description="Several servers of one replication group, best first, instead of `host`."
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
    server_id: int | None = Field(
        None,
        ge=1,
        le=2**32 - 1,
        description="Replica id shown to the server; unset = made from the source's name.",
    )
    snapshot: Literal["initial", "never"] = Field(
        "initial",
        description="`initial`: existing rows first, then changes. `never`: only changes from now.",
    )
    rate_limit: RateLimit | None = Field(None, description="Upper bound on reading; unset = none.")
    tls: Tls | None = Field(None, description="Encryption; unset = as the server offers.")

    @model_validator(mode="after")
    def _one_way_to_name_the_server(self) -> Self:
        if self.host is not None and self.hosts:
            raise at("hosts", "give either host or hosts")
        return self

    @property
    def address(self) -> str | None:
        """The host to connect to: `host`, else the best of `hosts`."""
        return self.host or (self.hosts[0] if self.hosts else None)

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
