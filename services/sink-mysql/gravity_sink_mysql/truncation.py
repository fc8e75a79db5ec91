"""TRUNCATE at the target: a partition deletes its own rows, in statements of bounded size.

Never a real TRUNCATE: other partitions may have newer rows in the table, and a frozen sink would send
it after its lane has been taken over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gravity.batch import Value
from gravity.column import ColumnType
from gravity.header import TargetHeader
from gravity.key import key_partitions
from gravity.schema_follower import has_rows_to_delete
from gravity.sink import split_table
from gravity_sink_mysql.connection import Session
from gravity_sink_mysql.schema_log import SchemaLog
from gravity_sink_mysql.statement import Key, Layout, literal, quote_name

if TYPE_CHECKING:
    from gravity.config.target import MysqlTarget

BLOCK_ROWS = 1000


def delete_rows(
    session: Session,
    log: SchemaLog,
    header: TargetHeader,
    target: MysqlTarget,
    *,
    partition: int,
    partitions: int,
) -> int:
    """Deletes what a TRUNCATE means for one of `partitions`; returns how many rows there were.

    These are the rows of that partition; those of all where the table lies in one.
    """
    routed = header.routed
    if not has_rows_to_delete(log, routed, target.name, target.schema_evolution):
        return 0
    quoted = ".".join(map(quote_name, split_table(header)))
    if routed.first == routed.last:
        return _delete_all(session, quoted)
    return _delete_partition(
        session,
        quoted,
        log.key_of(routed.table),
        table=routed.table,
        partition=partition,
        partitions=partitions,
    )


def _delete_all(session: Session, quoted: str) -> int:
    """Deletes every row; returns how many there were."""
    deleted = 0
    while count := session.execute(f"DELETE FROM {quoted} LIMIT {BLOCK_ROWS}"):
        deleted += count
    return deleted


def _delete_partition(
    session: Session,
    quoted: str,
    key: Sequence[tuple[str, str]],
    *,
    table: str,
    partition: int,
    partitions: int,
) -> int:
    """Deletes the rows of one partition; returns how many there were.

    `key` is (column, type) in the order that divides rows among partitions; `table` is the name that
    does, too.
    """
    kinds = [ColumnType.parse(kind) for _, kind in key]
    names = [quote_name(name) for name, _ in key]
    chosen = ", ".join(
        kind.select_expression(name) for name, kind in zip(names, kinds, strict=True)
    )
    order = ", ".join(names)
    layout = Layout(quoted, (), tuple(name for name, _ in key), ())
    deleted, where = 0, ""
    while True:
        rows = session.rows(
            f"SELECT {chosen} FROM {quoted}{where} ORDER BY {order} LIMIT {BLOCK_ROWS}"
        )
        if not rows:
            return deleted
        keys = [_key(row, kinds) for row in rows]
        where = f" WHERE ({order}) > ({', '.join(map(literal, keys[-1]))})"
        homes = key_partitions(table, list(zip(*keys, strict=True)), partitions)
        ours = [item for item, home in zip(keys, homes, strict=True) if home == partition]
        if ours:
            deleted += session.execute(layout.delete(ours))


def _key(row: Sequence[object], kinds: Sequence[ColumnType]) -> Key:
    return tuple(_cell(value, kind) for value, kind in zip(row, kinds, strict=True))


def _cell(value: object, kind: ColumnType) -> Value:
    """What the server printed as the cell that a batch would have."""
    if kind.kind == "bytes":
        return value if isinstance(value, bytes) else str(value).encode()
    text = value.decode() if isinstance(value, bytes) else str(value)
    reader = kind.cell_reader()
    return text if reader is None else reader(text)
