"""Waiting for what another process, or a server, brings about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_not_result
from tenacity.stop import stop_after_delay
from tenacity.wait import wait_fixed


def wait_until(
    condition: Callable[[], Any],
    timeout_s: float = 60.0,
    *,
    what: str,
    every_s: float = 0.05,
    tell: Callable[[], object] | None = None,
) -> Any:
    """The first true value of `condition`, which is asked at least once; what it raises ends the wait.

    `what`: what is waited for. `tell`: gives what else is worth knowing if it does not come about, such as
    the end of a log.

    Raises:
        TimeoutError: there was none in time.
    """

    def give_up(state: RetryCallState) -> None:
        last = state.outcome.result() if state.outcome else None
        more = f"\n{tell()}" if tell else ""
        raise TimeoutError(f"not within {timeout_s:g} s: {what}; last: {last!r}{more}")

    return Retrying(
        retry=retry_if_not_result(bool),
        stop=stop_after_delay(timeout_s),
        wait=wait_fixed(every_s),
        retry_error_callback=give_up,
    )(condition)
