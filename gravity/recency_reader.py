"""Waits until a target has a source's transactions: follows the progress topic, asks sources what they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from gravity.clock import monotonic_s
from gravity.config.problem import require_declared
from gravity.disposition import Disposition
from gravity.disposition_reader import disposition as read_disposition
from gravity.errors import FatalError, GravityError, SourceSettingError
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.reader import LogMessage, LogReader
from gravity.mysql import MysqlSession
from gravity.recency import Frontier, Frontiers, Look, QuestionError, Transactions
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source

_CLIENT: Final = "gravity-wait"
_POLL_S: Final = 0.5
LEAST_S: Final = 1.0
"""For reading what became of rows, however long the wait was."""
Record = tuple[str, dict[str, Any]]
"""A key of the progress topic and what was last said under it."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether `target` has these transactions of `source`."""

    source: str
    target: str
    wanted: Transactions
    processed: bool = False
    """Whether rows on hold count as there."""
    disposition: bool = False
    """Whether it is to be told, too, what became of the rows."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a wait ended."""

    question: Question
    status: Literal["applied", "timeout"]
    frontier: Frontier | None
    seconds: float
    """Waited."""
    lacks: str
    """What was not there yet; empty for applied."""
    holds: int
    parked: int = 0
    disposition: Disposition | None = None
    """What became of the rows, where that was asked for and can be told."""
    untold: str = ""
    """Why it can't be told."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        told: dict[str, Any] = {}
        if self.disposition is not None:
            told = {"disposition": self.disposition.to_json()}
        elif self.untold:
            told = {"disposition": None, "untold": self.untold}
        return {
            "status": self.status,
            "source": self.question.source,
            "target": self.question.target,
            "gtid": self.question.wanted.text,
            "frontier": None if self.frontier is None else self.frontier.to_json(),
            "seconds": round(self.seconds, 3),
            "lacks": self.lacks,
            "holds": self.holds,
            "parked": self.parked,
            **told,
        }


def answer(question: Question, look: Look, since_s: float) -> Answer:
    """The end of a wait that began at `since_s` of the monotonic clock."""
    status: Literal["applied", "timeout"] = "applied" if look.is_there else "timeout"
    waited_s = monotonic_s() - since_s
    return Answer(question, status, look.frontier, waited_s, look.lacks, look.holds, look.parked)


def ask(
    config: Config,
    source: str,
    target: str,
    gtid: str | None,
    *,
    processed: bool = False,
    disposition: bool = False,
) -> Question:
    """Whether `target` has the transactions `gtid` of `source`, or (None) all that are committed by now.

    Raises:
        QuestionError: no answer will ever come.
        TransientError, FatalError: what is committed is not known, see `executed_now`.
    """
    require_declared("source", source, [entry.name for entry in config.sources], QuestionError)
    require_declared("target", target, [entry.name for entry in config.targets], QuestionError)
    if gtid is None and disposition:
        raise QuestionError(
            "what became of rows is told of transactions that are named",
            remedy="give the GTID of what was written",
        )
    if gtid is None:
        return Question(source, target, executed_now(config, source), processed)
    wanted = Transactions.parse(gtid)
    if wanted.flavor is None:
        raise QuestionError("the GTID is empty", remedy="leave it out to wait for all there is now")
    return Question(source, target, wanted, processed, disposition)


def with_disposition(config: Config, found: Answer, timeout_s: float) -> Answer:
    """The answer with what became of the rows, if it was asked for; or with why that can't be told."""
    if not found.question.disposition or found.status != "applied":
        return found
    try:
        told = read_disposition(
            config, found.question, max(LEAST_S, timeout_s), parked=found.parked > 0
        )
    except GravityError as error:
        # Whatever it is: that the target has passed them stays true.
        return replace(found, untold=str(error))
    return replace(found, disposition=told)


def executed_now(config: Config, source: str) -> Transactions:
    """Everything that the source has committed at this moment, as its servers say.

    Every server of the source is asked: which of them is written to is not known here, and the answer of a
    replica that lags behind would be taken for the whole truth.

    Raises:
        TransientError: a server is away, so nobody knows what it has committed.
        FatalError: a server refuses us, or does not number its transactions.
    """
    entry = next(entry for entry in config.sources if entry.name == source)
    endpoints = entry.endpoints or (None,)
    return Transactions.parse(",".join(_executed_at(entry, endpoint) for endpoint in endpoints))


def _executed_at(source: Source, endpoint: tuple[str, int] | None) -> str:
    with MysqlSession(source, kind="source", endpoint=endpoint) as session:
        version = str(session.query("SELECT VERSION()")[0][0])
        if "mariadb" in version.lower():
            # It has what is in the binlog, which a transaction reaches before anyone can see it.
            return str(session.query("SELECT @@GLOBAL.gtid_binlog_pos")[0][0] or "")
        executed, mode = session.query("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_mode")[0]
        if str(mode) != "ON":
            raise SourceSettingError(
                f"gtid_mode={mode}: transactions are not numbered",
                where=session.where,
                remedy="switch gtid_mode to ON, with enforce_gtid_consistency=ON",
            )
        return str(executed)


class ProgressFollower:
    """The progress topic from its beginning to its end, and on."""

    def __init__(self, config: Config, client_id: str = _CLIENT) -> None:
        """Connects to Kafka; what has been published is read at the first `records`.

        Raises:
            TransientError: Kafka is away.
            FatalError: the installation's topics have not been made.
        """
        self._topic = Topics(config.kafka.topic_prefix).progress
        if self._topic not in TopicAdmin(config.kafka).partition_counts():
            raise FatalError(
                "this installation has no progress yet",
                where=f"Kafka at {', '.join(config.kafka.brokers)}, {self._topic}",
                remedy="start it with `gravity run CONFIG`; is kafka.topic-prefix right?",
            )
        self._reader = LogReader(config.kafka, client_id)
        self._is_at_end = False

    def records(self, timeout_s: float) -> list[Record]:
        """The first time everything there is, then what comes next, at the latest after `timeout_s`.

        Raises TransientError or FatalError when the topic can't be read.
        """
        if self._is_at_end:
            return list(_records(self._reader.poll(timeout_s)))
        low, high = self._reader.bounds(self._topic, 0)
        found = list(_records(self._reader.read(self._topic, 0, low, high)))
        self._reader.assign({(self._topic, 0): high})
        self._is_at_end = True
        return found

    def close(self) -> None:
        """Gives the connections up."""
        self._reader.close()


def _records(messages: Any) -> Iterator[Record]:
    message: LogMessage
    for message in messages:
        if message.key is not None and message.value is not None:
            yield message.key.decode(), json.loads(message.value)


def wait(config: Config, question: Question, timeout_s: float) -> Answer:
    """Returns once the target has the transactions, or after `timeout_s` without them.

    Raises:
        QuestionError: the source's server numbers its transactions in another way.
        TransientError: Kafka is away.
        FatalError: the installation's topics have not been made.
    """
    began_s = monotonic_s()
    frontiers = Frontiers(config.kafka.partitions)
    follower = ProgressFollower(config)
    try:
        while True:
            left_s = began_s + timeout_s - monotonic_s()
            for record in follower.records(max(0.0, min(_POLL_S, left_s))):
                frontiers.add(*record)
            frontiers.check(question.source, question.wanted)
            look = frontiers.look(
                question.source, question.target, question.wanted, processed=question.processed
            )
            if look.is_there or monotonic_s() >= began_s + timeout_s:
                found = answer(question, look, began_s)
                return with_disposition(config, found, timeout_s - found.seconds)
    finally:
        follower.close()
