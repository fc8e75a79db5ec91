"""`python -m gravity_sink_mysql CONFIG [--target NAME] [--adopt]`."""

from __future__ import annotations

from typing import NoReturn

from gravity import sink_stage
from gravity.config.target import MysqlTarget
from gravity_sink_mysql.writer import MysqlWriter


def main() -> NoReturn:
    """Writes every MySQL target of the configuration."""
    sink_stage.main("sink-mysql", MysqlTarget, MysqlWriter)


if __name__ == "__main__":
    main()
