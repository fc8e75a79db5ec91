"""`gravity explain`: for one row, which rules match, where it goes and why."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gravity.batch import DELETE, INSERT, UPDATE, Column, TableSchema, Value
from gravity.cli.option import (
    AsJson,
    ConfigFile,
    WaitSeconds,
    print_json,
    read_config,
    remarks,
    screen,
)
from gravity.codec import decode_batch, encode_batch
from gravity.config.problem import require_declared
from gravity.errors import FatalError
from gravity.explanation import Reason, batch_of, cells_of, reasons
from gravity.header import IngestHeader, IngestKind, RoutedKind
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.supervisor import UnknownNameError

if TYPE_CHECKING:
    from gravity.config import Config

_OPERATIONS = {
    ord("I"): "insert",
    ord("U"): "update",
    ord("D"): "delete",
    ord("M"): "delete (moved)",
}


@dataclass(frozen=True, slots=True)
class Way:
    """One row that a target gets."""

    target: str
    table: str
    partition: int
    op: str
    key: dict[str, int | float | str | None]
    """Column to value; bytes as hexadecimal digits."""
    row: dict[str, int | float | str | None]
    """The whole row as the target gets it; of a deleted one only the key counts."""


def explain(
    config: ConfigFile,
    *,
    source: Annotated[str, typer.Option(help="The source the row is from.")],
    table: Annotated[str, typer.Option(help="Its table there: `table` or `database.table`.")],
    row: Annotated[str, typer.Option(help="The row as a JSON object: column to value.")],
    before: Annotated[
        str, typer.Option(help="The row before an update; columns left out are as in --row.")
    ] = "",
    delete: Annotated[bool, typer.Option("--delete", help="The row is deleted.")] = False,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Don't ask the source for the table: guess types from the values, and that the first "
            "column is the key.",
        ),
    ] = False,
    as_json: AsJson = False,
    wait_s: WaitSeconds = 10.0,
) -> None:
    """Show for one row which rules match, where it goes and why.

    The row is put through the router's own code under the plan that the file makes, so what is shown is
    what is done. Nothing is sent.
    """
    loaded = read_config(config, quiet=as_json)
    after_json, before_json = _object(row, "--row"), _object(before or "{}", "--before")
    if before and delete:
        raise typer.BadParameter("a deleted row has none: give it as --row", param_hint="--before")
    found = _table(loaded.config, source, table, after_json, wait_s=wait_s, offline=offline)
    plan = compile_plan(loaded.config, [found])
    schema = found.schema
    after = cells_of(schema, after_json)
    earlier = cells_of(schema, after_json | before_json) if before else None
    op = DELETE if delete else UPDATE if before else INSERT
    batch = batch_of(plan, source, schema, op, (after, earlier))
    why = reasons(plan, source, schema, (after, earlier))
    ways = _ways(plan, source, encode_batch(batch), schema)
    if as_json:
        print_json({
            "source": source, "table": f"{schema.database}.{schema.table}", "op": _OPERATIONS[op],
            "rules": [asdict(reason) for reason in why], "sent": [asdict(way) for way in ways],
        })  # fmt: skip
        return
    screen.print(_rules_chart(why, with_before=earlier is not None))
    shaped = any(feed.shapes for feed in plan.feeds(source, schema))
    screen.print(
        _ways_chart(ways, shaped=shaped) if ways else "[yellow]sent nowhere[/]: counted as filtered"
    )


def _object(text: str, option: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(
            f'not JSON: {error}; write {{"id": 1}}', param_hint=option
        ) from None
    if not isinstance(value, dict):
        raise typer.BadParameter('not a JSON object; write {"id": 1}', param_hint=option)
    return value


def _table(
    config: Config, source: str, name: str, row: dict[str, Any], *, wait_s: float, offline: bool
) -> SourceTable:
    require_declared("source", source, [part.name for part in config.sources], UnknownNameError)
    if offline:
        return _guessed(source, name, row)
    from gravity.activation import source_tables

    only = config.model_copy(
        update={"sources": tuple(s for s in config.sources if s.name == source)}
    )
    tables = source_tables(only, wait_s)
    fitting = [
        t for t in tables if name in (t.schema.table, f"{t.schema.database}.{t.schema.table}")
    ]
    if len(fitting) == 1:
        return fitting[0]
    known = [f"{t.schema.database}.{t.schema.table}" for t in fitting or tables]
    raise UnknownNameError(
        f"{name} is not one table of {source}", remedy=f"say which of {', '.join(known)}"
    )


def _guessed(source: str, name: str, row: dict[str, Any]) -> SourceTable:
    if not row:
        raise typer.BadParameter("a row without columns: give at least its key", param_hint="--row")
    remarks.print("[yellow]notice[/] types are guessed and the first column is taken for the key")
    columns = tuple(Column(column, _guessed_type(value)) for column, value in row.items())
    database, _, table = name.rpartition(".")
    return SourceTable(source, TableSchema(database or "app", table, columns, (0,)))


def _guessed_type(value: Any) -> str:
    match value:
        case int():
            return "bigint"
        case float():
            return "double"
        case dict() | list():
            return "json"
        case _:
            return "varchar(255)"


def _ways(plan: RoutingPlan, source: str, value: bytes, schema: TableSchema) -> list[Way]:
    # By name, as `run` starts it: the library imports no service.
    if importlib.util.find_spec("gravity_router") is None:
        raise FatalError("the router is not installed here", remedy="pip install gravity-router")
    route = importlib.import_module("gravity_router.routing").route
    name = f"{schema.database}.{schema.table}"
    header = IngestHeader(IngestKind.ROWS, source, 1, 1, rows=1, plan=plan.version, table=name)
    ways = []
    for message in route(header, value, plan):
        if message.header.kind is not RoutedKind.ROWS:
            continue
        batch = decode_batch(message.value)
        names = tuple(batch.schema.column_index)
        for op, cells in zip(batch.ops, batch.rows(), strict=True):
            row = {name: _printable(cell) for name, cell in zip(names, cells, strict=True)}
            key = {name: row[name] for name in batch.schema.key_names}
            target, table = message.target, message.header.table
            ways.append(Way(target, table, message.partition, _OPERATIONS[op], key, row))
    return ways


def _printable(cell: Value) -> int | float | str | None:
    return cell.hex() if isinstance(cell, bytes) else cell


def _rules_chart(found: Sequence[Reason], *, with_before: bool) -> Table:
    columns = [
        "target",
        "rule",
        "takes the row",
        *(["took it before"] if with_before else []),
        "why",
    ]
    table = Table(*columns)
    for reason in found:
        before = [_verdict(reason.before)] if with_before else []
        cells = (reason.target, reason.rule, _verdict(reason.now), *before, reason.why)
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table


def _verdict(value: bool | None) -> str:
    return "NULL: no" if value is None else "yes" if value else "no"


def _ways_chart(ways: Sequence[Way], *, shaped: bool) -> Table:
    """`shaped`: some target has other columns than the source."""
    table = Table("sent to", "table", "partition", "operation", "row" if shaped else "key")
    for way in ways:
        row = way.row if shaped and not way.op.startswith("delete") else way.key
        shown = ", ".join(f"{name}={'NULL' if v is None else v}" for name, v in row.items())
        cells = (way.target, way.table, str(way.partition), way.op, shown)
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table
