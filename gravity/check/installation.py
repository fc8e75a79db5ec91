"""Checks every server of a configuration, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from gravity.activation import installation_topics
from gravity.check.finding import Finding, Findings
from gravity.check.source import check_source
from gravity.check.target import check_clickhouse_target, check_kafka_target, check_mysql_target
from gravity.clickhouse_http import ClickhouseQuestions
from gravity.clock import now_us
from gravity.config.target import ClickhouseTarget, KafkaTarget, MysqlTarget
from gravity.errors import GravityError
from gravity.kafka.admin import TopicAdmin
from gravity.mysql import MysqlSession
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source
    from gravity.config.target import Target

KAFKA_ANSWER_S: Final = 8.0
_REACHED: Final = "reached"
_Check = tuple[str, "Callable[[], Iterable[Finding]]"]
"""What its findings are called, and the check."""


def check_installation(config: Config) -> list[Finding]:
    """All findings: Kafka, then sources and targets in the order of the file. Never raises for a server."""
    checks: list[_Check] = [
        ("kafka", lambda: _kafka(config)),
        *(check for source in config.sources for check in _servers_of(source)),
        *((f"target {t.name}", lambda t=t: _target(t)) for t in config.targets),
    ]
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = pool.map(lambda check: _complete(*check), checks)
        return [finding for findings in answers for finding in findings]


def _complete(part: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; an error that ends it is the last of them."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except GravityError as error:
        is_reached = any(finding.what == _REACHED for finding in found)
        found.append(Findings(part).error("questions" if is_reached else _REACHED, error))
    return found


def _servers_of(source: Source) -> list[_Check]:
    """One check for each server of a source: any of them may have to be read one day."""
    name = f"source {source.name}"
    if len(source.endpoints) <= 1:
        return [(name, lambda: _source(name, source, None))]
    parts = {f"{name} at {host}:{port}": (host, port) for host, port in source.endpoints}
    return [(part, partial(_source, part, source, endpoint)) for part, endpoint in parts.items()]


def _source(part: str, source: Source, endpoint: tuple[str, int] | None) -> Iterator[Finding]:
    with MysqlSession(source, kind="source", endpoint=endpoint) as session:
        yield Findings(part).good(_REACHED, "{}:{}".format(*(endpoint or source.endpoints[0])))
        yield from check_source(part, source, session.query, session.literal, now_us)


def _target(target: Target) -> Iterator[Finding]:
    find = Findings(f"target {target.name}")
    target.require_connection()
    if isinstance(target, MysqlTarget):
        with MysqlSession(target, kind="target") as session:
            yield find.good(_REACHED, f"{target.host}:{target.port}")
            yield from check_mysql_target(target, session.query)
    elif isinstance(target, ClickhouseTarget):
        questions = ClickhouseQuestions(target)
        questions.query("SELECT 1")
        yield find.good(_REACHED, f"{target.host}:{target.port}")
        yield from check_clickhouse_target(target, questions.query)
    elif isinstance(target, KafkaTarget):
        topics = TopicAdmin(target).partition_counts(KAFKA_ANSWER_S)
        yield find.good(_REACHED, ", ".join(target.brokers))
        yield from check_kafka_target(target, topics)


def _kafka(config: Config) -> Iterator[Finding]:
    find = Findings("kafka")
    existing = TopicAdmin(config.kafka).partition_counts(KAFKA_ANSWER_S)
    yield find.good(_REACHED, ", ".join(config.kafka.brokers))
    specs = installation_topics(config, Topics(config.kafka.topic_prefix))
    missing = [spec.name for spec in specs if spec.name not in existing]
    wrong = [s for s in specs if s.name in existing and existing[s.name] != s.partitions]
    if wrong:
        listed = ", ".join(f"{s.name} has {existing[s.name]}, not {s.partitions}" for s in wrong)
        yield find.bad(
            "partitions",
            listed,
            "set kafka.partitions to what the topics have, or use another kafka.topic-prefix",
        )
    there = len(specs) - len(missing)
    yield find.good("topics", f"{there} of {len(specs)} there; `gravity run` makes the others")
