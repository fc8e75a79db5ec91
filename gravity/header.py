"""What a Kafka message of each hop says about itself without being decoded.

Headers are ASCII text, one per field, so that any Kafka tool can show them. `gv` is the format
version; a reader refuses by name what is newer than it knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from gravity.errors import BEGIN_ANEW, FormatError, NewerFormatError
from gravity.position import START, Position
from gravity.snapshot_request import REREAD, SnapshotRequest

FORMAT_VERSION = 2
_FORMAT_OF_MOST = 1
"""What all kinds are written in that were there from the start; the others in FORMAT_VERSION."""

KafkaHeaders = list[tuple[str, bytes]]


class IngestKind(StrEnum):
    """What a message of an ingest topic holds."""

    ROWS = "rows"
    """A change batch of one table of a span of the binlog."""
    CHUNK = "chunk"
    """A change batch of snapshot reads."""
    CHUNK_DONE = "chunk_done"
    """Says that all parts of a chunk have been published."""
    FENCE = "fence"
    """Says that a new owner writes this log from here on."""
    MARKER = "marker"
    """Says: everything before me has passed."""
    SCHEMA = "schema"
    """A schema change; a span of its own."""
    SNAPSHOT = "snapshot"
    """Says that existing rows of a table will be read again: what was done of it before counts no more."""


class RoutedKind(StrEnum):
    """What a message of a routed or target topic holds."""

    ROWS = "rows"
    MARKER = "marker"
    NOTE = "note"
    """How many rows of an ingest message were filtered for this target."""
    SCHEMA = "schema"
    CODE = "code"
    """Fence between two versions of the resolver's function; target topics only."""
    DECISION = "decision"
    """An operator's decision about one row; routed topics only. Its place in the log is its number."""


def _fields(headers: Iterable[tuple[str, bytes]] | None) -> dict[str, str]:
    try:
        fields = {name: value.decode() for name, value in headers or ()}
    except UnicodeDecodeError as error:
        raise FormatError(f"a header that is no text: {error}") from error
    version = fields.get("gv")
    if version is None:
        raise FormatError(
            "a message without gravity's headers", remedy="was it written by another program?"
        )
    if not version.isdigit():
        raise FormatError(f"{version[:20]!r} is no format version")
    if int(version) > FORMAT_VERSION:
        raise NewerFormatError(
            f"message format {version} is newer than this reader, which knows {FORMAT_VERSION}",
            remedy="upgrade this stage before the stages in front of it",
        )
    return fields


def _field(fields: dict[str, str], name: str) -> str:
    try:
        return fields[name]
    except KeyError:
        raise FormatError(
            f"header {name!r} is missing", remedy="was the message damaged?"
        ) from None


def _encode(pairs: Iterable[tuple[str, object]], version: int = _FORMAT_OF_MOST) -> KafkaHeaders:
    headers = [("gv", b"%d" % version)]
    headers += [(name, str(value).encode()) for name, value in pairs]
    return headers


def _if_set(**fields: int | str) -> list[tuple[str, object]]:
    """Fields that came later and are mostly 0 or empty: a message without them says the same, and older readers know it."""
    return [(name, value) for name, value in fields.items() if value]


@dataclass(frozen=True, slots=True)
class IngestHeader:
    """A message of `ingest.<source>`, named by (owner, seq)."""

    kind: IngestKind
    source: str
    owner: int
    seq: int = 0
    """Counted by the owner without holes; 0 for a fence."""
    part: int = 0
    parts: int = 1
    from_: Position = START
    """The first row of the span."""
    to: Position = START
    """The first row after the span."""
    gtids: str = ""
    """GTIDs executed before `to`'s transaction, as the server prints them."""
    ets: int = 0
    plan: int = 0
    """Version of the routing plan under which the message is to be read."""
    table: str = ""
    """`database.table` at the source."""
    schema: str = ""
    rows: int = 0
    chunk: str = ""
    """Snapshot chunk (kinds chunk, chunk_done), the process that fences (kind fence), the request (kind
    snapshot), or `reread` (kind schema: the table's existing rows follow as snapshot reads)."""
    quiet: int = 0
    """Kind marker: the time, in microseconds since 1970 UTC, before which nothing more is to be expected,
    since the collector waits at the end of the binlog; 0: it does not say."""
    cut: str = ""
    """Kind marker: the cut that it is the marker of (gravity.cut.CutMark); empty: of none."""

    @property
    def restarts_copy(self) -> bool:
        """Whether all rows of `table` are read again: what was done of it before counts no more."""
        if self.kind is IngestKind.SCHEMA:
            return self.chunk == REREAD
        return self.kind is IngestKind.SNAPSHOT and SnapshotRequest.parse(self.chunk).is_of_table

    def to_kafka(self) -> KafkaHeaders:
        """The headers to send."""
        return _encode((
            ("kind", self.kind), ("source", self.source), ("owner", self.owner), ("seq", self.seq),
            ("part", self.part), ("parts", self.parts), ("from", self.from_), ("to", self.to),
            ("gtids", self.gtids), ("ets", self.ets), ("plan", self.plan), ("table", self.table),
            ("schema", self.schema), ("rows", self.rows), ("chunk", self.chunk),
            *_if_set(quiet=self.quiet, cut=self.cut),
        ))  # fmt: skip

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, bytes]] | None) -> Self:
        """The header that was sent. Raises FormatError for foreign, newer or damaged messages."""
        f = _fields(headers)
        try:
            return cls(
                IngestKind(_field(f, "kind")), _field(f, "source"), int(_field(f, "owner")), int(_field(f, "seq")),
                int(_field(f, "part")), int(_field(f, "parts")), Position.parse(_field(f, "from")),
                Position.parse(_field(f, "to")), _field(f, "gtids"), int(_field(f, "ets")), int(_field(f, "plan")),
                _field(f, "table"), _field(f, "schema"), int(_field(f, "rows")), _field(f, "chunk"),
                int(f.get("quiet", 0)), f.get("cut", ""),
            )  # fmt: skip
        except ValueError as error:
            raise FormatError(f"unreadable ingest header: {error}") from error


@dataclass(frozen=True, slots=True)
class RoutedHeader:
    """A message of `routed.<target>`: a part of one ingest message."""

    kind: RoutedKind
    source: str
    seq: int
    """`seq` of the ingest message this was cut from."""
    part: int = 0
    """Number of the target table among those the message feeds in this target."""
    first: int = 0
    last: int = 0
    """Row numbers, in the ingest message, of the first and last row here. Kind schema: the first and last
    partition that rows of the table lie in; two equal ones mean that all its rows lie in one."""
    rows: int = 0
    counted: int = 0
    """How many of the rows are counted here: a key that moved leaves a second row, which is not."""
    filtered: int = 0
    """Kind note: rows of the ingest message that no rule sends to this target."""
    from_: Position = START
    to: Position = START
    gtids: str = ""
    ets: int = 0
    plan: int = 0
    table: str = ""
    """`database.table` at the target."""
    schema: str = ""
    quiet: int = 0
    """As in IngestHeader."""
    late: bool = False
    """Kind rows, target topics only: later rows of other sources are in front of these (`merge`)."""
    cut: str = ""
    """As in IngestHeader; only at the target that is cut."""
    held: int = 0
    """Kind marker of a cut, target topics only: rows of the partition that are on hold there."""

    def _pairs(self) -> list[tuple[str, object]]:
        return [
            ("kind", self.kind), ("source", self.source), ("seq", self.seq), ("part", self.part),
            ("first", self.first), ("last", self.last), ("rows", self.rows), ("counted", self.counted), ("filtered", self.filtered),
            ("from", self.from_), ("to", self.to), ("gtids", self.gtids), ("ets", self.ets),
            ("plan", self.plan), ("table", self.table), ("schema", self.schema),
            *_if_set(quiet=self.quiet, late=int(self.late), cut=self.cut, held=self.held),
        ]  # fmt: skip

    def to_kafka(self) -> KafkaHeaders:
        """The headers to send."""
        new = self.kind is RoutedKind.DECISION
        return _encode(self._pairs(), FORMAT_VERSION if new else _FORMAT_OF_MOST)

    @classmethod
    def _of(cls, f: dict[str, str]) -> Self:
        try:
            return cls(
                RoutedKind(_field(f, "kind")), _field(f, "source"), int(_field(f, "seq")), int(_field(f, "part")),
                int(_field(f, "first")), int(_field(f, "last")), int(_field(f, "rows")), int(_field(f, "counted")), int(_field(f, "filtered")),
                Position.parse(_field(f, "from")), Position.parse(_field(f, "to")), _field(f, "gtids"),
                int(_field(f, "ets")), int(_field(f, "plan")), _field(f, "table"), _field(f, "schema"),
                int(f.get("quiet", 0)), f.get("late") == "1", f.get("cut", ""), int(f.get("held", 0)),
            )  # fmt: skip
        except ValueError as error:
            raise FormatError(f"unreadable routed header: {error}") from error

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, bytes]] | None) -> Self:
        """The header that was sent. Raises FormatError for foreign, newer or damaged messages."""
        return cls._of(_fields(headers))


@dataclass(frozen=True, slots=True)
class TargetHeader:
    """A message of `target.<target>`, named by (resolver_epoch, out_seq) in its partition."""

    routed: RoutedHeader
    """What the message is about; `rows`, `table` and `schema` describe the value sent with it."""
    resolver_epoch: int
    out_seq: int
    """Counted by the resolver without holes in each partition, from 1; 0 for kind code."""
    term: int = 0
    """Grows when another version of the resolver's function takes over; lower terms after it are void."""

    def to_kafka(self) -> KafkaHeaders:
        """The headers to send."""
        return _encode(
            [
                *self.routed._pairs(),
                ("epoch", self.resolver_epoch),
                ("out", self.out_seq),
                ("term", self.term),
            ]
        )

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, bytes]] | None) -> Self:
        """The header that was sent. Raises FormatError for foreign, newer or damaged messages."""
        f = _fields(headers)
        try:
            return cls(
                RoutedHeader._of(f),
                int(_field(f, "epoch")),
                int(_field(f, "out")),
                int(_field(f, "term")),
            )
        except ValueError as error:
            raise FormatError(f"unreadable target header: {error}") from error

    def describing(self, **changes: object) -> TargetHeader:
        """The same name on another content."""
        return replace(self, routed=replace(self.routed, **changes))  # type: ignore[arg-type]


def row_version(resolver_epoch: int, out_seq: int, row: int) -> int:
    """The 64-bit version of one row of a target message: newer rows have greater ones.

    epoch(8 bit) | out_seq(40 bit) | row(16 bit); a message therefore holds at most 65,536 rows.
    """
    if row >= 1 << 16 or out_seq >= 1 << 40 or resolver_epoch >= 1 << 8:
        raise FormatError(
            f"row version out of range: epoch {resolver_epoch}, out_seq {out_seq}, row {row}",
            remedy=f"a message holds at most 65,536 rows; when the numbers are used up, {BEGIN_ANEW}",
        )
    return resolver_epoch << 56 | out_seq << 16 | row
