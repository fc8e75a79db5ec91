"""What the reads of a binlog prove about an idle source."""

from __future__ import annotations

import random
from dataclasses import dataclass

from gravity_collector.event import Event, Heartbeat
from gravity_collector.quiet import SLACK_US, QuietTime
from hypothesis import given
from hypothesis import strategies as st

BEAT = Heartbeat(1, 100)
SECOND = 1_000_000


def rows_event() -> Event:
    return object()  # type: ignore[return-value]


def test_a_heartbeat_that_was_waited_for_proves_until_when_its_read_began() -> None:
    quiet = QuietTime()
    assert quiet.until_us == 0
    quiet.read([BEAT], began_us=10 * SECOND, ended_us=11 * SECOND)
    assert quiet.until_us == 10 * SECOND - SLACK_US


def test_one_that_was_there_already_proves_only_what_the_last_empty_read_does() -> None:
    quiet = QuietTime()
    quiet.read([BEAT], began_us=10 * SECOND, ended_us=10 * SECOND)
    assert quiet.until_us == 0, "it may have been there for long, with rows behind it"
    quiet.read([], began_us=20 * SECOND, ended_us=20 * SECOND + 10)
    quiet.read([BEAT], began_us=30 * SECOND, ended_us=30 * SECOND)
    assert quiet.until_us == 20 * SECOND + 10 - SLACK_US


def test_rows_prove_by_their_own_times_and_take_no_proof_back() -> None:
    quiet = QuietTime()
    quiet.read([rows_event(), BEAT], began_us=10 * SECOND, ended_us=11 * SECOND)
    assert quiet.until_us == 0
    quiet.read([BEAT], began_us=11 * SECOND, ended_us=12 * SECOND)
    quiet.read([rows_event()], began_us=12 * SECOND, ended_us=13 * SECOND)
    quiet.read([BEAT], began_us=13 * SECOND, ended_us=13 * SECOND)
    assert quiet.until_us == 11 * SECOND - SLACK_US


@dataclass
class Server:
    """A binlog as it arrives: each event with the time at which it is there to be read."""

    arrivals: list[tuple[int, Event, int]]
    """Time, event, and commit time of its rows (0: a heartbeat)."""

    @classmethod
    def random(cls, rng: random.Random) -> Server:
        now, sent = 100 * SECOND, []
        for _ in range(40):
            now += rng.randint(1, 2 * SECOND)
            # In order, and there within a second.
            there = max(now + rng.randint(0, SECOND), sent[-1][0] if sent else 0)
            if rng.random() < 0.7:
                sent.append((there, BEAT, 0))
            else:
                commit = now // SECOND * SECOND if rng.random() < 0.5 else now
                sent.append((there, rows_event(), commit))
        return cls(sent)


@given(st.integers(0, 2**32))
def test_no_row_comes_from_before_what_was_proved_however_long_we_were_stopped(seed: int) -> None:
    rng = random.Random(seed)
    left, quiet, now = Server.random(rng).arrivals, QuietTime(), 100 * SECOND
    while left:
        if rng.random() < 0.2:
            now += rng.randint(0, 10 * SECOND)  # We were stopped, or busy.
        began, end = now, now + rng.choice((0, 10_000, SECOND))
        first = left[0][0]
        now = max(began, min(first, end))
        taken = rng.randint(1, 3)
        got = [item for item in left[:taken] if item[0] <= now]
        del left[: len(got)]
        quiet.read([event for _, event, _ in got], began_us=began, ended_us=now)
        later = [commit for _, _, commit in left if commit]
        assert all(commit >= quiet.until_us for commit in later)
