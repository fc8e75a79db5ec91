"""Where keys are placed: stable, by weight, and moving as little as can be."""

from __future__ import annotations

import json
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.errors import FatalError
from gravity.placement import (
    BUCKETS,
    NOWHERE,
    Placement,
    RangeShare,
    buckets_of,
    least_loaded,
    rebalanced,
    rendezvous,
    residues_of,
    round_robin,
    smooth_cycle,
)

weights = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 9), min_size=1)


def by_range(
    kind: str, *ends: tuple[str | None, str | None], otherwise: int = NOWHERE
) -> Placement:
    shares = tuple(RangeShare(low, high, place) for place, (low, high) in enumerate(ends))
    targets = tuple(f"t{n}" for n in range(len(ends) + 1))
    return Placement(
        "r", "range", "range", ("k",), targets, ranges=shares, kind=kind, otherwise=otherwise  # type: ignore[arg-type]
    )  # fmt: skip


@given(st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1), st.integers(1, 16))
def test_whole_numbers_are_divided_as_they_are(values: list[int], modulus: int) -> None:
    found = residues_of([values], modulus)
    assert all((value - rest) % modulus == 0 for value, rest in zip(values, found, strict=True))
    assert all(0 <= rest < modulus for rest in found)


def test_null_does_not_change_how_the_other_rows_are_placed() -> None:
    assert residues_of([[5, None, -1]], 4)[0::2] == residues_of([[5, -1]], 4) == [1, 3]


def test_a_placement_never_changes() -> None:
    path = Path(__file__).parents[3] / "schemas/examples/placement.json"
    examples = json.loads(path.read_text(encoding="utf-8"))
    for vector in examples["keys"]:
        key = [bytes.fromhex(c["hex"]) if isinstance(c, dict) else c for c in vector["key"]]
        assert buckets_of([[cell] for cell in key]) == [vector["bucket"]], vector
        assert residues_of([[cell] for cell in key], 4) == [vector["residue_of_4"]], vector
    for vector in examples["rendezvous"]:
        counts = Counter(rendezvous(vector["weights"]))
        assert counts == vector["buckets"], vector
        assert list(rendezvous(vector["weights"])[:16]) == vector["first_16"]


@given(weights)
def test_every_target_has_about_its_weight_of_the_buckets(given_weights: dict[str, int]) -> None:
    counts = Counter(round_robin(given_weights))
    total = sum(given_weights.values())
    for name, weight in given_weights.items():
        assert abs(counts[name] - BUCKETS * weight / total) <= 1


@given(weights)
def test_at_no_moment_is_a_target_two_turns_away_from_its_share(
    given_weights: dict[str, int],
) -> None:
    total = sum(given_weights.values())
    cycle = smooth_cycle(given_weights, total)
    assert Counter(cycle) == given_weights
    for name, weight in given_weights.items():
        turns = accumulate(target == name for target in cycle)
        assert all(abs(had - n * weight / total) < 2 for n, had in enumerate(turns, 1))


@pytest.mark.parametrize("targets", [1, 2, 3, 4, 7])
def test_a_new_target_takes_about_its_share_and_nothing_else_moves(targets: int) -> None:
    names = [f"shard-{n}" for n in range(targets + 1)]
    before = rendezvous(dict.fromkeys(names[:-1], 1))
    after = rendezvous(dict.fromkeys(names, 1))
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {names[-1]}
    share = 1 / (targets + 1)
    deviation = (share * (1 - share) / BUCKETS) ** 0.5
    assert abs(len(moved) / BUCKETS - share) < 4 * deviation


@given(weights, weights)
def test_new_weights_move_no_bucket_they_need_not(old: dict[str, int], new: dict[str, int]) -> None:
    before = round_robin(old)
    after = rebalanced(before, new)
    counts, held = Counter(after), Counter(before)
    total = sum(new.values())
    assert all(abs(counts[name] - BUCKETS * weight / total) < 1 for name, weight in new.items())
    assert set(counts) <= set(new)
    moved = sum(one != other for one, other in zip(before, after, strict=True))
    assert moved == sum(max(0, held[name] - counts[name]) for name in held)
    assert rebalanced(after, new) == after


def test_a_target_stays_until_another_is_clearly_better() -> None:
    assert least_loaded({"a": 100, "b": 95}, "a", margin=0.2) == "a"
    assert least_loaded({"a": 100, "b": 79}, "a", margin=0.2) == "b"
    assert least_loaded({"a": 0, "b": 0}, "b", margin=0.2) == "b"
    assert least_loaded({"b": 1, "a": 1}, None, margin=0.2) == "a"
    assert least_loaded({"a": 1}, "gone", margin=0.2) == "a"


def test_a_range_of_days_holds_its_last_day_whole() -> None:
    years = by_range("date", ("2023-01-01", "2023-12-31"), ("2024-01-01", None))
    cells = [
        "2022-12-31 23:59:59",
        "2023-01-01",
        "2023-12-31 23:59:59.999999",
        "2024-01-01 00:00:00",
    ]
    assert years.places([cells]) == [NOWHERE, 0, 0, 1]
    assert years.places([[None, "0000-00-00", "2999-01-01"]]) == [NOWHERE, NOWHERE, 1]


def test_what_no_range_holds_goes_to_the_default() -> None:
    numbers = by_range("number", (None, "9"), ("10", "99.5"), otherwise=2)
    assert numbers.places([[-5, 9, "9.5", "99.50", 100, None, 12.25]]) == [0, 0, 2, 1, 2, 2, 1]


@given(st.lists(st.integers(-50, 150)))
def test_a_range_place_is_that_of_the_range_that_holds_the_number(values: list[int]) -> None:
    bounds = [(0, 9), (10, 49), (60, 99)]
    numbers = by_range("number", *((str(low), str(high)) for low, high in bounds))
    expected = [
        next((n for n, (low, high) in enumerate(bounds) if low <= value <= high), NOWHERE)
        for value in values
    ]
    assert numbers.places([values]) == expected


def test_ranges_and_columns_that_do_not_fit_are_refused_by_name() -> None:
    schema = TableSchema("app", "t", (Column("k", "varchar(9)"), Column("d", "datetime")), (0,))
    with pytest.raises(FatalError, match=r"ranges of numbers, but column k is varchar\(9\)"):
        by_range("number", ("0", "1")).key_indexes(schema)
    with pytest.raises(FatalError, match="decides by column x, which the table does not have"):
        Placement("r", "hash", "residue", ("x",), ("t",), residues=(0,)).key_indexes(schema)
    bare = TableSchema("app", "t", (Column("k", "int"),), ())
    with pytest.raises(FatalError, match="no primary key"):
        Placement("r", "round-robin", "bucket", (), ("t",), buckets=(0,) * 4).key_indexes(bare)


def test_the_reason_says_what_was_computed() -> None:
    hashed = Placement("r", "hash", "residue", ("k",), ("a", "b"), residues=(0, 0, 1, 1))
    assert hashed.reason([7]) == "7 % 4 = 3"
    assert hashed.reason(["x"]).startswith("hash of 'x' % 4 = ")
    days = by_range("date", ("2023-01-01", None))
    assert days.reason(["2024-05-05"]) == "'2024-05-05' is in 2023-01-01 to *"
    assert days.reason([None]) == "NULL is in no range"
