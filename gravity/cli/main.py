"""Entry point of `gravity`: the commands, and what becomes of an error."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Annotated, Final

import typer

from gravity.cli import conflicts, dead_letters, parked
from gravity.cli.balance import balance
from gravity.cli.check import check
from gravity.cli.configuration import schema, validate
from gravity.cli.cut import cut
from gravity.cli.explain import explain
from gravity.cli.filtered import filtered
from gravity.cli.option import EXIT_BAD_CONFIG, EXIT_FAILED
from gravity.cli.plan import plan
from gravity.cli.reload import reload
from gravity.cli.reset import reset
from gravity.cli.resolve import resolve
from gravity.cli.run import run
from gravity.cli.snapshot import snapshot
from gravity.cli.status import status
from gravity.cli.topic import tail, topics
from gravity.cli.wait import serve, wait
from gravity.config import ConfigError
from gravity.cut import CutRefusedError
from gravity.errors import EXIT_HALTED, EXIT_RESTART, FatalError, GravityError
from gravity.recency import QuestionError
from gravity.supervisor import UnknownNameError
from gravity.trial import HistoryError

EXIT_CODES: Final[Mapping[int, str]] = {
    0: "done, or stopped as asked",
    EXIT_FAILED: "it could not be done now, or a check did not pass; the reason is on standard error",
    EXIT_BAD_CONFIG: "the configuration or the command line is wrong",
    EXIT_RESTART: "a stage failed again and again (run)",
    EXIT_HALTED: "refused or halted by name: an operator must act",
}
EPILOG: Final = "[bold]Exit codes[/]\n\n" + "\n\n".join(
    f"{code:>2}  {text}" for code, text in EXIT_CODES.items()
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"gravity {version('gravity')}\n")
        raise typer.Exit


@app.callback()
def gravity(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Copies row changes from MySQL and MariaDB servers to MySQL, ClickHouse and Kafka, through Kafka.

    A first time:  gravity validate CONFIG,  gravity check CONFIG,  gravity run CONFIG,  and in
    another window  gravity status CONFIG --follow.
    """


def _add(command: Callable[..., None], to: typer.Typer = app) -> None:
    """Adds a command named like its function. Its help is the docstring, paragraphs unwrapped."""
    text = inspect.cleandoc(command.__doc__ or "")
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    # Functions whose name Python or typer has use for end in an underscore.
    to.command(command.__name__.rstrip("_"), help="\n\n".join(paragraphs))(command)


def _add_group(name: str, summary: str, commands: Iterable[Callable[..., None]]) -> None:
    """Adds commands of one subject under its name."""
    group = typer.Typer(no_args_is_help=True, help=summary)
    for command in commands:
        _add(command, group)
    app.add_typer(group, name=name)


for _command in (
    validate,
    check,
    plan,
    explain,
    filtered,
    run,
    status,
    wait,
    serve,
    cut,
    topics,
    reload,
    balance,
    tail,
    reset,
    snapshot,
    resolve,
    schema,
):
    _add(_command)
_add_group(
    "conflicts",
    "Rows on which sources disagree: look at them, decide about them.",
    (conflicts.list_, conflicts.show, conflicts.resolve, conflicts.retry_, conflicts.export),
)
_add_group(
    "dead-letters",
    "Changes that could not be applied: look at them, have them sent again, give them up.",
    (dead_letters.list_, dead_letters.show, dead_letters.replay, dead_letters.discard),
)
_add_group(
    "parked",
    "Rows that wait at MySQL targets for a parent, for children to go, or for a unique value.",
    (parked.list_, parked.show),
)


def exit_code_of(error: GravityError) -> int:
    """The exit code of a command that ended with `error`."""
    if isinstance(
        error, (ConfigError, UnknownNameError, HistoryError, QuestionError, CutRefusedError)
    ):
        return EXIT_BAD_CONFIG
    return EXIT_HALTED if isinstance(error, FatalError) else EXIT_FAILED


def main() -> None:
    """Runs the command line. Errors of ours are told in a sentence, without a trace."""
    try:
        app(prog_name="gravity")
    except ConfigError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        sys.exit(exit_code_of(error))
    except GravityError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(exit_code_of(error))
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough. What is still buffered can't be told anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
