"""What a server says of semi-synchronous replication, in either kind of names, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gravity.check.finding import Findings, Verdict
from gravity.check.semi_sync import check_semi_sync
from gravity.semi_sync import ServerSemiSync, alarms, state_of

OLD, NEW = "rpl_semi_sync_master_", "rpl_semi_sync_source_"
SOUND = ServerSemiSync(
    OLD, is_enabled=True, is_on=True, timeout_ms=10_000, waits_after_sync=True, clients=1
)


@pytest.mark.parametrize(("prefix", "replica"), [(OLD, "slave"), (NEW, "replica")])
def test_both_kinds_of_names_are_read(prefix: str, replica: str) -> None:
    variables = {
        "enabled": "ON", "timeout": "7000", "wait_point": "AFTER_SYNC", "trace_level": "32",
        f"wait_no_{replica}": "OFF", f"wait_for_{replica}_count": "2",
    }  # fmt: skip
    status = {
        "status": "OFF", "clients": "3", "yes_tx": "11", "no_tx": "5", "no_times": "2",
        "tx_avg_wait_time": "1234",
    }  # fmt: skip
    others = [("Rpl_semi_sync_slave_status", "OFF"), ("rpl_semi_sync_replica_enabled", "ON")]
    told = ServerSemiSync.of(
        [
            [*others[1:], *((prefix + name, value) for name, value in variables.items())],
            [*others[:1], *((prefix.capitalize() + k, v) for k, v in status.items())],
        ]
    )
    assert told == ServerSemiSync(
        prefix, is_enabled=True, is_on=False, timeout_ms=7000, waits_after_sync=True,
        waits_without_replica=False, answers_wanted=2, clients=3, acknowledged=11, unacknowledged=5,
        fallbacks=2, wait_us=1234,
    )  # fmt: skip
    assert told.others_may_answer


def test_a_server_without_it_says_nothing() -> None:
    assert ServerSemiSync.of([[], [("Rpl_semi_sync_slave_status", "OFF")]]) == ServerSemiSync()


def said(before: ServerSemiSync | None, now: ServerSemiSync) -> list[tuple[str, bool]]:
    return [(alarm.event, alarm.is_error) for alarm in alarms(before, now)]


FELL, CAME_BACK = ("semi_sync_fell_back", True), ("semi_sync_on", False)
OTHERS = ("semi_sync_answered_by_others", True)


def test_falling_back_is_an_error_and_coming_back_is_told() -> None:
    off = replace(SOUND, is_on=False, fallbacks=1)
    assert said(None, SOUND) == []
    assert said(SOUND, SOUND) == []
    assert said(SOUND, off) == [FELL]
    assert said(off, off) == []
    assert said(off, replace(SOUND, fallbacks=1)) == [CAME_BACK]
    # It fell and came back between two looks: only the counter tells.
    assert said(SOUND, replace(SOUND, fallbacks=1)) == [FELL, CAME_BACK]
    # A server that was started again counts from 0.
    assert said(replace(SOUND, fallbacks=9), SOUND) == []
    assert said(None, off) == [("semi_sync_off", False)]


def test_switched_off_is_an_error_and_is_said_once() -> None:
    disabled = ServerSemiSync(OLD)
    for before in (None, SOUND):
        (alarm,) = alarms(before, disabled)
        assert (alarm.event, alarm.is_error) == ("semi_sync_not_enabled", True)
        assert "SET GLOBAL rpl_semi_sync_master_enabled=ON" in alarm.fields["remedy"]
    assert said(disabled, disabled) == []
    assert said(None, ServerSemiSync()) == [("semi_sync_not_enabled", True)]


def test_another_replica_that_may_answer_in_our_place_is_an_error() -> None:
    two = replace(SOUND, clients=2)
    assert said(SOUND, two) == [OTHERS]
    assert said(None, two) == [OTHERS]
    assert said(two, two) == []
    assert said(SOUND, replace(two, answers_wanted=2)) == []


def test_the_state_is_on_only_when_everybody_plays_along() -> None:
    off = replace(SOUND, is_on=False)
    assert state_of(None, is_joined=True) == "unknown"
    assert state_of(ServerSemiSync(), is_joined=True) == "disabled"
    assert state_of(SOUND, is_joined=False) == "joining"
    assert state_of(off, is_joined=True) == "off"
    assert state_of(SOUND, is_joined=True) == "on"


@pytest.mark.parametrize(
    ("change", "verdict", "remedy"),
    [
        ({}, Verdict.PASS, ""),
        ({"is_enabled": False}, Verdict.FAIL, f"SET GLOBAL {OLD}enabled=ON"),
        ({"waits_after_sync": False}, Verdict.WARN, f"SET GLOBAL {OLD}wait_point=AFTER_SYNC"),
        ({"timeout_ms": 1000}, Verdict.WARN, f"SET GLOBAL {OLD}timeout=10000"),
        ({"timeout_ms": 10_000_000}, Verdict.WARN, f"SET GLOBAL {OLD}timeout=10000"),
        ({"waits_without_replica": False}, Verdict.WARN, f"SET GLOBAL {OLD}wait_no_slave=ON"),
        ({"prefix": NEW, "waits_without_replica": False}, Verdict.WARN, "wait_no_replica=ON"),
        ({"clients": 2}, Verdict.WARN, "no other replica"),
        ({"prefix": ""}, Verdict.FAIL, "INSTALL PLUGIN"),
    ],
)
def test_check_names_what_is_wrong_with_a_remedy(
    change: dict[str, object], verdict: Verdict, remedy: str
) -> None:
    found = list(check_semi_sync(Findings("source s"), replace(SOUND, **change)))  # type: ignore[arg-type]
    wrong = [finding for finding in found if finding.verdict is not Verdict.PASS]
    assert [finding.verdict for finding in wrong] == ([] if verdict is Verdict.PASS else [verdict])
    assert all(remedy in finding.remedy for finding in wrong)
