"""What became of the rows of some transactions at a target, by what the logs hold of them. Pure.

A row keeps the name that the ingest log gave it, (seq, row), in every topic behind. So what the router sent of
it, what the resolver made of it, who set it aside and who holds it are looked up, and nothing is guessed:
a row that no rule sends is in no message of the routed topic; one that the resolver gave no word of is in none of
the target's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gravity.batch import REMOVES_ROW, UNCOUNTED, ChangeBatch, Column, Value
from gravity.errors import FatalError
from gravity.header import IngestHeader, RoutedHeader, TargetHeader
from gravity.recency import Transactions
from gravity.resolution.cell import key_json
from gravity.resolution.value import same_rows
from gravity.tail import Message

ROWS_MAX: Final = 10_000
"""Rows that are looked for at once."""
OTHERS_MAX: Final = 100
"""Rows that an answer names."""

Place = tuple[str, int, int, int]
"""Topic, partition and offset of a message, and the row's number in it; -1: all its rows."""


class Fate(StrEnum):
    """How a row ended at a target."""

    APPLIED = "applied"
    """It made the target's row what its source says, or (merge) at least other than it was."""
    SUPERSEDED = "superseded"
    """Another opinion stands: of a source, or an operator's; or all say the same already."""
    FILTERED = "filtered"
    """No rule sends it to the target."""
    HELD = "held"
    """It waits for an operator, or for the sources to agree."""
    PARKED = "parked"
    """The target's constraints refuse it for now."""
    DEAD = "dead_lettered"
    """It was set aside."""


class UntoldError(FatalError):
    """What became of the rows can't be told: the logs do not hold it any more, or there is too much of it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How one row ended."""

    table: str
    """`database.table` at the target; at the source where the row was filtered."""
    key: str
    """A JSON array of its cells."""
    fate: Fate
    by: str = ""
    """Whose opinion stands instead, where that is known."""


@dataclass(frozen=True, slots=True)
class Disposition:
    """How the rows of some transactions ended at a target."""

    counts: Mapping[Fate, int]
    others: tuple[Ended, ...]
    """Rows that were not applied, in the source's order, at most OTHERS_MAX."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        counts = {str(fate): self.counts.get(fate, 0) for fate in Fate}
        named = [
            {"table": row.table, "key": row.key, "became": str(row.fate), "by": row.by}
            for row in self.others
        ]
        return {"rows": sum(counts.values()), **counts, "others": named}


@dataclass(slots=True)
class _Row:
    """A row of the ingest log."""

    table: str
    key: str
    position: str


@dataclass(slots=True)
class _Sent:
    """What the router sent of a row into one table of the target, and what came of it."""

    table: str
    merges: bool
    """Whether the target's row is put together column by column, by the rules that it passed under."""
    key: str = ""
    cells: tuple[Value, ...] | None = None
    """As its source says; None: the row goes."""
    columns: tuple[Column, ...] = ()
    old_keys: set[str] = field(default_factory=set)
    """Keys that the row left there: what is said under them is not about the row."""
    routed: set[Place] = field(default_factory=set)
    """Where the router sent it: more than once after a death."""
    places: set[Place] = field(default_factory=set)
    """Where the resolver's word stands, more than once after a death: the first is the sink's; empty: it said nothing."""
    winner: str = ""
    """Whose opinion the word is; the row's own source where it says the same."""


class Dispositions:
    """Follows rows from topic to topic. Feed it what each of them holds, in this order."""

    def __init__(
        self, source: str, target: str, wanted: Transactions, *, merges: Callable[[str, int], bool]
    ) -> None:
        """`merges`: whether the target's rows of a table are put together column by column under plan number so-and-so."""
        self._source, self._target, self._wanted = source, target, wanted
        self._merges = merges
        self.seqs: set[int] = set()
        """The ingest messages that hold the rows."""
        self._rows: dict[tuple[int, int], _Row] = {}
        self._sent: dict[tuple[int, int], dict[int, _Sent]] = {}
        """By row and `part`, the number of the target's table."""
        self._terms: Counter[int] = Counter()
        """By partition."""
        self._said: dict[tuple[int, int, str], str] = {}
        """The newest conflict that a row met in a table, by its name there."""
        self._conflicts: dict[str, Mapping[str, Any]] = {}
        self._dead: set[Place] = set()
        self._parked: set[Place] = set()

    @property
    def lacks_words(self) -> bool:
        """Whether the resolver gave no word of some row that was sent to it."""
        sent = (piece for parts in self._sent.values() for piece in parts.values())
        return any(not piece.places for piece in sent)

    def ingest(self, header: IngestHeader, batch: ChangeBatch) -> None:
        """Takes rows from a message that counts. Raises UntoldError above ROWS_MAX."""
        mine = {
            number
            for number, transaction in enumerate(batch.transactions)
            if self._wanted.name(transaction.gtid)
        }
        table = f"{batch.schema.database}.{batch.schema.table}"
        for row in (row for row, tx in enumerate(batch.tx) if tx in mine):
            self.seqs.add(header.seq)
            self._rows[header.seq, row] = _Row(table, _key(batch, row), str(batch.position_of(row)))
        if len(self._rows) > ROWS_MAX:
            raise UntoldError(
                f"more than {ROWS_MAX:,} rows", remedy="ask about fewer transactions at once"
            )

    def routed(self, message: Message, header: RoutedHeader, batch: ChangeBatch) -> None:
        """Takes what the router sent to the target."""
        for row, op in enumerate(batch.ops):
            name = header.seq, batch.origin_of(row)
            if name not in self._rows:
                continue
            parts = self._sent.setdefault(name, {})
            if header.part not in parts:
                merges = self._merges(header.table, header.plan)
                parts[header.part] = _Sent(header.table, merges)
            piece = parts[header.part]
            if op in UNCOUNTED:
                piece.old_keys.add(_key(batch, row))
            else:
                piece.key = _key(batch, row)
                piece.cells = None if op in REMOVES_ROW else batch.rows()[row]
                piece.columns = batch.schema.columns
                piece.routed.add(_place(message, row))

    def sent(self, message: Message, header: TargetHeader, batch: ChangeBatch) -> None:
        """Takes what the resolver sent to the target's sink; what a replaced version of it sent is void."""
        if header.term < self._terms[message.partition]:
            return
        self._terms[message.partition] = header.term
        routed = header.routed
        for row, op in enumerate(batch.ops):
            name = routed.seq, batch.origin_of(row)
            piece = self._sent.get(name, {}).get(routed.part)
            if piece is None or op in UNCOUNTED:
                continue
            if piece.old_keys and _key(batch, row) in piece.old_keys:
                continue  # Another source's row stands under the key that this one left.
            piece.places.add(_place(message, row))
            piece.winner = batch.row_source[row] if batch.row_source else batch.source
            if piece.winner != self._source and _says_the_same(piece, batch, row):
                piece.winner = self._source

    def conflict(self, number: int, record: Mapping[str, Any]) -> None:
        """Takes record `number` of the conflicts' topic."""
        if record["outcome"] == "dead_letter":
            return  # A sink's, about what the resolver made of the row: its letter says so.
        name = record["hold"] or f"met.{number}"
        self._conflicts[name] = record
        if (record["source"], record["target"]) == (self._source, self._target):
            self._said[record["seq"], record["row"], record["table"]] = name

    def dead_letter(self, record: Mapping[str, Any]) -> None:
        """Takes a dead letter: it names the message that it is of."""
        self._dead.add(tuple(record[name] for name in ("topic", "partition", "offset", "row")))

    def parked(self, places: Iterable[Place]) -> None:
        """Takes the places of rows that wait at the target."""
        self._parked.update(places)

    def ended(self) -> Disposition:
        """How all rows ended."""
        counts: Counter[Fate] = Counter()
        others: list[Ended] = []
        for name, row in self._rows.items():
            pieces = [piece for piece in self._sent.get(name, {}).values() if piece.key]
            endings = [
                Ended(piece.table, piece.key, *self._ending(name, row, piece)) for piece in pieces
            ]
            for ending in endings or [Ended(row.table, row.key, Fate.FILTERED)]:
                counts[ending.fate] += 1
                if ending.fate is not Fate.APPLIED and len(others) < OTHERS_MAX:
                    others.append(ending)
        return Disposition(counts, tuple(others))

    def _ending(self, name: tuple[int, int], row: _Row, piece: _Sent) -> tuple[Fate, str]:
        """How it ended, and whose opinion stands instead."""
        if not piece.places:
            return self._unsaid(name, row, piece)
        if self._is_dead(piece.places):
            return Fate.DEAD, ""
        if piece.places & self._parked:
            return Fate.PARKED, ""
        if piece.winner == self._source or (piece.merges and piece.cells is not None):
            return Fate.APPLIED, ""
        return Fate.SUPERSEDED, piece.winner

    def _is_dead(self, places: Iterable[Place]) -> bool:
        return any(self._dead & {place, (*place[:3], -1)} for place in places)

    def _unsaid(self, name: tuple[int, int], row: _Row, piece: _Sent) -> tuple[Fate, str]:
        if self._is_dead(piece.routed):
            return Fate.DEAD, ""
        record = self._conflicts.get(self._said.get((*name, piece.table), ""))
        if record is None:
            return Fate.SUPERSEDED, ""
        if record["state"] == "open":
            return Fate.HELD, ""
        said = {opinion["source"]: opinion["position"] for opinion in record["opinions"]}
        if record["winner"] == self._source and said.get(self._source) == row.position:
            return Fate.APPLIED, ""
        return Fate.SUPERSEDED, record["winner"]


def _says_the_same(piece: _Sent, batch: ChangeBatch, row: int) -> bool:
    if piece.cells is None or batch.ops[row] in REMOVES_ROW:
        return piece.cells is None and batch.ops[row] in REMOVES_ROW
    return same_rows(piece.cells, piece.columns, batch.rows()[row], batch.schema.columns)


def _place(message: Message, row: int) -> Place:
    return message.topic, message.partition, message.offset, row


def _key(batch: ChangeBatch, row: int) -> str:
    return key_json([batch.columns[index][row] for index in batch.schema.key])
