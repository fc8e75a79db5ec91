"""`gravity dead-letters`: what could not be applied, and what is to become of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gravity.cli.conflicts import OnlyTable, OnlyTarget, opened, refuse_empty, wanted
from gravity.cli.option import AsJson, ConfigFile, plural, print_json, remarks, screen
from gravity.clock import now_us
from gravity.decision import Note, retry
from gravity.record_log import Entry, require, row_of_letter
from gravity.record_log import dead_letters as by_name
from gravity.tail import record_json

if TYPE_CHECKING:
    from gravity.kafka.decision_log import DecisionLog

FIELDS = ("target", "source", "table", "code", "stage")
"""What --filter knows."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, as `list` shows it.")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="NAME…", help="Names, as `list` shows them.")
]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="FIELD=VALUE",
        help=f"All open letters with this value; may be repeated. Fields: {', '.join(FIELDS)}.",
    ),
]
WithEnded = Annotated[bool, typer.Option("--all", help="Also those replayed or discarded.")]


def list_(
    config: ConfigFile,
    *,
    target: OnlyTarget = None,
    table: OnlyTable = None,
    code: Annotated[str | None, typer.Option(help="Only of this error code, such as 1406.")] = None,
    everything: WithEnded = False,
    as_json: AsJson = False,
) -> None:
    """List the changes that could not be applied and wait for an operator."""
    with opened(config) as log:
        entries = by_name(log.dead_letters()).values()
    fields = wanted(target=target, table=table, code=code)
    chosen = [e for e in entries if (everything or e.open) and e.fits(fields)]
    if as_json:
        for entry in chosen:
            print_json({"name": entry.name, **record_json("dead_letter", entry.record)})
        return
    shown = Table("name", "target", "table", "source", "code", "reason", "state")
    for entry in chosen:
        record = entry.record
        cells = [entry.name, *(record[f] for f in ("target", "table", "source", "code", "reason"))]
        shown.add_row(*(str(cell).replace("[", r"\[") for cell in (*cells, record["state"])))
    screen.print(shown)
    remarks.print(plural(len(chosen), "dead letter"))


def show(config: ConfigFile, name: Name) -> None:
    """Show one dead letter as JSON, its row included."""
    with opened(config) as log:
        entry = require(by_name(log.dead_letters()), name, "dead-letter")
    print_json({"name": entry.name, **record_json("dead_letter", entry.record)})


def replay(
    config: ConfigFile,
    names: Names = None,
    filters: Filters = None,
    reason: Annotated[str, typer.Option(help="Why; written down with it.")] = "",
) -> None:
    """Have rows sent again, such as after the target was mended.

    What is sent is not the old change but what the row's sources say now, through the row's own log: an
    old value can't come over a newer one. That needs the resolver's memory of the row, which it has of
    tables that several sources feed. Of a table with one source, and of messages that could not be
    read, nothing is sent: the letter stays, and what helps is said.
    """
    with opened(config) as log:
        chosen = _chosen(by_name(log.dead_letters()), names, filters)
        refused: dict[str, int] = {}
        sent = 0
        for entry in chosen:
            why = _send_again(log, entry, reason)
            if why:
                refused[why] = refused.get(why, 0) + 1
            else:
                sent += 1
    remarks.print(f"{plural(sent, 'row')} sent again", markup=False)
    for why, count in refused.items():
        remarks.print(f"{plural(count, 'letter')} left: {why}", markup=False)
    if refused:
        raise typer.Exit(1)


def _send_again(log: DecisionLog, entry: Entry, reason: str) -> str:
    """Why the letter's row can't be sent again; empty if it was."""
    record = dict(entry.record)
    row = row_of_letter(record)
    if row is None:
        return (
            "of a message that could not be read, or of rows without a key; "
            "`gravity reset --source …` has the source's rows read again"
        )
    if record["code"] == "late_after_gc":
        return (
            "older than what has been forgotten of its table; write the row again at its source, "
            "or leave it deleted"
        )
    if log.plan.resolution(row.target, row.table) is None:
        return (
            "of a table that one source feeds, of which the resolver remembers no rows; "
            f"`gravity reset --source {record['source']}` has its rows read again"
        )
    message = retry(row, Note(log.plan.version, now_us(), reason or f"dead letter {entry.name}"))
    log.send(row.target, record["partition"], message)
    log.note_letter(record, "replayed", reason)
    return ""


def discard(
    config: ConfigFile,
    names: Names = None,
    filters: Filters = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; written down with it.")],
) -> None:
    """Give letters up: the target goes without these changes. They stay readable with `--all`."""
    note = refuse_empty(reason)
    with opened(config) as log:
        chosen = _chosen(by_name(log.dead_letters()), names, filters)
        for entry in chosen:
            log.note_letter(dict(entry.record), "discarded", note)
    remarks.print(f"{plural(len(chosen), 'letter')} discarded", markup=False)


def _chosen(
    entries: Mapping[str, Entry], names: Iterable[str] | None, filters: Iterable[str] | None
) -> list[Entry]:
    """The open letters that were named, or that fit every filter."""
    fields: dict[str, Any] = {}
    for text in filters or ():
        field, equals, value = text.partition("=")
        if not equals or field not in FIELDS:
            raise typer.BadParameter(f"--filter takes FIELD=VALUE with one of {', '.join(FIELDS)}")
        fields[field] = value
    if bool(names) == bool(fields):
        raise typer.BadParameter("say which letters: by NAME, or by --filter FIELD=VALUE")
    if names:
        return [entry for name in names if (entry := require(entries, name, "dead-letter")).open]
    return [entry for entry in entries.values() if entry.open and entry.fits(fields)]
