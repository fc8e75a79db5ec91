"""Rows that every source has deleted are forgotten in the end, and what comes too late is set aside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gravity_resolver import graveyard
from gravity_resolver.graveyard import Graveyard
from gravity_resolver.row_memory import slot_of

from gravity.batch import ChangeBatch
from gravity.codec import decode_batch
from gravity.header import RoutedHeader, RoutedKind
from gravity.plan_part import Resolution
from gravity.testing.routed_log import EPOCH_US, RoutedLog, RowChange
from tests.resolver_replica import RANKS, USERS, Replica

DAY_S = 24 * 3600
LATEST = Resolution("timestamp-latest", RANKS, tombstone_retention_us=7 * DAY_S * 1_000_000)
A, B, C = "a", "b", "c"


class Cemetery:
    """A resolver of three sources, whose clocks are told by markers."""

    def __init__(self, rule: Resolution = LATEST) -> None:
        self.replica = Replica(rule)
        self.logs = {source: RoutedLog(source) for source in (A, B, C)}

    def say(
        self, source: str, op: str, seconds: int, key: int = 1, name: str = "x"
    ) -> list[ChangeBatch]:
        """What is set aside of the change."""
        message = self.logs[source].rows(USERS, [RowChange(op, (key, name), seconds)])
        return [decode_batch(value) for _, value in self.replica.apply(*message).too_late]

    def reach(self, seconds: int, *sources: str) -> None:
        """The sources have nothing more to say before then."""
        for source in sources or (A, B, C):
            header, value = self.logs[source].marker()
            ets = EPOCH_US + seconds * 1_000_000
            self.replica.apply(replace(header, ets=ets), value)

    def known(self, key: int = 1) -> bool:
        return self.replica.state._get(slot_of("shop.users", [key])) is not None


def test_a_row_is_forgotten_once_every_source_is_past_its_delete() -> None:
    yard = Cemetery()
    yard.say(A, "I", 10)
    yard.say(A, "D", 20)
    yard.reach(20 + 7 * DAY_S)
    assert yard.known()
    yard.reach(21 + 7 * DAY_S, A, B)
    assert yard.known()  # C may still have more to say.
    yard.reach(21 + 7 * DAY_S, C)
    assert not yard.known()
    assert yard.replica.target_rows() == {}
    yard.replica.save()
    yard.replica.crash_and_restore()
    assert not yard.known()


def test_a_delete_that_hides_another_sources_row_is_remembered() -> None:
    yard = Cemetery()
    yard.say(B, "R", 0, name="of b")
    yard.say(A, "D", 20)
    yard.reach(100 * DAY_S)
    assert yard.known()
    # The next snapshot of B finds its row still there.
    yard.say(B, "R", 0, name="of b")
    assert yard.replica.target_rows() == {}


def test_a_row_that_came_back_is_not_forgotten() -> None:
    yard = Cemetery()
    yard.say(A, "D", 20)
    yard.say(B, "I", 30, name="back")
    yard.reach(100 * DAY_S)
    assert yard.known()
    yard.say(B, "D", 200 * DAY_S)
    yard.reach(200 * DAY_S)
    assert yard.known()
    yard.reach(300 * DAY_S)
    assert not yard.known()


def test_a_change_from_before_what_was_forgotten_is_set_aside() -> None:
    yard = Cemetery()
    yard.say(A, "D", 20)
    yard.reach(100 * DAY_S)
    (late,) = yard.say(B, "I", 20, name="late")
    assert late.rows() == [(1, "late")]
    assert yard.replica.target_rows() == {}
    assert yard.replica.counts(B)["dead"] == 1
    # What a snapshot reads has no time, and later changes are none of the forgotten.
    assert yard.say(B, "R", 0, key=2) == []
    assert yard.say(B, "I", 21, key=3) == []
    assert set(yard.replica.target_rows()) == {2, 3}


@pytest.mark.parametrize(
    "rule",
    [
        replace(LATEST, strategy="error-stop"),
        replace(LATEST, strategy="source-priority", on_delete="absolute"),
        replace(LATEST, timestamp_column="name"),
    ],
)
def test_where_an_old_delete_still_decides_it_is_remembered(rule: Resolution) -> None:
    yard = Cemetery(rule)
    yard.say(A, "D", 20)
    yard.reach(100 * DAY_S)
    assert yard.known()


def test_a_queue_gives_its_rows_in_the_order_they_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graveyard, "CHUNK_ROWS", 2)
    state: dict[bytes, bytes | None] = {}
    yard = Graveyard()
    for ets in (1, 2, 3, 4, 5):
        yard.bury("t", b"r\x00\xff%d" % ets, ets, state.get, state)
    assert yard.ends == {"t": (0, 2)}
    assert yard.exhume("t", 2, state.get, state) == []
    assert yard.exhume("t", 3, state.get, state) == [b"r\x00\xff1", b"r\x00\xff2"]
    assert yard.exhume("t", 9, state.get, state) == [b"r\x00\xff3", b"r\x00\xff4"]
    assert yard.exhume("t", 9, state.get, state) == [b"r\x00\xff5"]
    assert yard.ends == {}
    assert not any(state.values())


def test_a_marker_still_passes() -> None:
    yard = Cemetery()
    yard.reach(5, A)
    ((header, _),) = yard.replica.outputs
    assert isinstance(header.routed, RoutedHeader)
    assert header.routed.kind is RoutedKind.MARKER
