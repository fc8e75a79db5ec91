"""A short form of `make prove WHAT=source`: damaged events end in a named error or in equal values."""

from __future__ import annotations

import pytest

from tests.prove.event_fuzz import Context, contexts, fuzz, outcome_of, packets_of
from tests.unit.collector.captured import STREAMS


def test_damaged_events_end_in_named_errors_or_equal_values() -> None:
    tally = fuzz(3000, seed=7)
    assert tally.wrong == []
    assert tally.events == 3000
    assert tally.errors > tally.events // 4, "most damage is noticed without checksums too"
    assert tally.compared > 700
    assert tally.summed > 600
    assert tally.cut > 300


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_undamaged_transactions_are_read_one_by_one_as_in_their_stream(name: str) -> None:
    whole = outcome_of(packets_of(STREAMS[name]), verify=True)
    apart: list[Context] = [one for one in contexts() if one.stream == name]
    assert whole.error == ""
    assert [change for one in apart for change in one.truth] == [
        change for change in whole.changes if not _is_of_xa(change)
    ]


def _is_of_xa(change: tuple[int, object]) -> bool:
    """The row of the XA transaction: its commit, read alone, knows nothing of it."""
    return "'xa xa " in repr(change)
