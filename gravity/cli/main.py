"""The `gravity` command."""

from __future__ import annotations

import sys
from typing import Final

import typer

from gravity.cli import run
from gravity.cli.console import EXIT_CODES, exit_code_of, print_error
from gravity.errors import GravityError

_HELP: Final = """
Copy row changes from many MySQL and MariaDB servers into MySQL, ClickHouse and Kafka.

A first run: write a configuration file, then `gravity validate FILE` (is the file right?),
`gravity check FILE` (are the servers?), `gravity plan FILE` (what goes where?) and `gravity run FILE`.
"""
EXIT_CODE_HELP: Final = "Exit codes: " + "  ".join(
    f"{code} {text}" for code, text in EXIT_CODES.items()
)


def build_app() -> typer.Typer:
    """The command line with all commands."""
    app = typer.Typer(
        name="gravity",
        help=_HELP,
        epilog="\n\n".join(
            ["Exit codes:", *(f"{code}  {text}" for code, text in EXIT_CODES.items())]
        ),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(run.run)
    app.callback()(_callback)
    return app


def _callback() -> None:
    """Keeps `gravity` a group of commands, however few there are."""


def main() -> None:
    """Entry point of `gravity`."""
    try:
        build_app()()
    except GravityError as error:
        print_error(error)
        sys.exit(exit_code_of(error))


if __name__ == "__main__":
    main()
