"""ClickHouse behind its HTTP facade, asked by the ordinary client."""

from collections.abc import Iterator

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from gravity_devstack import ClickHouseServer, Stack


@pytest.fixture
def server(stack: Stack) -> ClickHouseServer:
    return stack.clickhouse()


def connect(server: ClickHouseServer) -> Client:
    return clickhouse_connect.get_client(
        host=server.host, port=server.port, username=server.user, password=server.password
    )


@pytest.fixture
def client(server: ClickHouseServer) -> Iterator[Client]:
    client = connect(server)
    client.command("DROP TABLE IF EXISTS t")
    client.command("CREATE TABLE t (id UInt64, text String) ENGINE = MergeTree ORDER BY id")
    yield client
    client.close()


def test_rows_survive_a_kill(server: ClickHouseServer, client: Client) -> None:
    client.insert("t", [[1, "a"], [2, "ü"]], column_names=["id", "text"])
    server.kill()
    server.start()
    again = connect(server)
    assert again.query("SELECT * FROM t ORDER BY id").result_rows == [(1, "a"), (2, "ü")]


def test_a_lost_answer_means_that_the_rows_are_there(
    server: ClickHouseServer, client: Client
) -> None:
    server.fault(mode="drop_after", match="INSERT INTO", n=2)  # The client itself repeats once.
    with pytest.raises(OperationalError):
        client.insert("t", [[1, "a"]], column_names=["id", "text"])
    assert client.query("SELECT DISTINCT id FROM t").result_rows == [(1,)]


def test_a_cut_request_means_that_no_row_is_there(server: ClickHouseServer, client: Client) -> None:
    server.fault(mode="drop_before", match="INSERT INTO", n=2)
    with pytest.raises(OperationalError):
        client.insert("t", [[1, "a"]], column_names=["id", "text"])
    assert client.query("SELECT count() FROM t").result_rows == [(0,)]


def test_an_injected_error_carries_its_code_once(server: ClickHouseServer, client: Client) -> None:
    server.fault(mode="error", match="SELECT count()", code=241)
    with pytest.raises(DatabaseError, match="241"):
        client.query("SELECT count() FROM t")
    assert client.query("SELECT count() FROM t").result_rows == [(0,)]


def test_the_engine_reports_its_own_errors(client: Client) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM nowhere")


def test_a_wrong_password_is_refused(server: ClickHouseServer) -> None:
    with pytest.raises(DatabaseError, match="Authentication failed"):
        clickhouse_connect.get_client(
            host=server.host, port=server.port, username=server.user, password="wrong"
        )
