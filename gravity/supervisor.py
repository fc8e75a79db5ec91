"""All stages on one machine: child processes that are restarted, told to stop, and never left behind.

One thread does everything. That matters: the kernel ends the children (see `gravity.leash`) when
the thread that started them ends, and a single loop can't deadlock with itself.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from gravity import leash
from gravity.clock import monotonic_s
from gravity.errors import EXIT_HALTED, EXIT_RESTART
from gravity.restart import Again, GivenUp, Halted, Restarts
from gravity.stage_output import Ending, StageOutput

log = structlog.get_logger()

STOP_S = 20.0
"""Seconds a stage has for an orderly end before it is killed."""
LINE_BYTES_MAX = 1 << 20
_READ_BYTES = 1 << 16
_STEP_S = 0.5

WriteLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StageCommand:
    """A stage as a command line."""

    name: str
    arguments: tuple[str, ...]
    """Program first, as an absolute path."""


def stage_command(stage: str, config: Path, options: Sequence[str] = ()) -> StageCommand:
    """How `stage`, such as `sink-mysql`, is run by this interpreter."""
    module = f"gravity_{stage.replace('-', '_')}"
    return StageCommand(stage, (sys.executable, "-m", module, str(config), *options))


@dataclass(slots=True)
class _Child:
    command: StageCommand
    output: StageOutput
    restarts: Restarts
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    start_at_s: float = 0.0
    buffer: bytearray = field(default_factory=bytearray)
    is_finished: bool = False
    """It has halted, and is not started again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A stage that can't go on, and why."""

    stage: str
    what: str
    """`halted`, or how often it failed."""
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    exit_code: int
    """0: as asked; EXIT_HALTED: a stage halted by name; EXIT_RESTART: one failed again and again."""
    failures: tuple[Failure, ...]


class Supervisor:
    """Runs stages until it is told to stop or one of them can't go on."""

    def __init__(
        self,
        commands: Sequence[StageCommand],
        write_line: WriteLine,
        *,
        as_json: bool,
        failures_max: int = 20,
        keep_going: bool = False,
        stop_s: float = STOP_S,
    ) -> None:
        """`write_line` takes each line of output; `keep_going` leaves the others running when one halts."""
        self._write_line = write_line
        self._keep_going = keep_going
        self._stop_s = stop_s
        self._children = [
            _Child(command, StageOutput(command.name, as_json=as_json), Restarts(failures_max))
            for command in commands
        ]
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._stops_asked = 0
        self._exit_code = 0
        self._failures: list[Failure] = []

    def run(self) -> Outcome:
        """Starts all stages and looks after them until SIGINT, SIGTERM, or one can't go on.

        A second signal kills what has not ended yet. Call it from the main thread.
        """
        before = self._take_signals()
        try:
            while not self._stops_asked and not all(child.is_finished for child in self._children):
                self._start_due()
                self._wait(self._next_due_s())
                self._reap()
        finally:
            self._end_all()
            self._give_signals_back(before)
        return Outcome(self._exit_code, tuple(self._failures))

    def _take_signals(self) -> dict[int, Any]:
        for end in (self._wake, self._woken):
            end.setblocking(False)  # noqa: FBT003 - the socket's own way
        before = {
            number: signal.signal(number, self._stop_was_asked)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        return before

    def _give_signals_back(self, before: dict[int, Any]) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        self._selector.close()
        self._wake.close()
        self._woken.close()

    def _stop_was_asked(self, *_: object) -> None:
        self._stops_asked += 1

    def _start_due(self) -> None:
        now = monotonic_s()
        for child in self._children:
            if child.process is None and not child.is_finished and child.start_at_s <= now:
                self._start(child)

    def _start(self, child: _Child) -> None:
        child.output.begin()
        child.process = subprocess.Popen(  # noqa: S603 - our own stages, run by our own interpreter
            [
                *(sys.executable, "-I", "-S", str(Path(leash.__file__).resolve())),
                *(str(os.getpid()), *child.command.arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the whole group of the terminal; only we are to hear it.
            process_group=0,
        )
        assert child.process.stdout is not None
        os.set_blocking(child.process.stdout.fileno(), False)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)
        child.started_s = monotonic_s()
        log.debug("stage_started", started=child.command.name, pid=child.process.pid)

    def _next_due_s(self) -> float:
        now = monotonic_s()
        waits = [c.start_at_s - now for c in self._children if not c.process and not c.is_finished]
        return max(0.0, min([_STEP_S, *waits]))

    def _wait(self, timeout_s: float) -> None:
        """Passes output on; returns early when there was some, or a signal."""
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                with suppress(BlockingIOError):
                    self._wake.recv(_READ_BYTES)
            else:
                self._pass_on(key.data)

    def _pass_on(self, child: _Child) -> None:
        assert child.process is not None
        assert child.process.stdout is not None
        try:
            data = os.read(child.process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(child.process.stdout)
            return
        child.buffer += data
        *lines, rest = bytes(child.buffer).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        child.buffer = bytearray(rest)
        for line in lines:
            self._write_line(child.output.line(line))

    def _reap(self) -> None:
        for child in self._children:
            if child.process is None or child.process.poll() is None:
                continue
            exit_code = self._bury(child)
            ran_s = monotonic_s() - child.started_s
            self._judge(child, exit_code, ran_s)

    def _bury(self, child: _Child) -> int:
        """Passes on the last words of a process that has ended; gives its exit code."""
        process = child.process
        assert process is not None
        assert process.stdout is not None
        while process.stdout in self._selector.get_map():
            before = len(child.buffer)
            self._pass_on(child)
            if len(child.buffer) == before:
                break  # A grandchild may hold the pipe open.
        with suppress(KeyError):
            self._selector.unregister(process.stdout)
        if child.buffer:
            self._write_line(child.output.line(bytes(child.buffer)))
            child.buffer.clear()
        process.stdout.close()
        child.process = None
        return process.returncode

    def _judge(self, child: _Child, exit_code: int, ran_s: float) -> None:
        verdict = child.restarts.ended(exit_code, ran_s=ran_s)
        name, reason = child.command.name, _reason(child.output.ending, exit_code)
        match verdict:
            case Again():
                child.start_at_s = monotonic_s() + verdict.wait_s
                log.warning(
                    "stage_restarted",
                    failed=name,
                    failures=verdict.failures,
                    in_s=verdict.wait_s,
                    reason=reason,
                )
            case Halted():
                self._finish(child, EXIT_HALTED, Failure(name, "halted", reason))
            case GivenUp():
                what = f"failed {verdict.failures} times in a row"
                self._finish(child, EXIT_RESTART, Failure(name, what, reason))

    def _finish(self, child: _Child, exit_code: int, failure: Failure) -> None:
        """Leaves a stage down, and with it all others unless they are to go on."""
        child.is_finished = True
        self._exit_code = max(self._exit_code, exit_code)
        self._failures.append(failure)
        log.error("stage_given_up", failed=failure.stage, what=failure.what, reason=failure.reason)
        if not self._keep_going:
            self._stops_asked += 1

    def _end_all(self) -> None:
        """Ends every child: asked first, then killed. Waits until none is left."""
        living = [child for child in self._children if child.process is not None]
        for child in living:
            assert child.process is not None
            child.process.terminate()
        deadline, asked = monotonic_s() + self._stop_s, self._stops_asked
        while (living := self._still_living(living)) and monotonic_s() < deadline:
            if self._stops_asked > asked:
                break
            self._wait(min(_STEP_S, max(0.0, deadline - monotonic_s())))
        for child in living:
            assert child.process is not None
            log.warning("stage_killed", killed=child.command.name)
            child.process.kill()
        for child in living:
            assert child.process is not None
            child.process.wait()
            self._bury(child)

    def _still_living(self, children: list[_Child]) -> list[_Child]:
        left = []
        for child in children:
            assert child.process is not None
            if child.process.poll() is None:
                left.append(child)
            else:
                self._bury(child)
        return left


def _reason(ending: Ending | None, exit_code: int) -> str:
    """Why a stage ended, in its own last words where it left any."""
    if ending is not None:
        return f"{ending.error}: {ending.reason}" if ending.error else ending.reason
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
