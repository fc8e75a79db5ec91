"""Rows that wait at a MySQL or MariaDB target, with its real constraints: let go, or set aside."""

from __future__ import annotations

from datetime import timedelta

import pytest
from gravity_sink_mysql import parking as parking_module
from gravity_sink_mysql import room

from gravity.config.conflict import ConflictResolution, ConflictRule, Constraint, Park
from gravity.errors import FatalError, TransientError
from gravity.schema_change import ColumnAction, ColumnChange, TableAction
from gravity.testing.target_log import TargetLog, change_of, table
from tests.integration.sinks.parked.family import (
    Family,
    constraint,
    parked_rows,
    require_conserved,
)
from tests.sink_lane import Refused, cut, drain, offer, retry_until, take_over
from tests.target_server import MysqlServer

pytestmark = pytest.mark.stack
MINUTE_US = 60_000_000


def test_a_child_waits_for_its_parent_and_is_applied_when_it_comes(server: MysqlServer) -> None:
    family, log, refused = Family(server), TargetLog(), Refused()
    topic = [
        log.rows(family.child, [("I", (1, 7, 0)), ("I", (2, None, 0)), ("I", (3, 7, 0))]),
        log.rows(family.parent, [("I", (7, 0))]),
    ]
    lane = drain(take_over(server), topic[:1], refused)
    assert server.rows("child") == {"2": ("None", "0")} or server.rows("child") == {
        "2": (None, "0")
    }
    assert parked_rows(server) == [(0, 0, '["1"]', "1452"), (0, 0, '["3"]', "1452")]
    require_conserved(server, lane, topic)
    drain(lane, topic, refused)
    retry_until(lane, lambda: lane.stored.counts.parked == 0, refused)
    assert set(server.rows("child")) == {"1", "2", "3"}
    assert lane.stored.counts.applied == 4
    assert refused.letters == []
    require_conserved(server, lane, topic)
    assert take_over(server).stored == lane.stored


def test_a_write_of_the_parent_gives_its_children_their_turn_at_once(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the server's own message names, not by the pause between rounds."""
    monkeypatch.setattr("gravity_sink_mysql.parking.ROUND_EVERY_S", 10_000.0)
    monkeypatch.setattr("gravity_sink_mysql.parking.REST", 0)
    family, log = Family(server), TargetLog()
    topic = [
        log.rows(family.child, [("I", (1, 7, 0))]),
        log.rows(family.parent, [("I", (7, 0)), ("I", (8, 0))]),
        log.rows(family.child, [("I", (2, 8, 0))]),
        log.rows(family.parent, [("D", (8, 0))]),
        log.rows(family.child, [("D", (2, 8, 0))]),
    ]
    lane = drain(take_over(server), topic[:1])
    lane.writer.retry(lane.stored, Refused())  # The first round is free.
    drain(lane, topic[:2])
    retry_until(lane, lambda: lane.stored.counts.parked == 0)
    drain(lane, topic[:4])
    assert parked_rows(server) == [(0, 3, '["8"]', "1451")]
    lane.writer.retry(lane.stored, Refused())
    drain(lane, topic)
    retry_until(lane, lambda: lane.stored.counts.parked == 0)
    assert set(server.rows("parent")) == {"7"}


def test_the_parent_may_come_in_another_partition(server: MysqlServer) -> None:
    family = Family(server)
    log, other = TargetLog(), TargetLog()
    children = drain(take_over(server), [log.rows(family.child, [("I", (1, 7, 0))])])
    drain(take_over(server, partition=1), [other.rows(family.parent, [("I", (7, 0))])])
    retry_until(children, lambda: children.stored.counts.parked == 0)
    assert set(server.rows("child")) == {"1"}


def test_a_parents_delete_waits_for_the_children_in_another_partition(server: MysqlServer) -> None:
    family, log, other = Family(server), TargetLog(), TargetLog()
    topic = [log.rows(family.parent, [("I", (7, 0))]), log.rows(family.parent, [("D", (7, 0))])]
    below = [
        other.rows(family.child, [("I", (1, 7, 0))]),
        other.rows(family.child, [("D", (1, 7, 0))]),
    ]
    parents = drain(take_over(server), topic[:1])
    children = drain(take_over(server, partition=1), below[:1])
    drain(parents, topic)
    assert parents.stored.counts.parked == 1
    assert set(server.rows("parent")) == {"7"}
    drain(children, below)
    retry_until(parents, lambda: parents.stored.counts.parked == 0)
    assert server.rows("parent") == {}
    require_conserved(server, parents, topic)


def test_a_child_without_a_parent_is_set_aside_when_the_logs_time_has_passed_in_every_lane(
    server: MysqlServer,
) -> None:
    server.conflicts = constraint(fk_parent_missing=Park(park=timedelta(minutes=10)))
    family, log, other, refused = Family(server), TargetLog(), TargetLog(), Refused()
    topic = [log.rows(family.child, [("I", (5, 6, 0)), ("U", (1, 7, 0))])]
    lane = drain(take_over(server), topic, refused)
    log.offset += 11 * MINUTE_US
    topic.append(log.marker())
    drain(lane, topic, refused)
    slow = take_over(server, partition=1)
    behind = [other.marker()]
    drain(slow, behind)

    def rounds(count: int = 3) -> None:
        for _ in range(count):
            lane.writer._lot.tried(0.0, -10.0, released=False)  # type: ignore[attr-defined]
            stored = lane.writer.retry(lane.stored, refused)
            if stored is not None:
                lane.moved(stored)

    rounds()
    assert refused.letters == [], "the parent may be in the lane that is behind"
    assert lane.stored.counts.parked == 2
    other.offset = log.offset
    drain(slow, [*behind, other.marker()])
    rounds()
    assert [(r.message.offset, r.number, r.code) for r in refused.letters] == [
        (0, 0, "1452"),
        (0, 1, "1452"),
    ]
    assert "REFERENCES `parent`" in refused.letters[0].reason
    assert (lane.stored.counts.parked, lane.stored.counts.dead) == (0, 2)
    require_conserved(server, lane, topic)


def test_a_row_copied_before_its_sources_first_commit_waits_from_that_commit_on(
    server: MysqlServer,
) -> None:
    server.partitions = 1
    family, log, refused = Family(server), TargetLog(offset=-100), Refused()
    topic = [log.rows(family.child, [("R", (1, 7, 0))])]
    lane = drain(take_over(server), topic)
    for minutes, dead in ((1_000, 0), (1_009, 0), (1_010, 1)):
        log.offset = minutes * MINUTE_US
        topic.append(log.marker())
        drain(lane, topic)
        lane.writer._lot.tried(0.0, -10.0, released=False)  # type: ignore[attr-defined]
        stored = lane.writer.retry(lane.stored, refused)
        lane.moved(stored or lane.stored)
        assert len(refused.letters) == dead
        lane = take_over(server)  # Since when it waits is stored.
    assert lane.stored.counts.parked == 0


def test_later_changes_of_a_parked_row_stand_for_it(server: MysqlServer) -> None:
    family, log, refused = Family(server), TargetLog(), Refused()
    topic = [
        log.rows(family.parent, [("I", (1, 0))]),
        log.rows(family.child, [("I", (n, 9, 0)) for n in (1, 2, 3, 4)]),
        # One moves to a parent that is there, one waits on with newer values, one goes.
        log.rows(family.child, [("U", (1, 1, 5)), ("U", (2, 9, 5)), ("D", (3, 9, 0))]),
        # And within one write: only the last counts, each ends once.
        log.rows(
            family.child, [("U", (4, 8, 6)), ("U", (4, 9, 7)), ("I", (5, 9, 1)), ("D", (5, 9, 1))]
        ),
        log.rows(family.parent, [("I", (9, 0))]),
    ]
    lane = take_over(server)
    for upto in range(1, 5):
        drain(lane, topic[:upto], refused)
        require_conserved(server, lane, topic)
    assert server.rows("child") == {"1": ("1", "5")}
    assert [row[1:3] for row in parked_rows(server)] == [(2, '["2"]'), (3, '["4"]')]
    assert lane.stored.counts.superseded == 6
    drain(lane, topic, refused)
    retry_until(lane, lambda: lane.stored.counts.parked == 0, refused)
    assert server.rows("child") == {"1": ("1", "5"), "2": ("9", "5"), "4": ("9", "7")}
    assert refused.letters == []


def test_a_refused_later_change_leaves_what_waits(server: MysqlServer) -> None:
    family, log, refused = Family(server), TargetLog(), Refused()
    server.query(f"ALTER TABLE {server.database}.child MODIFY n TINYINT")
    topic = [
        log.rows(family.child, [("I", (1, 9, 1))]),
        log.rows(family.child, [("U", (1, 9, 1000))]),
        log.rows(family.parent, [("I", (9, 0))]),
    ]
    lane = drain(take_over(server), topic, refused)
    retry_until(lane, lambda: lane.stored.counts.parked == 0, refused)
    assert [(r.message.offset, r.code) for r in refused.letters] == [(1, "1264")]
    assert server.rows("child") == {"1": ("9", "1")}
    require_conserved(server, lane, topic)


@pytest.mark.parametrize("policy", ["dlq", "park"])
def test_a_unique_value_that_another_source_holds_never_touches_that_row(
    server: MysqlServer, policy: str
) -> None:
    if policy == "park":
        server.conflicts = constraint(unique_secondary=Park())
    name = f"{server.database}.u"
    server.query(f"CREATE TABLE {name} (id INT PRIMARY KEY, code VARCHAR(9) UNIQUE)")
    schema = table(name, [("id", "int"), ("code", "varchar(9)")], ["id"])
    a, b, refused = TargetLog(source="a"), TargetLog(source="b"), Refused()
    first = [a.rows(schema, [("I", (1, "x"))])]
    second = [b.rows(schema, [("I", (2, "x")), ("I", (3, "y"))])]
    one = drain(take_over(server), first)
    two = drain(take_over(server, partition=1), second, refused)
    assert server.rows("u") == {"1": ("x",), "3": ("y",)}
    require_conserved(server, two, second)
    if policy == "dlq":
        assert [(r.row, r.code) for r in refused.letters] == [(0, "1062")]
        return
    first.append(a.rows(schema, [("U", (1, "z"))]))
    drain(one, first)
    retry_until(two, lambda: two.stored.counts.parked == 0, refused)
    assert server.rows("u") == {"1": ("z",), "2": ("x",), "3": ("y",)}
    assert refused.letters == []


def test_a_policy_of_the_table_is_followed(server: MysqlServer) -> None:
    server.conflicts = ConflictResolution(
        rules=(
            ConflictRule(
                tables=(f"{server.database}.child",),
                strategy="source-priority",
                constraint=Constraint(fk_parent_missing=Park(park=timedelta(0)), data="hold"),
            ),
        )
    )
    family, log, refused = Family(server), TargetLog(), Refused()
    topic = [log.rows(family.child, [("I", (1, 9, 1)), ("I", (2, None, 2**40))])]
    lane = drain(take_over(server), topic, refused)
    assert [(r.row, r.code) for r in refused.letters] == [(0, "1452")]
    assert [row[2:] for row in parked_rows(server)] == [('["2"]', "1264")]
    server.query(f"ALTER TABLE {server.database}.child MODIFY n BIGINT")
    retry_until(lane, lambda: lane.stored.counts.parked == 0, refused)
    assert server.rows("child")["2"][1] == str(2**40)


def test_a_lane_with_too_many_parked_rows_waits_for_the_lane_that_brings_their_parents(
    server: MysqlServer,
) -> None:
    server.parked_rows_max = 3
    family, log, other = Family(server), TargetLog(), TargetLog()
    topic = [
        log.rows(family.child, [("I", (n, 9, 0)) for n in range(3)]),
        log.rows(family.child, [("I", (7, None, 0)), ("I", (8, 8, 0))]),
    ]
    lane = drain(take_over(server), topic[:1])
    offer(lane, topic)
    write = cut(lane)
    with pytest.raises(TransientError, match="more than 3 rows would be parked"):
        lane.writer.write(write, Refused())
    assert server.rows("child") == {}
    drain(take_over(server, partition=1), [other.rows(family.parent, [("I", (9, 0))])])
    retry_until(lane, lambda: lane.stored.counts.parked == 0)
    drain(lane, topic)
    assert set(server.rows("child")) == {"0", "1", "2", "7"}
    assert lane.stored.counts.parked == 1
    require_conserved(server, lane, topic)


def test_more_rows_than_may_wait_halt_by_name_and_nothing_of_the_write_is_kept(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "ROOM_WAIT_S", 0.0)
    server.parked_rows_max = 3
    family, log = Family(server), TargetLog()
    topic = [
        log.rows(family.child, [("I", (n, 9, 0)) for n in range(3)]),
        log.rows(family.child, [("I", (7, None, 0)), ("I", (8, 9, 0))]),
    ]
    lane = drain(take_over(server), topic[:1])
    with pytest.raises(FatalError, match=r"more than 3 rows would be parked.*1452"):
        drain(lane, topic)
    assert server.rows("child") == {}
    server.parked_rows_max = 4
    again = drain(take_over(server), topic)
    assert again.stored.counts.parked == 4


def test_a_truncated_table_has_no_rows_that_wait(server: MysqlServer) -> None:
    family, log = Family(server), TargetLog()
    child = f"{server.database}.child"
    topic = [
        log.rows(family.child, [("I", (1, 9, 0)), ("I", (2, None, 0))]),
        log.schema_change(change_of(child, TableAction.TRUNCATE), partitions=(0, 0)),
        log.rows(family.parent, [("I", (9, 0))]),
        log.rows(family.child, [("I", (3, 9, 0))]),
    ]
    lane = drain(take_over(server), topic)
    assert parked_rows(server) == []
    assert set(server.rows("child")) == {"3"}
    assert (lane.stored.counts.superseded, lane.stored.counts.truncated) == (1, 1)
    require_conserved(server, lane, topic)


def test_a_parked_row_follows_the_changes_of_its_table(server: MysqlServer) -> None:
    family, log = Family(server), TargetLog()
    child = f"{server.database}.child"
    renamed = ColumnChange(ColumnAction.RENAME, "n", "number")
    topic = [
        log.rows(family.child, [("I", (1, 9, 5))]),
        log.schema_change(change_of(child, TableAction.ALTER, renamed)),
        log.rows(family.parent, [("I", (9, 0))]),
    ]
    lane = drain(take_over(server), topic)
    retry_until(lane, lambda: lane.stored.counts.parked == 0)
    assert server.named_rows("child", "id") == {"1": {"p": "9", "number": "5"}}


def test_a_row_parked_behind_a_change_of_another_partition_follows_it_once(
    server: MysqlServer,
) -> None:
    """It waits as it was sent: as it looked in the altered table it would be altered again."""
    Family(server)
    name = f"{server.database}.pair"
    server.query(
        f"CREATE TABLE {name} (id INT PRIMARY KEY, p INT, x INT, y INT, "
        f"FOREIGN KEY (p) REFERENCES {server.database}.parent(id))"
    )
    pair = table(name, [("id", "int"), ("p", "int"), ("x", "int"), ("y", "int")], ["id"])
    swapped = change_of(
        name,
        TableAction.ALTER,
        ColumnChange(ColumnAction.RENAME, "x", "y"),
        ColumnChange(ColumnAction.RENAME, "y", "x"),
    )
    first, second = TargetLog(seq=1), TargetLog(seq=2)
    topic = [first.rows(pair, [("I", (1, None, 1, 2))])]
    drain(take_over(server), topic)
    drain(take_over(server, partition=1), [second.schema_change(swapped)])
    topic.append(first.rows(pair, [("I", (2, 9, 1, 2))]))
    lane = drain(take_over(server), topic)
    assert lane.stored.counts.parked == 1
    server.query(f"INSERT INTO {server.database}.parent VALUES (9, 0)")
    retry_until(lane, lambda: lane.stored.counts.parked == 0)
    assert server.named_rows("pair", "id") == {
        "1": {"p": None, "x": "2", "y": "1"},
        "2": {"p": "9", "x": "2", "y": "1"},
    }


def test_a_taken_change_ends_the_waiting_of_its_row_although_nothing_is_refused(
    server: MysqlServer,
) -> None:
    family, log, refused = Family(server), TargetLog(), Refused()
    topic = [
        log.rows(family.parent, [("I", (1, 0))]),
        log.rows(family.child, [("I", (n, 9, 0)) for n in (1, 2)]),
        log.rows(family.child, [("U", (1, 1, 5)), ("D", (2, 9, 0)), ("I", (3, 1, 0))]),
        log.rows(family.parent, [("I", (9, 0))]),
    ]
    lane = take_over(server)
    for upto in range(1, 5):
        drain(lane, topic[:upto], refused)
        require_conserved(server, lane, topic)
    assert (lane.stored.counts.parked, lane.stored.counts.superseded) == (0, 2)
    assert lane.writer.retry(lane.stored, refused) is None
    assert server.rows("child") == {"1": ("1", "5"), "3": ("1", "0")}


def test_a_truncate_that_is_passed_over_leaves_other_tables_rows_waiting(
    server: MysqlServer,
) -> None:
    """Two tables of the source share one of the target: nothing of it is deleted, so nothing stops waiting."""
    name = server.database
    server.query(f"CREATE TABLE {name}.parent (id INT PRIMARY KEY, n INT)")
    server.query(
        f"CREATE TABLE {name}.orders (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent(id))"
    )
    parent = table(f"{name}.parent", [("id", "int"), ("n", "int")], ["id"])
    first, second = (
        table(f"shop.orders_0{n}", [("id", "int"), ("p", "int")], ["id"]) for n in (0, 1)
    )
    log, orders = TargetLog(), f"{name}.orders"
    topic = [
        log.rows(first, [("I", (1, None))], target=orders),
        log.rows(second, [("I", (2, None)), ("I", (3, 9))], target=orders),
        log.schema_change(change_of("shop.orders_00", TableAction.TRUNCATE), target=orders),
        log.rows(parent, [("I", (9, 0))]),
    ]
    server.schema_evolution = "ignore"
    lane = drain(take_over(server), topic[:3])
    assert [row[2] for row in parked_rows(server)] == ['["3"]']
    drain(lane, topic)
    retry_until(lane, lambda: not lane.stored.counts.parked)
    assert set(server.rows("orders")) == {"1", "2", "3"}
    require_conserved(server, lane, topic)


def test_a_lane_that_went_on_waits_its_whole_minute_the_next_time_there_is_no_room(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.parked_rows_max = 2
    family, log = Family(server), TargetLog()
    topic = [
        log.rows(family.child, [("I", (n, 9, 0)) for n in range(3)]),
        log.rows(family.child, [("I", (n, 10, 0)) for n in range(3, 6)]),
    ]
    lane = take_over(server)
    offer(lane, topic[:1])
    with pytest.raises(TransientError, match="more than 2"):
        lane.writer.write(cut(lane), Refused())
    drain(take_over(server, partition=1), [TargetLog().rows(family.parent, [("I", (9, 0))])])
    lane.done(lane.writer.write(cut(lane), Refused()), 0.0)
    assert lane.stored.counts.applied == 3
    clock = room.monotonic_s
    monkeypatch.setattr(room, "monotonic_s", lambda: clock() + 3600)
    offer(lane, topic)
    with pytest.raises(TransientError, match="more than 2"):
        lane.writer.write(cut(lane), Refused())


def test_rows_that_flow_do_not_wait_for_a_lock_that_a_parked_one_waits_for(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client has inserted the parent and not committed: the round fails, and is followed by a rest."""
    family, log = Family(server), TargetLog()
    lane = drain(take_over(server), topic := [log.rows(family.child, [("I", (1, 9, 0))])])
    with server.server.connect() as client, client.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"INSERT INTO {server.database}.parent VALUES (9, 0)")
        monkeypatch.setattr(parking_module, "REST", 2)
        with pytest.raises(TransientError, match="1205"):
            lane.writer.retry(lane.stored, Refused())
        topic.append(log.rows(family.child, [("I", (2, None, 0))]))
        offer(lane, topic)
        lane.done(lane.writer.write(cut(lane), Refused()), 0.0)
        assert lane.writer.retry(lane.stored, Refused()) is None, (
            "a rest, although the session is new"
        )
        cursor.execute("COMMIT")
    retry_until(lane, lambda: not lane.stored.counts.parked)
    require_conserved(server, lane, topic)
