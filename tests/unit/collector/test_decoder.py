"""What two real servers sent for the same statements, to events and rows."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from gravity_collector.decoder import RowUnreadableError, TableDecoder, TableDecoders
from gravity_collector.event import Begin, Commit, Event, Query, Rotate, Rows
from gravity_collector.event_parser import EventParser, ServerMessageError, UnreadableEventError
from gravity_collector.table_map import Collation, StoredColumn, TableMap, YearSign, dialect_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, UPDATE, Column, TableSchema
from gravity.column import ColumnType
from gravity.errors import GravityError

COLLATIONS = {
    8: Collation("latin1_swedish_ci", "latin1", 1),
    45: Collation("utf8mb4_general_ci", "utf8mb4", 4),
    46: Collation("utf8mb4_bin", "utf8mb4", 4),
    63: Collation("binary", "binary", 1),
    255: Collation("utf8mb4_0900_ai_ci", "utf8mb4", 4),
    2304: Collation("utf8mb4_uca1400_ai_ci", "utf8mb4", 4),
}
STREAMS = {
    name: (Path(__file__).parent / "stream_bytes" / f"{name}.binlog").read_bytes()
    for name in ("mariadb", "mysql")
}
FULL = (
    1, "new", "-12345678901234.000001", 1.5, 0.5, "äö€", "ü€", "a,c", 4095, "2024-02-29",
    "2024-02-29 12:34:56.789", "2024-02-29 12:34:56.000001", "-12:34:56.78", 2024,
    '{"a": [1, 2.5, null, "x"]}', b"\1\0\0\0", b"\0\xff", -8388608,
)  # fmt: skip
NULLS = (18446744073709551615, "it's", *[None] * 16)
ZEROS = (
    2, "", "0.500000", -1e300, -2.0, "x" * 300, "", "", 0, "0000-00-00", "0000-00-00 00:00:00.000",
    "0000-00-00 00:00:00.000000", "838:59:59.00", 1901, "[]", b"\0\0\0\0", b"", 8388607,
)  # fmt: skip
CHANGED = (FULL[0], FULL[1], "-12345678901233.000001", *FULL[3:5], None, *FULL[6:])
CHANGES = [
    (INSERT, FULL),
    (INSERT, NULLS),
    (INSERT, ZEROS),
    (UPDATE, (FULL, CHANGED)),
    (DELETE, ZEROS),
    (INSERT, (3, "new", *[None] * 16)),
    (INSERT, (4, "new", *[None] * 16, 5)),
    (INSERT, (5, "new", *[None] * 16, 6)),
]


def parser(**options: Any) -> EventParser:
    return EventParser("s", TableDecoders(COLLATIONS), **options)


def changes_of(events: list[Event]) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for event in events:
        if isinstance(event, Rows):
            decode = event.table.updates if event.op == UPDATE else event.table.rows
            found += [(event.op, row) for row in decode(event.body, event.at)]
    return found


def shape_of(events: list[Event]) -> list[object]:
    return [
        (event.op, event.body, event.at) if isinstance(event, Rows) else event for event in events
    ]


@pytest.fixture(params=sorted(STREAMS))
def stream(request: pytest.FixtureRequest) -> bytes:
    return STREAMS[request.param]


def test_all_changes_are_there_with_their_values(stream: bytes) -> None:
    events = parser().feed(stream)
    assert changes_of(events) == CHANGES
    assert [repr(row) for _, row in changes_of(events)] == [repr(row) for _, row in CHANGES]


def test_transactions_follow_each_other_without_a_gap(stream: bytes) -> None:
    events = parser().feed(stream)
    first_file = [event for event in events if isinstance(event, Begin | Commit)][:-2]
    begins, commits = first_file[::2], first_file[1::2]
    assert all(isinstance(event, Begin) for event in begins)
    ends = [event.next_offset for event in commits if isinstance(event, Commit)]
    starts = [event.offset for event in begins if isinstance(event, Begin)]
    assert starts[1:] == ends[:-1]
    assert [event.artificial for event in events if isinstance(event, Rotate)] == [
        True,
        False,
        True,
    ]
    assert any(isinstance(event, Query) and event.sql.startswith("alter table") for event in events)


def test_commit_times_are_in_microseconds_where_the_server_writes_them() -> None:
    def fractions(name: str) -> set[bool]:
        events = parser().feed(STREAMS[name])
        return {bool(event.commit_us % 1_000_000) for event in events if isinstance(event, Begin)}

    assert fractions("mysql") == {True}
    assert fractions("mariadb") == {False}


def test_the_schema_changes_with_the_table_map(stream: bytes) -> None:
    schemas = [event.table.schema for event in parser().feed(stream) if isinstance(event, Rows)]
    assert len(schemas[0].columns) == 18
    assert schemas[-1].columns[-1].name == "extra"
    assert {schema.key for schema in schemas} == {(0,)}
    assert [column.type for column in schemas[0].columns] == [
        "bigint unsigned", "enum('new','it''s')", "decimal(20,6)", "double", "float", "varchar(300)", "char(10)",
        "set('a','b','c')", "bit(12)", "date", "datetime(3)", "timestamp(6)", "time(2)", "year",
        "longtext" if stream == STREAMS["mariadb"] else "json",
        "binary(4)", "blob", "mediumint",
    ]  # fmt: skip
    assert [column.nullable for column in schemas[0].columns] == [False, False, *[True] * 16]


def test_equal_table_maps_share_one_decoder(stream: bytes) -> None:
    tables = [event.table for event in parser().feed(stream) if isinstance(event, Rows)]
    assert len({id(table) for table in tables}) == 2


@given(data=st.data(), name=st.sampled_from(sorted(STREAMS)))
@settings(max_examples=60)
def test_events_do_not_depend_on_how_the_bytes_arrive(data: st.DataObject, name: str) -> None:
    whole = STREAMS[name]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=40)))
    reader = parser()
    events: list[Event] = []
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        events += reader.feed(whole[start:stop])
    assert shape_of(events) == shape_of(parser().feed(whole))
    assert changes_of(events) == CHANGES


def test_packets_of_sixteen_megabytes_are_joined() -> None:
    # A continued packet is one whose length field is full; what follows belongs to it.
    events = parser().feed(STREAMS["mysql"])
    insert = next(event for event in events if isinstance(event, Rows))
    blob = b"x" * (1 << 24)
    assert insert.table.schema.columns[16].type == "blob"
    big = _packet_stream(STREAMS["mysql"], blob)
    for size in (100, 70_000, len(big)):
        reader, found = parser(verify_checksums=False), list[Event]()
        for start in range(0, len(big), size if size > 100 else 65_537):
            found += reader.feed(big[start : start + (size if size > 100 else 65_537)])
        assert [type(event).__name__ for event in found][-1] == "Statement"


def _packet_stream(stream: bytes, text: bytes) -> bytes:
    """The stream's first two events, then a ROWS_QUERY event longer than a packet."""
    at = 0
    for _ in range(2):
        at += 4 + int.from_bytes(stream[at : at + 3], "little")
    body = b"\x00" + text
    size = 19 + len(body) + 4
    header = (0).to_bytes(4, "little") + b"\x1d" + (1).to_bytes(4, "little")
    header += size.to_bytes(4, "little") + (0).to_bytes(4, "little") + b"\x80\x00"
    payload = b"\x00" + header + body + b"\0\0\0\0"
    packets = b""
    while True:
        part, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
        packets += len(part).to_bytes(3, "little") + b"\x00" + part
        if len(part) < 0xFFFFFF:
            return stream[:at] + packets


def test_rows_of_new_null_patterns_are_read_without_compiling(stream: bytes) -> None:
    for event in parser().feed(stream):
        if isinstance(event, Rows):
            slow = TableDecoder(event.table.table_map, patterns_max=0)
            fast = event.table
            name = "updates" if event.op == UPDATE else "rows"
            assert getattr(slow, name)(event.body, event.at) == getattr(fast, name)(
                event.body, event.at
            )


def test_a_damaged_row_names_table_and_column(stream: bytes) -> None:
    event = next(event for event in parser().feed(stream) if isinstance(event, Rows))
    body = bytearray(event.body)
    body[event.at + 4 + 3 + 8] = 77  # The enum's number: there are two labels.
    with pytest.raises(RowUnreadableError, match=r"status \(enum.*table shop\.orders"):
        event.table.rows(bytes(body), event.at)


def test_a_row_cut_short_is_an_error(stream: bytes) -> None:
    event = next(event for event in parser().feed(stream) if isinstance(event, Rows))
    for length in range(event.at, len(event.body)):
        if length > event.at + 4:
            with pytest.raises(RowUnreadableError):
                event.table.rows(event.body[:length], event.at)


def test_a_last_cell_cut_short_is_an_error() -> None:
    text = StoredColumn(15, 9, ColumnType.parse("varchar(9)"), "utf8mb4")
    schema = TableSchema("d", "t", (Column("v", "varchar(9)"),), ())
    decoder = TableDecoder(TableMap(schema, (text,), frozenset()))
    whole = b"\x01\x01" + b"\x00\x05hello"
    assert decoder.rows(whole, 0) == [("hello",)]
    assert decoder.updates(b"\x01\x01" + whole[1:] + b"\x01", 0) == [(("hello",), (None,))]
    with pytest.raises(RowUnreadableError, match="2 bytes after the event"):
        decoder.rows(whole[:-2], 0)
    with pytest.raises(RowUnreadableError, match="2 bytes after the event"):
        decoder.updates(b"\x01\x01" + whole[1:] + b"\x00\x05hel", 0)


def test_a_wrong_checksum_halts(stream: bytes) -> None:
    damaged = bytearray(stream)
    damaged[-10] ^= 1
    reader = parser()
    with pytest.raises(UnreadableEventError, match=r"checksum is wrong.*source s, near"):
        reader.feed(bytes(damaged))
        reader.feed(b"")


def test_events_before_an_error_are_given_first(stream: bytes) -> None:
    damaged = bytearray(stream)
    damaged[-10] ^= 1
    reader = parser()
    assert changes_of(reader.feed(bytes(damaged)))[:7] == CHANGES[:7]
    assert reader.has_failed
    with pytest.raises(UnreadableEventError):
        reader.feed(b"")


def test_an_error_packet_tells_the_servers_words() -> None:
    payload = b"\xff" + (1236).to_bytes(2, "little") + b"#HY000Could not find first log file name"
    with pytest.raises(ServerMessageError) as raised:
        parser().feed(len(payload).to_bytes(3, "little") + b"\x01" + payload)
    assert (raised.value.code, raised.value.message) == (1236, "Could not find first log file name")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", sorted(STREAMS))
def test_mutated_events_end_in_a_named_error_or_in_values(name: str) -> None:
    generator = random.Random(7)
    for _ in range(300):
        damaged = bytearray(STREAMS[name])
        for _ in range(generator.choice((1, 1, 1, 3, 20))):
            damaged[generator.randrange(100, len(damaged))] = generator.randrange(256)
        reader = parser(verify_checksums=False)
        try:
            changes_of(reader.feed(bytes(damaged)))
            reader.feed(b"")
        except GravityError as error:
            assert str(error)  # noqa: PT017 - most mutations raise, some do not


@pytest.mark.parametrize(
    ("version", "sign", "geometry"),
    [
        ("8.0.15", YearSign.MISSING, False),
        ("8.0.18-log", YearSign.UNKNOWN, False),
        ("8.0.36", YearSign.THERE, False),
        ("9.7.4-2", YearSign.THERE, False),
        ("11.4.5-MariaDB-log", YearSign.THERE, True),
        ("5.5.5-10.11.6-MariaDB", YearSign.THERE, True),
    ],
)
def test_dialects_follow_the_server_that_wrote_the_file(
    version: str, sign: YearSign, geometry: bool
) -> None:
    dialect = dialect_of(version)
    assert (dialect.year_sign, dialect.geometry_has_charset) == (sign, geometry)
