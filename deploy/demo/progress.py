"""How far the pipeline is, from what its stages publish on gravity.progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from gravity.clock import now_us
from gravity.config import Config
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.position import Position
from gravity.topic import Topics

ENDS = ("applied", "superseded", "filtered")
"""How a row may end at the resolver."""


@dataclass(frozen=True)
class TargetView:
    """A target at one moment."""

    name: str
    applied: int
    dead: int
    lag_ms: dict[str, int]
    """Source → age of the last marker that every partition has passed."""


class ProgressReader:
    """Reads the progress topic; for showing and waiting only."""

    def __init__(self, config: Config) -> None:
        self._config = config
        topics = Topics(config.kafka.topic_prefix)
        self._name = topics.progress
        self._is_there = False
        """Whether the topic has been made: `gravity run` makes it."""
        self._topic = ControlTopic(config.kafka, self._name, "gravity-demo")
        self._records: dict[str, Any] = {}

    def refresh(self) -> Self:
        """Takes in what was published since the last call."""
        if not self._is_there:
            counts = TopicAdmin(self._config.kafka).partition_counts()
            self._is_there = self._name in counts
        if self._is_there:
            self._records = self._topic.refresh()
        return self

    def collected(self, source: str) -> int:
        """Rows that the collector has published since it started."""
        return int(self._records.get(f"collector/{source}", {}).get("rows", 0))

    def has_begun(self, source: str) -> bool:
        """Whether the source's collector is at work."""
        return f"collector/{source}" in self._records

    def plan_of(self, source: str) -> int:
        """The plan by which the source is read; 0 before its collector's first word."""
        return int(self._records.get(f"collector/{source}", {}).get("plan", 0))

    def targets(self) -> list[TargetView]:
        """Every target."""
        return [self._target(target.name) for target in self._config.targets]

    def _partitions(self, target: str) -> list[dict[str, Any]]:
        count = self._config.kafka.partitions
        return [self._records.get(f"sink/{target}/{q}", {}) for q in range(count)]

    def _target(self, name: str) -> TargetView:
        partitions = self._partitions(name)
        lag: dict[str, int] = {}
        for source in (source.name for source in self._config.sources):
            times = [p.get("frontier", {}).get(source, {}).get("time_us", 0) for p in partitions]
            if min(times) > 0:
                lag[source] = (now_us() - min(times)) // 1000
        return TargetView(
            name,
            sum(p.get("applied", 0) for p in partitions),
            sum(p.get("dead", 0) for p in partitions),
            lag,
        )

    def ended(self, source: str, target: str, ways: Sequence[str] = ENDS) -> dict[str, int]:
        """How the source's rows have ended on their way to the target, as far as it is saved."""
        total: dict[str, int] = {}
        for q in range(self._config.kafka.partitions):
            record = self._records.get(f"resolver/{target}/{q}", {})
            counters = record.get("counters", {}).get(source, {})
            for how in ways:
                total[how] = total.get(how, 0) + counters.get(how, 0)
        return total

    def conserved(self, source: str, target: str) -> bool:
        """Whether every row read of the source has ended in exactly one way; repeats count apart."""
        ended = self.ended(source, target)
        return sum(ended.get(how, 0) for how in ENDS) == self.collected(source)

    def is_copied(self, source: str) -> bool:
        """Whether the rows that the source had at the beginning have all been published."""
        snapshot = self._records.get(f"collector/{source}", {}).get("snapshot")
        return snapshot is not None and snapshot["done"] >= snapshot["total"]

    def behind(self, finals: dict[str, tuple[int, int]], since_us: int) -> list[str]:
        """Which (target, source) pairs have not passed the source's final (file number, offset).

        Only markers written after `since_us` count: an older one may stand before the last rows of
        the snapshot, which move no position.
        """
        late = []
        for target in (target.name for target in self._config.targets):
            for source, final in finals.items():
                for partition in self._partitions(target):
                    point = partition.get("frontier", {}).get(source)
                    if point is None or point["time_us"] < since_us:
                        late.append(f"{target} <- {source}")
                        break
                    position = Position.parse(point["position"])
                    if (position.file_index, position.offset) < final:
                        late.append(f"{target} <- {source}")
                        break
        return late
