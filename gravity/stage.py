"""How every stage's process begins and ends: signals, exit codes, the last words of a failure."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import structlog

from gravity.errors import EXIT_HALTED, EXIT_RESTART, FatalError, FencedError, TransientError
from gravity.telemetry.log import configure_logging

log = structlog.get_logger()


def exit_code_of(error: BaseException) -> int:
    """EXIT_HALTED for what only an operator can mend, EXIT_RESTART for everything else.

    A fenced process has been replaced: starting it again is harmless and right.
    """
    if isinstance(error, FatalError) and not isinstance(error, FencedError):
        return EXIT_HALTED
    return EXIT_RESTART


def report_failure(error: BaseException) -> int:
    """Logs why the process ends and returns its exit code."""
    code = exit_code_of(error)
    if code == EXIT_HALTED:
        log.error("halted", error=type(error).__name__, reason=str(error))
    elif isinstance(error, FencedError):
        log.warning("fenced", reason=str(error))
    else:
        # What is away is named; where in the code that was noticed tells nobody anything.
        trace = None if isinstance(error, TransientError) else error
        log.error("crashed", error=type(error).__name__, reason=str(error), exc_info=trace)
    return code


def die(error: BaseException) -> NoReturn:
    """Ends the process at once: no commit, no clean-up, so nothing un-acknowledged is acknowledged.

    Faust commits offsets on every orderly way out, past messages that failed (docs/adr/0003).
    """
    code = report_failure(error)
    sys.stderr.flush()
    os._exit(code)


def run_stage(
    stage: str, body: Callable[[threading.Event], None], *, log_level: str = "info"
) -> NoReturn:
    """Runs `body` until it returns or fails; SIGTERM and SIGINT set the event it is given."""
    configure_logging(stage, level=log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        body(stop)
    except Exception as error:  # noqa: BLE001 - the outermost frame: every failure becomes an exit code
        die(error)
    sys.exit(0)
