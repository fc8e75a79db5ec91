"""The collector's process: reads its sources' changes and publishes them to the ingest topics."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from gravity.config import load_config
from gravity.stage import run_stage
from gravity_collector.sources import collect_sources


def run(
    config: Annotated[Path, typer.Argument(help="The configuration file.")],
    source: Annotated[
        list[str] | None, typer.Option(help="Collect just these; left out: a share of all.")
    ] = None,
    member: Annotated[str, typer.Option(help="A name that stays the same after a restart.")] = "",
) -> None:
    """Collects row changes of MySQL and MariaDB sources."""

    def body(stop: threading.Event) -> None:
        collect_sources(load_config(config).config, source or [], stop, member=member)

    run_stage("collector", body)


def main() -> None:
    """Entry point of `gravity-collector`."""
    typer.run(run)


if __name__ == "__main__":
    main()
