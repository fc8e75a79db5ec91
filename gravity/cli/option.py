"""What the commands share: arguments, output, how a configuration is read."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from gravity.config import LoadedConfig, load_config
from gravity.config.model import parse_duration

EXIT_FAILED: Final = 1
"""What was asked for could not be done, or a check did not pass."""
EXIT_BAD_CONFIG: Final = 2
"""The configuration file or the command line is wrong."""

ConfigFile = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="The configuration: one YAML file for all stages."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", help="Leave the sources alone: what was known of their tables stays."
    ),
]
WaitSeconds = Annotated[
    float, typer.Option("--wait", help="Longest wait, in seconds, for Kafka and the sources.")
]

screen = Console(highlight=False, soft_wrap=True)
"""Standard output: results."""
remarks = Console(stderr=True, highlight=False, soft_wrap=True)
"""Standard error: everything that is not the result."""


def read_config(path: Path, *, quiet: bool = False) -> LoadedConfig:
    """The configuration; its notices go to standard error unless `quiet`."""
    loaded = load_config(path)
    if not quiet:
        for notice in loaded.notices:
            remarks.print(f"[yellow]notice[/] {_plain(str(notice))}")
    return loaded


def timeout_s_of(text: str) -> float:
    """The seconds that the option --timeout says, such as `30s`."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None


def _plain(text: str) -> str:
    """`text` as rich prints it unchanged."""
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def plural(count: int, noun: str) -> str:
    """`1 table`, `2 tables`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
