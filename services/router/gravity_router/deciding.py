"""Which rows of a batch a feed takes: each rule is worked out once, however many targets ask. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gravity.batch import INSERT, ChangeBatch, Value
from gravity.condition import ConditionError, compile_condition
from gravity.errors import FatalError, FormatError
from gravity.placed_anew import is_anywhere
from gravity.plan import RoutingPlan
from gravity.plan_part import Feed


class Deciding:
    """A batch under a plan, and what has been found about its rows so far."""

    def __init__(self, batch: ChangeBatch, plan: RoutingPlan, first: int = 0) -> None:
        """`first`: the number of the batch's first row in its source's log, by which new rows take turns."""
        self._batch = batch
        self._plan = plan
        self._first = first
        self._places: dict[tuple[str, bool], list[int]] = {}
        self._verdicts: dict[tuple[str, bool], list[bool | None]] = {}

    def takes(self, feed: Feed, *, after: bool) -> list[bool]:
        """Whether each row goes by `feed`, after the change or before it."""
        if feed.conditions is None:
            return [True] * len(self._batch)
        ways: list[Sequence[bool | None]] = [
            self.verdicts(text, after=after) for text in feed.conditions
        ]
        for share in feed.shares:
            mine = share.place
            ways.append([at == mine for at in self.places(share.placement, after=after)])
        if not ways:
            return [False] * len(self._batch)
        if len(ways) == 1:
            return [verdict is True for verdict in ways[0]]
        return [True in verdicts for verdicts in zip(*ways, strict=True)]

    def held(self, feed: Feed, *, after: bool) -> list[bool]:
        """Whether each row may have gone by `feed`, a way of an earlier plan.

        All may have where rows took turns, and where the plan's rules can't be asked any more, since the table
        has other columns now.
        """
        if is_anywhere(self._plan, feed):
            return [True] * len(self._batch)
        try:
            return self.takes(feed, after=after)
        except (FatalError, FormatError):
            return [True] * len(self._batch)

    def verdicts(self, text: str, *, after: bool) -> list[bool | None]:
        """What the condition says of each row, after the change or before it."""
        known = self._verdicts.get((text, after))
        if known is None:
            known = self._verdicts[text, after] = self._evaluate(text, after=after)
        return known

    def places(self, name: str, *, after: bool) -> list[int]:
        """The rows' places in the placement `name`, after the change or before it."""
        known = self._places.get((name, after))
        if known is None:
            placement = self._plan.placement(name)
            indexes = placement.key_indexes(self._batch.schema)
            columns = [self._image(index, after=after) for index in indexes]
            known = placement.places(columns)
            if placement.append_only and after:
                turns = placement.turns(self._first, len(self._batch))
                known = [
                    turn if op == INSERT else place
                    for op, turn, place in zip(self._batch.ops, turns, known, strict=True)
                ]
            self._places[name, after] = known
        return known

    def _image(self, index: int, *, after: bool) -> Sequence[Value]:
        batch = self._batch
        if after:
            return batch.columns[index]
        if index not in batch.before_columns:
            name = batch.schema.columns[index].name
            raise FormatError(
                f"updates without column {name} before them, which decides their way",
                where=f"{batch.source} {batch.schema.database}.{batch.schema.table}",
            )
        return batch.before[batch.before_columns.index(index)]

    def _evaluate(self, text: str, *, after: bool) -> list[bool | None]:
        batch, schema = self._batch, self._batch.schema
        indexes = range(len(schema.columns)) if after else batch.before_columns
        images = batch.columns if after else batch.before
        columns = {
            schema.columns[index].name: values
            for index, values in zip(indexes, images, strict=True)
        }
        try:
            return compile_condition(text).evaluate(columns, schema.columns, len(batch))
        except ConditionError as error:
            raise FatalError(
                f"condition {error}",
                where=f"{batch.source} {schema.database}.{schema.table}",
                remedy="mend the condition in the configuration, then `gravity reload CONFIG`",
            ) from error
