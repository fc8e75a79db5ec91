"""`gravity run`: the whole pipeline on this machine, or one stage of it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from gravity.activation import activate
from gravity.cli.console import ConfigFile, err, load
from gravity.errors import EXIT_HALTED
from gravity.supervisor import (
    STAGES,
    RestartPolicy,
    StageEnd,
    Supervisor,
    needed_stages,
    run_until,
    stage_command,
)
from gravity.telemetry.log import configure_logging


def run(
    file: ConfigFile,
    stage: Annotated[
        str | None,
        typer.Argument(
            help=f"Run only this stage, as this process: {', '.join(STAGES)}. "
            "Left out: all that the configuration needs.",
            show_default=False,
        ),
    ] = None,
    *,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Collect only this source. May be repeated.", show_default=False),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Write only this target. May be repeated.", show_default=False),
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Write to target tables that already hold rows of their own."),
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="When a stage halts, leave the others running."),
    ] = False,
    timeout_s: Annotated[
        float, typer.Option(help="How long to wait for Kafka and the sources at the start.", min=0)
    ] = 60.0,
) -> None:
    """Run the pipeline: copy rows from the sources to the targets until Ctrl-C.

    Makes the topics, works out the routing plan, then starts every stage as a process of its own. A
    stage that crashes is started again; one that halts (bad settings, lost data) stops everything
    and says what to do. Stopping and starting loses nothing and repeats nothing.

    With a STAGE, only that stage runs and nothing is activated: for machines that share the work,
    after `gravity topics`.
    """
    sources, targets = source or [], target or []
    if stage is not None:
        command = stage_command(stage, file, sources=sources, targets=targets, adopt=adopt)
        os.execv(command.arguments[0], command.arguments)  # noqa: S606 - becomes the stage
    config = load(file)
    configure_logging("gravity")
    commands = needed_stages(config, file, sources=sources, targets=targets, adopt=adopt)
    activate(config, timeout_s=timeout_s)
    supervisor = Supervisor(file, commands, keep_going=keep_going, policy=RestartPolicy())
    _supervise(supervisor, file)


def _supervise(supervisor: Supervisor, file: Path) -> None:
    stop = threading.Event()

    def asked_to_stop(number: int, _frame: object) -> None:
        if stop.is_set():
            # The second Ctrl-C: whoever presses it will not wait. No stage loses anything by it.
            supervisor.kill()
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked_to_stop)
    with supervisor:
        run_until(supervisor, stop, _report)
    if supervisor.halts:
        err().print(f"see what is wrong with: gravity check {file}", style="yellow", markup=False)
        raise typer.Exit(EXIT_HALTED)


def _report(end: StageEnd) -> None:
    if end.restart_in_s is None:
        err().print("[bold red]halted[/bold red]", end=" ")
        err().print(str(end), markup=False)
