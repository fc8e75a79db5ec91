"""A sink as its user runs it: a process of its own on a real broker, fed with messages of our making."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gravity.config import load_config
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.producer import LogProducer
from gravity.plan_compiler import compile_plan
from gravity.testing.target_log import Message
from gravity.topic import Topics, plan_key


class SinkInstallation:
    """One target with its topics and a plan, and the processes that serve it."""

    def __init__(self, folder: Path, configuration: str, *, target: str, package: str) -> None:
        """Writes the configuration to `folder` and makes topics and plan. Starts no process."""
        self._folder = folder
        self._package = package
        self.target = target
        self.path = folder / "gravity.yaml"
        self.path.write_text(configuration)
        self.config = load_config(self.path).config
        self.cluster = self.config.kafka
        self.topics = Topics(self.cluster.topic_prefix)
        TopicAdmin(self.cluster).ensure(
            self.topics.all_specs([], [target], self.cluster.partitions)
        )
        control = ControlTopic(self.cluster, self.topics.control, "test")
        plan = compile_plan(self.config, [])
        control.write(plan_key(plan.version), plan.to_json())
        control.close()
        self._producer = LogProducer(self.cluster, "test")
        self._processes: list[SinkProcess] = []

    def send(self, partition: int, messages: Sequence[Message]) -> None:
        """Appends messages to one partition of the target's topic."""
        for headers, value in messages:
            self._producer.send(self.topics.target(self.target), partition, value, headers)
        self._producer.flush()

    def start(self, *options: str, fault: str = "") -> SinkProcess:
        """A new process of the sink; `fault` as `gravity.fault` reads it."""
        number = len(self._processes)
        timeout = ("--session-timeout-ms", "2000")  # A test can't wait ten seconds for an eviction.
        argv = [sys.executable, "-m", self._package, str(self.path), *timeout, *options]
        process = SinkProcess(argv, self._folder / f"sink-{number}.log", {"GRAVITY_FAULT": fault})
        self._processes.append(process)
        return process

    def progress(self) -> dict[str, Any]:
        """The newest record of each lane in gravity.progress."""
        control = ControlTopic(self.cluster, self.topics.progress, "test")
        try:
            return dict(control.refresh())
        finally:
            control.close()

    def close(self) -> None:
        """Ends every process."""
        for process in self._processes:
            process.kill()


class SinkProcess:
    """One process of a sink."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                argv, stdout=output, stderr=output, env={**os.environ, **env}
            )

    @property
    def alive(self) -> bool:
        """Whether it still exists; a frozen one does."""
        return self._process.poll() is None

    @property
    def frozen(self) -> bool:
        """Whether it is stopped by SIGSTOP."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        return stat.rpartition(")")[2].split()[0] == "T"

    def freeze(self) -> None:
        """Sends SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Sends SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, timeout_s: float = 30.0) -> int:
        """Asks it to end and returns its exit code."""
        self._process.terminate()
        return self._process.wait(timeout_s)

    def wait(self, timeout_s: float = 60.0) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, if it still lives."""
        if self.alive:
            self._process.kill()
            self._process.wait()

    def output(self) -> str:
        """What it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")
