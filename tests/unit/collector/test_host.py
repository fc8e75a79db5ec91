"""Which of several servers is read, and when another one can stand in for the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from gravity_collector.host import (
    Endpoint,
    assert_stands_in,
    assert_writes_what_it_replicates,
    choose_host,
    name,
)
from gravity_collector.server import ServerFacts
from gravity_collector.servers import PATIENCE_S, Servers

from gravity.config.source import Source, parse_address
from gravity.errors import (
    FatalError,
    GravityError,
    PositionLostError,
    SourceSettingError,
    TransientError,
)
from tests.unit.collector.server_facts import facts

A, B, C = (("a", 1), ("b", 1), ("c", 1))
UUID = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"


def looker(
    found: Mapping[Endpoint, ServerFacts | GravityError],
) -> Callable[[Endpoint], ServerFacts]:
    def look(endpoint: Endpoint) -> ServerFacts:
        what = found[endpoint]
        if isinstance(what, GravityError):
            raise what
        return what

    return look


AWAY, NEVER = TransientError("no answer"), FatalError("log_bin=OFF")


def test_the_server_of_the_log_is_read_as_long_as_it_can_be() -> None:
    look = looker({A: facts(1), B: facts(2)})
    assert choose_host([A, B], "mariadb:2", look).endpoint == B
    assert choose_host([A, B], "", look).endpoint == A


def test_with_nothing_read_yet_nobody_behind_the_first_fit_one_is_asked() -> None:
    asked: list[Endpoint] = []
    look = looker({A: AWAY, B: facts(2), C: facts(3)})

    def noted(endpoint: Endpoint) -> ServerFacts:
        asked.append(endpoint)
        return look(endpoint)

    assert choose_host([A, B, C], "", noted).endpoint == B
    assert asked == [A, B]


def test_a_servers_name_can_be_written_back_into_the_configuration() -> None:
    for endpoint, text in ((("db", 3307), "db:3307"), (("fe80::1", 3306), "[fe80::1]:3306")):
        assert name(endpoint) == text
        assert parse_address(text, 1) == endpoint


def test_else_the_first_that_is_fit_in_the_order_given() -> None:
    look = looker({A: AWAY, B: facts(2), C: facts(3)})
    assert choose_host([A, C, B], "mariadb:1", look).endpoint == C


def test_with_none_fit_it_is_tried_again_unless_none_can_ever_be() -> None:
    with pytest.raises(TransientError, match=r"2 servers.*a:1: no answer; b:1: log_bin=OFF"):
        choose_host([A, B], "", looker({A: AWAY, B: NEVER}))
    with pytest.raises(FatalError):
        choose_host([A, B], "", looker({A: NEVER, B: NEVER}))
    with pytest.raises(FatalError):
        choose_host([A, B], "", looker({A: AWAY, B: NEVER}), is_patient=False)
    with pytest.raises(TransientError):
        choose_host([A, B], "", looker({A: AWAY, B: AWAY}), is_patient=False)


def test_a_single_server_says_itself_what_is_wrong() -> None:
    with pytest.raises(FatalError) as caught:
        choose_host([A], "", looker({A: NEVER}))
    assert caught.value is NEVER


def test_patience_with_a_server_that_is_away_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(name="s", hosts=("a", "b"), username="u")
    now = [0.0]
    servers = Servers(source, monotonic=lambda: now[0])
    look = looker({("a", 3306): AWAY, ("b", 3306): NEVER})
    monkeypatch.setattr(servers, "_look", lambda endpoint, *_: look(endpoint))
    with pytest.raises(TransientError):
        servers.choose({})
    now[0] = PATIENCE_S + 1
    with pytest.raises(FatalError, match="b:3306: log_bin=OFF"):
        servers.choose({})


def stands_in(server: ServerFacts, gtids: str, *pending: str, replicating: bool = False) -> None:
    assert_stands_in(server, gtids, pending, is_replicating=lambda: replicating, where="s")


@pytest.mark.parametrize("state", ["0-1-100", "0-1-100,0-2-150", "0-1-120,1-1-7"])
def test_mariadb_stands_in_when_it_has_each_last_transaction_or_a_later_one(state: str) -> None:
    stands_in(facts(gtid_binlog_state=state), "0-1-100")


def test_mariadb_that_lacks_one_is_behind_as_long_as_it_may_come() -> None:
    server = facts(gtid_binlog_state="0-1-95")
    with pytest.raises(TransientError, match=r"behind.*0-1-100"):
        stands_in(server, "0-1-100", replicating=True)
    with pytest.raises(PositionLostError, match="it lacks 0-1-100"):
        stands_in(server, "0-1-100")


@pytest.mark.parametrize("state", ["0-1-95,0-2-150", "0-1-95,0-2-100"])
def test_mariadb_with_other_transactions_under_the_same_numbers_has_another_history(
    state: str,
) -> None:
    with pytest.raises(PositionLostError, match="another one: it lacks 0-1-100"):
        stands_in(facts(gtid_binlog_state=state), "0-1-100", replicating=True)


def test_a_transaction_that_is_half_published_must_be_there_too() -> None:
    mariadb = facts(gtid_binlog_state="0-1-100")
    mysql = facts(flavor="mysql", gtid_set=f"{UUID}:1-100")
    for server, gtids, gtid in (
        (mariadb, "0-1-100", "0-1-101"),
        (mysql, f"{UUID}:1-100", f"{UUID}:101"),
    ):
        with pytest.raises(PositionLostError):
            stands_in(server, gtids, gtid)


def test_mysql_stands_in_when_it_has_all_and_has_purged_nothing_else() -> None:
    ours = f"{UUID}:1-100"
    stands_in(facts(flavor="mysql", gtid_set=f"{UUID}:1-120,{OTHER}:1-9"), ours)
    stands_in(facts(flavor="mysql", gtid_set=f"{UUID}:1-120", gtid_purged=f"{UUID}:1-99"), ours)
    purged = facts(flavor="mysql", gtid_set=f"{UUID}:1-120", gtid_purged=f"{UUID}:1-101")
    with pytest.raises(PositionLostError, match="position purged"):
        stands_in(purged, ours)
    with pytest.raises(PositionLostError, match=f"it lacks {UUID}:91-100"):
        stands_in(facts(flavor="mysql", gtid_set=f"{UUID}:1-90"), ours)


def test_a_replica_that_keeps_what_it_replicates_to_itself_or_reorders_it_is_not_fit() -> None:
    assert_writes_what_it_replicates(facts(), "s")
    for changed in ({"log_replica_updates": False}, {"reorders": True}):
        with pytest.raises(SourceSettingError):
            assert_writes_what_it_replicates(facts(**changed), "s")
