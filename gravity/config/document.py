"""The whole configuration: one document, read by every stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from gravity.config.conflict import ConflictResolution, ConflictRule, rank_sources
from gravity.config.kafka import Batch, Collector, KafkaCluster, Sink, Snapshot, State
from gravity.config.model import Model, at, missing, require
from gravity.config.operation import Alert, Failover, Merge, Monitoring
from gravity.config.route import DistributionRule, Route, RoutingRule
from gravity.config.source import Source
from gravity.config.target import MysqlTarget, Target


class Config(Model):
    """What flows from where to where, and how. The same document serves every stage."""

    sources: tuple[Source, ...] = Field(
        (),
        description="The servers that are read: a list, or a mapping by name.",
        examples=[[{"name": "shop", "host": "db1", "username": "gravity"}]],
    )
    targets: tuple[Target, ...] = Field(
        (),
        description=(
            "The systems that are written: a list, or a mapping by name. `primary: [...]` and "
            "`backup: [...]` beside them say which stand in for which."
        ),
        examples=[[{"name": "warehouse", "type": "mysql", "host": "dw", "username": "gravity"}]],
    )
    kafka: KafkaCluster = Field(
        KafkaCluster(),
        description="The cluster that carries everything between the stages.",
        examples=[{"brokers": ["kafka1:9092"]}],
    )
    batch: Batch = Field(
        Batch(), description="When a message to Kafka is closed.", examples=[{"rows-max": 1000}]
    )
    snapshot: Snapshot = Field(
        Snapshot(), description="How existing rows are read.", examples=[{"chunk-rows": 2000}]
    )
    collector: Collector = Field(
        Collector(),
        description="How the sources are shared out over collectors.",
        examples=[{"session-timeout": "10s"}],
    )
    sink: Sink = Field(Sink(), description="When a sink writes.", examples=[{"rows-max": 5000}])
    state: State = Field(
        State(),
        description="Where resolvers keep their working state.",
        examples=[{"folder": "./gravity-state"}],
    )
    routing: tuple[Route, ...] = Field(
        (),
        description="Which tables go to which targets.",
        examples=[[{"source-tables": ["users"], "targets": ["warehouse"]}]],
    )
    distribution_rules: tuple[DistributionRule, ...] = Field(
        (),
        description="Which rows go to which targets, by their content.",
        examples=[[{"condition": "amount > 10000", "targets": ["warehouse"]}]],
    )
    routing_rules: tuple[RoutingRule, ...] = Field(
        (),
        description="Tables divided among targets: a mapping by rule name, or a list.",
        examples=[[{"name": "users", "strategy": "hash", "key": "id", "targets": ["db1", "db2"]}]],
    )
    conflict_resolution: ConflictResolution = Field(
        ConflictResolution(),
        description="Who wins when sources disagree about a row.",
        examples=[{"default-strategy": "source-priority"}],
    )
    merge: Merge = Field(
        Merge(),
        description="In which order rows of different sources arrive. `merge: time-ordered` is short for `strategy: time-ordered`.",
        examples=[{"strategy": "time-ordered"}],
    )
    failover: Failover | None = Field(
        None,
        description="When a backup target takes over.",
        examples=[{"primary": ["db1"], "backup": ["db2"]}],
    )
    monitoring: Monitoring = Field(
        Monitoring(),
        description="What is watched.",
        examples=[{"metrics": [{"name": "sync_latency"}]}],
    )
    alerts: tuple[Alert, ...] = Field(
        (),
        description="Who is told. Also under `monitoring`.",
        examples=[[{"condition": "sync_latency > 10s", "action": "log"}]],
    )

    @model_validator(mode="after")
    def _strong_targets_have_transactions(self) -> Self:
        for index, target in enumerate(self.targets):
            if target.consistency == "strong" and not isinstance(target, MysqlTarget):
                raise at(
                    f"targets.{index}.consistency",
                    f"a target of type {target.type} takes each table by itself: strong is for type mysql; a "
                    "source's `semi-sync` may name this target all the same",
                )
        return self

    @model_validator(mode="after")
    def _no_commit_waits_for_itself(self) -> Self:
        """Refuses servers that wait for each other: a sink's COMMIT at one would wait for that of another sink."""
        waits: dict[tuple[str, int], set[tuple[str, int]]] = {}
        for index, source in enumerate(self.sources):
            names = source.semi_sync.targets if source.semi_sync is not None else ()
            awaited = {
                (target.host, target.port)
                for target in self.targets
                if target.name in names and isinstance(target, MysqlTarget) and target.host
            }
            for endpoint in source.endpoints:
                waits.setdefault(endpoint, set()).update(awaited)
            if any(_leads_back(waits, endpoint) for endpoint in source.endpoints):
                raise at(
                    f"sources.{index}.semi-sync",
                    "these servers would wait for each other's COMMITs: a target here is, or leads to, the "
                    "source's own server",
                )
        return self

    def source(self, name: str) -> Source:
        """The source called `name`. Raises `KeyError` if there is none."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(name)

    def target(self, name: str) -> Target:
        """The target called `name`. Raises `KeyError` if there is none."""
        for target in self.targets:
            if target.name == name:
                return target
        raise KeyError(name)

    def is_awaited(self, target: str) -> bool:
        """Whether COMMITs at some source wait for `target`, so that nothing on the way may wait by itself."""
        return any(s.semi_sync is not None and target in s.semi_sync.targets for s in self.sources)

    @property
    def has_awaited_targets(self) -> bool:
        """Whether COMMITs at some source wait for any target."""
        return any(source.semi_sync is not None for source in self.sources)

    def source_ranks(self, rule: ConflictRule) -> dict[str, int]:
        """The sources that take part under `rule` and their ranks, 1 = best, all different."""
        return rank_sources(self.sources, rule, self.conflict_resolution.source_priorities)

    def require_runnable(self) -> None:
        """Returns if every source and target can be connected to.

        Raises:
            ConfigError: naming every key that is missing.
        """
        problems = [
            problem
            for part in (*self.sources, *self.targets)
            for problem in part.connection_problems()
        ]
        if not self.sources:
            problems.append(missing("sources", "", "name at least one"))
        if not self.targets:
            problems.append(missing("targets", "", "name at least one"))
        require(problems)


def _leads_back(
    waits: Mapping[tuple[str, int], set[tuple[str, int]]], start: tuple[str, int]
) -> bool:
    """Whether a server waits, by way of others too, for itself."""
    seen: set[tuple[str, int]] = set()
    ahead = list(waits.get(start, ()))
    while ahead:
        server = ahead.pop()
        if server == start:
            return True
        if server not in seen:
            seen.add(server)
            ahead += waits.get(server, ())
    return False
