"""What MySQL decides about single cells, by the table in case.py."""

from __future__ import annotations

import pytest

from gravity.batch import Column
from gravity.condition import compile_condition
from tests.unit.condition.case import CASES, JSON, Case


@pytest.mark.parametrize("case", [*CASES, *JSON], ids=str)
def test_the_verdict_is_mysqls(case: Case) -> None:
    charset = "utf8mb4" if case.collation else None
    schema = (Column("c", case.type, nullable=True, charset=charset, collation=case.collation),)
    condition = compile_condition(case.condition)
    # Twice in one batch, with a NULL between: equal cells are decided once.
    verdicts = condition.evaluate({"c": [case.cell, None, case.cell]}, schema, 3)
    assert [verdicts[0], verdicts[2]] == [case.verdict, case.verdict]
