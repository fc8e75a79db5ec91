"""All stages on one machine: child processes that are restarted, told to stop, and never left behind.

One thread does everything. That matters: the kernel ends the children (see `gravity.leash`) when
the thread that started them ends, and a single loop can't deadlock with itself.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from gravity import leash
from gravity.clock import monotonic_s
from gravity.errors import EXIT_HALTED, EXIT_RESTART, FatalError
from gravity.restart import Again, GivenUp, Halted, Restarts
from gravity.stage_output import Ending, StageOutput

if TYPE_CHECKING:
    from gravity.config import Config

log = structlog.get_logger()

SINK_BY_TYPE: Final[Mapping[str, str]] = {
    "mysql": "sink-mysql",
    "clickhouse": "sink-clickhouse",
    "kafka": "sink-kafka",
}
STAGES: Final = ("collector", "router", "resolver", *SINK_BY_TYPE.values())
"""Every stage there is, in the order in which rows pass them."""

STOP_S = 20.0
"""Seconds a stage has for an orderly end before it is killed."""
LINE_BYTES_MAX = 1 << 20
_READ_BYTES = 1 << 16
_PIPE_BYTES = 1 << 20
"""What a stage may print between two calls of `poll`; then it waits."""
_STEP_S = 0.5

WriteLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class StageCommand:
    """A stage as a command line."""

    name: str
    arguments: tuple[str, ...]
    """Program first, as an absolute path."""
    ends_by_itself: bool = False
    """Whether exit code 0 means that it is done, and not that somebody stopped it."""


def stage_command(
    stage: str,
    config_path: Path,
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    adopt: bool = False,
    member: str = "",
) -> StageCommand:
    """How `stage`, such as `sink-mysql`, is run by this interpreter; options it does not have are left out.

    `member` is a name among the processes of the stage that outlives a crash; without one, what a dead
    process had waits for the session timeout.

    Raises:
        FatalError: there is no such stage, or it is not installed.
    """
    if stage not in STAGES:
        raise FatalError(f"no stage is called {stage}", remedy=f"stages are: {', '.join(STAGES)}")
    module = f"gravity_{stage.replace('-', '_')}"
    if importlib.util.find_spec(module) is None:
        raise FatalError(f"stage {stage} is not installed", remedy=f"pip install gravity-{stage}")
    arguments = [sys.executable, "-m", module, str(config_path)]
    if stage == "collector":
        arguments += [f"--source={name}" for name in sources]
    if stage.startswith("sink-"):
        arguments += [f"--target={name}" for name in targets]
        arguments += ["--adopt"] if adopt else []
    arguments += [f"--member={member}"] if member else []
    return StageCommand(stage, tuple(arguments))


class UnknownNameError(FatalError):
    """A source or target was asked for that the configuration does not declare."""


def needed_stages(
    config: Config,
    config_path: Path,
    *,
    sources: Sequence[str] = (),
    targets: Sequence[str] = (),
    adopt: bool = False,
) -> list[StageCommand]:
    """The stages that `config` needs: the three before the targets, and a sink per type of target.

    Empty `sources` or `targets` mean all.

    Raises:
        UnknownNameError: a name that is not declared.
        FatalError: a stage that is not installed.
    """
    _require_known("source", sources, [source.name for source in config.sources])
    _require_known("target", targets, [target.name for target in config.targets])
    # Only one that runs everything may be sure to be the only one of its host.
    member = "" if sources or targets else socket.gethostname()
    commands = [
        stage_command(stage, config_path, sources=sources, member=member)
        for stage in ("collector", "router", "resolver")
    ]
    read = [source for source in config.sources if not sources or source.name in sources]
    if all(source.snapshot == "only" for source in read):
        # The other stages go on: what it has copied is still on its way.
        commands[0] = replace(commands[0], ends_by_itself=True)
    if needs_balance(config):
        program = (sys.executable, "-m", "gravity.cli.main", "balance", str(config_path))
        commands.append(StageCommand("balance", (*program, "--follow")))
    for kind, stage in SINK_BY_TYPE.items():
        names = [t.name for t in config.targets if t.type == kind]
        chosen = [name for name in names if name in targets]
        if chosen or (names and not targets):
            commands.append(
                stage_command(stage, config_path, targets=chosen, adopt=adopt, member=member)
            )
    return commands


def needs_balance(config: Config) -> bool:
    """Whether a rule has its buckets moved by loads."""
    strategies = [route.strategy for route in config.routing]
    strategies += [rule.strategy for rule in config.routing_rules]
    return "least-connections" in strategies


def _require_known(noun: str, names: Sequence[str], declared: Sequence[str]) -> None:
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise UnknownNameError(
            f"no such {noun}: {', '.join(unknown)}",
            remedy=f"declared are: {', '.join(declared) or 'none'}",
        )


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
    """It is not started again."""


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
    """Runs stages until it is told to stop or one of them can't go on.

    Either `run` does everything until a signal; or `start`, then `poll` a few times a second, then
    `stop` (a `with` block starts and stops). All calls come from one thread, which must live as long
    as the stages.
    """

    def __init__(
        self,
        config_path: Path,
        stages: Sequence[StageCommand] | None = None,
        *,
        write_line: WriteLine | None = None,
        as_json: bool | None = None,
        failures_max: int = 20,
        keep_going: bool = False,
        stop_s: float = STOP_S,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts nothing. `stages` None: those that the configuration needs.

        `write_line` takes each line of output (None: stderr gets it), as JSON or as text (`as_json`
        None: text on a terminal); `keep_going` leaves the others running when a stage halts;
        `environment` is added to ours.
        """
        if stages is None:
            from gravity.config import load_config

            stages = needed_stages(load_config(config_path).config, config_path)
        if as_json is None:
            as_json = not sys.stderr.isatty()
        self._write_line = write_line or _to_stderr
        self._keep_going = keep_going
        self._stop_s = stop_s
        self._environment = {**os.environ, **(environment or {})}
        self._children = {
            command.name: _Child(
                command, StageOutput(command.name, as_json=as_json), Restarts(failures_max)
            )
            for command in stages
        }
        self._selector = selectors.DefaultSelector()
        self._stops_asked = 0
        self._exit_code = 0
        self._failures: list[Failure] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages it runs."""
        return tuple(self._children)

    @property
    def is_over(self) -> bool:
        """Whether nothing is kept running any more."""
        return bool(self._stops_asked) or all(c.is_finished for c in self._children.values())

    @property
    def outcome(self) -> Outcome:
        """How it went so far."""
        return Outcome(self._exit_code, tuple(self._failures))

    def pid(self, stage: str) -> int | None:
        """The process of `stage`; None between two. Raises KeyError for a stage it does not run."""
        process = self._children[stage].process
        return None if process is None or process.poll() is not None else process.pid

    def start(self) -> None:
        """Starts every stage."""
        self._start_due()

    def poll(self, timeout_s: float = 0.0) -> Outcome:
        """Passes output on, starts again what has crashed, stops all when a stage can't go on.

        Waits at most `timeout_s` for something to happen.
        """
        if not self.is_over:
            self._start_due()
            self._wait(min(timeout_s, self._next_due_s()))
            self._reap()
        if self.is_over:
            self._end_all()
        return self.outcome

    def stop(self) -> Outcome:
        """Ends all stages: asked first, then killed. Returns when none is left."""
        self._stops_asked += 1
        self._end_all()
        return self.outcome

    def run(self) -> Outcome:
        """Starts all stages and looks after them until SIGINT, SIGTERM, or one can't go on.

        A second signal kills what has not ended yet. Call it from the main thread.
        """
        wake, woken = socket.socketpair()
        before = self._take_signals(wake, woken)
        try:
            while not self.is_over:
                self.poll(_STEP_S)
        finally:
            self._end_all()
            self._give_signals_back(before, wake, woken)
        return self.outcome

    def _take_signals(self, wake: socket.socket, woken: socket.socket) -> dict[int, Any]:
        for end in (wake, woken):
            end.setblocking(False)
        before: dict[int, Any] = {
            number: signal.signal(number, self._stop_was_asked)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        self._selector.register(wake, selectors.EVENT_READ, None)
        return before

    def _give_signals_back(
        self, before: dict[int, Any], wake: socket.socket, woken: socket.socket
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        self._selector.unregister(wake)
        wake.close()
        woken.close()

    def _stop_was_asked(self, *_: object) -> None:
        self._stops_asked += 1

    def _start_due(self) -> None:
        now = monotonic_s()
        for child in self._children.values():
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
            env=self._environment,
            # Ctrl-C reaches the whole group of the terminal; only we are to hear it.
            process_group=0,
        )
        assert child.process.stdout is not None
        descriptor = child.process.stdout.fileno()
        os.set_blocking(descriptor, False)
        with suppress(
            OSError
        ):  # The system's limit for all of a user's pipes: the default will do.
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)
        child.started_s = monotonic_s()

    def _next_due_s(self) -> float:
        now = monotonic_s()
        waits = [
            child.start_at_s - now
            for child in self._children.values()
            if child.process is None and not child.is_finished
        ]
        return max(0.0, min([_STEP_S, *waits]))

    def _wait(self, timeout_s: float) -> None:
        """Passes output on; returns early when there was some, or a signal."""
        for key, _ in self._selector.select(timeout_s):
            if key.data is None:
                assert isinstance(key.fileobj, socket.socket)
                with suppress(BlockingIOError):
                    key.fileobj.recv(_READ_BYTES)
            else:
                self._pass_on(key.data)

    def _pass_on(self, child: _Child) -> bool:
        """Whether there was something to pass on."""
        assert child.process is not None
        assert child.process.stdout is not None
        try:
            data = os.read(child.process.stdout.fileno(), _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(child.process.stdout)
            return False
        child.buffer += data
        *lines, rest = bytes(child.buffer).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        child.buffer = bytearray(rest)
        for line in lines:
            self._show(child, line)
        return True

    def _show(self, child: _Child, line: bytes) -> None:
        text = child.output.line(line)
        if text is not None:
            self._write_line(text)

    def _reap(self) -> None:
        for child in self._children.values():
            if child.process is None or child.process.poll() is None:
                continue
            exit_code = self._bury(child)
            self._judge(child, exit_code, monotonic_s() - child.started_s)

    def _bury(self, child: _Child) -> int:
        """Passes on the last words of a process that has ended; gives its exit code."""
        process = child.process
        assert process is not None
        assert process.stdout is not None
        while process.stdout in self._selector.get_map() and self._pass_on(child):
            pass  # Not until the pipe's end: a grandchild may hold it open.
        with suppress(KeyError):
            self._selector.unregister(process.stdout)
        if child.buffer:
            self._show(child, bytes(child.buffer))
            child.buffer.clear()
        process.stdout.close()
        child.process = None
        return process.returncode

    def _judge(self, child: _Child, exit_code: int, ran_s: float) -> None:
        if exit_code == 0 and child.command.ends_by_itself:
            child.is_finished = True
            log.info("stage_done", done=child.command.name)
            return
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
        living = [child for child in self._children.values() if child.process is not None]
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


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _reason(ending: Ending | None, exit_code: int) -> str:
    """Why a stage ended, in its own last words where it left any."""
    if ending is not None:
        return f"{ending.error}: {ending.reason}" if ending.error else ending.reason
    if exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
