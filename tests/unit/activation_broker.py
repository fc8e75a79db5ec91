"""A broker in memory around the real activation: control's log, the topics, and a death at any step."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gravity import activation
from gravity.kafka import control
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable
from gravity.topic import TopicSpec, checkpoint_key, owner_key, plan_key


class Killed(BaseException):
    """The process is gone: no `except Exception` hears of it."""


@dataclass(frozen=True)
class Message:
    """A record of control."""

    key: bytes
    value: bytes | None


@dataclass
class Broker:
    """What outlives a process. Every step that changes it may be the last: before it, or right behind it."""

    log: list[Message] = field(default_factory=list)
    topics: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    dies_at: int | None = None
    """The step that is never taken."""
    look: Callable[[], None] = lambda: None
    """What somebody does who reads control as soon as there is more of it."""

    def step(self) -> None:
        """Before each change."""
        if self.steps == self.dies_at:
            raise Killed
        self.steps += 1

    def write(self, key: str, value: Any) -> None:
        """Appends a record, as somebody who does not die."""
        self.log.append(Message(key.encode(), json.dumps(value).encode()))

    def values(self, key: str) -> list[Any]:
        """All records of a key, in order."""
        return [json.loads(m.value) for m in self.log if m.key == key.encode() and m.value]

    def plans(self) -> Mapping[int, RoutingPlan]:
        """The plans by number, by their first records."""
        numbers = {int(m.key.decode()[5:]) for m in self.log if m.key.startswith(b"plan/")}
        return {n: RoutingPlan.from_json(self.values(plan_key(n))[0]) for n in sorted(numbers)}

    def settle(self, source: str, plan: int) -> None:
        """All rows of the source are in its log under this plan."""
        self.write(owner_key(source, 1), {"offset": 0})
        self.write(checkpoint_key(source, 1), {"snapshot_done": True, "plan": plan})

    def install(self, patch: pytest.MonkeyPatch, tables: Sequence[SourceTable]) -> Broker:
        """Puts it in Kafka's place, and `tables` in the sources'."""
        broker = self

        class Reader:
            def __init__(self, *_: object) -> None: ...

            def bounds(self, *_: object) -> tuple[int, int]:
                return 0, len(broker.log)

            def read(self, _topic: str, _partition: int, start: int, end: int) -> Iterator[Message]:
                yield from broker.log[start:end]

            def close(self) -> None: ...

        class Producer:
            def __init__(self, *_: object) -> None: ...

            def send(
                self, _topic: str, _partition: int, value: bytes | None, *, key: bytes
            ) -> None:
                broker.step()
                broker.log.append(Message(key, value))
                broker.look()

            def flush(self) -> None:
                # The broker has it, and nobody has been told.
                broker.step()

        class Admin:
            def __init__(self, *_: object) -> None: ...

            def partition_counts(self, **_: object) -> dict[str, int]:
                return dict(broker.topics)

            def ensure(self, specs: Iterable[TopicSpec]) -> list[str]:
                made = []
                for spec in specs:
                    if spec.name not in broker.topics:
                        broker.step()
                        broker.topics[spec.name] = spec.partitions
                        made.append(spec.name)
                return made

        patch.setattr(control, "LogReader", Reader)
        patch.setattr(control, "LogProducer", Producer)
        patch.setattr(activation, "LogReader", Reader)
        patch.setattr(activation, "TopicAdmin", Admin)
        patch.setattr(activation, "source_tables", lambda *_: list(tables))
        return self
