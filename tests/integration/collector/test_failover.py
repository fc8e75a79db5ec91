"""A source of two servers: one dies, reading goes on at the other, and no row counts twice or is missed."""

from __future__ import annotations

import signal

from gravity_devstack.stack import Stack

from gravity.header import IngestKind
from gravity.testing.waiting import wait_until
from tests.integration.collector.conftest import Install
from tests.integration.collector.installation import Installation
from tests.integration.collector.replica import ReplicaPair

NEVER = "snapshot: never"
FAT = 100_000
"""Bytes of a row: a big transaction of such rows does not fit the sockets' buffers."""


def pair_of(stack: Stack, flavor: str) -> ReplicaPair:
    names = [f"{flavor}:primary", f"{flavor}:replica"]
    servers = stack.start_all(names)
    return ReplicaPair(*(servers[name] for name in names))  # type: ignore[arg-type]


def begin(install: Install, pair: ReplicaPair) -> Installation:
    made = install(pair.primary, source=NEVER, rows_max="40", hosts=pair.hosts)
    made.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)",
        "CREATE TABLE u (id INT PRIMARY KEY, v LONGTEXT)",
    )
    return made


def write(made: Installation, first: int) -> None:
    """Small transactions, then a big one over both tables."""
    for number in range(first, first + 60):
        made.sql(f"INSERT INTO t VALUES ({number}, 'n{number}')")
        if number % 3 == 0:
            made.sql(f"UPDATE t SET v = 'u{number}' WHERE id = {number}")
    statements = [
        f"INSERT INTO {table} VALUES {','.join(f'({n}, REPEAT({n % 10}, {FAT}))' for n in range(start, start + 5))}"
        for start in range(first + 1000, first + 1150, 5)
        for table in ("t", "u")
    ]
    made.sql("BEGIN", *statements, "COMMIT", f"DELETE FROM t WHERE id < {first + 10}")


def move(made: Installation, pair: ReplicaPair) -> None:
    """The test's own eyes and hands follow to the replica."""
    made.server = pair.replica
    made.client.close()
    made.client = pair.replica.connect(made.database)


def assert_equal_and_once(made: Installation) -> None:
    for table in ("t", "u"):
        made.wait_equal(table)
    made.assert_lawful()
    assert {header.to.epoch for header, _ in made.valid()} == {1, 2}


def transactions_in_both_epochs(made: Installation) -> set[str]:
    """Those that both servers have told of; every piece must have the same time."""
    seen: dict[int, set[str]] = {1: set(), 2: set()}
    times: dict[str, set[tuple[int, int]]] = {}
    for header, batch in made.batches():
        seen[header.to.epoch] |= {batch.transactions[tx].gtid for tx in batch.tx}
        for transaction in batch.transactions:
            told = transaction.commit_us, transaction.ets
            times.setdefault(transaction.gtid, set()).add(told)
    assert [gtid for gtid, told in times.items() if len(told) > 1] == []
    return seen[1] & seen[2]


def test_the_server_dies_while_its_log_is_read_and_another_one_is_read_on(
    install: Install, stack: Stack
) -> None:
    pair = pair_of(stack, "mariadb")
    made = begin(install, pair)
    process = made.start_and_wait()
    made.sql("INSERT INTO t VALUES (0, 'first')")
    wait_until(lambda: made.replay("t"), what="the first row")
    process.send(signal.SIGSTOP)
    write(made, 1)
    pair.wait_replicated()
    pair.primary.kill()
    process.send(signal.SIGCONT)
    move(made, pair)
    wait_until(lambda: made.replay("u"), what="rows of the other server")
    pair.promote()
    write(made, 5000)
    assert_equal_and_once(made)
    assert process.exit_code is None
    assert transactions_in_both_epochs(made), "no transaction was cut: the test proves nothing"


def test_collector_and_server_die_together_in_the_middle_of_a_span(
    install: Install, stack: Stack
) -> None:
    pair = pair_of(stack, "mysql")
    made = begin(install, pair)
    made.start_and_wait().stop()
    write(made, 1)
    process = made.start("collector.sent_part_of_span:20:kill")
    assert process.wait() == -signal.SIGKILL
    pair.wait_replicated()
    pair.primary.kill()
    last = made.valid()[-1][0]
    assert last.part + 1 < last.parts, "the span is whole: the test proves nothing"
    move(made, pair)
    pair.promote()
    made.start_and_wait()
    write(made, 5000)
    assert_equal_and_once(made)
    assert transactions_in_both_epochs(made), "no transaction was cut: the test proves nothing"
    assert last.kind is IngestKind.ROWS


def test_a_replica_that_lacks_what_was_published_is_refused_by_name(
    install: Install, stack: Stack
) -> None:
    pair = pair_of(stack, "mariadb")
    made = begin(install, pair)
    process = made.start_and_wait()
    pair.wait_replicated()
    pair.pause()
    made.sql("INSERT INTO t VALUES (1, 'lost')")
    made.wait_equal("t")
    pair.primary.kill()
    move(made, pair)
    wait_until(lambda: "it is behind" in process.text, what="the wait for the replica")
    pair.promote()
    made.sql("INSERT INTO t VALUES (2, 'new')")
    wait_until(
        lambda: "its history is another one: it lacks" in process.text, what="the refusal by name"
    )
    assert made.replay("t") == [(1, "lost")], "nothing of the other history may be published"
