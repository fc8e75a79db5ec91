"""docs/routing.md: its tables are fresh and its snippets load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gravity.config import parse_config
from gravity.routing_page import BLOCKS, render

PAGE = (Path(__file__).parents[3] / "docs/routing.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_tables_are_fresh() -> None:
    assert render(PAGE) == PAGE, "run: make docs"
    assert all(f"<!-- generated: {name} -->" in PAGE for name in BLOCKS)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.split("\n")[1].strip())
def test_every_snippet_is_a_configuration(snippet: str) -> None:
    loaded = parse_config(snippet, "docs/routing.md", env={})
    config = loaded.config
    transforms = [transform for target in config.targets for transform in target.transforms]
    assert config.routing or config.routing_rules or config.distribution_rules or transforms
    assert not [notice for notice in loaded.notices if "not yet active" in notice.message]
