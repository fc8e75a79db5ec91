"""Conflicts and dead letters as an operator sees them: the newest record of each, by a short name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch
from gravity.decision import RowName
from gravity.errors import FatalError, FormatError
from gravity.pattern import parse_table_pattern
from gravity.resolution.cell import key_json

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest record of one conflict or dead letter."""

    name: str
    """What an operator calls it."""
    offset: int
    """Where the record stands in its topic."""
    record: Record

    @property
    def open(self) -> bool:
        """Whether it waits for somebody."""
        return bool(self.record["state"] == "open")

    def fits(self, wanted: Mapping[str, str]) -> bool:
        """Whether the record has these values; of `table`, whether it is one that the pattern means."""
        return all(
            means_table(value, self.record.get(field, ""))
            if field == "table"
            else str(self.record.get(field, "")) == value
            for field, value in wanted.items()
        )


def means_table(pattern: str, table: str) -> bool:
    """Whether `database.table` is meant: by both names or by that of the table alone, with wildcards or without."""
    database, _, name = table.partition(".")
    return parse_table_pattern(pattern).matches(database, name)


def conflicts(records: Iterable[tuple[int, Record]]) -> dict[str, Entry]:
    """The newest record of every hold, and each conflict that was resolved at once, in log order."""
    found: dict[str, Entry] = {}
    for offset, record in records:
        name = record["hold"] or f"met.{offset}"
        found.pop(name, None)
        found[name] = Entry(name, offset, record)
    return found


def dead_letters(records: Iterable[tuple[int, Record]]) -> dict[str, Entry]:
    """The newest record of every dead letter, in log order.

    A letter may have been written twice, by a process that was killed behind it; what an operator made
    of it stands.
    """
    found: dict[str, Entry] = {}
    for offset, record in records:
        name = letter_name(record)
        known = found.get(name)
        if known is None or not (record["state"] == "open" and known.record["state"] != "open"):
            found[name] = Entry(name, offset, record)
    return found


def letter_name(record: Record) -> str:
    """The place of the message that was set aside: stage, topic, partition, offset and row."""
    row = "" if record["row"] < 0 else f"/{record['row']}"
    return f"{record['topic']}/{record['partition']}/{record['offset']}{row}"


def require(entries: Mapping[str, Entry], name: str, what: str) -> Entry:
    """The entry of that name. Raises FatalError when there is none."""
    if name not in entries:
        raise FatalError(
            f"no {what} is called {name}", remedy=f"`gravity {what}s list CONFIG --all`"
        )
    return entries[name]


def row_of_letter(record: Record) -> RowName | None:
    """The row that a dead letter is about; None where it holds no single row with a key."""
    try:
        batch = decode_batch(record["value"])
    except FormatError:
        return None
    if len(batch) != 1 or not batch.schema.key:
        return None
    return RowName(record["target"], record["table"], _key_of(batch), batch.schema.key_names)


def _key_of(batch: ChangeBatch) -> str:
    return key_json([batch.columns[index][0] for index in batch.schema.key])


def counted(entries: Iterable[Entry], field: str) -> Iterator[tuple[str, int]]:
    """How many entries have each value of a field, most first."""
    counts: dict[str, int] = {}
    for entry in entries:
        value = str(entry.record[field])
        counts[value] = counts.get(value, 0) + 1
    yield from sorted(counts.items(), key=lambda item: -item[1])
