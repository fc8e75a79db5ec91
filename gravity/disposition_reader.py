"""Reads what became of some transactions from the logs, when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from gravity.batch import ChangeBatch
from gravity.clock import monotonic_s
from gravity.codec import decode_batch, decode_record
from gravity.config.target import MysqlTarget
from gravity.disposition import Disposition, Dispositions, UntoldError
from gravity.errors import FormatError, OffsetLostError
from gravity.gtid import GtidSet, parse_gtids
from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind, TargetHeader
from gravity.ingest_log import Fences
from gravity.kafka.control import ControlTopic
from gravity.kafka.fences import known_fences
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.reader import LogMessage, LogReader
from gravity.parked_reader import ParkedReader
from gravity.position import Position
from gravity.recency import Transactions
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.recency_reader import Question

_CLIENT: Final = "gravity-disposition"
_SKEW_MS: Final = 60_000
"""By how much the clocks of the stages' machines may differ before more of the log has to be read."""
_LETTERS_SKEW_MS: Final = 24 * 3_600_000
"""As _SKEW_MS, for dead letters: no place in their topic tells whether the sinks' clocks differ, and there are few."""
_IDLE_FETCH_MS: Final = 5
_RULES: Final = "see docs/consistency.md, What became of it"


def disposition(
    config: Config, question: Question, timeout_s: float, *, parked: bool
) -> Disposition:
    """How the rows of the question's transactions ended at its target, which has passed them.

    `parked`: whether the target has parked rows, which are then looked for among them.

    Raises:
        UntoldError: the logs do not tell it, or not within `timeout_s`.
        TransientError: Kafka, or the target that is asked for parked rows, is away.
    """
    with (
        closing(LogReader(config.kafka, _CLIENT, idle_fetch_ms=_IDLE_FETCH_MS)) as reader,
        closing(
            ControlTopic(config.kafka, Topics(config.kafka.topic_prefix).control, _CLIENT)
        ) as control,
    ):
        looked = _Look(config, question, reader, control, monotonic_s() + timeout_s)
        try:
            return looked.disposition(parked=parked)
        except OffsetLostError as error:
            raise UntoldError(
                "the logs have lost a part of it meanwhile", where=error.where, remedy=_RULES
            ) from error
        except FormatError as error:
            raise UntoldError(
                f"a message can't be read: {error.what}", where=error.where
            ) from error


class _Look:
    """One question's way through the logs."""

    def __init__(
        self,
        config: Config,
        question: Question,
        reader: LogReader,
        control: ControlTopic,
        deadline_s: float,
    ) -> None:
        self._config, self._question, self._reader = config, question, reader
        self._wanted: Transactions = question.wanted
        self._deadline_s = deadline_s
        self._plans = PlanStore(control)
        self._plan = self._plans.require_newest()
        self._topics = Topics(config.kafka.topic_prefix, self._plan.resolver_epoch)
        self._ingest = self._topics.ingest(question.source)
        self._fences: Fences = known_fences(control, reader, self._ingest, question.source)
        self._rows = Dispositions(
            question.source, question.target, question.wanted, merges=self._merges
        )

    def _merges(self, table: str, plan: int) -> bool:
        rule = self._plans.get(plan).resolution(self._question.target, table)
        return rule is not None and rule.strategy == "merge"

    def disposition(self, *, parked: bool) -> Disposition:
        """As the function of this name."""
        since_ms = self._read_ingest()
        if self._rows.seqs:
            self._read_routed(since_ms)
            sent_ms = self._read_sent(since_ms)
            if self._rows.lacks_words:
                records = self._records(self._topics.conflicts, "conflict", sent_ms - _SKEW_MS)
                for offset, record in records:
                    self._rows.conflict(offset, record)
            if parked:
                self._read_parked()
            # Behind the parked ones: a row that is set aside meanwhile must not be missed by both.
            letters_ms = since_ms - _LETTERS_SKEW_MS
            for _, letter in self._records(self._topics.dead_letters, "dead_letter", letters_ms):
                self._rows.dead_letter(letter)
        return self._rows.ended()

    def _read_ingest(self) -> int:
        """Takes the rows in; when the first of their messages was written, milliseconds since 1970."""
        begin = self._where_they_begin()
        first_ms = 0
        for message, header in self._valid(begin):
            if header.kind is IngestKind.ROWS:
                batch = decode_batch(message.value or b"")
                self._rows.ingest(header, batch)
                if header.seq in self._rows.seqs:
                    self._require_target(header.plan)
                    first_ms = first_ms or message.timestamp_ms
            if _ends_span(header) and self._has_all(header.gtids):
                return first_ms
        raise UntoldError(f"{self._ingest} does not hold all of them", remedy=_RULES)

    def _require_target(self, plan: int) -> None:
        """Raises UntoldError where the target was none yet under the plan that rows travel by."""
        if self._question.target not in {target.name for target in self._plans.get(plan).targets}:
            raise UntoldError(
                f"{self._question.target} was added later, and has copied what was there by then",
                where=f"plan {plan}",
                remedy=_RULES,
            )

    def _where_they_begin(self) -> int:
        """Offset of a message in front of which none holds a row of them."""
        low, _ = self._reader.bounds(self._ingest, 0)
        found, before = self._first(lambda header: self._has_one(header.gtids))
        if before is None:
            raise UntoldError(
                f"{self._ingest} begins behind them, at offset {low}",
                remedy=f"they are older than what the topic keeps, or than the copy of the tables; {_RULES}",
            )
        began = self._first_row(found)
        if began is None:
            return found
        # GTIDs name what is complete: a long transaction's first rows are in messages before its last.
        earlier, before = self._first(lambda header: header.to > began)
        if before is not None and before.to.epoch < began.epoch:
            # Another server goes on with them, perhaps in the middle: its places tell nothing of what was sent before.
            done = self._executed(before.gtids)
            earlier, before = self._first(
                lambda header: self._executed(header.gtids).contains_all(done)
            )
        if before is None and low > 0:
            raise UntoldError(f"{self._ingest} begins among them, at offset {low}", remedy=_RULES)
        return min(found, earlier)

    def _first_row(self, begin: int) -> Position | None:
        """Where the first of them starts that has rows in the span that begins at `begin`."""
        starts: list[Position] = []
        for message, header in self._valid(begin):
            if header.kind is IngestKind.ROWS:
                batch = decode_batch(message.value or b"")
                starts += [
                    Position(batch.epoch, transaction.file_index, transaction.offset)
                    for transaction in batch.transactions
                    if self._wanted.name(transaction.gtid)
                ]
            if _ends_span(header):
                break
        return min(starts, default=None)

    def _first(self, holds: Callable[[IngestHeader], bool]) -> tuple[int, IngestHeader | None]:
        """Offset from which on all messages that count hold so, by halving; and the one before it, which does not."""
        low, high = self._reader.bounds(self._ingest, 0)
        end, before = high, None
        while low < high:
            middle = (low + high) // 2
            found = next(self._valid(middle, end), None)
            if found is None or holds(found[1]):
                high = middle
            else:
                low, before = found[0].offset + 1, found[1]
        return low, before

    def _valid(
        self, start: int, end: int | None = None
    ) -> Iterator[tuple[LogMessage, IngestHeader]]:
        """The messages of the ingest log that count, fences left out."""
        until = self._reader.bounds(self._ingest, 0)[1] if end is None else end
        for message in self._reader.read(self._ingest, 0, start, until):
            self._check_time()
            header = IngestHeader.from_kafka(message.headers)
            is_fence = header.kind is IngestKind.FENCE
            if not is_fence and not self._fences.is_void(message.offset, header.owner):
                yield message, header

    def _read_routed(self, since_ms: int) -> None:
        for message in self._messages(self._topics.routed(self._question.target), since_ms):
            header = RoutedHeader.from_kafka(message.headers)
            if self._is_of_them(header):
                self._rows.routed(message, header, _batch(message))

    def _read_sent(self, since_ms: int) -> int:
        """Takes in what the resolver sent; since when it has had them, by its own clock at the latest.

        It writes conflicts just before what it sends of the same rows, or of the source's next ones.
        """
        first_seq = min(self._rows.seqs)
        for message in self._messages(self._topics.target(self._question.target), since_ms):
            header = TargetHeader.from_kafka(message.headers)
            if header.routed.source == self._question.source and header.routed.seq >= first_seq:
                since_ms = min(since_ms, message.timestamp_ms)
            if self._is_of_them(header.routed):
                self._rows.sent(message, header, _batch(message))
        return since_ms

    def _is_of_them(self, header: RoutedHeader) -> bool:
        return (
            header.kind is RoutedKind.ROWS
            and header.source == self._question.source
            and header.seq in self._rows.seqs
        )

    def _messages(self, topic: str, since_ms: int) -> Iterator[LogMessage]:
        """The messages of all partitions among which theirs are: up to a marker that stands behind all of them."""
        for partition in range(self._plan.partitions):
            _, high = self._reader.bounds(topic, partition)
            start = self._start(topic, partition, since_ms)
            for message in self._reader.read(topic, partition, start, high):
                self._check_time()
                yield message
                header = RoutedHeader.from_kafka(message.headers)
                is_marker = header.kind is RoutedKind.MARKER
                if (
                    is_marker
                    and header.source == self._question.source
                    and self._has_all(header.gtids)
                ):
                    break
            else:
                raise UntoldError(
                    f"no marker of {self._question.source} stands behind them",
                    where=f"{topic}/{partition}",
                    remedy="were the topics made anew? ask about a later transaction",
                )

    def _start(self, topic: str, partition: int, since_ms: int) -> int:
        """Offset in front of which nothing of them stands.

        By the time at which the first was written to the ingest log. Where clocks differ by more than
        _SKEW_MS, the first message of the source behind that place is not an earlier one.
        """
        low, high = self._reader.bounds(topic, partition)
        start = max(low, self._reader.offset_at(topic, partition, since_ms - _SKEW_MS))
        while not self._is_earlier(topic, partition, start, high):
            if start == low:
                if low == 0:
                    break
                raise UntoldError(
                    f"{topic}/{partition} begins behind them, at offset {low}", remedy=_RULES
                )
            start = max(low, high - 2 * (high - start) - 1)
        return start

    def _is_earlier(self, topic: str, partition: int, start: int, end: int) -> bool:
        """Whether the source's first message from `start` on is from before them."""
        for message in self._reader.read(topic, partition, start, end):
            self._check_time()
            header = RoutedHeader.from_kafka(message.headers)
            if header.source == self._question.source:
                return header.seq < min(self._rows.seqs)
        return False

    def _records(
        self, topic: str, name: str, since_ms: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        start = self._reader.offset_at(topic, 0, since_ms)
        for message in self._reader.read(topic, 0, start, self._reader.bounds(topic, 0)[1]):
            self._check_time()
            yield message.offset, decode_record(name, message.value or b"")

    def _read_parked(self) -> None:
        target = next(t for t in self._config.targets if t.name == self._question.target)
        if isinstance(target, MysqlTarget):
            with closing(ParkedReader(self._config, target)) as there:
                rows = there.rows()
            self._rows.parked((row.topic, row.partition, row.offset, row.row) for row in rows)

    def _has_all(self, gtids: str) -> bool:
        return self._wanted.are_in(self._executed(gtids))

    def _has_one(self, gtids: str) -> bool:
        return self._wanted.are_begun_in(self._executed(gtids))

    def _executed(self, gtids: str) -> GtidSet:
        assert self._wanted.flavor is not None
        return parse_gtids(self._wanted.flavor, gtids)

    def _check_time(self) -> None:
        if monotonic_s() > self._deadline_s:
            raise UntoldError(
                "there is too much in the logs to be read within the time",
                remedy="ask sooner after the write, or give a longer --timeout",
            )


def _ends_span(header: IngestHeader) -> bool:
    return header.part + 1 >= header.parts


def _batch(message: LogMessage) -> ChangeBatch:
    return decode_batch(message.value or b"")
