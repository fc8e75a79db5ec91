"""Whether tables have the columns that events take from them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gravity.batch import TableSchema
from gravity.column import ColumnType
from gravity.config.event import EVENT_TYPE
from gravity.errors import FatalError

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.config.event import Event, EventTimestamp

_MOMENTS = ("date", "datetime", "timestamp")


def column_indexes(event: Event, schema: TableSchema) -> list[tuple[str, int]]:
    """(field, index of its column) in the order of the event. Names of columns are in any case, as in SQL."""
    if not event.fields:
        return [(column.name, index) for index, column in enumerate(schema.columns)]
    return [(field, _index(column, schema)) for field, column in event.fields.items()]


def timestamp_index(timestamp: EventTimestamp, schema: TableSchema) -> int | None:
    """The column that says when; None: it is when the source committed."""
    return None if timestamp.from_ is None else _index(timestamp.from_, schema)


def _index(name: str, schema: TableSchema) -> int:
    exact = schema.column_index.get(name)
    if exact is not None:
        return exact
    by_lower = {column.lower(): index for column, index in schema.column_index.items()}
    return by_lower[name.lower()]


def require_fit(event: Event, schema: TableSchema, *, where: str) -> None:
    """Returns if rows of the table can appear as the event says.

    Raises:
        FatalError: a column is missing or no moment, or two fields would have one name.
    """
    for what, remedy in _misfits(event, schema):
        raise FatalError(what, where=where, remedy=remedy)


def _misfits(event: Event, schema: TableSchema) -> Iterator[tuple[str, str]]:
    mend = f"mend the entry of `events` for {', '.join(event.tables)}"
    timestamp = event.timestamp
    wanted = list(event.fields.values())
    if timestamp is not None and timestamp.from_ is not None:
        wanted.append(timestamp.from_)
    known = {name.lower() for name in schema.column_index}
    for name in wanted:
        if name.lower() not in known:
            yield f"an event takes column {name}, which the table does not have", mend
            return
    if timestamp is not None and (index := timestamp_index(timestamp, schema)) is not None:
        kind = ColumnType.parse(schema.columns[index].type)
        if kind.name not in _MOMENTS:
            what = f"an event takes its time from column {timestamp.from_}, which is {kind.text}"
            yield what, f"{mend}: it must be DATE, DATETIME or TIMESTAMP"
    ours = {EVENT_TYPE} | ({timestamp.field} if timestamp is not None else set())
    taken = [column.name for column in schema.columns if column.name in ours]
    if not event.fields and taken:
        what = f"the event's own field {taken[0]} is called as a column of the table is"
        yield what, "name the `fields` of the event, or give the time's `field` another name"


def require_fits(config: Config, tables: Iterable[tuple[str, TableSchema, Iterable[str]]]) -> None:
    """Returns if every event of the configuration fits its tables: (source, shape, targets it flows to).

    Raises:
        FatalError: as `require_fit`, naming target, source and table.
    """
    targets = {target.name: target for target in config.targets if target.type == "kafka"}
    for source, schema, names in tables:
        for target in filter(None, map(targets.get, names)):
            if target.format_of(schema.database, schema.table) == "event":
                event = target.event_of(schema.database, schema.table)
                where = f"target {target.name}, table {schema.database}.{schema.table} of {source}"
                require_fit(event, schema, where=where)
