"""Rows that wait at a target whose sink is killed, set back, or overtaken: each is applied once."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import pytest
from gravity_sink_mysql import connection as connection_module
from gravity_sink_mysql import fence as fence_module
from gravity_sink_mysql import writer as writer_module
from gravity_sink_mysql.parked_table import ParkedTable

from gravity.errors import FatalError, TransientError
from gravity.testing.target_log import Change, Message, TargetLog
from tests.integration.sinks.parked.family import Family, parked_rows, require_conserved
from tests.sink_lane import Refused, drain, insist, offer, retry_until, take_over
from tests.target_server import MysqlServer

pytestmark = pytest.mark.stack
MINUTE_US = 60_000_000


class KilledError(Exception):
    """Stands for the end of the process."""


def test_a_lane_killed_anywhere_applies_every_row_once(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random histories of a source with foreign keys, two partitions, killed before and behind COMMIT."""
    family, draw = Family(server), random.Random(11)
    deadly = {"before": 0.0}

    def reach(_point: object) -> None:
        if draw.random() < deadly["before"]:
            raise KilledError

    monkeypatch.setattr(writer_module, "reach", reach)
    monkeypatch.setattr("gravity_sink_mysql.parking.ROUND_EVERY_S", 0.0)
    monkeypatch.setattr("gravity_sink_mysql.parking.REST", 0)
    logs = [TargetLog(), TargetLog()]
    topics: list[list[Message]] = [[], []]
    parents: dict[int, int] = {}
    children: dict[int, tuple[int | None, int]] = {}
    for number in range(120):
        name, key = draw.choice(["parent", "child", "child"]), draw.randrange(6)
        change: Change | None = None
        if name == "parent":
            if draw.random() < 0.6:
                parents[key] = number
                change = ("U", (key, number))
            elif key in parents and all(p != key for p, _ in children.values()):
                change = ("D", (key, parents.pop(key)))
        elif draw.random() < 0.3 and key in children:
            change = ("D", (key, *children.pop(key)))
        elif draw.random() < 0.8 and parents:
            children[key] = (draw.choice(list(parents)), number)
            change = ("U", (key, *children[key]))
        if change is not None:
            schema = family.parent if name == "parent" else family.child
            q = (key + (name == "child")) % 2
            topics[q].append(logs[q].rows(schema, [change]))
    lanes = [take_over(server, partition=q) for q in range(2)]
    deadly["before"] = 0.15
    refused, ahead = Refused(), 0
    while any(
        lane.stored.progress.next_offset < len(topic) or lane.stored.counts.parked
        for lane, topic in zip(lanes, topics, strict=True)
    ):
        ahead += 1
        assert ahead < 3000, [lane.stored.counts for lane in lanes]
        q = draw.randrange(2)
        lane, topic = lanes[q], topics[q]
        try:
            start = lane.stored.progress.next_offset
            if draw.random() < 0.6 and start < len(topic):
                offer(lane, topic[: start + draw.randint(1, 5)])
                while (write := lane.cut(0.0)) is not None:
                    lane.done(insist(partial(lane.writer.write, write, refused)), 0.0)
            else:
                stored = lane.writer.retry(lane.stored, refused)
                if stored is not None:
                    lane.moved(stored)
            if draw.random() < 0.1:
                raise KilledError
        except KilledError:
            lane.writer.close()
            lanes[q] = lane = take_over(server, partition=q)
        require_conserved(server, lane, topic)
    assert refused.letters == []
    assert server.rows("parent") == {str(key): (str(n),) for key, n in parents.items()}
    assert server.rows("child") == {
        str(key): tuple(None if cell is None else str(cell) for cell in cells)
        for key, cells in children.items()
    }
    assert sum(lane.stored.counts.superseded for lane in lanes) > 0, (
        "the history parks and replaces rows"
    )


def test_a_round_whose_answer_is_lost_is_found_out_with_the_next_write(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, log = Family(server), TargetLog()
    topic = [
        log.rows(family.child, [("I", (1, 9, 0)), ("I", (2, 8, 0))]),
        log.rows(family.parent, [("I", (9, 0))]),
        log.rows(family.parent, [("I", (5, 0))]),
    ]
    lane = drain(take_over(server), topic[:2])
    execute = connection_module.Session.execute

    def lose(session: connection_module.Session, sql: str) -> int:
        found = execute(session, sql)
        if sql == "COMMIT":
            raise TransientError("the connection is gone")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(connection_module.Session, "execute", lose)
        with pytest.raises(TransientError):
            lane.writer.retry(lane.stored, Refused())
    assert set(server.rows("child")) == {"1"}, "the round was durable"
    assert lane.writer.retry(lane.stored, Refused()) is None, "what is stored is not known here"
    drain(lane, topic)
    assert lane.stored.counts.parked == 1
    require_conserved(server, lane, topic)
    assert take_over(server).stored == lane.stored


def test_a_lane_set_back_by_hand_begins_without_parked_rows(server: MysqlServer) -> None:
    family, log = Family(server), TargetLog()
    topic = [log.rows(family.child, [("I", (1, 9, 0))])]
    lane = drain(take_over(server), topic)
    require_conserved(server, lane, topic)
    server.query(f"DELETE FROM _gravity._gravity_progress WHERE target='{server.name}'")
    again = drain(take_over(server), topic)
    require_conserved(server, again, topic)
    server.query(f"DELETE FROM _gravity._gravity_parked WHERE target='{server.name}'")
    with pytest.raises(FatalError, match="0 rows are parked, but the progress row says 1"):
        take_over(server)


def test_an_older_lane_that_wakes_up_moves_no_parked_row(server: MysqlServer) -> None:
    family, log = Family(server), TargetLog()
    topic = [log.rows(family.child, [("I", (1, 9, 0))])]
    old = drain(take_over(server), topic)
    new = take_over(server)
    server.query(f"INSERT INTO {server.database}.parent VALUES (9, 0)")
    with pytest.raises(Exception, match=r"another process owns this lane|connection"):
        old.writer.retry(old.stored, Refused())
    retry_until(new, lambda: new.stored.counts.parked == 0)
    assert new.stored.counts.applied == 1
    require_conserved(server, new, topic)


def test_who_was_slow_to_take_a_lane_over_takes_no_row_from_its_next_owner(
    server: MysqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What belongs to rows that are yet to come is dropped at a takeover, and nobody comes in between."""
    family, topic = Family(server), TargetLog()
    rows = [topic.rows(family.child, [("I", (1, 9, 0))])]
    take_over(server)
    load, owners = ParkedTable.load, []

    def slow_load(self: ParkedTable, *arguments: Any, **keywords: Any) -> Any:
        if not owners:
            owners.append(None)
            with monkeypatch.context() as patch:
                patch.setattr(fence_module, "_GIVE_UP_AFTER_S", 0.0)
                with pytest.raises(TransientError, match="1205"):
                    server.writer(create=False).take_over(0)
        return load(self, *arguments, **keywords)

    monkeypatch.setattr(ParkedTable, "load", slow_load)
    lane = drain(take_over(server), rows)
    assert owners
    drain(take_over(server), rows)
    assert len(parked_rows(server)) == 1
    require_conserved(server, lane, rows)
