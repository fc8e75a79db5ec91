"""What must hold in the end: what targets hold, what ended how. No core of the product."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterator
from typing import Any

from gravity.batch import DELETE, READ, REMOVES_ROW
from gravity.codec import decode_batch, decode_record
from gravity.header import IngestKind, RoutedKind
from gravity.position import Position
from gravity.schema_change import ColumnAction, SchemaChange, TableAction
from tests.oracle.resolve import outcome

from .altering import EXTRA, NARROW_ROW, Value
from .back import restore
from .parking import refers
from .statement import Statement
from .world import (
    BAR_BY_PLAN,
    CONTESTED,
    MERGED,
    NARROW,
    PARTS,
    Message,
    Row,
    Source,
    ViolationError,
    World,
    shared,
)

COLUMNS = ("k", "amount", "stamp")


def wanted(world: World, target: str, table: str, value: Value | None) -> bool:
    if value is None:
        return False
    if table.startswith("cond"):
        return (value[0] >= 50) == (target == world.targets[0])
    return True


Heard = tuple[Position, bool, Value | None, int]
"""(position, has the row, the row, time) of the latest that a source said."""


def hear(old: Heard | None, row: Row, *, live: bool) -> Heard:
    ets = 0 if row.op == READ else row.ets
    said = (row.position, live, row.value if live else None, ets)
    if old is None:
        return said
    newest = said if row.position > old[0] else old
    return (*newest[:3], max(ets, old[3]))


def verdict(table: str, said: dict[int, Heard]) -> Value | None:
    """`timestamp-latest` for table latest, else `source-priority`; sources are their own ranks."""
    if table == "latest":
        winner = max(said, key=lambda s: (said[s][3], -s))
        return said[winner][2]
    deletes = [(s, held[3]) for s, held in said.items() if not held[1]]
    for source in sorted(said):
        _, live, value, ets = said[source]
        if live and not any(s <= source and when >= ets for s, when in deletes):
            return value
    return None


Told = dict[tuple[str, int], tuple[list[dict[str, Any]], list[dict[str, Any]]]]
"""Row to its events and decisions, as tests/oracle/resolve.py reads them."""


def heard(world: World, target: str, partition: int) -> tuple[Told, set[str]]:
    """What a partition's log says of the tables that several sources feed, and which were emptied."""
    emptied: list[tuple[str, dict[str, Any]]] = []
    altered: list[tuple[str, SchemaChange]] = []
    found: Told = collections.defaultdict(lambda: ([], []))
    for offset, (header, value, _) in enumerate(world.routed[target, partition]):
        table = header.table.removeprefix("app.")
        if header.kind is RoutedKind.DECISION:
            if ((target, partition), offset) in world.refused:
                continue
            record = decode_record("decision", value)
            row = None if record["row"] is None else json.loads(record["row"])
            cover = {seen["source"]: Position.parse(seen["position"]) for seen in record["cover"]}
            decision = {"seq": offset, "cover": cover, "row": row}
            found[table, json.loads(record["key"])[0]][1].append(decision)
        elif header.kind is RoutedKind.SCHEMA:
            change = SchemaChange.decode(value)
            if change.action is TableAction.ALTER:
                altered.append((table, change))
                continue
            floor = {"source": header.source, "op": "T", "pos": Position.parse(change.position),
                     "row": None, "ets": change.ets, "columns": COLUMNS}  # fmt: skip
            emptied.append((table, floor))
        elif header.kind is RoutedKind.ROWS and table in CONTESTED:
            batch = decode_batch(value)
            for index, cells in enumerate(batch.rows()):
                op = {"I": "U", "M": "D"}.get(chr(batch.ops[index]), chr(batch.ops[index]))
                names = batch.schema.column_index
                row = None if op == "D" else dict(zip(names, cells, strict=True))
                event = {"source": batch.source, "op": op, "pos": batch.position_of(index), "row": row,
                         "ets": batch.transactions[batch.tx[index]].ets, "columns": tuple(names)}  # fmt: skip
                found[table, cells[0]][0].append(event)
    for (name, _), (events, _) in found.items():
        for table, change in altered:
            for event in events if table == name else ():
                widen(event, change)
        events += [floor for table, floor in emptied if table == name]
    return found, {table for table, _ in (*emptied, *altered)}


def widen(event: dict[str, Any], change: SchemaChange) -> None:
    """What an older event of the source would have said, had the table had its new column."""
    if event["source"] != change.source or event["pos"] > Position.parse(change.position):
        return
    if EXTRA not in event["columns"]:
        default = change.columns[0].default
        event["columns"] = (*event["columns"], EXTRA)
        if event["row"] is not None:
            event["row"] = {**event["row"], EXTRA: None if default is None else int(default)}


def as_value(row: dict[str, Any]) -> Value:
    return tuple(row[name] for name in ("amount", "stamp", EXTRA) if name in row)


def resolved(
    world: World, target: str
) -> tuple[dict[tuple[str, int], Value | None], set[tuple[str, int]], dict[int, int]]:
    """What the target must hold of the tables RESOLVED and of rows that an operator decided about.

    Also the rows on hold, and how many a partition has.
    """
    want: dict[tuple[str, int], Value | None] = {}
    held: set[tuple[str, int]] = set()
    holds: dict[int, int] = dict.fromkeys(range(PARTS), 0)
    sources = [f"s{source.number}" for source in world.source]
    rules = {
        "latest": {"strategy": "timestamp-latest", "sources": sources},
        "priority": {"strategy": "source-priority", "sources": sources},
        "merge": {"strategy": "merge", "sources": sources, "columns": MERGED},
        "stop": {"strategy": "error-stop", "sources": sources},
    }
    for partition in range(PARTS):
        told, changed = heard(world, target, partition)
        for (table, key), (events, decisions) in told.items():
            if table in NARROW and not decisions and table not in changed:
                continue  # Judged by `verdict`, over the sources' own histories.
            kind, row = outcome(rules[table], events, decisions)
            if kind == "hold":
                held.add((table, key))
                holds[partition] += 1
            else:
                want[table, key] = as_value(row) if kind == "row" else None
    return want, held, holds


def history_of(source: Source) -> Iterator[Row | Statement]:
    """Everything that a source committed."""
    for number, rows in enumerate(source.binlog):
        if number in source.statements:
            yield source.statements[number]
        yield from rows


def expected(world: World, target: str) -> dict[tuple[str, int], Value]:
    """What the target must hold: the verdict over all histories; single-source tables their source."""
    said: dict[tuple[str, int], dict[int, Heard]] = collections.defaultdict(dict)
    for source in world.source:
        first = Position(0, 0, 0)
        rows = [
            Row(source.number, table, READ, key, None, value, None, first, 0)
            for table, held in source.initial.items()
            for key, value in held.items()
        ]
        for row in [*rows, *history_of(source)]:
            if isinstance(row, Statement) and row.action is TableAction.ALTER:
                continue  # Judged by the log.
            if isinstance(row, Statement):
                for (table, _), of_row in said.items():
                    if table == row.table and source.number in of_row:
                        ets = max(row.ets, of_row[source.number][3])
                        of_row[source.number] = (row.position, False, None, ets)
                continue
            if row.table not in NARROW:
                continue
            mine = said[row.table, row.key]
            if row.old is not None and row.old != row.key:
                left = said[row.table, row.old]
                left[source.number] = hear(left.get(source.number), row, live=False)
            mine[source.number] = hear(mine.get(source.number), row, live=row.op != DELETE)
    want = {k: value for k, held in said.items() if (value := verdict(k[0], held)) is not None}
    for source in world.source:
        for table, held in source.tables.items():
            if table not in (*CONTESTED, source.log):
                for key, value in held.items():
                    if wanted(world, target, table, value):
                        want[table, key] = value
        plans = plans_of_log(world, source.number)
        for row in (row for t in source.binlog for row in t if row.table == source.log):
            bar = BAR_BY_PLAN[plans[row.key]]
            if row.value and (row.value[0] >= bar) == (target == world.targets[0]):
                want[row.table, row.key] = row.value
    return want


def check_times(source: Source, value: bytes) -> None:
    """Each row is told at the time of its commit, whoever tells it."""
    for transaction in decode_batch(value).transactions:
        committed = source.binlog[int(transaction.gtid.rpartition("-")[2]) - 1][0].ets
        if transaction.ets != committed:
            raise ViolationError(
                f"ingest {source.number}: {transaction.gtid} of {committed} is told at {transaction.ets}"
            )


def valid(world: World, number: int) -> Iterator[Message]:
    """A source's log as every reader takes it: neither void nor repeated."""
    top = last = 0
    for message in world.ingest[number]:
        header = message.header
        if header.kind is IngestKind.FENCE:
            top = max(top, header.owner)
        elif header.owner >= top and header.seq > last:
            last = header.seq
            yield message


def plans_of_log(world: World, number: int) -> dict[int, int]:
    """The plan under which each row of the growing table was published, by its key."""
    plans: dict[int, int] = {}
    for header, value, _ in valid(world, number):
        if header.kind is IngestKind.ROWS and header.table == f"app.{world.source[number].log}":
            plans |= {row[0]: header.plan for row in decode_batch(value).rows()}  # type: ignore[misc]
    return plans


def contents(world: World, target: str) -> dict[tuple[str, int], Value]:
    if target == "mysql":
        return dict(world.mysql.rows)
    if target == "clickhouse":
        return world.clickhouse.final()
    rows: dict[tuple[str, int], Value] = {}
    homes: dict[tuple[str, int], int] = {}
    newest: dict[Any, Position] = {}
    for table, key, value, source, position, partition, change in world.kafka.log:
        if key is None and change is not None:
            if not shared(table):  # Of those what comes out otherwise is said again.
                for row in [row for row in rows if row[0] == table and homes[row] == partition]:
                    rows[row] = altered(rows[row], change)
            continue
        if key is None:
            for row in [row for row in rows if row[0] == table and homes[row] == partition]:
                del rows[row]
            continue
        homes[table, key] = partition
        if value is None:
            rows.pop((table, key), None)
        else:
            rows[table, key] = value
        if table not in CONTESTED:
            if newest.get((table, key, source), Position(0, 0, 0)) > position:
                raise ViolationError(f"kafka: order of {table} {key} of {source} reversed")
            newest[table, key, source] = position
    return rows


def altered(value: Value, change: SchemaChange) -> Value:
    """A row as a consumer has it who follows what he is told of its table."""
    for item in change.columns:
        if item.action is ColumnAction.ADD:
            value = (*value, None if item.default is None else int(item.default))
        elif item.action is ColumnAction.DROP:
            value = value[:NARROW_ROW]
    return value


def padded(value: Value) -> Value:
    """A row with a third column; what nobody has said of it is NULL."""
    return value if len(value) > NARROW_ROW else (*value, None)


def rows_of_log(world: World, key: tuple[str, int]) -> int:
    """The rows that a target partition has, repeats and voids left out."""
    last = term = rows = 0
    for header, _, _ in world.target[key]:
        term = max(term, header.term)
        if header.term == term and header.out_seq > last:
            last, rows = header.out_seq, rows + header.routed.rows
    return rows


def taken(world: World) -> dict[tuple[str, int], Value]:
    """What tables with foreign keys must hold: each key's last change of those that were not set aside.

    Nor those that waited, refused, until a newer change waited in their place: it may be set aside in the end.
    """
    rows: dict[tuple[str, int], Value] = {}
    for part, stored in world.mysql.progress.items():
        last = term = 0
        for offset, (header, value, _) in enumerate(world.target["mysql", part]):
            term = max(term, header.term)
            if header.term != term or header.out_seq <= last:
                continue
            last = header.out_seq
            table = header.routed.table.removeprefix("app.")
            if header.routed.kind is not RoutedKind.ROWS or not refers(table):
                continue
            batch = decode_batch(value)
            for number, (op, row) in enumerate(zip(batch.ops, batch.rows(), strict=True)):
                key, *cells = row
                if (offset, number) in stored["dead"] | stored["replaced"]:
                    continue
                if op in REMOVES_ROW:
                    rows.pop((table, key), None)
                else:
                    rows[table, key] = tuple(cells)
    return rows


def check_order(world: World, target: str) -> None:
    """Where rows leave by commit time: none that is not marked late comes behind a later one."""
    # What a statement makes of rows is sent again when the statement's turn is.
    statements = {
        (message.header.source, message.header.seq)
        for (name, _), log in world.routed.items()
        for message in log
        if name == target and message.header.kind is RoutedKind.SCHEMA
    }
    for part in range(PARTS):
        last, latest = 0, collections.defaultdict[str, tuple[int, int]](lambda: (0, -1))
        for header, value, _ in world.target[target, part]:
            if header.out_seq <= last or header.routed.kind is not RoutedKind.ROWS:
                continue
            last = header.out_seq
            if header.routed.late and world.histories.on_down == "stall":
                raise ViolationError(f"{target} {part}: late, although every source was waited for")
            table = header.routed.table.removeprefix("app.")
            said = header.routed.source, header.routed.seq
            if header.routed.late or table in CONTESTED or said in statements:
                continue  # Of contested rows an outcome has its winner's time.
            unit = table if world.histories.merges == "by-table" else ""
            batch = decode_batch(value)
            for row, op in enumerate(batch.ops):
                source = batch.row_source[row] if batch.row_source else batch.source
                place = (batch.transactions[batch.tx[row]].ets, int(source[1:]))
                if op == READ or not place[0]:
                    continue  # Rows that were read have no time.
                if place < latest[unit]:
                    raise ViolationError(f"{target} {part}: {place} behind {latest[unit]}: {table}")
                latest[unit] = place


def check_shapes(world: World) -> None:
    """A target's table has the columns of its source's."""
    stores = {"mysql": world.mysql.tables, "clickhouse": world.clickhouse.tables}
    for target, tables in stores.items():
        for source in world.source:
            for table in source.tables:
                third, real = source.thirds.get(table), tables.thirds.get(table)
                want = None if third is None else (third.name, third.type)
                have = None if real is None else (real.name, real.type)
                if table in tables.there and not shared(table) and have != want:
                    raise ViolationError(f"{target} {table}: has column {have}, should {want}")


def check(world: World) -> None:
    """Every target equals the oracle; the ingest log has no hole; every row ended in one way."""
    for target in world.targets:
        if world.histories.on_down:
            check_order(world, target)
        have, want = contents(world, target), expected(world, target)
        if world.histories.judged_by_log:
            rows, held, holds = resolved(world, target)
            want = {row: value for row, value in {**want, **rows}.items() if value is not None}
            # What the target keeps while sources disagree depends on which came first.
            have = {row: value for row, value in have.items() if row not in held}
            for partition, count in holds.items():
                found = restore(world, (target, partition), None)[0].holds
                if found != count:
                    raise ViolationError(
                        f"{target} {partition}: {count} rows on hold, {found} counted"
                    )
        if target == "mysql" and world.histories.sets_aside:
            want = {row: value for row, value in want.items() if not refers(row[0])}
            want |= taken(world)
        have = {row: padded(value) for row, value in have.items()}
        want = {row: padded(value) for row, value in want.items()}
        if have != want:
            different = {
                k: (have.get(k), want.get(k))
                for k in have.keys() | want.keys()
                if have.get(k) != want.get(k)
            }
            raise ViolationError(f"{target} differs from the oracle (has, should): {different}")
    check_shapes(world)
    for part, stored in world.mysql.progress.items() if "mysql" in world.targets else ():
        rows = rows_of_log(world, ("mysql", part))
        counts = stored["counts"]
        if counts.parked or counts.applied + counts.superseded + counts.dead != rows:
            raise ViolationError(f"mysql {part}: {rows} rows, and {counts}")
        unsaid = stored["dead"] - stored["letters"]
        if unsaid or len(stored["dead"]) != counts.dead:
            raise ViolationError(
                f"mysql {part}: {counts} with {stored['dead']}, no letter of {unsaid}"
            )
    for source in world.source:
        last = total = told = promised = 0
        for header, value, _ in valid(world, source.number):
            if header.seq != last + 1:
                raise ViolationError(f"ingest {source.number}: {last} -> {header.seq}")
            last, total = header.seq, total + header.rows
            if header.kind is IngestKind.ROWS:
                told += header.rows
                check_times(source, value)
            elif header.kind is IngestKind.MARKER:
                if header.ets < promised:
                    raise ViolationError(f"ingest {source.number}: {promised}, then {header.ets}")
                promised = header.ets
        committed = sum(map(len, source.binlog))
        if told != committed:
            raise ViolationError(f"source {source.number}: {committed} rows committed, {told} told")
        for target in world.targets:
            ended = world.filtered_by_router[source.number, target]
            for key in world.routed:
                if key[0] == target:
                    counters = restore(world, key, None)[0].counters.get(f"s{source.number}")
                    if counters:
                        ended += counters.applied + counters.superseded
                        ended += counters.filtered + counters.held
            if ended != total:
                raise ViolationError(
                    f"conservation: source {source.number} {target}: {total} in, {ended} counted"
                )
