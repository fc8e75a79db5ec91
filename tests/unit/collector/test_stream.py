"""The laws of the ingest log, for every crash: nothing lost, nothing twice, spans whole and in order."""

import random
from collections import defaultdict
from contextlib import suppress

import pytest
from gravity_collector.event import Begin, Commit, Rotate
from gravity_collector.span import Limits

from gravity.batch import INSERT, UPDATE
from gravity.codec import decode_batch
from gravity.errors import FatalError, FencedError
from gravity.header import IngestHeader, IngestKind
from gravity.position import Position
from gravity.schema_change import RowsAfter, TableAction
from tests.unit.collector.world import (
    Binlog,
    Collector,
    Control,
    Died,
    Log,
    Table,
    changes_of,
    plan,
    rows_of,
)

NAMES = ("a", "b", "g1", "g2", "left_out")
PLANS = {1: plan(1, excluded=["left_out"], group=["g1", "g2"])}
CHANGED = {**PLANS, 2: plan(2, excluded=["a"], group=["g1", "g2"])}


CARRIED: dict[int, int] = {}
"""By seed: how often rows were in the log already when another server brought them again."""


def _run(
    seed: int,
    *,
    crashes: bool,
    plans: dict[int, object] | None = None,
    replicas: int = 0,
) -> tuple[Log, Binlog]:
    rng = random.Random(seed)
    tables = [Table(name) for name in NAMES]
    binlog = Binlog.random(rng, tables, rng.randint(3, 25), rng.choice((2, 30)))
    servers = [binlog, *(binlog.elsewhere(rng, f"mariadb:{n}") for n in range(2, 2 + replicas))]
    log, control = Log(), Control()
    CARRIED[seed] = 0
    for number in range(100):
        binlog = rng.choice(servers)
        limits = Limits(rng.choice((3, 10, 50)), rng.choice((60, 500, 100_000)))
        known = dict(PLANS) if number == 0 or plans is None else plans
        collector = Collector(log, control, binlog, known, limits, rng, f"p{number}")  # type: ignore[arg-type]
        collector.checkpoints = rng.random() < 0.5
        log.dies_at = len(log.messages) + rng.randint(0, 12) if crashes and number < 30 else None
        control.dies_at = (
            control.writes + rng.randint(1, 2)
            if crashes and rng.random() < 0.2 and number < 30
            else None
        )
        try:
            collector.run()
        except Died:
            continue
        finally:
            CARRIED[seed] += collector.carried
        return log, binlog
    raise AssertionError("it never came through")


def _assert_lawful(log: Log) -> None:
    messages = [header for header, _ in log.valid()]
    assert [header.seq for header in messages] == list(range(1, len(messages) + 1)), (
        "a hole or a repeat"
    )
    ets, place, index = 0, messages[0].from_, 0
    while index < len(messages):
        first = messages[index]
        assert first.part == 0, "a span that does not begin with its first part"
        assert index == 0 or first.from_ == place or first.from_.epoch > place.epoch, (
            "spans do not follow one another"
        )
        span = messages[index : index + first.parts]
        moved = [header.part for header in span].index(0, 1) if _is_left_open(span) else 0
        span = span[: moved or None]
        if moved:
            assert messages[index + moved].from_.epoch > first.from_.epoch, "a span is not whole"
            place, index = first.to, index + moved
            continue
        assert [header.part for header in span] == list(range(first.parts)), (
            "a span that is not whole"
        )
        for header in span:
            assert (header.kind, header.from_, header.to, header.parts, header.plan, header.gtids, header.ets) == (
                first.kind, first.from_, first.to, first.parts, first.plan, first.gtids, first.ets,
            ), "parts of one span that differ about it"  # fmt: skip
        assert first.ets >= ets, "event time went back"
        ets, place, index = first.ets, first.to, index + first.parts


def _is_left_open(span: list[IngestHeader]) -> bool:
    """Whether a span ends before its last part, because another server was gone on with."""
    return any(header.part == 0 for header in span[1:])


def _published(log: Log) -> dict[str, list[tuple[int, object, object]]]:
    """Table to its changes in log order."""
    found = defaultdict(list)
    for _, batch in rows_of(log):
        for row in range(len(batch)):
            image = tuple(column[row] for column in batch.columns)
            before = batch.before[0][row] if batch.before else None
            found[batch.schema.table].append((batch.ops[row], image, before))
    return found


def _truth(binlog: Binlog) -> dict[str, list[tuple[int, object, object]]]:
    found = defaultdict(list)
    for table, op, row, old in binlog.truth:
        before = None if op == INSERT else old[0] if op == UPDATE else row[0]
        found[table].append((op, row, before))
    found.pop("left_out", None)
    return found


@pytest.mark.parametrize("seed", range(40))
def test_every_row_is_published_once_and_in_order(seed: int) -> None:
    log, binlog = _run(seed, crashes=False)
    _assert_lawful(log)
    assert _published(log) == {table: rows for table, rows in _truth(binlog).items() if rows}


@pytest.mark.parametrize("seed", range(150))
def test_a_collector_that_dies_before_any_message_loses_and_repeats_nothing(seed: int) -> None:
    log, binlog = _run(seed, crashes=True)
    _assert_lawful(log)
    assert _published(log) == {table: rows for table, rows in _truth(binlog).items() if rows}


@pytest.mark.parametrize("plans", [PLANS, CHANGED], ids=["one plan", "two plans"])
@pytest.mark.parametrize("seed", range(60))
def test_going_on_at_another_server_after_any_crash_loses_and_repeats_nothing(
    seed: int, plans: dict[int, object]
) -> None:
    log, binlog = _run(seed, crashes=True, replicas=2, plans=plans)
    _assert_lawful(log)
    published, truth = _published(log), _truth(binlog)
    for table in NAMES[:-1] if plans is PLANS else ("b", "g1", "g2"):
        assert published.get(table, []) == truth.get(table, [])
    identities = [
        (batch.transactions[batch.tx[row]].gtid, batch.ordinal[row])
        for _, batch in rows_of(log)
        for row in range(len(batch))
    ]
    assert len(set(identities)) == len(identities)


def test_the_crashes_before_another_server_left_spans_open() -> None:
    for seed in range(30):
        _run(seed, crashes=True, replicas=2)
    assert sum(CARRIED[seed] for seed in range(30)) > 10, "the law above was not tried"


@pytest.mark.parametrize("seed", range(60))
def test_a_span_or_transaction_begun_under_one_plan_is_finished_under_it(seed: int) -> None:
    """Plan 2 leaves out `a` and reads `left_out`: rows counted under the wrong plan would be lost or doubled."""
    log, binlog = _run(seed, crashes=True, plans=CHANGED)  # type: ignore[arg-type]
    _assert_lawful(log)
    for _, batch in rows_of(log):
        assert all(ordinal >= 0 for ordinal in batch.ordinal)
    published, truth = _published(log), _truth(binlog)
    for table in ("b", "g1", "g2"):
        assert published.get(table, []) == truth.get(table, [])
    by_transaction: dict[tuple[int, int], set[int]] = defaultdict(set)
    for header, batch in rows_of(log):
        for row in range(len(batch)):
            position = batch.position_of(row)
            by_transaction[position.file_index, position.offset].add(header.plan)
    assert all(len(versions) == 1 for versions in by_transaction.values())


@pytest.mark.parametrize("replicas", [0, 2])
@pytest.mark.parametrize("seed", range(150))
def test_a_rows_event_time_is_that_of_its_transaction_whoever_publishes_it(
    seed: int, replicas: int
) -> None:
    log, binlog = _run(seed, crashes=True, replicas=replicas)
    ets, truth = 0, {}
    for _, events in binlog.transactions:
        begin = events[0]
        assert isinstance(begin, Begin)
        ets = max(ets, begin.commit_us)
        truth[begin.gtid] = begin.commit_us, ets
    for header, batch in rows_of(log):
        assert header.ets >= batch.transactions[-1].ets
        for transaction in batch.transactions:
            assert (transaction.commit_us, transaction.ets) == truth[transaction.gtid]


@pytest.mark.parametrize("replicas", [0, 2])
@pytest.mark.parametrize("seed", range(60))
def test_behind_a_marker_no_row_is_older_than_the_marker_says(seed: int, replicas: int) -> None:
    log, _ = _run(seed, crashes=True, replicas=replicas)
    promised = 0
    for header, value in log.valid():
        if header.kind is IngestKind.MARKER:
            assert header.ets >= promised
            promised = header.ets
        elif header.kind is IngestKind.ROWS:
            assert min(t.ets for t in decode_batch(value).transactions) >= promised


@pytest.mark.parametrize("seed", range(20))
def test_message_order_is_row_order_in_a_group(seed: int) -> None:
    log, binlog = _run(seed, crashes=True)
    grouped = [row for table, _, row, _ in binlog.truth if table in ("g1", "g2")]
    published = [
        row
        for _, batch in rows_of(log)
        if batch.schema.table in ("g1", "g2")
        for row in batch.rows()
    ]
    assert published == grouped


@pytest.mark.parametrize("seed", range(20))
def test_positions_and_ordinals_name_each_row_once(seed: int) -> None:
    log, _ = _run(seed, crashes=True)
    positions = [batch.position_of(row) for _, batch in rows_of(log) for row in range(len(batch))]
    assert len(set(positions)) == len(positions)


@pytest.mark.parametrize("seed", range(20))
def test_a_schema_change_is_a_span_of_its_own_between_the_rows_around_it(seed: int) -> None:
    log, _ = _run(seed, crashes=True)
    valid = [header for header, _ in log.valid()]
    for index, header in enumerate(valid):
        if header.kind is IngestKind.SCHEMA:
            assert all(before.to <= header.from_ for before in valid[:index])
            assert all(after.from_ >= header.to for after in valid[index + 1 :])


def _changes(log: Log) -> dict[str, list[str]]:
    """Position to the names of a statement's changes, in log order, repeats left out.

    So is the drop of a swapped table, which depends on what is known of its columns.
    """
    found: dict[str, dict[str, None]] = {}
    emptied: set[tuple[str, str, int]] = set()
    for _, change in changes_of(log):
        if change.action is TableAction.TRUNCATE:
            emptied.add((change.position, change.table, change.index + 1))
        if (change.position, change.table, change.index) in emptied:
            continue
        found.setdefault(change.position, {})[change.change_id] = None
    return {position: list(names) for position, names in found.items()}


@pytest.mark.parametrize("seed", range(60))
def test_a_statement_about_several_tables_is_told_whole_wherever_the_collector_dies(
    seed: int,
) -> None:
    crashed, binlog = _run(seed, crashes=True)
    log, control = Log(), Control()
    limits = Limits(50, 100_000)
    Collector(log, control, binlog, PLANS, limits, random.Random(seed), "whole").run()
    assert _changes(crashed) == _changes(log)
    places: dict[str, set[Position]] = defaultdict(set)
    for header, change in changes_of(crashed):
        places[change.position].add(header.to)
    for position, ends in places.items():
        assert min(ends) >= Position.parse(position), "a change ends before its statement"
        assert sum(end > Position.parse(position) for end in ends) == 1, (
            "all but the last change end where the statement begins"
        )


@pytest.mark.parametrize("seed", range(30))
def test_rows_that_are_read_again_are_announced_in_the_header(seed: int) -> None:
    log, _ = _run(seed, crashes=False)
    for header, change in changes_of(log):
        assert (header.chunk == "reread") is (change.rows is RowsAfter.REREAD)
        assert header.table == f"{change.database}.{change.table}"
        assert change.table != "left_out", "a table that is not read"


@pytest.mark.parametrize("seed", range(100))
def test_a_frozen_collector_that_wakes_up_harms_nobody(seed: int) -> None:
    """Whatever it still writes, checkpoints too, stands behind the new owner's fence and is void."""
    rng = random.Random(seed)
    binlog = Binlog.random(rng, [Table(name) for name in NAMES], 15, 10)
    log, control = Log(), Control()
    old = Collector(log, control, binlog, PLANS, Limits(10, 500), rng, "old", checkpoints=True)
    new = Collector(log, control, binlog, PLANS, Limits(7, 100), rng, "new", checkpoints=True)

    def frozen_meanwhile() -> None:
        log.dies_at = len(log.messages) + rng.randint(1, 10)
        with suppress(Died):
            new.run()
        log.dies_at = None

    log.before_message[rng.randint(1, 20)] = frozen_meanwhile
    old.run()
    log.before_message.clear()
    Collector(log, control, binlog, PLANS, Limits(10, 500), rng, "newest").run()
    _assert_lawful(log)
    assert _published(log) == {table: rows for table, rows in _truth(binlog).items() if rows}


def _span_cut_between_files() -> tuple[Log, Control, Binlog]:
    """A span of plan 1 of which one part of two is in the log, and which ends where file 2 begins.

    The first transaction of file 2 has a row that plan 1 leaves out, and plan 2 does not.
    """
    b, grouped, left_out = (Table(name) for name in ("b", "g1", "left_out"))
    both = [b.event(INSERT, [(1, "x")]), grouped.event(INSERT, [(1, "x")])]
    binlog = Binlog()
    binlog.transactions = [
        (Position(1, 1, 100), [Begin("0-1-1", 1, 100, 1), *both, Commit(1, 200)]),
        (Position(1, 1, 200), [Rotate("binlog.000002", 2, 4, artificial=False)]),
    ]
    log, control = Log(dies_at=3), Control()
    with pytest.raises(Died):
        Collector(log, control, binlog, PLANS, Limits(9, 999), random.Random(0), "one").run()
    log.dies_at = None
    unseen = left_out.event(INSERT, [(1, "x")])
    binlog.transactions += [
        (Position(1, 2, 4), [Begin("0-1-2", 2, 4, 1), unseen, Commit(2, 50)]),
        (Position(1, 2, 50), [Begin("0-1-3", 2, 50, 1), *both, Commit(2, 100)]),
    ]
    return log, control, binlog


def test_a_span_that_ends_between_files_ends_the_older_plan() -> None:
    """Between transactions a chunk may follow at once: it would be counted under the older plan."""
    log, control, binlog = _span_cut_between_files()
    Collector(log, control, binlog, CHANGED, Limits(9, 999), random.Random(0), "two").run()
    _assert_lawful(log)
    behind = [header for header in log.headers() if header.from_ >= Position(1, 2, 4)]
    assert {header.plan for header in behind} == {2}
    assert (behind[0].kind, behind[0].to) == (IngestKind.MARKER, Position(1, 2, 4))
    assert [batch.schema.table for _, batch in rows_of(log)].count("left_out") == 1


@pytest.mark.parametrize("dies_at", range(4, 10))
def test_no_span_reaches_back_to_where_rows_were_read_under_another_plan(dies_at: int) -> None:
    log, control, binlog = _span_cut_between_files()
    log.dies_at = dies_at
    with suppress(Died):
        Collector(log, control, binlog, CHANGED, Limits(9, 999), random.Random(0), "two").run()
    log.dies_at = None
    Collector(log, control, binlog, CHANGED, Limits(9, 999), random.Random(0), "three").run()
    _assert_lawful(log)
    tables = [batch.schema.table for _, batch in rows_of(log)]
    assert [table for table in tables if table != "left_out"] == ["b", "g1"] * 2


def test_a_binlog_that_was_rewritten_is_not_grouped_anew_in_silence() -> None:
    rng = random.Random(1)
    tables = [Table("a"), Table("b")]
    binlog = Binlog()
    binlog.transactions = Binlog.random(rng, tables, 1, 1).transactions
    first = tables[0].event(INSERT, [(1, "x")])
    second = tables[1].event(INSERT, [(2, "y")])
    begin, commit = binlog.transactions[0][1][0], binlog.transactions[0][1][-1]
    binlog.transactions[0][1][:] = [begin, first, second, commit]
    log, control = Log(dies_at=3), Control()
    with pytest.raises(Died):
        Collector(log, control, binlog, PLANS, Limits(50, 5000), rng, "one").run()
    log.dies_at = None
    binlog.transactions[0][1][:] = [begin, first, commit]
    with pytest.raises(FatalError, match="read again, is another"):
        Collector(log, control, binlog, PLANS, Limits(50, 5000), rng, "two").run()


def test_our_own_sinks_transactions_are_dropped_whole() -> None:
    rng = random.Random(1)
    table, progress = Table("a"), Table("_gravity_progress")
    binlog = Binlog.random(rng, [table], 2, 1)
    begin, commit = binlog.transactions[0][1][0], binlog.transactions[0][1][-1]
    binlog.transactions[0][1][:] = [
        begin, progress.event(UPDATE, [((1, "o"), (1, "n"))]), table.event(INSERT, [(7, "loop")]), commit,
    ]  # fmt: skip
    log = Log()
    collector = Collector(log, Control(), binlog, PLANS, Limits(50, 5000), rng, "one")
    collector.run()
    assert all(row[1] != "loop" for _, batch in rows_of(log) for row in batch.rows())
    assert collector.transactions == len(binlog.transactions) - 1, "no marker is due for ours"


def test_a_second_collector_at_the_same_moment_is_told_so() -> None:
    binlog = Binlog.random(random.Random(2), [Table("a")], 3, 3)
    log, control = Log(), Control()
    one = Collector(log, control, binlog, PLANS, Limits(9, 900), random.Random(1), "one")
    two = Collector(log, control, binlog, PLANS, Limits(9, 900), random.Random(1), "two")

    def rival() -> None:
        # The rival read control when we did, so it takes the same number, and its fence comes first.
        control.records = {}
        two.run()

    log.before_message[0] = rival
    with pytest.raises(FencedError):
        one.run()
    assert control.records["owner/s/1"]["offset"] == 0, "the loser completed the winner's record"
    _assert_lawful(log)
