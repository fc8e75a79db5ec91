"""The servers of the demo and the configuration that joins them: seed §6.1 with addresses filled in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gravity_devstack import Stack

from tests.oracle.server import Address

_CONFIGURATION = """\
# Gravity demo: three sources, three targets
gravity:
  sources:
    - name: "user-master"
      type: "mysql"
      host: "{user_master.host}"
      port: {user_master.port}
      username: "{user_master.user}"
      password: "{user_master.password}"
      priority: 1                    # best
      max-workers: 4
      databases: "{database}"
      tables: ["users", "user_profiles"]

    - name: "order-db"
      type: "mysql"
      host: "{order_db.host}"
      port: {order_db.port}
      username: "{order_db.user}"
      password: "{order_db.password}"
      priority: 2
      max-workers: 2
      databases: "{database}"
      tables: ["orders", "order_items", "users"]   # it writes the same users: conflicts

    - name: "log-db"
      type: "mysql"
      host: "{log_db.host}"
      port: {log_db.port}
      username: "{log_db.user}"
      password: "{log_db.password}"
      priority: 3                    # last
      max-workers: 1
      databases: "{database}"
      tables: ["access_logs"]

  targets:
    - name: "data-warehouse{suffix}"
      type: "mysql"
      host: "{warehouse.host}"
      port: {warehouse.port}
      username: "{warehouse.user}"
      password: "{warehouse.password}"

    - name: "analytics-kafka{suffix}"
      type: "kafka"
      brokers: ["{brokers}"]

    - name: "real-time-analytics{suffix}"
      type: "clickhouse"
      host: "{clickhouse.host}"
      port: {clickhouse.port}
      username: "{clickhouse.user}"
      password: "{clickhouse.password}"
      database: "{analytics}"

  routing:
    - source-tables: ["users", "user_profiles"]
      targets: ["data-warehouse{suffix}", "analytics-kafka{suffix}"]
      strategy: "broadcast"          # to all of them

    - source-tables: ["orders", "order_items"]
      targets: ["data-warehouse{suffix}"]
      strategy: "single"             # to the warehouse alone

    - source-tables: ["access_logs"]
      targets: ["analytics-kafka{suffix}", "real-time-analytics{suffix}"]
      strategy: "conditional"
      conditions:
        - if: "log_level = 'ERROR'"
          targets: ["real-time-analytics{suffix}"]
        - if: "log_level = 'INFO'"
          targets: ["analytics-kafka{suffix}"]

  conflict-resolution:
    default-strategy: "source-priority"
    custom-rules:
      - tables: ["users"]
        strategy: "timestamp-latest"

  kafka:
    brokers: ["{brokers}"]
    partitions: 2
    topic-prefix: "{prefix}"
  state:
    folder: "{state}"
"""


@dataclass(frozen=True)
class Servers:
    """Where everything runs, and under which names."""

    user_master: Address
    order_db: Address
    log_db: Address
    warehouse: Address
    clickhouse: Address
    brokers: str
    suffix: str = ""
    """Put behind databases and targets, so that several runs can share the servers."""

    @property
    def database(self) -> str:
        """The applications' database, at the sources and in the warehouse."""
        return f"app{self.suffix}"

    @property
    def analytics(self) -> str:
        """The database in ClickHouse."""
        return f"analytics{self.suffix}"

    @property
    def sources(self) -> dict[str, Address]:
        """The sources by the names of the configuration."""
        return {"user-master": self.user_master, "order-db": self.order_db, "log-db": self.log_db}


def start_servers(stack: Stack, suffix: str = "") -> Servers:
    """Starts all servers side by side."""
    stack.start_all(
        [
            "kafka",
            "mariadb:user-master",
            "mysql:order-db",
            "mariadb:log-db",
            "mariadb:data-warehouse",
            "clickhouse",
        ]
    )

    def address(server: object) -> Address:
        return Address(server.host, server.port, server.user, server.password)  # type: ignore[attr-defined]

    return Servers(
        address(stack.mariadb("user-master")),
        address(stack.mysql("order-db")),
        address(stack.mariadb("log-db")),
        address(stack.mariadb("data-warehouse")),
        address(stack.clickhouse()),
        stack.kafka().brokers,
        suffix,
    )


def write_configuration(servers: Servers, folder: Path) -> Path:
    """The configuration file for these servers."""
    path = folder / "gravity.yaml"
    path.write_text(
        _CONFIGURATION.format(
            user_master=servers.user_master,
            order_db=servers.order_db,
            log_db=servers.log_db,
            warehouse=servers.warehouse,
            clickhouse=servers.clickhouse,
            brokers=servers.brokers,
            analytics=servers.analytics,
            database=servers.database,
            suffix=servers.suffix,
            prefix=f"run{servers.suffix}." if servers.suffix else "",
            state=folder / "state",
        ),
        encoding="utf-8",
    )
    return path
