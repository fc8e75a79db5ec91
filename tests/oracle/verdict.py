"""Conflicts between sources, decided anew from the text of the rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.oracle.cell import Row
from tests.oracle.history import Change
from tests.oracle.server import Table


@dataclass
class Opinion:
    """The last that a source said about a key."""

    row: Row | None
    time_us: int
    """Of its latest change since the copy began; 0 if the row was only there at the beginning."""


def opinions_of(
    initial: Mapping[Row, Row], history: Iterable[Change], shape: Table
) -> dict[Row, Opinion]:
    """A source's opinions after its history, by key."""
    said = {key: Opinion(row, 0) for key, row in initial.items()}
    for change in history:
        if change.before is not None:
            old = shape.key_of(change.before)
            if change.after is None or shape.key_of(change.after) != old:
                said[old] = Opinion(None, change.commit_us)
        if change.after is not None:
            said[shape.key_of(change.after)] = Opinion(change.after, change.commit_us)
    return said


def latest_wins(by_rank: Sequence[Mapping[Row, Opinion]]) -> dict[Row, Row]:
    """`timestamp-latest`: the latest opinion stands; equal times: the better source's."""
    result = {}
    for key in {key for said in by_rank for key in said}:
        held = [
            (said[key].time_us, -rank, said[key].row)
            for rank, said in enumerate(by_rank)
            if key in said
        ]
        row = max(held, key=lambda opinion: opinion[:2])[2]
        if row is not None:
            result[key] = row
    return result


def better_source_wins(by_rank: Sequence[Mapping[Row, Opinion]]) -> dict[Row, Row]:
    """`source-priority`, `on-delete: incarnation`: the best row that no better delete has outlived."""
    result = {}
    for key in {key for said in by_rank for key in said}:
        for rank, said in enumerate(by_rank):
            mine = said.get(key)
            if mine is None or mine.row is None:
                continue
            outlived = any(
                better[key].row is None and better[key].time_us >= mine.time_us
                for better in by_rank[: rank + 1]
                if key in better
            )
            if not outlived:
                result[key] = mine.row
                break
    return result
