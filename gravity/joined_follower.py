"""What a sink does about a change of the shape that several sources' tables come to. Pure.

Partitions meet such changes in different orders, since sources have no common order. So a partition
only says, column by column, whether rows of it still come with the column. It is dropped when no
partition writes it any more: its values are gone by then (the resolver sends the rows without them), so
nothing is lost whenever that is. Everything else only adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from gravity.errors import FatalError, SchemaConflictError
from gravity.evolution import Alteration, Policy, Step, key_changed
from gravity.header import TargetHeader
from gravity.schema_change import ColumnAction, ColumnChange, SchemaChange, TableAction
from gravity.schema_follower import RealColumn, SchemaTarget, Shape

WHOLE_TABLE = "*"
"""Stands for a column's name where the whole table is meant."""


class JoinedTarget(SchemaTarget, Protocol):
    """A target as the follower of joined changes needs it."""

    def lock(self, table: str) -> AbstractContextManager[None]:
        """Keeps other partitions from altering the table meanwhile. Raises TransientError: not now."""

    def say(self, table: str, column: str, *, gone: bool, seq: int) -> None:
        """Records that rows of this partition come without (`gone`) or with the column from message `seq` on."""

    def gone_in(self, table: str, column: str) -> set[int]:
        """The partitions whose rows come without the column."""


@dataclass(frozen=True, slots=True)
class JoinedFollower:
    """Follows joined changes for one partition of one target."""

    name: str
    policy: Policy
    port: JoinedTarget
    may_alter: bool

    def follow(self, change: SchemaChange, header: TargetHeader) -> None:
        """Makes the table as the joined shape wants it.

        Raises:
            TransientError: another partition is at it; come again.
            FatalError: the policy forbids it.
            SchemaConflictError: the sources' types do not fit together.
        """
        table = header.routed.table
        where = f"target {self.name}, table {table}, source {header.routed.source}, position {change.position}"
        if self.policy == "stop" and change.action is not TableAction.CREATE:
            raise FatalError(
                f"schema-evolution is `stop`, and a source ran: {change.statement[:500]}",
                where=where,
                remedy="alter the target by hand, then start the sink with schema-evolution: apply",
            )
        if self.policy == "ignore":
            return
        with self.port.lock(table):
            if change.action is TableAction.ALTER:
                self._refuse_new_key(change, table)
                for item in change.columns:
                    self._one(item, header, where)
            else:
                gone = change.action is TableAction.DROP
                self.port.say(table, WHOLE_TABLE, gone=gone, seq=header.out_seq)
                if gone and self._gone_everywhere(WHOLE_TABLE, header):
                    self._run(self.port.drop(table), where)

    def _one(self, item: ColumnChange, header: TargetHeader, where: str) -> None:
        table = header.routed.table
        shape = self.port.shape(table)
        real = next((c for c in shape or () if c.name.lower() == item.name.lower()), None)
        if item.action is ColumnAction.DROP:
            self.port.say(table, item.name.lower(), gone=True, seq=header.out_seq)
            if real is not None and self._gone_everywhere(item.name.lower(), header):
                self._alter(Step(ColumnAction.DROP, real.name), header, shape or (), where)
            return
        if item.action is ColumnAction.ADD:
            self.port.say(table, item.name.lower(), gone=False, seq=header.out_seq)
        if shape is None or item.column is None:
            return
        if real is None:
            column = replace(item.column, nullable=True)
            step = Step(ColumnAction.ADD, item.name, column=column)
            self._alter(step, header, shape, where)
        else:
            self._widen(item, real, shape, header, where)

    def _widen(
        self, item: ColumnChange, real: RealColumn, shape: Shape, header: TargetHeader, where: str
    ) -> None:
        assert item.column is not None
        fitness = self.port.judge(real, item.column)
        if fitness == "fits":
            return
        text = item.column.type.startswith(("varchar", "char", "text", "mediumtext", "longtext"))
        if fitness == "convert" and not text:
            raise SchemaConflictError(
                f"column {item.name} is {item.column.type} at one source, and {real.type} here",
                column=item.name,
                type_here=item.column.type,
                type_there=real.type,
                where=where,
                remedy=(
                    "alter the target's column by hand to a type that holds what all sources have, "
                    "then start the sink again"
                ),
            )
        step = Step(ColumnAction.MODIFY, item.name, column=item.column)
        self._alter(step, header, shape, where)

    def _gone_everywhere(self, column: str, header: TargetHeader) -> bool:
        if self.policy != "apply":
            return False
        partitions = range(header.routed.first, header.routed.last + 1)
        return self.port.gone_in(header.routed.table, column).issuperset(partitions)

    def _alter(self, step: Step, header: TargetHeader, shape: Shape, where: str) -> None:
        routed = header.routed
        planned = Alteration(
            routed.table, "", routed.source, routed.seq, 0, TableAction.ALTER, (step,),
            tuple(column.name for column in shape),
        )  # fmt: skip
        first = [stage.statement for stage in self.port.first_part(planned)]
        left = [c for c in shape if step.action is not ColumnAction.DROP or c.name != step.name]
        self._run(first + self.port.second_part(planned, left), where)

    def _run(self, statements: Sequence[str], where: str) -> None:
        if statements and not self.may_alter:
            raise FatalError(
                "the sources' tables have changed, and create-tables is false",
                where=where,
                remedy=f"run at the target, then start again: {'; '.join(statements)}",
            )
        self.port.run(statements)

    def _refuse_new_key(self, change: SchemaChange, table: str) -> None:
        shape = self.port.shape(table)
        if change.key and shape is not None:
            key = {column.name.lower() for column in shape if column.in_key}
            if key != {name.lower() for name in change.key}:
                raise key_changed(table, change.source or "of several")
