"""An operator's decision about a row, made from the record of its conflict. Pure.

The decision is a message of the row's own partition of `routed.<target>`, so the log orders it among
the row's changes, and it is applied once, by whichever resolver owns the partition.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gravity.codec import encode_record
from gravity.errors import FatalError
from gravity.header import RoutedHeader, RoutedKind
from gravity.resolution.register import OPERATOR


@dataclass(frozen=True, slots=True)
class RowName:
    """A row of a target table, as an operator names it."""

    target: str
    table: str
    """`database.table` at the target."""
    key: str
    """JSON array of the key's cells."""
    key_columns: tuple[str, ...]

    @classmethod
    def of(cls, conflict: Mapping[str, Any]) -> RowName:
        """The row that a record of schemas/conflict.avsc is about."""
        return cls(
            conflict["target"], conflict["table"], conflict["key"], tuple(conflict["key_columns"])
        )


@dataclass(frozen=True, slots=True)
class Note:
    """What is written down with a decision."""

    plan: int
    """The newest routing plan."""
    time_us: int
    """When it was decided, microseconds since 1970 UTC."""
    reason: str = ""
    """Why, in the operator's words."""


Message = tuple[RoutedHeader, bytes]


def keep_source(conflict: Mapping[str, Any], source: str, note: Note) -> Message:
    """The decision that the opinion of `source` stands, as the record shows it.

    Raises FatalError when the record holds no opinion of that source.
    """
    opinions = {opinion["source"]: opinion for opinion in conflict["opinions"]}
    if source not in opinions:
        raise FatalError(
            f"source {source} has said nothing about this row",
            where=f"{conflict['target']} {conflict['table']} {conflict['key']}",
            remedy=f"keep one of {', '.join(sorted(opinions))}, or give the row itself",
        )
    return _decide(conflict, source, opinions[source]["row"], note)


def own_row(conflict: Mapping[str, Any], row: Mapping[str, Any] | None, note: Note) -> Message:
    """The decision that `row` stands, None = no row. Columns it leaves out come from the first opinion.

    Raises FatalError for a column that no opinion has, or for another key than the row's.
    """
    if row is None:
        return _decide(conflict, OPERATOR, None, note)
    rows = [json.loads(o["row"]) for o in conflict["opinions"] if o["row"] is not None]
    where = f"{conflict['target']} {conflict['table']} {conflict['key']}"
    known = {name: None for one in rows for name in one}
    for name in row:
        if name not in known:
            raise FatalError(f"no source's table has a column {name}", where=where,
                             remedy=f"columns are {', '.join(known)}")  # fmt: skip
    complete = {**(rows[0] if rows else {}), **row}
    key = dict(zip(conflict["key_columns"], json.loads(conflict["key"]), strict=True))
    for name, cell in key.items():
        if complete.setdefault(name, cell) != cell:
            raise FatalError(f"column {name} is the key: it must stay {cell!r}", where=where)
    return _decide(conflict, OPERATOR, json.dumps(complete), note)


def _decide(conflict: Mapping[str, Any], keep: str, row: str | None, note: Note) -> Message:
    cover = [
        {"source": opinion["source"], "position": opinion["position"]}
        for opinion in conflict["opinions"]
    ]
    return _message(RowName.of(conflict), note, action="decide", keep=keep, row=row, cover=cover)


def retry(row: RowName, note: Note) -> Message:
    """The wish that the row's outcome be worked out and sent again."""
    return _message(row, note, action="retry", keep=OPERATOR, row=None, cover=[])


def _message(name: RowName, note: Note, **wish: object) -> Message:
    header = RoutedHeader(RoutedKind.DECISION, OPERATOR, 0, plan=note.plan, table=name.table)
    record = {
        "table": name.table,
        "key": name.key,
        "key_columns": list(name.key_columns),
        "reason": note.reason,
        "time_us": note.time_us,
        **wish,
    }
    return header, encode_record("decision", record)
