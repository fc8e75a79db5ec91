"""`gravity run`: all stages on this machine, or one of them."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Annotated

import typer

from gravity.cli.option import ConfigFile, Offline, WaitSeconds, plural, read_config, remarks
from gravity.supervisor import Supervisor, UnknownNameError, needed_stages, stage_command
from gravity.telemetry.log import configure_logging


class Stage(StrEnum):
    """The stages, in the order in which rows pass them."""

    COLLECTOR = "collector"
    ROUTER = "router"
    RESOLVER = "resolver"
    SINK_MYSQL = "sink-mysql"
    SINK_CLICKHOUSE = "sink-clickhouse"
    SINK_KAFKA = "sink-kafka"


class LogFormat(StrEnum):
    """How the stages' logs are shown."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"


def run(
    config: ConfigFile,
    stage: Annotated[
        Stage | None, typer.Argument(help="Run just this stage; left out: all of them.")
    ] = None,
    *,
    source: Annotated[
        list[str] | None,
        typer.Option(help="Collect only this source; may be repeated.", metavar="NAME"),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Write only this target; may be repeated.", metavar="NAME"),
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Write to target tables that already hold rows of their own."),
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="When a stage halts, leave the others running."),
    ] = False,
    failures_max: Annotated[
        int,
        typer.Option(
            "--failures-max",
            min=0,
            help="Failures of a stage in a row before all stop; 0 = no end.",
        ),
    ] = 20,
    stop_s: Annotated[
        float,
        typer.Option(
            "--stop-wait", min=0.0, help="Seconds a stage has to end before it is killed."
        ),
    ] = 20.0,
    log_format: Annotated[
        LogFormat,
        typer.Option(help="Logs as text or as JSON lines; auto: text on a terminal."),
    ] = LogFormat.AUTO,
    offline: Offline = False,
    wait_s: WaitSeconds = 60.0,
) -> None:
    """Run the pipeline: all stages on this machine, until Ctrl-C.

    Makes the topics, puts the routing plan in force and starts each stage as a process of its own.
    A stage that crashes is started again; one that halts by name, because an operator must act,
    ends the whole and its reason is printed.

    With STAGE, becomes that one stage: for machines of its own, after `gravity topics` has been run
    once.
    """
    path = config.absolute()
    loaded = read_config(config, quiet=stage is not None)
    sources, targets = source or [], target or []
    if stage is not None:
        command = stage_command(stage, path, sources=sources, targets=targets, adopt=adopt)
        os.execv(command.arguments[0], command.arguments)  # noqa: S606 - becomes the stage
    as_json = log_format is LogFormat.JSON or (
        log_format is LogFormat.AUTO and not sys.stderr.isatty()
    )
    configure_logging("gravity", as_json=as_json)
    try:
        stages = needed_stages(loaded.config, path, sources=sources, targets=targets, adopt=adopt)
    except UnknownNameError as error:
        raise typer.BadParameter(str(error)) from None
    from gravity.activation import activate

    plan = activate(loaded.config, offline=offline, timeout_s=wait_s)
    if not as_json:
        remarks.print(
            f"plan {plan.version}: {plural(len(loaded.config.sources), 'source')} → "
            f"{plural(len(loaded.config.targets), 'target')}; starting {', '.join(stage.name for stage in stages)}. "
            f"Ctrl-C stops; `gravity status {config}` shows how it goes."
        )
    outcome = Supervisor(
        path,
        stages,
        as_json=as_json,
        failures_max=failures_max,
        keep_going=keep_going,
        stop_s=stop_s,
    ).run()
    for failure in outcome.failures:
        sys.stderr.write(f"error: {failure.stage} {failure.what}: {failure.reason}\n")
    raise typer.Exit(outcome.exit_code)
