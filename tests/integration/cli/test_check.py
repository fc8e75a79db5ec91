"""`gravity check` against real servers: what is wrong is named, with its remedy."""

from __future__ import annotations

from typing import Any

import pytest
from gravity_devstack import Stack
from gravity_devstack.port import free_port

from gravity.activation import source_tables
from gravity.config import load_config
from tests.integration.cli.conftest import Installation


def findings(made: Installation) -> tuple[bool, dict[tuple[str, str], dict[str, Any]]]:
    answer = made.json("check", "CONFIG", "--json")
    return answer["ok"], {(f["part"], f["what"]): f for f in answer["findings"]}


def with_users(made: Installation) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")


def test_servers_as_they_should_be_pass_and_nothing_is_changed(made: Installation) -> None:
    with_users(made)
    ok, found = findings(made)
    assert ok, found
    assert {f["verdict"] for f in found.values()} == {"pass"}
    assert ("source shop", "binlog_row_image") in found
    assert made.gravity("check", "CONFIG").returncode == 0
    assert made.rows(made.copy, "users") == []
    there = made.json("topics", "CONFIG", "--dry-run", "--json")["topics"]
    assert not any(topic["exists"] for topic in there)


def test_a_wrong_password_is_named_and_the_other_servers_are_checked_all_the_same(
    made: Installation,
) -> None:
    with_users(made)
    made.configure(password="wrong")
    ok, found = findings(made)
    assert not ok
    finding = found["source shop", "reached"]
    assert finding["verdict"] == "fail"
    assert "(1045)" in finding["detail"]
    assert "password" in finding["remedy"]
    assert "wrong" not in str(found), "no secret is shown"
    assert found[f"target {made.target}", "reached"]["verdict"] == "pass"
    assert made.gravity("check", "CONFIG").returncode == 1


def test_every_server_of_a_source_is_checked(made: Installation) -> None:
    with_users(made)
    away = free_port()
    text = made.path.read_text().replace(
        f"type: mariadb, host: 127.0.0.1, port: {made.server.port},",
        f'type: mariadb, hosts: ["127.0.0.1:{made.server.port}", "127.0.0.1:{away}"],',
    )
    assert "hosts" in text
    made.path.write_text(text)
    ok, found = findings(made)
    assert not ok
    first, second = (f"source shop at 127.0.0.1:{port}" for port in (made.server.port, away))
    assert found[first, "binlog_format"]["verdict"] == "pass"
    assert found[second, "reached"]["verdict"] == "fail"
    assert {what for part, what in found if part == second} == {"reached"}


def test_a_plan_is_made_from_whichever_server_of_a_source_answers(made: Installation) -> None:
    with_users(made)
    text = made.path.read_text().replace(
        f"type: mariadb, host: 127.0.0.1, port: {made.server.port},",
        f'type: mariadb, hosts: ["127.0.0.1:{free_port()}", "127.0.0.1:{made.server.port}"],',
    )
    made.path.write_text(text)
    tables = source_tables(load_config(made.path).config, timeout_s=20.0)
    assert [table.schema.table for table in tables] == ["users"]


def test_a_minimal_row_image_is_named_with_its_remedy(made: Installation) -> None:
    with_users(made)
    made.sql("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        ok, found = findings(made)
    finally:
        made.sql("SET GLOBAL binlog_row_image = FULL")
    assert not ok
    failed = {key: f for key, f in found.items() if f["verdict"] == "fail"}
    assert list(failed) == [("source shop", "binlog_row_image")]
    assert "SET GLOBAL binlog_row_image=FULL" in failed["source shop", "binlog_row_image"]["remedy"]


def test_an_account_that_may_only_read_is_told_its_missing_grants(made: Installation) -> None:
    with_users(made)
    made.sql(
        f"CREATE USER '{made.database}'@'%' IDENTIFIED BY 'x'",
        f"GRANT SELECT ON {made.database}.* TO '{made.database}'@'%'",
    )
    text = made.path.read_text().replace("username: gravity,", f"username: {made.database},")
    made.path.write_text(text.replace("gravity-dev", "x"))
    try:
        ok, found = findings(made)
    finally:
        made.sql(f"DROP USER '{made.database}'@'%'")
    assert not ok
    replication = found["source shop", "replication grants"]
    assert "GRANT REPLICATION SLAVE, REPLICATION CLIENT" in replication["remedy"]
    assert found["source shop", "SELECT"]["verdict"] == "pass"
    assert "INSERT" in found[f"target {made.target}", f"grants on {made.copy}"]["detail"]


@pytest.mark.parametrize("change", [{"brokers": "127.0.0.1:9"}, {"port": "9"}])
def test_a_server_that_is_away_is_named_within_seconds(
    made: Installation, change: dict[str, str]
) -> None:
    with_users(made)
    made.configure(**change)
    ok, found = findings(made)
    assert not ok
    part = "kafka" if "brokers" in change else "source shop"
    assert found[part, "reached"]["verdict"] == "fail"
    assert found[f"target {made.target}", "reached"]["verdict"] == "pass"


def test_clickhouse_and_kafka_targets_are_asked_too(made: Installation, stack: Stack) -> None:
    with_users(made)
    house = stack.clickhouse()
    more = f"""
  - {{name: house, type: clickhouse, host: {house.host}, port: {house.port}, username: {house.user},
      password: PASSWORD, database: d}}
  - {{name: bus, type: kafka, brokers: "{made.brokers}"}}
kafka:"""
    made.path.write_text(
        made.path.read_text().replace("\nkafka:", more.replace("PASSWORD", house.password))
    )
    ok, found = findings(made)
    assert ok, found
    assert found["target house", "version"]["detail"]
    assert found["target bus", "topics"]["verdict"] == "pass"
    made.path.write_text(
        made.path.read_text().replace(house.password + ", database: d", "no, database: d")
    )
    ok, found = findings(made)
    assert not ok
    assert "password" in found["target house", "reached"]["remedy"]
