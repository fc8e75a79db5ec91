"""`gravity balance` says why it can't balance, and one look ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from structlog.testing import capture_logs

from gravity.cli import balance as module
from gravity.cli.balance import balance
from gravity.errors import TransientError

AWAY = TransientError("Kafka is away")
FILE = """
sources: [{name: s, host: h, username: u}]
targets: [{name: a, type: mysql, host: h, username: u}, {name: b, type: mysql, host: h, username: u}]
routing: [{source-tables: users, strategy: %s, targets: [a, b]}]
"""


class _OverError(Exception):
    """Ends a command that would go on for ever."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Looks at an installation whose Kafka is away; the third pause between two ends the command."""
    made: list[int] = []

    def look(_config: object) -> list[object]:
        made.append(len(made))
        raise AWAY

    def pause(_seconds: float) -> None:
        if len(made) > 2:
            raise _OverError

    monkeypatch.setattr(module, "_look_and_move", look)
    monkeypatch.setattr("gravity.cli.balance.time.sleep", pause)
    monkeypatch.setattr(module, "configure_logging", lambda _stage: None)
    return made


def written(folder: Path, strategy: str) -> Path:
    path = folder / "gravity.yaml"
    path.write_text(FILE % strategy)
    return path


def test_one_look_that_fails_is_an_error_and_with_follow_it_is_tried_again(
    tmp_path: Path, looks: list[int]
) -> None:
    file = written(tmp_path, "least-connections")
    with pytest.raises(TransientError):
        balance(file)
    assert looks == [0]
    with capture_logs() as logs, pytest.raises(_OverError):
        balance(file, follow=True)
    assert len(looks) == 3
    assert {(line["event"], line["reason"]) for line in logs} == {
        ("balance_put_off", "Kafka is away")
    }


@pytest.mark.parametrize("follow", [False, True])
def test_without_a_rule_that_balances_it_is_refused(
    tmp_path: Path, looks: list[int], *, follow: bool
) -> None:
    with pytest.raises(typer.BadParameter, match=r"no rule .* least-connections"):
        balance(written(tmp_path, "round-robin"), follow=follow)
    assert not looks
