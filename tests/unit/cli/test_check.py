"""What is found about servers, given their answers."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console

from gravity.check.finding import Finding, Findings, Verdict
from gravity.check.grant import Grants
from gravity.check.source import check_source
from gravity.check.target import check_clickhouse_target, check_mysql_target
from gravity.cli.check import chart
from gravity.config.source import Source
from gravity.config.target import ClickhouseTarget, MysqlTarget
from gravity.errors import FatalError

HEALTHY = {
    "version": "8.0.36",
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "binlog_row_value_options": "",
    "binlog_transaction_compression": "ON",
    "gtid_mode": "ON",
    "log_slave_updates": "ON",
}
REPLICATION = "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `u`@`%`"
ID = ("app", "users", "id", "int", "int", None, 10, 0, None, "NO", None, None)


class Server:
    """Answers as a healthy source would, but for what a test changes."""

    def __init__(self, **variables: str) -> None:
        self.variables = {**HEALTHY, **variables}
        self.grants = [REPLICATION]
        self.clock = "2023-11-14 22:13:20.000000"
        self.columns: list[tuple[Any, ...]] = [ID]
        self.keys: list[tuple[Any, ...]] = [("app", "users", "PRIMARY", "id", None, "")]
        self.refused = ""
        self.semi_sync: dict[str, str] = {}

    def query(self, sql: str) -> Sequence[Sequence[Any]]:
        if "semi" in sql:
            kind = "VARIABLES" if "VARIABLES" in sql else "STATUS"
            return list(self.semi_sync.items()) if kind == "VARIABLES" else []
        if "Variable_name" in sql:
            return list(self.variables.items())
        if sql.startswith("SHOW GRANTS"):
            return [(line,) for line in self.grants]
        if "UTC_TIMESTAMP" in sql:
            return [(self.clock,)]
        if "information_schema.COLUMNS" in sql:
            return self.columns
        if "information_schema.STATISTICS" in sql:
            return self.keys
        if "information_schema.TABLES" in sql:
            return [(name,) for name in ("orders", "users", "TABLES")]
        if self.refused and self.refused in sql:
            raise FatalError("SELECT command denied")
        return []

    def findings(self, **source: Any) -> dict[str, Finding]:
        made = Source(name="s", host="h", username="u", password=SecretStr("p"), **source)
        found = check_source("source s", made, self.query, repr, lambda: 1_700_000_000_000_000)
        return {finding.what: finding for finding in found}


def test_a_healthy_source_passes_everything() -> None:
    assert {f.verdict for f in Server().findings().values()} == {Verdict.PASS}


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("log_bin", "OFF", "--log-bin"),
        ("binlog_format", "MIXED", "binlog_format=ROW"),
        ("binlog_row_image", "MINIMAL", "binlog_row_image=FULL"),
        ("binlog_row_metadata", "MINIMAL", "binlog_row_metadata=FULL"),
        ("binlog_row_value_options", "PARTIAL_JSON", "binlog_row_value_options=''"),
        ("gtid_mode", "OFF", "gtid_mode to ON"),
        ("version", "5.7.44", "upgrade"),
    ],
)
def test_each_setting_that_would_lose_rows_fails_with_its_remedy(
    variable: str, value: str, remedy: str
) -> None:
    findings = Server(**{variable: value}).findings()
    failed = [name for name, f in findings.items() if f.verdict is Verdict.FAIL]
    assert failed == [variable]
    assert remedy in findings[variable].remedy


def test_images_without_blobs_are_a_warning() -> None:
    finding = Server(binlog_row_image="NOBLOB").findings()["binlog_row_image"]
    assert finding.verdict is Verdict.WARN
    assert "binlog_row_image=FULL" in finding.remedy


def test_mariadb_is_told_from_mysql_and_needs_no_gtid_mode() -> None:
    server = Server(version="11.4.5-MariaDB-log")
    del server.variables["gtid_mode"]
    findings = server.findings(type="mariadb")
    assert {f.verdict for f in findings.values()} == {Verdict.PASS}
    assert server.findings(type="mysql")["version"].verdict is Verdict.WARN


def test_missing_grants_are_named_and_a_role_is_given_the_benefit_of_the_doubt() -> None:
    server = Server()
    server.grants = ["GRANT SELECT ON *.* TO `u`@`%`"]
    finding = server.findings()["replication grants"]
    assert finding.verdict is Verdict.FAIL
    assert "REPLICATION SLAVE, REPLICATION CLIENT" in finding.remedy
    server.grants.append("GRANT `r`@`%` TO `u`@`%`")
    assert server.findings()["replication grants"].verdict is Verdict.WARN


def test_a_clock_that_is_off_is_a_warning() -> None:
    server = Server()
    server.clock = "2023-11-14 22:13:23.000000"
    finding = server.findings()["clock"]
    assert finding.verdict is Verdict.WARN
    assert "+3000 ms" in finding.detail


def test_no_table_a_table_without_key_and_a_refused_table_fail() -> None:
    server = Server()
    server.columns = []
    assert server.findings()["tables"].verdict is Verdict.FAIL
    server = Server()
    server.keys = []
    assert "app.users" in server.findings()["keys"].remedy
    server = Server()
    server.refused = "`app`.`users`"
    assert server.findings()["SELECT"].verdict is Verdict.FAIL


def test_grants_are_read_by_level() -> None:
    grants = Grants.parse(
        [
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*X'",
            "GRANT SELECT, INSERT ON `app\\_%`.* TO `u`@`%`",
            "GRANT UPDATE (`name`), DELETE ON `app_1`.* TO `u`@`%`",
            "GRANT CREATE ON `app_1`.`users` TO `u`@`%`",
            "GRANT ALL PRIVILEGES ON `o``dd`.* TO `u`@`%` WITH GRANT OPTION",
            "GRANT EXECUTE ON PROCEDURE `app_1`.`p` TO `u`@`%`",
        ]
    )
    wanted = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "EXECUTE"]
    assert grants.missing(wanted, "app_1") == ["UPDATE", "CREATE", "EXECUTE"]
    assert grants.missing(wanted, "app_2") == ["UPDATE", "DELETE", "CREATE", "EXECUTE"]
    assert grants.missing(["SELECT"], "appx1") == ["SELECT"]
    assert grants.missing(wanted, "o`dd") == []
    assert grants.missing(["SELECT"]) == ["SELECT"]
    assert not grants.has_roles


def test_a_target_that_may_not_be_written_fails() -> None:
    def query(sql: str) -> Sequence[Sequence[Any]]:
        if "VERSION()" in sql:
            return [("8.4.0", read_only)]
        if sql.startswith("SHOW GRANTS"):
            return [(grant,)]
        return [("InnoDB",)]

    target = MysqlTarget(name="t", host="h", username="u", database="out")
    read_only, grant = "0", "GRANT ALL PRIVILEGES ON *.* TO `u`@`%`"
    assert {f.verdict for f in check_mysql_target(target, query)} == {Verdict.PASS}
    read_only, grant = "1", "GRANT SELECT ON *.* TO `u`@`%`"
    failed = {f.what for f in check_mysql_target(target, query) if f.verdict is Verdict.FAIL}
    assert failed == {"read_only", "grants on _gravity", "grants on out"}


def test_semi_sync_is_looked_at_where_commits_are_to_wait() -> None:
    server = Server()
    assert not [what for what in server.findings() if "semi" in what]
    wanted = {"semi_sync": {"targets": ("t",)}}
    assert server.findings(**wanted)["semi-sync"].verdict is Verdict.FAIL
    server.semi_sync = {
        "rpl_semi_sync_source_enabled": "ON",
        "rpl_semi_sync_source_wait_point": "AFTER_SYNC",
        "rpl_semi_sync_source_timeout": "10000",
    }
    assert {f.verdict for f in server.findings(**wanted).values()} == {Verdict.PASS}
    server.semi_sync["rpl_semi_sync_source_wait_point"] = "AFTER_COMMIT"
    assert server.findings(**wanted)["rpl_semi_sync_source_wait_point"].verdict is Verdict.WARN


def test_a_name_that_means_no_table_is_told_with_the_nearest() -> None:
    found = Server().findings(tables=["users", "oders", "tmp_*"], databases=["app", "shop"])
    assert found["tables"].verdict is Verdict.PASS
    names = found["table names"]
    assert names.verdict is Verdict.WARN
    assert names.detail == "none of them is meant by oders, tmp_*"
    assert "did you mean orders?" in names.remedy
    assert found["database names"].detail == "no table is read in shop"
    assert "table names" not in Server().findings(tables=["app.*", "users"])


def test_an_error_is_found_with_its_place_but_once_with_its_server() -> None:
    error = FatalError("refused", where="source s, db1:3306", remedy="do")
    assert Findings("source s").error("reached", error).detail == "refused [db1:3306]"
    assert Findings("kafka").error("reached", FatalError("away")).detail == "away"


def test_no_word_of_the_chart_is_cut_off() -> None:
    text = Findings("source s").good("binlog_row_metadata_of_every_kind", "x" * 200)
    console = Console(width=60, file=StringIO())
    console.print(chart([text]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert shown.count("x") == 200


@pytest.mark.parametrize(
    ("more", "is_needed"),
    [
        ({}, True),
        ({"schema_evolution": "additive"}, False),
        ({"create_tables": False}, False),
    ],
)
def test_drop_is_needed_where_dropped_tables_are_followed(
    more: dict[str, Any], *, is_needed: bool
) -> None:
    grants = [
        "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER ON `wh`.* TO `u`@`%`",
        "GRANT ALL PRIVILEGES ON `_gravity`.* TO `u`@`%`",
    ]

    def query(sql: str) -> Sequence[Sequence[Any]]:
        if "VERSION()" in sql:
            return [("8.4.0", "OFF")]
        return [(line,) for line in grants] if sql.startswith("SHOW GRANTS") else [("InnoDB",)]

    target = MysqlTarget(name="t", host="h", username="u", database="wh", **more)
    found = {finding.what: finding for finding in check_mysql_target(target, query)}
    assert found["grants on _gravity"].verdict is Verdict.PASS
    failed = found["grants on wh"].verdict is Verdict.FAIL
    assert failed is is_needed
    assert ("DROP" in found["grants on wh"].detail) is is_needed


@pytest.mark.parametrize(
    ("more", "own", "rows"),
    [
        ({}, "ALTER COLUMN, DROP TABLE", "ALTER COLUMN, DROP TABLE"),
        ({"schema_evolution": "additive"}, "ALTER COLUMN, DROP TABLE", "ALTER COLUMN"),
        ({"schema_evolution": "stop"}, "ALTER ADD COLUMN", "ALTER ADD COLUMN"),
        ({"create_tables": False}, "ALTER ADD COLUMN", "ALTER ADD COLUMN"),
    ],
)
def test_clickhouse_is_asked_for_what_a_followed_schema_change_needs(
    more: dict[str, Any], own: str, rows: str
) -> None:
    asked: dict[str, str] = {}

    def query(sql: str) -> Sequence[Sequence[Any]]:
        if sql.startswith("CHECK GRANT"):
            privileges, _, database = sql.removeprefix("CHECK GRANT ").partition(" ON ")
            asked[database] = privileges
        return [("1",)] if "readonly" not in sql else [("0",)]

    target = ClickhouseTarget(name="t", host="h", database="wh", **more)
    assert {f.verdict for f in check_clickhouse_target(target, query)} == {Verdict.PASS}
    base = "SELECT, INSERT, CREATE TABLE, CREATE VIEW, DROP VIEW"
    assert asked == {"`_gravity`.*": f"{base}, {own}", "`wh`.*": f"{base}, {rows}"}
