"""Which rows of which source are to be read again so that dead letters are sent anew. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gravity.batch import REMOVES_ROW, ChangeBatch, Value
from gravity.codec import decode_batch
from gravity.errors import FormatError
from gravity.plan import RoutingPlan
from gravity.record_log import Entry
from gravity.transform.rule import TransformPlan

ROWS_A_REQUEST = 200


@dataclass(frozen=True, slots=True)
class Reread:
    """Rows of one table of a source, for `gravity snapshot`."""

    source: str
    database: str
    table: str
    where: str
    letters: tuple[Entry, ...]
    """The dead letters that it is about."""


def rereads(entries: Iterable[Entry], plan: RoutingPlan) -> Iterator[Reread]:
    """The letters' rows by source and table, few enough a request for one condition.

    `plan` says what the source calls a column that has another name at the letter's target.
    """
    by_table: dict[tuple[str, str, str], list[tuple[Entry, str]]] = {}
    for entry in entries:
        batch = row_of(entry)
        if batch is not None:
            name = (batch.source, batch.schema.database, batch.schema.table)
            rule = plan.target(entry.record["target"]).transform(*name)
            by_table.setdefault(name, []).append((entry, _condition(batch, rule)))
    for (source, database, table), rows in by_table.items():
        for start in range(0, len(rows), ROWS_A_REQUEST):
            some = rows[start : start + ROWS_A_REQUEST]
            where = " OR ".join(dict.fromkeys(condition for _, condition in some))
            yield Reread(source, database, table, where, tuple(entry for entry, _ in some))


def row_of(entry: Entry) -> ChangeBatch | None:
    """The one row of a letter that can be read again: it has a key, and its source has not deleted it."""
    try:
        batch = decode_batch(entry.record["value"])
    except FormatError:
        return None
    if len(batch) != 1 or not batch.schema.key or batch.ops[0] in REMOVES_ROW:
        return None
    return batch


def _condition(batch: ChangeBatch, rule: TransformPlan | None) -> str:
    parts = []
    for index in batch.schema.key:
        column = batch.schema.columns[index].name
        name = column if rule is None else rule.source_name(column)
        if name is not None:  # What a transform adds is the same in every row of the table.
            quoted = name.replace("`", "``")
            parts.append(f"`{quoted}` = {_literal(batch.columns[index][0])}")
    return f"({' AND '.join(parts)})"


def _literal(value: Value) -> str:
    """A key's cell in SQL. Texts in hexadecimal: no setting of the server changes what that means."""
    if isinstance(value, str):
        return f"_utf8mb4 0x{value.encode().hex()}" if value else "''"
    if isinstance(value, bytes):
        return f"0x{value.hex()}" if value else "''"
    return repr(value)
