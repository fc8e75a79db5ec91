import random
from collections import Counter

import pytest
from gravity_collector.chunk import (
    Chunk,
    Coverage,
    GtidView,
    Key,
    PositionView,
    Since,
    Touch,
    TouchLog,
    Work,
    covers,
    keys_of,
    reconcile,
    recount,
)
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.errors import FatalError
from gravity.gtid import MariadbGtids, MysqlGtids

T = ("shop", "users")
SCHEMA = TableSchema("shop", "users", (Column("id", "int"), Column("name", "varchar(9)")), (0,))
FROM_THE_FIRST = Since(0, 0, MysqlGtids({}))
UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

cells = st.one_of(
    st.integers(-9, 9), st.text(max_size=3), st.binary(max_size=3), st.floats(allow_nan=False)
)
keys = st.lists(cells, min_size=1, max_size=3).map(tuple)


@given(st.none() | keys, st.none() | keys, st.integers(0, 9), st.integers(0, 9))
def test_an_id_names_exactly_one_chunk(
    after: Key | None, through: Key | None, request: int, number: int
) -> None:
    chunk = Chunk(T, after, through, request, number)
    assert Chunk.parse(chunk.chunk_id) == chunk


def test_an_id_of_the_first_releases_is_still_read() -> None:
    assert Chunk.parse('["shop","users",null,[5]]') == Chunk(T, None, (5,))


def _chunks(count: int, request: int = 0) -> list[Chunk]:
    bounds: list[Key | None] = [None, *((number,) for number in range(1, count)), None]
    return [Chunk(T, bounds[i], bounds[i + 1], request, i + 1) for i in range(count)]


@given(st.integers(1, 6), st.randoms())
def test_a_table_is_complete_when_all_its_chunks_are_done_in_whatever_order(
    count: int, random: object
) -> None:
    chunks = _chunks(count)
    random.shuffle(chunks)  # type: ignore[attr-defined]
    coverage = Coverage()
    for chunk in chunks:
        assert not coverage.is_complete(T)
        coverage.add(chunk)
    assert coverage.is_complete(T)
    assert coverage.chunk_ids() == (Chunk(T, None, None).chunk_id,)


@given(st.integers(1, 9), st.sets(st.integers(0, 8)), st.randoms())
def test_what_is_done_and_the_gaps_make_the_whole_table_each_key_once(
    count: int, done: set[int], random: object
) -> None:
    chunks = _chunks(count)
    finished = [chunks[index] for index in done if index < count]
    random.shuffle(finished)  # type: ignore[attr-defined]
    coverage = Coverage()
    for chunk in finished:
        coverage.add(chunk)
    again = Coverage(coverage.chunk_ids())
    gaps = again.gaps(T)
    assert gaps == coverage.gaps(T)
    missing = {index for index in range(count) if index not in done}
    covered = [
        index
        for gap in gaps
        for index in range(
            0 if gap.after is None else int(str(gap.after[0])),
            count if gap.through is None else int(str(gap.through[0])),
        )
    ]
    assert covered == sorted(missing), "in key order, nothing twice"
    assert len(again.chunk_ids()) <= len(finished)
    for gap in gaps:
        assert not again.is_complete(T)
        again.add(gap)
    assert again.is_complete(T)


def test_what_is_done_is_said_in_one_id_a_table() -> None:
    coverage = Coverage(chunk.chunk_id for chunk in _chunks(9)[:4])
    assert coverage.chunk_ids() == (Chunk(T, None, (4,), 0, 4).chunk_id,)
    assert coverage.gaps(T) == [Chunk(T, (4,), None, 0, 5)]


def test_a_request_for_some_rows_is_counted_apart_from_its_table() -> None:
    coverage = Coverage(chunk.chunk_id for chunk in _chunks(3, request=7))
    assert coverage.is_complete(T, 7)
    assert not coverage.is_complete(T)
    coverage.forget(T)
    assert coverage.is_complete(T, 7)
    coverage.forget(T, 7)
    assert coverage.chunk_ids() == ()


def test_a_table_that_is_no_longer_read_is_forgotten() -> None:
    coverage = Coverage([Chunk(T, None, None).chunk_id])
    coverage.keep_only([("shop", "orders")])
    assert not coverage.is_complete(T)


def _touch(offset: int, *ids: int, number: int = 0) -> Touch:
    return Touch(f"{UUID}:{number or offset}", 1, offset, tuple((i,) for i in ids))


def test_rows_changed_behind_the_view_are_left_out_and_others_kept() -> None:
    touches = TouchLog()
    touches.watch(T, FROM_THE_FIRST)
    touches.record(T, _touch(100, 1))
    touches.record(T, _touch(200, 2))
    touched = touches.touched(Work(T), PositionView(1, 200))
    assert touched == {(2,)}
    columns = [[1, 2, 3], ["a", "b", "c"]]
    assert reconcile(columns, SCHEMA.key, touched) == [0, 2]
    assert reconcile(columns, SCHEMA.key, set()) is None
    assert reconcile(columns, SCHEMA.key, {(9,)}) is None, "nothing is left out"


def test_a_transaction_in_the_binlog_but_not_yet_visible_counts_as_changed_behind_the_view() -> (
    None
):
    """The gap between writing the binlog and committing, which a server's position alone can't show."""
    touches = TouchLog()
    touches.watch(T, FROM_THE_FIRST)
    touches.record(T, _touch(100, 1, number=7))
    view = GtidView(MysqlGtids.parse(f"{UUID}:1-6"), 1, 500)
    assert touches.touched(Work(T), view) == {(1,)}


def test_a_change_of_shape_behind_the_view_voids_the_chunk() -> None:
    touches = TouchLog()
    touches.watch(T, FROM_THE_FIRST)
    touches.record_shape([T], gtid=f"{UUID}:9", file_index=1, offset=300)
    assert touches.touched(Work(T), PositionView(1, 200)) is None
    assert touches.touched(Work(T), PositionView(1, 301)) == set()


def test_nothing_is_forgotten_that_a_chunk_still_being_read_may_need() -> None:
    touches = TouchLog()
    touches.watch(T, FROM_THE_FIRST)
    slow = touches.announce()
    touches.record(T, _touch(100, 1))
    touches.withdraw(touches.announce())
    touches.complete(PositionView(1, 500))
    assert touches.touched(Work(T), PositionView(1, 50)) == {(1,)}, (
        "the slow chunk's view was opened before the quick one's"
    )
    touches.withdraw(slow)
    touches.complete(PositionView(1, 500))
    assert touches.touched(Work(T), PositionView(1, 50)) == set()


def test_a_view_must_have_seen_all_that_the_stream_did_not_watch() -> None:
    since = Since(1, 100, MysqlGtids.parse(f"{UUID}:1-5"))
    assert covers(PositionView(1, 100), since)
    assert not covers(PositionView(1, 99), since)
    assert covers(GtidView(MysqlGtids.parse(f"{UUID}:1-5"), 1, 1), since)
    assert not covers(GtidView(MysqlGtids.parse(f"{UUID}:1-4"), 1, 999), since)


def test_a_chunk_whose_view_is_older_than_the_watch_is_void() -> None:
    """What changed before was not remembered; a table read again is watched anew."""
    touches = TouchLog()
    touches.watch(T, FROM_THE_FIRST)
    touches.record(T, _touch(100, 1))
    touches.watch(T, Since(1, 300, MysqlGtids({})))
    assert touches.touched(Work(T), PositionView(1, 299)) is None
    assert touches.touched(Work(T), PositionView(1, 300)) == set()


def test_a_table_that_is_read_again_has_nothing_done() -> None:
    coverage = Coverage([Chunk(T, None, None).chunk_id])
    coverage.add(Chunk(("shop", "orders"), None, (7,)))
    coverage.forget(T)
    assert not coverage.is_complete(T)
    assert coverage.gaps(T) == [Chunk(T, None, None, 0, 1)]
    assert coverage.gaps(("shop", "orders")) == [Chunk(("shop", "orders"), (7,), None, 0, 1)]


changes = st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 99)), max_size=30)


@given(changes, st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_a_chunk_published_behind_the_stream_gives_the_sources_rows(
    history: list[tuple[int, int | None]], seen: int, started: int, published: int
) -> None:
    """Wherever the view, the start of the stream and the chunk's place in the log lie to one another."""
    started = min(started, len(history))
    seen = min(max(seen, started), len(history))
    published = min(max(published, seen), len(history))
    touches = TouchLog()
    touches.watch(T, FROM_THE_FIRST)
    target: dict[int, int] = {}

    def apply(table: dict[int, int], change: tuple[int, int | None]) -> None:
        if change[1] is None:
            table.pop(change[0], None)
        else:
            table[change[0]] = change[1]

    image: dict[int, int] = {}
    for change in history[:seen]:
        apply(image, change)
    for offset in range(started, published):
        apply(target, history[offset])
        touches.record(T, _touch(offset, history[offset][0], number=offset + 1))
    touched = touches.touched(Work(T), PositionView(1, seen))
    assert touched is not None
    rows = sorted(image.items())
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], []]
    kept = reconcile(columns, SCHEMA.key, touched)
    target.update(rows if kept is None else [rows[index] for index in kept])
    for change in history[published:]:
        apply(target, change)
    truth: dict[int, int] = {}
    for change in history:
        apply(truth, change)
    assert target == truth


def test_composite_keys_are_compared_whole() -> None:
    schema = TableSchema(
        "shop", "lines", (Column("n", "int"), Column("o", "int"), Column("v", "int")), (1, 0)
    )
    assert keys_of(schema, [(1, 2, 3)]) == [(2, 1)]


def _row_touch(offset: int, came: str = "", gone: str = "") -> Touch:
    return Touch(f"0-1-{offset}", 1, offset, tuple((c,) for c in came), tuple((c,) for c in gone))


@pytest.mark.parametrize("seed", range(30))
def test_rows_without_a_key_are_counted_as_of_the_place_where_they_are_sent(seed: int) -> None:
    draw = random.Random(seed)
    touches = TouchLog()
    touches.watch(("d", "t"), Since(1, 0, MariadbGtids.parse("")))
    table, view_at = Counter("aab"), draw.randrange(40)
    seen: list[str] = []
    for offset in range(40):
        if offset == view_at:
            seen = list(table.elements())
        came, gone = draw.choice("abc"), draw.choice([*table.elements(), ""])
        table.update([came])
        table.subtract([gone] if gone else [])
        touches.record(("d", "t"), _row_touch(offset, came, gone))
    changed = touches.counted(Work(("d", "t")), PositionView(1, view_at))
    assert changed is not None
    columns, sizes = recount([seen], [10] * len(seen), changed, "t")
    assert Counter(columns[0]) == +table
    assert len(sizes) == len(columns[0])


def test_a_view_that_may_have_seen_a_change_or_not_counts_nothing() -> None:
    touches = TouchLog()
    touches.watch(("d", "t"), Since(1, 0, MysqlGtids.parse("")))
    touches.record(("d", "t"), Touch(f"{UUID}:2", 1, 200, (("a",),)))
    work, before = Work(("d", "t")), MysqlGtids.parse(f"{UUID}:1")
    assert touches.counted(work, GtidView(before, 1, 201)) is None
    assert touches.counted(work, GtidView(before, 1, 200)) == Counter([("a",)])
    assert touches.counted(work, GtidView(MysqlGtids.parse(f"{UUID}:1-2"), 1, 201)) == Counter()


def test_a_row_that_went_without_having_been_there_halts() -> None:
    with pytest.raises(FatalError, match="did not have"):
        recount([["a"]], [1], {("b",): -1}, "t")
