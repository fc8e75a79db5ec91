"""The short form of `make prove WHAT=resolving ONLY=replica`."""

from __future__ import annotations

import pytest

from tests.prove.resolving_histories import RULES
from tests.prove.resolving_replica import wrong_rows


@pytest.mark.parametrize("name", RULES)
def test_random_logs_killed_at_random_end_as_the_oracle_says(name: str) -> None:
    assert wrong_rows(name, 0) + wrong_rows(name, 1) == []
