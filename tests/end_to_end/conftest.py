"""One copy of the demo's world per test: own databases, targets and topics on shared servers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from gravity_devstack import Stack

from deploy.demo.__main__ import wait_until_passed
from deploy.demo.judge import Judge
from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ProgressReader
from deploy.demo.servers import Servers, start_servers, write_configuration
from deploy.demo.workload import LiveLoad, fill
from gravity.config import Config, load_config
from tests.oracle.server import executed

_numbers = count(1)


@dataclass
class World:
    """Filled sources, a configuration, and what is needed to judge the targets."""

    servers: Servers
    path: Path
    config: Config
    judge: Judge
    reader: ProgressReader
    rows: int

    def pipeline(self, *options: str) -> Pipeline:
        """`gravity run` on this world, not started."""
        return Pipeline(self.path, options)

    def until_flowing(self, pipeline: Pipeline) -> None:
        """Returns once every source is read and rows arrive."""
        wait_for(
            lambda: (
                any(target.applied for target in self.reader.refresh().targets())
                and all(self.reader.has_begun(name) for name in self.servers.sources)
            ),
            pipeline,
            timeout_s=120,
            what="rows flow from every source",
        )

    def load(self, seconds: float, seed: int = 2) -> LiveLoad:
        """Applications writing to all sources, not started.

        They leave a slow machine room to catch up: what is tested is dying, not the rate.
        """
        return LiveLoad(self.servers, self.rows, seconds=seconds, seed=seed, pause_s=0.03, rests=9)

    def until_passed(self, pipeline: Pipeline) -> None:
        """Returns once every target has passed the last change of every quiet source."""
        wait_until_passed(self.reader, pipeline, self.servers, timeout_s=240)

    @contextlib.contextmanager
    def rivals(self, modules: Sequence[str]) -> Iterator[None]:
        """A second process of each stage, with an empty state folder of its own."""
        folder = self.path.parent / "rival"
        folder.mkdir()
        path = folder / "gravity.yaml"
        text = self.path.read_text(encoding="utf-8")
        path.write_text(
            text.replace(str(self.path.parent / "state"), str(folder / "state")), "utf-8"
        )
        with (folder / "log").open("wb") as log:
            processes = [
                subprocess.Popen([sys.executable, "-m", module, str(path)], stdout=log, stderr=log)
                for module in modules
            ]
            try:
                yield
            finally:
                for process in processes:
                    process.terminate()
                for process in processes:
                    process.wait(60)

    def assert_equal(self) -> None:
        """Every target table and topic holds what the oracle says."""
        wrong = [c for c in self.judge.comparisons() if not c.equal]
        assert not wrong, "\n".join(f"{c}\n  " + "\n  ".join(c.examples) for c in wrong)


@pytest.fixture
def make_world(stack: Stack, tmp_path: Path) -> Iterator[Callable[[int], World]]:
    """Makes a world with that many rows in its larger tables."""

    def make(rows: int) -> World:
        servers = start_servers(stack, f"_e{next(_numbers)}")
        fill(servers, rows)
        start = {name: executed(address) for name, address in servers.sources.items()}
        judge = Judge(servers, start)
        path = write_configuration(servers, tmp_path)
        config = load_config(path).config
        return World(servers, path, config, judge, ProgressReader(config), rows)

    return make
