"""What every SinkWriter promises, held on real servers. The port is gravity.sink."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial

import pytest

from gravity.batch import TableSchema
from gravity.errors import FatalError, FencedError, HoleError, TransientError
from gravity.sink import Lane, Refusal
from gravity.testing.target_log import Change, Message, TargetLog, table
from tests.sink_lane import Refused, cut, drain, insist, offer, take_over
from tests.target_server import TargetServer

pytestmark = pytest.mark.stack


def orders(server: TargetServer) -> TableSchema:
    return table(f"{server.database}.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])


def test_rows_arrive_and_progress_moves_with_them(server: TargetServer) -> None:
    log, schema = TargetLog(), orders(server)
    topic = [
        log.rows(schema, [("I", (1, "a")), ("I", (2, "b")), ("I", (3, "c"))]),
        log.rows(schema, [("U", (1, "a2")), ("D", (2, "b"))]),
        log.marker("0-1-7"),
    ]
    drained = drain(take_over(server), topic)
    assert server.rows("orders") == {"1": ("a2",), "3": ("c",)}
    again = take_over(server)
    assert again.stored == drained.stored
    assert again.stored.progress.next_offset == 3
    assert again.stored.counts.applied == 5
    assert again.stored.frontier["s1"].gtids == "0-1-7"


def test_a_write_applied_twice_equals_once(server: TargetServer) -> None:
    log, schema = TargetLog(), orders(server)
    topic = [
        log.rows(schema, [("I", (1, "a")), ("I", (2, "b"))]),
        log.rows(schema, [("D", (1, "a"))]),
    ]
    lane = take_over(server)
    offer(lane, topic)
    write = cut(lane)
    lane.writer.write(write, Refused())
    history = server.history("orders")
    # The answer was lost: the session is gone, and the same write comes again.
    lane.writer.close()
    stored = lane.writer.write(write, Refused())
    assert stored.progress == write.after.progress
    assert server.rows("orders") == {"2": ("b",)}
    assert server.history("orders") == history


def test_messages_repeated_in_the_topic_are_not_applied_again(server: TargetServer) -> None:
    log, schema = TargetLog(), orders(server)
    first = log.rows(schema, [("I", (1, "old"))])
    second = log.rows(schema, [("U", (1, "new"))])
    lane = drain(take_over(server), [first, second, first])
    assert server.rows("orders") == {"1": ("new",)}
    assert lane.stored.counts.repeats == 1
    assert lane.stored.counts.applied == 2


def test_a_hole_halts_and_nothing_behind_it_is_applied(server: TargetServer) -> None:
    log, schema = TargetLog(), orders(server)
    topic = [log.rows(schema, [("I", (n, "x"))]) for n in range(3)]
    lane = drain(take_over(server), topic[:1])
    with pytest.raises(HoleError):
        lane.offer(*topic[2], 1, 0.0)
    assert server.rows("orders") == {"0": ("x",)}


def test_a_takeover_fences_the_old_writer_or_makes_it_harmless(server: TargetServer) -> None:
    log, schema = TargetLog(), orders(server)
    topic = [log.rows(schema, [("I", (1, "a"))])]
    old = drain(take_over(server), topic)
    topic.append(log.rows(schema, [("U", (1, "b")), ("I", (2, "x"))]))
    offer(old, topic)
    late = cut(old)
    new = take_over(server)
    topic.append(log.rows(schema, [("U", (1, "c")), ("D", (2, "x"))]))
    drain(new, topic)
    history = server.history("orders")
    fenced = False
    for _ in range(3):
        try:
            old.writer.write(late, Refused())
        except TransientError:
            continue
        except FencedError:
            fenced = True
        break
    assert fenced or "clickhouse" in type(server).__name__.lower()
    assert server.rows("orders") == {"1": ("c",)}
    assert server.history("orders") == history
    assert take_over(server).stored.progress.next_offset == 3


def test_a_table_filled_by_others_is_refused(server: TargetServer) -> None:
    schema = orders(server)
    server.fill_by_others(schema)
    topic = [TargetLog().rows(schema, [("I", (1, "a"))])]
    with pytest.raises(FatalError, match="already holds"):
        drain(take_over(server), topic)
    assert set(server.rows("orders")) == {"77"}
    drain(take_over(server, adopt=True), topic)
    assert set(server.rows("orders")) == {"1", "77"}
    assert take_over(server).stored.progress.next_offset == 1


def test_a_table_that_another_lane_began_to_fill_is_ours(server: TargetServer) -> None:
    schema = orders(server)
    drain(take_over(server, partition=0), [TargetLog().rows(schema, [("I", (1, "a"))])])
    drain(take_over(server, partition=1), [TargetLog().rows(schema, [("I", (2, "b"))])])
    assert set(server.rows("orders")) == {"1", "2"}


def test_a_refused_row_is_set_aside_and_its_neighbours_go_on(server: TargetServer) -> None:
    schema, good, bad = server.refused()
    log, refused = TargetLog(), Refused()
    other = orders(server)
    topic = [
        log.rows(schema, [("I", tuple(good)), ("I", tuple(bad))]),
        log.rows(other, [("I", (1, "a"))]),
    ]
    lane = drain(take_over(server), topic, refused)
    assert [(r.message.offset, r.row) for r in refused.letters] == [(0, 1)]
    assert set(server.rows(schema.table)) == {str(good[0])}
    assert server.rows("orders") == {"1": ("a",)}
    assert (lane.stored.counts.applied, lane.stored.counts.dead) == (2, 1)
    assert take_over(server).stored == lane.stored


def test_progress_does_not_move_before_the_dead_letter_is_durable(server: TargetServer) -> None:
    schema, good, bad = server.refused()

    def fail(refusals: Sequence[Refusal]) -> None:
        raise TransientError("the dead-letter topic is away")

    lane = take_over(server)
    offer(lane, [TargetLog().rows(schema, [("I", tuple(good)), ("I", tuple(bad))])])
    with pytest.raises(TransientError):
        lane.writer.write(cut(lane), fail)
    assert take_over(server).stored.progress.next_offset == 0


def test_a_column_that_appears_is_added(server: TargetServer) -> None:
    log, schema = TargetLog(), orders(server)
    wider = table(
        f"{server.database}.orders", [("id", "int"), ("name", "varchar(20)"), ("n", "int")], ["id"]
    )
    topic = [
        log.rows(schema, [("I", (1, "a")), ("I", (2, "b"))]),
        log.rows(wider, [("U", (1, "a", 5))]),
        log.rows(wider, [("I", (3, "c", None))]),
    ]
    drain(take_over(server), topic)
    rows = server.rows("orders")
    assert rows["1"] == ("a", "5")
    assert rows["2"] in (("b", None), ("b",))
    assert rows["3"] == ("c", None)


def test_a_table_without_a_key_is_refused_by_name(server: TargetServer) -> None:
    schema = table(f"{server.database}.log", [("id", "int")], [])
    with pytest.raises(FatalError, match="neither a primary nor a unique key"):
        drain(take_over(server), [TargetLog().rows(schema, [("I", (1,))])])


def test_missing_tables_are_refused_by_name_where_none_may_be_made(server: TargetServer) -> None:
    writer = server.writer(create=False)
    writer.open()
    lane_writer, stored = writer.take_over(0)
    lane = Lane(server.name, 0, lane_writer, stored, writer.pace)
    with pytest.raises(FatalError, match="does not exist"):
        drain(lane, [TargetLog().rows(orders(server), [("I", (1, "a"))])])


def test_a_truncate_among_rows_halts_by_name(server: TargetServer) -> None:
    with pytest.raises(FatalError, match="TRUNCATE"):
        drain(take_over(server), [TargetLog().rows(orders(server), [("T", (1, "a"))])])


@pytest.mark.parametrize("seed", range(3))
def test_any_changes_cut_anywhere_with_any_crashes_end_as_one_by_one(
    server: TargetServer, seed: int
) -> None:
    draw = random.Random(seed)
    log, schema = TargetLog(), orders(server)
    expected: dict[str, tuple[str | None, ...]] = {}
    topic: list[Message] = []
    for _ in range(30):
        changes: list[Change] = []
        for _ in range(draw.randint(1, 6)):
            key, name = draw.randrange(12), draw.choice(["o'n", "b\\", "ü%s", None])
            op = "I" if str(key) not in expected else draw.choice("UUDRM")
            changes.append((op, (key, name)))
            expected.pop(str(key), None)
            if op not in "DM":
                expected[str(key)] = (name,)
        topic.append(log.rows(schema, changes))
        if draw.random() < 0.3:
            topic.append(topic[-1])
    lane = take_over(server)
    while lane.stored.progress.next_offset < len(topic):
        upto = lane.stored.progress.next_offset + draw.randint(1, 5)
        offer(lane, topic[:upto])
        stored = insist(partial(lane.writer.write, cut(lane), Refused()))
        if draw.random() < 0.3:
            lane = take_over(server)
        else:
            lane.done(stored, 0.0)
    assert server.rows("orders") == expected
    assert lane.stored.counts.applied == sum(
        int(dict(headers)["rows"]) for headers, _ in dict.fromkeys((tuple(h), v) for h, v in topic)
    )
