"""Tells a waiting person what is being fetched or prepared, on the standard error stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

MB = 1_000_000


class Reporter:
    """Bars on a terminal, one line per finished step elsewhere. Threads may share one."""

    def __init__(self, console: Console | None = None) -> None:
        """Writes to `console`, by default standard error. Shows nothing until there is work."""
        self.console = console or Console(stderr=True)
        self._bars: Progress | None = None
        self._open = 0
        self._turn = threading.Lock()

    @contextmanager
    def step(self, label: str, bytes_total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Shows `label` while the block runs; call the yielded function with each byte count."""
        started_s = time.monotonic()
        bars = self._enter()
        task = bars.add_task(label, total=bytes_total) if bars else None

        def advance(byte_count: int) -> None:
            if bars and task is not None:
                bars.update(task, advance=byte_count)

        try:
            yield advance
        finally:
            if bars and task is not None:
                bars.remove_task(task)
            self._leave()
        size = f", {bytes_total / MB:.0f} MB" if bytes_total else ""
        took_s = time.monotonic() - started_s
        self.console.print(f"{label}: done in {took_s:.1f} s{size}", highlight=False)

    def _enter(self) -> Progress | None:
        if not self.console.is_terminal:
            return None
        with self._turn:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(),
                    DownloadColumn(),
                    TransferSpeedColumn(),
                    console=self.console,
                    transient=True,
                )
            if self._open == 0:
                self._bars.start()
            self._open += 1
            return self._bars

    def _leave(self) -> None:
        if not self.console.is_terminal:
            return
        with self._turn:
            self._open -= 1
            if self._open == 0 and self._bars:
                self._bars.stop()
