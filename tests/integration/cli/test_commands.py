"""The commands that look and the one that resets, against real servers."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from gravity.config import load_config
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.producer import LogProducer
from gravity.testing.waiting import wait_until
from gravity.topic import TopicSpec
from tests.integration.cli.conftest import GRAVITY, Installation


def finding(answer: Any, part: str, what: str) -> Any:
    [found] = [f for f in answer["findings"] if (f["part"], f["what"]) == (part, what)]
    return found


def test_check_passes_where_all_is_well(made: Installation) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    answer = made.gravity("check", "CONFIG", "--json")
    assert answer.returncode == 0, answer.stdout
    findings = json.loads(answer.stdout)
    assert findings["ok"]
    assert {f["part"] for f in findings["findings"]} == {
        "kafka",
        "source shop",
        f"target {made.target}",
    }
    assert finding(findings, "source shop", "binlog_row_image")["detail"] == "FULL"


def test_check_names_what_is_wrong_and_the_remedy_and_ends_with_1(made: Installation) -> None:
    made.sql(
        f"CREATE TABLE {made.database}.notes (note TEXT)",
        f"CREATE TABLE {made.database}.parents (id INT PRIMARY KEY)",
        f"CREATE DATABASE {made.copy}",
        *(
            f"CREATE TABLE {database}.children (id INT PRIMARY KEY, parent INT,"
            f" FOREIGN KEY (parent) REFERENCES {made.database}.parents (id) ON DELETE CASCADE)"
            for database in (made.database, made.copy)
        ),
    )
    answer = made.gravity("check", "CONFIG", "--json")
    assert answer.returncode == 1
    findings = json.loads(answer.stdout)
    assert not findings["ok"]
    keys = finding(findings, "source shop", "keys")
    assert keys["verdict"] == "fail"
    assert f"exclude: [{made.database}.notes]" in keys["remedy"]
    cascade = finding(findings, "source shop", "foreign keys")
    assert cascade["verdict"] == "warn"
    assert f"{made.database}.children" in cascade["detail"]
    assert f"{made.database}.parents" not in cascade["detail"]
    assert made.copy not in cascade["detail"], "which is not read"


@pytest.mark.parametrize(
    ("change", "part", "remedy"),
    [
        ({"password": "wrong"}, "source shop", "correct username and password"),
        ({"port": "9"}, "source shop", "is the server up"),
        ({"brokers": "127.0.0.1:9"}, "kafka", "is the broker up"),
    ],
    ids=["password", "source away", "kafka away"],
)
def test_check_goes_on_past_a_server_that_is_out_of_reach(
    made: Installation, change: dict[str, str], part: str, remedy: str
) -> None:
    made.configure(**change)
    answer = made.gravity("check", "CONFIG", "--json")
    assert answer.returncode == 1
    findings = json.loads(answer.stdout)
    reached = finding(findings, part, "reached")
    assert reached["verdict"] == "fail"
    assert remedy in reached["remedy"]
    assert finding(findings, f"target {made.target}", "reached")["verdict"] == "pass"


def test_an_account_without_grants_is_told_which(made: Installation) -> None:
    made.sql(
        f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)",
        f"CREATE USER poor{made.number} IDENTIFIED BY 'gravity-dev'",
        f"GRANT SELECT ON {made.database}.* TO poor{made.number}",
    )
    try:
        text = made.path.read_text()
        made.path.write_text(text.replace("username: gravity", f"username: poor{made.number}"))
        answer = made.gravity("check", "CONFIG", "--json")
    finally:
        made.sql(f"DROP USER poor{made.number}")
    assert answer.returncode == 1
    findings = json.loads(answer.stdout)
    replication = finding(findings, "source shop", "replication grants")
    assert "REPLICATION SLAVE" in replication["remedy"]
    assert finding(findings, "source shop", "SELECT")["verdict"] == "pass"
    copy = finding(findings, f"target {made.target}", f"grants on {made.copy}")
    assert copy["verdict"] == "fail"
    assert "INSERT" in copy["remedy"]


def test_the_plan_with_connect_lists_real_tables_with_their_order(made: Installation) -> None:
    made.sql(
        f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)",
        f"CREATE TABLE {made.database}.mail (id INT PRIMARY KEY, mail VARCHAR(9) UNIQUE)",
    )
    flows = made.json("plan", "CONFIG", "--connect", "--json")["flows"]
    assert {(flow["tables"][0], flow["target_table"], flow["order"]) for flow in flows} == {
        (f"{made.database}.users", f"{made.copy}.users", "key"),
        (f"{made.database}.mail", f"{made.copy}.mail", "table"),
    }


def test_tail_shows_rows_of_every_hop_and_stops_at_the_end(made: Installation) -> None:
    made.sql(
        f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY, raw VARBINARY(9))",
        f"INSERT INTO {made.database}.users VALUES (1, x'00ff')",
    )
    run = made.run()
    wait_until(lambda: made.rows(made.copy, "users"), what="the row is there")
    made.sql(f"UPDATE {made.database}.users SET raw = NULL")
    wait_until(lambda: made.rows(made.copy, "users") == [(1, None)], what="the update is there")
    assert run.stop() == 0
    for topic in ("ingest.shop", f"routed.{made.target}", f"target.{made.target}"):
        lines = made.gravity("tail", topic, "--config", "CONFIG", "--rows").stdout.splitlines()
        rows = [row for row in map(json.loads, lines) if "op" in row]
        assert [(row["op"], row["row"]) for row in rows] == [
            ("read", {"id": 1, "raw": {"base64": "AP8="}}),
            ("update", {"id": 1, "raw": None}),
        ], topic
        assert all(row["table"] == f"{made.database}.users" for row in rows)
    [first] = made.gravity(
        "tail", "ingest.shop", "--config", "CONFIG", "--limit", "1"
    ).stdout.splitlines()
    assert json.loads(first)["headers"]["kind"] == "fence"
    [second] = made.gravity(
        "tail", f"{made.prefix}ingest.shop", "--brokers", made.brokers, "--from", "1", "-n", "1"
    ).stdout.splitlines()
    assert json.loads(second)["offset"] == 1


def test_tail_shows_messages_of_others_and_damaged_ones_of_ours(made: Installation) -> None:
    cluster = load_config(made.path).config.kafka
    topic = f"{made.prefix}others"
    TopicAdmin(cluster).ensure([TopicSpec(topic, 1)])
    producer = LogProducer(cluster, "test")
    kinds = [("gv", b"1"), ("kind", b"rows"), ("owner", b"1")]
    for value, headers in (
        (b'{"a": 1}', []),
        (b"text", []),
        (b"\xff\xfe", []),
        (None, []),
        (b"damaged", kinds),
        (b"newer", [("gv", b"99"), *kinds[1:]]),
    ):
        wait_until(lambda: TopicAdmin(cluster).partition_counts().get(topic), what="the topic")
        producer.send(topic, 0, value, headers, key=b"k")
    producer.flush()
    lines = made.gravity("tail", "others", "--config", "CONFIG").stdout.splitlines()
    shown = [json.loads(line) for line in lines]
    assert [line["value"] for line in shown[:4]] == [{"a": 1}, "text", {"base64": "//4="}, None]
    assert all("error" not in line for line in shown[:4])
    assert "error" in shown[4]
    assert "99 is newer" in shown[5]["error"]


def test_a_topic_that_is_not_there_is_named_with_the_nearest(made: Installation) -> None:
    made.gravity("topics", "CONFIG", "--offline")
    answer = made.gravity("tail", "ingest.shp", "--config", "CONFIG")
    assert answer.returncode == 78
    assert f"did you mean {made.prefix}ingest.shop?" in answer.stderr


def test_status_before_anything_ran_says_what_to_do(made: Installation) -> None:
    answer = made.gravity("status", "CONFIG")
    assert answer.returncode == 78
    assert "gravity run CONFIG" in answer.stderr


def test_reset_asks_first_and_counts_its_wishes(made: Installation) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    assert made.gravity("topics", "CONFIG").returncode == 0
    asked = made.gravity("reset", "CONFIG", "--source", "shop")
    assert asked.returncode == 1
    assert f"{made.copy}.users" in asked.stderr
    control = ("tail", "gravity.control", "--config", "CONFIG")
    assert "resnapshot/" not in made.gravity(*control).stdout
    for number in (1, 2):
        done = made.json("reset", "CONFIG", "--source", "shop", "--yes", "--json")
        assert done["request"] == number
    records = [json.loads(line) for line in made.gravity(*control).stdout.splitlines()]
    wishes = [r["value"] for r in records if r["key"] == "resnapshot/shop"]
    assert wishes == [{"request": 1}, {"request": 2}]


def test_a_reader_that_has_seen_enough_is_no_error(made: Installation) -> None:
    made.gravity("topics", "CONFIG", "--offline")
    pipe = f"{GRAVITY} tail gravity.control --config {made.path} --from beginning | head -c 1"
    answer = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert answer.stderr == ""
