"""What becomes of the rows and schema changes of several sources, one message at a time. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gravity.batch import TRUNCATE, UNCOUNTED, ChangeBatch
from gravity.codec import decode_batch, encode_batch
from gravity.errors import FatalError, FormatError
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.conflict import conflict_kind, is_late
from gravity.resolution.register import Change, Register, Shape, changed_columns, register
from gravity.resolution.strategy import Hold, Outcome, resolve
from gravity.schema_change import SchemaChange
from gravity.whole_row import is_whole_row
from gravity_resolver.conflict_record import ConflictRecords
from gravity_resolver.copies import count_rows, follow
from gravity_resolver.effects import Caused, Counters
from gravity_resolver.emission import batches_of
from gravity_resolver.joined_change import JoinedChange, Step, told_by_rows
from gravity_resolver.judgement import Judgement
from gravity_resolver.row_memory import RowMemory, slot_of, slots_of
from gravity_resolver.row_state import RowState
from gravity_resolver.row_text import RowTexts
from gravity_resolver.table_history import SourceTable, View

Seen = tuple[int, int, int]
"""(ingest seq, part, row) of the last row taken in from a source."""
NOTHING_SEEN: Seen = (0, 0, -1)


@dataclass(slots=True)
class RowResolving(RowMemory):
    """A partition's memory of rows, and what a message with more of them comes to."""

    counters: dict[str, Counters] = field(default_factory=dict)
    place: tuple[int, int] = (0, 0)
    """The message at hand: its offset, and which of that message's rows is its first."""

    def _apply_schema_change(self, header: RoutedHeader, value: bytes, plan: RoutingPlan) -> Caused:
        """Of a table with one source it passes; among several, what it changes for the target is told."""
        rule = plan.resolution(self.target, header.table)
        if rule is None:
            if plan.may_count(header.source, self.target, header.table):
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
        self.count(source).truncated += step.removed
        return Caused(messages, step.conflicts)

    def fetch(self, key: bytes) -> bytes | None:
        """The value under `key` of the state, saved or not."""
        return self._get(key)

    def store(self, key: bytes, value: bytes | None) -> None:
        """Puts a value into the state; None removes it."""
        self.delta[key] = value

    def count(self, source: str) -> Counters:
        """How the source's rows ended."""
        return self.counters.setdefault(source, Counters())

    def _hold_name(self, row: int) -> str:
        # The place in the log, so that a replay gives the same name.
        offset, first = self.place
        return f"{self.target}.{self.partition}.{offset}.{first + row}"

    def _fresh_rows(
        self,
        header: RoutedHeader,
        value: bytes,
        seen: Seen,
        plan: RoutingPlan,
        *,
        needed: bool = False,
    ) -> ChangeBatch | None:
        """The rows not seen before; None where the value can be forwarded as it is, unless they are `needed`."""
        fresh = (header.seq, header.part, header.first) > seen
        counts = plan.may_count(header.source, self.target, header.table)
        if (
            not needed
            and fresh
            and not counts
            and plan.resolution(self.target, header.table) is None
        ):
            return None
        batch = decode_batch(value)
        if len(batch) != header.rows:
            raise FormatError(f"a batch of {len(batch)} rows whose header says {header.rows}")
        if fresh:
            # Rows without a key are no two opinions about one row: nothing to resolve.
            return batch if batch.schema.key or needed else None
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
        counters = self.count(header.source)
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
        described = replace(header, kind=RoutedKind.SCHEMA, rows=0, counted=0, late=False)
        return replace(caused, messages=[(described, change.encode()), *caused.messages])

    def _count_rows(self, header: RoutedHeader, batch: ChangeBatch) -> Caused:
        counters = self.count(header.source)
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
        counters = self.count(header.source)
        shape = self._shape_of(batch.schema)
        tag = self._tag_of(rule, header)
        winners: list[tuple[int, Outcome]] = []
        slots = slots_of(header.table, [batch.columns[i] for i in batch.schema.key])
        may_hold = rule.strategy == "error-stop"
        texts = RowTexts(batch)
        records = ConflictRecords(self.target, self.partition, header, batch, rule)
        for index, (op, slot) in enumerate(zip(batch.ops, slots, strict=True)):
            known = self._row(slot)
            shown = view(known.registers)
            change = _change_of(batch, index, shape, rule, shown.get(batch.source))
            if not known.registers and self._is_too_late(header.table, change):
                counters.dead += op not in UNCOUNTED
                caused.too_late.append((self.place[1] + index, encode_batch(batch.take([index]))))
                continue
            mine = register(known.registers.get(batch.source), change)
            after = {**known.registers, batch.source: mine}
            if len(after) > len(known.registers):
                after = dict(sorted(after.items()))  # As they come back from the state.
            if mine.row is change.row:
                texts.leave_with(mine, index, contended=len(after) > 1)
            judged = self._judge(
                slot,
                known,
                RowState(tag, after, known.decision),
                rule,
                table=header.table,
                hold=self._hold_name(index) if may_hold else "",
                view=view,
                # What an earlier plan resolved nothing of may have been the last to be written.
                again=batch.source in rule.leaving and batch.source not in known.registers,
                ets=header.ets,
            )
            kind = conflict_kind(shown, change, rule, judged.verdict)
            late = kind is not None and is_late(shown, change, rule)
            if kind is not None:
                counters.conflicts[kind] = counters.conflicts.get(kind, 0) + 1
                counters.late += late
            if judged.hold or kind not in (None, "delete_missing"):
                caused.conflicts.append(
                    records.record(index, kind or _kind_of_hold(judged), judged, late=late)
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


def _change_of(
    batch: ChangeBatch, index: int, shape: Shape, rule: Resolution, mine: Register | None
) -> Change:
    """Row `index` as a change; `mine` is what its source said before."""
    op, row = batch.ops[index], batch.rows()[index]
    changed = None
    if rule.strategy == "merge":
        changed = changed_columns(mine, op, row, shape, null_is_unset=rule.null_is_unset)
    transaction = batch.transactions[batch.tx[index]]
    position = Position(
        batch.epoch, transaction.file_index, transaction.offset, batch.ordinal[index]
    )
    return Change(batch.source, position, op, transaction.ets, row, shape, changed)


def _kind_of_hold(judged: Judgement) -> str:
    """The kind in a hold's record where the change by itself meets no conflict."""
    return "update_update" if judged.state == "open" else "agreed"
