"""`gravity run` as a user would start it, in a process of its own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from gravity.testing.waiting import wait_until

STOP_S = 60.0
_TAIL_BYTES = 4000


class PipelineEndedError(RuntimeError):
    """`gravity run` has ended by itself; the text is the end of its log."""


class Pipeline:
    """All stages of one configuration. Leaves none behind."""

    def __init__(self, config: Path, options: Sequence[str] = ()) -> None:
        self._config = config
        self._options = options
        self.log = config.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts `gravity run`; its output goes to `log`."""
        command = Path(sys.executable).with_name("gravity")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and file
                [str(command), "run", str(self._config), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def check(self) -> None:
        """Raises PipelineEndedError when `gravity run` has ended."""
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise PipelineEndedError(f"gravity run ended with {code}:\n{self.log_tail()}")

    def wait(self, timeout_s: float) -> int:
        """The exit code of `gravity run` once it ends by itself."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def log_tail(self) -> str:
        """The end of what the stages said."""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace")

    def pid(self, module: str) -> int | None:
        """The process of a stage, such as `gravity_router`; None while it is down."""
        assert self._process is not None
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError):
                words = folder.joinpath("cmdline").read_bytes().split(b"\x00")
                parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                if module.encode() in words and int(parent) == self._process.pid:
                    return int(folder.name)
        return None

    def stop(self) -> None:
        """Ends all stages: asked first, then killed."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Ends `gravity run` without a word; its stages go with it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()


def wait_for(
    condition: Callable[[], object],
    pipeline: Pipeline,
    *,
    timeout_s: float,
    what: str,
    every_s: float = 0.1,
) -> None:
    """Returns once `condition()` is true. Raises when the pipeline ends or time runs out."""

    def is_so() -> object:
        found = condition()
        if not found:
            pipeline.check()
        return found

    wait_until(is_so, timeout_s, what=what, every_s=every_s, tell=pipeline.log_tail)
