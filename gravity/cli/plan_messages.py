"""What the readers of Kafka targets get, as `gravity plan` shows it: formats, topics, events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table

from gravity.config.event import event_without_entry
from gravity.config.target import KafkaTarget

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.event import Event


@dataclass(frozen=True, slots=True)
class Messages:
    """How rows of some source tables appear at a Kafka target."""

    target: str
    tables: tuple[str, ...]
    """Patterns, or one table; of several rows of a target the first that means a table counts."""
    format: str
    topic: str
    """As the file says it, with names in braces."""
    says: tuple[str, ...] = ()
    """Of events: what they are called, their fields, their time."""


def messages_by_pattern(config: Config) -> list[Messages]:
    """What the file says, entry by entry."""
    return [said for target in _kafka_targets(config) for said in _entries(target)]


def messages_by_table(config: Config, flows: Sequence[tuple[str, str, str]]) -> list[Messages]:
    """What becomes of each table; `flows` are (target, database, table at the source) of all rows' ways."""
    targets = {target.name: target for target in _kafka_targets(config)}
    found = []
    for name, database, table in flows:
        if (target := targets.get(name)) is not None:
            form = target.format_of(database, table)
            tables = (f"{database}.{table}",)
            if form == "event":
                found.append(_event(target, target.event_of(database, table), tables))
            else:
                found.append(Messages(name, tables, form, target.topic))
    return found


def _kafka_targets(config: Config) -> list[KafkaTarget]:
    return [target for target in config.targets if isinstance(target, KafkaTarget)]


def _entries(target: KafkaTarget) -> Iterator[Messages]:
    for event in target.events:
        yield _event(target, event, event.tables)
    for pattern, form in target.format.items():
        if form == "event":
            yield _event(target, event_without_entry(), (pattern,))
        else:
            yield Messages(target.name, (pattern,), form, target.topic)
    if "*" not in target.format:
        yield Messages(target.name, ("*",), "json", target.topic)


def _event(target: KafkaTarget, event: Event, tables: tuple[str, ...]) -> Messages:
    return Messages(target.name, tables, "event", event.topic or target.topic, describe(event))


def describe(event: Event) -> tuple[str, ...]:
    """What an event's messages hold, in a line for each part."""
    names = event.event_type
    read = "" if names.read is None else f", read: {names.read}"
    kinds = f"insert: {names.insert}, update: {names.update}, delete: {names.delete}{read}"
    fields = ", ".join(
        field if field == column else f"{field} = {column}"
        for field, column in event.fields.items()
    )
    lines = (kinds, f"fields: {fields or 'all columns'}")
    when = event.timestamp
    if when is None:
        return lines
    zone = "" if when.from_ is None else f", {when.time_zone}"
    return (*lines, f"{when.field} = {when.from_ or 'commit time'} as {when.as_}{zone}")


def chart(messages: Sequence[Messages]) -> Table:
    """The messages as a table."""
    shown = Table("target", "tables", "format", "topic", "events", title="messages")
    for said in messages:
        cells = (said.target, ", ".join(said.tables), said.format, said.topic, "\n".join(said.says))
        shown.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return shown
