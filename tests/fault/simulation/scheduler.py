"""Which process runs next, and which one dies."""

from __future__ import annotations

from typing import Any

from gravity.codec import decode_record
from gravity.decision import Note, keep_source, own_row

from .back import resolver
from .breaks import BREAKS
from .front import IDLE, Steps, collector, router
from .sinks import sink_clickhouse, sink_kafka, sink_mysql
from .standstill import check_standstill, settle
from .world import DieError, ViolationError, World

BODIES: dict[str, Any] = {
    "collector": collector,
    "router": router,
    "resolver": resolver,
    "mysql": sink_mysql,
    "clickhouse": sink_clickhouse,
    "kafka": sink_kafka,
}
DECISIONS = 0.004
"""How often an operator decides, a step."""


SERVER_FAULTS = 0.01
"""How often a server fails, a step, where others may stand in."""


class Process:
    def __init__(self, role: Any, run: Steps) -> None:
        self.role, self.run, self.frozen = role, run, 0
        self.life: int | None = None
        """Steps that a replaced process still makes."""


class Scheduler:
    """Runs everything in random order under random faults, then lets it drain."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.processes: list[Process] = []
        self.current: dict[Any, Process] = {}
        self.roles: list[Any] = [("collector", s) for s in range(world.sources)]
        self.roles += [("router", s) for s in range(world.sources)]
        self.roles += [(kind, key) for kind in ("resolver", "sink") for key in world.routed]
        for role in self.roles:
            self.spawn(role)

    def spawn(self, role: Any) -> None:
        """A new owner: the group's generation moves on, whoever was there is a zombie now."""
        world = self.world
        world.generation[role] += 1
        kind, key = role
        body = BODIES[key[0] if kind == "sink" else kind]
        old = self.current.get(role)
        if old in self.processes:
            assert old is not None
            old.life = world.rng.randint(5, 80)
        process = Process(role, body(world, key, role, world.generation[role]))
        self.current[role] = process
        self.processes.append(process)

    def kill(self, process: Process) -> None:
        self.processes.remove(process)
        process.run.close()  # type: ignore[attr-defined]

    def step(self, process: Process) -> str | None:
        try:
            result = next(process.run)
        except (StopIteration, DieError):
            self.kill(process)
            return None
        if process.life is not None:
            process.life -= 1
            if process.life <= 0 and process.role[0] != "collector":
                self.kill(process)
        return result

    def fault(self) -> None:
        world, rng = self.world, self.world.rng
        broken = BREAKS[world.broken] if world.broken else None
        aimed = [p for p in self.processes if broken and broken.aims_at(p.role)]
        process = rng.choice(aimed or self.processes)
        kind = rng.random()
        if kind < 0.40:
            world.stats["crash"] += 1
            self.kill(process)
        elif kind < 0.70:
            world.stats["freeze"] += 1
            process.frozen = world.steps + rng.randint(50, 600)
            if rng.random() < 0.8:
                self.spawn(process.role)
        else:
            world.stats["rebalance"] += 1
            self.spawn(process.role)
            if rng.random() < 0.2:
                self.spawn(process.role)  # Rivals.

    def fail_server(self) -> None:
        """A server can't be reached for a while, and who reads it ends at once or later; or it stands still."""
        world, rng = self.world, self.world.rng
        source = rng.choice(world.source)
        server = rng.choice(source.servers)
        if rng.random() < 0.4:
            server.stand_still(world.steps + rng.randint(50, 400))
            return
        server.back_at = world.steps + rng.randint(50, 600)
        reader = self.current["collector", source.number]
        if reader in self.processes and rng.random() < 0.5:
            self.kill(reader)

    def run(self) -> None:
        world, rng = self.world, self.world.rng
        rate, length = rng.choice((0.003, 0.01, 0.02)), rng.choice((1000, 2000, 3000))
        growth = rng.uniform(0.01, 0.03)
        upgrade = 0.003 if world.broken == "no-term" else 0.0005
        while world.steps < length:
            world.steps += 1
            if rng.random() < growth:
                rng.choice(world.source).commit_something()
            if world.histories.resolving and world.conflicts and rng.random() < DECISIONS:
                decide(world)
            if world.code == 1 and rng.random() < upgrade:
                world.code = 2
            if world.newest_plan == 1 and rng.random() < 0.001:
                world.newest_plan = 2
            if world.histories.fails_over and rng.random() < SERVER_FAULTS:
                self.fail_server()
            if self.processes and rng.random() < rate:
                self.fault()
            dead = [role for role in self.roles if self.current[role] not in self.processes]
            if dead and rng.random() < 0.1:
                self.spawn(rng.choice(dead))
            ready = [p for p in self.processes if p.frozen <= world.steps]
            if ready:
                self.step(rng.choice(ready))
        self.drain()
        if world.histories.scope != "key":
            if (
                not world.histories.on_down
            ):  # Else the log's order is not the order in which rows count.
                check_standstill(world)
            settle(world, self.drain)

    def drain(self) -> None:
        """The frozen wake up and do what they like; then only the present owners go on, to the end."""
        world = self.world
        world.faults = False
        for process in self.processes:
            process.frozen = 0
        for _ in range(40 * len(self.processes)):
            if self.processes:
                self.step(world.rng.choice(self.processes))
        for process in [p for p in self.processes if self.current[p.role] is not p]:
            self.kill(process)
        calm = 0
        while calm < 3:
            calm += 1
            for role in self.roles:
                if self.current[role] not in self.processes:
                    self.spawn(role)
                    calm = 0
                for _ in range(5):
                    if self.step(self.current[role]) != IDLE:
                        calm = 0
                    if self.current[role] not in self.processes:
                        break
            world.steps += 1
            if world.steps > 8000:
                raise ViolationError("no end of the drain")


def decide(world: World) -> None:
    """An operator decides about a row of some recent conflict, perhaps seeing what is old by now."""
    rng = world.rng
    key, data = rng.choice(world.conflicts[-20:])
    record = decode_record("conflict", data)
    note = Note(plan=1, time_us=world.steps)
    choice = rng.random()
    if choice < 0.6:
        source = rng.choice(record["opinions"])["source"]
        header, value = keep_source(record, source, note)
    elif choice < 0.8 and any(opinion["row"] for opinion in record["opinions"]):
        header, value = own_row(record, {"amount": rng.randrange(100)}, note)
    else:
        header, value = own_row(record, None, note)
    world.stats["decisions"] += 1
    world.append(world.routed[key], header, value)
