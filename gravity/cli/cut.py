"""`gravity cut`: a moment at which a MySQL target holds whole transactions of a source, up to one place."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, Final

import typer

from gravity.cli.option import (
    EXIT_FAILED,
    AsJson,
    ConfigFile,
    plural,
    print_json,
    read_config,
    remarks,
    screen,
    timeout_s_of,
)
from gravity.cut import BOUND_MS_MAX

_BOUND_S_MIN: Final = 0.1


def _bound_s(text: str) -> float:
    bound_s = timeout_s_of(text)
    if not _BOUND_S_MIN <= bound_s <= BOUND_MS_MAX / 1000:
        raise typer.BadParameter(
            f"{text} is not from {_BOUND_S_MIN:g} s to {BOUND_MS_MAX // 1000} s",
            param_hint="--timeout",
        )
    return bound_s


def cut(
    config: ConfigFile,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="After `--`: run while all partitions stand."),
    ] = None,
    *,
    source: Annotated[
        str, typer.Option(help="The source whose transactions are whole.", metavar="NAME")
    ],
    target: Annotated[str, typer.Option(help="The MySQL target that stands.", metavar="NAME")],
    timeout: Annotated[
        str,
        typer.Option(
            help="All of it, COMMAND included: 500ms, 30s, 10m. Nothing stands longer.",
            metavar="TIME",
        ),
    ] = "30s",
    as_json: AsJson = False,
) -> None:
    """Record a point at which a MySQL target has every transaction of a source whole, up to one place.

    All partitions of the target stop at one marker; where source and target were then is recorded in
    `_gravity._gravity_points` at the target, and they go on. With COMMAND they stand until it has ended, so
    that what it reads, or takes a snapshot of, is of that point.

    Exit code 0: the point is recorded, and COMMAND, if any, ran within it and succeeded. 1: no point, for the
    reason that is told, or COMMAND failed. Rows of other sources are wherever they are. docs/consistency.md
    says what a cut promises.
    """
    from gravity.cut_asker import CutAsker, require_command, require_cuttable

    bound_s = _bound_s(timeout)
    loaded = read_config(config, quiet=True).config
    found = require_cuttable(loaded, source, target)
    require_command(command or ())
    if loaded.is_awaited(target):
        remarks.print(
            f"[yellow]notice[/] COMMITs wait for {target} (semi-sync): they wait while it stands, too"
        )
    # Told to end, it lets the partitions go first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_FAILED))
    point, code = CutAsker(loaded, source, found, bound_s).run(command or ())
    if as_json:
        print_json(point.to_json())
    else:
        theirs = (
            "its transactions have no numbers" if point.target_gtids is None else point.target_gtids
        )
        left_out = f"; not in it: {plural(point.held, 'row')} on hold, {point.parked} parked"
        # What COMMAND prints is its own.
        (remarks if command else screen).print(
            f"cut {point.cut}: {target} has {source} up to {point.gtids or point.position}, target at {theirs}, "
            f"partitions stood for up to {point.stood_ms} ms"
            + (left_out if point.held or point.parked else "")
        )
    if command and code:
        sys.stderr.write(f"error: the point is one, but {command[0]} ended with {code}\n")
        raise typer.Exit(EXIT_FAILED)
