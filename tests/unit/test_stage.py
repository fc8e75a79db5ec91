"""What a stage's log says at its end."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from gravity.errors import EXIT_RESTART, TransientError
from gravity.stage import report_failure


@pytest.mark.parametrize(
    ("error", "traced"), [(TransientError("Kafka is away"), False), (ValueError("a bug"), True)]
)
def test_only_what_nobody_expected_has_a_trace(error: Exception, *, traced: bool) -> None:
    with capture_logs() as logs:
        assert report_failure(error) == EXIT_RESTART
    (line,) = logs
    said: dict[str, Any] = dict(line)
    assert (said["event"], said["reason"]) == ("crashed", str(error))
    assert bool(said["exc_info"]) is traced
