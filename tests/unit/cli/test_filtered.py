"""Filtered rows by table, from the router's notes."""

from __future__ import annotations

from gravity.cli.filtered import count_notes
from gravity.header import RoutedHeader, RoutedKind


def note(seq: int, rows: int, source: str = "s", table: str = "app.t") -> RoutedHeader:
    return RoutedHeader(RoutedKind.NOTE, source, seq, filtered=rows, table=table)


def test_notes_are_summed_by_source_and_table() -> None:
    headers = [note(1, 2), note(2, 3), note(1, 5, source="r"), note(3, 7, table="app.u")]
    assert count_notes("t1", headers) == {
        ("s", "app.t", "t1"): 5,
        ("r", "app.t", "t1"): 5,
        ("s", "app.u", "t1"): 7,
    }


def test_what_a_router_sent_again_counts_once() -> None:
    assert count_notes("t1", [note(1, 2), note(2, 3), note(1, 2), note(2, 3), note(4, 1)]) == {
        ("s", "app.t", "t1"): 6
    }


def test_rows_that_were_sent_are_not_counted() -> None:
    rows = RoutedHeader(RoutedKind.ROWS, "s", 3, rows=9, counted=9, table="app.t")
    assert count_notes("t1", [rows, note(3, 1)]) == {("s", "app.t", "t1"): 1}
