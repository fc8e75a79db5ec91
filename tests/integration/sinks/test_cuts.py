"""Lanes at a cut of a real MySQL or MariaDB: where they meet, who is waited for, and what survives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gravity_devstack import Stack
from gravity_sink_mysql import connection as connection_module
from gravity_sink_mysql.standing import Standing

from gravity import cut_table
from gravity.cut import CutMark, CutState, CutView
from gravity.errors import FencedError, TransientError
from gravity.sink import Lane
from gravity.testing.target_log import Message, TargetLog, table
from gravity.testing.waiting import wait_until
from tests.integration.sinks.parked.family import Family
from tests.sink_lane import Refused, cut, drain, insist, offer, retry_until, take_over
from tests.target_server import MysqlServer, target_server

pytestmark = pytest.mark.stack


@pytest.fixture(params=["mariadb", "mysql"])
def server(request: pytest.FixtureRequest, stack: Stack) -> Iterator[MysqlServer]:
    made = target_server(request.param, stack)
    assert isinstance(made, MysqlServer)
    yield made
    made.close()


class Bank:
    """Two partitions of a table, with the marker of a cut between their first and second rows."""

    def __init__(self, server: MysqlServer, *, bound_ms: int = 60_000) -> None:
        self.server = server
        server.query(f"CREATE DATABASE IF NOT EXISTS {server.database}")
        self.mark = CutMark(7, bound_ms, server.name)
        schema = table(f"{server.database}.accounts", [("id", "int"), ("amount", "int")], ["id"])
        self.topics: list[list[Message]] = []
        for part in range(2):
            log = TargetLog()
            self.topics.append([
                log.rows(schema, [("I", (part, 1))]),
                log.marker("0-1-44", cut=str(self.mark), held=part),
                log.rows(schema, [("I", (part + 10, 1))]),
            ])  # fmt: skip
        self.lanes = [take_over(server, partition=part) for part in range(2)]

    def ask(self, *, waits: bool = True) -> None:
        self.server.query(cut_table.ask(self.mark, "s1", waits=waits))

    def go_to_marker(self, part: int) -> Lane:
        lane = self.lanes[part]
        offer(lane, self.topics[part])
        lane.done(insist(lambda: lane.writer.write(cut(lane), Refused())), 0.0)
        assert lane.stored.progress.next_offset == 2
        return lane

    def finish(self, part: int) -> None:
        drain(self.lanes[part], self.topics[part])

    @property
    def rows(self) -> set[str]:
        return set(self.server.rows("accounts"))

    def point(self) -> dict[str, object]:
        names = [
            "state",
            "position",
            "source_gtids",
            "source_time_us",
            "target_gtids",
            "held",
            "parked",
            "reason",
            "running",
        ]
        found = self.server.query(
            f"SELECT {', '.join(names)} FROM {cut_table.POINTS} WHERE target='{self.server.name}'"
        )
        return dict(zip(names, found[0], strict=True))

    def executed(self) -> str:
        is_mariadb = "MariaDB" in self.server.query("SELECT VERSION()")[0][0]
        return "".join(self.server.query(cut_table.TARGET_GTIDS[is_mariadb])[0][0].split())


def stands_until(lane: Lane, stands: bool) -> None:
    """Asks as the loop does, until it is so."""
    wait_until(
        lambda: insist(lane.writer.stands) is stands, 20, what=f"stands: {stands}", every_s=0.005
    )


def looks(lane: Lane, times: int = 3) -> None:
    """Lets the lane look at the target that often."""
    for _ in range(times):
        lane.writer._standing._look_at_s = 0.0  # type: ignore[attr-defined]
        assert lane.writer.stands()


def test_lanes_stand_until_all_do_and_who_asked_lets_go(server: MysqlServer) -> None:
    bank = Bank(server)
    bank.ask()
    assert not bank.lanes[0].writer.stands()
    first = bank.go_to_marker(0)
    looks(first)
    assert bank.point()["state"] == "open"
    second = bank.go_to_marker(1)
    before = bank.executed()
    looks(second)
    looks(first)
    point = bank.point()
    assert (point["state"], point["source_gtids"], point["held"], point["parked"]) == (
        "reached", "0-1-44", 1, 0,
    )  # fmt: skip
    assert point["position"] == "1:1:1101:0"
    # Everything that was there, and what the lane wrote to be sure of that.
    assert point["target_gtids"] not in (None, before)
    assert point["target_gtids"] != bank.executed(), "the record of it comes behind it"
    assert bank.rows == {"0", "1"}
    assert first.writer.retry(first.stored, Refused()) is None
    server.query(cut_table.let_go(server.name, bank.mark.cut_id))
    for part in range(2):
        stands_until(bank.lanes[part], False)
        bank.finish(part)
    assert bank.rows == {"0", "1", "10", "11"}
    point = bank.point()
    assert (point["state"], point["running"]) == ("done", None)


def test_without_anybody_who_waits_they_go_on_at_once(server: MysqlServer) -> None:
    bank = Bank(server)
    bank.ask(waits=False)
    bank.go_to_marker(0)
    bank.go_to_marker(1)
    for lane in bank.lanes:
        stands_until(lane, False)
    assert bank.point()["state"] == "done"


def test_a_lane_that_is_taken_over_stands_on(server: MysqlServer) -> None:
    bank = Bank(server)
    bank.ask()
    frozen = bank.go_to_marker(0)
    bank.lanes[0] = successor = take_over(server, partition=0)
    assert successor.writer.stands()
    bank.go_to_marker(1)
    looks(successor)
    assert bank.point()["state"] == "reached"
    with pytest.raises(FencedError):  # Its session was ended with the takeover.
        stands_until(frozen, False)
    looks(successor)
    server.query(cut_table.let_go(server.name, bank.mark.cut_id))
    stands_until(successor, False)
    bank.finish(0)
    assert "10" in bank.rows


def test_a_frozen_lane_is_not_waited_for_beyond_the_bound_and_does_not_stand_later(
    server: MysqlServer,
) -> None:
    bank = Bank(server, bound_ms=600)
    bank.ask()
    first = bank.go_to_marker(0)
    stands_until(first, False)
    point = bank.point()
    assert (point["state"], point["running"], point["target_gtids"]) == ("given up", None, None)
    assert point["reason"] == "1 of 2 partitions had come to the marker when the time was over"
    bank.finish(0)
    bank.go_to_marker(1)
    assert not bank.lanes[1].writer.stands()
    assert bank.point()["state"] == "given up"


@pytest.mark.parametrize("when", ["open", "reached"])
def test_a_partition_that_went_on_all_the_same_is_not_among_those_that_stand(
    server: MysqlServer, when: str
) -> None:
    """Taken over by a sink of an older version, which knows no cuts."""
    bank = Bank(server)
    bank.ask()
    bank.go_to_marker(0)
    bank.go_to_marker(1)
    if when == "reached":
        looks(bank.lanes[0], 1)
        assert bank.point()["state"] == "reached"
    server.query(
        f"UPDATE `_gravity`.`_gravity_progress` SET next_offset=3 WHERE target='{server.name}' AND part=1"
    )
    looks(bank.lanes[0])
    server.query(cut_table.let_go(server.name, bank.mark.cut_id))
    assert bank.point()["state"] == when, "given up when its time is over"


def test_a_cut_that_is_forgotten_between_two_looks_is_passed(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = Bank(server)
    bank.ask()
    bank.go_to_marker(0)
    lane = bank.go_to_marker(1)
    views = iter([CutView(CutState.OPEN, is_late=False, arrived=2, places=1)])
    monkeypatch.setattr(Standing, "_view", lambda *_: next(views, None))
    for name in ("points", "arrivals"):
        server.query(f"DELETE FROM `_gravity`.`_gravity_{name}` WHERE target='{server.name}'")
    assert not lane.writer.stands()


def test_a_command_that_takes_too_long_makes_no_point(server: MysqlServer) -> None:
    bank = Bank(server, bound_ms=1500)
    bank.ask()
    bank.go_to_marker(0)
    bank.go_to_marker(1)
    looks(bank.lanes[0], 1)
    assert bank.point()["state"] == "reached"
    for lane in bank.lanes:
        stands_until(lane, False)
    server.query(cut_table.let_go(server.name, bank.mark.cut_id))
    point = bank.point()
    assert point["state"] == "given up"
    assert "the command had not ended" in str(point["reason"])


def test_a_lane_goes_by_its_own_clock_when_the_targets_goes_back(server: MysqlServer) -> None:
    bank = Bank(server, bound_ms=300)
    bank.ask()
    lane = bank.go_to_marker(0)
    server.query(f"UPDATE {cut_table.POINTS} SET deadline=deadline + INTERVAL 1 HOUR")
    stands_until(lane, False)
    assert bank.point()["state"] == "given up"


def test_who_passed_a_cut_that_was_not_open_is_not_among_those_that_stand(
    server: MysqlServer,
) -> None:
    bank = Bank(server)
    assert not bank.go_to_marker(0).writer.stands(), "the target knows of no such cut"
    bank.finish(0)
    bank.ask()
    looks(bank.go_to_marker(1))
    assert bank.point()["state"] == "open"


def test_a_lane_that_comes_when_the_time_is_over_does_not_stand(server: MysqlServer) -> None:
    bank = Bank(server)
    bank.ask()
    server.query(f"UPDATE {cut_table.POINTS} SET deadline=asked_at WHERE target='{server.name}'")
    assert not bank.go_to_marker(0).writer.stands()
    assert not server.query(f"SELECT 1 FROM {cut_table.ARRIVALS} WHERE target='{server.name}'")


def test_an_arrival_whose_answer_is_lost_is_found_out(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = Bank(server)
    bank.ask()
    lane = bank.lanes[0]
    offer(lane, bank.topics[0])
    execute = connection_module.Session.execute

    def lose(session: connection_module.Session, sql: str) -> int:
        found = execute(session, sql)
        if sql == "COMMIT":
            raise TransientError("the connection is gone")
        return found

    write = cut(lane)
    monkeypatch.setattr(connection_module.Session, "execute", lose)
    with pytest.raises(TransientError):
        lane.writer.write(write, Refused())
    monkeypatch.undo()
    assert not lane.writer.stands(), "it does not know yet"
    lane.done(lane.writer.write(write, Refused()), 0.0)
    assert lane.stored.progress.next_offset == 2
    assert lane.writer.stands()


def test_a_lane_that_loses_its_session_stands_on(server: MysqlServer) -> None:
    bank = Bank(server)
    bank.ask()
    lane = bank.go_to_marker(0)
    session = lane.writer._session  # type: ignore[attr-defined]
    server.query(f"KILL {session.connection_id}")
    with pytest.raises(TransientError):
        wait_until(lambda: looks(lane, 1), what="the session is missed")
    looks(lane)
    bank.go_to_marker(1)
    looks(lane)
    assert bank.point()["state"] == "reached"


def test_parked_rows_are_counted_and_not_tried_while_lanes_stand(server: MysqlServer) -> None:
    server.query(f"CREATE DATABASE IF NOT EXISTS {server.database}")
    server.partitions = 1
    family, log, mark = Family(server), TargetLog(), CutMark(7, 60_000, server.name)
    topic = [
        log.rows(family.child, [("I", (1, 9, 0)), ("I", (2, 8, 0))]),
        log.marker(cut=str(mark)),
    ]
    lane = take_over(server)
    server.query(cut_table.ask(mark, "s1", waits=True))
    drain(lane, topic)
    assert lane.stored.counts.parked == 2
    looks(lane)
    found = server.query(
        f"SELECT state, parked FROM {cut_table.POINTS} WHERE target='{server.name}'"
    )
    assert found == [("reached", 2)]
    server.query(f"INSERT INTO {server.database}.parent VALUES (9, 0), (8, 0)")
    lane.writer._lot._next_s = lane.writer._lot._rested_s = float("-inf")  # type: ignore[attr-defined]
    assert lane.writer.retry(lane.stored, Refused()) is None
    assert server.rows("child") == {}
    server.query(cut_table.let_go(server.name, mark.cut_id))
    stands_until(lane, False)
    retry_until(lane, lambda: set(server.rows("child")) == {"1", "2"})


def test_partitions_that_met_different_places_are_no_point(server: MysqlServer) -> None:
    bank = Bank(server)
    bank.ask()
    log = TargetLog(offset=5000)
    bank.topics[1] = [bank.topics[1][0], bank.topics[1][1]]
    log.out_seq = 1
    bank.topics[1][1] = log.marker("0-1-99", cut=str(bank.mark))
    bank.go_to_marker(0)
    bank.go_to_marker(1)
    stands_until(bank.lanes[0], False)
    point = bank.point()
    assert point["state"] == "given up"
    assert "different places" in str(point["reason"])


def test_a_target_has_one_cut_at_a_time_and_remembers_so_many(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    insist(server.writer().open)
    monkeypatch.setattr(cut_table, "POINTS_KEPT", 3)

    def ids() -> list[int]:
        sql = f"SELECT cut_id FROM {cut_table.POINTS} WHERE target='{server.name}' ORDER BY 1"
        return [row[0] for row in server.query(sql)]

    for number in range(1, 8):
        mark = CutMark(number, 60_000, server.name)
        server.query(cut_table.ask(mark, "s1", waits=True))
        server.query(cut_table.ask(CutMark(number + 100, 1, server.name), "s1", waits=True))
        assert ids()[-1] == number, "the second one is refused"
        server.query(cut_table.end_late(server.name))
        server.query(cut_table.give_up(server.name, number, "it's \\ enough"))
        for statement in cut_table.forget_old(server.name, number):
            server.query(statement)
    assert ids() == [5, 6, 7]


@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_a_target_without_a_binlog_has_no_numbers(stack: Stack, kind: str) -> None:
    off = ["--skip-log-bin"]
    made = (
        stack.mariadb("no-binlog", options=off)
        if kind == "mariadb"
        else stack.mysql("no-binlog", options=off)
    )
    server = MysqlServer(made)
    bank = Bank(server)
    bank.ask(waits=False)
    bank.go_to_marker(0)
    bank.go_to_marker(1)
    stands_until(bank.lanes[0], False)
    point = bank.point()
    assert (point["state"], point["target_gtids"]) == ("done", None)
    server.close()
