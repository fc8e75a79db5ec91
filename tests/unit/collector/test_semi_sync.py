"""What a server sends to a semi-synchronous replica, and what it is answered: told by the servers' documents.

In front of each event stand 0xEF and a flag; the answer is 0xEF, eight bytes of position, and the file's name.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from gravity_collector.binlog import BinlogStream
from gravity_collector.event import AckAsked, Begin, Commit, Event, Rows, XaPrepare
from gravity_collector.event_parser import UnreadableEventError
from gravity_collector.semi_sync import AskedFor, answer
from gravity_collector.xa import HeldTransactions
from hypothesis import given
from hypothesis import strategies as st

from gravity.errors import TransientError
from gravity.position import Position
from tests.unit.collector.captured import STREAMS, all_of, event, packet, parser, start_of_file

XID, PAYLOAD = 16, 40
_MAX = 0xFFFFFF


def packets(stream: bytes) -> Iterator[bytes]:
    """The payloads of a stream of packets."""
    at = 0
    while at < len(stream):
        size = int.from_bytes(stream[at : at + 3], "little")
        yield stream[at + 4 : at + 4 + size]
        at += 4 + size


def semi_sync(stream: bytes, *, asking: bool = True) -> bytes:
    """The same stream as a semi-synchronous replica gets it; ends of transactions ask, others do not."""
    found = b""
    for payload in packets(stream):
        kind = payload[5] if len(payload) > 5 else 0
        flag = 1 if asking and kind in (XID, PAYLOAD) else 0
        found += packet(payload[:1] + bytes((0xEF, flag)) + payload[1:])
    return found


def plain(events: list[Event]) -> list[object]:
    """Events as values that can be compared, without the questions."""
    return [
        (one.op, one.body, one.table.schema.table) if isinstance(one, Rows) else one
        for one in events
        if not isinstance(one, AckAsked)
    ]


def fed(received: bytes, sizes: Iterator[int]) -> list[Event]:
    reader, events, at = parser(semi_sync=True), [], 0
    while at < len(received):
        size = next(sizes)
        events += all_of(reader, received[at : at + size])
        at += size
    assert reader.is_semi_sync
    return events


@pytest.mark.parametrize("name", STREAMS)
@given(seed=st.integers(0, 1 << 32))
def test_the_same_events_come_and_each_end_of_a_transaction_is_asked_about(
    name: str, seed: int
) -> None:
    draw = random.Random(seed)
    bound = draw.choice([40, 3000, 1 << 20])
    events = fed(semi_sync(STREAMS[name]), iter(lambda: draw.randint(1, bound), 0))
    assert plain(events) == plain(all_of(parser(), STREAMS[name]))
    places = [n for n, one in enumerate(events) if isinstance(one, AckAsked)]
    assert places
    for n in places:
        asked, before = events[n], events[n - 1]
        assert isinstance(asked, AckAsked)
        assert isinstance(before, Commit | XaPrepare)
        assert (asked.file_index, asked.next_offset) == (before.file_index, before.next_offset)


def test_nobody_is_asked_about_where_the_flag_is_not_set() -> None:
    stream = semi_sync(STREAMS["mysql"], asking=False)
    assert not [one for one in fed(stream, iter(lambda: 999, 0)) if isinstance(one, AckAsked)]


def test_the_name_of_the_file_is_as_the_server_spells_it() -> None:
    name = b"odd name.000007"
    rotate = event(4, (4).to_bytes(8, "little") + name, end=0, flags=0x20, seconds=0)
    reader = parser(semi_sync=True)
    reader.feed(semi_sync(rotate))
    (_, asked) = reader.feed(packet(b"\x00\xef\x01" + event(27, name, end=300)[5:]))
    assert asked == AckAsked("odd name.000007", 7, 300)


@pytest.mark.parametrize("name", STREAMS)
def test_a_server_that_does_not_offer_it_is_read_as_ever(name: str) -> None:
    reader = parser(semi_sync=True)
    assert reader.is_semi_sync is None
    assert plain(all_of(reader, STREAMS[name])) == plain(all_of(parser(), STREAMS[name]))
    assert reader.is_semi_sync is False


def test_an_event_without_the_two_bytes_among_others_halts() -> None:
    reader = parser(semi_sync=True)
    reader.feed(semi_sync(start_of_file()))
    with pytest.raises(UnreadableEventError, match="left semi-synchronous"):
        reader.feed(STREAMS["mariadb"])


def test_an_event_of_several_packets_has_the_two_bytes_once() -> None:
    reader = parser(semi_sync=True)
    reader.feed(semi_sync(start_of_file()))
    # A statement's text (ROWS_QUERY) that fills more than one packet.
    text = b"\x01" + b"x" * (_MAX + 10)
    head = (1).to_bytes(4, "little") + bytes((29,)) + (7).to_bytes(4, "little")
    head += (19 + len(text)).to_bytes(4, "little") + bytes(4) + bytes(2)
    payload = b"\x00\xef\x00" + head + text
    first, second = payload[:_MAX], payload[_MAX:]
    assert not [one for one in reader.feed(packet(first)) if isinstance(one, Begin)]
    assert len(reader.feed(packet(second))) == 1


def test_an_answer_is_a_packet_number_0_with_magic_position_and_name() -> None:
    expected = "16000000" + "ef" + "d204000000000000" + b"binlog.000042".hex()
    assert answer("binlog.000042", 1234).hex() == expected
    assert answer("b.1", (5 << 32) + 1)[5:13] == bytes((1, 0, 0, 0, 5, 0, 0, 0))


_PLACES = st.lists(st.tuples(st.integers(1, 3), st.integers(4, 60)), unique=True, max_size=30)


@given(_PLACES, st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(4, 60))))
def test_answered_is_the_last_of_those_before_the_frontier_and_nothing_twice(
    places: list[tuple[int, int]], frontiers: list[tuple[int, int, int]]
) -> None:
    asked = AskedFor(epoch=1)
    questions = [AckAsked(f"f.{file}", file, offset) for file, offset in sorted(places)]
    asked.add(questions)
    left = list(questions)
    for epoch, file, offset in frontiers:
        below = [q for q in left if epoch == 1 and (q.file_index, q.next_offset) <= (file, offset)]
        assert asked.covered(Position(epoch, file, offset)) == (below[-1] if below else None)
        left = [q for q in left if q not in below]
    assert asked.covered(None) is None
    assert bool(asked) == bool(left)


def test_too_many_questions_are_answered_by_the_last_of_them() -> None:
    asked = AskedFor(epoch=1)
    asked.add(AckAsked("f.1", 1, offset) for offset in range(4, 30_004))
    assert asked.covered(Position(1, 1, 15_000)) is None
    assert asked.covered(Position(1, 1, 30_003)) == AckAsked("f.1", 1, 30_003)


def test_a_question_amid_an_xa_transaction_is_not_kept_back_with_its_rows() -> None:
    stream = STREAMS["mysql-compressed"]
    events = all_of(parser(), stream)
    asked = AckAsked("f.1", 1, 9)
    held = HeldTransactions(lambda *_: iter(()))
    for one in events:
        list(held.settle([one]))
        assert list(held.settle([asked])) == [asked]


@pytest.mark.timeout(30)
def test_a_read_ends_when_the_waker_is_written_to_and_answers_go_out() -> None:
    (client, server), (waker, wakes) = socket.socketpair(), socket.socketpair()
    waker.setblocking(False)
    binlog = BinlogStream(
        client, parser(semi_sync=True), source="s", silence_s_max=600.0, on_close=client.close,
        monotonic=lambda: 0.0,
    )  # fmt: skip
    binlog.wake_by(waker)
    wakes.send(b"\0\0")
    assert binlog.read(600) == []
    with pytest.raises(BlockingIOError):
        waker.recv(1)
    server.sendall(semi_sync(start_of_file("b.000009")))
    assert binlog.read(600), "what comes is read"
    assert binlog.is_semi_sync
    wakes.send(b"\0")
    server.sendall(packet(b"\x00\xef\x01" + event(27, b"b.000009", end=300)[5:]))
    assert AckAsked("b.000009", 9, 300) in binlog.read(600), "both at once: nothing is left behind"
    binlog.acknowledge(AckAsked("b.000009", 9, 300))
    assert server.recv(100) == answer("b.000009", 300)
    server.close()
    with pytest.raises(TransientError):
        binlog.read(600)
    binlog.close()
    binlog.close()
