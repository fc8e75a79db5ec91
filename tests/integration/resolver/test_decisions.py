"""Rows on hold on a real broker: an operator decides by the command, whatever is killed meanwhile."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from gravity_devstack import Stack
from gravity_resolver.replica import META_KEY
from typer.testing import CliRunner

from gravity.cli.main import app
from gravity.codec import decode_batch, decode_record
from gravity.decision import Note, RowName, retry
from gravity.header import RoutedKind
from gravity.testing.routed_log import RoutedLog, RowChange
from gravity.testing.waiting import wait_until
from tests.resolver_installation import TARGET, USERS, Installation, first_sights

TABLE = "shop.users"


@pytest.fixture
def install(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    kafka = stack.kafka()
    made = Installation(tmp_path, f"{kafka.host}:{kafka.port}", strategy="error-stop")
    yield made
    made.close()


def gravity(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def lines(*words: str) -> list[Any]:
    done = gravity(*words)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def names_at_the_target(install: Installation) -> dict[int, str]:
    rows: dict[int, str] = {}
    for header, value in first_sights(install.outputs()):
        if header.routed.rows:
            batch = decode_batch(value)
            for op, row in zip(batch.ops, batch.rows(), strict=True):
                if chr(op) == "D":
                    rows.pop(row[0], None)
                else:
                    rows[row[0]] = row[1]
    return rows


def records(install: Installation) -> list[dict[str, Any]]:
    return [decode_record("conflict", data) for data in install.values(install.topics.conflicts)]


def test_a_decision_survives_whatever_is_killed_or_emptied(install: Installation) -> None:
    config = str(install.path)
    install.send([RoutedLog("a").rows(USERS, [RowChange("I", (k, "x"), 10) for k in (1, 2)])])
    install.send([RoutedLog("b").rows(USERS, [RowChange("I", (k, "y"), 11) for k in (1, 2)])])
    process = install.start()
    wait_until(lambda: len(records(install)) >= 2, 60, what="two holds")
    first, second = lines("conflicts", "list", config, "--json")
    assert [json.loads(hold["key"]) for hold in (first, second)] == [[1], [2]]
    assert names_at_the_target(install) == {1: "x", 2: "x"}

    (decided,) = lines("conflicts", "resolve", config, first["name"], "--keep", "b", "--wait", "60")
    assert (decided["outcome"], decided["row"]) == ("row", {"id": 1, "name": "y"})
    # The next decision finds nobody at work, and a new machine.
    process._process.send_signal(signal.SIGKILL)
    process.wait()
    install.empty_disk()
    own = ["conflicts", "resolve", config, second["name"], "--row", '{"name": "mine"}']
    done = gravity(*own, "--reason", "told so", "--wait", "0")
    assert done.exit_code == 0, done.output
    assert "no answer" in done.stderr
    install.start()
    wait_until(
        lambda: names_at_the_target(install) == {1: "y", 2: "mine"}, 90, what="both decisions"
    )
    assert lines("conflicts", "list", config, "--json") == []
    (shown,) = lines("conflicts", "show", config, second["name"])
    assert (shown["state"], shown["winner"]) == ("decided", "@operator")

    outputs, state = install.function_of_the_log()
    assert first_sights(install.outputs()) == outputs
    assert json.loads(state[META_KEY])["holds"] == 0


def test_dead_letters_are_listed_and_given_up_with_a_reason(install: Installation) -> None:
    config = str(install.path)
    header, value = retry(RowName(TARGET, TABLE, "[7]", ("id",)), Note(install.plan.version, 1))
    install.send_raw(header.to_kafka(), value)
    install.flush()
    install.start()
    wait_until(lambda: install.values(install.topics.dead_letters), 60, what="a dead letter")
    (letter,) = lines("dead-letters", "list", config, "--json")
    assert "no source has spoken of" in letter["reason"]
    left = gravity("dead-letters", "replay", config, letter["name"])
    assert left.exit_code == 1
    assert "left: " in left.stderr
    gone = gravity(
        "dead-letters", "discard", config, "--filter", f"target={TARGET}", "--reason", "a mistake"
    )
    assert gone.exit_code == 0, gone.output
    assert lines("dead-letters", "list", config, "--json") == []
    (kept,) = lines("dead-letters", "list", config, "--json", "--all")
    assert (kept["state"], kept["note"]) == ("discarded", "a mistake")


def test_who_sees_a_marker_at_the_target_can_see_that_a_row_before_it_is_on_hold(
    install: Installation,
) -> None:
    logs = RoutedLog("a"), RoutedLog("b")
    install.start()
    for key in range(1, 11):
        for log, name in zip(logs, "xy", strict=True):
            install.send([log.rows(USERS, [RowChange("I", (key, name), 10)])])
        install.send([logs[0].marker()])

        def markers() -> int:
            return sum(
                header.routed.kind is RoutedKind.MARKER
                for header, _ in first_sights(install.outputs())
            )

        wait_until(lambda key=key: markers() >= key, 60, what=f"marker {key}")  # type: ignore[misc]
        told = [json.loads(value) for value in install.values(install.topics.progress)]
        assert max((record.get("holds", 0) for record in told), default=0) == key
