"""Where a transaction's rows stand in the logs is found by halving, whoever else wrote there and however it was cut."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity import disposition_reader
from gravity.batch import INSERT, ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import encode_batch, encode_record
from gravity.config import Config, parse_config
from gravity.disposition import Disposition, Fate, UntoldError
from gravity.header import IngestHeader, IngestKind, RoutedHeader, RoutedKind, TargetHeader
from gravity.kafka.reader import LogMessage
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, SourcePlan, TargetPlan
from gravity.position import Position
from gravity.recency import Transactions
from gravity.recency_reader import Question
from gravity.topic import Topics, owner_key, plan_key

TOPICS = Topics()
INGEST, ROUTED, TARGET = TOPICS.ingest("a"), TOPICS.routed("t"), TOPICS.target("t")
SCHEMA = TableSchema("db", "orders", (Column("id", "int", nullable=False),), (0,))
PARTITIONS = 2
MINUTE_MS = 60_000
PLAN = RoutingPlan(
    version=1, partitions=PARTITIONS, sources=(SourcePlan("a", ("*",), ("*",), ()),),
    targets=(TargetPlan("t", "mysql", None, ("*",), (), ()),), routes=(), rules=(),
    default_resolution=Resolution("source-priority", {}),
)  # fmt: skip

LETTER = encode_record("dead_letter", {
    "stage": "sink-mysql", "target": "t", "source": "a", "table": "shop.orders", "reason": "",
    "code": "1452", "topic": TARGET, "partition": 0, "offset": 1, "row": 0, "origin_seq": 2,
    "origin_row": 0, "position": "", "gtid": "", "schema": "", "time_us": 0, "value": b"",
})  # fmt: skip
"""Of the first row of the first message, behind a marker."""
HELD = encode_record("conflict", {
    "target": "t", "table": "shop.orders", "key": "[5001]", "kind": "update_update", "strategy": "error-stop",
    "outcome": "hold", "winner": "", "source": "a", "seq": 2, "row": 1, "plan": 1, "opinions": [],
    "state": "open", "hold": "t.1.1.0",
})  # fmt: skip
"""Of the second row of that message."""


@dataclass
class Cluster:
    """Kafka as the reader meets it: a list of messages a partition."""

    logs: dict[tuple[str, int], list[LogMessage]] = field(default_factory=dict)
    kept: dict[tuple[str, int], int] = field(default_factory=dict)
    """The first offset that retention has left."""
    records: dict[str, Any] = field(default_factory=dict)
    """Of the control topic."""

    def append(
        self, topic: str, partition: int, headers: Any, value: bytes = b"", time_ms: int = 0
    ) -> int:
        log = self.logs.setdefault((topic, partition), [])
        log.append(LogMessage(topic, partition, len(log), None, value, headers, time_ms))
        return len(log) - 1

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return self.kept.get((topic, partition), 0), len(self.logs.get((topic, partition), []))

    def read(self, topic: str, partition: int, start: int, end: int) -> Iterator[LogMessage]:
        assert start >= self.kept.get((topic, partition), 0)
        yield from self.logs.get((topic, partition), [])[start:end]

    def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        low, high = self.bounds(topic, partition)
        log = self.logs.get((topic, partition), [])
        return next((o for o in range(low, high) if log[o].timestamp_ms >= time_ms), high)

    def refresh(self) -> dict[str, Any]:
        return self.records

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return installed(monkeypatch)


def installed(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(records={plan_key(1): PLAN.to_json()})
    monkeypatch.setattr(disposition_reader, "LogReader", lambda *_a, **_k: made)
    monkeypatch.setattr(disposition_reader, "ControlTopic", lambda *_a, **_k: made)
    return made


@functools.cache
def config() -> Config:
    document = {
        "sources": [{"name": "a", "type": "mysql", "host": "h", "username": "u"}],
        "targets": [{"name": "t", "type": "mysql", "host": "h", "username": "u"}],
        "kafka": {"brokers": ["127.0.0.1:1"], "partitions": PARTITIONS},
    }
    return parse_config(json.dumps(document)).config


def became(gtid: str, timeout_s: float = 60, *, parked: bool = False) -> Disposition:
    question = Question("a", "t", Transactions.parse(gtid), disposition=True)
    return disposition_reader.disposition(config(), question, timeout_s, parked=parked)


@dataclass
class Source:
    """Writes what a collector, a router and a resolver make of transactions, row `n` under key `n`."""

    cluster: Cluster
    owner: int = 1
    seq: int = 0
    row: int = 0
    gtids: str = ""
    ahead_ms: int = 0
    """By how much the clock of the stages behind the collector is wrong."""
    time_ms: int = 1_000_000_000
    plan: int = 1
    epoch: int = 1
    """Grows when another of the source's servers is read."""

    def fence(self) -> None:
        """Another collector takes over."""
        self.owner += 1
        header = IngestHeader(IngestKind.FENCE, "a", self.owner)
        offset = self.cluster.append(INGEST, 0, header.to_kafka(), time_ms=self.time_ms)
        self.cluster.records[owner_key("a", self.owner)] = {"offset": offset}

    def span(
        self, rows: list[tuple[int, int]], to: tuple[int, int], parts: int = 1, owner: int = 0
    ) -> None:
        """Rows as (transaction, number in it), up to row `to`; a message each part."""
        self.gtids = f"0-1-{to[0] - 1}"
        for part, piece in enumerate(_shared_out(rows, parts)):
            self.seq += 1
            header = IngestHeader(
                IngestKind.ROWS, "a", owner or self.owner, self.seq, part=part, parts=parts,
                from_=_at(rows[0], self.epoch) if rows else _at(to, self.epoch),
                to=_at(to, self.epoch), gtids=self.gtids, rows=len(piece),
                plan=self.plan,
            )  # fmt: skip
            value = encode_batch(_batch(piece, self.epoch))
            self.cluster.append(INGEST, 0, header.to_kafka(), value, self.time_ms)
            if not owner:
                self._send(piece)

    def zombie(self, owner: int, rows: list[tuple[int, int]], to: tuple[int, int]) -> None:
        """An owner that was overtaken writes on; nobody takes it."""
        known = replace(self)
        self.span(rows, to, owner=owner)
        self.seq, self.gtids = known.seq, known.gtids

    def marker(self, to: tuple[int, int]) -> None:
        """Up to row `to` everything has passed."""
        self.seq += 1
        gtids = f"0-1-{to[0] - 1}"
        header = IngestHeader(
            IngestKind.MARKER,
            "a",
            self.owner,
            self.seq,
            from_=_at(to, self.epoch),
            to=_at(to, self.epoch),
            gtids=gtids,
        )
        self.cluster.append(INGEST, 0, header.to_kafka(), time_ms=self.time_ms)
        for partition in range(PARTITIONS):
            self._pass_on(
                partition, RoutedHeader(RoutedKind.MARKER, "a", self.seq, gtids=gtids), b""
            )

    def _send(self, rows: list[tuple[int, int]]) -> None:
        for partition in range(PARTITIONS):
            mine = [row for row in range(len(rows)) if row % PARTITIONS == partition]
            if mine:
                value = encode_batch(_batch(rows).take(mine))
                header = RoutedHeader(
                    RoutedKind.ROWS,
                    "a",
                    self.seq,
                    rows=len(mine),
                    table="shop.orders",
                    plan=self.plan,
                )
                self._pass_on(partition, header, value)
                # Numbers are a source's own: those of others are not the same messages.
                self._pass_on(
                    partition,
                    replace(header, source="b"),
                    encode_batch(replace(_batch(rows).take(mine), source="b")),
                )
            note = RoutedHeader(RoutedKind.NOTE, "a", self.seq, filtered=1)
            self._pass_on(partition, note, b"")

    def _pass_on(self, partition: int, header: RoutedHeader, value: bytes) -> None:
        time_ms = self.time_ms + self.ahead_ms
        self.cluster.append(ROUTED, partition, header.to_kafka(), value, time_ms)
        out = TargetHeader(header, 1, self.cluster.bounds(TARGET, partition)[1] + 1, 1)
        self.cluster.append(TARGET, partition, out.to_kafka(), value, time_ms)


def _at(row: tuple[int, int], epoch: int = 1) -> Position:
    return Position(epoch, 1, row[0] * 100, row[1])


def _batch(rows: list[tuple[int, int]], epoch: int = 1) -> ChangeBatch:
    numbers = sorted({transaction for transaction, _ in rows})
    return ChangeBatch(
        source="a", epoch=epoch, schema=SCHEMA,
        transactions=[Transaction(f"0-1-{n}", 1, n * 100, n, n) for n in numbers],
        ops=bytes([INSERT]) * len(rows), tx=[numbers.index(n) for n, _ in rows],
        ordinal=[ordinal for _, ordinal in rows], columns=[[n * 1000 + o for n, o in rows]],
    )  # fmt: skip


def _shared_out(rows: list[tuple[int, int]], parts: int) -> list[list[tuple[int, int]]]:
    # By table: a span's first row need not be in its first message.
    return [rows[part::parts] for part in reversed(range(parts))]


def history(seed: int, source: Source) -> dict[int, int]:
    """Transactions cut into spans, takeovers in between, some with a zombie; rows by transaction."""
    rng = random.Random(seed)
    sizes = {n: rng.choice([0, 1, 1, 2, 9]) for n in range(2, rng.randint(5, 40))}
    rows = [(n, o) for n, size in sizes.items() for o in range(size)]
    last = max(sizes) + 1
    source.marker((2, 0))
    place = 0
    while place < len(rows):
        source.time_ms += rng.choice([1, 5 * MINUTE_MS])
        end = min(len(rows), place + rng.randint(1, 7))
        to = rows[end] if end < len(rows) else (last, 0)
        source.span(rows[place:end], to, parts=rng.randint(1, min(3, end - place)))
        place = end
        if rng.random() < 0.3:
            source.marker(to)
        if rng.random() < 0.2:
            source.fence()
            for _ in range(rng.randint(0, 3)):
                begin = rng.randint(max(0, place - 9), place)
                stop = min(len(rows), begin + 5)
                if begin < stop:
                    past = rows[stop] if stop < len(rows) else (last, 0)
                    source.zombie(source.owner - 1, rows[begin:stop], past)
    source.marker((last, 0))
    return sizes


@given(st.integers(0, 2**32), st.sampled_from([0, -90 * MINUTE_MS, 90 * MINUTE_MS]))
def test_every_transaction_is_found_whole_and_alone(seed: int, ahead_ms: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sizes = history(seed, Source(installed(patch), ahead_ms=ahead_ms))
        for number, size in sizes.items():
            told = became(f"0-1-{number}")
            assert dict(told.counts) == ({Fate.APPLIED: size} if size else {}), (number, sizes)
        every = ",".join(f"0-1-{number}" for number in sizes)
        assert sum(became(every).counts.values()) == sum(sizes.values())


def test_a_transaction_that_the_logs_do_not_hold_is_said_to_be_unknown(cluster: Cluster) -> None:
    source = Source(cluster)
    source.marker((5, 0))
    source.span([(5, 0), (6, 0), (6, 1)], (6, 2))
    source.span([(6, 2), (7, 0)], (8, 0))
    source.marker((8, 0))
    assert became("0-1-6").counts == {Fate.APPLIED: 3}
    with pytest.raises(UntoldError, match=r"ingest\.a begins behind them, at offset 0"):
        became("0-1-4")
    with pytest.raises(UntoldError, match="does not hold all"):
        became("0-1-8")
    with pytest.raises(UntoldError, match="too much"):
        became("0-1-6", timeout_s=-1)
    cluster.kept[INGEST, 0] = 2
    with pytest.raises(UntoldError, match=r"ingest\.a begins behind them, at offset 2"):
        became("0-1-7")


def test_a_transaction_of_which_retention_has_left_a_part_is_said_to_be_unknown(
    cluster: Cluster,
) -> None:
    source = Source(cluster)
    source.marker((5, 0))
    source.span([(6, 0), (6, 1)], (6, 2))
    source.span([(6, 2), (6, 3)], (6, 4))
    source.span([(6, 4)], (7, 0))
    source.marker((7, 0))
    assert became("0-1-6").counts == {Fate.APPLIED: 5}
    cluster.kept[INGEST, 0] = 2
    with pytest.raises(UntoldError, match="begins among them"):
        became("0-1-6")
    cluster.kept[INGEST, 0] = 0
    cluster.kept[ROUTED, 0] = 2
    with pytest.raises(UntoldError, match=r"routed\.t/0 begins behind them, at offset 2"):
        became("0-1-6")


def test_rows_that_passed_under_other_topics_are_unknown(cluster: Cluster) -> None:
    source = Source(cluster)
    source.marker((5, 0))
    source.span([(5, 0)], (6, 0))
    source.marker((6, 0))
    cluster.logs[TARGET, 1].pop()
    with pytest.raises(UntoldError, match=r"no marker of a stands behind them \[target\.t/1\]"):
        became("0-1-5")


def test_a_transaction_in_the_middle_of_which_another_server_is_read_is_found_whole(
    cluster: Cluster,
) -> None:
    source = Source(cluster)
    source.marker((5, 0))
    source.span([(5, 0), (6, 0), (6, 1)], (6, 2))
    source.epoch = 2
    source.fence()
    source.span([(6, 2), (7, 0)], (8, 0))
    source.marker((8, 0))
    assert became("0-1-6").counts == {Fate.APPLIED: 3}
    assert became("0-1-7").counts == {Fate.APPLIED: 1}


def test_what_passed_before_the_target_was_there_is_unknown_since_it_was_copied(
    cluster: Cluster,
) -> None:
    cluster.records[plan_key(2)] = replace(PLAN, version=2).to_json()
    cluster.records[plan_key(1)] = replace(PLAN, targets=()).to_json()
    source = Source(cluster)
    source.marker((5, 0))
    source.span([(5, 0)], (6, 0))
    for topic, partition in [(t, q) for t in (ROUTED, TARGET) for q in range(PARTITIONS)]:
        cluster.logs[topic, partition].clear()
    source.plan = 2
    source.span([(6, 0)], (7, 0))
    source.marker((7, 0))
    with pytest.raises(UntoldError, match=r"t was added later.*\[plan 1\]"):
        became("0-1-5")


def test_a_parked_row_that_is_set_aside_while_we_look_is_not_missed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(cluster)
    source.marker((5, 0))
    source.span([(5, 0)], (6, 0))
    source.marker((6, 0))

    class Parked:
        def __init__(self, *_: object) -> None:
            """Nothing to connect to."""

        def rows(self) -> list[object]:
            """None any more: the row's time was up."""
            cluster.append(TOPICS.dead_letters, 0, [], LETTER, source.time_ms)
            return []

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr(disposition_reader, "ParkedReader", Parked)
    assert became("0-1-5", parked=True).counts == {Fate.DEAD: 1}


@pytest.mark.parametrize("ahead_ms", [0, -90 * MINUTE_MS, 90 * MINUTE_MS])
def test_what_stages_whose_clocks_are_wrong_say_of_a_row_is_found(
    cluster: Cluster, ahead_ms: int
) -> None:
    source = Source(cluster, ahead_ms=ahead_ms)
    source.marker((5, 0))
    source.span([(5, 0), (5, 1)], (6, 0))
    source.marker((6, 0))
    told_ms = source.time_ms + ahead_ms
    cluster.append(TOPICS.dead_letters, 0, [], LETTER, told_ms)
    cluster.append(TOPICS.conflicts, 0, [], HELD, told_ms)
    # The resolver had no word of the row that is on hold.
    log = cluster.logs[TARGET, 1]
    log[1] = replace(log[1], headers=log[0].headers, value=b"")
    assert became("0-1-5").counts == {Fate.DEAD: 1, Fate.HELD: 1}
