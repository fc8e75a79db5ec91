"""How each table's rows travel under one routing plan. Pure but for the look-up of keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gravity import target_table
from gravity.batch import TableSchema
from gravity.config.source import SYSTEM_DATABASES
from gravity.errors import FatalError
from gravity.key import GROUP_PREFIX, LANE_KEY
from gravity.pattern import parse_table_pattern
from gravity.placed_anew import before_columns
from gravity.plan import RoutingPlan
from gravity.transform.sharing import Shared
from gravity.whole_row import BYTES_MAX, ROWS_MAX, is_whole_row, whole_row_schema
from gravity_collector.ddl.ghost import is_working_table
from gravity_collector.decoder import TableDecoder
from gravity_collector.span import Flow

UniqueKey = Callable[[str, str], tuple[str, ...]]
"""(database, table) to the columns of a unique key that is never NULL; empty when there is none."""


def no_keys(database: str, table: str) -> tuple[str, ...]:
    """For flows that are asked which tables are read, and for nothing else."""
    del database, table
    return ()


class Flows:
    """The flows of one source under one plan, made at the first sight of each table."""

    def __init__(self, plan: RoutingPlan, source: str, unique_key: UniqueKey) -> None:
        self.plan = plan
        self._source = source
        self._unique_key = unique_key
        self._by_decoder: dict[TableDecoder, Flow | None] = {}
        self._by_schema: dict[TableSchema, Flow] = {}
        self._shared = Shared()

    @property
    def version(self) -> int:
        """The plan's number."""
        return self.plan.version

    def includes(self, database: str, table: str) -> bool:
        """Whether rows of this table are read at all.

        The working tables of tools for schema changes are not, unless they are named in so many words:
        they hold the rows of another table once more.
        """
        return (
            database.lower() not in SYSTEM_DATABASES
            and not table.startswith(target_table.PREFIX)
            and self.plan.includes(self._source, database, table)
            and (not is_working_table(table) or self._names(table))
        )

    def _names(self, table: str) -> bool:
        """Whether the source's configuration names the table without wildcards."""
        patterns = (
            parse_table_pattern(text)
            for source in self.plan.sources
            if source.name == self._source
            for text in source.tables
        )
        return any(pattern.is_exact and pattern.table.matches(table) for pattern in patterns)

    def of(self, decoder: TableDecoder) -> Flow | None:
        """The flow of a table; None when it is not read.

        Raises FatalError for a table without any key.
        """
        try:
            return self._by_decoder[decoder]
        except KeyError:
            schema = decoder.schema
            included = self.includes(schema.database, schema.table)
            flow = self._by_decoder[decoder] = self._of_schema(schema) if included else None
            return flow

    def forget_keys(self) -> None:
        """Keys are looked up again: a statement has changed a table."""
        self._by_decoder.clear()

    def of_schema(self, schema: TableSchema) -> Flow:
        """The flow of an included table that has this shape."""
        return self._of_schema(schema)

    def _of_schema(self, schema: TableSchema) -> Flow:
        if not schema.key:
            names = self._unique_key(schema.database, schema.table)
            if names and not schema.column_index.keys() >= set(names):
                raise FatalError(
                    f"these rows are of a time before the table had its key ({', '.join(names)}), and had none",
                    where=f"source {self._source}, table {schema.database}.{schema.table}",
                    remedy=(
                        f"exclude: [{schema.database}.{schema.table}], start the collector until it is past them, "
                        "then take it in again: it is copied then"
                    ),
                )
            if names:
                schema = replace(schema, key=tuple(schema.column_index[name] for name in names))
            elif self.plan.reads_whole_rows(self._source, schema.database, schema.table):
                schema = whole_row_schema(schema)
            else:
                raise keyless(self._source, schema.database, schema.table)
        flow = self._by_schema.get(schema)
        if flow is None:
            flow = self._by_schema[schema] = self._made(schema)
        return flow

    def _made(self, schema: TableSchema) -> Flow:
        feeds = self.plan.feeds(self._source, schema)
        for feed in feeds:
            shaping = self.plan.shaping(feed, self._source, schema)
            shape = schema if shaping is None else shaping.schema
            self._shared.take_in(self._source, feed.target, feed.table, feed.transform, shape)
        whole_row = is_whole_row(schema)
        for feed in feeds if whole_row else ():
            where = f"source {self._source}, table {schema.database}.{schema.table}, target {feed.target}"
            if feed.lane == LANE_KEY:
                raise FatalError(
                    "order-by is `key` for a table without a key: equal rows are counted in one order",
                    where=where,
                    remedy="say order-by: table for it, or add a primary key",
                )
            if self.plan.is_joined(feed.target, feed.table):
                raise FatalError(
                    "several sources feed one table, and this one has no key: which rows are one is not known",
                    where=where,
                    remedy="add a primary key, or send it to a table of its own",
                )
        return Flow(
            schema,
            before_columns(self.plan, self._source, schema),
            in_runs=any(feed.lane.startswith(GROUP_PREFIX) for feed in feeds),
            wanted=range(len(schema.columns) - 1) if whole_row else None,
        )

    def is_whole_row(self, database: str, table: str) -> bool:
        """Whether the table, as the source has it now, is read by all its values."""
        return self.plan.reads_whole_rows(self._source, database, table) and not self._unique_key(
            database, table
        )


def keyless(source: str, database: str, table: str) -> FatalError:
    """The refusal of a table whose rows nothing tells apart."""
    return FatalError(
        "the table has neither a primary key nor a unique key of NOT NULL columns",
        where=f"source {source}, table {database}.{table}",
        remedy=(
            f"add a primary key (an invisible AUTO_INCREMENT column disturbs nobody); or read it by all its "
            f"values: whole-row: [{database}.{table}]; or leave it out: exclude: [{database}.{table}]"
        ),
    )


def too_many_rows(source: str, database: str, table: str) -> FatalError:
    """The refusal of a table that can't be read in one piece."""
    return FatalError(
        f"the table has no key, and more than {ROWS_MAX} rows or {BYTES_MAX} bytes: without a key they are read in one piece",
        where=f"source {source}, table {database}.{table}",
        remedy=f"add a primary key (an invisible AUTO_INCREMENT column disturbs nobody), or exclude: [{database}.{table}]",
    )
