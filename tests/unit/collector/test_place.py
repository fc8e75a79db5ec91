"""A binlog opened by GTIDs: its first place is learnt without losing what was read to learn it."""

import pytest
from gravity_collector import place
from gravity_collector.binlog import StartAfterGtids, StartAtFile
from gravity_collector.event import Begin, Commit, Event, FormatDescription, Heartbeat, Rotate
from gravity_collector.owner import Ownership, Resume

from gravity.errors import PositionLostError, TransientError
from gravity.position import Position
from tests.unit.collector.server_facts import facts

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
        Begin("u:5", 7, 900, 1),
        Commit(7, 990),
        Begin("u:6", 7, 990, 1),
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


class Server:
    """Answers what is asked about its binlogs."""

    def __init__(self, sizes: dict[str, int], gtids: str = "0-1-5") -> None:
        self._sizes, self._gtids = sizes, gtids

    def query(self, sql: str) -> list[tuple[object, ...]]:
        return list(self._sizes.items()) if "BINARY LOGS" in sql else [(self._gtids,)]

    def literal(self, text: str) -> str:
        return repr(text)


@pytest.mark.parametrize(
    ("server", "complaint", "advice"),
    [
        (Server({"b.000009": 500}), "no longer has b.000007: it has b.000009", "binlog_expire"),
        (Server({}), "it has no binlog", "gravity reset --source"),
        (Server({"b.000007": 300}), "ends at 300, before where we have read, 400", "backup"),
        (Server({"b.000007": 900}, "0-2-9"), "history is another one", "reset or restored"),
    ],
)
def test_a_place_that_the_server_does_not_have_is_told_with_its_cause(
    server: Server, complaint: str, advice: str
) -> None:
    owned = Ownership(
        "s", 1, 5, Resume(Position(1, 7, 400), "0-1-5", 0, "mariadb:1", 1), frozenset(), None
    )
    with pytest.raises(PositionLostError) as caught:
        place.open_binlog(
            server,  # type: ignore[arg-type]
            facts(file_name="b.000009"),
            owned,
            lambda _: pytest.fail("opened"),
            lambda: pytest.fail("begun"),
            open_to_end=lambda _: pytest.fail("opened"),
        )
    assert complaint in caught.value.what
    assert advice in caught.value.remedy


UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


class ToEnd(Reads):
    """A binlog from a GTID set to its end."""

    closed = False

    @property
    def is_at_end(self) -> bool:
        return not self._reads

    def close(self) -> None:
        self.closed = True


def resumed(executed: str, read: str, logged: ToEnd) -> object:
    """What is opened where `read` ends, at a MySQL server that has executed and logged these."""
    resume = Resume(Position(1, 7, 400), read, 0, "mysql:1", 1)
    found, _, _ = place.open_binlog(
        Server({"b.000007": 900}),  # type: ignore[arg-type]
        facts(flavor="mysql", file_name="b.000007", gtid_set=executed, server_uuid="1"),
        Ownership("s", 1, 5, resume, frozenset(), None),
        lambda start: start,  # type: ignore[arg-type,return-value]
        lambda: pytest.fail("begun"),
        open_to_end=lambda start: (
            logged if start == StartAfterGtids(executed) else pytest.fail("opened")
        ),  # type: ignore[arg-type,return-value]
    )
    return found


def test_a_transaction_that_waits_for_an_answer_is_in_the_binlog_and_not_yet_executed() -> None:
    logged = ToEnd([Begin(f"{UUID}:6", 7, 300, 1), Commit(7, 350)], [Begin(f"{UUID}:7", 7, 350, 1)])
    assert resumed(f"{UUID}:1-5", f"{UUID}:1-7", logged) == StartAtFile("b.000007", 400)
    assert logged.closed


def test_a_history_that_is_neither_executed_nor_logged_is_another_one() -> None:
    with pytest.raises(PositionLostError, match="history is another one"):
        resumed(f"{UUID}:1-5", f"{UUID}:1-7", ToEnd([Begin(f"{UUID}:6", 7, 300, 1)]))
