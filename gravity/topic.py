"""Every topic, record key and consumer group name: spelled here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Cleanup = Literal["delete", "compact"]

_PLAN_PREFIX: Final = "plan/"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it is to be created."""

    name: str
    partitions: int
    cleanup: Cleanup = "delete"


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of one installation. `prefix` keeps several installations apart on one cluster.

    `resolver_epoch` above 1 puts routed, target and state topics under
    new names, so that no reader mixes two numberings.
    """

    prefix: str = ""
    resolver_epoch: int = 1

    def _epoch_suffix(self) -> str:
        return "" if self.resolver_epoch == 1 else f".e{self.resolver_epoch}"

    def ingest(self, source: str) -> str:
        """One source's changes in binlog order; one partition."""
        return f"{self.prefix}ingest.{source}"

    def routed(self, target: str) -> str:
        """What the router decided for one target, partitioned by lane."""
        return f"{self.prefix}routed.{target}{self._epoch_suffix()}"

    def target(self, target: str) -> str:
        """What one target must apply, in order per partition."""
        return f"{self.prefix}target.{target}{self._epoch_suffix()}"

    def state(self, target: str) -> str:
        """The resolver's changelog for one target; partition q belongs to partition q of `routed`."""
        return f"{self.prefix}state.{target}{self._epoch_suffix()}"

    @property
    def control(self) -> str:
        """Owners, checkpoints, configuration versions, operators' decisions."""
        return f"{self.prefix}gravity.control"

    @property
    def progress(self) -> str:
        """What each sink has applied; for `gravity status` and its kin, never for correctness."""
        return f"{self.prefix}gravity.progress"

    @property
    def conflicts(self) -> str:
        """One record per conflict that the resolver met."""
        return f"{self.prefix}gravity.conflicts"

    @property
    def dead_letters(self) -> str:
        """Changes that can't be applied, with the reason and the original bytes."""
        return f"{self.prefix}gravity.dead-letters"

    def group(self, stage: str, name: str = "") -> str:
        """The consumer group of a stage; `name` is the target of a sink."""
        return f"{self.prefix}gravity.{stage}" + (f".{name}" if name else "")

    def all_specs(self, sources: list[str], targets: list[str], partitions: int) -> list[TopicSpec]:
        """Every topic that an installation of these sources and targets needs."""
        specs = [TopicSpec(self.ingest(source), 1) for source in sources]
        for target in targets:
            specs.append(TopicSpec(self.routed(target), partitions))
            specs.append(TopicSpec(self.target(target), partitions))
            specs.append(TopicSpec(self.state(target), partitions, "compact"))
        specs.append(TopicSpec(self.control, 1, "compact"))
        specs.append(TopicSpec(self.progress, 1, "compact"))
        specs.append(TopicSpec(self.conflicts, 1))
        specs.append(TopicSpec(self.dead_letters, 1))
        return specs


def numbered(records: Mapping[str, Any], key_of_zero: str) -> dict[int, Any]:
    """Number → record of the control keys that differ from `key_of_zero` in the number at their end."""
    prefix = key_of_zero.removesuffix("0")
    return {
        int(key[len(prefix) :]): value
        for key, value in records.items()
        if key.startswith(prefix) and key[len(prefix) :].isdigit()
    }


def owner_key(source: str, owner: int) -> str:
    """Control key of one ownership of a source. Never reused (see gravity.ingest_log)."""
    return f"owner/{source}/{owner}"


def checkpoint_key(source: str, owner: int) -> str:
    """Control key of the newest checkpoint that this owner wrote."""
    return f"point/{source}/{owner}"


def plan_key(version: int) -> str:
    """Control key of one immutable version of the routing plan."""
    return f"{_PLAN_PREFIX}{version}"


def newest_plan(records: Mapping[str, Any]) -> int:
    """The greatest number of a plan in control's records; 0 where there is none."""
    return max(numbered(records, plan_key(0)), default=0)


def is_plan_key(key: str) -> bool:
    """Whether a control key is one that `plan_key` gives."""
    return key.startswith(_PLAN_PREFIX)


def changelog_transactional_id(group: str, topic: str, partition: int) -> str:
    """The id that fences the writers of one changelog partition."""
    return f"{group}.{topic}.{partition}"


def resnapshot_key(source: str) -> str:
    """Control key of an operator's wish to read a source's existing rows again (`gravity reset`)."""
    return f"resnapshot/{source}"


def snapshot_request_key(source: str, request_id: int) -> str:
    """Control key of an operator's request to read a table, or some of its rows, again (`gravity snapshot`)."""
    return f"snapshot/{source}/{request_id}"


def snapshot_result_key(source: str, request_id: int) -> str:
    """Control key of how that request ended, written by the source's collector."""
    return f"snapshot-result/{source}/{request_id}"


def cut_request_key(source: str, cut_id: int) -> str:
    """Control key of an operator's request for the marker of a cut (`gravity cut`); removed by who asked."""
    return f"cut/{source}/{cut_id}"


def cut_result_key(source: str, cut_id: int) -> str:
    """Control key of what the source's collector did about it; removed with the request."""
    return f"cut-result/{source}/{cut_id}"
