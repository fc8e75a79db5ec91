"""Headers that came later: messages without them are as they were, and are read as they were."""

from __future__ import annotations

from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind, TargetHeader

MARKER = IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1)
ROUTED = RoutedHeader(RoutedKind.ROWS, "s", 3, rows=2, counted=2, table="d.t")


def test_a_header_that_says_nothing_is_left_out() -> None:
    for made in (MARKER, ROUTED, TargetHeader(ROUTED, 1, 5)):
        assert {"quiet", "late"}.isdisjoint(name for name, _ in made.to_kafka())
        assert type(made).from_kafka(made.to_kafka()) == made


def test_what_it_says_comes_back() -> None:
    quiet = IngestHeader(IngestKind.MARKER, "s", 1, 3, plan=1, quiet=1_700_000_000_000_001)
    assert IngestHeader.from_kafka(quiet.to_kafka()) == quiet
    late = TargetHeader(RoutedHeader(RoutedKind.ROWS, "s", 3, quiet=5, late=True), 1, 5)
    assert ("late", b"1") in late.to_kafka()
    assert TargetHeader.from_kafka(late.to_kafka()) == late
    assert dict(late.to_kafka())["gv"] == b"1", "an older reader passes over it"
