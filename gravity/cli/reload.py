"""`gravity reload`: puts a changed configuration in force, and waits until the sources are read by it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from gravity.cli.option import AsJson, ConfigFile, print_json, read_config, remarks, screen
from gravity.cli.plan import difference, show_difference
from gravity.clock import monotonic_s
from gravity.errors import TransientError
from gravity.telemetry.log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Collection

    from gravity.plan import RoutingPlan
    from gravity.status_reader import StatusReader

_LOOK_S = 0.5


def reload(
    config: ConfigFile,
    as_json: AsJson = False,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait",
            help="Longest wait, in seconds, for Kafka, for the sources, and for the collectors to take the plan.",
        ),
    ] = 60.0,
) -> None:
    """Put a changed configuration in force while the stages run.

    Shows what differs as `gravity plan --diff` does, writes the routing plan under the next number, and
    waits until the collector of every source that was there has taken it: from its next span on, all stages go by it.
    Tables whose rows go another way are read again, and rows that have no place at a target any more are
    deleted there. `gravity status` shows how far that is.

    What is not part of the plan (hosts, accounts, workers, sources and targets that are new) is read by the
    stages when they start.
    """
    from gravity.activation import activate
    from gravity.status_reader import StatusReader

    loaded = read_config(config, quiet=as_json)
    configure_logging("gravity")
    found = difference(loaded.config, wait_s)
    if not as_json:
        show_difference(found)
    plan = activate(loaded.config, timeout_s=wait_s)
    unknown = found.new_parts
    with closing(StatusReader(loaded.config)) as reader:
        # A reload that was killed may have made a source part of the plan before anybody was told to start it.
        never_read = [s.name for s in reader.read().sources if s.silent_s is None]
        unknown += [name for s in never_read if (name := f"source {s}") not in unknown]
        for part in unknown:
            remarks.print(f"[yellow]start the stages again[/]: {part} is new to them")
        # Of what is new no running collector knows: waiting for it would be in vain.
        known = [s.name for s in loaded.config.sources if f"source {s.name}" not in unknown]
        waiting = _await_taken(reader, plan, known, wait_s)
    if as_json:
        print_json({
            **found.to_json(), "plan": plan.version, "start_again": unknown, "waiting_for": waiting,
        })  # fmt: skip
    elif not waiting:
        read_by_it = f", and read by it: {', '.join(known)}" if known else ""
        screen.print(f"routing plan {plan.version} is in force{read_by_it}")
    if not waiting:
        return
    raise TransientError(
        f"routing plan {plan.version} is in force, but not every source is read by it yet",
        where=", ".join(waiting),
        remedy="are their collectors running, and started since the sources were named? They take it when they start",
    )


def _await_taken(
    reader: StatusReader, plan: RoutingPlan, names: Collection[str], wait_s: float
) -> list[str]:
    """Those of the named sources that are not read by the plan after so many seconds."""
    give_up_s = monotonic_s() + wait_s
    while True:
        sources = reader.read().sources
        waiting = [s.name for s in sources if s.name in names and (s.plan or 0) < plan.version]
        if not waiting or monotonic_s() > give_up_s:
            return waiting
        time.sleep(_LOOK_S)
