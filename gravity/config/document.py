"""The whole configuration: one document, read by every stage."""

from __future__ import annotations

from pydantic import Field

from gravity.config.conflict import ConflictResolution, ConflictRule, rank_sources
from gravity.config.kafka import Batch, Collector, KafkaCluster, Sink, Snapshot, State
from gravity.config.model import Model, missing, require
from gravity.config.operation import Alert, Failover, Merge, Monitoring
from gravity.config.route import DistributionRule, Route, RoutingRule
from gravity.config.source import Source
from gravity.config.target import Target


class Config(Model):
    """What flows from where to where, and how. The same document serves every stage."""

    sources: tuple[Source, ...] = Field(
        (), description="The servers that are read: a list, or a mapping by name."
    )
    targets: tuple[Target, ...] = Field(
        (),
        description=(
            "The systems that are written: a list, or a mapping by name. `primary: [...]` and "
            "`backup: [...]` beside them say which stand in for which."
        ),
    )
    kafka: KafkaCluster = Field(
        KafkaCluster(), description="The cluster that carries everything between the stages."
    )
    batch: Batch = Field(Batch(), description="When a message to Kafka is closed.")
    snapshot: Snapshot = Field(Snapshot(), description="How existing rows are read.")
    collector: Collector = Field(
        Collector(), description="How the sources are shared out over collectors."
    )
    sink: Sink = Field(Sink(), description="When a sink writes.")
    state: State = Field(State(), description="Where resolvers keep their working state.")
    routing: tuple[Route, ...] = Field((), description="Which tables go to which targets.")
    distribution_rules: tuple[DistributionRule, ...] = Field(
        (), description="Which rows go to which targets, by their content."
    )
    routing_rules: tuple[RoutingRule, ...] = Field(
        (), description="Tables divided among targets: a mapping by rule name, or a list."
    )
    conflict_resolution: ConflictResolution = Field(
        ConflictResolution(), description="Who wins when sources disagree about a row."
    )
    merge: Merge = Field(Merge(), description="In which order rows of different sources arrive.")
    failover: Failover | None = Field(None, description="When a backup target takes over.")
    monitoring: Monitoring = Field(Monitoring(), description="What is watched.")
    alerts: tuple[Alert, ...] = Field((), description="Who is told. Also under `monitoring`.")

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
