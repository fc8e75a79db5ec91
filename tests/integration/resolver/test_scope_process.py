"""A target that stands still while a row is on hold, on a real broker, killed while it stands and as it goes on."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack import Stack
from gravity_resolver.waiting_line import RELEASED_AT_ONCE
from typer.testing import CliRunner

from gravity.cli.main import app
from gravity.codec import decode_record
from gravity.fault import FaultPoint
from gravity.testing.routed_log import RoutedLog, RowChange
from gravity.testing.waiting import wait_until
from tests.resolver_installation import LOGS, TARGET, USERS, Installation, first_sights

pytestmark = pytest.mark.stack

WAITING = 3 * RELEASED_AT_ONCE


@pytest.fixture
def install(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    kafka = stack.kafka()
    made = Installation(
        tmp_path,
        f"{kafka.host}:{kafka.port}",
        rules="[{tables: [users], strategy: error-stop, scope: job}]",
    )
    yield made
    made.close()


def gravity(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_whole_target_waits_for_a_decision_whatever_is_killed(
    install: Installation, tmp_path: Path
) -> None:
    config = str(install.path)
    a, b = RoutedLog("a"), RoutedLog("b")
    install.send([a.rows(USERS, [RowChange("I", (1, "x"), 10)])])
    install.send([b.rows(USERS, [RowChange("I", (1, "y"), 11)])])
    install.send([a.rows(LOGS, [RowChange("I", (n, "line"), 12)]) for n in range(WAITING)])
    install.send([a.marker(), b.rows(USERS, [RowChange("I", (2, "z"), 13)])])
    process = install.start()
    install.await_saved()
    assert len(first_sights(install.outputs())) == 1

    def target() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(gravity("status", config, "--json"))["targets"][0]
        return found

    wait_until(lambda: target()["waiting_rows"] == WAITING + 1, what="what waits, in the status")
    told = target()
    assert (told["holds"], told["held"]["shop.users"]["rows"]) == (1, 1)
    assert told["held"]["shop.users"]["oldest_us"] == install.inputs[0][1][0].ets
    process._process.send_signal(signal.SIGKILL)
    process.wait()
    install.empty_disk()

    (data,) = install.values(install.topics.conflicts)
    name = decode_record("conflict", data)["hold"]
    gravity("conflicts", "resolve", config, name, "--keep", "b", "--wait", "0")
    killed = install.start(fault=f"{FaultPoint.RESOLVER_SENT_IN_PART}:2:kill")
    # While what waited goes out. How much of it the broker got is a matter of luck.
    assert killed.wait() == -signal.SIGKILL, killed.output()
    assert len(first_sights(install.outputs())) <= 1 + 2 * RELEASED_AT_ONCE

    last = install.start()
    # The first row, all that waited, the marker, the decided row.
    install.await_outputs(1 + WAITING + 1 + 1 + 1)
    wait_until(lambda: target()["holds"] == target()["waiting_rows"] == 0, what="nothing waits")
    assert target()["held"] == {}
    assert last.stop() == 0, last.output()
    install.check(tmp_path / "judge")
    assert told["name"] == TARGET
