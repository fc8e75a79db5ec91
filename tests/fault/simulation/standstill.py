"""What stands still while sources disagree (`scope: table`, `scope: job`), and the decisions that end it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from gravity.codec import decode_record
from gravity.decision import Note, keep_source
from gravity.header import RoutedKind
from gravity.position import Position

from .oracle import resolved
from .world import Key, ViolationError, World

ROUNDS_MAX = 10

Records = dict[tuple[Key, str, int], dict[str, Any]]


def newest_records(world: World) -> Records:
    """The conflict record of each row that saw most of its sources; replays write old ones again."""

    def seen(record: dict[str, Any]) -> tuple[int, list[tuple[str, Position]]]:
        opinions = [(o["source"], Position.parse(o["position"])) for o in record["opinions"]]
        return len(opinions), sorted(opinions)

    newest: Records = {}
    for key, data in world.conflicts:
        record = decode_record("conflict", data)
        name = key, record["table"].removeprefix("app."), json.loads(record["key"])[0]
        if name not in newest or seen(record) >= seen(newest[name]):
            newest[name] = record
    return newest


def open_holds(world: World) -> Records:
    """The rows on hold by the oracle's word, each with its newest record."""
    held = {target: resolved(world, target)[1] for target in world.targets}
    return {
        name: record
        for name, record in newest_records(world).items()
        if name[1:] in held[name[0][0]]
    }


def check_standstill(world: World) -> None:
    """Nothing that stands still went out behind the change that began an open hold."""
    for (key, table, row), record in open_holds(world).items():
        began = int(record["hold"].rsplit(".", 2)[1])
        first: dict[tuple[str, int, str], int] = {}
        for offset, (header, _, _) in enumerate(world.routed[key]):
            first.setdefault((header.source, header.seq, header.table), offset)
        for header, _, _ in world.target[key]:
            routed = header.routed
            stands = world.histories.scope == "job" or routed.table == f"app.{table}"
            if routed.kind is not RoutedKind.ROWS or not stands:
                continue
            by_operator = routed.seq if routed.source.startswith("@") else -1
            cause = first.get((routed.source, routed.seq, routed.table), by_operator)
            if cause >= began:
                raise ViolationError(
                    f"{key}: message {cause} of {routed.table} went out during the hold of {table} {row} "
                    f"that began with {began}"
                )


def settle(world: World, drain: Callable[[], None]) -> None:
    """An operator decides about everything that is on hold; then nothing waits any more."""
    for _ in range(ROUNDS_MAX):
        holds = open_holds(world)
        if not holds:
            return
        for (key, _, _), record in holds.items():
            source = world.rng.choice(record["opinions"])["source"]
            header, value = keep_source(record, source, Note(plan=1, time_us=world.steps))
            world.append(world.routed[key], header, value)
        world.steps = 0
        drain()
    raise ViolationError(f"holds that no decision ends: {list(holds)}")
