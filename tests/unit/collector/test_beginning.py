"""Where a time lies in the binlog: which file, asking for the first commit of few, and which transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from gravity_collector.beginning import Beginning, last_before
from gravity_collector.event import Begin, Commit, Event, Rollback
from hypothesis import given
from hypothesis import strategies as st

from gravity.config.start import AtTime
from gravity.errors import PositionLostError
from tests.unit.collector.server_facts import facts

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@given(
    st.lists(st.integers(0, 50)).map(sorted),
    st.integers(0, 3),
    st.integers(0, 50),
)
def test_the_last_file_that_begins_before_the_time(
    times: list[int], empty: int, time_us: int
) -> None:
    firsts: list[int | None] = [*times, *[None] * empty]
    asked: list[int] = []

    def first_us(number: int) -> int | None:
        asked.append(number)
        return firsts[number]

    expected = [number for number, first in enumerate(times) if first < time_us]
    assert last_before(len(firsts), first_us, time_us) == (expected[-1] if expected else None)
    assert len(asked) <= len(firsts).bit_length()


class Server:
    """A MySQL server with one binlog file, which holds these transactions; commit time None: rolled back."""

    def __init__(self, commits_us: Sequence[int | None], *, purged: str = "") -> None:
        self._purged = purged
        self._events: list[Event] = []
        for number, commit_us in enumerate(commits_us):
            at, end = 100 * (number + 1), 100 * (number + 2)
            self._events.append(Begin(f"{UUID}:{number + 1}", 1, at, commit_us or 1))
            self._events.append(Rollback(1, end) if commit_us is None else Commit(1, end))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if sql == "SHOW BINARY LOGS":
            return [("b.000001", 10_000)]
        assert "SHOW BINLOG EVENTS" in sql
        return [("b.000001", 4, "Previous_gtids", 1, 50, self._purged)]

    def literal(self, text: str) -> str:
        return repr(text)

    def begun_at(self, time_us: int) -> int:
        """The offset at which reading begins."""
        events = self._events

        class Stream:
            is_at_end = False

            def read(self, _: float) -> list[Event]:
                self.is_at_end = True
                return events

            def close(self) -> None:
                return

        beginning = Beginning(
            "s",
            self,  # type: ignore[arg-type]
            facts(flavor="mysql", gtid_purged=self._purged),
            lambda _: Stream(),  # type: ignore[arg-type, return-value]
            lambda _: Stream(),  # type: ignore[arg-type, return-value]
        )
        return beginning.open(AtTime(time_us))[1].next_position.offset


def test_a_time_before_everything_is_where_a_whole_binlog_begins_but_a_purged_one_lacks_it() -> (
    None
):
    assert Server([50, 60]).begun_at(40) == 100
    assert Server([50, 60]).begun_at(60) == 200
    with pytest.raises(PositionLostError, match="begins later"):
        Server([50, 60], purged=f"{UUID}:1-9").begun_at(40)


def test_a_transaction_that_was_rolled_back_tells_no_time() -> None:
    assert Server([None, 50, None, 60]).begun_at(55) == 400
    with pytest.raises(PositionLostError, match="begins later"):
        Server([None, 50], purged=f"{UUID}:1-9").begun_at(40)
