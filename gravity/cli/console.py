"""How commands speak: results on stdout, everything else on stderr, and what each exit code means."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from gravity.config import Config, ConfigError, Notice, load_config
from gravity.errors import EXIT_HALTED, EXIT_RESTART, GravityError, TransientError

EXIT_FAILED: Final = 1
EXIT_BAD_CONFIG: Final = 2

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "Done.",
    EXIT_FAILED: "The answer is no: a check failed.",
    EXIT_BAD_CONFIG: "The command line or the configuration file is wrong.",
    EXIT_RESTART: "A server could not be reached, or a stage crashed: try again.",
    EXIT_HALTED: "Halted: someone must act first; the message says what to do.",
}

ConfigFile = Annotated[
    Path, typer.Argument(help="The configuration file (YAML).", show_default=False, metavar="FILE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs to read.")]


def out() -> Console:
    """Where results go."""
    return Console(highlight=False, soft_wrap=not Console().is_terminal)


def err() -> Console:
    """Where notices and errors go."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Prints `value` as one JSON document."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def load(path: Path, *, quiet: bool = False) -> Config:
    """The configuration in `path`; its notices go to stderr unless `quiet`.

    Raises:
        ConfigError: with every problem of the file.
    """
    loaded = load_config(path)
    if not quiet:
        print_notices(loaded.notices)
    return loaded.config


def print_notices(notices: Iterable[Notice]) -> None:
    """Prints what the user should know about a configuration that loads all the same."""
    for notice in notices:
        err().print("[yellow]notice[/yellow]", end=" ")
        err().print(str(notice), markup=False)


def exit_code_of(error: GravityError) -> int:
    """The exit code of a command that ends with `error`."""
    if isinstance(error, ConfigError):
        return EXIT_BAD_CONFIG
    return EXIT_RESTART if isinstance(error, TransientError) else EXIT_HALTED


def print_error(error: GravityError) -> None:
    """Prints an error in full: every problem of a file, or what, where and the remedy."""
    texts = (
        [str(problem) for problem in error.problems]
        if isinstance(error, ConfigError)
        else [str(error)]
    )
    for text in texts:
        err().print("[bold red]error[/bold red]", end=" ")
        err().print(text, markup=False)
