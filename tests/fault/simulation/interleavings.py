"""Hand-built interleavings for laws that random ones break too rarely to be waited for.

Each goes one way under the protocol and another under the broken law: `run` says which law the second
one misses, None where it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gravity.errors import GravityError
from gravity.header import IngestKind, RoutedKind

from .oracle import check
from .scheduler import Process, Scheduler
from .world import ViolationError, World, halves

STEPS_MAX = 5000


@dataclass
class Script:
    """A world without random faults, in which the script says who runs."""

    world: World
    scheduler: Scheduler

    @classmethod
    def of(cls, broken: str | None, histories_as: str) -> Script:
        """A world as `histories_as` has it; `broken` None: with all laws in force."""
        world = World(0, histories_as)
        world.broken, world.faults = broken, False
        for source in world.source:
            # The script says what sources have; nothing is copied but what it names.
            source.chunks.clear()
            for table in (source.tables, source.initial):
                for rows in table.values():
                    rows.clear()
        return cls(world, Scheduler(world))

    def process(self, kind: str, key: Any) -> Process:
        """The present owner of a role."""
        return self.scheduler.current[kind, key]

    def until(self, process: Process, reached: Callable[[], bool]) -> None:
        """Runs one process until something is so."""
        for _ in range(STEPS_MAX):
            if reached():
                return
            self.scheduler.step(process)
        raise AssertionError(f"{process.role} never got there")

    def verdict(self) -> str | None:
        """Lets everything come to its end, and says which law was missed."""
        try:
            self.scheduler.drain()
            check(self.world)
        except (ViolationError, GravityError) as error:
            return str(error)
        return None


def finish_chunk(broken: str | None) -> str | None:
    """A collector dies within a chunk; before the next one comes, the source deletes a row of the part that is there.

    Who reads the rest again and goes on behind that part leaves out the row that has moved up.
    """
    script = Script.of(broken, "finish-chunk")
    world, source = script.world, script.world.source[0]
    rows = {0: (60, "first"), 1: (70, "second")}
    source.tables["cond0"].update(rows)
    source.initial["cond0"].update(rows)
    source.chunks.append(halves("cond0")[0])
    first = script.process("collector", 0)
    log = world.ingest[0]
    script.until(first, lambda: log[-1].header.kind is IngestKind.CHUNK if log else False)
    script.scheduler.kill(first)
    source.write("cond0", 0, None)
    return script.verdict()


def mysql_real_truncate(broken: str | None) -> str | None:
    """A sink is about to empty a table and stands still; its successor does, and writes a newer row; it wakes up."""
    script = Script.of(broken, "mysql-real-truncate")
    world, source = script.world, script.world.source[0]
    source.write("group0a", 3, (50, "gone"))
    source.write("group0a", 1, (60, "old"))
    source.truncate("group0a")
    source.write("group0a", 1, (70, "new"))
    (part,) = through_resolver(script, "mysql")
    key, stored = ("mysql", part), world.mysql.progress[part]
    sleeper = script.process("sink", key)
    script.until(sleeper, lambda: world.mysql.rows.get(("group0a", 1)) == (60, "old"))
    script.until(sleeper, lambda: stored["lock"] is None)
    for _ in range(3):  # It has read the TRUNCATE, and has not made it yet.
        script.scheduler.step(sleeper)
    script.scheduler.spawn(("sink", key))
    awake = script.process("sink", key)
    script.until(awake, lambda: world.mysql.rows.get(("group0a", 1)) == (70, "new"))
    script.until(awake, lambda: stored["lock"] is None)
    return script.verdict()


def through_resolver(script: Script, target: str) -> set[int]:
    """Brings everything to the target's topic; the partitions that have rows there."""
    world = script.world
    for kind in ("collector", "router", "resolver"):
        for role in [role for role in script.scheduler.roles if role[0] == kind]:
            idle = 0
            while idle < 3:
                idle = idle + 1 if script.scheduler.step(script.scheduler.current[role]) else 0
    return {
        q
        for (name, q), log in world.target.items()
        if name == target and any(m.header.routed.kind is RoutedKind.ROWS for m in log)
    }


INTERLEAVINGS = {"finish-chunk": finish_chunk, "mysql-real-truncate": mysql_real_truncate}
"""Broken law to the interleaving that shows it missed."""
