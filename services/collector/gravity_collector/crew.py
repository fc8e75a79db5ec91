"""The sources of one process, a thread each: what befalls one delays no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog

from gravity.clock import monotonic_s
from gravity.errors import EXIT_RESTART, FatalError, FencedError
from gravity.restart import Again, Restarts
from gravity.stage import report_failure

log = structlog.get_logger()

FAILURES_MAX: Final = 20
"""Failures of one source in a row, other than halts, after which the process ends to begin anew."""
FENCED_PAUSE_S: Final = 10.0
"""Before a source that we are told to hold is taken back from somebody who took it without being told."""

Collect = Callable[[str, threading.Event], bool]
"""Collects the named source until the event is set, or (true) nothing is left to do for good.

What it raises says what comes next."""


@dataclass(slots=True)
class _Post:
    """One source that this process is to collect."""

    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    restarts: Restarts = field(default_factory=lambda: Restarts(FAILURES_MAX))
    failure: Exception | None = None
    is_done: bool = False
    """Whether nothing is left to do for good."""
    started_s: float = 0.0
    start_at_s: float | None = None
    """When it is started again; None while it runs, or for good."""

    @property
    def is_over(self) -> bool:
        """Whether it neither runs nor will."""
        return self.thread is None and self.start_at_s is None


class Crew:
    """Threads that collect sources. All calls come from one thread."""

    def __init__(
        self,
        collect: Collect,
        *,
        fenced_pause_s: float | None = FENCED_PAUSE_S,
        monotonic: Callable[[], float] = monotonic_s,
    ) -> None:
        """`fenced_pause_s` None: a source that was taken over ends the process."""
        self._collect = collect
        self._fenced_pause_s = fenced_pause_s
        self._monotonic = monotonic
        self._posts: dict[str, _Post] = {}
        self._ended = threading.Event()

    @property
    def names(self) -> Collection[str]:
        """The sources that are held."""
        return self._posts.keys()

    @property
    def done(self) -> Collection[str]:
        """The sources of which, when they ended, nothing was left to do."""
        return [name for name, post in self._posts.items() if post.is_over and post.is_done]

    def start(self, names: Iterable[str]) -> None:
        """Begins to collect these sources."""
        for name in names:
            post = self._posts[name] = _Post()
            self._run(name, post)

    def stop(self, names: Iterable[str], *, within_s: float) -> list[str]:
        """Ends these: spans are finished, checkpoints written. Returns those that were not ready in time.

        Such a thread goes on until it finds its end or a fence; it writes nothing that counts.
        """
        posts = {name: self._posts.pop(name) for name in list(names) if name in self._posts}
        for post in posts.values():
            post.stop.set()
        deadline = self._monotonic() + within_s
        late = []
        for name, post in posts.items():
            if post.thread is not None:
                post.thread.join(max(0.0, deadline - self._monotonic()))
                if post.thread.is_alive():
                    late.append(name)
        if late:
            log.warning("sources_still_ending", sources=late, waited_s=within_s)
        return late

    def wait(self, timeout_s: float) -> None:
        """Returns when a source's thread ends, or after `timeout_s`."""
        self._ended.wait(timeout_s)

    def tend(self) -> None:
        """Starts again what is due, and judges what has ended.

        Raises:
            FencedError: a source was taken over, and that ends the process.
            Exception: a source failed again and again; a new process may do better.
        """
        self._ended.clear()
        now = self._monotonic()
        for name, post in self._posts.items():
            if post.thread is not None and not post.thread.is_alive():
                post.thread = None
                post.start_at_s = self._start_at(post, now)
            if post.start_at_s is not None and post.start_at_s <= now:
                self._run(name, post)

    def _start_at(self, post: _Post, now: float) -> float | None:
        """When a source whose thread has ended is started again; None when it has halted by name."""
        failure = post.failure
        if post.is_done:
            return None
        if isinstance(failure, FencedError):
            if self._fenced_pause_s is None:
                raise failure
            return now + self._fenced_pause_s
        if isinstance(failure, FatalError):
            return None
        verdict = post.restarts.ended(EXIT_RESTART, ran_s=now - post.started_s)
        if isinstance(verdict, Again):
            return now + verdict.wait_s
        raise failure or RuntimeError("a source's thread ended again and again without a reason")

    def raise_if_all_halted(self, names: Collection[str]) -> None:
        """Raises the last reason when all sources of `names` are held and have halted by name."""
        posts = [self._posts.get(name) for name in names]
        over = [post for post in posts if post is not None and post.is_over]
        failures = [post.failure for post in over if post.failure is not None]
        if failures and len(over) == len(posts):
            raise failures[-1]

    def are_all_done(self, names: Collection[str]) -> bool:
        """Whether all sources of `names` are held, and nothing is left to do for any."""
        posts = [self._posts.get(name) for name in names]
        return all(post is not None and post.is_over and post.is_done for post in posts)

    def _run(self, name: str, post: _Post) -> None:
        post.start_at_s, post.failure, post.started_s = None, None, self._monotonic()

        def body() -> None:
            structlog.contextvars.bind_contextvars(stage="collector", source=name)
            try:
                post.is_done = self._collect(name, post.stop)
            except Exception as error:  # noqa: BLE001 - the thread's outermost frame: kept, reported, judged by tend
                report_failure(error)
                post.failure = error
            finally:
                self._ended.set()

        post.thread = threading.Thread(target=body, name=name, daemon=True)
        post.thread.start()
