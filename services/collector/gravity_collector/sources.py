"""All sources of one process, a thread each: what befalls one delays no other."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from gravity.errors import FatalError, FencedError
from gravity.stage import report_failure
from gravity_collector.source import collect

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.source import Source

log = structlog.get_logger()


def collect_all(config: Config, names: Sequence[str], stop: threading.Event) -> None:
    """Collects the named sources (none named: all) until `stop`.

    A source that halts is reported at once and the others go on.

    Raises:
        FatalError: every source has halted by name; the last reason.
        FencedError: a source was taken over, and the process should be started again for the others' sake.
    """
    sources = [source for source in config.sources if not names or source.name in names]
    unknown = sorted(set(names) - {source.name for source in sources})
    if unknown or not sources:
        raise FatalError(
            f"no such source: {', '.join(unknown)}"
            if unknown
            else "the configuration has no sources",
            remedy=f"known are: {', '.join(source.name for source in config.sources)}",
        )
    failures: dict[str, Exception] = {}
    ended = threading.Condition()

    def body(source: Source) -> None:
        structlog.contextvars.bind_contextvars(stage="collector", source=source.name)
        try:
            collect(config, source, stop)
        except Exception as error:  # noqa: BLE001 - the thread's outermost frame: kept, reported, judged below
            report_failure(error)
            failures[source.name] = error
        finally:
            with ended:
                ended.notify_all()

    threads = [
        threading.Thread(target=body, args=(source,), name=source.name, daemon=True)
        for source in sources
    ]
    for thread in threads:
        thread.start()
    with ended:
        while any(thread.is_alive() for thread in threads) and not _must_restart(failures):
            ended.wait(0.5)
    _judge(failures, len(sources), stop)


def _must_restart(failures: dict[str, Exception]) -> bool:
    """Whether a source failed in a way that a new start may mend, such as a defect."""
    return any(not isinstance(error, FatalError) for error in list(failures.values()))


def _judge(failures: dict[str, Exception], sources: int, stop: threading.Event) -> None:
    restart = [
        error
        for error in failures.values()
        if not isinstance(error, FatalError) or isinstance(error, FencedError)
    ]
    if restart:
        raise restart[0]
    if failures and (len(failures) == sources or not stop.is_set()):
        raise next(iter(failures.values()))
