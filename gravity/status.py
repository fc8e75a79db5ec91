"""How far the pipeline is: what the stages publish about themselves, set against the topics' ends. Pure.

Nothing here decides anything: correctness never rests on the progress topic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from gravity.position import Position

RATE_WINDOW_US: Final = 10_000_000
"""Rows per second are counted over the records of so many microseconds."""
SILENT_US: Final = 15_000_000
"""A stage publishes every few seconds even when idle; one that has not for so long is not at work."""

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source as its collector tells."""

    name: str
    rows: int | None
    """Published since the collector started; None before its first word."""
    rows_per_s: float
    position: str
    last_commit_us: int
    """Commit time of the newest transaction published; 0 before the first."""
    snapshot_done: int
    snapshot_total: int
    """Tables whose existing rows have been copied, of those that are to be."""
    silent_s: float | None
    """Seconds since the collector's last word; None when it never spoke."""
    copy_rows_per_s: int = 0
    """Existing rows, lately."""
    copy_eta_s: int | None = None
    """Seconds until all are copied, by the server's estimate of their number; None = not known, or done."""
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """`database.table` to `rows` copied and `estimate` of all, of tables that are being copied; a hundred at most."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """Rows sent for each request of `gravity snapshot` that is being worked on, by its id."""
    plan: int | None = None
    """The routing plan by which it is read; None before the collector's first word."""
    semi_sync: Mapping[str, Any] | None = None
    """Whether its COMMITs wait for targets, as the collector last told: `state` is one of those of
    `gravity.semi_sync`, the counters are the server's own. None = they are not to."""

    @property
    def is_silent(self) -> bool:
        """Whether no collector is at work on it."""
        return self.silent_s is None or self.silent_s * 1_000_000 > SILENT_US

    @property
    def is_copying(self) -> bool:
        """Whether existing rows are still to be collected."""
        return self.snapshot_done < self.snapshot_total


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How much is waiting in front of a stage between the topics."""

    stage: str
    reads: str
    """The topic it reads."""
    waiting: int
    """Messages it has not acknowledged; a message holds up to a thousand rows."""


@dataclass(frozen=True, slots=True)
class HeldTable:
    """The rows of a target table that are on hold."""

    rows: int
    oldest_us: int
    """Commit time, at its source, of the change that began the oldest hold; 0 = not known."""
    oldest_s: float
    """Seconds since then."""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A target as its sink tells."""

    name: str
    type: str
    applied: int
    """Rows, since the target was first written."""
    rows_per_s: float
    dead: int
    repeats: int
    waiting: int
    """Messages that have not been applied."""
    lag_ms: Mapping[str, int | None]
    """Source to how old the data is that every partition has; 0 = all that was collected is there, parked rows apart.

    None while nothing is known of the source.
    """
    silent_s: float | None
    holds: int = 0
    """Rows on hold: their sources disagree, and the target keeps what it has."""
    held: Mapping[str, HeldTable] = field(default_factory=dict)
    """Target tables with rows on hold; a hundred of each partition at most."""
    waiting_rows: int = 0
    """Rows that wait behind rows on hold (`scope: table`, `scope: job`)."""
    parked_rows: int = 0
    """Rows that wait until other sources are as far (`merge`)."""
    late_rows: int = 0
    """Rows that later ones of other sources went before, since the target was first written (`merge`)."""
    down: tuple[str, ...] = ()
    """Sources that some partition does not wait for any more (`merge`)."""
    parked_at_target: int = 0
    """Rows that wait at the target, because its constraints refuse them for now."""
    superseded: int = 0
    """Rows that were parked at the target when a later change of their key came."""

    @property
    def is_silent(self) -> bool:
        """Whether no sink is at work on it."""
        return self.silent_s is None or self.silent_s * 1_000_000 > SILENT_US


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """A process that shares the sources with others; those told which to collect are not among them."""

    name: str
    """Its host, or the name it goes by, and its process."""
    sources: tuple[str, ...]

    @property
    def is_spare(self) -> bool:
        """Whether it waits for another to die: there are more collectors than sources."""
        return not self.sources


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """The pipeline at one moment."""

    at_us: int
    plan: int | None
    """The newest routing plan; None when nothing was activated."""
    sources: tuple[SourceStatus, ...]
    stages: tuple[StageStatus, ...]
    targets: tuple[TargetStatus, ...]
    collectors: tuple[CollectorStatus, ...] = ()

    @property
    def is_caught_up(self) -> bool:
        """Whether everything is in every target: the existing rows, and what was collected since.

        Rows parked at a target are not in it, though its lag leaves them out.
        """
        return not any(source.is_copying for source in self.sources) and all(
            not target.parked_at_target and all(lag == 0 for lag in target.lag_ms.values())
            for target in self.targets
        )

    def to_json(self) -> dict[str, Any]:
        """The status as JSON values."""
        return {**asdict(self), "is_caught_up": self.is_caught_up}


@dataclass(frozen=True, slots=True)
class Installation:
    """What is to be shown."""

    sources: tuple[str, ...]
    targets: tuple[tuple[str, str], ...]
    """(name, type)."""
    partitions: int


@dataclass(frozen=True, slots=True)
class Queue:
    """A topic in front of a stage."""

    stage: str
    topic: str
    ends: Mapping[int, int]
    next_offsets: Mapping[int, int]
    """By partition; where none is known the stage is taken to be at the beginning."""
    beginnings: Mapping[int, int]

    @property
    def waiting(self) -> int:
        """Messages that the stage has not acknowledged."""
        return sum(
            max(0, end - max(self.next_offsets.get(q, 0), self.beginnings.get(q, 0)))
            for q, end in self.ends.items()
        )


@dataclass(slots=True)
class ProgressHistory:
    """The records of the progress topic: the last of each key, and enough of the past for rates."""

    _records: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Takes a record in; records of a key come in the order in which they were written."""
        past = self._records.setdefault(key, deque())
        past.append(record)
        while len(past) > 2 and past[1]["at_us"] <= record["at_us"] - RATE_WINDOW_US:  # noqa: PLR2004 - the window needs two ends
            past.popleft()

    def last(self, key: str) -> dict[str, Any] | None:
        """The newest record of a key."""
        past = self._records.get(key)
        return past[-1] if past else None

    def rate(self, key: str, count: str, now_us: int) -> float:
        """How fast the number `count` in the records of `key` grows, per second."""
        past = self._records.get(key)
        if not past or now_us - past[-1]["at_us"] > RATE_WINDOW_US:
            return 0.0
        first, last = past[0], past[-1]
        elapsed_us = last["at_us"] - first["at_us"]
        # A process that was started again counts from 0.
        grown = last.get(count, 0) - first.get(count, 0)
        return max(0.0, grown * 1e6 / elapsed_us) if elapsed_us > 0 else 0.0

    def status(
        self,
        installation: Installation,
        queues: Iterable[Queue],
        plan: int | None,
        now_us: int,
        collectors: Iterable[CollectorStatus] = (),
    ) -> PipelineStatus:
        """The pipeline as these records and queues tell it."""
        waiting = {(queue.stage, queue.topic): queue.waiting for queue in queues}
        return PipelineStatus(
            at_us=now_us,
            plan=plan,
            sources=tuple(self._source(name, now_us) for name in installation.sources),
            stages=tuple(
                StageStatus(stage, topic, count)
                for (stage, topic), count in waiting.items()
                if not stage.startswith("sink/")
            ),
            targets=tuple(
                self._target(
                    name,
                    kind,
                    installation,
                    sum(count for (stage, _), count in waiting.items() if stage == f"sink/{name}"),
                    now_us,
                )
                for name, kind in installation.targets
            ),
            collectors=tuple(sorted(collectors, key=lambda collector: collector.name)),
        )

    def _source(self, name: str, now_us: int) -> SourceStatus:
        key = f"collector/{name}"
        record = self.last(key) or {}
        snapshot = record.get("snapshot", {})
        return SourceStatus(
            name=name,
            rows=record.get("rows"),
            rows_per_s=self.rate(key, "rows", now_us),
            position=record.get("position", ""),
            last_commit_us=record.get("ets", 0),
            snapshot_done=snapshot.get("done", 0),
            snapshot_total=snapshot.get("total", 0),
            silent_s=_age_s(record, now_us),
            copy_rows_per_s=snapshot.get("rows_per_s", 0),
            copy_eta_s=snapshot.get("eta_s"),
            tables=snapshot.get("tables", {}),
            requests=snapshot.get("requests", {}),
            plan=record.get("plan"),
            semi_sync=record.get("semi_sync"),
        )

    def _target(
        self, name: str, kind: str, installation: Installation, waiting: int, now_us: int
    ) -> TargetStatus:
        keys = [f"sink/{name}/{q}" for q in range(installation.partitions)]
        records = [self.last(key) or {} for key in keys]
        ages = [age for record in records if (age := _age_s(record, now_us)) is not None]
        parts = range(installation.partitions)
        resolved = [self.last(f"resolver/{name}/{q}") or {} for q in parts]
        return TargetStatus(
            name=name,
            type=kind,
            applied=sum(record.get("applied", 0) for record in records),
            rows_per_s=sum(self.rate(key, "applied", now_us) for key in keys),
            dead=sum(record.get("dead", 0) for record in records),
            repeats=sum(record.get("repeats", 0) for record in records),
            waiting=waiting,
            lag_ms={
                source: self._lag_ms(source, records, now_us) for source in installation.sources
            },
            # The partition that was silent longest: its sink may be gone while others work.
            silent_s=max(ages) if len(ages) == len(records) else None,
            holds=sum(record.get("holds", 0) for record in resolved),
            held=_held(resolved, now_us),
            waiting_rows=sum(record.get("waiting_rows", 0) for record in resolved),
            parked_rows=sum(record.get("parked_rows", 0) for record in resolved),
            late_rows=sum(
                counts.get("overtaken", 0)
                for record in resolved
                for counts in record.get("counters", {}).values()
            ),
            down=tuple(sorted({name for record in resolved for name in record.get("down", ())})),
            parked_at_target=sum(record.get("parked", 0) for record in records),
            superseded=sum(record.get("superseded", 0) for record in records),
        )

    def _lag_ms(self, source: str, records: list[dict[str, Any]], now_us: int) -> int | None:
        points = [record.get("frontier", {}).get(source) for record in records]
        collected = self.last(f"collector/{source}")
        if collected is None or not points or not all(points):
            return None
        published = Position.parse(collected["position"])
        if all(Position.parse(point["position"]) >= published for point in points):
            return 0
        return max(0, int((now_us - min(point["time_us"] for point in points)) // 1000))


def _held(records: Iterable[Mapping[str, Any]], now_us: int) -> dict[str, HeldTable]:
    """The partitions' rows on hold, by table."""
    found: dict[str, list[Mapping[str, int]]] = {}
    for record in records:
        for table, part in record.get("held", {}).items():
            found.setdefault(table, []).append(part)
    held = {}
    for table, parts in sorted(found.items()):
        oldest_us = min((p["oldest_us"] for p in parts if p["oldest_us"]), default=0)
        oldest_s = max(0.0, (now_us - oldest_us) / 1_000_000) if oldest_us else 0.0
        held[table] = HeldTable(sum(p["rows"] for p in parts), oldest_us, oldest_s)
    return held


def _age_s(record: Mapping[str, Any], now_us: int) -> float | None:
    at_us = record.get("at_us")
    return None if at_us is None else max(0.0, (now_us - at_us) / 1_000_000)
