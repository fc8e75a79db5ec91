"""What every server of a stack can do: start, stop, die, freeze, and say why it is not up."""

from __future__ import annotations

import json
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gravity_devstack.errors import StartError
from gravity_devstack.port import LOOPBACK, free_port, is_free, release
from gravity_devstack.process import Guardian, Process, log_tail
from gravity_devstack.progress import Reporter

READY_POLL_S = 0.05
READY_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0


class NotReady(Exception):  # noqa: N818  The expected answer of a server that is still starting.
    """The server does not answer yet; the text says what was tried."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where one server lives and who looks after it."""

    name: str
    folder: Path
    """Holds `data/`, `tmp/`, `server.log` and `server.json`."""
    guardian: Guardian
    reporter: Reporter


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments and what it needs beside the inherited environment."""

    argv: Sequence[str]
    env: Mapping[str, str]


class Server(ABC):
    """One server process on loopback, with a port that stays the same over restarts."""

    kind: str
    """The word before the colon in a server's specification, such as `mariadb`."""

    def __init__(self, home: Home) -> None:
        """Chooses the port: the one of the last run in the same folder, if it is still free."""
        self.name = home.name
        self.folder = home.folder
        self.host = LOOPBACK
        self.log = home.folder / "server.log"
        self.data = home.folder / "data"
        self.guardian = home.guardian
        self.reporter = home.reporter
        self._process: Process | None = None
        self._ports: list[int] = []
        (home.folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.port = self.remembered_port("port")

    @abstractmethod
    def prepare(self) -> None:
        """Fetches the program and fills `data` where these are missing."""

    @abstractmethod
    def command(self) -> Command:
        """How the server is started on `data` and `port`."""

    @abstractmethod
    def probe(self) -> None:
        """Returns when the server serves.

        Raises:
            NotReady: not yet.
        """

    @property
    def pid(self) -> int:
        """The process id of the running server.

        Raises:
            StartError: it does not run.
        """
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server on its data and port and returns once it serves.

        Raises:
            StartError: it runs already, ended early, or did not answer in time.
        """
        if self.alive:
            raise StartError(
                f"{self.kind} {self.name} runs already",
                where=f"process {self.pid}, port {self.port}",
                remedy="call stop() or kill() first",
            )
        self.prepare()
        command = self.command()
        process = self.guardian.start(
            command.argv, log=self.log, cwd=self.folder, env={**self._tmp(), **command.env}
        )
        self._process = process
        self._wait_until_ready(process)

    def kill(self) -> None:
        """Ends the process by SIGKILL, as a crash would, and returns when it is gone."""
        self._signal(signal.SIGKILL)
        self._wait_until_gone()

    def stop(self) -> None:
        """Shuts the server down in order and returns when it is gone."""
        self.thaw()
        self._signal(signal.SIGTERM)
        self._wait_until_gone()

    def freeze(self) -> None:
        """Suspends the process: connections stay open, nothing answers. `thaw` undoes it."""
        self._signal(signal.SIGSTOP)
        # A signal is on its way for a moment; on a busy machine an answer slips out in it.
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not all(map(_is_stopped, Path(f"/proc/{self.pid}/task").iterdir())):
            if time.monotonic() > deadline:
                raise StartError(
                    f"{self.kind} {self.name} does not stop at its signal",
                    where=f"process {self.pid}",
                    remedy="call kill(), and report this",
                )
            time.sleep(0.001)

    def thaw(self) -> None:
        """Lets a frozen process go on."""
        self._signal(signal.SIGCONT)

    def forget(self) -> None:
        """Gives the ports back, once the stack is closed and nothing listens any more."""
        for port in self._ports:
            release(port)

    def remembered_port(self, label: str) -> int:
        """A port kept under `label` in `server.json`, so that a reused folder keeps addresses."""
        memory = self.folder / "server.json"
        ports = json.loads(memory.read_text()) if memory.exists() else {}
        ports[label] = free_port(ports.get(label))
        self._ports.append(ports[label])
        memory.write_text(json.dumps(ports))
        return int(ports[label])

    def port_open(self) -> bool:
        """Whether something accepts connections on the server's port."""
        try:
            socket.create_connection((self.host, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def _tmp(self) -> dict[str, str]:
        """Temporary files go into the server's folder, or a killed server would leave them."""
        return {"TMPDIR": str(self.folder / "tmp")}

    def _running(self) -> Process:
        if self._process is None:
            raise StartError(
                f"{self.kind} {self.name} was never started",
                where=str(self.folder),
                remedy="call start() first",
            )
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        self._running().signal(number)

    def _wait_until_gone(self) -> None:
        if self._running().wait(STOP_TIMEOUT_S) is None:
            raise StartError(
                f"{self.kind} {self.name} still runs {STOP_TIMEOUT_S:.0f} s after its signal\n"
                f"{log_tail(self.log)}",
                where=f"process {self.pid} (log: {self.log})",
                remedy="call kill(), and report this",
            )

    def _wait_until_ready(self, process: Process) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        reason = "it was not asked"
        while time.monotonic() < deadline:
            if (code := process.poll()) is not None:
                fate = f"ended with code {code} while starting"
                if not is_free(self.port):
                    fate += f"; port {self.port} belongs to another program"
                break
            try:
                self.probe()
            except NotReady as not_ready:
                reason = str(not_ready)
                time.sleep(READY_POLL_S)
            else:
                return
        else:
            fate = f"did not serve within {READY_TIMEOUT_S:.0f} s: {reason}"
            self._signal(signal.SIGKILL)
        raise StartError(
            f"{self.kind} {self.name} {fate}\n{log_tail(self.log)}",
            where=f"{self.host}:{self.port} (log: {self.log})",
            remedy="read the server's last words above",
        )


def _is_stopped(task: Path) -> bool:
    """Whether a thread is stopped, or has ended."""
    try:
        stat = (task / "stat").read_text()
    except FileNotFoundError:
        return True
    # Behind the command's name, which may hold anything, stands the state.
    return stat.rpartition(")")[2].split()[0] in "TtZX"
