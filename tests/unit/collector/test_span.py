"""Grouping is a function of the rows read; limits hold; what did not commit is taken out again."""

from collections.abc import Sequence

from gravity_collector.span import FULL_ENOUGH, Flow, Limits, SpanBuilder, grouping
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, UPDATE, Column, TableSchema
from gravity.codec import decode_batch, encode_batch


def _flow(name: str, *, in_runs: bool = False) -> Flow:
    return Flow(
        TableSchema("d", name, (Column("id", "int"), Column("v", "varchar(9)")), (0,)),
        (0,),
        in_runs,
    )


FLOWS = [_flow("a"), _flow("b"), _flow("g1", in_runs=True), _flow("g2", in_runs=True)]
flows = st.lists(st.sampled_from(FLOWS), max_size=40)


def _stand_in(flows: Sequence[Flow]) -> list[int]:
    """The rule as the delivery model states it."""
    out, at, run = [], {}, None
    count = 0
    for flow in flows:
        if flow.in_runs:
            if run is None or run[0] is not flow:
                run = (flow, count)
                count += 1
            out.append(run[1])
        else:
            if flow not in at:
                at[flow] = count
                count += 1
            out.append(at[flow])
    return out


@given(flows)
def test_one_message_a_table_but_runs_in_a_group(found: list[Flow]) -> None:
    assert grouping(found) == _stand_in(found)


@given(flows, st.integers(0, 40))
def test_grouping_of_a_prefix_is_a_prefix_of_the_grouping(found: list[Flow], cut: int) -> None:
    assert grouping(found[:cut]) == grouping(found)[:cut]


def test_a_new_shape_of_a_table_begins_a_new_message() -> None:
    old, new = _flow("a"), _flow("a")
    assert grouping([old, FLOWS[1], new, new]) == [0, 1, 2, 2]


def _builder() -> SpanBuilder:
    builder = SpanBuilder("s", 1, ets=0)
    builder.begin("0-1-1", 1, 100, 5)
    return builder


def test_before_images_stand_beside_their_rows() -> None:
    builder = _builder()
    builder.add(FLOWS[0], INSERT, [(1, "a")], (), ordinal=0, size=9)
    builder.add(FLOWS[0], UPDATE, [(2, "b")], [(1, "a")], ordinal=1, size=9)
    builder.add(FLOWS[0], DELETE, [(2, "b")], (), ordinal=2, size=9)
    builder.end()
    (batch,) = builder.take()
    assert (batch.ops, list(batch.ordinal), batch.before) == (b"IUD", [0, 1, 2], [[None, 1, 2]])
    again = decode_batch(encode_batch(batch))
    assert (again.rows(), again.ops, list(again.tx)) == (batch.rows(), batch.ops, list(batch.tx))


def test_event_time_is_the_running_maximum_of_commit_time() -> None:
    builder = SpanBuilder("s", 1, ets=50)
    for number, commit_us in enumerate((40, 60, 55)):
        builder.begin(f"0-1-{number}", 1, number, commit_us)
        builder.add(FLOWS[0], INSERT, [(number, "x")], (), ordinal=0, size=1)
        builder.end()
    (batch,) = builder.take()
    assert [(t.commit_us, t.ets) for t in batch.transactions] == [(40, 50), (60, 60), (55, 60)]
    assert builder.ets == 60


def test_a_transaction_that_did_not_hold_leaves_nothing_behind() -> None:
    builder = _builder()
    builder.add(FLOWS[0], INSERT, [(1, "kept")], (), ordinal=0, size=9)
    builder.end()
    builder.begin("0-1-2", 1, 200, 6)
    builder.add(FLOWS[0], INSERT, [(2, "gone")], (), ordinal=0, size=9)
    builder.add(FLOWS[1], INSERT, [(3, "gone")], (), ordinal=1, size=9)
    assert builder.drop_open()
    builder.end()
    (batch,) = builder.take()
    assert batch.rows() == [(1, "kept")]
    assert [t.gtid for t in batch.transactions] == ["0-1-1"]


def test_a_transaction_given_away_in_part_cannot_be_taken_back() -> None:
    builder = _builder()
    builder.add(FLOWS[0], INSERT, [(1, "a")], (), ordinal=0, size=9)
    builder.take()
    builder.add(FLOWS[0], INSERT, [(2, "b")], (), ordinal=1, size=9)
    assert not builder.drop_open()


@given(st.integers(1, 50), st.integers(1, 5000), st.integers(1, 100), st.integers(1, 100_000))
def test_at_least_one_row_always_fits_an_empty_span(
    rows_max: int, bytes_max: int, rows: int, size: int
) -> None:
    builder, limits = _builder(), Limits(rows_max, bytes_max)
    room = builder.room(limits, rows=rows, size=size)
    assert 1 <= room <= max(1, min(rows, rows_max))
    assert room == 1 or room * size / rows <= bytes_max


def test_a_full_span_has_no_room() -> None:
    builder, limits = _builder(), Limits(2, 1000)
    builder.add(FLOWS[0], INSERT, [(1, "a"), (2, "b")], (), ordinal=0, size=9)
    assert builder.room(limits, rows=1, size=1) == 0


def test_a_span_nearly_full_ends_with_its_transaction() -> None:
    builder, limits = _builder(), Limits(8, 10_000)
    rows = int(8 * FULL_ENOUGH)
    builder.add(FLOWS[0], INSERT, [(i, "a") for i in range(rows - 1)], (), ordinal=0, size=9)
    assert not builder.is_full_enough(limits)
    builder.add(FLOWS[0], INSERT, [(9, "a")], (), ordinal=rows, size=9)
    assert builder.is_full_enough(limits)


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 8), st.integers(1, 60))
def test_rows_are_cut_in_order_and_within_limits(
    sizes: list[int], rows_max: int, bytes_max: int
) -> None:
    cuts = Limits(rows_max, bytes_max).cut(sizes)
    assert [index for start, end in cuts for index in range(start, end)] == list(range(len(sizes)))
    for start, end in cuts:
        assert end - start <= rows_max
        assert sum(sizes[start:end]) <= bytes_max or end - start == 1
