"""A binlog opened by GTIDs: its first place is learnt without losing what was read to learn it."""

import pytest
from gravity_collector import place
from gravity_collector.event import Begin, Commit, Event, FormatDescription, Heartbeat, Rotate

from gravity.errors import TransientError
from gravity.position import Position

MADE_UP = Rotate("binlog.000007", 7, 4, artificial=True)
FORMAT = FormatDescription("8.0.15", has_checksums=True)


class Reads:
    def __init__(self, *reads: list[Event]) -> None:
        self._reads = list(reads)

    def read(self, _: float) -> list[Event]:
        return self._reads.pop(0) if self._reads else []


def test_everything_read_with_the_first_transaction_is_given_on() -> None:
    events: list[Event] = [
        MADE_UP,
        FORMAT,
        Begin("u:5", 7, 900),
        Commit(7, 990, 1),
        Begin("u:6", 7, 990),
    ]
    found, seen = place.first_place(Reads(events), "s")
    assert found == Position(1, 7, 900), (
        "the made-up rotation names a place before transactions left out"
    )
    assert seen == events


def test_an_idle_servers_place_is_where_its_heartbeat_says() -> None:
    found, seen = place.first_place(Reads([MADE_UP], [FORMAT], [Heartbeat(7, 700)]), "s")
    assert (found, len(seen)) == (Position(1, 7, 700), 3)


def test_a_server_that_says_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_FIRST_EVENT_S", 0.01)
    with pytest.raises(TransientError, match="neither transactions nor heartbeats"):
        place.first_place(Reads(), "s")
