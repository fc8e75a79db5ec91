"""Every target table and topic of the demo beside what the sources say."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.demo.servers import Servers
from tests.oracle.cell import Row
from tests.oracle.comparison import Comparison, compare
from tests.oracle.history import changes
from tests.oracle.server import Address, Table, describe, select_rows
from tests.oracle.target import clickhouse_rows, fold_messages, kafka_messages
from tests.oracle.verdict import latest_wins, opinions_of

Start = dict[str, tuple[str, int]]
"""Source → (binlog file, offset) behind which its changes are the live ones."""


class Judge:
    """Knows how the demo's sources began; then says what each target must hold."""

    def __init__(self, servers: Servers, start: Start) -> None:
        """`start` is where each quiet source stood after it was filled."""
        self._servers = servers
        self._database = servers.database
        self._start = start
        self._users_at_start = {
            name: select_rows(
                address, self._database, "users", describe(address, self._database, "users")
            )
            for name, address in self._user_sources()
        }

    def _user_sources(self) -> list[tuple[str, Address]]:
        """The sources that write `users`, better ones first."""
        return [("user-master", self._servers.user_master), ("order-db", self._servers.order_db)]

    def comparisons(self) -> Iterator[Comparison]:
        """One comparison for each target table or topic."""
        servers = self._servers
        users_shape = describe(servers.user_master, self._database, "users")
        users = self._users(users_shape)
        yield self._warehouse("users", users_shape, users)
        yield self._topic("users", users_shape, users)
        shape, rows = self._source(servers.user_master, "user_profiles")
        yield self._warehouse("user_profiles", shape, rows)
        yield self._topic("user_profiles", shape, rows)
        for table in ("orders", "order_items"):
            shape, rows = self._source(servers.order_db, table)
            yield self._warehouse(table, shape, rows)
        shape, rows = self._source(servers.log_db, "access_logs")
        level = shape.columns.index("log_level")
        errors = {key: row for key, row in rows.items() if row[level] == "ERROR"}
        have = clickhouse_rows(servers.clickhouse, servers.analytics, "access_logs", shape)
        yield compare(f"real-time-analytics{servers.suffix}", "access_logs", have, errors)
        yield self._topic(
            "access_logs", shape, {k: r for k, r in rows.items() if r[level] == "INFO"}
        )

    def _source(self, address: Address, table: str) -> tuple[Table, dict[Row, Row]]:
        shape = describe(address, self._database, table)
        return shape, select_rows(address, self._database, table, shape)

    def _users(self, shape: Table) -> dict[Row, Row]:
        return latest_wins(
            [
                opinions_of(
                    self._users_at_start[name],
                    changes(address, self._database, "users", shape, self._start[name]),
                    shape,
                )
                for name, address in self._user_sources()
            ]
        )

    def _warehouse(self, table: str, shape: Table, want: dict[Row, Row]) -> Comparison:
        have = select_rows(self._servers.warehouse, self._database, table, shape)
        return compare(f"data-warehouse{self._servers.suffix}", table, have, want)

    def _topic(self, table: str, shape: Table, want: dict[Row, Row]) -> Comparison:
        messages = kafka_messages(self._servers.brokers, f"{self._database}.{table}")
        return compare(
            f"analytics-kafka{self._servers.suffix}", table, fold_messages(messages, shape), want
        )
