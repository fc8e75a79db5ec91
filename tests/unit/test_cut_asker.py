"""Who asks for a cut ends it, and the command, when nobody else does."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from gravity import cut_asker
from gravity.config import parse_config
from gravity.config.target import MysqlTarget
from gravity.cut import CutState
from gravity.cut_asker import CutAsker, CutGivenUpError


class Target:
    """A target whose sinks are gone: the cut stays as it is whatever the time."""

    def __init__(self) -> None:
        self.looks = 0
        self.said: list[str] = []

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if not sql.startswith("SELECT"):
            self.said.append(sql)
            return []
        self.looks += 1
        left_us = 5_000_000 - 4_000_000 * self.looks
        fields = ("s", "1:1:4:0", "", 0, None, 0, 0, "2026-01-01", "", left_us, None)
        return [(CutState.REACHED, *fields)]


def test_a_command_that_nobody_else_ends_is_ended_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cut_asker, "_ANSWER_S", 0.01)
    config = parse_config("sources: {s: {}}\ntargets: {w: {type: mysql}}", env={}).config
    lake = config.targets[0]
    assert isinstance(lake, MysqlTarget)
    target = Target()
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with pytest.raises(CutGivenUpError, match="the command took longer"):
        CutAsker(config, "s", lake, 5.0)._run(target, command)  # type: ignore[arg-type]
    assert target.looks == 2, "one second late is not late"
    assert [sql for sql in target.said if "given up" in sql or "running=NULL" in sql]
