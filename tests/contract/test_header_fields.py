"""Headers that came later: messages without them are as they were, and are read as they were."""

from __future__ import annotations

import pytest

from gravity.cut import CutMark
from gravity.errors import FormatError
from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind, TargetHeader

MARKER = IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1)
ROUTED = RoutedHeader(RoutedKind.ROWS, "s", 3, rows=2, counted=2, table="d.t")


def test_a_header_that_says_nothing_is_left_out() -> None:
    for made in (MARKER, ROUTED, TargetHeader(ROUTED, 1, 5)):
        assert {"quiet", "late", "cut", "held"}.isdisjoint(name for name, _ in made.to_kafka())
        assert type(made).from_kafka(made.to_kafka()) == made


def test_what_it_says_comes_back() -> None:
    quiet = IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1, quiet=1_700_000_000_000_001)
    assert IngestHeader.from_kafka(quiet.to_kafka()) == quiet
    late = TargetHeader(RoutedHeader(RoutedKind.ROWS, "s", 3, quiet=5, late=True), 1, 5)
    assert ("late", b"1") in late.to_kafka()
    assert TargetHeader.from_kafka(late.to_kafka()) == late
    assert dict(late.to_kafka())["gv"] == b"1", "an older reader passes over it"


def test_the_mark_of_a_cut_comes_back() -> None:
    mark = CutMark(1_700_000_000_000_001, 30_000, "ware/house")
    assert CutMark.parse(str(mark)) == mark
    asked = IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1, cut=str(mark))
    assert IngestHeader.from_kafka(asked.to_kafka()) == asked
    met = TargetHeader(RoutedHeader(RoutedKind.MARKER, "s", 3, cut=str(mark), held=2), 1, 5)
    assert TargetHeader.from_kafka(met.to_kafka()) == met
    assert dict(met.to_kafka())["gv"] == b"1", "an older reader passes over it"


@pytest.mark.parametrize("text", ["", "1/2", "x/2/t", "-1/2/t", "1//t", "1/2/"])
def test_what_is_no_mark_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="not the mark of a cut"):
        CutMark.parse(text)
