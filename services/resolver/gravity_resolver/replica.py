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

from gravity.batch import TRUNCATE, UNCOUNTED, ChangeBatch
from gravity.codec import decode_batch, decode_record, encode_batch
from gravity.errors import FatalError, FormatError, NewerFormatError
from gravity.header import RoutedHeader, RoutedKind, TargetHeader
from gravity.plan import Resolution, RoutingPlan
from gravity.resolution.conflict import conflict_kind, is_late
from gravity.resolution.register import OPERATOR, Change, Register, Shape, changed_columns, register
from gravity.resolution.strategy import Hold, Outcome, resolve
from gravity.schema_change import SchemaChange
from gravity.whole_row import is_whole_row
from gravity_resolver.copies import count_rows, follow
from gravity_resolver.effects import Caused, Counters, Effects, Output
from gravity_resolver.emission import batches_of, conflict_record, operators_batch
from gravity_resolver.graveyard import Graveyard
from gravity_resolver.hold_book import HoldBook, stopped_by
from gravity_resolver.joined_change import JoinedChange, Step, told_by_rows
from gravity_resolver.judgement import Judgement, Wish
from gravity_resolver.row_memory import RowMemory, slot_of
from gravity_resolver.row_state import RowState
from gravity_resolver.table_history import SourceTable, View
from gravity_resolver.waiting_line import WaitingLine

FUNCTION_VERSION = 7
"""Grows whenever the same input would cause other outputs; see `gravity_resolver.term`."""

META_KEY = b"\x00meta"

Seen = tuple[int, int, int]
"""(ingest seq, part, row) of the last row taken in from a source."""


@dataclass(slots=True)
class PartitionState(RowMemory):
    """The state of one partition of one target."""

    seen: dict[str, Seen] = field(default_factory=dict)
    out_seq: int = 0
    next_input: int = 0
    term: int = 0
    function_version: int = FUNCTION_VERSION
    counters: dict[str, Counters] = field(default_factory=dict)
    line: WaitingLine = field(default_factory=WaitingLine)
    waiting_rows_max: int = sys.maxsize
    """Rows that may wait behind rows on hold. Decides about no output: past it everything ends."""

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
        self, header: RoutedHeader, value: bytes, *, offset: int, plan: RoutingPlan
    ) -> Effects:
        """Takes in the message at `offset` and returns what it causes.

        Raises:
            NewerFormatError: the value was written by a newer version. Nothing has changed.
            FatalError: `offset` is not the next one: messages between were lost.
        """
        if offset < self.next_input:
            return Effects()
        if header.kind is RoutedKind.DECISION:
            return self._apply_wish(header, value, offset=offset, plan=plan)
        seen = self.seen.get(header.source, (0, 0, -1))
        last = (header.seq, header.part, header.last)
        if last <= seen:
            self._advance(offset)
            self._counters(header.source).duplicates += header.counted
            return Effects()
        batch = None
        if header.kind is RoutedKind.ROWS:
            try:
                batch = self._fresh_rows(header, value, seen, plan)
            except NewerFormatError:
                raise
            except FormatError as error:
                self._advance(offset)
                self.seen[header.source] = last
                self._counters(header.source).dead += header.counted
                return Effects(damage=str(error))
        self._advance(offset)
        self.seen[header.source] = last
        if header.kind is RoutedKind.CODE:
            return Effects(damage="a code fence in a routed topic")
        return self._let_out(self._caused_by(header, value, batch, plan), plan)

    def _caused_by(
        self, header: RoutedHeader, value: bytes, batch: ChangeBatch | None, plan: RoutingPlan
    ) -> Caused:
        match header.kind:
            case RoutedKind.NOTE:
                self._counters(header.source).filtered += header.filtered
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

    def _apply_schema_change(self, header: RoutedHeader, value: bytes, plan: RoutingPlan) -> Caused:
        """Of a table with one source it passes; among several, what it changes for the target is told."""
        rule = plan.resolution(self.target, header.table)
        if rule is None:
            if plan.may_count(header.source, header.table):
                follow(header.table, SchemaChange.decode(value), self._get, self.delta)
            return Caused([(header, value)])
        change = SchemaChange.decode(value)
        if not change.table:
            return Caused()  # Of an older collector: rows tell what it did.
        before = self._view(header.table, plan)
        where = f"source {header.source}, table {header.table}, position {header.from_}"
        table = before.tables.get(header.source, SourceTable()).after(change, where)
        after = self._note_table(header.table, header.source, table)
        joined = JoinedChange(
            self.target, self.partition, header, change, rule,
            plan.sources_of(self.target, header.table), before, after,
        )  # fmt: skip
        tag = self._tag_of(rule, header)
        prefix = slot_of(header.table, ())

        def judge_row(slot: bytes, saved: bytes, index: int) -> tuple[Judgement, Outcome | None]:
            known = RowState.load(saved, self._shape)
            now = RowState(tag, known.registers, known.decision)
            judged = self._judge(
                slot, known, now, rule, table=header.table, hold=self._hold_name(index), view=after,
                before=before, ets=header.ets,
            )  # fmt: skip
            was = resolve(before(known.registers), rule, known.decision)
            return judged, was if isinstance(was, Outcome) else None

        entries = self._entries(prefix, header.source) if joined.changes_rows else iter(())
        rest = (
            self._said_by(step, header.source) for step in joined.steps(entries, prefix, judge_row)
        )
        return Caused(rest=rest)

    def _said_by(self, step: Step, source: str) -> Caused:
        messages = [
            (header, encode_batch(value) if isinstance(value, ChangeBatch) else value)
            for header, value in step.messages
        ]
        self._counters(source).truncated += step.removed
        return Caused(messages, step.conflicts)

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
            counters = self._counters(header.source)
            moved = header.counted if waits else -header.counted
            counters.held += moved
            counters.applied -= moved

    def skip_unreadable(self, offset: int) -> None:
        """Takes in a message at `offset` that does not even say what it is."""
        if offset >= self.next_input:
            self._advance(offset)
            self._counters("").dead += 1

    def _advance(self, offset: int) -> None:
        if offset > self.next_input:
            raise FatalError(
                f"input {offset} follows {self.next_input - 1}: messages between are missing",
                where=f"routed.{self.target}",
                remedy="retention took unread messages, or the state is of another topic: see docs/what-if.md",
            )
        self.next_input = offset + 1

    def _counters(self, source: str) -> Counters:
        return self.counters.setdefault(source, Counters())

    def _hold_name(self, row: int) -> str:
        # The place in the log, so that a replay gives the same name.
        return f"{self.target}.{self.partition}.{self.next_input - 1}.{row}"

    def _output(self, header: RoutedHeader, value: bytes) -> Output:
        self.out_seq += 1
        return Output(TargetHeader(header, self.resolver_epoch, self.out_seq, self.term), value)

    def _fresh_rows(
        self, header: RoutedHeader, value: bytes, seen: Seen, plan: RoutingPlan
    ) -> ChangeBatch | None:
        """The rows not seen before; None where the value can be forwarded as it is."""
        fresh = (header.seq, header.part, header.first) > seen
        counts = plan.may_count(header.source, header.table)
        if fresh and not counts and plan.resolution(self.target, header.table) is None:
            return None
        batch = decode_batch(value)
        if len(batch) != header.rows:
            raise FormatError(f"a batch of {len(batch)} rows whose header says {header.rows}")
        if fresh:
            # Rows without a key are no two opinions about one row: nothing to resolve.
            return batch if batch.schema.key else None
        # Another router version cut the message elsewhere: take only what is new.
        rows = [
            row
            for row in range(len(batch))
            if (header.seq, header.part, batch.origin_of(row)) > seen
        ]
        return batch.take(rows)

    def _apply_rows(
        self, header: RoutedHeader, value: bytes, batch: ChangeBatch | None, plan: RoutingPlan
    ) -> Caused:
        counters = self._counters(header.source)
        if batch is None:
            counters.applied += header.counted
            return Caused([(header, value)])
        counted = sum(op not in UNCOUNTED for op in batch.ops)
        counters.duplicates += header.counted - counted
        header = replace(header, rows=len(batch), counted=counted)
        if is_whole_row(batch.schema):
            return self._count_rows(header, batch)
        rule = plan.resolution(self.target, header.table)
        if rule is None or not batch.schema.key:
            counters.applied += counted
            return Caused([(header, encode_batch(batch))])
        view = self._view(header.table, plan)
        known = view.tables.get(batch.source, SourceTable())
        seen = known.seen(batch.schema)
        if seen is known:
            return self._resolve_rows(header, batch, rule, view)
        before, view = view, self._note_table(header.table, batch.source, seen)
        sources = plan.sources_of(self.target, header.table)
        change = told_by_rows(batch, header, before, view, sources)
        caused = self._resolve_rows(header, batch, rule, view)
        if change is None:
            return caused
        described = replace(header, kind=RoutedKind.SCHEMA, rows=0, counted=0)
        return replace(caused, messages=[(described, change.encode()), *caused.messages])

    def _count_rows(self, header: RoutedHeader, batch: ChangeBatch) -> Caused:
        counters = self._counters(header.source)
        counted = count_rows(header, batch, self._get, self.delta)
        applied = 0 if counted is None else counted[0].counted
        counters.applied += applied
        counters.superseded += header.counted - applied
        if counted is None:
            return Caused()
        return Caused([(counted[0], encode_batch(counted[1]))])

    def _resolve_rows(
        self, header: RoutedHeader, batch: ChangeBatch, rule: Resolution, view: View
    ) -> Caused:
        if TRUNCATE in batch.ops:
            raise FatalError(
                "a TRUNCATE among rows of a table that several sources feed",
                where=f"{header.source} {header.table}, message {header.seq}",
                remedy="delete the rows instead: a truncate says nothing about the other sources' rows",
            )
        caused = Caused()
        counters = self._counters(header.source)
        shape = self._shape_of(batch.schema)
        tag = self._tag_of(rule, header)
        winners: list[tuple[int, Outcome]] = []
        for index, (op, row) in enumerate(zip(batch.ops, batch.rows(), strict=True)):
            slot = slot_of(header.table, [row[i] for i in batch.schema.key])
            known = RowState.load(self._get(slot), self._shape)
            shown = view(known.registers)
            change = _change_of(batch, index, shape, rule, shown.get(batch.source))
            if not known.registers and self._is_too_late(header.table, change):
                counters.dead += op not in UNCOUNTED
                caused.too_late.append((index, encode_batch(batch.take([index]))))
                continue
            after = {
                **known.registers,
                batch.source: register(known.registers.get(batch.source), change),
            }
            judged = self._judge(
                slot,
                known,
                RowState(tag, after, known.decision),
                rule,
                table=header.table,
                hold=self._hold_name(index),
                view=view,
                ets=header.ets,
            )
            kind = conflict_kind(shown, change, rule, judged.verdict)
            late = kind is not None and is_late(shown, change, rule)
            if kind is not None:
                counters.conflicts[kind] = counters.conflicts.get(kind, 0) + 1
                counters.late += late
            if judged.hold or kind not in (None, "delete_missing"):
                caused.conflicts.append(
                    conflict_record(
                        self.target,
                        header=header,
                        batch=batch,
                        index=index,
                        kind=kind or _kind_of_hold(judged),
                        rule=rule,
                        judged=judged,
                        partition=self.partition,
                        late=late,
                    )
                )
            if op not in UNCOUNTED:
                held = isinstance(judged.verdict, Hold)
                counters.held += held
                counters.applied += judged.emits
                counters.superseded += not (held or judged.emits)
            if judged.emits:
                assert isinstance(judged.verdict, Outcome)
                winners.append((index, judged.verdict))
        made = batches_of(header, batch, winners)
        return replace(caused, messages=[(described, encode_batch(out)) for described, out in made])

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
            decision = wish.decision(offset, known.registers) if deciding else known.decision
        except NewerFormatError:
            raise
        except FormatError as error:
            self._advance(offset)
            return Effects(damage=str(error))
        self._advance(offset)
        now = RowState(self._tag_of(rule, header), known.registers, decision)
        judged = self._judge(
            slot,
            known,
            now,
            rule,
            table=header.table,
            hold=self._hold_name(0),
            view=self._view(header.table, plan),
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


def _change_of(
    batch: ChangeBatch, index: int, shape: Shape, rule: Resolution, mine: Register | None
) -> Change:
    """Row `index` as a change; `mine` is what its source said before."""
    op, row = batch.ops[index], batch.rows()[index]
    changed = None
    if rule.strategy == "merge":
        changed = changed_columns(mine, op, row, shape, null_is_unset=rule.null_is_unset)
    ets = batch.transactions[batch.tx[index]].ets
    return Change(batch.source, batch.position_of(index), op, ets, row, shape, changed)


def _kind_of_hold(judged: Judgement) -> str:
    """The kind in a hold's record where the change by itself meets no conflict."""
    return "update_update" if judged.state == "open" else "agreed"
