"""The table of conflicts that any resolver must get right, every row in every order, with repeats."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import pytest

from gravity.batch import Column
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.conflict import conflict_kind
from gravity.resolution.register import Change, Register, Shape, register
from gravity.resolution.strategy import Outcome, resolve, rule_tag, same_outcome
from gravity.resolution.value import normalised

COLUMNS = (Column("id", "int"), Column("v", "varchar(20)"))
SHAPE = Shape("shape", COLUMNS)
RANKS = {"A": 1, "B": 2, "C": 3}
LATEST = Resolution("timestamp-latest", RANKS)
INCARNATION = Resolution("source-priority", RANKS)
ABSOLUTE = Resolution("source-priority", RANKS, on_delete="absolute")
FALLTHROUGH = Resolution("source-priority", RANKS, on_delete="fallthrough")


def change(
    source: str,
    position: int,
    ets: int,
    value: str | None,
    *,
    op: str | None = None,
    epoch: int = 1,
    shape: Shape = SHAPE,
) -> Change:
    """`value` None is a delete; `position` orders the source's own changes."""
    letter = op or ("D" if value is None else "U")
    row = (1, value if value is not None else "gone")
    return Change(source, Position(epoch, 1, position), ord(letter), ets, row, shape)


def settle(changes: list[Change], rule: Resolution) -> Outcome | None:
    registers: dict[str, Register] = {}
    for one in changes:
        registers[one.source] = register(registers.get(one.source), one)
    outcome = resolve(registers, rule)
    assert outcome is None or isinstance(outcome, Outcome)
    return outcome


@dataclass(frozen=True)
class Case:
    name: str
    rule: Resolution
    changes: tuple[Change, ...]
    value: str | None
    """The row that must stand; None = no row."""


A10, B11 = change("A", 1, 10, "a"), change("B", 1, 11, "b")
B_DELETED_12 = change("B", 1, 12, None)
CASES = [
    Case("1 the later one", LATEST, (A10, B11), "b"),
    Case("2 a tie goes to the rank", LATEST, (A10, change("B", 1, 10, "b")), "a"),
    Case("3 a delete that ties", LATEST, (A10, change("B", 1, 10, None)), "a"),
    Case("4 a later delete", LATEST, (A10, B_DELETED_12), None),
    Case("5 a late update", LATEST, (B_DELETED_12, change("A", 1, 11, "a")), None),
    Case("6 revived", LATEST, (change("A", 1, 12, None), change("B", 1, 13, "b")), "b"),
    Case(
        "7 an old one again",
        LATEST,
        (B11, A10, change("A", 2, 20, "a2"), B11),
        "a2",
    ),
    Case(
        "8 a clock that went back",
        LATEST,
        (change("A", 1, 20, "a1"), change("A", 2, 20, "a2"), change("B", 1, 17, "b")),
        "a2",
    ),
    Case("10 the better source", INCARNATION, (change("B", 1, 20, "b"), A10), "a"),
    Case(
        "11 its delete hides older rows",
        INCARNATION,
        (change("A", 1, 30, None), change("B", 1, 20, "b")),
        None,
    ),
    Case(
        "12 but not newer ones",
        INCARNATION,
        (change("A", 1, 30, None), change("B", 1, 40, "b")),
        "b",
    ),
    Case(
        "12 absolute: all",
        ABSOLUTE,
        (change("A", 1, 30, None), change("B", 1, 40, "b")),
        None,
    ),
    Case(
        "12 fallthrough: none",
        FALLTHROUGH,
        (change("A", 1, 30, None), change("B", 1, 20, "b")),
        "b",
    ),
    Case("13 a worse source's delete", INCARNATION, (A10, change("B", 1, 50, None)), "a"),
    Case(
        "14 inserted again",
        INCARNATION,
        (change("A", 1, 30, None), change("B", 1, 40, "b"), change("A", 2, 50, "a2")),
        "a2",
    ),
    Case("15 only the worst", INCARNATION, (change("C", 1, 5, "c"),), "c"),
    Case(
        "32 inserted, deleted, inserted, the delete again",
        LATEST,
        (
            change("A", 1, 1, "first", op="I"),
            change("A", 2, 2, None),
            change("A", 3, 3, "third", op="I"),
            change("A", 2, 2, None),
        ),
        "third",
    ),
    Case(
        "37 a snapshot loses to any change",
        LATEST,
        (change("A", 9, 100, "read", op="R"), change("B", 1, 5, "b")),
        "b",
    ),
    Case(
        "37 snapshot against snapshot",
        LATEST,
        (change("A", 9, 100, "a", op="R"), change("B", 9, 200, "b", op="R")),
        "a",
    ),
    Case(
        "39 read again under a new epoch",
        LATEST,
        (
            change("A", 1, 10, "a1"),
            change("A", 2, 20, "a2"),
            B11,
            change("A", 500, 20, "a2", epoch=2),
        ),
        "a2",
    ),
    Case(
        "40 both deleted",
        LATEST,
        (change("A", 1, 10, None), change("B", 1, 11, None)),
        None,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_order_and_any_repetition_ends_alike(case: Case) -> None:
    orders = list(permutations(case.changes))
    for order in orders:
        doubled = [list(order), [*order, *order], [c for c in order for _ in range(2)]]
        doubled += [[*order, one] for one in order]
        for changes in doubled:
            outcome = settle(changes, case.rule)
            assert outcome is not None
            assert (None if outcome.row is None else outcome.row[1]) == case.value


def met(changes: list[Change], rule: Resolution) -> list[str | None]:
    """The conflict each change meets."""
    registers: dict[str, Register] = {}
    kinds = []
    for one in changes:
        before = dict(registers)
        registers[one.source] = register(registers.get(one.source), one)
        kinds.append(conflict_kind(before, one, rule, resolve(registers, rule)))
    return kinds


@pytest.mark.parametrize(
    ("rule", "changes", "kind"),
    [
        (LATEST, (change("A", 1, 1, "a", op="I"), change("B", 1, 2, "b", op="I")), "insert_insert"),
        (LATEST, (change("A", 1, 1, "a", op="R"), change("B", 1, 2, "b", op="R")), "insert_insert"),
        (LATEST, (A10, B11), "update_update"),
        (LATEST, (A10, B_DELETED_12), "update_delete"),
        (LATEST, (change("A", 1, 12, None), change("B", 1, 13, "b")), "update_delete"),
        (LATEST, (B_DELETED_12, change("A", 1, 11, "a")), "update_after_delete"),
        (INCARNATION, (A10, change("B", 1, 50, None)), "delete_stale"),
        (LATEST, (change("A", 1, 10, None), change("B", 1, 11, None)), "delete_missing"),
        (LATEST, (A10, change("B", 1, 11, "a")), None),
        (LATEST, (A10, change("A", 2, 11, "other")), None),
        (LATEST, (A10, B11, change("A", 9, 0, "a", op="R")), None),
        (Resolution("timestamp-latest", {"A": 1}), (A10, B11), None),
    ],
)
def test_a_conflict_has_a_kind(
    rule: Resolution, changes: tuple[Change, ...], kind: str | None
) -> None:
    assert met(list(changes), rule)[-1] == kind


WIDE = Shape("wide", (*COLUMNS, Column("z", "int")))


def wide(source: str, position: int, ets: int, value: str, z: int) -> Change:
    return Change(source, Position(1, 1, position), ord("U"), ets, (1, value, z), WIDE)


def test_columns_that_the_winner_lacks_come_from_the_next_in_order() -> None:
    changes = [wide("B", 0, 10, "b", 7), wide("C", 1, 9, "c", 8), B11, change("A", 1, 20, "a")]
    outcome = settle(changes, LATEST)
    assert outcome is not None
    assert outcome.winner == "A"
    assert outcome.row == (1, "a", 8)  # B's later change no longer has the column.
    assert [column.name for column in outcome.columns] == ["id", "v", "z"]
    assert outcome.filled_from == ("C",)


def test_a_hidden_row_fills_nothing() -> None:
    changes = [change("A", 1, 20, "a"), change("B", 1, 15, None), wide("C", 1, 10, "c", 8)]
    outcome = settle(changes, LATEST)
    assert outcome is not None
    assert outcome.row == (1, "a", None)  # Nor may its value stay where an earlier outcome put it.


VERSIONED = Shape("versioned", (Column("id", "int"), Column("at", "datetime(3)")))
BY_COLUMN = replace(LATEST, timestamp_column="at")


@pytest.mark.parametrize(
    ("one", "other", "type_", "winner"),
    [
        ("2024-01-01 10:00:00.500", "2024-01-01 10:00:00.400", "datetime(3)", "A"),
        ("2024-01-01 10:00:00.4", "2024-01-01 10:00:00.50", "datetime(3)", "B"),
        ("0000-00-00 00:00:00", "1970-01-02 00:00:00", "datetime", "B"),
        (None, "1970-01-02 00:00:00", "datetime", "B"),
        (10, 9, "int", "A"),
        ("10", "9", "varchar(20)", "A"),
        ("20240101", "9", "varchar(20)", "A"),
        ("nan", "1", "varchar(20)", "B"),
        ("1.10", "1.1", "decimal(4,2)", "A"),
        (b"\x01\x00", b"\xff", "binary(2)", "A"),
    ],
)
def test_a_column_may_decide(one: object, other: object, type_: str, winner: str) -> None:
    shape = Shape("versioned", (Column("id", "int"), Column("at", type_)))
    rows = {
        "A": Change("A", Position(1, 1, 1), ord("U"), 5, (1, one), shape),  # type: ignore[arg-type]
        "B": Change("B", Position(1, 1, 1), ord("U"), 9, (1, other), shape),  # type: ignore[arg-type]
    }
    for order in permutations(rows.values()):
        outcome = settle(list(order), BY_COLUMN)
        assert outcome is not None
        assert outcome.winner == winner


def test_a_delete_counts_by_its_commit_time_beside_a_column() -> None:
    # 1970-01-01 00:00:10 is 10,000,000 µs.
    row = Change("A", Position(1, 1, 1), ord("U"), 1, (1, "1970-01-01 00:00:10.000"), VERSIONED)
    for ets, gone in ((9_999_999, False), (10_000_001, True)):
        outcome = settle([row, change("B", 1, ets, None)], BY_COLUMN)
        assert outcome is not None
        assert (outcome.row is None) == gone


@pytest.mark.parametrize(
    ("type_", "one", "other", "equal"),
    [
        ("decimal(12,2)", "1.0", "1.00", True),
        ("decimal(12,2)", "100", "100.00", True),
        ("decimal(12,0)", "100", "10", False),
        ("decimal(65,30)", "1." + "0" * 29 + "1", "1." + "0" * 30, False),
        ("datetime(6)", "2024-01-01 10:00:00", "2024-01-01 10:00:00.000000", True),
        ("time(3)", "10:00:00.100", "10:00:00.1", True),
        ("varchar(9)", "1.0", "1.00", False),
        ("varchar(9)", None, "", False),
    ],
)
def test_rows_are_equal_when_a_target_would_hold_the_same(
    type_: str, one: str | None, other: str | None, equal: bool
) -> None:
    columns = (Column("c", type_),)
    assert (normalised((one,), columns) == normalised((other,), columns)) == equal
    first, second = (Outcome("A", (value,), columns) for value in (one, other))
    assert same_outcome(first, second) == equal


def test_a_rule_is_known_by_its_tag() -> None:
    assert rule_tag(LATEST) == rule_tag(replace(LATEST, ranks={"C": 3, "B": 2, "A": 1}))
    tags = {rule_tag(rule) for rule in (LATEST, INCARNATION, ABSOLUTE, FALLTHROUGH, BY_COLUMN)}
    assert len(tags) == 5
