"""`gravity balance`: moves buckets of `least-connections` rules to targets that are less behind."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from gravity.balancing import STRATEGY, Load, Move, moved, next_moves
from gravity.cli.option import AsJson, ConfigFile, plural, print_json, read_config, remarks, screen
from gravity.errors import FatalError, TransientError
from gravity.supervisor import needs_balance
from gravity.telemetry.log import configure_logging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gravity.config import Config
    from gravity.plan import RoutingPlan
    from gravity.status import PipelineStatus

log = structlog.get_logger()

_EVERY_S = 30.0


def balance(
    config: ConfigFile,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on looking until it is stopped.")
    ] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=1, help="Seconds between two looks.")
    ] = _EVERY_S,
    as_json: AsJson = False,
) -> None:
    """Look at the loads of the targets that share tables by `least-connections`, and move what should move.

    A target that is 5 s or more behind, and twice as far as another, gives a sixteenth of all buckets to the one
    that is least behind. The new map is the next routing plan, taken as after `gravity reload`: a table that
    is not `append-only` is read again for it, so it keeps its map while existing rows are being read.
    `gravity run` has one of these at work where a rule needs it; of several at once the first to write a plan
    decides.

    With --follow a look that fails, as while Kafka is away, is logged (`balance_put_off`) and followed by the next.
    Without a `least-connections` rule in the file there is nothing to balance: exit code 2.
    """
    loaded = read_config(config, quiet=True)
    if not needs_balance(loaded.config):
        raise typer.BadParameter(
            f"no rule of {config} has `strategy: {STRATEGY}`, so there is nothing to balance; "
            "docs/routing.md shows one",
            param_hint="CONFIG",
        )
    configure_logging("gravity")
    while True:
        try:
            moves = _look_and_move(loaded.config)
        except (TransientError, FatalError) as error:
            # Such as rows of earlier moves that are still on their way.
            if not follow:
                raise
            log.warning("balance_put_off", reason=str(error))
            moves = []
        if as_json:
            print_json({"moves": moves})
        else:
            for move in moves:
                count = plural(move["buckets"], "bucket")
                screen.print(f"{move['rule']}: {count} from {move['from']} to {move['to']}")
            if not moves and not follow:
                remarks.print("no bucket moves")
        if not follow:
            return
        time.sleep(every_s)


def _look_and_move(config: Config) -> list[dict[str, Any]]:
    from gravity.activation import put_moved_in_force
    from gravity.status_reader import StatusReader

    reader = StatusReader(config)
    try:
        status = reader.read()
    finally:
        reader.close()
    loads, copying = loads_of(status), being_copied(status)
    found: dict[str, Move] = {}
    waiting: list[str] = []

    def change(plan: RoutingPlan) -> RoutingPlan:
        found.clear()
        waiting[:] = (
            p.name for p in plan.placements if p.strategy == STRATEGY and not p.append_only
        )
        found.update(next_moves(plan.placements, loads, is_copying=bool(copying)))
        placements = (moved(p, found[p.name]) if p.name in found else p for p in plan.placements)
        return replace(plan, placements=tuple(placements))

    put_moved_in_force(config, change)
    if copying and waiting:
        # A source that never takes the newest plan would else hold the balance without a word.
        log.info("balance_waits", rules=waiting, until_copied=copying)
    return [
        {"rule": name, "from": move.from_, "to": move.to, "buckets": len(move.buckets)}
        for name, move in found.items()
    ]


def loads_of(status: PipelineStatus) -> Mapping[str, Load]:
    """What each target has before it; those of which no sink has spoken are left out."""
    return {
        target.name: Load(
            max((lag or 0 for lag in target.lag_ms.values()), default=0) / 1000, target.waiting
        )
        for target in status.targets
        if target.silent_s is not None
    }


def being_copied(status: PipelineStatus) -> list[str]:
    """The sources of which existing rows are still being read, or will be by a plan that they have not taken yet."""
    newest = status.plan or 0
    return [s.name for s in status.sources if s.is_copying or (s.plan or 0) < newest]
