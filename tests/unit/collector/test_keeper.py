"""The keeper's rounds, also while no source is in its care."""

from __future__ import annotations

from typing import Any

from gravity_collector.keeper import Keeper
from structlog.testing import capture_logs

from gravity.errors import TransientError


class Away:
    """Control on a broker that does not answer."""

    def refresh(self) -> dict[str, Any]:
        raise TransientError("the broker is away")

    def write(self, key: str, value: Any) -> None:
        raise AssertionError(key, value)

    def delete(self, key: str) -> None:
        raise AssertionError(key)


def test_that_control_can_not_be_read_is_told_with_nothing_in_care_too() -> None:
    """Whoever waits for a newer plan hears of it from these rounds only."""
    keeper = Keeper(Away())
    with capture_logs() as told:
        keeper.round()
    assert [(entry["event"], entry["reason"]) for entry in told] == [
        ("control_not_read", "the broker is away")
    ]
