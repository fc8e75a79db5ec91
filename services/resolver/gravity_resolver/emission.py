"""What the resolver sends when sources disagree: batches of winners. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from gravity.batch import (
    DELETE,
    REMOVES_ROW,
    UNCOUNTED,
    UPDATE,
    ChangeBatch,
    Column,
    TableSchema,
    Transaction,
    Value,
)
from gravity.errors import FatalError, FormatError
from gravity.header import RoutedHeader
from gravity.resolution.register import OPERATOR, Register
from gravity.resolution.strategy import Outcome


def batches_of(
    header: RoutedHeader, batch: ChangeBatch, winners: list[tuple[int, Outcome]]
) -> list[tuple[RoutedHeader, ChangeBatch]]:
    """The winners as batches, one per run of rows with the same columns."""
    runs: list[list[tuple[int, Outcome]]] = []
    for item in winners:
        if runs and runs[-1][0][1].columns == item[1].columns:
            runs[-1].append(item)
        else:
            runs.append([item])
    return [_run(header, batch, run) for run in runs]


def _run(
    header: RoutedHeader, batch: ChangeBatch, run: list[tuple[int, Outcome]]
) -> tuple[RoutedHeader, ChangeBatch]:
    columns = run[0][1].columns
    names = {column.name: index for index, column in enumerate(columns)}
    lacking = {name for _, outcome in run for name in outcome.lacking}
    missing = [name for name in batch.schema.key_names if name not in names or name in lacking]
    if missing:
        raise FatalError(
            f"a source's table has no column {missing[0]}, which is the key at {batch.source}",
            where=f"table {header.table}, source {run[0][1].winner}",
            remedy="give the sources' tables one key, or send them to tables of their own",
        )
    key = tuple(names[name] for name in batch.schema.key_names)
    loose = _loosened(columns, key)
    schema = TableSchema(batch.schema.database, batch.schema.table, loose, key)
    taken = batch.take([index for index, _ in run], before=False)
    ops, rows = [], []
    for (index, outcome), op in zip(run, taken.ops, strict=True):
        if outcome.row is None:
            ops.append(op if op in REMOVES_ROW else DELETE)
            rows.append(_key_row(batch, index, schema))
        else:
            ops.append(UPDATE)  # Whether the target had a row is not this change's to say.
            rows.append(outcome.row)
    out = ChangeBatch(
        source=batch.source,
        epoch=batch.epoch,
        schema=schema,
        transactions=taken.transactions,
        ops=bytes(ops),
        tx=taken.tx,
        ordinal=taken.ordinal,
        columns=list(zip(*rows, strict=True)),
        origin=taken.origin,
        row_source=[outcome.winner for _, outcome in run],
    )
    described = replace(
        header,
        rows=len(run),
        counted=sum(batch.ops[index] not in UNCOUNTED for index, _ in run),
        first=out.origin_of(0),
        last=out.origin_of(len(run) - 1),
        schema=schema.schema_id,
    )
    return described, out


@lru_cache(maxsize=1024)
def _loosened(columns: tuple[Column, ...], key: tuple[int, ...]) -> tuple[Column, ...]:
    """The columns as a target of several sources must have them: NULL where a source has no such column."""
    return tuple(
        column if column.nullable or index in key else replace(column, nullable=True)
        for index, column in enumerate(columns)
    )


def _key_row(batch: ChangeBatch, index: int, schema: TableSchema) -> tuple[Value, ...]:
    """The deleted row in the columns of `schema`: what the batch knows of it, NULL for the rest."""
    known = batch.schema.column_index
    return tuple(
        batch.columns[known[column.name]][index] if column.name in known else None
        for column in schema.columns
    )


def operators_batch(
    table: str, key: Sequence[Value], key_columns: Sequence[str], registers: Mapping[str, Register]
) -> ChangeBatch:
    """A batch of one row that stands for an operator's decision, at the place of the row's latest change.

    Raises FormatError when no source's table has the key's columns.
    """
    columns: dict[str, Column] = {}
    for _, reg in sorted(registers.items()):
        for column in reg.shape.columns:
            columns.setdefault(column.name, column)
    names = list(columns)
    missing = [name for name in key_columns if name not in columns]
    if missing or len(key) != len(key_columns):
        raise FormatError(f"an operator's decision about key {', '.join(key_columns)}")
    latest = max(registers.values(), key=lambda reg: (reg.ets, reg.position))
    at = latest.position
    database, _, name = table.partition(".")
    indexes = tuple(names.index(column) for column in key_columns)
    cells = dict(zip(indexes, key, strict=True))
    return ChangeBatch(
        source=OPERATOR,
        epoch=at.epoch,
        schema=TableSchema(database, name, tuple(columns.values()), indexes),
        transactions=[Transaction("", at.file_index, at.offset, latest.ets, latest.ets)],
        ops=bytes([UPDATE]),
        tx=[0],
        ordinal=[at.ordinal],
        columns=[[cells.get(index)] for index in range(len(names))],
    )
