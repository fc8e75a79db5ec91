"""`gravity parked`: rows that wait at MySQL targets because a constraint there refuses them for now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gravity.cli.conflicts import OnlyTable, OnlyTarget
from gravity.cli.option import (
    EXIT_FAILED,
    AsJson,
    ConfigFile,
    plural,
    print_json,
    read_config,
    remarks,
    screen,
)
from gravity.cli.status import duration_text
from gravity.config.problem import did_you_mean
from gravity.config.target import MysqlTarget
from gravity.errors import FatalError, GravityError
from gravity.parked import WaitingRow
from gravity.record_log import means_table
from gravity.supervisor import UnknownNameError
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.parked_reader import ParkedReader

Name = Annotated[str, typer.Argument(metavar="NAME", help="Its name, as `list` shows it.")]


def list_(
    config: ConfigFile,
    *,
    target: OnlyTarget = None,
    table: OnlyTable = None,
    as_json: AsJson = False,
) -> None:
    """List the rows that wait at MySQL targets: for a parent, for children to go, for a unique value.

    Read from the targets themselves, not from Kafka. Why a row waits is what its target said when it was
    parked. Times are commit times of its source, the only clock that counts here: while the source commits
    nothing, no time passes. A target that can't be asked is named, and the exit code is 1.
    """
    loaded = read_config(config, quiet=True).config
    rows: list[WaitingRow] = []
    failed: list[GravityError] = []
    targets = mysql_targets(loaded, target)
    for asked in targets:
        try:
            with reading(loaded, asked) as reader:
                rows += [r for r in reader.rows() if table is None or means_table(table, r.table)]
        except GravityError as error:
            failed.append(error)
    if as_json:
        for row in rows:
            print_json(row.to_json())
    elif len(failed) < len(targets) or not targets:
        screen.print(chart(rows))
        where = " at the targets that could be asked" if failed else ""
        remarks.print(f"{plural(len(rows), 'row')} parked{where}")
    for trouble in failed:
        remarks.print(f"error: not asked: {trouble}", markup=False)
    if failed:
        raise typer.Exit(EXIT_FAILED)


def show(config: ConfigFile, name: Name) -> None:
    """Show one parked row as JSON: why it waits and until when, its cells, its place at the source."""
    loaded = read_config(config, quiet=True).config
    topic, *numbers = name.rsplit("/", 3)
    is_name = len(numbers) == 3 and all(map(str.isdecimal, numbers))  # noqa: PLR2004 - WaitingRow.name
    for target in mysql_targets(loaded, None) if is_name else ():
        own = Topics(loaded.kafka.topic_prefix).target(target.name)
        if topic != own and not topic.startswith(f"{own}.e"):
            continue
        with reading(loaded, target) as reader:
            row = reader.row((int(numbers[0]), int(numbers[1]), int(numbers[2])))
            change = None if row is None else reader.change(row)
        if row is not None and row.name == name and change is not None:
            print_json({**row.to_json(), "change": change})
            return
    raise FatalError(
        f"no parked row is called {name}",
        remedy="`gravity parked list CONFIG` shows those there are; it may have been taken, or set aside, meanwhile",
    )


def mysql_targets(config: Config, wanted: str | None) -> list[MysqlTarget]:
    """The targets at which rows may wait; `wanted`: only this one.

    Raises:
        UnknownNameError: `wanted` is no target, or one of another type.
    """
    found = [target for target in config.targets if isinstance(target, MysqlTarget)]
    if wanted is None:
        return found
    chosen = [target for target in found if target.name == wanted]
    if chosen:
        return chosen
    names = [target.name for target in found]
    declared = f"MySQL targets are: {', '.join(names) or 'none'}"
    if any(target.name == wanted for target in config.targets):
        raise UnknownNameError(f"no rows are ever parked at {wanted}", remedy=declared)
    raise UnknownNameError(
        f"no target is called {wanted!r}{did_you_mean(wanted, names)}", remedy=declared
    )


@contextmanager
def reading(config: Config, target: MysqlTarget) -> Iterator[ParkedReader]:
    """A connection to a target. Raises what `ParkedReader` raises."""
    from gravity.parked_reader import ParkedReader

    reader = ParkedReader(config, target)
    try:
        yield reader
    finally:
        reader.close()


def chart(rows: list[WaitingRow]) -> Table:
    """The rows as a table."""
    shown = Table("name", "target", "table", "key", "source", "parked at", "why", "then")
    for row in rows:
        cells = (
            row.name, row.target, row.table, row.key, row.source, moment_text(row.since_us), row.why,
            then_text(row),
        )  # fmt: skip
        shown.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return shown


def moment_text(time_us: int) -> str:
    """A commit time, or that there was none yet."""
    if not time_us:
        return "before the first commit"
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def then_text(row: WaitingRow) -> str:
    """What becomes of a row that goes on being refused."""
    if row.park_us is None:
        return "waits until it is taken"
    if row.left_us is None:
        return (
            f"dead letter {duration_text(row.park_us // 1_000_000)} of its source's commits later"
        )
    if row.left_us == 0:
        return "dead letter when it is tried next"
    left = duration_text(-(-row.left_us // 1_000_000))
    return f"dead letter in {left} of its source's commits"
