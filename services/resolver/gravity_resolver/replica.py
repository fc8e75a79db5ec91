"""One partition of the resolver: a deterministic function of its input log. Pure.

`apply` takes the messages of one `routed` partition in offset order and returns what each causes.
Nothing else decides: no clock, no randomness, no arrival order between sources beyond the log's own.
So a restarted resolver produces the same messages under the same numbers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain

from gravity.batch import UNCOUNTED, ChangeBatch
from gravity.codec import decode_record, encode_batch
from gravity.errors import FatalError, FormatError, NewerFormatError
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.plan import RoutingPlan
from gravity.resolution.register import OPERATOR
from gravity.resolution.strategy import Outcome
from gravity_resolver.conflict_record import conflict_record
from gravity_resolver.effects import Caused, Counters, Effects, Output
from gravity_resolver.emission import batches_of, operators_batch
from gravity_resolver.graveyard import Graveyard
from gravity_resolver.hold_book import HoldBook, stopped_by
from gravity_resolver.judgement import Wish
from gravity_resolver.merging import Merging, PlanOf
from gravity_resolver.row_memory import slot_of
from gravity_resolver.row_resolving import NOTHING_SEEN, RowResolving, Seen
from gravity_resolver.row_state import RowState
from gravity_resolver.waiting_line import WaitingLine

FUNCTION_VERSION = 11
"""Grows whenever the same input would cause other outputs; see `gravity_resolver.term`."""

META_KEY = b"\x00meta"


@dataclass(slots=True)
class PartitionState(RowResolving):
    """The state of one partition of one target."""

    seen: dict[str, Seen] = field(default_factory=dict)
    out_seq: int = 0
    next_input: int = 0
    term: int = 0
    function_version: int = FUNCTION_VERSION
    line: WaitingLine = field(default_factory=WaitingLine)
    waiting_rows_max: int = sys.maxsize
    """Rows that may wait behind rows on hold, or for a source. Decides about no output: past it everything ends."""
    plans: PlanOf | None = None
    """Where plans are looked up by number; None: there is one."""
    merging: Merging = field(init=False)

    def __post_init__(self) -> None:
        self.merging = Merging(self.target, self)

    # ------------------------------------------------------------------ saving and loading

    def meta(self) -> bytes:
        """The small part of the state, as it stands under META_KEY."""
        return json.dumps(
            {
                "seen": self.seen,
                "out_seq": self.out_seq,
                "next_input": self.next_input,
                "term": self.term,
                "function_version": self.function_version,
                "holds": self.holds,
                "held": self.held.tables,
                "waiting": self.line.tables,
                "waiting_last": self.line.last,
                "waiting_markers": self.line.markers,
                "watermarks": self.watermarks,
                "collected": self.collected,
                "graves": self.graves.ends,
                "merging": self.merging.to_json(),
                "counters": {source: asdict(c) for source, c in self.counters.items()},
            },
            separators=(",", ":"),
            sort_keys=True,
        ).encode()

    def load_meta(self, data: bytes) -> None:
        """Takes over what `meta` gave."""
        record = json.loads(data)
        self.seen = {source: tuple(seen) for source, seen in record["seen"].items()}
        self.out_seq = record["out_seq"]
        self.next_input = record["next_input"]
        self.term = record["term"]
        self.function_version = record["function_version"]
        waiting = record.get("waiting", {})
        self.line = WaitingLine(
            {table: (messages, rows) for table, (messages, rows) in waiting.items()},
            record.get("waiting_last", 0),
            record.get("waiting_markers", []),
        )
        if "held" in record:
            self.held = HoldBook(record["held"])
        elif record.get("holds", 0):
            self._find_holds()
        self.watermarks = record.get("watermarks", {})
        self.collected = record.get("collected", {})
        ends = record.get("graves", {})
        self.graves = Graveyard({table: (first, last) for table, (first, last) in ends.items()})
        if "merging" in record:
            self.merging.load(record["merging"], self._under)
        self.counters = {
            source: Counters(**counts) for source, counts in record["counters"].items()
        }

    def take_delta(self) -> dict[bytes, bytes | None]:
        """The keys that changed since the last call, with the small part; they stay readable."""
        assert not self.saving, "the previous delta has not been saved"
        self.saving, self.delta = self.delta, {}
        return {**self.saving, META_KEY: self.meta()}

    def delta_saved(self) -> None:
        """Says that the last delta is in `saved` now."""
        self.saving = {}

    # ------------------------------------------------------------------ the function

    def apply(
        self,
        header: RoutedHeader,
        value: bytes,
        *,
        offset: int,
        plan: RoutingPlan,
        time_ms: int = 0,
    ) -> Effects:
        """Takes in the message at `offset`, written there at `time_ms`, and returns what it causes.

        Raises:
            NewerFormatError: the value was written by a newer version. Nothing has changed.
            FatalError: `offset` is not the next one: messages between were lost.
        """
        if offset < self.next_input:
            return Effects()
        if header.kind is RoutedKind.DECISION:
            return self._apply_wish(header, value, offset=offset, plan=plan)
        plan_of = self.plans or (lambda _: plan)
        merges = self.merging.concerns(header, plan, plan_of)
        seen = self.seen.get(header.source, NOTHING_SEEN)
        last = (header.seq, header.part, header.last)
        if last <= seen:
            self._advance(offset)
            self.merging.hear(header, time_ms, plan, plan_of)
            self.count(header.source).duplicates += header.counted
            return Effects()
        batch = None
        if header.kind is RoutedKind.ROWS:
            try:
                batch = self._fresh_rows(header, value, seen, plan, needed=merges)
            except NewerFormatError:
                raise
            except FormatError as error:
                self._advance(offset)
                self.merging.hear(header, time_ms, plan, plan_of)
                self.seen[header.source] = last
                self.count(header.source).dead += header.counted
                return Effects(damage=str(error))
        self._advance(offset)
        self.merging.hear(header, time_ms, plan, plan_of)
        self.seen[header.source] = last
        if header.kind is RoutedKind.CODE:
            return Effects(damage="a code fence in a routed topic")
        if merges:
            return Effects(rest=self._merged(header, value, batch, offset, plan))
        self.place = offset, 0
        return self._let_out(self._caused_by(header, value, batch, plan), plan)

    def _merged(
        self,
        header: RoutedHeader,
        value: bytes,
        batch: ChangeBatch | None,
        offset: int,
        plan: RoutingPlan,
    ) -> Iterator[Effects]:
        """As each message that may leave the merge now would cause if it came only now."""
        if batch is not None and len(batch) != header.rows:
            counted = sum(op not in UNCOUNTED for op in batch.ops)
            self.count(header.source).duplicates += header.counted - counted
            header = replace(header, rows=len(batch), counted=counted)
            value = encode_batch(batch)
        pieces = self.merging.take(
            (header, value), batch, offset, waiting_rows_max=self.waiting_rows_max
        )
        for piece in pieces:
            number, self.place = piece.header.plan, (piece.offset, piece.row)
            its_plan = plan if number == header.plan or self.plans is None else self.plans(number)
            rows = None
            if piece.header.kind is RoutedKind.ROWS:
                rows = self._fresh_rows(piece.header, piece.value, NOTHING_SEEN, its_plan)
            caused = self._caused_by(piece.header, piece.value, rows, its_plan)
            for effects in self._let_out_all([caused], its_plan):
                effects.cause = piece.header, piece.offset
                yield effects

    def _caused_by(
        self, header: RoutedHeader, value: bytes, batch: ChangeBatch | None, plan: RoutingPlan
    ) -> Caused:
        match header.kind:
            case RoutedKind.NOTE:
                self.count(header.source).filtered += header.filtered
                return Caused()
            case RoutedKind.MARKER:
                known = self.watermarks.get(header.source, 0)
                self.watermarks[header.source] = max(known, header.ets)
                self._forget(plan)
                return Caused([(header, value)])
            case RoutedKind.SCHEMA:
                return self._apply_schema_change(header, value, plan)
            case RoutedKind.ROWS:
                return self._apply_rows(header, value, batch, plan)
            case RoutedKind.CODE | RoutedKind.DECISION:
                raise AssertionError(header.kind)

    # ------------------------------------------------------------------ what goes out

    def _let_out(self, caused: Caused, plan: RoutingPlan) -> Effects:
        """What may go out, numbered, behind what waited and may go now. The rest waits.

        The rows of one message go or wait together: as it stands once all of them have been judged.
        """
        stops = stopped_by(self.held.tables, self.target, plan)
        ready = [table for table in self.line.tables if not stops(table)]
        effects = Effects(conflicts=caused.conflicts, too_late=caused.too_late)
        if ready:
            now = chain((Caused(caused.messages),), caused.rest or ())
            effects.rest = chain(self._released(ready), self._let_out_all(now, plan))
            return effects
        for header, value in caused.messages:
            # A marker says that everything before it has passed.
            if header.kind is RoutedKind.MARKER and self.line.tables:
                self.line.keep_marker((header, value), self.delta)
            elif header.kind is not RoutedKind.MARKER and stops(header.table):
                self._move(header, waits=True)
                self.line.put((header, value), self.delta, rows_max=self.waiting_rows_max)
            else:
                effects.outputs.append(self._output(header, value))
        if caused.rest is not None:
            effects.rest = self._let_out_all(caused.rest, plan)
        return effects

    def _let_out_all(self, parts: Iterable[Caused], plan: RoutingPlan) -> Iterator[Effects]:
        for part in parts:
            effects = self._let_out(part, plan)
            rest, effects.rest = effects.rest, None
            yield effects
            yield from rest or ()

    def _released(self, tables: list[str]) -> Iterator[Effects]:
        for messages in self.line.release(tables, self._under, self.delta):
            for header, _ in messages:
                self._move(header, waits=False)
            yield Effects([self._output(header, value) for header, value in messages])

    def _move(self, header: RoutedHeader, *, waits: bool) -> None:
        if header.counted:
            counters = self.count(header.source)
            moved = header.counted if waits else -header.counted
            counters.held += moved
            counters.applied -= moved

    def skip_unreadable(self, offset: int) -> None:
        """Takes in a message at `offset` that does not even say what it is."""
        if offset >= self.next_input:
            self._advance(offset)
            self.count("").dead += 1

    def _advance(self, offset: int) -> None:
        if offset > self.next_input:
            raise FatalError(
                f"input {offset} follows {self.next_input - 1}: messages between are missing",
                where=f"routed.{self.target}",
                remedy="retention took unread messages, or the state is of another topic: see docs/what-if.md",
            )
        self.next_input = offset + 1

    def _output(self, header: RoutedHeader, value: bytes) -> Output:
        self.out_seq += 1
        if header.cut:
            header = replace(header, held=self.held.total)
        return Output(TargetHeader(header, self.resolver_epoch, self.out_seq, self.term), value)

    def _apply_wish(
        self, header: RoutedHeader, value: bytes, *, offset: int, plan: RoutingPlan
    ) -> Effects:
        """An operator's decision about one row. The offset is its number: the log orders decisions."""
        rule = plan.resolution(self.target, header.table)
        try:
            wish = Wish.of(decode_record("decision", value))
            if rule is None:
                raise FormatError("an operator's decision about a table that one source feeds")
            slot = slot_of(header.table, wish.key)
            known = RowState.load(self._get(slot), self._shape)
            if not known.registers:
                raise FormatError("an operator's decision about a row that no source has spoken of")
            batch = operators_batch(header.table, wish.key, wish.key_columns, known.registers)
            deciding = wish.action == "decide"
            # An operator was shown the row as every statement since has left it.
            view = self._view(header.table, plan)
            shown = view(known.registers)
            decision = wish.decision(offset, shown) if deciding else known.decision
        except NewerFormatError:
            raise
        except FormatError as error:
            self._advance(offset)
            return Effects(damage=str(error))
        self._advance(offset)
        self.place = offset, 0
        now = RowState(self._tag_of(rule, header), known.registers, decision)
        judged = self._judge(
            slot,
            known,
            now,
            rule,
            table=header.table,
            hold=self._hold_name(0),
            view=view,
            decided=deciding,
            again=True,
        )
        described = replace(
            header, kind=RoutedKind.ROWS, source=OPERATOR, seq=offset, rows=1, counted=0
        )
        record = conflict_record(
            self.target,
            header=described,
            batch=batch,
            index=0,
            kind=wish.action,
            rule=rule,
            judged=judged,
            partition=self.partition,
        )
        winners = [(0, judged.verdict)] if isinstance(judged.verdict, Outcome) else []
        messages = [
            (replace(out_header, counted=0), encode_batch(out_batch))
            for out_header, out_batch in batches_of(described, batch, winners)
        ]
        return self._let_out(Caused(messages, [record]), plan)
