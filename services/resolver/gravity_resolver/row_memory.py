"""What a partition knows of the rows that several sources feed, and when it forgets them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import Protocol

from gravity.batch import LEFT, READ, TableSchema, Value
from gravity.errors import FatalError
from gravity.header import RoutedHeader
from gravity.key import encode_key, encode_keys
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution
from gravity.resolution.register import Change, Shape
from gravity.resolution.strategy import rule_tag
from gravity_resolver.graveyard import Graveyard
from gravity_resolver.hold_book import HoldBook
from gravity_resolver.judgement import Judgement, judge
from gravity_resolver.row_cache import RowCache
from gravity_resolver.row_state import RowState, columns_from_json, columns_to_json, is_dead
from gravity_resolver.table_history import AS_WRITTEN, SourceTable, View

HELD_TABLES_MAX = 100
"""Tables with rows on hold that are told of one by one."""

_ROW_PREFIX, _SHAPE_PREFIX, _TABLE_PREFIX = b"r\x00", b"s\x00", b"t\x00"


class StateView(Protocol):
    """What has been saved of a partition's state."""

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`; None when there is none."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every key that begins with `prefix` and its value, in the order of keys, as of this call."""


def slots_of(table: str, key_columns: Sequence[Sequence[Value]]) -> list[bytes]:
    """`slot_of` of each row; `key_columns` as in a batch."""
    prefix = slot_of(table, ())
    return [prefix + key for key in encode_keys(key_columns)]


def slot_of(table: str, key: Sequence[Value]) -> bytes:
    """Where the state of a row stands."""
    return _ROW_PREFIX + table.encode() + b"\x00" + encode_key(key)


@dataclass(slots=True)
class RowMemory:
    """The part of a partition's state that is about rows. What changed since it was saved is in `delta`."""

    target: str
    saved: StateView
    resolver_epoch: int = 1
    partition: int = -1
    """Which one; -1 where nobody asks."""
    held: HoldBook = field(default_factory=HoldBook)
    watermarks: dict[str, int] = field(default_factory=dict)
    """Source to the commit time before which it has nothing more to say."""
    collected: dict[str, int] = field(default_factory=dict)
    """Table to the commit time up to which deleted rows have been forgotten."""
    graves: Graveyard = field(default_factory=Graveyard)
    delta: dict[bytes, bytes | None] = field(default_factory=dict)
    """Changed since the last `take_delta`; None: deleted."""
    saving: dict[bytes, bytes | None] = field(default_factory=dict)
    """Handed out by `take_delta`, not yet in `saved`."""
    _shapes: dict[str, Shape] = field(default_factory=dict)
    _tags: dict[tuple[int, str], str] = field(default_factory=dict)
    _views: dict[str, View] = field(default_factory=dict)
    _cache: RowCache = field(default_factory=RowCache)

    @property
    def holds(self) -> int:
        """Rows on hold now."""
        return self.held.total

    def _get(self, key: bytes) -> bytes | None:
        for changed in (self.delta, self.saving):
            if key in changed:
                return changed[key]
        return self.saved.get(key)

    def _row(self, slot: bytes) -> RowState:
        """What is known of the row under `slot`."""
        saved = self._get(slot)
        if saved is None:
            return RowState()
        return self._cache.find(slot, saved) or RowState.load(saved, self._shape)

    def _entries(self, prefix: bytes, source: str) -> Iterator[tuple[bytes, bytes]]:
        """The rows under `prefix` of which `source` has spoken, saved or not, in the order of keys."""
        spoken = json.dumps(source).encode()
        # By its name first: most rows of a table may be of others.
        return (item for item in self._under(prefix) if spoken in item[1])

    def _under(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every key that begins with `prefix` and its value, saved or not, in the order of keys, as of this call."""
        newer = {**self.saving, **self.delta}
        fresh = sorted((k, v) for k, v in newer.items() if v is not None and k.startswith(prefix))
        saved = (item for item in self.saved.scan(prefix) if item[0] not in newer)
        return merge(saved, fresh)

    def _find_holds(self) -> None:
        """Makes the book of holds from the rows themselves: a state of before there was one has none."""
        self.held = HoldBook()
        for slot, data in self._under(_ROW_PREFIX):
            if b'"hold":"' in data:  # Most rows have none, and needn't be read.
                row = RowState.load(data, self._shape)
                table = slot.split(b"\x00", 2)[1].decode()
                self.held.note(table, slot, "", row.hold, ets=row.ets, put=self.delta)

    def held_tables(self) -> dict[str, dict[str, int]]:
        """Of tables with rows on hold: `rows`, and `oldest_us`, the commit time of what began the oldest hold."""
        return {
            table: {"rows": rows, "oldest_us": self.held.oldest_us(table, self._under)}
            for table, rows in sorted(self.held.tables.items())[:HELD_TABLES_MAX]
        }

    def _view(self, table: str, plan: RoutingPlan) -> View:
        """How registers of a table look today."""
        view = self._views.get(table, AS_WRITTEN)
        for source in plan.sources_of(self.target, table):
            if source not in view.tables:
                data = self._get(_TABLE_PREFIX + f"{table}\0{source}".encode())
                known = SourceTable() if data is None else SourceTable.from_json(json.loads(data))
                view = self._views[table] = view.with_table(source, known)
        return view

    def _note_table(self, name: str, source: str, table: SourceTable) -> View:
        self.delta[_TABLE_PREFIX + f"{name}\0{source}".encode()] = table.dump()
        view = self._views[name] = self._views.get(name, AS_WRITTEN).with_table(source, table)
        return view

    def _is_too_late(self, table: str, change: Change) -> bool:
        """Whether the row may have been deleted since, and forgotten: then nobody can tell any more."""
        return change.op not in (READ, LEFT) and change.ets <= self.collected.get(table, -1)

    def _forget(self, plan: RoutingPlan) -> None:
        """Forgets rows that every source has deleted and about which nobody can have more to say.

        At most one chunk a table, so that no marker takes long.
        """
        for table in sorted(self.graves.ends):
            rule = plan.resolution(self.target, table)
            if rule is None or not rule.forgets_deletes:
                continue
            # A source that is down or idle holds its watermark, and so everything.
            sources = plan.sources_of(self.target, table)
            before = min(self.watermarks.get(source, 0) for source in sources)
            before -= rule.tombstone_retention_us
            for slot in self.graves.exhume(table, before, self._get, self.delta):
                row = self._view(table, plan).row(RowState.load(self._get(slot), self._shape))
                if not is_dead(row):
                    continue
                if row.ets < before:
                    self.delta[slot] = None
                    self.collected[table] = max(row.ets, self.collected.get(table, 0))
                else:
                    self.graves.bury(table, slot, row.ets, self._get, self.delta)

    def _judge(
        self, slot: bytes, known: RowState, now: RowState, rule: Resolution,
        *, table: str, hold: str, view: View, before: View | None = None, decided: bool = False,
        again: bool = False, ets: int = 0,
    ) -> Judgement:  # fmt: skip
        """`view` shows registers as they are today, `before` as they were before a schema change.

        `ets`: the commit time of the event; 0: it has none of its own.
        """
        judged = judge(
            known, now, rule, hold=hold, decided=decided, again=again, view=view, known_view=before
        )
        dumped = judged.row.dump()
        if before is None or dumped != known.dump():
            self.delta[slot] = dumped
            self._cache.keep(slot, dumped, judged.row)
        if rule.forgets_deletes:
            shown = view.row(judged.row)
            if is_dead(shown) and not is_dead((before or view).row(known)):
                self.graves.bury(table, slot, shown.ets, self._get, self.delta)
        if known.hold != judged.row.hold:
            began = ets or judged.row.ets
            self.held.note(table, slot, known.hold, judged.row.hold, ets=began, put=self.delta)
        return judged

    def _shape_of(self, schema: TableSchema) -> Shape:
        shape = self._shapes.get(schema.schema_id)
        if shape is None:
            shape = self._shapes[schema.schema_id] = Shape(schema.schema_id, schema.columns)
            slot = _SHAPE_PREFIX + schema.schema_id.encode()
            if self._get(slot) is None:
                self.delta[slot] = json.dumps(columns_to_json(schema.columns)).encode()
        return shape

    def _shape(self, schema_id: str) -> Shape:
        shape = self._shapes.get(schema_id)
        if shape is None:
            data = self._get(_SHAPE_PREFIX + schema_id.encode())
            if data is None:
                raise FatalError(f"the state has no table shape {schema_id}", where=self.target)
            shape = self._shapes[schema_id] = Shape(schema_id, columns_from_json(json.loads(data)))
        return shape

    def _tag_of(self, rule: Resolution, header: RoutedHeader) -> str:
        tag = self._tags.get((header.plan, header.table))
        if tag is None:
            tag = self._tags[header.plan, header.table] = rule_tag(rule)
        return tag
