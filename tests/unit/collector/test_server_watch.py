"""A source server is looked at as long as it can be, and what changes is said aloud, once."""

from __future__ import annotations

from typing import Any

from gravity_collector.server_watch import ServerWatch
from structlog.testing import capture_logs

from gravity.errors import TransientError


class Server:
    """A connection to a server that can be away."""

    is_away = False
    status = "ON"
    connections = 0
    closed = 0

    def connect(self) -> Server:
        if self.is_away:
            raise TransientError("refused")
        self.connections += 1
        return self

    def query(self, statement: str) -> list[tuple[str, str]]:
        if self.is_away:
            raise TransientError("gone")
        if "VARIABLES" in statement:
            return [("rpl_semi_sync_master_enabled", "ON")]
        return [("Rpl_semi_sync_master_status", self.status)]

    def close(self) -> None:
        self.closed += 1


def said(watch: ServerWatch) -> list[tuple[str, str]]:
    with capture_logs() as logs:
        watch.look()
    return [(line["event"], line["log_level"]) for line in logs]


def test_a_fallback_is_said_once_as_an_error_and_its_end_too() -> None:
    server: Any = Server()
    watch = ServerWatch("s", server.connect)
    assert said(watch) == []
    server.status = "OFF"
    assert said(watch) == [("semi_sync_fell_back", "error")]
    assert said(watch) == []
    server.status = "ON"
    assert said(watch) == [("semi_sync_on", "warning")]
    assert (watch.looks, server.connections) == (4, 1)


def test_a_server_that_is_away_is_asked_again_and_what_it_was_is_kept() -> None:
    server: Any = Server()
    watch = ServerWatch("s", server.connect)
    watch.look()
    server.is_away = True
    assert said(watch) == [("semi_sync_not_seen", "warning")]
    assert said(watch) == []
    assert watch.state is not None
    assert watch.state.is_on
    assert (watch.looks, server.closed) == (1, 1)
    server.is_away, server.status = False, "OFF"
    assert said(watch) == [("semi_sync_fell_back", "error")]
    assert server.connections == 2
    server.is_away = True
    assert said(watch) == [("semi_sync_not_seen", "warning")]


def test_an_answer_that_makes_no_sense_ends_nothing() -> None:
    server: Any = Server()
    watch = ServerWatch("s", server.connect)
    server.query = lambda _: [("one column",)]
    assert said(watch) == [("semi_sync_not_seen", "warning")]
    del server.query
    assert said(watch) == []
    assert watch.looks == 1
