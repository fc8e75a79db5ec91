"""What the resolver writes stays the same, byte for byte, however fast it is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.resolver_digest import digests

RECORDED = json.loads((Path(__file__).parent / "outputs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECORDED)
def test_outputs_conflicts_state_and_counters_are_those_of_the_recorded_function(name: str) -> None:
    assert digests(name) == RECORDED[name]
