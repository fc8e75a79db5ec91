"""The supervisor with stages that are small programs: what it restarts, what it stops, what it leaves."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gravity import restart
from gravity import supervisor as supervising
from gravity.errors import EXIT_HALTED, EXIT_RESTART, FatalError
from gravity.stage_output import StageOutput
from gravity.supervisor import STAGES, StageCommand, Supervisor, stage_command
from gravity.testing.waiting import wait_until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as in life, only shorter."""
    monkeypatch.setattr(restart, "WAIT_S_MIN", 0.05)
    monkeypatch.setattr(restart, "WAIT_S_MAX", 0.2)


def program(name: str, code: str) -> StageCommand:
    return StageCommand(name, (sys.executable, "-S", "-c", code))


FOREVER = "import signal\nwhile True: signal.pause()"
HALTS = """
import json, sys
print(json.dumps({"stage": "b", "event": "halted", "error": "LostError", "reason": "the binlog is gone"}), file=sys.stderr)
sys.exit(78)
"""
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True: signal.pause()
"""


def supervisor(*stages: StageCommand, **settings: Any) -> tuple[Supervisor, list[str]]:
    lines: list[str] = []
    made = Supervisor(
        Path("unused.yaml"), stages, write_line=lines.append, as_json=True, **settings
    )
    return made, lines


def poll_until(runner: Supervisor, condition: Callable[[], Any]) -> None:
    def is_so() -> Any:
        found = condition()
        if not found:
            runner.poll(0.02)
        return found

    wait_until(is_so, 20, what="what the runner polls for", every_s=0.0)


def living_pid(runner: Supervisor, stage: str) -> int:
    pid = runner.pid(stage)
    assert pid is not None
    return pid


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_killed_stage_is_started_again_and_the_others_are_left_alone() -> None:
    runner, _ = supervisor(program("a", FOREVER), program("b", FOREVER))
    with runner:
        first, other = living_pid(runner, "a"), living_pid(runner, "b")
        os.kill(first, signal.SIGKILL)
        poll_until(runner, lambda: runner.pid("a") not in (None, first))
        assert runner.pid("b") == other
        assert not runner.outcome.failures


def test_a_stage_that_asks_for_it_is_started_again_up_to_a_limit() -> None:
    runner, lines = supervisor(
        program("a", "import sys; print('boom'); sys.exit(70)"),
        program("b", FOREVER),
        failures_max=4,
    )
    with runner:
        other = living_pid(runner, "b")
        poll_until(runner, lambda: runner.is_over)
    outcome = runner.outcome
    assert outcome.exit_code == EXIT_RESTART
    assert [(f.stage, f.what, f.reason) for f in outcome.failures] == [
        ("a", "failed 4 times in a row", "boom")
    ]
    assert sum("boom" in line for line in lines) == 4
    assert not is_alive(other)


def test_pauses_double_up_to_a_bound_and_a_healthy_run_forgives() -> None:
    restarts = restart.Restarts(failures_max=0)
    verdicts = [restarts.ended(70, ran_s=1.0) for _ in range(5)]
    pauses = [verdict.wait_s for verdict in verdicts if isinstance(verdict, restart.Again)]
    assert pauses == [0.05, 0.1, 0.2, 0.2, 0.2]
    assert restarts.ended(-9, ran_s=restart.HEALTHY_S) == restart.Again(0.05, 1)


def test_a_halted_stage_stops_everything_with_its_own_reason() -> None:
    runner, lines = supervisor(program("a", FOREVER), program("b", HALTS))
    runner.start()
    pid = living_pid(runner, "a")
    poll_until(runner, lambda: runner.is_over)
    assert runner.outcome.exit_code == EXIT_HALTED
    assert [(f.stage, f.what, f.reason) for f in runner.outcome.failures] == [
        ("b", "halted", "LostError: the binlog is gone")
    ]
    assert not is_alive(pid)
    assert any("the binlog is gone" in line for line in lines)


def test_with_keep_going_a_halt_stops_only_its_own_stage() -> None:
    runner, _ = supervisor(program("a", FOREVER), program("b", HALTS), keep_going=True)
    with runner:
        poll_until(runner, lambda: runner.outcome.failures)
        assert is_alive(living_pid(runner, "a"))
        assert runner.pid("b") is None
        assert not runner.is_over


def test_a_stage_that_ignores_the_request_is_killed_after_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, lines = supervisor(program("a", STUBBORN), stop_s=1000)
    runner.start()
    pid = living_pid(runner, "a")
    poll_until(runner, lambda: any("deaf" in line for line in lines))
    clock = itertools.count(0.0, 100.0)
    monkeypatch.setattr(supervising, "monotonic_s", lambda: next(clock))
    runner.stop()
    assert not is_alive(pid)
    assert 1000 <= next(clock) < 2000


def test_a_frozen_stage_does_not_outlive_the_stop() -> None:
    runner, _ = supervisor(program("a", FOREVER), stop_s=0.3)
    runner.start()
    pid = living_pid(runner, "a")
    os.kill(pid, signal.SIGSTOP)
    runner.stop()
    assert not is_alive(pid)


def test_a_stage_that_prints_much_between_two_polls_is_not_held_up() -> None:
    runner, lines = supervisor(program("a", "print('x' * 400_000); import sys; sys.exit(78)"))
    with runner:
        wait_until(lambda: runner.pid("a") is None, 20, what="the stage's end")
        poll_until(runner, lambda: runner.is_over)
    assert any("x" * 400_000 in line for line in lines)


PARENT = f"""
import sys
from pathlib import Path
from gravity.supervisor import StageCommand, Supervisor
stages = [StageCommand(name, (sys.executable, "-S", "-c", {STUBBORN!r})) for name in "ab"]
lines = []
runner = Supervisor(Path("unused.yaml"), stages, write_line=lines.append, as_json=True)
runner.start()
while len(lines) < 2:  # Each says so once it is itself: before, it ends when it sees no parent.
    runner.poll(0.05)
print(runner.pid("a"), runner.pid("b"), flush=True)
while True:
    runner.poll(1)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_stage_survives_the_supervisor(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(is_alive, pids))
        parent.send_signal(number)
        parent.wait()
        wait_until(lambda: not any(map(is_alive, pids)), 5, what="the stages' end")


def test_for_programs_every_line_is_json_and_names_its_stage() -> None:
    code = 'print(\'{"stage": "a", "event": "opened", "rows": 3}\'); print("%3|librdkafka"); print("{no json")'
    runner, lines = supervisor(program("a", code + "; import sys; sys.exit(78)"))
    with runner:
        poll_until(runner, lambda: runner.is_over)
    events = [json.loads(line) for line in lines]
    assert {event["stage"] for event in events} == {"a"}
    assert {"stage": "a", "event": "opened", "rows": 3} in events
    assert [e["text"] for e in events if e["event"] == "said"] == ["%3|librdkafka", "{no json"]


def test_on_a_terminal_lines_are_short_and_prefixed() -> None:
    output = StageOutput("router", as_json=False)
    line = output.line(
        b'{"stage":"router","event":"write_failed","level":"warning","timestamp":"2024-05-06T07:08:09Z","n":1}'
    )
    assert line == "router          | 07:08:09 WARNING write_failed n=1"
    assert output.line(b"Traceback") == "router          | Traceback"


@pytest.mark.parametrize(("code", "is_deaf"), [(FOREVER, False), (STUBBORN, True)])
def test_sigterm_ends_a_run_in_order_and_a_second_one_at_once(code: str, is_deaf: bool) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN.replace("CODE", repr(code))], stderr=subprocess.PIPE, text=True
    )
    try:
        assert run.stderr is not None
        pid, deaf = 0, not is_deaf
        while not (pid and deaf):
            # The stage's own words pass by here as well.
            line = run.stderr.readline()
            pid = int(line) if line.strip().isdigit() else pid
            deaf = deaf or "deaf" in line
        run.send_signal(signal.SIGTERM)
        # The first is heard when the stages have been told to end: until then two signals may be one.
        wait_until(
            lambda: not is_deaf or not is_alive(pid) or run.send_signal(signal.SIGTERM),
            20,
            what="the end that a second signal makes",
            every_s=0.3,
        )
        assert run.wait(10) == 0
        assert not is_alive(pid)
    finally:
        run.kill()
        run.communicate()


RUN = """
import sys, threading
from pathlib import Path
from gravity.supervisor import StageCommand, Supervisor
from gravity.testing.waiting import wait_until
runner = Supervisor(Path("unused.yaml"), [StageCommand("a", (sys.executable, "-S", "-c", CODE))], stop_s=60)
def tell():
    print(wait_until(lambda: runner.pid("a"), 20, what="the stage"), file=sys.stderr, flush=True)
threading.Thread(target=tell, daemon=True).start()
sys.exit(runner.run().exit_code)
"""


def test_options_go_only_to_stages_that_have_them() -> None:
    file = Path("g.yaml")
    options: dict[str, Any] = {"sources": ["s"], "targets": ["t"], "adopt": True}
    assert stage_command("collector", file, **options).arguments[2:] == (
        "gravity_collector", "g.yaml", "--source=s",
    )  # fmt: skip
    assert stage_command("router", file, **options).arguments[2:] == ("gravity_router", "g.yaml")
    for stage in STAGES:
        named = stage_command(stage, file, member="host").arguments[2:]
        assert named == (f"gravity_{stage.replace('-', '_')}", "g.yaml", "--member=host")
    assert stage_command("sink-mysql", file, **options).arguments[2:] == (
        "gravity_sink_mysql", "g.yaml", "--target=t", "--adopt",
    )  # fmt: skip
    with pytest.raises(FatalError, match="stages are: collector"):
        stage_command("sink-oracle", file)
