"""`gravity filtered`: the rows that no rule sends to a target, by table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gravity.cli.option import AsJson, ConfigFile, plural, print_json, read_config, screen
from gravity.config.problem import require_declared
from gravity.header import RoutedHeader, RoutedKind
from gravity.supervisor import UnknownNameError
from gravity.topic import Topics

if TYPE_CHECKING:
    from gravity.config import Config

MESSAGES_DEFAULT = 100_000

Place = tuple[str, str, str]
"""(source, table at the source, target)."""


def filtered(
    config: ConfigFile,
    *,
    target: Annotated[str | None, typer.Option(help="Only of this target.")] = None,
    last: Annotated[
        int,
        typer.Option(help="Messages to look at, from the newest back, in each partition.", min=1),
    ] = MESSAGES_DEFAULT,
    as_json: AsJson = False,
) -> None:
    """List by table the rows that no rule sends to a target: those counted as filtered.

    Counted from the notes that the router leaves in the log, so as far back as `--last` and the topics'
    retention reach. `gravity explain` says why one such row goes where it goes.
    """
    loaded = read_config(config, quiet=as_json)
    names = [part.name for part in loaded.config.targets]
    if target is not None:
        require_declared("target", target, names, UnknownNameError)
        names = [target]
    counts: Counter[Place] = Counter()
    for name in names:
        for headers in _logs(loaded.config, name, last):
            counts += count_notes(name, headers)
    found = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if as_json:
        for (source, table, name), rows in found:
            print_json({"source": source, "table": table, "target": name, "rows": rows})
        return
    shown = Table("source", "table", "not sent to", "rows")
    for (source, table, name), rows in found:
        shown.add_row(source, table, name, str(rows))
    if found:
        screen.print(shown)
    screen.print(f"{plural(sum(counts.values()), 'row')} filtered")


def count_notes(target: str, headers: Iterable[RoutedHeader]) -> Counter[Place]:
    """Rows filtered on the way to `target`, by the headers of one partition in order.

    What a router sent again after a restart has a number that was there before, and counts once.
    """
    counts: Counter[Place] = Counter()
    newest: dict[str, int] = {}
    for header in headers:
        if header.kind is not RoutedKind.NOTE or header.seq <= newest.get(header.source, 0):
            continue
        newest[header.source] = header.seq
        counts[header.source, header.table, target] += header.filtered
    return counts


def _logs(config: Config, target: str, last: int) -> Iterator[Iterator[RoutedHeader]]:
    """The headers of each partition of the target's routed topic."""
    from gravity.kafka.admin import TopicAdmin
    from gravity.kafka.reader import LogReader

    topic = Topics(config.kafka.topic_prefix).routed(target)
    partitions = TopicAdmin(config.kafka).partition_counts().get(topic, 0)
    reader = LogReader(config.kafka, "gravity-filtered")
    try:
        for partition in range(partitions):
            low, high = reader.bounds(topic, partition)
            start = max(low, high - last)
            yield (
                RoutedHeader.from_kafka(message.headers)
                for message in reader.read(topic, partition, start, high)
            )
    finally:
        reader.close()
