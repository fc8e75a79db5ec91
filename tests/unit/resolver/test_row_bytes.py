"""Bytes that are put together from remembered parts are those that are written in one go."""

from __future__ import annotations

import json
import math

import pytest
from gravity_resolver import row_cache
from gravity_resolver.conflict_record import ConflictRecords, conflict_record
from gravity_resolver.judgement import Judgement
from gravity_resolver.row_cache import RowCache
from gravity_resolver.row_state import RowState
from gravity_resolver.row_text import RowTexts
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import UPDATE, ChangeBatch, Column, TableSchema, Transaction, Value
from gravity.codec import encode_record
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.cell import cells_to_json
from gravity.resolution.register import Register, Shape
from gravity.resolution.strategy import Hold, Outcome, Verdict

NAMES = ("id", 'a "100 %s" name', "größe")
SCHEMA = TableSchema("shop", "users", tuple(Column(name, "text") for name in NAMES), (0,))
SHAPE = Shape(SCHEMA.schema_id, SCHEMA.columns)
RULE = Resolution("timestamp-latest", {"a": 1, "b": 2})

texts = st.text(st.characters(exclude_categories=("Cs",)) | st.sampled_from('\x7f"\\\x00\u2028é'))
values: st.SearchStrategy[Value] = st.one_of(
    st.none(), st.integers(-(1 << 64), 1 << 64), st.floats(), texts, st.binary(max_size=9)
)
rows = st.lists(st.tuples(values, values, values), min_size=1, max_size=4)


def batch_of(cells: list[tuple[Value, ...]]) -> ChangeBatch:
    return ChangeBatch(
        source="a", epoch=1, schema=SCHEMA, transactions=[Transaction("", 1, 100, 7, 7)],
        ops=bytes([UPDATE]) * len(cells), tx=[0] * len(cells), ordinal=list(range(len(cells))),
        columns=list(zip(*cells, strict=True)),
    )  # fmt: skip


def reg_of(row: tuple[Value, ...] | None, ets: int = 7) -> Register:
    return Register(Position(1, 2, -1, 3), UPDATE, ets, row, SHAPE)


def in_one_go(tag: str, registers: dict[str, Register]) -> bytes:
    """A row's state as `json.dumps` writes it."""
    record = [
        tag,
        [
            [source, list(reg.position), reg.op, reg.ets, None if reg.row is None else cells_to_json(reg.row), reg.shape.schema_id]
            for source, reg in sorted(registers.items())
        ],
    ]  # fmt: skip
    return json.dumps(record, separators=(",", ":")).encode()


@given(rows)
def test_a_state_has_the_bytes_of_its_json(cells: list[tuple[Value, ...]]) -> None:
    made = RowTexts(batch_of(cells))
    for index, row in enumerate(cells):
        reg = reg_of(row)
        made.leave_with(reg, index, contended=True)
        for known in ({"a": reg}, {"ß": reg_of(None), "a": reg}, {"b": reg_of(row), "a": reg}):
            assert RowState("tag", known).dump() == in_one_go("tag", known)


def as_text(row: tuple[Value, ...] | None) -> str | None:
    if row is None:
        return None
    cells = dict(zip(NAMES, cells_to_json(row), strict=True))
    return json.dumps(cells, separators=(",", ":"), ensure_ascii=False)


@given(rows, st.integers(0, (1 << 62)), st.booleans(), st.sampled_from(("row", "delete", "hold")))
def test_a_record_has_the_bytes_of_its_schema(
    cells: list[tuple[Value, ...]], number: int, late: bool, outcome: str
) -> None:
    batch = batch_of(cells)
    header = RoutedHeader(RoutedKind.ROWS, "a", number, plan=3, table="shop.users")
    texts, records = RowTexts(batch), ConflictRecords("t", 2, header, batch, RULE)
    for index, row in enumerate(cells):
        mine, other = reg_of(row, number), reg_of(None)
        texts.leave_with(mine, index, contended=True)
        known = {"b": other, "a": mine}
        verdicts: dict[str, Verdict] = {
            "row": Outcome("a", row, SHAPE.columns), "delete": Outcome("b", None, SHAPE.columns),
            "hold": Hold(()),
        }  # fmt: skip
        hold = "t.0.1.2" if outcome == "hold" else ""
        judged = Judgement(RowState("", known), verdicts[outcome], True, hold, "met", known)
        expected = encode_record(
            "conflict",
            {
                "target": "t", "table": "shop.users", "kind": "update_update", "strategy": RULE.strategy,
                "key": json.dumps(cells_to_json(row[:1]), separators=(",", ":"), ensure_ascii=False),
                "outcome": outcome, "winner": {"row": "a", "delete": "b", "hold": ""}[outcome], "source": "a",
                "seq": number, "row": index, "plan": 3,
                "opinions": [
                    {"source": "a", "position": "1:2:-1:3", "ets": number, "row": as_text(row)},
                    {"source": "b", "position": "1:2:-1:3", "ets": 7, "row": None},
                ],
                "state": "met", "hold": hold, "partition": 2, "key_columns": [NAMES[0]],
                "result": as_text(row) if outcome == "row" else None, "late": late,
            },
        )  # fmt: skip
        # Twice: with the parts remembered, the bytes are the same.
        for _ in range(2):
            assert records.record(index, "update_update", judged, late=late) == expected
        forgetful = {"b": reg_of(None), "a": reg_of(row, number)}
        judged = Judgement(RowState("", forgetful), verdicts[outcome], True, hold, "met", forgetful)
        made = conflict_record(
            "t", header=header, batch=batch, index=index, kind="update_update", rule=RULE,
            judged=judged, partition=2, late=late,
        )  # fmt: skip
        assert made == expected


def test_a_number_that_is_none_is_saved_as_json_has_it() -> None:
    batch = batch_of([(1, math.nan, math.inf), (2, 0.5, -math.inf)])
    reg = reg_of(batch.rows()[0])
    RowTexts(batch).leave_with(reg, 0, contended=False)
    assert b"[1,NaN,Infinity]" in RowState("", {"a": reg}).dump()


def test_a_remembered_row_counts_only_for_the_bytes_it_was_made_of() -> None:
    cache, row = RowCache(), RowState("tag")
    cache.keep(b"slot", b"saved", row)
    assert cache.find(b"slot", b"saved") is row
    assert cache.find(b"slot", b"other") is None
    assert cache.find(b"another", b"saved") is None


def test_remembered_rows_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_cache, "GENERATION_BYTES_MAX", 100)
    cache = RowCache()
    for number in range(100):
        cache.keep(b"%d" % number, b"x" * 10, RowState())
        assert cache.find(b"%d" % number, b"x" * 10) is not None
    remembered = [n for n in range(100) if cache.find(b"%d" % n, b"x" * 10) is not None]
    assert 10 <= len(remembered) <= 20
    assert remembered[-1] == 99


def test_rows_that_grow_while_they_are_remembered_count_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_cache, "GENERATION_BYTES_MAX", 100)
    cache = RowCache()
    for length in (1, 50, 20):
        for number in range(30):
            cache.keep(b"%d" % number, b"x" * length, RowState())
            found = [
                n for n in range(30) for size in (1, 50, 20) if cache.find(b"%d" % n, b"x" * size)
            ]
            assert len(found) == len(set(found))
            held = sum(len(saved) for saved, _ in cache._young.values())
            assert held == cache._young_bytes <= 100 + length
