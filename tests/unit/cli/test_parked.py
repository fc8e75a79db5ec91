"""Rows that wait at a target, in words: why, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gravity.cli.parked import mysql_targets, then_text
from gravity.config import parse_config
from gravity.parked import WaitingRow
from gravity.supervisor import UnknownNameError

MINUTE_US = 60_000_000
ROW = WaitingRow(
    "w", "target.w", 1, 20, 3, "shop.child", '["1"]', "insert", "s", "shop.child", "1452",
    "fk_parent_missing", "", "shop.parent", 1000, 1000, 10 * MINUTE_US,
)  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (replace(ROW, park_us=None), "waits until it is taken"),
        (ROW, "dead letter in 10 min of its source's commits"),
        (replace(ROW, passed_us=1000 + 9 * MINUTE_US), "dead letter in 1 min of its source's commits"),
        (replace(ROW, passed_us=1000 + 8 * MINUTE_US), "dead letter in 2 min of its source's commits"),
        (replace(ROW, passed_us=1000 + 10 * MINUTE_US), "dead letter when it is tried next"),
        (replace(ROW, passed_us=99 * MINUTE_US), "dead letter when it is tried next"),
        (replace(ROW, park_us=0, passed_us=None), "dead letter when it is tried next"),
        (replace(ROW, since_us=0), "dead letter 10 min of its source's commits later"),
        (replace(ROW, passed_us=None), "dead letter 10 min of its source's commits later"),
    ],
)  # fmt: skip
def test_what_becomes_of_a_row(row: WaitingRow, said: str) -> None:
    assert then_text(row) == said


@pytest.mark.parametrize(
    ("code", "kind", "reason", "why"),
    [
        (
            "1062",
            "unique_secondary",
            "MySQL says 1062: Duplicate entry 'x'' for key 'y' for key 'shop.by mail'",
            "another row has its value of by mail",
        ),
        ("1062", "unique_secondary", "…", "another row has its value of a unique key"),
        (
            "1452",
            "fk_parent_missing",
            "Cannot add or update a child row (`a`.`c`, CONSTRAINT `my``fk` FOREIGN KEY (`p`) …)",
            "its parent in shop.parent is missing (my`fk)",
        ),
        ("1216", "fk_parent_missing", "…", "its parent in shop.parent is missing"),
        ("1451", "fk_child_exists", "…", "rows in shop.parent still refer to it"),
        ("1406", "data", "Data too long", "Data too long"),
    ],
)
def test_why_it_waits(code: str, kind: str, reason: str, why: str) -> None:
    assert replace(ROW, code=code, kind=kind, reason=reason).why == why


def test_only_mysql_targets_are_asked_and_a_misspelt_one_is_named() -> None:
    config = parse_config(
        """
sources: [{name: s, host: h, username: u}]
targets:
  - {name: warehouse, type: mysql, host: h, username: u}
  - {name: copy, type: mariadb, host: h, username: u}
  - {name: lake, type: clickhouse, host: h}
"""
    ).config
    assert [target.name for target in mysql_targets(config, None)] == ["warehouse", "copy"]
    assert [target.name for target in mysql_targets(config, "copy")] == ["copy"]
    with pytest.raises(UnknownNameError, match="did you mean warehouse"):
        mysql_targets(config, "warehose")
    with pytest.raises(UnknownNameError, match="no rows are ever parked at lake"):
        mysql_targets(config, "lake")
