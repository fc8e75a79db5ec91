"""A partition of the resolver as tests use it: in memory, with what it sent and what a target holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from gravity_resolver.effects import Effects
from gravity_resolver.replica import META_KEY, PartitionState

from gravity.codec import decode_batch
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, RulePlan, SourcePlan, TargetPlan
from gravity.testing.routed_log import RoutedMessage
from gravity.testing.target_log import table

TARGET = "t"
USERS = table("shop.users", [("id", "int"), ("name", "varchar(20)")], ["id"])
SIZED = table("shop.users", [("id", "int"), ("name", "varchar(20)"), ("size", "int")], ["id"])
ALONE = table("shop.alone", [("id", "int"), ("name", "varchar(20)")], ["id"])
KEYLESS = table("shop.keyless", [("id", "int"), ("name", "varchar(20)")], [])
SOURCES = ("a", "b", "c")
RANKS = {"a": 1, "b": 2, "c": 3}
LATEST = Resolution("timestamp-latest", RANKS)
RULES = [
    LATEST,
    Resolution("source-priority", RANKS),
    Resolution("source-priority", RANKS, on_delete="absolute"),
    Resolution("source-priority", RANKS, on_delete="fallthrough"),
    Resolution("merge", RANKS),
    Resolution("merge", RANKS, columns={"name": "owner:b"}),
]


def plan_of(rule: Resolution, version: int = 1) -> RoutingPlan:
    return RoutingPlan(
        version=version,
        partitions=1,
        sources=tuple(SourcePlan(name, ("*",), ("*",), ()) for name in SOURCES),
        targets=(TargetPlan(TARGET, "mysql", None, ("*",), (), ()),),
        routes=(),
        rules=(RulePlan(("*",), None, rule),),
        default_resolution=rule,
        feeding={
            TARGET: {
                "shop.users": SOURCES,
                "shop.keyless": SOURCES,
                "shop.alone": ("a",),
            }
        },
    )


class DictStore:
    def __init__(self) -> None:
        self.data: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.data.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        alive = ((key, value) for key, value in self.data.items() if value is not None)
        return iter(sorted(item for item in alive if item[0].startswith(prefix)))


class Replica:
    """A replica whose saved state is a dictionary."""

    def __init__(self, rule: Resolution = LATEST) -> None:
        self.store = DictStore()
        self.state = PartitionState(TARGET, self.store)
        self.plan = plan_of(rule)
        self.outputs: list[tuple[Any, bytes]] = []
        self.conflicts: list[bytes] = []

    def take(self, messages: Iterable[RoutedMessage]) -> Replica:
        for header, value in messages:
            self.apply(header, value)
        return self

    def apply(self, header: RoutedHeader, value: bytes, time_ms: int = 0) -> Effects:
        offset = self.state.next_input
        effects = self.state.apply(header, value, offset=offset, plan=self.plan, time_ms=time_ms)
        for part in (effects, *(effects.rest or ())):
            self.outputs += [(output.header, output.value) for output in part.outputs]
            self.conflicts += part.conflicts
        return effects

    def save(self) -> None:
        self.store.data.update(self.state.take_delta())
        self.state.delta_saved()

    def crash_and_restore(self) -> None:
        self.state = PartitionState(TARGET, self.store)
        meta = self.store.get(META_KEY)
        if meta is not None:
            self.state.load_meta(meta)

    def everything(self) -> dict[bytes, bytes | None]:
        return {**self.store.data, **self.state.saving, **self.state.take_delta()}

    def registers(self) -> dict[bytes, bytes | None]:
        return {
            key: value
            for key, value in self.everything().items()
            if key[:2] in (b"r\x00", b"s\x00")
        }

    def counts(self, source: str) -> dict[str, Any]:
        meta = json.loads(self.state.meta())
        found: dict[str, Any] = meta["counters"][source]
        return found

    def target_rows(self) -> dict[Any, tuple[Any, ...]]:
        """What a target holds that applies the outputs in order."""
        rows: dict[Any, tuple[Any, ...]] = {}
        for header, value in self.outputs:
            if header.routed.kind is RoutedKind.ROWS:
                batch = decode_batch(value)
                for op, row in zip(batch.ops, batch.rows(), strict=True):
                    if chr(op) in "DML":
                        rows.pop(row[0], None)
                    else:
                        rows[row[0]] = row
        return rows
