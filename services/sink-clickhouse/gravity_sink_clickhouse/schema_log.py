"""What this target's tables have been altered to, and by whom: `_gravity_schema` and `_gravity_origins`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gravity import target_table
from gravity.batch import Column, TableSchema
from gravity.errors import FatalError, GravityError, TransientError
from gravity.evolution import Alteration
from gravity.schema_change import TableAction
from gravity.schema_follower import Fitness, RealColumn, Shape, Stage
from gravity_sink_clickhouse.alteration import first_part, judge, refuse, second_part, split
from gravity_sink_clickhouse.row import escape
from gravity_sink_clickhouse.table import (
    DEDUPLICATION_WINDOW,
    DELETED,
    VERSION,
    drop_table,
    quote_text,
)

if TYPE_CHECKING:
    from gravity_sink_clickhouse.catalog import Statements

SCHEMA = target_table.quoted(target_table.SCHEMA)
ORIGINS = target_table.quoted(target_table.ORIGINS)
COLUMNS = target_table.quoted(target_table.COLUMNS)
_TABLE_ALREADY_EXISTS = 57

CREATE_SCHEMA_TABLES: Sequence[str] = (
    f"""CREATE TABLE IF NOT EXISTS {SCHEMA} (
  target String, resolver_epoch UInt32, name String, change_id String,
  source String, seq UInt64, part UInt32, stage UInt8, effect String
) ENGINE = ReplacingMergeTree(stage) ORDER BY (target, resolver_epoch, name, change_id)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}""",
    f"""CREATE TABLE IF NOT EXISTS {ORIGINS} (
  target String, name String, origin String, renewed UInt64, row_key String
) ENGINE = ReplacingMergeTree(renewed) ORDER BY (target, name, origin)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}""",
    f"""CREATE TABLE IF NOT EXISTS {COLUMNS} (
  target String, resolver_epoch UInt32, name String, column_name String, part UInt32, seq UInt64, gone UInt8
) ENGINE = ReplacingMergeTree(seq) ORDER BY (target, resolver_epoch, name, column_name, part)
SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}""",
)

_FIELDS = ("name", "change_id", "source", "seq", "part", "stage", "effect")
_COLUMN_FIELDS = ("target", "resolver_epoch", "name", "column_name", "part", "seq", "gone")
_ORIGIN_FIELDS = ("target", "name", "origin", "renewed", "row_key")


class SchemaLog:
    """A lane's view of them. It is the follower's `SchemaTarget`."""

    def __init__(
        self, server: Statements, target: str, resolver_epoch: int, partition: int
    ) -> None:
        self._server = server
        self._target = target
        self._resolver_epoch = resolver_epoch
        self._partition = partition

    @property
    def _mine(self) -> str:
        return f"target={quote_text(self._target)} AND resolver_epoch={self._resolver_epoch}"

    # ------------------------------------------------------------------ what is recorded

    def all(self) -> list[Alteration]:
        """Everything recorded for the target."""
        return self._read("")

    def number(self) -> int:
        """How many alterations are recorded for the target."""
        return int(
            self._server.rows(f"SELECT count() FROM {SCHEMA} FINAL WHERE {self._mine}")[0][0]
        )

    def alterations(self, table: str) -> list[Alteration]:
        """Everything recorded about `table`."""
        return self._read(f" AND name={quote_text(table)}")

    def _read(self, also: str) -> list[Alteration]:
        rows = self._server.rows(
            f"SELECT {', '.join(_FIELDS)} FROM {SCHEMA} FINAL WHERE {self._mine}{also}"
        )
        return [_alteration(row) for row in rows]

    def claim(self, alteration: Alteration) -> Alteration:
        """Records what is planned, if nobody has; returns what stands.

        No insert here can be refused because another was faster, but a CREATE TABLE can: a table of
        that name is the claim, and its comment says whose it is.

        Raises TransientError while the claim is another partition's.
        """
        claim = self._claim_of(alteration)
        where = f"target {self._target}, table {alteration.table}, {alteration.change_id}"
        self._take(claim, where)
        standing = next(
            (
                item
                for item in self.alterations(alteration.table)
                if item.change_id == alteration.change_id
            ),
            None,
        )
        if standing is None:
            self._record(alteration)
            return alteration
        if standing.done:
            self._server.execute(f"DROP TABLE IF EXISTS {claim}")
        return standing

    def _take(self, claim: str, where: str) -> None:
        """Makes the claim ours, or finds that it is. Raises TransientError while another partition has it."""
        try:
            self._server.execute(
                f"CREATE TABLE {claim} (nothing UInt8) ENGINE = Memory COMMENT '{self._partition}'"
            )
        except GravityError as error:
            if getattr(error.__cause__, "code", None) != _TABLE_ALREADY_EXISTS:
                raise
            name = claim.rpartition(".")[2].strip("`")
            rows = self._server.rows(
                f"SELECT comment FROM system.tables WHERE database='{target_table.DATABASE}' AND name={quote_text(name)}"
            )
            owner = str(rows[0][0]) if rows else "another"
            if owner != str(self._partition):
                raise TransientError(
                    f"partition {owner} is altering the table", where=where
                ) from error

    def _claim_of(self, alteration: Alteration) -> str:
        text = f"{self._target}/{self._resolver_epoch}/{alteration.table}/{alteration.change_id}"
        digest = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        return target_table.quoted(f"{target_table.PREFIX}claim_{digest}")

    def _record(self, alteration: Alteration) -> None:
        effect = json.dumps(alteration.to_json(), separators=(",", ":"))
        values = (
            self._target, self._resolver_epoch, alteration.table, alteration.change_id, alteration.source,
            alteration.seq, alteration.partition, alteration.stage, effect,
        )  # fmt: skip
        self._server.insert(
            SCHEMA,
            ("target", "resolver_epoch", *_FIELDS),
            ["\t".join(escape(str(value)) for value in values)],
            token=f"{self._claim_of(alteration)}:{alteration.stage}",
        )

    def record(self, alteration: Alteration) -> None:
        """Records its stage; done, it needs its claim no more. A key's column keeps its name here."""
        self._record(alteration)
        if alteration.done:
            self._server.execute(f"DROP TABLE IF EXISTS {self._claim_of(alteration)}")

    # ------------------------------------------------------------------ whose rows a table has

    def remember_origin(self, table: str, source: str, schema: TableSchema) -> None:
        """Notes, before the first row, which source table fills `table`, and by which key."""
        key = [[schema.columns[i].name, schema.columns[i].type] for i in schema.key]
        origin = f"{source} {schema.database}.{schema.table}"
        values = (self._target, table, origin, 0, json.dumps(key))
        self._server.insert(
            ORIGINS,
            _ORIGIN_FIELDS,
            ["\t".join(escape(str(value)) for value in values)],
            token=f"{self._target}:{table}:{origin}",
        )

    def origins(self, table: str) -> list[str]:
        """The source tables whose rows went into `table`."""
        return sorted(self._origins(table))

    def key_of(self, table: str) -> list[tuple[str, str]]:
        """(column, type at the source) of the key that rows of `table` are divided by.

        Raises FatalError if that was never noted: an older version filled the table.
        """
        found = next(iter(self._origins(table).values()), None)
        if found is None:
            raise FatalError(
                "a TRUNCATE of a table of which no row has been written since the upgrade",
                where=f"target {self._target}, table {table}",
                remedy="empty the table at the target by hand while the sink is stopped, then start it with schema-evolution: apply",
            )
        return found

    def _origins(self, table: str) -> dict[str, list[tuple[str, str]]]:
        rows = self._server.rows(
            f"SELECT origin, row_key FROM {ORIGINS} FINAL WHERE target={quote_text(self._target)} "
            f"AND name={quote_text(table)}"
        )
        return {
            str(origin): [(name, kind) for name, kind in json.loads(key)] for origin, key in rows
        }

    # ------------------------------------------------------------------ shapes of several sources

    @contextmanager
    def lock(self, table: str) -> Iterator[None]:
        """Keeps other partitions from altering `table`; what a crash left is its partition's to take up."""
        digest = hashlib.blake2b(f"{self._target}/{table}".encode(), digest_size=12).hexdigest()
        claim = target_table.quoted(f"{target_table.PREFIX}lock_{digest}")
        self._take(claim, f"target {self._target}, table {table}")
        try:
            yield
        finally:
            self._server.execute(f"DROP TABLE IF EXISTS {claim}")

    def say(self, table: str, column: str, *, gone: bool, seq: int) -> None:
        """Records that rows of this partition come without or with the column from message `seq` on."""
        values = (
            self._target, self._resolver_epoch, table, column, self._partition, seq, int(gone),
        )  # fmt: skip
        self._server.insert(
            COLUMNS,
            _COLUMN_FIELDS,
            ["\t".join(escape(str(value)) for value in values)],
            token=f"{self._target}:{self._resolver_epoch}:{table}:{column}:{self._partition}:{seq}:{gone}",
        )

    def gone_in(self, table: str, column: str) -> set[int]:
        """The partitions whose rows come without the column."""
        rows = self._server.rows(
            f"SELECT part FROM {COLUMNS} FINAL WHERE {self._mine} AND name={quote_text(table)} "
            f"AND column_name={quote_text(column)} AND gone=1"
        )
        return {int(row[0]) for row in rows}

    # ------------------------------------------------------------------ the tables themselves

    def shape(self, table: str) -> Shape | None:
        """The table's columns in their order, without ours and computed ones; None if there is no table."""
        database, name = split(table)
        rows = self._server.rows(
            "SELECT name, type, is_in_sorting_key FROM system.columns "
            f"WHERE database={quote_text(database)} AND table={quote_text(name)} "
            f"AND default_kind NOT IN ('MATERIALIZED', 'ALIAS') ORDER BY position"
        )
        return [
            RealColumn(str(column), str(kind), "Nullable(" in str(kind), bool(in_key))
            for column, kind, in_key in rows
            if column not in (VERSION, DELETED)
        ] or None

    def judge(self, real: RealColumn, column: Column) -> Fitness:
        """Whether `real` takes the values of `column`."""
        return judge(real, column)

    def refuse(self, alteration: Alteration, shape: Shape) -> None:
        """Raises FatalError for what ClickHouse can't do."""
        refuse(alteration, shape)

    def first_part(self, alteration: Alteration) -> list[Stage]:
        """Renames and drops."""
        return first_part(alteration)

    def second_part(self, alteration: Alteration, shape: Shape) -> list[str]:
        """Additions and changes of type."""
        return second_part(alteration, shape)

    def drop(self, table: str) -> list[str]:
        """DROP of the view and the table."""
        return drop_table(*split(table))

    def run(self, statements: Sequence[str]) -> None:
        """Runs statements."""
        for statement in statements:
            self._server.execute(statement)


def _alteration(row: tuple[Any, ...]) -> Alteration:
    name, change_id, source, seq, part, stage, effect = row
    bare = Alteration(
        str(name), str(change_id), str(source), int(seq), int(part), TableAction.ALTER
    )
    return replace(bare.with_json(json.loads(effect)), stage=int(stage))
