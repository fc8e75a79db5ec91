"""A source's servers, asked: which one is read now, and why the others are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gravity.clock import monotonic_s
from gravity.errors import GravityError
from gravity.mysql import connection_arguments
from gravity_collector.binlog import read_server_facts
from gravity_collector.host import (
    Endpoint,
    Host,
    assert_stands_in,
    assert_writes_what_it_replicates,
    choose_host,
    name,
)
from gravity_collector.owner import last_server
from gravity_collector.server import (
    ServerFacts,
    assert_readable,
    identity,
    is_replicating,
)
from gravity_collector.snapshot import SourceConnection

if TYPE_CHECKING:
    from gravity.config.source import Source

PATIENCE_S: Final = 60.0
"""How long a server that can't be reached is waited for when those that can will never do."""
_CONNECT_TIMEOUT_S: Final = 10
_CONNECT_TIMEOUT_OF_SEVERAL_S: Final = 5
_ANSWER_TIMEOUT_S: Final = 300
"""Longest wait for one answer; a chunk of a large table may take its time."""


class Servers:
    """The servers of one source over all its sessions."""

    def __init__(self, source: Source, *, monotonic: Callable[[], float] = monotonic_s) -> None:
        self._source = source
        self._monotonic = monotonic
        self._without_since_s: float | None = None
        """Since when none could be read."""
        self._refused: dict[Endpoint, GravityError] = {}

    @property
    def are_several(self) -> bool:
        """Whether another server may stand in."""
        return len(self._source.endpoints) > 1

    def arguments(self, endpoint: Endpoint) -> dict[str, Any]:
        """PyMySQL's arguments for one of them."""
        several = self.are_several
        return {
            **connection_arguments(self._source, endpoint),
            "connect_timeout": _CONNECT_TIMEOUT_OF_SEVERAL_S if several else _CONNECT_TIMEOUT_S,
            "read_timeout": _ANSWER_TIMEOUT_S,
        }

    def choose(self, records: Mapping[str, Any]) -> Host:
        """The server to read. `records` are control's, which say which one was read last.

        Raises:
            TransientError: none can be read now; FatalError: none can be.
        """
        self._source.require_connection()
        known, gtids = last_server(records, self._source.name)
        now = self._monotonic()
        if self._without_since_s is None:
            self._without_since_s = now
        host = choose_host(
            self._source.endpoints,
            known,
            lambda endpoint: self._look(endpoint, known, gtids),
            is_patient=now - self._without_since_s < PATIENCE_S,
        )
        self._without_since_s = None
        return host

    def _look(self, endpoint: Endpoint, known: str, gtids: str) -> ServerFacts:
        source = self._source.name
        if endpoint in self._refused:
            raise self._refused[endpoint]
        facts = read_server_facts(self.arguments(endpoint), source)
        assert_readable(facts, source)
        if self.are_several and identity(facts) != known:
            where = f"source {source}, {name(endpoint)}"
            if known or self.is_replicating(endpoint, facts):
                assert_writes_what_it_replicates(facts, where)
            if known:
                # By the newest checkpoint; what the log has beyond it is looked at behind our fence.
                assert_stands_in(
                    facts,
                    gtids,
                    (),
                    is_replicating=lambda: self.is_replicating(endpoint, facts),
                    where=where,
                )
        return facts

    def is_replicating(self, endpoint: Endpoint, facts: ServerFacts) -> bool:
        """Whether the server is set up as a replica."""
        connection = SourceConnection(self.arguments(endpoint), self._source.name)
        try:
            return is_replicating(connection.query, facts)
        finally:
            connection.close()

    def refuse(self, endpoint: Endpoint, error: GravityError) -> None:
        """This server can't go on with the log; it is not tried again before another one was read."""
        self._refused[endpoint] = error

    def forgive(self) -> None:
        """Reading goes on: whatever was wrong with the others may be mended when they are needed."""
        self._refused.clear()
