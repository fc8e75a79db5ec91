"""Events as servers log them, captured or crafted: compression, tags, XA, positions past 4 GiB, unknown types."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
import zstandard
from gravity_collector.compressed import CompressedError, payload_events, uncompressed_rows
from gravity_collector.decoder import RowUnreadableError
from gravity_collector.event import Begin, Commit, Event, Rotate, Rows, XaCommit, XaPrepare, XaStart
from gravity_collector.event_parser import UnreadableEventError
from gravity_collector.file_name import file_index_of
from gravity_collector.gtid_event import (
    encode_gtids,
    parse_mariadb_gtid,
    parse_tagged_gtid,
    parse_xa_prepare,
    read_number,
    write_number,
)
from gravity_collector.lookback import BinlogLookBack
from gravity_collector.query import parse_xa
from gravity_collector.xa import HeldTransactions, Place
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, UPDATE
from gravity.errors import FatalError, PositionLostError
from gravity.gtid import MysqlGtids
from tests.unit.collector.captured import (
    STREAMS,
    all_of,
    changes_of,
    event,
    packet,
    parser,
    start_of_file,
)

SERVER = "b3a38def-e932-11f1-9e4e-02fc00000001"
# MySQL 9.7.4: GTID events of two tags, one of another server, and the PREVIOUS_GTIDS event after them.
TAGGED = (
    (
        "027600000002cd028d023502bd03a5036422c50379029c04f103000000020404060a6d7974616708080a0c0c7f3b8d4d432361061061041283120b",
        f"{SERVER}:mytag:1",
    ),
    (
        "027200000002cd028d023502bd03a5036422c50379029c04f1030000000204040606625f3208080a100c7f458f4d432361061059041283120b",
        f"{SERVER}:b_2:1",
    ),
    (
        "026c00000002444444444444444444444444444444fd03041f009e29260806047a7a08080a140c7f92904d43236106104d041283120b",
        "22222222-2222-2222-2222-2222222222ff:zz:70000000000",
    ),
)
PREVIOUS = (
    "0104000000000001222222222222222222222222222222ff047a7a0100000000000000003c534c10000000013c534c10000000"
    "b3a38defe93211f19e4e02fc0000000100010000000000000001000000000000000300000000000000"
    "b3a38defe93211f19e4e02fc0000000106625f32010000000000000001000000000000000200000000000000"
    "b3a38defe93211f19e4e02fc000000010a6d79746167010000000000000001000000000000000200000000000000"
)


def test_what_was_compressed_reads_as_if_it_were_not() -> None:
    found = {}
    for name in ("mariadb-compressed", "mysql-compressed"):
        events = all_of(parser(), STREAMS[name])
        found[name] = changes_of(events)
        assert [op for op, _ in found[name]] == [
            INSERT, INSERT, INSERT, UPDATE, UPDATE, INSERT, DELETE, INSERT, INSERT, INSERT, DELETE, INSERT,
        ]  # fmt: skip
        texts = [row[4] for op, row in found[name] if op == INSERT]
        assert texts[1:3] == ["größer " * 40, None]
        assert [event.xid for event in events if isinstance(event, XaCommit)] == ["x'67',x'62',9"]
    one, other = (
        [(op, [cell for cell in row if not isinstance(cell, str)]) for op, row in changes]
        for changes in found.values()
    )
    assert one == other
    tags = [e.gtid for e in all_of(parser(), STREAMS["mysql-compressed"]) if isinstance(e, Begin)]
    assert [gtid.split(":")[1] for gtid in tags if gtid.count(":") == 2] == ["tag_1"]


@pytest.mark.parametrize("piece_bytes", [1, 300, 1 << 20])
@pytest.mark.parametrize("step", [7, 10_000])
def test_pieces_of_compressed_transactions_make_the_whole(piece_bytes: int, step: int) -> None:
    whole = STREAMS["mysql-compressed"]
    reader = parser(piece_bytes=piece_bytes)
    events: list[Event] = []
    for start in range(0, len(whole), step):
        events += all_of(reader, whole[start : start + step])
    assert shapes(events) == shapes(all_of(parser(), whole))


def shapes(events: list[Event]) -> list[object]:
    return [(e.op, e.body, e.at) if isinstance(e, Rows) else e for e in events]


def test_bytes_that_come_while_a_piece_waits_are_kept() -> None:
    whole = STREAMS["mysql-compressed"]
    reader = parser(piece_bytes=1)
    events: list[Event] = []
    for start in range(0, len(whole), 50):
        events += reader.feed(whole[start : start + 50])
    events += all_of(reader, b"")
    assert shapes(events) == shapes(all_of(parser(), whole))


def payload(inner: bytes, *, declared: int | None = None, method: int | None = 0) -> bytes:
    packed = zstandard.compress(inner) if method == 0 else inner
    body = b"\x01\x03\xfc" + len(packed).to_bytes(2, "little")
    if method is not None:
        body += (
            b"\x02"
            + (b"\x01" if method < 251 else b"\x03\xfc")
            + method.to_bytes(1 if method < 251 else 2, "little")
        )
    size = len(inner) if declared is None else declared
    return body + b"\x03\x09\xfe" + size.to_bytes(8, "little") + b"\x00" + packed


def inner_event(size: int, *, says: int | None = None) -> bytes:
    length = size if says is None else says
    return struct.pack("<IBIIIH", 1, 29, 7, length, 0, 0) + bytes(size - 19)


@pytest.mark.parametrize("method", [0, 255])
def test_both_methods_of_compression_are_read(method: int) -> None:
    inner = inner_event(40) + inner_event(19)
    assert [e.size for e in payload_events(payload(inner, method=method))] == [40, 19]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (payload(inner_event(40), method=7), "method 7"),
        (payload(inner_event(40), declared=39), "says 40 bytes of 39"),
        (payload(inner_event(40) + bytes(5), declared=45), "inside an event's header"),
        (payload(inner_event(40), declared=100), "cut short"),
        (payload(inner_event(40) * 2, declared=40), "longer than the 40 bytes"),
        (payload(inner_event(40, says=18)), "says 18 bytes"),
        (payload(inner_event(40, says=1 << 31)), "bytes of 40 left"),
        (payload(inner_event(40), declared=1 << 40), "the limit is"),
        (payload(inner_event(40))[:-3], "says"),
    ],
)
def test_a_compressed_transaction_that_is_not_what_it_says_is_refused(
    body: bytes, reason: str
) -> None:
    with pytest.raises(CompressedError, match=reason):
        list(payload_events(body))


def test_a_small_payload_that_says_it_is_huge_takes_no_memory() -> None:
    body = payload(inner_event(40, says=1 << 29), declared=1 << 30, method=255)
    tracemalloc.start()
    try:
        with pytest.raises(CompressedError, match="cut short"):
            list(payload_events(body))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def compressed_rows(raw: bytes, *, says: int | None = None, mark: int = 0x82) -> bytes:
    size = len(raw) if says is None else says
    return b"\x03\x07" + bytes((mark,)) + size.to_bytes(2) + zlib.compress(raw)


def test_compressed_events_of_mariadb_are_inflated_behind_their_columns() -> None:
    assert uncompressed_rows(compressed_rows(b"row" * 99), 0, 1) == b"\x03\x07" + b"row" * 99


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (compressed_rows(b"row", says=2), "not of the 2 bytes"),
        (compressed_rows(b"row", says=4), "not of the 4 bytes"),
        (compressed_rows(b"row")[:-1], "not of the 3 bytes"),
        (compressed_rows(b"row", mark=0x92), "method that is not known"),
        (compressed_rows(b"row", mark=0x80), "method that is not known"),
        (b"\x03\x07\x84\xff\xff\xff\xff" + zlib.compress(b"row"), "the limit is"),
        (b"\x03\x07\x82\x00\x03nonsense", "damaged"),
    ],
)
def test_a_compressed_event_that_is_not_what_it_says_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(CompressedError, match=reason):
        uncompressed_rows(body, 0, 1)


@pytest.mark.parametrize(("raw", "gtid"), TAGGED)
def test_tagged_gtids_are_read(raw: str, gtid: str) -> None:
    begin = parse_tagged_gtid(bytes.fromhex(raw))
    assert begin.gtid == gtid
    assert 1_795_000_000_000_000 < begin.commit_us < 1_796_000_000_000_000


@given(st.integers(0, (1 << 56) - 1))
def test_numbers_of_variable_length_are_read_as_they_are_written(value: int) -> None:
    written = write_number(value)
    assert read_number(written, 0) == (value, len(written))
    assert read_number(b"\xff" + value.to_bytes(8, "little"), 0) == (value, 9)


def test_sets_with_tags_are_what_the_server_prints_and_sends() -> None:
    text = f"22222222-2222-2222-2222-2222222222ff:zz:70000000000,{SERVER}:1-3:b_2:1:mytag:1"
    gtids = MysqlGtids.parse(text)
    assert str(gtids) == text
    assert gtids.has_tags
    assert encode_gtids(MysqlGtids.parse(text.replace("1-3", "1-2"))).hex() == PREVIOUS
    assert gtids.contains(f"{SERVER}:mytag:1")
    assert not gtids.contains(f"{SERVER}:mytag:2")
    gtids.add(f"{SERVER}:mytag:2")
    assert str(gtids).endswith(":b_2:1:mytag:1-2")
    assert not MysqlGtids.parse(f"{SERVER}:1-3").has_tags
    assert not MysqlGtids.parse(f"{SERVER}:1-3").contains_all(MysqlGtids.parse(f"{SERVER}:t:1"))


@pytest.mark.parametrize("text", [f"{SERVER}:tag", f"{SERVER}:1:tag", f"{SERVER}", f"{SERVER}:1:-"])
def test_a_tag_without_numbers_is_no_set(text: str) -> None:
    with pytest.raises(ValueError, match=r"numbers of transactions|neither"):
        MysqlGtids.parse(text)


def test_names_of_xa_transactions_are_the_same_in_all_events() -> None:
    assert parse_xa("XA COMMIT X'61',X'62',7") == ("COMMIT", "x'61',x'62',7")
    assert parse_xa("XA START X'6A',X'',1") == ("START", "x'6a',x'',1")
    body = b"\x00" + struct.pack("<iii", 7, 1, 1) + b"ab"
    assert parse_xa_prepare(body) == ("x'61',x'62',7", False)
    assert parse_xa_prepare(b"\x01" + body[1:]) == ("x'61',x'62',7", True)
    gtid = struct.pack("<QIB", 5, 0, 0x40) + struct.pack("<iBB", 7, 1, 1) + b"ab"
    assert parse_mariadb_gtid(gtid, 3).prepared_xid == "x'61',x'62',7"
    grouped = struct.pack("<QIBQ", 5, 0, 0x42, 99) + struct.pack("<iBB", 7, 1, 1) + b"ab"
    assert parse_mariadb_gtid(grouped, 3).prepared_xid == "x'61',x'62',7"
    with pytest.raises(ValueError, match="not an XA statement"):
        parse_xa("XA COMMIT X'61',X'62',7 ONE PHASE")


class Past:
    """A look back that counts."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Place | None, Place]] = []

    def __call__(self, xid: str, place: Place | None, before: Place) -> Iterator[Event]:
        self.asked.append((xid, place, before))
        yield row(b"past")


def row(body: bytes) -> Rows:
    return Rows(None, INSERT, body, 0)  # type: ignore[arg-type]


def prepared(xid: str, offset: int, *bodies: bytes) -> list[Event]:
    return [
        Begin(f"p{offset}", 1, offset, 5), XaStart(xid), *map(row, bodies), XaPrepare(xid, 1, offset + 9),
    ]  # fmt: skip


def committed(xid: str, offset: int) -> list[Event]:
    return [Begin(f"c{offset}", 1, offset, 6), XaCommit(xid, 1, offset + 9)]


def test_an_xa_transaction_is_empty_where_it_is_prepared_and_whole_where_it_is_committed() -> None:
    past = Past()
    held = HeldTransactions(past)
    between: list[Event] = [Begin("b", 1, 20, 1), row(b"b"), Commit(1, 29)]
    events = [*prepared("x", 10, b"1", b"2"), *between, *committed("x", 30)]
    assert list(held.settle(events)) == [
        Begin("p10", 1, 10, 5), Commit(1, 19), *between,
        Begin("c30", 1, 30, 6), row(b"1"), row(b"2"), Commit(1, 39),
    ]  # fmt: skip
    assert past.asked == []
    assert not held.is_inside


def test_what_is_not_held_is_looked_up_where_it_was_prepared() -> None:
    past = Past()
    held = HeldTransactions(past, bytes_max=10)
    events = [
        *prepared("x", 10, b"12345678", b"1234"),
        *prepared("y", 20, b"1"),
        *committed("x", 30),
    ]
    assert [e for e in held.settle(events) if isinstance(e, Rows)] == [row(b"past")]
    assert past.asked == [("x", (1, 10), (1, 30))]
    assert [e for e in held.settle(committed("y", 40)) if isinstance(e, Rows)] == [row(b"1")]
    list(held.settle(committed("never seen", 50)))
    assert past.asked[1:] == [("never seen", None, (1, 50))]


def test_only_so_many_prepared_transactions_are_remembered() -> None:
    past = Past()
    held = HeldTransactions(past, prepared_max=2)
    for number in range(3):
        list(held.settle(prepared(f"x{number}", number * 10, b"r")))
    list(held.settle(committed("x0", 90)))
    assert past.asked == [("x0", None, (1, 90))]
    assert held._bytes == 2


class Reading:
    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.is_at_end = False

    def read(self, _: float) -> list[Event]:
        self.is_at_end = True
        return self.events

    def close(self) -> None:
        pass


def look_back(files: dict[str, list[Event]]) -> BinlogLookBack:
    def open_at(name: str, offset: int) -> Reading:
        events = files[name]
        first = next(
            (i for i, e in enumerate(events) if isinstance(e, Begin) and e.offset == offset), 0
        )
        return Reading(events[first:])

    return BinlogLookBack("s", open_at, lambda: list(files))


def test_the_last_preparation_before_the_commit_is_found() -> None:
    files = {
        "b.000001": [*prepared("x", 10, b"old"), *prepared("x", 30, b"right"), Rotate("b.000002", 2, 4, False)],
        "b.000002": [*prepared("y", 10, b"other"), *committed("x", 50), *prepared("x", 60, b"later")],
    }  # fmt: skip
    files["b.000002"] = [
        e._replace(file_index=2) if isinstance(e, Begin) else e for e in files["b.000002"]
    ]
    assert list(look_back(files)("x", None, (2, 50))) == [row(b"right")]
    assert list(look_back(files)("x", (1, 10), (2, 50))) == [row(b"old")]
    with pytest.raises(PositionLostError, match="prepared is gone"):
        list(look_back(files)("z", None, (2, 50)))
    with pytest.raises(PositionLostError, match="prepared is gone"):
        list(look_back({"b.000002": files["b.000002"]})("x", (1, 10), (2, 50)))
    with pytest.raises(FatalError, match="does not hold XA transaction"):
        list(look_back(files)("z", (1, 10), (2, 50)))


def gtid_event(number: int, end: int) -> bytes:
    return event(
        33, b"\x00" + bytes(15) + b"\x01" + number.to_bytes(8, "little") + bytes(17), end=end
    )


def query(sql: bytes, end: int) -> bytes:
    return event(2, bytes(8) + b"\x00" + bytes(4) + b"\x00" + sql, end=end)


@pytest.mark.parametrize("tells_ends", [True, False])
def test_transactions_of_more_than_four_gibibytes_keep_their_places(tells_ends: bool) -> None:
    """The ends of events are told modulo 4 GiB, and by MariaDB 11 not at all inside a transaction."""
    at = (1 << 32) - 200
    stream = bytearray(start_of_file(offset=at))
    reader = parser()
    reader.feed(bytes(stream))
    begun = at
    at += 61
    found = reader.feed(gtid_event(1, at))
    at += 38
    found += reader.feed(query(b"BEGIN", at))
    # Three pieces that pass 4 GiB each by what their headers say, not by what they hold.
    for _ in range(3):
        size = (1 << 31) + 12_345
        at += size
        reader._reader.next_offset += size - 20
        found += reader.feed(event(29, b"\x00", end=at if tells_ends else 0))
    at += 27
    found += reader.feed(event(16, bytes(8), end=at))
    begin, commit = (e for e in found if isinstance(e, Begin | Commit))
    assert isinstance(begin, Begin)
    assert isinstance(commit, Commit)
    assert begin.offset == begun
    assert commit.next_offset == at
    assert at > 1 << 33


def test_file_names_of_seven_digits_follow_those_of_six() -> None:
    assert file_index_of("binlog.999999") + 1 == file_index_of("binlog.1000000") == 1_000_000
    reader = parser()
    reader.feed(start_of_file("log.bin.1000000"))
    assert (reader.file_name, reader.file_index) == ("log.bin.1000000", 1_000_000)
    with pytest.raises(PositionLostError, match="no number"):
        file_index_of("binlog")


def test_an_unknown_event_halts_unless_it_says_that_it_may_be_ignored() -> None:
    reader = parser()
    reader.feed(start_of_file())
    assert reader.feed(event(99, b"new", end=26, flags=0x80)) == []
    assert reader.next_offset == 26
    with pytest.raises(UnreadableEventError, match="type 99, which this version"):
        reader.feed(event(99, b"new", end=48))


@pytest.mark.parametrize(
    ("kind", "body", "remedy"),
    [
        (39, b"part of a JSON", "binlog_row_value_options=''"),
        (18, b"LOAD DATA", "binlog_format=ROW"),
        (26, b"lost", "snapshot its tables again"),
        (34, bytes(42), "gtid_mode=ON"),
    ],
)
def test_what_can_not_be_read_names_the_remedy(kind: int, body: bytes, remedy: str) -> None:
    reader = parser()
    reader.feed(start_of_file())
    with pytest.raises(FatalError, match=f"{remedy}"):
        reader.feed(event(kind, body, end=23 + len(body)))


def test_only_events_of_transactions_may_be_compressed() -> None:
    reader = parser()
    reader.feed(start_of_file())
    reader.feed(gtid_event(1, 65))
    inner = struct.pack("<IBIIIH", 1, 4, 7, 40, 0, 0) + bytes(21)
    with pytest.raises(UnreadableEventError, match="holds an event of type 4"):
        reader.feed(event(40, payload(inner), end=0))


def test_a_compressed_transaction_without_gtid_halts() -> None:
    reader = parser()
    reader.feed(start_of_file())
    with pytest.raises(UnreadableEventError, match="without its GTID"):
        reader.feed(event(40, payload(inner_event(40)), end=0))


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([(38, b"\x00" + struct.pack("<iii", 7, 1, 1) + b"ab")], "prepared without its start"),
        ([(2, bytes(14) + b"XA END X'61',X'',1")], "where none can be"),
        ([(2, bytes(14) + b"XA FORGET X'61',X'',1")], "not an XA statement"),
    ],
)
def test_xa_statements_where_none_can_be_halt(events: list[tuple[int, bytes]], reason: str) -> None:
    reader = parser()
    reader.feed(start_of_file() + gtid_event(1, 65))
    at = 65
    with pytest.raises(UnreadableEventError, match=reason):
        for kind, body in events:
            at += 19 + len(body)
            reader.feed(event(kind, body, end=at))


def test_an_event_of_several_packets_that_is_longer_than_it_says_is_refused() -> None:
    reader = parser()
    reader.feed(start_of_file())
    first = b"\x00" + struct.pack("<IBIIIH", 1, 29, 7, 0x1000010, 0, 0)
    first += bytes(0xFFFFFF - len(first))
    assert reader.feed(packet(first)) == []
    with pytest.raises(UnreadableEventError, match="longer than it says"):
        reader.feed(packet(bytes(0xFFFFFF)))


def test_an_update_cut_short_inside_its_beginning_is_damaged() -> None:
    """Found by the fuzz: so cut, it begins as events of one image do, and such had been read before."""
    events = [e for e in parser().feed(STREAMS["mariadb"]) if isinstance(e, Rows)]
    update = next(e for e in events if e.op == UPDATE)
    others = [e for e in events if e.op != UPDATE and e.table is update.table]
    assert others
    for other in others:
        other.table.rows(other.body, other.at)
    for length in range(
        update.at, update.at + 1 + 2 * ((len(update.table.schema.columns) + 7) // 8)
    ):
        with pytest.raises(RowUnreadableError):
            update.table.updates(update.body[:length], update.at)
