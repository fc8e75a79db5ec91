"""Three sources merged by time on a real broker: one dies, and the resolver too, while rows wait."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gravity_devstack import Stack
from typer.testing import CliRunner

from gravity.cli.main import app
from gravity.codec import decode_batch
from gravity.header import RoutedKind
from gravity.plan_compiler import SourceTable
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RowChange
from gravity.testing.target_log import table
from gravity.testing.waiting import wait_until
from tests.resolver_installation import Installation, first_sights

pytestmark = pytest.mark.stack

USERS, ORDERS, PRODUCTS = (
    table(f"shop.{name}", [("id", "int"), ("what", "varchar(20)")], ["id"])
    for name in ("users", "orders", "products")
)
MINUTE = 60
TEN_ONE, TEN_TWO = 601 * MINUTE, 602 * MINUTE
"""Seconds."""


@pytest.fixture
def install(stack: Stack, tmp_path: Path) -> Iterator[Installation]:
    kafka = stack.kafka()
    made = Installation(
        tmp_path,
        f"{kafka.host}:{kafka.port}",
        tables=[SourceTable("a", USERS), SourceTable("b", ORDERS), SourceTable("c", PRODUCTS)],
        merge="{strategy: time-ordered, max-wait: 3s}",
    )
    yield made
    made.close()


def test_rows_leave_by_commit_time_whatever_dies(install: Installation, tmp_path: Path) -> None:
    a, b, c = RoutedLog("a"), RoutedLog("b"), RoutedLog("c")

    def far(log: RoutedLog, second: int) -> None:
        install.send([log.marker(quiet_us=EPOCH_US + second * 1_000_000)])

    def rows() -> list[tuple[str, int, bool]]:
        """Source, key and lateness of what has left."""
        return [
            (header.routed.source, int(row[0] or 0), header.routed.late)
            for header, value in first_sights(install.outputs())
            if header.routed.kind is RoutedKind.ROWS
            for row in decode_batch(value).rows()
        ]

    def target() -> dict[str, Any]:
        done = CliRunner().invoke(app, ["status", str(install.path), "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)["targets"][0]
        return found

    # The example of the three sources, in another order than that of the commit times.
    install.send([b.rows(ORDERS, [RowChange("I", (1, "placed"), TEN_TWO)])])
    install.send([c.rows(PRODUCTS, [RowChange("I", (1, "changed"), TEN_ONE)])])
    install.send([a.rows(USERS, [RowChange("I", (1, "registered"), TEN_ONE)])])
    process = install.start()
    install.await_saved()
    # a may have more of 10:01, and comes before c then.
    wait_until(lambda: target()["parked_rows"] == 2, what="two rows wait, in the status")
    assert rows() == [("a", 1, False)]
    for log in (a, b, c):
        far(log, TEN_TWO + 1)
    install.await_outputs(3 + 3)
    example = [("a", 1, False), ("c", 1, False), ("b", 1, False)]
    assert rows() == example

    # c falls silent; rows of the others wait for it, and the resolver dies meanwhile.
    install.send([b.rows(ORDERS, [RowChange("I", (2, "placed"), TEN_TWO + 30)])])
    install.send([a.rows(USERS, [RowChange("I", (2, "registered"), TEN_TWO + 20)])])
    install.await_saved()
    process._process.send_signal(signal.SIGKILL)
    process.wait()
    install.empty_disk()
    process = install.start()
    far(a, TEN_TWO + 30)
    assert rows() == example

    def goes_on() -> bool:
        # The others' signs of life are the clock.
        far(a, TEN_TWO + 40)
        far(b, TEN_TWO + 40)
        return len(rows()) >= len(example) + 2

    wait_until(goes_on, what="the others go on without c")
    assert rows() == [*example, ("a", 2, False), ("b", 2, False)]
    wait_until(lambda: target()["down"] == ["c"], what="c is down, in the status")

    # It comes back with a row that has been overtaken and one that has not.
    changes = [
        RowChange("I", (2, "changed"), TEN_TWO + 10),
        RowChange("I", (3, "changed"), TEN_TWO + 50),
    ]
    install.send([c.rows(PRODUCTS, changes)])
    install.send([a.rows(USERS, [RowChange("I", (3, "registered"), TEN_TWO + 45)])])
    for log in (a, b, c):
        far(log, TEN_TWO + 100)
    wait_until(lambda: len(rows()) == len(example) + 5, what="everything has left")
    assert rows()[-3:] == [("c", 2, True), ("a", 3, False), ("c", 3, False)]
    install.await_saved()
    wait_until(lambda: target()["late_rows"] == 1, what="the late row, in the status")
    assert target()["parked_rows"] == 0
    assert process.stop() == 0, process.output()
    install.check(tmp_path / "judge")
