"""A batch in the columns of each way to a target: made once, however many targets share it. Pure."""

from __future__ import annotations

from functools import cached_property

from gravity.batch import ChangeBatch
from gravity.codec import encode_batch
from gravity.key import key_partitions
from gravity.part_encoder import PartEncoder
from gravity.plan import RoutingPlan
from gravity.plan_part import Feed
from gravity.transform.rule import TransformPlan


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
