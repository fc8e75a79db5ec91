"""Which of a source's servers is read, and whether a server can stand in for another. Pure.

`hosts` are servers of one replication group. The one that the log stands for is read as long as it can
be; then the first that is fit: it can be reached, is set as a source must be, writes what it replicates
into its own binlog, and has every transaction that the log has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gravity.errors import (
    FatalError,
    GravityError,
    PositionLostError,
    SourceSettingError,
    TransientError,
)
from gravity.gtid import MariadbGtids, MysqlGtids
from gravity_collector.server import ServerFacts, identity

Endpoint = tuple[str, int]
"""(host, port)."""

_RESET: Final = "read the source again with `gravity reset --source`"


@dataclass(frozen=True, slots=True)
class Host:
    """A server that was looked at and found fit."""

    endpoint: Endpoint
    facts: ServerFacts


def choose_host(
    endpoints: Sequence[Endpoint],
    known: str,
    look: Callable[[Endpoint], ServerFacts],
    *,
    is_patient: bool = True,
) -> Host:
    """The server to read: the one with identity `known`, else the first fit one in the order given.

    `look` gives a server's facts, or raises why it is not fit. Where some can't be reached and the others
    can never be read, `is_patient` waits for the former.

    Raises:
        TransientError: none is fit now, but one may be later; FatalError: none is.
    """
    fit: Host | None = None
    refusals: list[tuple[Endpoint, GravityError]] = []
    for endpoint in endpoints:
        try:
            host = Host(endpoint, look(endpoint))
        except GravityError as error:
            if len(endpoints) == 1:
                raise
            refusals.append((endpoint, error))
            continue
        if identity(host.facts) == known or not known:
            return host
        fit = fit or host
    if fit is not None:
        return fit
    what = "; ".join(f"{name(endpoint)}: {error}" for endpoint, error in refusals)
    passing = [isinstance(error, TransientError) for _, error in refusals]
    kind = TransientError if all(passing) or (any(passing) and is_patient) else FatalError
    raise kind(f"none of the source's {len(endpoints)} servers can be read: {what}")


def name(endpoint: Endpoint) -> str:
    """`host:port`."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def assert_writes_what_it_replicates(facts: ServerFacts, where: str) -> None:
    """Refuses a server whose binlog would lack what it gets from others."""
    if not facts.log_replica_updates:
        raise SourceSettingError(
            "a replica's binlog lacks what it replicates (log_slave_updates=OFF)",
            where=where,
            remedy="start it with --log-slave-updates (log_replica_updates), or leave it out of `hosts`",
        )
    if facts.reorders:
        raise SourceSettingError(
            "it may commit in another order than the server it replicates",
            where=where,
            remedy="SET GLOBAL slave_preserve_commit_order=ON (replica_preserve_commit_order), "
            "or slave_parallel_workers=0",
        )


def assert_stands_in(
    facts: ServerFacts,
    gtids: str,
    pending: Iterable[str],
    *,
    is_replicating: Callable[[], bool],
    where: str,
) -> None:
    """Returns when the log can be gone on with at this server, though its position is another server's.

    `gtids` is the set that the log has, `pending` are transactions of which it has a part.

    Raises:
        TransientError: it has not replicated all of them yet.
        PositionLostError: it has purged what comes next, or its history is another one.
    """
    missing, is_other = _missing(facts, gtids, pending)
    if missing and not is_other and is_replicating():
        raise TransientError(f"it is behind: it does not have {missing} yet", where=where)
    if missing:
        raise PositionLostError(
            f"its history is another one: it lacks {missing}, which has been published",
            where=where,
            remedy="was it promoted before it had everything? if these transactions are to count, bring "
            f"back the server that has them; else {_RESET}",
        )
    if facts.flavor == "mysql":
        ours, purged = MysqlGtids.parse(gtids), MysqlGtids.parse(facts.gtid_purged)
        if not ours.contains_all(purged):
            raise PositionLostError(
                f"position purged: its binlog begins behind {facts.gtid_purged}, we have {gtids or 'nothing'}",
                where=where,
                remedy=f"use a server that kept its binlogs (binlog_expire_logs_seconds), or {_RESET}",
            )


def _missing(facts: ServerFacts, gtids: str, pending: Iterable[str]) -> tuple[str, bool]:
    """What of the log's transactions the server lacks, and whether it can't ever get it."""
    if facts.flavor == "mysql":
        theirs = MysqlGtids.parse(facts.gtid_set)
        ours = MysqlGtids.parse(gtids)
        for gtid in pending:
            ours.add(gtid)
        return str(ours.without(theirs)), False
    ours_of = [str(gtid) for gtid in (gtids, *pending) if gtid]
    lacking, is_other = [], False
    last: dict[tuple[int, int], int] = {}
    newest: dict[int, int] = {}
    for domain, server, number in MariadbGtids.numbers(facts.gtid_binlog_state):
        last[domain, server] = number
        newest[domain] = max(newest.get(domain, 0), number)
    for domain, server, number in MariadbGtids.numbers(",".join(ours_of)):
        if last.get((domain, server), 0) < number:
            lacking.append(f"{domain}-{server}-{number}")
            # Numbers of a domain only grow: what is behind us by its number will never come.
            is_other = is_other or newest.get(domain, 0) >= number
    return ",".join(lacking), is_other
