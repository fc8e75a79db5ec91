"""One source from the first connection to the last message: the life of one thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import structlog
import tenacity

from gravity.errors import TransientError
from gravity_collector.servers import Servers
from gravity_collector.session import Session, Shared

if TYPE_CHECKING:
    from gravity.config.source import Source

log = structlog.get_logger()

_RETRY_S_MAX: Final = 15.0
_PAUSE_S: Final = 1.0
"""Between the failure of a run that had worked and the next."""


def collect(shared: Shared, source: Source, stop: threading.Event) -> bool:
    """Collects one source until `stop` is set; transient troubles are tried again for ever.

    True: all existing rows are copied, and nothing else was asked for (`snapshot: only`).

    Raises:
        FatalError: an operator must act; FencedError: another collector serves this source now.
    """
    servers = Servers(source)
    retry = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=_RETRY_S_MAX),
        sleep=tenacity.sleep_using_event(stop),
        stop=tenacity.stop_when_event_set(stop),
        before_sleep=lambda state: log.warning(
            "source_retried",
            source=source.name,
            attempt=state.attempt_number,
            reason=_reason(state),
        ),
        reraise=True,
    )
    try:
        # A run that has worked begins counting anew: its failure is a new trouble.
        while not stop.is_set():
            if retry(_run_once, shared, source, servers, stop):
                log.info("source_copied", source=source.name)
                return True
            stop.wait(_PAUSE_S)
    except TransientError:
        if not stop.is_set():
            raise
    return False


def _reason(state: tenacity.RetryCallState) -> str:
    return str(state.outcome.exception()) if state.outcome is not None else ""


def _run_once(shared: Shared, source: Source, servers: Servers, stop: threading.Event) -> bool:
    """One connection, one ownership. Whatever fails, the next run takes the source over again."""
    with Session(shared, source, servers) as session:
        try:
            return session.run(stop)
        except TransientError as error:
            if session.has_published:
                log.warning("source_interrupted", source=source.name, reason=str(error))
                return False
            raise
