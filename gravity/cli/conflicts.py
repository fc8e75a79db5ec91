"""`gravity conflicts`: rows on which sources disagree, and what an operator decides about them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gravity.cli.option import AsJson, ConfigFile, plural, print_json, read_config, remarks, screen
from gravity.clock import now_us
from gravity.config.problem import did_you_mean
from gravity.decision import Note, RowName, keep_source, own_row, retry
from gravity.pattern import PatternError, parse_table_pattern
from gravity.record_log import Entry, require
from gravity.record_log import conflicts as by_name

if TYPE_CHECKING:
    from gravity.kafka.decision_log import DecisionLog


def table_pattern(text: str | None) -> str | None:
    """A pattern over tables, as it was written."""
    try:
        if text is not None:
            parse_table_pattern(text)
    except PatternError as error:
        raise typer.BadParameter(str(error)) from None
    return text


OnlyTarget = Annotated[str | None, typer.Option("--target", help="Only of this target.")]
OnlyTable = Annotated[
    str | None,
    typer.Option(
        "--table",
        help="Only of this table at the target: `users` in any database, `shop.users`, `shop.*`.",
        callback=table_pattern,
    ),
]
OnlyKind = Annotated[
    str | None, typer.Option("--kind", help="Only of this kind, such as `update_update`.")
]
WithEnded = Annotated[
    bool, typer.Option("--all", help="Also what has ended, and what the rule decided at once.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, as `list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; written down with it.")]
Wait = Annotated[
    float, typer.Option("--wait", help="Longest wait for the resolver's answer, in seconds.")
]


@contextmanager
def opened(config: Any) -> Iterator[DecisionLog]:
    """The logs of the installation that a configuration file is of."""
    from gravity.kafka.decision_log import DecisionLog

    cluster = read_config(config, quiet=True).config.kafka
    log = DecisionLog(cluster, cluster.topic_prefix)
    try:
        yield log
    finally:
        log.close()


def doubt_target(config: Path, target: str | None, *, found: bool) -> None:
    """Says so where nothing was found of a target that is not declared; one that is gone may have records yet."""
    if found or target is None:
        return
    names = [one.name for one in read_config(config, quiet=True).config.targets]
    if target not in names:
        hint = did_you_mean(target, names)
        remarks.print(f"no target called {target} is declared{hint}", markup=False)


def wanted(**fields: str | None) -> dict[str, str]:
    """The fields that were asked for."""
    return {name: value for name, value in fields.items() if value is not None}


def list_(
    config: ConfigFile,
    *,
    target: OnlyTarget = None,
    table: OnlyTable = None,
    kind: OnlyKind = None,
    everything: WithEnded = False,
    as_json: AsJson = False,
) -> None:
    """List the rows on hold: what waits for the sources to agree, or for a decision.

    Read from gravity.conflicts, so as far back as that topic keeps its records.
    """
    with opened(config) as log:
        entries = by_name(log.conflicts()).values()
    fields = wanted(target=target, table=table, kind=kind)
    chosen = [e for e in entries if (everything or e.open) and e.fits(fields)]
    if as_json:
        for entry in chosen:
            print_json({"name": entry.name, **entry.record})
        return
    shown = Table("name", "target", "table", "key", "kind", "state", "sources")
    for entry in chosen:
        record = entry.record
        sources = ", ".join(opinion["source"] for opinion in record["opinions"])
        cells = (entry.name, record["target"], record["table"], record["key"], record["kind"])
        shown.add_row(*(_plain(str(cell)) for cell in (*cells, record["state"], sources)))
    screen.print(shown)
    remarks.print(plural(len(chosen), "conflict"))
    doubt_target(config, target, found=bool(chosen))


def show(config: ConfigFile, name: Name) -> None:
    """Show one conflict as JSON: every source's opinion, its position, what stands."""
    with opened(config) as log:
        entry = require(by_name(log.conflicts()), name, "conflict")
    print_json(shown_record(entry))


def shown_record(entry: Entry) -> dict[str, Any]:
    """A conflict's record with its rows as JSON values and not as texts."""
    record = dict(entry.record)
    record["opinions"] = [
        {**opinion, "row": _parsed(opinion["row"])} for opinion in record["opinions"]
    ]
    return {
        "name": entry.name, "offset": entry.offset, **record,
        "key": _parsed(record["key"]), "result": _parsed(record["result"]),
    }  # fmt: skip


def _parsed(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def resolve(
    config: ConfigFile,
    name: Name,
    *,
    keep: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="This source's opinion stands.")
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="This row stands: an object; columns left out come from the first opinion that has a row. `null`: no row.",
        ),
    ] = None,
    reason: Reason = "",
    wait_s: Wait = 20.0,
) -> None:
    """Decide a conflict. The decision stands for exactly what `show` shows.

    It is a message in the log of the row's partition, so it survives restarts and is applied in order.
    A change that a source made meanwhile is not covered: it competes with the decision by the rule.
    """
    if (keep is None) == (row is None):
        raise typer.BadParameter("say what stands: --keep SOURCE or --row JSON")
    own = None if row is None else _row(row)
    with opened(config) as log:
        entry = require(by_name(log.conflicts()), name, "conflict")
        note = Note(log.plan.version, now_us(), reason)
        if keep is not None:
            message = keep_source(entry.record, keep, note)
        else:
            message = own_row(entry.record, own, note)
        answer(log, entry.record, message, wait_s)


def _row(text: str) -> Mapping[str, Any] | None:
    try:
        row = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"no JSON: {error}", param_hint="--row") from error
    if row is not None and not isinstance(row, dict):
        raise typer.BadParameter("neither a JSON object nor null", param_hint="--row")
    return row


def retry_(config: ConfigFile, name: Name, reason: Reason = "", wait_s: Wait = 20.0) -> None:
    """Work a row's outcome out again and send it, such as after a target was mended."""
    with opened(config) as log:
        entry = require(by_name(log.conflicts()), name, "conflict")
        note = Note(log.plan.version, now_us(), reason)
        answer(log, entry.record, retry(RowName.of(entry.record), note), wait_s)


def answer(log: DecisionLog, record: Mapping[str, Any], message: Any, wait_s: float) -> None:
    """Sends a decision and prints what the resolver made of it."""
    target, partition = record["target"], record["partition"]
    start = log.end_of_conflicts()
    offset = log.send(target, partition, message)
    place = f"{log.topics.routed(target)}/{partition}, offset {offset}"
    found = log.await_answer(target, partition, offset, start, wait_s)
    if found is None:
        remarks.print(
            f"written to {place}; no answer within {wait_s:g} s. It will be applied when the resolver "
            "comes to it, or be among the dead letters if it makes no sense.", markup=False,
        )  # fmt: skip
        return
    print_json(
        {
            "outcome": found["outcome"],
            "state": found["state"],
            "row": _parsed(found["result"]),
            "winner": found["winner"],
            "written": place,
        }
    )


def export(
    config: ConfigFile,
    target: OnlyTarget = None,
    table: OnlyTable = None,
    kind: OnlyKind = None,
) -> None:
    """Print every record of gravity.conflicts as JSON lines, oldest first."""
    fields = wanted(target=target, table=table, kind=kind)
    with opened(config) as log:
        for offset, record in log.conflicts():
            entry = Entry(record["hold"] or f"met.{offset}", offset, record)
            if entry.fits(fields):
                print_json(shown_record(entry))


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def refuse_empty(reason: str) -> str:
    """A reason that says something. Raises BadParameter otherwise."""
    if not reason.strip():
        raise typer.BadParameter("it is all that will be known of it", param_hint="--reason")
    return reason
