from __future__ import annotations

import signal

from gravity.testing.waiting import wait_until
from tests.integration.cli.conftest import Installation, stage_pids

STAGES = 4
"""Collector, router, resolver, sink-mysql."""


def with_users(made: Installation) -> None:
    made.sql(
        f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY, name VARCHAR(20), raw VARBINARY(9))",
        f"INSERT INTO {made.database}.users VALUES (1, 'ann', x'00ff'), (2, 'bob', NULL)",
    )


def arrived(made: Installation) -> None:
    wait_until(
        lambda: made.rows(made.copy, "users") == made.rows(made.database, "users"),
        what="the target equals the source",
    )


def test_one_command_copies_rows_tells_how_far_it_is_and_ends_on_ctrl_c(made: Installation) -> None:
    with_users(made)
    run = made.run()
    arrived(made)
    made.sql(
        f"INSERT INTO {made.database}.users VALUES (3, 'eve', x'01')",
        f"DELETE FROM {made.database}.users WHERE id = 1",
        f"UPDATE {made.database}.users SET name = 'rob' WHERE id = 2",
    )
    arrived(made)
    status = wait_until(
        lambda: (now := made.json("status", "CONFIG", "--json"))["is_caught_up"] and now,
        what="status says that all is there",
    )
    assert status["plan"] == 1
    assert status["sources"][0]["snapshot_done"] == status["sources"][0]["snapshot_total"] == 1
    assert status["targets"][0]["applied"] == 5
    assert status["targets"][0]["dead"] == 0
    topics = made.json("topics", "CONFIG", "--dry-run", "--json")["topics"]
    assert all(topic["exists"] for topic in topics)
    assert len(stage_pids(made.path)) == STAGES
    assert run.stop() == 0
    assert stage_pids(made.path) == []
    assert '"event": "halted"' not in run.text
    assert '"event": "crashed"' not in run.text


def test_no_stage_outlives_a_killed_gravity_run_and_the_next_run_goes_on(
    made: Installation,
) -> None:
    with_users(made)
    run = made.run()
    arrived(made)
    run.process.send_signal(signal.SIGKILL)
    run.wait()
    wait_until(lambda: stage_pids(made.path) == [], 10, what="all stages are gone")
    made.sql(f"INSERT INTO {made.database}.users VALUES (4, 'pam', NULL)")
    run = made.run()
    arrived(made)
    assert run.stop() == 0


def test_a_halted_stage_ends_the_run_with_its_reason_on_the_last_line(made: Installation) -> None:
    made.sql(f"CREATE TABLE {made.database}.notes (note TEXT)")
    run = made.run()
    assert run.wait() == 78
    last = run.text.splitlines()[-1]
    assert last.startswith("error: collector halted: ")
    assert "primary key" in last
    assert f"{made.database}.notes" in last
    assert stage_pids(made.path) == []


def test_a_wrong_password_is_named_before_any_stage_starts(made: Installation) -> None:
    made.configure(password="wrong")
    answer = made.gravity("run", "CONFIG")
    assert answer.returncode == 78
    assert "source shop" in answer.stderr
    assert "correct username and password" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert stage_pids(made.path) == []


def test_a_source_that_is_away_is_waited_for_and_named(made: Installation) -> None:
    made.configure(port="9")
    answer = made.gravity("run", "CONFIG", "--wait", "2")
    assert answer.returncode == 1
    assert '"event": "waiting"' in answer.stderr
    last = answer.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "source shop, 127.0.0.1:9" in last


def test_kafka_that_is_away_is_waited_for_and_named(made: Installation) -> None:
    made.configure(brokers="127.0.0.1:9")
    answer = made.gravity("run", "CONFIG", "--wait", "3")
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith("error: Kafka can't be reached")
    assert "127.0.0.1:9" in answer.stderr


def test_a_stage_alone_asks_for_activation_first(made: Installation) -> None:
    with_users(made)
    assert made.gravity("topics", "CONFIG").returncode == 0
    made.configure(more="", brokers=made.brokers)
    run = made.run("collector", "--source", "shop")
    wait_until(lambda: "source_taken_over" in run.text, what="the collector is at work")
    assert stage_pids(made.path) == [run.process.pid], "it has become the stage"
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 0


def test_an_unknown_name_is_a_mistake_on_the_command_line(made: Installation) -> None:
    answer = made.gravity("run", "CONFIG", "--source", "shpo")
    assert answer.returncode == 2
    assert "shop" in answer.stderr
