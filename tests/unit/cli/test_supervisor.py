"""The supervisor with stages that are small programs: what it restarts, what it stops, what it leaves."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gravity.errors import FatalError
from gravity.stage_output import StageOutput
from gravity.supervisor import RestartPolicy, StageCommand, StageEnd, Supervisor, stage_command

QUICK = RestartPolicy(wait_s_min=0.05, wait_s_max=0.2, steady_s=60, crashes_max=4)


def program(name: str, code: str) -> StageCommand:
    return StageCommand(name, (sys.executable, "-S", "-c", code))


FOREVER = "import time\nwhile True: time.sleep(1)"
HALTS = """
import json, sys
print(json.dumps({"stage": "b", "event": "halted", "reason": "the binlog is gone"}), file=sys.stderr)
sys.exit(78)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True: time.sleep(1)
"""


def supervisor(*stages: StageCommand, **settings: Any) -> tuple[Supervisor, io.StringIO]:
    text = io.StringIO()
    made = Supervisor(
        Path("unused.yaml"),
        stages,
        policy=settings.pop("policy", QUICK),
        output=StageOutput(text, pretty=settings.pop("pretty", False)),
        **settings,
    )
    return made, text


def poll_until(runner: Supervisor, condition: Callable[[], Any]) -> list[StageEnd]:
    ends: list[StageEnd] = []
    deadline = time.monotonic() + 20
    while not condition():
        ends += runner.poll()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return ends


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_killed_stage_is_started_again_and_the_others_are_left_alone() -> None:
    runner, _ = supervisor(program("a", FOREVER), program("b", FOREVER))
    with runner:
        first, other = runner.pid("a"), runner.pid("b")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        ends = poll_until(runner, lambda: runner.pid("a") not in (None, first))
        assert [(end.stage, end.exit_code) for end in ends] == [("a", -signal.SIGKILL)]
        assert runner.pid("b") == other
        assert not runner.halts


def test_a_stage_that_asks_for_it_is_started_again_with_growing_pauses_up_to_a_limit() -> None:
    runner, _ = supervisor(program("a", "import sys; print('boom'); sys.exit(70)"))
    with runner:
        ends = poll_until(runner, lambda: runner.is_over)
    assert [end.restart_in_s for end in ends] == [0.05, 0.1, 0.2, None]
    assert "4 times in a row" in runner.halts[0].reason
    assert "boom" in runner.halts[0].reason


def test_a_steady_run_forgives_earlier_crashes() -> None:
    policy = RestartPolicy(wait_s_min=0.01, wait_s_max=0.01, steady_s=0.0, crashes_max=2)
    runner, _ = supervisor(program("a", "import sys; sys.exit(70)"), policy=policy)
    ends: list[StageEnd] = []
    with runner:
        deadline = time.monotonic() + 20
        while len(ends) < 4 and time.monotonic() < deadline:
            ends += runner.poll()
            time.sleep(0.01)
    assert len(ends) >= 4
    assert not runner.halts


def test_a_halted_stage_stops_everything_with_its_own_reason() -> None:
    runner, text = supervisor(program("a", FOREVER), program("b", HALTS))
    runner.start()
    pid = runner.pid("a")
    assert pid is not None
    poll_until(runner, lambda: runner.is_over)
    assert [(end.stage, end.exit_code, end.reason) for end in runner.halts] == [
        ("b", 78, "the binlog is gone")
    ]
    assert not is_alive(pid)
    assert "the binlog is gone" in text.getvalue()


def test_with_keep_going_a_halt_stops_only_its_own_stage() -> None:
    runner, _ = supervisor(program("a", FOREVER), program("b", HALTS), keep_going=True)
    with runner:
        poll_until(runner, lambda: runner.halts)
        pid = runner.pid("a")
        assert pid is not None
        assert is_alive(pid)
        assert runner.pid("b") is None
        assert not runner.is_over


def test_a_stage_that_ignores_the_request_is_killed_after_a_bounded_time() -> None:
    runner, text = supervisor(program("a", STUBBORN), stop_timeout_s=0.3)
    runner.start()
    pid = runner.pid("a")
    assert pid is not None
    poll_until(runner, lambda: "deaf" in text.getvalue())
    began = time.monotonic()
    runner.stop()
    assert time.monotonic() - began < 5
    assert not is_alive(pid)


def test_a_frozen_stage_does_not_outlive_the_stop() -> None:
    runner, _ = supervisor(program("a", FOREVER), stop_timeout_s=0.3)
    runner.start()
    pid = runner.pid("a")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    runner.stop()
    assert not is_alive(pid)


PARENT = f"""
import sys, time
from pathlib import Path
from gravity.supervisor import StageCommand, Supervisor
stages = [StageCommand(name, (sys.executable, "-S", "-c", {STUBBORN!r})) for name in "ab"]
runner = Supervisor(Path("unused.yaml"), stages)
runner.start()
print(runner.pid("a"), runner.pid("b"), flush=True)
while True:
    runner.poll()
    time.sleep(0.05)
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
        deadline = time.monotonic() + 5
        while any(map(is_alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not [pid for pid in pids if is_alive(pid)]


def test_for_programs_every_line_is_json_and_names_its_stage() -> None:
    code = 'print(\'{"stage": "a", "event": "opened", "rows": 3}\'); print("%3|librdkafka"); print("{no json")'
    runner, text = supervisor(program("a", code + "; import sys; sys.exit(78)"))
    with runner:
        poll_until(runner, lambda: runner.is_over)
    events = [json.loads(line) for line in text.getvalue().splitlines()]
    assert {event["stage"] for event in events} == {"a"}
    assert {"stage": "a", "event": "opened", "rows": 3} in events
    assert [event["text"] for event in events if event["event"] == "printed"] == [
        "%3|librdkafka",
        "{no json",
    ]


def test_on_a_terminal_lines_are_short_and_prefixed() -> None:
    text = io.StringIO()
    output = StageOutput(text, pretty=True)
    output.line(
        "router",
        '{"stage":"router","event":"write_failed","level":"warning","timestamp":"2024-05-06T07:08:09Z","n":1}',
    )
    output.line("router", "Traceback")
    first, second = text.getvalue().splitlines()
    assert first.startswith("\x1b[36mrouter")
    assert "07:08:09" in first
    assert "write failed" in first
    assert "n=1" in first
    assert second.endswith("│ Traceback")


def test_options_go_only_to_stages_that_have_them() -> None:
    file = Path("g.yaml")
    options: dict[str, Any] = {"sources": ["s"], "targets": ["t"], "adopt": True}
    assert stage_command("collector", file, **options).arguments[2:] == (
        "gravity_collector", "g.yaml", "--source=s",
    )  # fmt: skip
    assert stage_command("router", file, **options).arguments[2:] == ("gravity_router", "g.yaml")
    assert stage_command("sink-mysql", file, **options).arguments[2:] == (
        "gravity_sink_mysql", "g.yaml", "--target=t", "--adopt",
    )  # fmt: skip
    with pytest.raises(FatalError, match="stages are: collector"):
        stage_command("sink-oracle", file)
