"""Every type on every server by both paths into every target: the source is asked, and so are they.

Law 1: a row's cells in the change batch are the same bytes, whether the snapshot or the stream read it.
Law 2: at every target each cell is what the oracle says of it, under the rules of docs/types.md.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gravity_devstack import Stack

from gravity.batch import INSERT, READ, ChangeBatch, TableSchema, Transaction, Value
from gravity.codec import encode_batch
from tests.oracle.type_text import Shape, at_clickhouse, is_refused_at_clickhouse
from tests.prove.report import Report
from tests.prove.type_tables import LIVE, Table, key_tables, other_tables, wide_tables
from tests.prove.type_world import Cells, Server, TypeWorld, find_server

DRAWN = 24
"""Random values of each type beside the chosen ones."""
SOURCES = {
    "mariadb-11": "mariadb:types-a",
    "mysql-80": "mysql:types-b",
    "mysql-97": "mysql:types-c@9.7",
    "mariadb-10": "mariadb:types-d@10.11",
}
TARGETS = {
    "mariadb": "mariadb:types-e",
    "mysql80": "mysql:types-f",
    "mysql97": "mysql:types-g@9.7",
}
UNKNOWN_LABELS = (
    "t_enum_emoji",
    "t_set_emoji",
    *(f"t_enum_{charset}" for charset in ("utf8mb4", "utf16", "utf16le", "utf32", "gb18030")),
)
"""information_schema prints characters beyond the basic plane in labels as `?`: see docs/types.md."""

Rows = dict[Cells, Cells]
EXAMPLES_MAX = 40


@dataclass
class Findings:
    """What was compared."""

    pairs: int = 0
    differences: int = 0
    examples: list[str] = field(default_factory=list)

    def compared(self, pairs: int) -> None:
        """So many cells were compared."""
        self.pairs += pairs

    def differs(self, what: str) -> None:
        """A comparison failed."""
        self.differences += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(what)


def run(report: Report) -> None:
    """The long form: all servers that this machine can have."""
    with tempfile.TemporaryDirectory(prefix="types-") as folder, Stack() as stack:
        sources = [s for name, spec in SOURCES.items() if (s := find_server(stack, name, spec))]
        targets = [t for name, spec in TARGETS.items() if (t := find_server(stack, name, spec))]
        drawn = report.scaled(DRAWN)
        found = prove(stack, sources, targets, Path(folder), drawn=drawn, seed=report.seed)
    report.servers |= {server_of(server) for server in sources}
    report.line(
        "types",
        pairs=found.pairs,
        differences=found.differences,
        examples=found.examples,
        note=f"from {', '.join(s.name for s in sources)}"
        f" to {', '.join(t.name for t in targets)}, clickhouse, kafka",
    )


def server_of(server: Server) -> str:
    """Kind and version, such as `mysql-9.7.4`."""
    return f"{server.flavor}-{server.server.version.partition('-')[0]}"


def prove(
    stack: Stack,
    sources: Sequence[Server],
    targets: Sequence[Server],
    folder: Path,
    *,
    drawn: int,
    seed: int,
    keys: Sequence[str] = (),
) -> Findings:
    """Copies every table of `sources` into `targets`, ClickHouse and Kafka, and compares all of it.

    `keys` are the kinds of keys to try; empty = all.
    """
    found = Findings()
    for source in sources:
        of, at = source.flavor, source.version
        source.tables = [
            *wide_tables(of, at, seed=seed, drawn=drawn),
            *key_tables(of, keys),
            *other_tables(of, at),
        ]
    world = TypeWorld(stack, sources, targets, folder)
    try:
        world.run()
        for source in sources:
            _paths_agree(found, world, source)
            for table in source.tables:
                _targets_agree(found, world, source, table)
        for letter in world.dead_letters():
            if letter["code"] != "range":
                what = f"{letter['target']} {letter['table']}: {letter['reason']}"
                found.differs(f"refused: {what}")
    finally:
        world.close()
    return found


def _paths_agree(found: Findings, world: TypeWorld, source: Server) -> None:
    """Law 1, for every row of every table of a source."""
    read: dict[str, dict[object, tuple[TableSchema, tuple[Value, ...]]]] = {}
    streamed: dict[str, dict[object, tuple[TableSchema, tuple[Value, ...]]]] = {}
    for by_snapshot, batch in world.published(source.name):
        table = batch.schema.table
        for op, row in zip(batch.ops, batch.rows(), strict=True):
            if op not in (READ, INSERT):
                continue
            number = row[batch.schema.column_index["n" if table.startswith("k_") else "id"]]
            known = (read if by_snapshot else streamed).setdefault(table, {})
            known.setdefault(number, (batch.schema, row))
    for table in source.tables:
        if not table.live:
            continue
        twin = table.twin or table.name
        offset = 0 if table.twin else LIVE
        here, there = read.get(twin, {}), streamed.get(table.name, {})
        if {int(str(n)) + offset for n in here} != {int(str(n)) for n in there}:
            found.differs(f"{source.name} {table.name}: rows {sorted(here)} {sorted(there)}")  # type: ignore[type-var]
            continue
        for number, (schema, row) in here.items():
            other_schema, other = there[int(str(number)) + offset]
            same_shape = _but_for_labels(replace(other_schema, table=schema.table), schema)
            other = tuple(
                mine if column.name == "id" else his
                for column, mine, his in zip(schema.columns, row, other, strict=True)
            )
            found.compared(len(row))
            if _bytes(schema, row) == _bytes(same_shape, other):
                continue
            for index, column in enumerate(schema.columns):
                if column != same_shape.columns[index]:
                    found.differs(
                        f"{source.name} {table.name}: {column} {same_shape.columns[index]}"
                    )
                if repr(row[index]) != repr(other[index]):
                    what = f"snapshot {row[index]!r:.200} stream {other[index]!r:.200}"
                    found.differs(
                        f"{source.name} {table.name}.{column.name} {column.type:.80}: {what}"
                    )
            if schema.key != same_shape.key:
                found.differs(f"{source.name} {table.name}: keys {schema.key} {same_shape.key}")


def _but_for_labels(schema: TableSchema, snapshot: TableSchema) -> TableSchema:
    """`schema` with the types of the snapshot for labels that only the stream can know."""
    columns = [
        replace(column, type=other.type) if column.name in UNKNOWN_LABELS else column
        for column, other in zip(schema.columns, snapshot.columns, strict=True)
    ]
    return replace(schema, columns=tuple(columns))


def _bytes(schema: TableSchema, row: tuple[Value, ...]) -> bytes:
    """The row as a change batch of its own."""
    transactions = [Transaction("", 0, 0, 0, 0)]
    columns = [[cell] for cell in row]
    return encode_batch(ChangeBatch("s", 1, schema, transactions, b"R", [0], [0], columns))


def _targets_agree(found: Findings, world: TypeWorld, source: Server, table: Table) -> None:
    """Law 2, for a table at every target."""
    shapes = source.shapes(table.name)
    want = _by_key(source.rows(table.name, shapes), shapes)
    for target in world.targets:
        there = target.shapes(table.name, database=source.database)
        if [s.name for s in there] != [s.name for s in shapes]:
            found.differs(f"{source.name} {target.name} {table.name}: columns {there}")
            continue
        have = _by_key(target.rows(table.name, there, database=source.database), shapes)
        _compare(found, f"{source.name} -> {target.name} {table.name}", shapes, want, have)
    rows = [
        tuple(at_clickhouse(cell, shape) for cell, shape in zip(row, shapes, strict=True))
        for row in want.values()
        if not any(map(is_refused_at_clickhouse, row, shapes))
    ]
    have = _by_key(world.at_clickhouse(source.database, table.name, shapes), shapes)
    where = f"{source.name} -> clickhouse {table.name}"
    _compare(found, where, shapes, _by_key(rows, shapes), have)
    have = _by_key(world.at_kafka(source.database, table.name, shapes), shapes)
    _compare(found, f"{source.name} -> kafka {table.name}", shapes, want, have)


def _by_key(rows: Sequence[Cells], shapes: Sequence[Shape]) -> Rows:
    key = [index for index, shape in enumerate(shapes) if shape.in_key]
    return {tuple(row[index] for index in key): row for row in rows}


def _compare(found: Findings, where: str, shapes: Sequence[Shape], want: Rows, have: Rows) -> None:
    found.compared(len(want) * len(shapes))
    for key in want.keys() - have.keys():
        found.differs(f"{where}: row {key} is missing")
    for key in have.keys() - want.keys():
        found.differs(f"{where}: row {key} should not be there")
    for key in want.keys() & have.keys():
        for shape, wanted, got in zip(shapes, want[key], have[key], strict=True):
            if wanted != got:
                what = f"{wanted!r:.200}, found {got!r:.200}"
                found.differs(f"{where}.{shape.name} {shape.data_type} {key}: {what}")
