"""MariaDB and MySQL: ready as replication sources, and what survives a crash."""

import subprocess
from typing import Any

import pymysql
import pytest
from gravity_devstack import DatabaseServer, Stack, StartError

from tests.source_server import skipped_without


@pytest.fixture(params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest, stack: Stack) -> DatabaseServer:
    if request.param == "mariadb":
        return stack.mariadb("user-master")
    return stack.mysql("order-db")


def rows(server: DatabaseServer, sql: str, database: str | None = None) -> list[tuple[Any, ...]]:
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def variable(server: DatabaseServer, name: str) -> str:
    return str(rows(server, f"SHOW GLOBAL VARIABLES LIKE '{name}'")[0][1])


def test_it_is_a_replication_source(server: DatabaseServer) -> None:
    wanted = {
        "log_bin": "ON",
        "binlog_format": "ROW",
        "binlog_row_image": "FULL",
        "binlog_row_metadata": "FULL",
        "character_set_server": "utf8mb4",
        "time_zone": "+00:00",
        "log_slave_updates": "ON",
        "bind_address": "127.0.0.1",
        **({"gtid_mode": "ON"} if server.flavor == "mysql" else {"gtid_strict_mode": "ON"}),
    }
    assert {name: variable(server, name) for name in wanted} == wanted


def test_versions_are_the_promised_ones(stack: Stack) -> None:
    assert stack.mariadb("user-master").version.startswith("11.4.")
    assert stack.mysql("order-db").version == "8.0.15"


def test_a_fresh_server_has_no_transaction_yet(stack: Stack) -> None:
    assert rows(stack.mysql("fresh"), "SELECT @@GLOBAL.gtid_executed") == [("",)]
    assert rows(stack.mariadb("fresh"), "SELECT @@GLOBAL.gtid_binlog_pos") == [("",)]
    stack.mysql("fresh").stop()
    stack.mariadb("fresh").stop()


def test_copies_of_a_template_are_different_servers(stack: Stack) -> None:
    one, other = stack.mysql("order-db"), stack.mysql("stock-db")
    assert variable(one, "server_uuid") != variable(other, "server_uuid")
    assert variable(one, "server_id") != variable(other, "server_id")
    other.stop()


def test_committed_rows_survive_a_kill(server: DatabaseServer) -> None:
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE survives")
        cursor.execute("CREATE TABLE survives.t (id INT PRIMARY KEY, text VARCHAR(20))")
        cursor.execute("INSERT INTO survives.t VALUES (1, 'größer')")
    port = server.port
    server.kill()
    assert not server.alive
    with pytest.raises(pymysql.err.OperationalError):
        server.connect()
    server.start()
    assert server.port == port
    assert rows(server, "SELECT * FROM t", "survives") == [(1, "größer")]
    rows(server, "DROP DATABASE survives")


def test_a_frozen_server_keeps_silent_until_thawed(server: DatabaseServer) -> None:
    with server.connect(read_timeout=1) as connection, connection.cursor() as cursor:
        server.freeze()
        try:
            with pytest.raises(pymysql.err.OperationalError):
                cursor.execute("SELECT 1")
        finally:
            server.thaw()
    assert rows(server, "SELECT 1") == [(1,)]


def test_options_of_the_caller_win(stack: Stack) -> None:
    server = stack.mariadb(
        "special", options=["--binlog-row-image=MINIMAL"], innodb_lock_wait_timeout=7
    )
    assert variable(server, "binlog_row_image") == "MINIMAL"
    assert variable(server, "innodb_lock_wait_timeout") == "7"
    server.stop()


def test_a_server_that_refuses_to_start_is_quoted(stack: Stack) -> None:
    with pytest.raises(StartError) as caught:
        stack.mysql("broken", options=["--no-such-option=1"])
    assert "no-such-option" in str(caught.value)


def test_the_row_event_is_in_the_binlog(server: DatabaseServer) -> None:
    rows(server, "CREATE DATABASE logged")
    rows(server, "CREATE TABLE logged.t (id INT PRIMARY KEY)")
    rows(server, "INSERT INTO logged.t VALUES (1)")
    file = str(rows(server, "SHOW BINARY LOGS")[-1][0])
    events = {str(row[2]) for row in rows(server, f"SHOW BINLOG EVENTS IN '{file}'")}
    rows(server, "DROP DATABASE logged")
    assert "Table_map" in events
    assert {"Write_rows", "Write_rows_v1"} & events


def test_mysql_9_writes_compressed_transactions(stack: Stack) -> None:
    with skipped_without("MySQL 9.7"):
        server = stack.mysql("modern", version="9.7", binlog_transaction_compression="ON")
    assert server.version.startswith("9.")
    rows(server, "CREATE DATABASE packed")
    rows(server, "CREATE TABLE packed.t (text TEXT, id INT PRIMARY KEY)")
    rows(server, "INSERT INTO packed.t VALUES (REPEAT('x', 2000), 1)")
    file = str(rows(server, "SHOW BINARY LOGS")[-1][0])
    assert "Transaction_payload" in {
        row[2] for row in rows(server, f"SHOW BINLOG EVENTS IN '{file}'")
    }
    server.stop()


def test_mariadb_10_11_is_a_replication_source(stack: Stack) -> None:
    with skipped_without("MariaDB 10.11"):
        server = stack.mariadb("elder", version="10.11")
    assert server.version.startswith("10.11.")
    assert variable(server, "binlog_row_metadata") == "FULL"
    rows(server, "CREATE DATABASE elder")
    server.kill()
    server.start()
    assert rows(server, "SHOW DATABASES LIKE 'elder'") == [("elder",)]
    server.stop()


def test_servers_listen_on_loopback_only(server: DatabaseServer) -> None:
    listening = subprocess.run(
        ["cat", f"/proc/{server.pid}/net/tcp"], capture_output=True, text=True, check=True
    ).stdout
    port = f":{server.port:04X}"
    locals_ = {fields[1] for fields in map(str.split, listening.splitlines()) if port in fields[1]}
    assert locals_ == {f"0100007F{port}"}
