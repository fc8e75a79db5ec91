"""Structured logs: one event per line, a constant past-tense name plus fields. Healthy running is quiet."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(stage: str, *, level: str = "info", as_json: bool | None = None) -> None:
    """Sends this process's logs to stderr: JSON lines, or coloured text on a terminal."""
    if as_json is None:
        as_json = not sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            # Not a context variable: those do not reach the threads of an executor.
            lambda _logger, _method, event: {"stage": stage, **event},
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.PrintLoggerFactory(file=sys.__stderr__),
        cache_logger_on_first_use=False,
    )
    # librdkafka and Faust report through the standard library; only what needs attention passes.
    logging.basicConfig(
        level=logging.WARNING, stream=sys.__stderr__, format="%(levelname)s %(name)s %(message)s"
    )
