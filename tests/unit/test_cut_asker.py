"""Who asks for a cut ends it, and the command, when nobody else does."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any, Self

import pytest

from gravity import cut_asker
from gravity.config import parse_config
from gravity.config.target import MysqlTarget
from gravity.cut import CutState
from gravity.cut_asker import CutAsker, CutGivenUpError
from gravity.errors import TransientError
from gravity.topic import cut_request_key, cut_result_key


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
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    with pytest.raises(CutGivenUpError, match="the command took longer"):
        CutAsker(config, "s", lake, 5.0)._run(target, command)  # type: ignore[arg-type]
    assert target.looks == 2, "one second late is not late"
    assert [sql for sql in target.said if "given up" in sql or "running=NULL" in sql]


class Session:
    """A session at the target, which keeps what it is told."""

    def __init__(self, said: list[str]) -> None:
        self._said = said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        self._said.append(sql)
        return []


class Control:
    def __init__(self) -> None:
        self.deleted: list[str] = []

    def delete(self, key: str) -> None:
        self.deleted.append(key)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, TransientError("away")])
def test_a_cut_is_given_up_where_asking_ends_untimely_and_its_request_is_always_taken_back(
    monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    said: list[str] = []
    monkeypatch.setattr(cut_asker, "MysqlSession", lambda *_, **__: Session(said))
    config = parse_config("sources: {s: {}}\ntargets: {w: {type: mysql}}", env={}).config
    lake, control = config.targets[0], Control()
    assert isinstance(lake, MysqlTarget)
    asker = CutAsker(config, "s", lake, 5.0)
    ends = nullcontext() if error is None else pytest.raises((KeyboardInterrupt, TransientError))
    with ends, asker._ended_at_any_rate(control):  # type: ignore[arg-type]
        if error:
            raise error
    number = asker._mark.cut_id
    assert control.deleted == [cut_request_key("s", number), cut_result_key("s", number)]
    assert len(said) == (error is not None)
