"""`gravity status`: how far every source, stage and target is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from gravity.cli.option import AsJson, ConfigFile, print_json, read_config, screen

if TYPE_CHECKING:
    from gravity.status import PipelineStatus, SourceStatus, TargetStatus


def status(
    config: ConfigFile,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it again and again, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.2, help="Seconds between two looks with --follow.")
    ] = 1.0,
) -> None:
    """Show how far the pipeline is: rows, rows per second, lag of each source at each target.

    Lag is the age of the data that a target surely has; 0 means that it has everything that was
    collected, parked rows apart. Reads Kafka only, so it works from any machine and disturbs nothing.

    Of sources whose COMMITs wait for targets (`semi-sync`) it says whether they do, with the server's own counters.

    Rows on hold, whose sources disagree, are listed by table, with the age of the change that began the oldest.

    With --json one line per look; `is_caught_up` says whether all targets have all: existing rows, what was collected
    since, and no row parked.
    """
    from gravity.status_reader import StatusReader

    loaded = read_config(config, quiet=True)
    reader = StatusReader(loaded.config)
    try:
        if as_json:
            _print_lines(reader.read, follow=follow, every_s=every_s)
        elif follow and screen.is_terminal:
            with Live(console=screen, auto_refresh=False, screen=False) as live:
                while True:
                    live.update(chart(reader.read()), refresh=True)
                    time.sleep(every_s)
        else:
            while True:
                screen.print(chart(reader.read()))
                if not follow:
                    break
                time.sleep(every_s)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    finally:
        reader.close()


def _print_lines(read: Callable[[], PipelineStatus], *, follow: bool, every_s: float) -> None:
    while True:
        print_json(read().to_json())
        if not follow:
            return
        time.sleep(every_s)


def copy_text(source: SourceStatus) -> str:
    """How far the copy of existing rows is."""
    tables = f"{source.snapshot_done}/{source.snapshot_total} tables"
    if not source.is_copying or not source.tables:
        return tables
    rows = sum(entry["rows"] for entry in source.tables.values())
    estimate = sum(entry["estimate"] for entry in source.tables.values())
    left = "" if source.copy_eta_s is None else f", {duration_text(source.copy_eta_s)} left"
    return f"{tables}, {rows:,} of about {estimate:,} rows, {source.copy_rows_per_s:,}/s{left}"


def duration_text(seconds: int) -> str:
    """Seconds in words: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004


def chart(now: PipelineStatus) -> Group:
    """The status as tables."""
    plan = "nothing activated yet" if now.plan is None else f"plan {now.plan}"
    moment = datetime.fromtimestamp(now.at_us / 1e6, UTC).strftime("%H:%M:%S UTC")
    sources = Table(
        "source", "rows", "rows/s", "snapshot", "position", "collector", title=f"{moment}  {plan}"
    )
    for source in now.sources:
        sources.add_row(
            source.name,
            "" if source.rows is None else f"{source.rows:,}",
            f"{source.rows_per_s:,.0f}",
            copy_text(source),
            source.position,
            _state(source),
        )
    stages = Table("stage", "reads", "not acknowledged")
    for stage in now.stages:
        stages.add_row(stage.stage, stage.reads, f"{stage.waiting:,}")
    targets = Table(
        "target", "type", "rows", "rows/s", "waiting", "parked", "dead", "lag by source", "sink"
    )
    for target in now.targets:
        lags = "  ".join(f"{name} {lag_text(lag)}" for name, lag in target.lag_ms.items())
        targets.add_row(
            target.name,
            target.type,
            f"{target.applied:,}",
            f"{target.rows_per_s:,.0f}",
            f"{target.waiting:,}",
            f"[yellow]{target.parked_at_target:,}[/]" if target.parked_at_target else "0",
            f"[red]{target.dead:,}[/]" if target.dead else "0",
            lags,
            _state(target),
        )
    collectors = Table("collector", "collects")
    for collector in now.collectors:
        collectors.add_row(
            collector.name,
            "[yellow]nothing: a spare[/]" if collector.is_spare else ", ".join(collector.sources),
        )
    held = Table(
        "target", "table", "rows on hold", "oldest", "waiting behind them", title="on hold"
    )
    for target in now.targets:
        for name, table in target.held.items():
            age = duration_text(round(table.oldest_s)) if table.oldest_us else "?"
            held.add_row(target.name, name, f"{table.rows:,}", age, "")
        if target.holds or target.waiting_rows:
            held.add_row(target.name, "all", f"{target.holds:,}", "", f"{target.waiting_rows:,}")
    merged = Table("target", "waiting for a source", "late", "down", title="merge")
    for target in now.targets:
        if target.parked_rows or target.late_rows or target.down:
            down = f"[red]{', '.join(target.down)}[/]" if target.down else ""
            merged.add_row(target.name, f"{target.parked_rows:,}", f"{target.late_rows:,}", down)
    waiting = Table(
        "source", "COMMITs wait for", "state", "waited", "did not", "fell back", "server waits"
    )
    for source in now.sources:
        if source.semi_sync is not None:
            told = source.semi_sync
            waiting.add_row(
                source.name,
                ", ".join(told["targets"]),
                semi_sync_text(told),
                f"{told['acknowledged']:,}",
                f"{told['unacknowledged']:,}",
                f"{told['fallbacks']:,}",
                f"{told['timeout_ms']:,} ms at most",
            )
    return Group(
        sources,
        *([waiting] if waiting.row_count else []),
        *([collectors] if now.collectors else []),
        stages,
        targets,
        *([held] if held.row_count else []),
        *([merged] if merged.row_count else []),
    )


_SEMI_SYNC: Final = {
    "on": "[green]they wait[/]",
    "off": "[red]they do not: the server fell back[/]",
    "joining": "[yellow]not yet: targets are behind[/]",
    "disabled": "[red]not switched on at the server[/]",
    "unknown": "[yellow]the server was not asked yet[/]",
}


def semi_sync_text(told: Mapping[str, Any]) -> str:
    """Whether a source's COMMITs wait, in words."""
    if told["state"] == "on" and told["others_may_answer"]:
        return "[red]for any replica: another is semi-synchronous, too[/]"
    return _SEMI_SYNC[told["state"]]


def _state(part: SourceStatus | TargetStatus) -> str:
    if part.silent_s is None:
        return "[yellow]not heard of[/]"
    return f"[yellow]silent {part.silent_s:,.0f} s[/]" if part.is_silent else "[green]at work[/]"


def lag_text(lag_ms: int | None) -> str:
    """`0`, `350 ms`, `12.3 s`, `5 min`, or `?` where it is not known."""
    if lag_ms is None:
        return "?"
    if lag_ms < 1000:  # noqa: PLR2004 - below a second
        return f"{lag_ms} ms" if lag_ms else "0"
    seconds = lag_ms / 1000
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004 - two minutes
