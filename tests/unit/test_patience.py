"""What is waited for is said when a wait begins to be felt, and not before."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from tenacity import RetryCallState, Retrying

from gravity.activation import say_what_is_waited_for
from gravity.errors import TransientError


@pytest.mark.parametrize(
    ("attempt", "seconds", "said"),
    [(1, 0.1, False), (1, 5.0, True), (2, 5.0, False), (3, 0.6, False), (4, 0.9, True), (8, 30.0, True)],
)  # fmt: skip
def test_what_is_waited_for_is_said(attempt: int, seconds: float, *, said: bool) -> None:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    error = TransientError("Kafka is away")
    state.set_exception((TransientError, error, None))
    assert state.outcome_timestamp is not None
    state.start_time = state.outcome_timestamp - seconds
    with capture_logs() as logs:
        say_what_is_waited_for(state)
    assert [line["reason"] for line in logs] == ["Kafka is away"] * said
