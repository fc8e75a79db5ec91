"""Whoever reads what a sink keeps at its target asks first whether it is there."""

from __future__ import annotations

import pytest

from gravity.target_table import PARKED, PROGRESS, are_there


@pytest.mark.parametrize(
    ("made", "answer"), [([], False), ([PROGRESS], False), ([PROGRESS, PARKED], True)]
)
def test_tables_are_there_once_the_sink_has_made_all_of_them(made: list[str], answer: bool) -> None:
    asked: list[str] = []

    def query(sql: str) -> list[list[str]]:
        asked.append(sql)
        return [[name] for name in made]

    assert are_there(query, PROGRESS, PARKED) is answer
    assert (
        "TABLE_SCHEMA='_gravity' AND TABLE_NAME IN ('_gravity_progress', '_gravity_parked')"
        in asked[0]
    )
