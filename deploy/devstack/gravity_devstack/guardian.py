"""The small process that owns every server of one stack and outlives the runner by a moment.

Run by path, with the standard library only, so that it is up in some 40 ms. It ends its children
and removes the temporary folder as soon as the runner is gone, however the runner went: the
runner's end of the socket is closed by the kernel even after SIGKILL. Should the guardian itself be
killed, PR_SET_PDEATHSIG takes the children along; it is set here, in a process with one thread,
because that signal follows the death of the *thread* that forked.

Requests and replies are one JSON object per line:

    {"op": "start", "argv": [...], "env": {...}, "cwd": "...", "log": "...", "stdin": "..." | null}
    {"op": "signal", "pid": 1, "number": 9}
    {"op": "poll", "pid": 1}
    {"op": "claim", "folder": "..."}
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
TICK_S = 0.02


class Guardian:
    """Children by process id, and the folder that goes with them."""

    def __init__(self, temporary: Path | None, grace_s: float) -> None:
        """Removes `temporary` at the end, if given; a kept folder gives servers `grace_s`."""
        self.temporary = temporary
        self.grace_s = grace_s
        self.children: dict[int, subprocess.Popen[bytes]] = {}
        self.claims: list[int] = []
        self.libc = ctypes.CDLL(None, use_errno=True)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carries out one request; a failure becomes `{"error": text}`."""
        try:
            match request["op"]:
                case "start":
                    return {"pid": self.start(request)}
                case "signal":
                    return self.signal(request["pid"], request["number"])
                case "poll":
                    return {"code": self.children[request["pid"]].poll()}
                case "claim":
                    return self.claim(Path(request["folder"]))
                case unknown:
                    return {"error": f"unknown request {unknown!r}"}
        except (OSError, KeyError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def start(self, request: dict[str, Any]) -> int:
        """Starts a child in a session of its own, its output appended to the log; gives its id."""
        guardian_pid = os.getpid()

        def tie_to_guardian() -> None:
            self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != guardian_pid:  # The guardian died between fork and prctl.
                os._exit(1)

        stdin_path = request["stdin"] or os.devnull
        with Path(request["log"]).open("ab") as log, Path(stdin_path).open("rb") as stdin:
            child = subprocess.Popen(
                request["argv"],
                env=request["env"],
                cwd=request["cwd"],
                stdin=stdin,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=tie_to_guardian,  # noqa: PLW1509  Safe: this process has one thread.
            )
        self.children[child.pid] = child
        return child.pid

    def signal(self, pid: int, number: int) -> dict[str, Any]:
        """Signals a child that was not yet reaped, so the id cannot have been given away."""
        child = self.children[pid]
        if child.poll() is None:
            child.send_signal(number)
        return {}

    def claim(self, folder: Path) -> dict[str, Any]:
        """Locks `folder` for as long as this process lives: one stack per folder."""
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return {"error": "taken"}
        self.claims.append(lock)
        return {}

    def end(self) -> None:
        """Ends every child, gently where their data will be used again, and cleans up."""
        gentle = self.temporary is None
        if gentle:
            self._signal_all(signal.SIGCONT)  # A frozen server cannot obey SIGTERM.
            self._signal_all(signal.SIGTERM)
            deadline = time.monotonic() + self.grace_s
            while self._alive() and time.monotonic() < deadline:
                time.sleep(TICK_S)
        self._signal_all(signal.SIGKILL)
        for child in self._alive():
            child.wait()
        if self.temporary is not None:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _alive(self) -> list[subprocess.Popen[bytes]]:
        return [child for child in self.children.values() if child.poll() is None]

    def _signal_all(self, number: int) -> None:
        """Signals the whole group of each child, since a program such as apt has helpers."""
        for child in self._alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number)


def serve(guardian: Guardian, runner: socket.socket, runner_pid: int) -> None:
    """Answers requests until the runner is gone."""
    selector = selectors.DefaultSelector()
    selector.register(runner, selectors.EVENT_READ)
    # A fork of the runner may hold the socket open; the process handle tells the runner's own end.
    with contextlib.suppress(OSError, AttributeError):
        selector.register(os.pidfd_open(runner_pid), selectors.EVENT_READ)
    buffered = b""
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if runner not in ready:
            return
        received = runner.recv(1 << 16)
        if not received:
            return
        *lines, buffered = (buffered + received).split(b"\n")
        for line in lines:
            runner.sendall(json.dumps(guardian.answer(json.loads(line))).encode() + b"\n")


def main() -> None:
    """Arguments: socket descriptor, runner's process id, grace (s), temporary folder or nothing."""
    descriptor, runner_pid, grace_s, temporary = sys.argv[1:5]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    guardian = Guardian(Path(temporary) if temporary else None, float(grace_s))
    try:
        with contextlib.suppress(ConnectionError):
            serve(guardian, socket.socket(fileno=int(descriptor)), int(runner_pid))
    finally:
        guardian.end()


if __name__ == "__main__":
    main()
