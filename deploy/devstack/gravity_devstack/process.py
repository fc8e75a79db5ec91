"""Child processes that cannot outlive the program which started them.

All of them are children of one guardian process (see `guardian.py`), reached over a socket.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gravity_devstack import guardian as guardian_program
from gravity_devstack.errors import StartError

POLL_S = 0.02
LOG_TAIL_LINES = 25


def log_tail(log: Path, lines_max: int = LOG_TAIL_LINES) -> str:
    """The last lines of `log`, indented for an error message; empty when there is no log."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(f"    | {line}" for line in lines[-lines_max:])


class Guardian:
    """Starts processes that end with the `with` block, or with this program, however that ends."""

    def __init__(self, temporary: Path | None = None, *, grace_s: float = 15.0) -> None:
        """Removes `temporary`, if given, at the end; otherwise gives children `grace_s` to stop."""
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._replies = ours.makefile("rb")
        self._turn = threading.Lock()
        self._grace_s = grace_s
        program = str(Path(guardian_program.__file__).resolve())
        self._child = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", program),
                *(str(theirs.fileno()), str(os.getpid()), str(grace_s), str(temporary or "")),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the runner only, which then ends us in order.
        )
        theirs.close()

    def __enter__(self) -> Self:
        """Nothing more: the guardian runs since construction."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all children."""
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the guardian itself."""
        return self._child.pid

    def claim(self, folder: Path) -> bool:
        """Whether `folder` now belongs to this guardian alone, until it ends."""
        reply = self._request({"op": "claim", "folder": str(folder)})
        if reply.get("error") == "taken":
            return False
        self._raise_on_error(reply, f"cannot lock {folder}")
        return True

    def start(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: Path | None = None,
    ) -> Process:
        """A new child whose output is appended to `log`; `env` is added to the environment.

        Raises:
            StartError: the program cannot be executed.
        """
        reply = self._request(
            {
                "op": "start",
                "argv": list(argv),
                "env": {**os.environ, **(env or {})},
                "cwd": str(cwd),
                "log": str(log),
                "stdin": str(stdin) if stdin else None,
            }
        )
        self._raise_on_error(reply, f"cannot execute {argv[0]}")
        return Process(self, int(reply["pid"]), log)

    def run(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: Path | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        """Runs a program to its end.

        Raises:
            StartError: it could not be started, failed, or took longer than `timeout_s`.
        """
        process = self.start(argv, log=log, cwd=cwd, env=env, stdin=stdin)
        code = process.wait(timeout_s)
        if code != 0:
            fate = (
                f"took more than {timeout_s:.0f} s" if code is None else f"ended with code {code}"
            )
            process.signal(signal.SIGKILL)
            raise StartError(
                f"{Path(argv[0]).name} {fate}\n{log_tail(log)}",
                where=f"{' '.join(argv[:6])} ... (log: {log})",
                remedy="read the lines above; the program's own words say what it misses",
            )

    def close(self) -> None:
        """Ends all children and waits until they are gone. Harmless when repeated."""
        if self._socket.fileno() == -1:
            return
        self._replies.close()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._child.wait(self._grace_s + 30)

    def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """The guardian's reply to `message`.

        Raises:
            StartError: the guardian is gone or refuses.
        """
        reply = self._request(message)
        self._raise_on_error(reply, f"request {message['op']!r} refused")
        return reply

    def _request(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            with self._turn:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
                line = self._replies.readline()
        except (OSError, ValueError):  # ValueError: the stack was closed in another thread.
            line = b""
        if not line:
            raise StartError(
                "the guardian process of the stack is gone",
                where=f"process {self.pid}",
                remedy="the stack was closed, or the process killed: start a new stack",
            )
        reply: dict[str, Any] = json.loads(line)
        return reply

    @staticmethod
    def _raise_on_error(reply: dict[str, Any], what: str) -> None:
        if "error" in reply:
            raise StartError(
                what, where=str(reply["error"]), remedy="check the path and its rights"
            )


class Process:
    """One child of a guardian."""

    def __init__(self, guardian: Guardian, pid: int, log: Path) -> None:
        """Names the child; it runs already."""
        self._guardian = guardian
        self.pid = pid
        self.log = log

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing happens when the child has ended."""
        self._guardian.request({"op": "signal", "pid": self.pid, "number": int(number)})

    def poll(self) -> int | None:
        """The exit code (negative: the signal that ended it), or None while it runs."""
        code: int | None = self._guardian.request({"op": "poll", "pid": self.pid})["code"]
        return code

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None if the child still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return code
