"""`python -m gravity_sink_clickhouse CONFIG [--target NAME] [--adopt]`."""

from __future__ import annotations

from typing import NoReturn

from gravity import sink_stage
from gravity.config.target import ClickhouseTarget
from gravity_sink_clickhouse.writer import ClickhouseWriter


def main() -> NoReturn:
    """Writes every ClickHouse target of the configuration."""
    sink_stage.main("sink-clickhouse", ClickhouseTarget, ClickhouseWriter)


if __name__ == "__main__":
    main()
