"""Kafka, MariaDB, MySQL and ClickHouse as child processes: nothing installed, nothing left."""

from gravity_devstack.clickhouse import ClickHouseServer
from gravity_devstack.database import DatabaseServer
from gravity_devstack.errors import DevstackError, FetchError, StartError, Unavailable
from gravity_devstack.kafka import KafkaServer
from gravity_devstack.stack import Stack

__all__ = [
    "ClickHouseServer",
    "DatabaseServer",
    "DevstackError",
    "FetchError",
    "KafkaServer",
    "Stack",
    "StartError",
    "Unavailable",
]
