"""Merging column by column, stopping at a disagreement, and what an operator decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from gravity.batch import READ, Column, Value
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.register import (
    Change,
    Decision,
    Floor,
    Floors,
    Register,
    Shape,
    register,
)
from gravity.resolution.strategy import Hold, Outcome, Verdict, after, resolve

RANKS = {"A": 1, "B": 2, "C": 3}
MERGE = Resolution("merge", RANKS)
STOP = Resolution("error-stop", RANKS)
LATEST = Resolution("timestamp-latest", RANKS)


def shape(**types: str) -> Shape:
    return Shape(str(types), tuple(Column(name, type_) for name, type_ in types.items()))


XY = shape(x="int", y="int")


def say(
    source: str,
    at: int,
    ets: int,
    row: Sequence[Value] | None,
    *,
    sets: str | None = None,
    op: str = "U",
    of: Shape = XY,
) -> Change:
    """A change; `sets` names the columns it changed, None = all; no row = a delete."""
    if row is None:
        return Change(source, Position(1, 1, at), ord("D"), ets, (None, None), of, frozenset())
    names = {c.name for c in of.columns} if sets is None else set(sets.split())
    changed = frozenset(() if ord(op) == READ else names)
    return Change(source, Position(1, 1, at), ord(op), ets, tuple(row), of, changed)


def settle(
    changes: Sequence[Change],
    rule: Resolution,
    decision: Decision | None = None,
    floors: Floors | None = None,
) -> Verdict | None:
    registers: dict[str, Register] = {}
    for one in changes:
        kept = one if rule.strategy == "merge" else replace(one, changed=None)
        registers[one.source] = register(registers.get(one.source), kept)
    return resolve(registers, rule, decision, floors)


def rows_of(changes: Sequence[Change], rule: Resolution, **more: Any) -> set[Any]:
    """What every order, with repeats, comes to: one thing, if the law holds."""
    found: set[Any] = set()
    for order in permutations(changes):
        for told in (order, [*order, *order], [*order, order[0]]):
            verdict = settle(told, rule, **more)
            assert verdict is not None
            if isinstance(verdict, Hold):
                found.add("hold")
            else:
                found.add(None if verdict.row is None else verdict.row)
    return found


READ_00 = [say(s, 1, 0, (0, 0), op="R") for s in "AB"]
NULLS = [say("A", 1, 10, (1, None), sets="x", op="I"), say("B", 1, 11, (None, 2), sets="y", op="I")]
GROUPED = replace(MERGE, groups=(("x", "y"),))


@pytest.mark.parametrize(
    ("name", "rule", "changes", "row"),
    [
        ("17", MERGE, [*READ_00, say("A", 2, 10, (1, 0), sets="x"), say("B", 2, 11, (0, 2), sets="y")], (1, 2)),
        ("18", MERGE, [say("A", 1, 10, (1, 0), sets="x"), say("B", 1, 11, (2, 0), sets="x")], (2, 0)),
        ("19", MERGE, [say("A", 1, 5, (1, 1)), say("B", 1, 4, (2, 2)), say("B", 2, 9, (2, 2), sets="")], (1, 1)),
        ("20", MERGE, [say("A", 1, 12, None), say("B", 1, 11, (0, 2), sets="y")], None),
        ("20 revived", MERGE, [say("A", 1, 12, None), say("B", 1, 13, (0, 2), sets="y")], (0, 2)),
        ("22", MERGE, NULLS, (1, 2)),
        ("22 NULL counts", replace(MERGE, null_is_unset=False), NULLS, (1, 2)),
        ("23", GROUPED, [*READ_00, say("A", 2, 10, (1, 0), sets="x"), say("B", 2, 11, (0, 2), sets="y")], (0, 2)),
        ("26", STOP, [say("A", 1, 10, (1, 0)), say("B", 1, 11, (2, 0))], "hold"),
        ("26 cleared", STOP, [say("A", 1, 10, (1, 0)), say("B", 1, 11, (2, 0)), say("A", 2, 12, (2, 0))], (2, 0)),
        ("26 a delete", STOP, [say("A", 1, 10, (1, 0)), say("B", 1, 11, None)], "hold"),
        ("27", STOP, [say("A", 1, 10, (1, 0)), say("B", 1, 11, (1, 0))], (1, 0)),
        ("both gone", STOP, [say("A", 1, 10, None), say("B", 1, 11, None)], None),
    ],
)  # fmt: skip
def test_every_order_and_repetition_merges_alike(
    name: str, rule: Resolution, changes: list[Change], row: object
) -> None:
    assert rows_of(changes, rule) == {row}


@pytest.mark.parametrize(
    ("how", "type_", "cells", "value"),
    [
        ("sum", "int", {"A": 3, "B": 4}, 7),
        ("sum", "int", {"A": 3, "B": None}, 3),
        ("sum", "int", {"A": None, "B": None}, None),
        ("sum", "decimal(65,2)", {"A": "1" * 63 + ".01", "B": "0.99"}, "1" * 62 + "2.00"),
        ("sum", "double", {"A": 0.5, "B": 0.25}, 0.75),
        ("max", "int", {"A": 3, "B": 4}, 4),
        ("max", "decimal(5,2)", {"A": "9.50", "B": "10.00"}, "10.00"),
        ("min", "time", {"A": "-01:00:00", "B": "-00:30:00"}, "-01:00:00"),
        ("max", "time", {"A": "99:00:00", "B": "100:00:00"}, "100:00:00"),
        ("min", "varchar(9)", {"A": None, "B": "b", "C": "a"}, "a"),
        ("max", "varbinary(9)", {"A": b"\x00", "B": b"\xff"}, b"\xff"),
        ("union", "set('a','b','c')", {"A": "c", "B": "a,c"}, "a,c"),
        ("union", "varchar(9)", {"A": "c", "B": "a,c", "C": None}, "c,a"),
        ("union", "json", {"A": "[1, 2]", "B": "[2,3]"}, "[1, 2, 3]"),
        ("coalesce", "int", {"A": None, "B": 2, "C": 3}, 2),
        ("priority", "int", {"A": 1, "B": 2}, 1),
        ("owner:C", "int", {"A": 1, "B": 2, "C": 3}, 3),
        ("owner:C", "int", {"A": 1, "B": 2}, 2),
        ("latest", "int", {"A": 1, "B": 2}, 2),
    ],
)
def test_a_column_has_a_rule(
    how: str, type_: str, cells: Mapping[str, Value], value: Value
) -> None:
    of = shape(id="int", v=type_)
    changes = [
        say(source, 1, 10 + number, (7, cell), of=of)
        for number, (source, cell) in enumerate(cells.items())
    ]
    assert rows_of(changes, replace(MERGE, columns={"v": how})) == {(7, value)}


def test_a_sum_adds_each_source_once_however_often_it_is_told() -> None:
    qty = replace(MERGE, columns={"x": "sum"})
    changes = [say("A", 1, 10, (3, 0)), say("B", 1, 11, (4, 0)), say("A", 2, 12, (5, 0))]
    assert rows_of(changes, qty) == {(9, 0)}


def test_columns_that_one_source_lacks_come_from_those_that_have_them() -> None:
    wide = shape(x="int", z="int")
    changes = [say("A", 1, 10, (1, 2)), say("B", 1, 9, (3, 4), of=wide)]
    verdict = settle(changes, MERGE)
    assert isinstance(verdict, Outcome)
    assert [column.name for column in verdict.columns] == ["x", "y", "z"]
    assert verdict.row == (1, 2, 4)


def test_a_window_tells_a_disagreement_from_a_later_change() -> None:
    windowed = replace(STOP, conflict_window_us=5)
    apart = [say("A", 1, 10, (1, 0)), say("B", 1, 16, (2, 0))]
    assert rows_of(apart, windowed) == {(2, 0)}
    near = [say("A", 1, 10, (1, 0)), say("B", 1, 15, (2, 0))]
    assert rows_of(near, windowed) == {"hold"}
    assert rows_of([*near, say("A", 2, 30, (3, 0))], windowed) == {(3, 0)}


@pytest.mark.parametrize(
    ("type_", "one", "other"),
    [
        ("decimal(5,2)", "1.0", "1.00"),
        ("datetime(6)", "2024-01-01 10:00:00", "2024-01-01 10:00:00.000000"),
        ("json", '{"a": 1, "b": [2]}', '{"b":[2],"a":1}'),
        ("set('a','b')", "b,a", "a,b"),
        ("float", 0.1, 0.10000000149011612),
        ("double", 1.0, 1),
    ],
)
def test_equal_values_written_differently_are_no_disagreement(
    type_: str, one: Value, other: Value
) -> None:
    of = shape(id="int", v=type_)
    changes = [say("A", 1, 1, (7, one), of=of), say("B", 1, 2, (7, other), of=of)]
    assert rows_of(changes, STOP) == {(7, one)}


A10, B11 = say("A", 1, 10, (1, 1)), say("B", 1, 11, (2, 2))
SEEN = {"A": Position(1, 1, 1), "B": Position(1, 1, 1)}
KEEP_A = Decision(1, SEEN, (1, 1), XY.columns, "A")


@pytest.mark.parametrize("rule", [MERGE, STOP, LATEST, Resolution("source-priority", RANKS)])
def test_a_decision_stands_for_what_the_operator_saw(rule: Resolution) -> None:
    own = Decision(1, SEEN, (8, 9), XY.columns)
    assert rows_of([A10, B11], rule, decision=own) == {(8, 9)}
    assert rows_of([A10, B11, A10], rule, decision=KEEP_A) == {(1, 1)}
    assert rows_of([A10, B11], rule, decision=Decision(1, SEEN, None)) == {None}


def test_a_newer_change_competes_with_a_decision() -> None:
    later = say("A", 2, 12, (5, 5))
    assert rows_of([A10, B11, later], LATEST, decision=KEEP_A) == {(5, 5)}
    assert rows_of([A10, B11, later], STOP, decision=KEEP_A) == {"hold"}
    agreeing = say("B", 2, 12, (1, 1))
    assert rows_of([A10, B11, agreeing], STOP, decision=KEEP_A) == {(1, 1)}
    # One that the operator did not see, although it is older, is not covered either.
    unseen = say("C", 1, 5, (3, 3))
    assert rows_of([A10, B11, unseen], STOP, decision=KEEP_A) == {"hold"}


def test_a_truncate_leaves_nothing_of_its_source_below_it() -> None:
    floors = {"B": Floor(Position(1, 1, 5), 20)}
    assert rows_of([A10, B11], LATEST, floors=floors) == {None}
    assert rows_of([A10, B11], Resolution("source-priority", RANKS), floors=floors) == {(1, 1)}
    assert rows_of([B11, say("B", 6, 21, (7, 7))], LATEST, floors=floors) == {(7, 7)}
    # A decision covers what stood before the truncate, not the truncate.
    assert rows_of([A10, B11], LATEST, floors=floors, decision=KEEP_A) == {None}


def test_columns_of_what_a_decision_covers_do_not_stay_at_the_target() -> None:
    wide = shape(x="int", y="int", z="int")
    changes = [say("A", 1, 20, (1, 2)), say("B", 1, 10, (3, 4, 5), of=wide)]
    seen_b = {"B": Position(1, 1, 1)}
    for decision in (Decision(1, seen_b, None), Decision(1, seen_b, (8, 9), XY.columns)):
        verdict = settle(changes, LATEST, decision)
        assert isinstance(verdict, Outcome)
        assert (verdict.row, verdict.lacking) == ((1, 2, None), ("z",))


def test_a_column_that_a_source_lost_does_not_stay_at_the_target() -> None:
    wide = shape(x="int", y="int", z="int")
    first, then = say("A", 1, 10, (1, 2, 3), of=wide), say("A", 2, 11, (4, 5))
    before, now = settle([first], LATEST), settle([first, then], LATEST)
    assert isinstance(now, Outcome)
    assert after(before, now).row == (4, 5, None)
    assert after(None, now) is now
    held = settle([first, say("B", 1, 10, (0, 0))], STOP)
    assert isinstance(held, Hold)
    assert after(held, now).lacking == ("z",)
