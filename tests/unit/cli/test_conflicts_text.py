"""A list that is empty because its target is misspelt says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from gravity.cli.conflicts import doubt_target


@pytest.mark.parametrize(
    ("target", "found", "said"),
    [
        ("wharehouse", False, "no target called wharehouse is declared (did you mean warehouse?)"),
        ("wharehouse", True, ""),
        ("warehouse", False, ""),
        (None, False, ""),
    ],
)
def test_a_target_that_is_not_declared_is_doubted_where_nothing_was_found(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    target: str | None,
    *,
    found: bool,
    said: str,
) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("targets: [{name: warehouse, type: clickhouse, host: h}]")
    doubt_target(path, target, found=found)
    assert capsys.readouterr().err.strip() == said
