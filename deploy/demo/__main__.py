"""`python -m deploy.demo`: starts real servers, copies between them under load, judges every target."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from gravity_devstack import Stack
from rich.console import Console
from rich.live import Live
from rich.table import Table

from deploy.demo.judge import Judge
from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ENDS, ProgressReader
from deploy.demo.servers import Servers, start_servers, write_configuration
from deploy.demo.workload import LiveLoad, fill
from gravity.clock import now_us
from gravity.config import Config, load_config
from tests.oracle.server import executed

CATCH_UP_S = 300.0
"""Longest wait for the targets after the last write."""
_VIEW_S = 0.5

console = Console()


def _say(text: str, since: float) -> None:
    console.print(f"[dim]{time.monotonic() - since:6.1f} s[/]  {text}")


def _view(reader: ProgressReader, before: dict[str, int], seconds: float) -> Table:
    table = Table(
        "target", "rows applied", "rows/s", "dead letters", "lag by source (ms)", title="pipeline"
    )
    for target in reader.targets():
        rate = (target.applied - before.get(target.name, 0)) / seconds if seconds else 0.0
        lag = "  ".join(f"{source} {ms}" for source, ms in target.lag_ms.items())
        table.add_row(target.name, f"{target.applied:,}", f"{rate:,.0f}", str(target.dead), lag)
        before[target.name] = target.applied
    return table


@contextlib.contextmanager
def _screen() -> Iterator[Live | None]:
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield live


def _run_load(reader: ProgressReader, pipeline: Pipeline, load: LiveLoad, began: float) -> None:
    before: dict[str, int] = {}
    last = time.monotonic()
    with _screen() as live:
        load.start()
        while load.running:
            pipeline.check()
            time.sleep(_VIEW_S)
            reader.refresh()
            now = time.monotonic()
            view = _view(reader, before, now - last)
            last = now
            if live is not None:
                live.update(view)
    if load.failures:
        raise load.failures[0]
    if not console.is_terminal:
        console.print(_view(reader, before, 0.0))
    _say(f"{load.transactions:,} transactions written while the copy ran", began)


def final_positions(servers: Servers) -> dict[str, tuple[int, int]]:
    """(file number, offset) of everything that the sources have committed."""
    finals = {}
    for name, address in servers.sources.items():
        file_name, offset = executed(address)
        finals[name] = (int(file_name.rpartition(".")[2]), offset)
    return finals


def wait_until_passed(
    reader: ProgressReader, pipeline: Pipeline, servers: Servers, *, timeout_s: float
) -> None:
    """Returns once every target has passed all that the quiet sources hold."""
    wait_for(
        lambda: all(reader.refresh().is_copied(name) for name in servers.sources),
        pipeline,
        timeout_s=timeout_s,
        what="the sources' existing rows are published",
    )
    finals, since_us = final_positions(servers), now_us()
    wait_for(
        lambda: not reader.refresh().behind(finals, since_us),
        pipeline,
        timeout_s=timeout_s,
        what="every target passes the sources' last change",
    )


def _copy_under_load(
    servers: Servers, config: Config, pipeline: Pipeline, load: LiveLoad, began: float
) -> None:
    reader = ProgressReader(config)
    wait_for(
        lambda: any(target.applied for target in reader.refresh().targets()),
        pipeline,
        timeout_s=CATCH_UP_S,
        what="the first row at a target",
    )
    _say("first row at a target", began)
    wait_for(
        lambda: all(reader.refresh().has_begun(name) for name in servers.sources),
        pipeline,
        timeout_s=CATCH_UP_S,
        what="every source is being read",
    )
    try:
        _run_load(reader, pipeline, load, began)
    finally:
        load.stop()
    wait_until_passed(reader, pipeline, servers, timeout_s=CATCH_UP_S)
    _say("every target has passed the sources' last change", began)
    pairs = [(s.name, t.name) for s in config.sources for t in config.targets]
    wait_for(
        lambda: all(reader.refresh().conserved(*pair) for pair in pairs),
        pipeline,
        timeout_s=CATCH_UP_S,
        what="applied + superseded + filtered = read, for every source and target",
    )
    console.print("\n[bold]source target read = applied + superseded + filtered[/]")
    for source, target in pairs:
        ended = reader.ended(source, target)
        sums = " + ".join(str(ended.get(how, 0)) for how in ENDS)
        console.print(f"{source} {target} {reader.collected(source)} = {sums}", highlight=False)


def run_demo(rows: int, seconds: float) -> bool:
    """The whole demo; whether every target equals the oracle."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gravity-demo-") as folder, Stack() as stack:
        _say("starting Kafka, three MariaDB, MySQL and ClickHouse", began)
        servers = start_servers(stack)
        _say("servers are up; filling the sources", began)
        fill(servers, rows)
        start = {name: executed(address) for name, address in servers.sources.items()}
        judge = Judge(servers, start)
        path = write_configuration(servers, Path(folder))
        loaded = load_config(path)
        for notice in loaded.notices:
            console.print(f"[yellow]{notice}[/]")
        with Pipeline(path) as pipeline:
            _say("gravity run started", began)
            load = LiveLoad(servers, rows, seconds=seconds)
            _copy_under_load(servers, loaded.config, pipeline, load, began)
        equal = True
        console.print("\n[bold]target table rows checksum verdict[/]")
        for comparison in judge.comparisons():
            console.print(str(comparison), highlight=False)
            for example in comparison.examples:
                console.print(f"    {example}", highlight=False)
            equal &= comparison.equal
    _say("all equal" if equal else "[red]DIFFERENT[/]", began)
    return equal


def main(
    rows: Annotated[
        int, typer.Option(help="Rows in each of the larger tables at the start.")
    ] = 3000,
    seconds: Annotated[float, typer.Option(help="How long the applications go on writing.")] = 20.0,
) -> None:
    """Copies between real servers on this machine and compares every target with the sources."""
    sys.exit(0 if run_demo(rows, seconds) else 1)


if __name__ == "__main__":
    typer.run(main)
