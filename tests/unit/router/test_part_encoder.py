"""Parts cut from a batch: the same bytes as the batch of their rows has."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, UPDATE, ChangeBatch, Column, TableSchema, Transaction
from gravity.batch import Value as Cell
from gravity.codec import decode_batch, encode_batch
from gravity.key import encode_key, encode_keys
from gravity.part_encoder import PartEncoder

TEXTS = st.one_of(
    st.sampled_from(["", "a", "äöü €", "x" * 63, "x" * 64]),
    st.text(st.characters(codec="utf-8"), max_size=9),
    st.sampled_from(["long" * 2000]),
)
KINDS: dict[str, st.SearchStrategy[Cell]] = {
    "int": st.integers(-(1 << 31), (1 << 31) - 1),
    "tinyint": st.integers(-2, 2),
    "bigint unsigned": st.integers(0, (1 << 64) - 1),
    "bit(64)": st.sampled_from([0, 1, (1 << 63) - 1, 1 << 63]),
    "double": st.floats(allow_nan=False),
    "varchar(64)": TEXTS,
    "blob": st.binary(max_size=70),
}
SCHEMA = TableSchema("app", "t", tuple(Column(f"c{n}", kind) for n, kind in enumerate(KINDS)), (0,))


@st.composite
def batches(draw: st.DrawFn) -> ChangeBatch:
    """As a message brings one: with NULLs, few or many different values, and rows before the change."""
    rows = draw(st.integers(1, 24))

    def cells(kind: str) -> list[Cell]:
        pool = draw(st.lists(st.one_of(st.none(), KINDS[kind]), min_size=1, max_size=rows))
        return draw(st.lists(st.sampled_from(pool), min_size=rows, max_size=rows))

    before_columns = draw(st.sampled_from([(0,), (0, 2, 5), tuple(range(len(KINDS)))]))
    transactions = [
        Transaction(f"gtid-{n}", n, 1 << 33, 1_700_000_000_000_000 + n, -n) for n in range(3)
    ]
    batch = ChangeBatch(
        source="s",
        epoch=1,
        schema=SCHEMA,
        transactions=transactions,
        ops=bytes(draw(st.lists(st.sampled_from([INSERT, UPDATE]), min_size=rows, max_size=rows))),
        tx=sorted(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))),
        ordinal=draw(st.lists(st.sampled_from([0, 1, 4095, 4096, 99_999]), min_size=rows, max_size=rows)),
        columns=[cells(kind) for kind in KINDS],
        before_columns=before_columns,
        before=[cells(list(KINDS)[index]) for index in before_columns],
        origin=draw(st.sampled_from([(), [n * 700 for n in range(rows)]])),
        row_source=draw(st.sampled_from([(), ["s", "other"] * 12]))[:rows],
    )  # fmt: skip
    return decode_batch(encode_batch(batch))


def expected(
    batch: ChangeBatch,
    rows: Sequence[int],
    old: Sequence[bool],
    ops: bytes,
    *,
    before: bool = False,
) -> bytes:
    """By `take` and `encode_batch`, which know nothing of cells."""
    part = batch.take(rows, ops=ops, before=before)
    keys = [batch.before[0][row] if o else batch.columns[0][row] for row, o in zip(rows, old, strict=True)]  # fmt: skip
    part.columns = [keys, *part.columns[1:]]
    used = sorted(set(part.tx))
    part.transactions = [part.transactions[index] for index in used]
    part.tx = [used.index(index) for index in part.tx]
    return encode_batch(part)


@given(batches(), st.data(), st.booleans(), st.booleans())
def test_a_part_has_the_bytes_of_the_batch_of_its_rows(
    batch: ChangeBatch, data: st.DataObject, all_cells: bool, before: bool
) -> None:
    encoder = PartEncoder(batch)
    encoder.expect(len(batch) if all_cells else 0)
    for _ in range(3):
        rows = data.draw(st.lists(st.integers(0, len(batch) - 1), min_size=1))
        ops = bytes([batch.ops[row] for row in rows])
        assert encoder.encode(rows, before=before) == expected(
            batch, rows, [False] * len(rows), ops, before=before
        )
        old = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
        ops = bytes([DELETE if is_old else UPDATE for is_old in old])
        assert encoder.encode(rows, ops, old, before=before) == expected(
            batch, rows, old, ops, before=before
        )


CELLS = st.one_of(
    st.none(), st.integers(), st.text(st.characters(codec="utf-8")), st.binary(), st.floats()
)


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1)))  # fmt: skip
def test_keys_by_columns_are_the_keys_of_the_rows(columns: list[list[Cell]]) -> None:
    assert encode_keys(columns) == [encode_key(key) for key in zip(*columns, strict=True)]
