"""Child processes never outlive their runner, whichever way it goes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from gravity_devstack.errors import StartError
from gravity_devstack.process import Guardian, Process

from gravity.testing.waiting import wait_until

DEADLINE_S = 15.0
SLEEP = ("sleep", "600")


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that waits for its parent."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def start_sleep(guardian: Guardian, folder: Path) -> Process:
    return guardian.start(SLEEP, log=folder / "log", cwd=folder)


def test_children_and_temporary_folder_go_with_the_block(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with Guardian(temporary) as guardian:
        child = start_sleep(guardian, temporary)
        assert is_running(child.pid)
        assert child.poll() is None
    assert not is_running(child.pid)
    assert not temporary.exists()


def test_a_kept_folder_is_kept_and_children_are_asked_politely(tmp_path: Path) -> None:
    script = "trap 'echo polite > told; exit 0' TERM; touch ready; while :; do sleep 0.05; done"
    with Guardian() as guardian:
        child = guardian.start(["sh", "-c", script], log=tmp_path / "log", cwd=tmp_path)
        wait_until((tmp_path / "ready").exists, what="trap is set")
        child.signal(signal.SIGSTOP)  # Frozen: it can obey only after being woken.
    assert (tmp_path / "told").read_text() == "polite\n"


RUNNER = """
import signal, sys
from pathlib import Path
from gravity_devstack.process import Guardian
# A shell's jobs in the background ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
guardian = Guardian(folder)
child = guardian.start(["sleep", "600"], log=folder / "log", cwd=folder)
print(guardian.pid, child.pid, flush=True)
while True: signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_runner_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(temporary)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as runner:
        assert runner.stdout
        guardian_pid, child_pid = map(int, runner.stdout.readline().split())
        assert is_running(child_pid)
        runner.send_signal(number)
        runner.wait()
    wait_until(lambda: not is_running(child_pid), what="the child is gone")
    wait_until(lambda: not temporary.exists(), what="the folder is gone")
    wait_until(lambda: not is_running(guardian_pid), what="the guardian is gone")


def test_children_go_with_a_killed_guardian(tmp_path: Path) -> None:
    with Guardian() as guardian:
        child = start_sleep(guardian, tmp_path)
        os.kill(guardian.pid, signal.SIGKILL)
        wait_until(lambda: not is_running(child.pid), what="the child is gone")
        with pytest.raises(StartError, match="guardian process of the stack is gone"):
            child.poll()


def test_exit_codes_are_told(tmp_path: Path) -> None:
    with Guardian() as guardian:
        child = guardian.start(["sh", "-c", "exit 7"], log=tmp_path / "log", cwd=tmp_path)
        assert child.wait(DEADLINE_S) == 7
        killed = start_sleep(guardian, tmp_path)
        killed.signal(signal.SIGKILL)
        assert killed.wait(DEADLINE_S) == -signal.SIGKILL


def test_a_failed_program_is_told_with_its_last_words(tmp_path: Path) -> None:
    with Guardian() as guardian, pytest.raises(StartError) as caught:
        guardian.run(["sh", "-c", "echo no such luck; exit 3"], log=tmp_path / "l", cwd=tmp_path)
    assert "ended with code 3" in str(caught.value)
    assert "no such luck" in str(caught.value)


def test_a_program_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with Guardian() as guardian, pytest.raises(StartError, match="cannot execute"):
        guardian.start(["/no/such/program"], log=tmp_path / "log", cwd=tmp_path)


def test_a_folder_belongs_to_one_guardian(tmp_path: Path) -> None:
    with Guardian() as first:
        assert first.claim(tmp_path)
        with Guardian() as second:
            assert not second.claim(tmp_path)
    with Guardian() as third:
        assert third.claim(tmp_path)
