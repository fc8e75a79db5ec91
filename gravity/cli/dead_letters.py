"""`gravity dead-letters`: what could not be applied, and what is to become of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gravity.cli.conflicts import (
    OnlyTable,
    OnlyTarget,
    doubt_target,
    opened,
    refuse_empty,
    table_pattern,
    wanted,
)
from gravity.cli.option import AsJson, ConfigFile, plural, print_json, remarks, screen
from gravity.clock import now_us
from gravity.decision import Note, retry
from gravity.record_log import Entry, require, row_of_letter
from gravity.record_log import dead_letters as by_name
from gravity.reread import rereads
from gravity.tail import record_json

if TYPE_CHECKING:
    from gravity.kafka.decision_log import DecisionLog

LATE = "late_after_gc"
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
    doubt_target(config, target, found=bool(chosen))


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

    What is sent is not the old change but what the row's sources say now, through the logs, so an old
    value can't come over a newer one. Of a table that several sources feed the resolver works the row's
    outcome out again. Of a table with one source the source's collector reads the row again, as by
    `gravity snapshot`. A letter of which nothing can be sent stays, and why is said.
    """
    with opened(config) as log:
        chosen = _chosen(by_name(log.dead_letters()), names, filters)
        shared = [entry for entry in chosen if _is_shared(log, entry)]
        alone = [entry for entry in chosen if not _is_shared(log, entry)]
        asked = _read_again(log, alone, reason)
        for entry in shared:
            _work_out_again(log, entry, reason)
        left = [entry for entry in alone if entry.name not in asked]
    remarks.print(f"{plural(len(shared), 'row')} worked out again", markup=False)
    remarks.print(f"{plural(len(asked), 'row')} to be read again at the source", markup=False)
    for entry in left:
        remarks.print(f"left: {entry.name}: {_why_left(entry)}", markup=False)
    if left:
        raise typer.Exit(1)


def _is_shared(log: DecisionLog, entry: Entry) -> bool:
    """Whether the resolver knows the letter's row."""
    row = row_of_letter(entry.record)
    return (
        row is not None
        and entry.record["code"] != LATE
        and log.plan.resolution(row.target, row.table) is not None
    )


def _work_out_again(log: DecisionLog, entry: Entry, reason: str) -> None:
    row = row_of_letter(entry.record)
    assert row is not None
    message = retry(row, Note(log.plan.version, now_us(), reason or f"dead letter {entry.name}"))
    log.send(row.target, entry.record["partition"], message)
    log.note_letter(dict(entry.record), "replayed", reason)


def _read_again(log: DecisionLog, entries: Iterable[Entry], reason: str) -> set[str]:
    """Asks for the letters' rows; the names of those that could be asked for."""
    asked: set[str] = set()
    wanted = (entry for entry in entries if entry.record["code"] != LATE)
    for reread in rereads(wanted, log.plan):
        request = log.ask_to_read(reread)
        for entry in reread.letters:
            log.note_letter(dict(entry.record), "replayed", reason or f"request {request}")
            asked.add(entry.name)
    return asked


def _why_left(entry: Entry) -> str:
    if entry.record["code"] == LATE:
        return (
            "older than what has been forgotten of its table; write the row again at its source, "
            "or leave it deleted"
        )
    return (
        "a delete, a row without a key, or a message that could not be read: "
        "`gravity snapshot` has a table's rows read again"
    )


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
        fields[field] = table_pattern(value) if field == "table" else value
    if bool(names) == bool(fields):
        raise typer.BadParameter("say which letters: by NAME, or by --filter FIELD=VALUE")
    if names:
        return [entry for name in names if (entry := require(entries, name, "dead-letter")).open]
    return [entry for entry in entries.values() if entry.open and entry.fits(fields)]
