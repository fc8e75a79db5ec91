"""A batch in the columns of each way to a target: made once, however many targets share it. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache

import structlog

from gravity.batch import ChangeBatch, TableSchema
from gravity.codec import encode_batch
from gravity.errors import FatalError
from gravity.key import key_partitions
from gravity.part_encoder import PartEncoder
from gravity.plan import RoutingPlan
from gravity.plan_part import Feed
from gravity.transform.rule import TransformPlan
from gravity.transform.shape import Transformation, transformation

log = structlog.get_logger()


class Shaped:
    """A batch in some columns, the source's own or a target's."""

    def __init__(self, batch: ChangeBatch, partitions: int, value: bytes | None = None) -> None:
        """`value`: the batch as it came, where it is in the columns that it had."""
        self.batch = batch
        self.encoder = PartEncoder(batch)
        self.partition_count = partitions
        self._came = value
        self._partitions: dict[str, list[int]] = {}

    @cached_property
    def value(self) -> bytes:
        """The whole batch."""
        return encode_batch(self.batch) if self._came is None else self._came

    def partitions(self, table: str) -> list[int]:
        """The partition of each row of the target table `table`, by its key after the change."""
        known = self._partitions.get(table)
        if known is None:
            key = [self.batch.columns[index] for index in self.batch.schema.key]
            known = self._partitions[table] = key_partitions(table, key, self.partition_count)
        return known


class Shapes:
    """The shapes of one batch under one plan."""

    def __init__(self, batch: ChangeBatch, value: bytes, plan: RoutingPlan) -> None:
        self._plan = plan
        self._plain = Shaped(batch, plan.partitions, value)
        self._made: dict[TransformPlan, Shaped] = {}
        self._keys: dict[TransformPlan, Shaped | None] = {}

    def of(self, feed: Feed) -> Shaped:
        """The batch as it goes by `feed`: as it came, unless a transform says otherwise."""
        if not feed.shapes or feed.transform is None:
            return self._plain
        known = self._made.get(feed.transform)
        if known is None:
            batch = self._plain.batch
            shaping = self._plan.shaping(feed, batch.source, batch.schema)
            assert shaping is not None
            known = Shaped(shaping.apply(batch), self._plan.partitions)
            self._made[feed.transform] = known
        return known

    def of_left(self, feed: Feed) -> Shaped | None:
        """As `of`, of rows that only have to go from where an earlier plan sent them: their key is enough.

        The transform is that plan's, and nobody has asked it about what the table has become since. None, and
        an error in the log: it has no key for such a table.
        """
        rule, plain = feed.transform, self._plain.batch
        if not feed.shapes or rule is None:
            return self._plain
        if _fits(rule, plain.source, plain.schema):
            return self.of(feed)
        if rule not in self._keys:
            keyed = _of_key(plain)
            shaping = _key_shaping(rule, keyed.source, keyed.schema, feed.target, feed.table)
            made = None if shaping is None else shaping.apply(keyed)
            self._keys[rule] = None if made is None else Shaped(made, self._plan.partitions)
        return self._keys[rule]


@lru_cache(maxsize=1024)
def _fits(rule: TransformPlan, source: str, schema: TableSchema) -> bool:
    try:
        transformation(rule, source, schema)
    except FatalError:
        return False
    return True


def _of_key(batch: ChangeBatch) -> ChangeBatch:
    """The batch without the columns that are not part of the key."""
    schema = batch.schema
    there = [index for index in schema.key if index in batch.before_columns]
    return replace(
        batch,
        schema=replace(
            schema,
            columns=tuple(schema.columns[index] for index in schema.key),
            key=tuple(range(len(schema.key))),
        ),
        columns=[batch.columns[index] for index in schema.key],
        before_columns=tuple(schema.key.index(index) for index in there),
        before=[batch.before[batch.before_columns.index(index)] for index in there],
        _rows=None,
    )


@lru_cache(maxsize=1024)
def _key_shaping(
    rule: TransformPlan, source: str, schema: TableSchema, target: str, table: str
) -> Transformation | None:
    try:
        return transformation(rule.of_key(), source, schema)
    except FatalError as error:
        why = error.what
    # Once for each shape: every batch of it would say the same.
    log.error(
        "rows_left_behind", source=source, table=f"{schema.database}.{schema.table}", target=target,
        target_table=table, why=f"an earlier plan sent them there, and {why}",
    )  # fmt: skip
    return None
