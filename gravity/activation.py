"""Activation: looks at the sources' tables, makes the topics, puts the routing plan in force.

`gravity run`, `gravity topics` and `gravity reload` activate; the stages only look the newest plan up. A plan's number
never has two contents, even when two activations run at once: **the first record written under a
number wins**, whoever wrote it, and an activation that lost repeats the winner's record, so that
compaction, which keeps the last record of a key, keeps it. Whoever activates next mends what a killed
loser left.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential,
    wait_random,
)

from gravity.catalog import read_catalog
from gravity.errors import TransientError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.reader import LogReader
from gravity.mysql import source_session
from gravity.placed_anew import former_routings, settled_under
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.topic import Topics, TopicSpec, numbered, owner_key, plan_key

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source

log = structlog.get_logger()

_PLAN_PREFIX: Final = plan_key(0).removesuffix("0")
_CLIENT: Final = "gravity-activation"
_ATTEMPTS_SILENT: Final = 4
_SILENT_S: Final = 2.0
"""How long a first attempt may take before it is said what is waited for."""
_ROUNDS_MAX: Final = 100
"""Plans that other activations may put in front of ours before we give up."""

Result = TypeVar("Result")


def activate(config: Config, *, offline: bool = False, timeout_s: float = 60.0) -> RoutingPlan:
    """The plan in force for `config` from now on; written under the next number only if it is new.

    `offline` leaves the sources alone: what an earlier plan knew of their tables stays.

    Raises:
        TransientError: Kafka or a source did not answer within `timeout_s`.
        FatalError: a source refuses us, a topic has other partitions, or the plan can't be made.
        ConfigError: what is needed to connect is missing.
    """
    config.require_runnable()
    topics = Topics(config.kafka.topic_prefix)
    admin = TopicAdmin(config.kafka)
    patiently(lambda: admin.partition_counts(timeout_s=5.0), timeout_s)
    make_topics(admin, [TopicSpec(topics.control, 1, "compact")], timeout_s)
    tables = [] if offline else source_tables(config, timeout_s)
    plans = _PlanLog(config, topics.control, timeout_s)

    def follow(previous: RoutingPlan | None, settled: int) -> RoutingPlan:
        plan = next_plan(config, tables, previous, offline=offline, settled=settled)
        # Before the plan: a running collector takes it at once, and a router sends to every target it names.
        # Guarded by test_whoever_finds_a_plan_finds_the_topics_of_its_targets.
        epoch = replace(topics, resolver_epoch=plan.resolver_epoch)
        make_topics(admin, installation_topics(config, epoch), timeout_s)
        return plan

    try:
        return _put_in_force(plans, follow)
    finally:
        plans.close()


@dataclass(frozen=True, slots=True)
class InForce:
    """What an activation finds."""

    plan: RoutingPlan | None
    """The newest plan; None before the first."""
    settled: int = 0
    """As `compile_plan` has it."""


def plan_in_force(config: Config, timeout_s: float) -> InForce:
    """The newest plan of the installation, and how far the sources are by earlier ones. Changes nothing.

    Raises TransientError when Kafka does not answer within `timeout_s`.
    """
    topics = Topics(config.kafka.topic_prefix)
    admin = TopicAdmin(config.kafka)
    if topics.control not in patiently(lambda: admin.partition_counts(timeout_s=5.0), timeout_s):
        return InForce(None)
    control = ControlTopic(config.kafka, topics.control, _CLIENT)
    try:
        plan = PlanStore(control).newest()
        return InForce(plan, _settled(config, control.records))
    finally:
        control.close()


def installation_topics(config: Config, topics: Topics) -> list[TopicSpec]:
    """Every topic between the stages of this installation."""
    return topics.all_specs(
        [source.name for source in config.sources],
        [target.name for target in config.targets],
        config.kafka.partitions,
    )


def make_topics(admin: TopicAdmin, specs: list[TopicSpec], timeout_s: float) -> list[str]:
    """Creates the topics that are missing, returns their names once every broker knows them."""
    made = patiently(lambda: admin.ensure(specs), timeout_s)

    def known() -> None:
        missing = {spec.name for spec in specs} - admin.partition_counts().keys()
        if missing:
            raise TransientError(f"topics are not there yet: {', '.join(sorted(missing))}")

    patiently(known, timeout_s)
    return made


def source_tables(
    config: Config, timeout_s: float, previous: RoutingPlan | None = None
) -> list[SourceTable]:
    """The tables of all sources that the configuration includes, or that `previous` does.

    The sources are asked side by side.
    """
    if not config.sources:
        return []
    with ThreadPoolExecutor(max_workers=min(16, len(config.sources))) as pool:
        answers = list(
            pool.map(lambda source: _tables_of(source, timeout_s, previous), config.sources)
        )
    return [table for tables in answers for table in tables]


def _tables_of(source: Source, timeout_s: float, previous: RoutingPlan | None) -> list[SourceTable]:
    def is_asked_for(database: str, table: str) -> bool:
        return source.selects(database, table) or (
            previous is not None and previous.includes(source.name, database, table)
        )

    def ask() -> list[SourceTable]:
        with source_session(source) as session:
            found = read_catalog(session.query, is_asked_for, session.literal)
        return [
            SourceTable(source.name, table.schema, table.unique_secondary)
            for table in found.values()
        ]

    tables = patiently(ask, timeout_s)
    if not tables:
        log.warning(
            "source_has_no_tables",
            source=source.name,
            reason="no table of it is included: correct `databases`, `tables` or `exclude`, or the account's grants",
        )
    return tables


def patiently(step: Callable[[], Result], timeout_s: float) -> Result:
    """What `step` gives; while it raises TransientError it is tried again, at most for `timeout_s`."""
    retrying = Retrying(
        retry=retry_if_exception_type(TransientError),
        stop=stop_after_delay(timeout_s),
        wait=wait_exponential(multiplier=0.1, max=3.0) + wait_random(0.0, 0.1),
        before_sleep=say_what_is_waited_for,
        reraise=True,
    )
    return retrying(step)


def say_what_is_waited_for(state: RetryCallState) -> None:
    """Logs why a step has failed so far: each fourth time, and at once where the first attempt took its time."""
    # The first attempts fail in passing, as when a topic was just made; one that took its time did not.
    silent = (state.seconds_since_start or 0.0) < _SILENT_S
    number = state.attempt_number
    if state.outcome is not None and (
        number % _ATTEMPTS_SILENT == 0 or (number == 1 and not silent)
    ):
        log.warning(
            "waiting",
            since_s=round(state.seconds_since_start or 0.0, 1),
            reason=str(state.outcome.exception()),
        )


class _PlanLog:
    """The plans of the control topic by the rule of the first record."""

    def __init__(self, config: Config, topic: str, timeout_s: float) -> None:
        self._config = config
        self._topic = topic
        self._timeout_s = timeout_s
        self._reader = LogReader(config.kafka, _CLIENT)
        self._control = ControlTopic(config.kafka, topic, _CLIENT)

    def first_records(self) -> dict[int, Any]:
        """Plan number to content, the first that was written; mends numbers whose last record differs."""
        first: dict[int, Any] = {}
        last: dict[int, Any] = {}
        for number, record in patiently(self._records, self._timeout_s):
            first.setdefault(number, record)
            last[number] = record
        for number, record in first.items():
            if last[number] != record:
                self._control.write(plan_key(number), record)
        return first

    def settled(self) -> int:
        """As `compile_plan` has it."""
        return _settled(self._config, self._control.refresh())

    def write(self, plan: RoutingPlan) -> None:
        """Appends `plan` under its number."""
        self._control.write(plan_key(plan.version), plan.to_json())

    def _records(self) -> list[tuple[int, Any]]:
        low, high = self._reader.bounds(self._topic, 0)
        return [
            (int(key.removeprefix(_PLAN_PREFIX)), json.loads(message.value))
            for message in self._reader.read(self._topic, 0, low, high)
            if message.value is not None
            and (key := (message.key or b"").decode()).startswith(_PLAN_PREFIX)
        ]

    def close(self) -> None:
        """Gives the connections up."""
        self._reader.close()
        self._control.close()


def _settled(config: Config, records: Mapping[str, Any]) -> int:
    # A source that was never read has no row anywhere. It begins under the newest plan (its collector makes sure
    # once its fence is there), so it waits for nothing that earlier plans did.
    read = (s.name for s in config.sources if numbered(records, owner_key(s.name, 0)))
    return settled_under(records, read)


def put_moved_in_force(
    config: Config, change: Callable[[RoutingPlan], RoutingPlan], timeout_s: float = 60.0
) -> RoutingPlan | None:
    """The plan in force after its rows have been given other places by `change`; None before the first plan.

    `change` gets the newest plan, again if another activation came first, and gives it back with other
    placements, or as it is.

    Raises:
        TransientError: Kafka did not answer within `timeout_s`.
        FatalError: rows of too many earlier plans are still on their way.
    """
    if plan_in_force(config, timeout_s).plan is None:
        return None
    plans = _PlanLog(config, Topics(config.kafka.topic_prefix).control, timeout_s)

    def follow(previous: RoutingPlan | None, settled: int) -> RoutingPlan:
        assert previous is not None
        plan = replace(change(previous), version=previous.version + 1)
        if plan.same_content(previous):
            return previous
        return replace(plan, former=former_routings(plan, previous, settled))

    try:
        return _put_in_force(plans, follow)
    finally:
        plans.close()


def _put_in_force(
    plans: _PlanLog, follow: Callable[[RoutingPlan | None, int], RoutingPlan]
) -> RoutingPlan:
    """`follow` gives the plan after the newest one, that itself for none; its second argument as `compile_plan`'s."""
    records = plans.first_records()
    for _ in range(_ROUNDS_MAX):
        previous = RoutingPlan.from_json(records[max(records)]) if records else None
        plan = follow(previous, plans.settled())
        if previous is not None and plan.version == previous.version:
            return previous
        plans.write(plan)
        records = plans.first_records()
        if records[plan.version] == json.loads(json.dumps(plan.to_json())):
            log.info("plan_activated", plan=plan.version)
            return plan
    raise TransientError(
        f"{_ROUNDS_MAX} other activations came first",
        remedy="is something starting `gravity run` or `gravity topics` over and over?",
    )


def next_plan(
    config: Config,
    tables: Sequence[SourceTable],
    previous: RoutingPlan | None,
    *,
    offline: bool = False,
    settled: int = 0,
) -> RoutingPlan:
    """The plan that would be put in force after `previous`; `previous` itself where nothing differs.

    `settled` as `compile_plan` has it.

    Raises FatalError for what can't follow it.
    """
    plan = compile_plan(config, tables, previous, settled)
    if previous is None or plan is previous:
        return plan
    plan = replace(plan, resolver_epoch=previous.resolver_epoch)
    if offline:
        known = {target: dict(previous.feeding.get(target, {})) for target in plan.feeding}
        plan = replace(plan, feeding=known)
    return previous if plan.same_content(previous) else plan
