"""What the resolver sends when sources disagree: batches of winners, records of conflicts. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from gravity.batch import (
    DELETE,
    MOVED,
    REMOVES_ROW,
    UPDATE,
    ChangeBatch,
    TableSchema,
    Value,
)
from gravity.codec import encode_record
from gravity.errors import FatalError
from gravity.header import RoutedHeader
from gravity.plan import Resolution
from gravity.resolution.register import Register
from gravity.resolution.strategy import Hold, Outcome, Verdict
from gravity_resolver.row_state import cell_to_json

# Made once: json.dumps with separators makes an encoder a call, which is most of its cost here.
_readable_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


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
    missing = [name for name in batch.schema.key_names if name not in names]
    if missing:
        raise FatalError(
            f"a source's table has no column {missing[0]}, which is the key at {batch.source}",
            where=f"table {header.table}, source {run[0][1].winner}",
            remedy="give the sources' tables one key, or send them to tables of their own",
        )
    key = tuple(names[name] for name in batch.schema.key_names)
    schema = TableSchema(batch.schema.database, batch.schema.table, columns, key)
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
        counted=sum(batch.ops[index] != MOVED for index, _ in run),
        first=out.origin_of(0),
        last=out.origin_of(len(run) - 1),
        schema=schema.schema_id,
    )
    return described, out


def _key_row(batch: ChangeBatch, index: int, schema: TableSchema) -> tuple[Value, ...]:
    """The deleted row in the columns of `schema`: what the batch knows of it, NULL for the rest."""
    known = batch.schema.column_index
    return tuple(
        batch.columns[known[column.name]][index] if column.name in known else None
        for column in schema.columns
    )


def outcome_name(outcome: Verdict | None) -> str:
    """`row`, `delete` or `hold`."""
    if isinstance(outcome, Hold):
        return "hold"
    return "row" if outcome is not None and outcome.row is not None else "delete"


def conflict_record(
    target: str,
    *,
    header: RoutedHeader,
    batch: ChangeBatch,
    index: int,
    kind: str,
    rule: Resolution,
    outcome: Verdict | None,
    registers: Mapping[str, Register],
) -> bytes:
    """The conflict that row `index` met, for the conflicts topic (schemas/conflict.avsc)."""

    def row_text(reg: Register) -> str | None:
        if reg.row is None:
            return None
        names = [column.name for column in reg.shape.columns]
        return _readable_json(dict(zip(names, map(cell_to_json, reg.row), strict=True)))

    return encode_record(
        "conflict",
        {
            "target": target,
            "table": header.table,
            "key": _readable_json(
                [cell_to_json(batch.columns[i][index]) for i in batch.schema.key]
            ),
            "kind": kind,
            "strategy": rule.strategy,
            "outcome": outcome_name(outcome),
            "winner": outcome.winner if isinstance(outcome, Outcome) else "",
            "source": batch.source,
            "seq": header.seq,
            "row": batch.origin_of(index),
            "plan": header.plan,
            "opinions": [
                {
                    "source": source,
                    "position": str(reg.position),
                    "ets": reg.ets,
                    "row": row_text(reg),
                }
                for source, reg in sorted(registers.items())
            ],
        },
    )
