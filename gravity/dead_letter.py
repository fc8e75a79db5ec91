"""Rows that a target will never take: set aside in a topic with their reason, up to a ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, Protocol

from gravity.batch import REMOVES_ROW
from gravity.clock import now_us
from gravity.codec import encode_batch, encode_record
from gravity.errors import FatalError
from gravity.resolution.cell import cell_to_json, key_json, readable_json
from gravity.schema_change import SchemaChange

if TYPE_CHECKING:
    from gravity.errors import SchemaConflictError
    from gravity.sink import Admitted, Refusal

DEAD_MAX = 1000
"""Rows a process may set aside before it halts: more than that is a mistake, not bad luck."""


TARGET: Final = "@target"
"""Stands in a conflict's record where a source's name would, for what the target has. No source can be called so."""

Kind = Literal["fk_parent_missing", "fk_child_exists", "unique_secondary", "data"]
"""Which of a target's constraints refuses a row; `data`: the column can't take the value."""

KIND_BY_CODE: Final[Mapping[str, Kind]] = {
    "1062": "unique_secondary",  # ER_DUP_ENTRY; the primary key's is no conflict: it is updated.
    "1216": "fk_parent_missing",  # ER_NO_REFERENCED_ROW
    "1452": "fk_parent_missing",  # ER_NO_REFERENCED_ROW_2
    "1217": "fk_child_exists",  # ER_ROW_IS_REFERENCED
    "1451": "fk_child_exists",  # ER_ROW_IS_REFERENCED_2
}
"""Which conflict with the target's own constraints an error is; every other one is `data`.

Source: MySQL 8.4 Error Message Reference, server errors.
"""


def kind_of(code: str) -> Kind:
    """Which conflict with the target's constraints the error `code` is."""
    return KIND_BY_CODE.get(code, "data")


class Producer(Protocol):
    """The part of `gravity.kafka.producer.LogProducer` that is needed here."""

    def send(
        self, topic: str, partition: int, value: bytes | None, *, key: bytes | None = None
    ) -> None:
        """Queues one message."""

    def flush(self) -> None:
        """Returns once everything sent has been acknowledged; raises otherwise."""


class DeadLetters:
    """Writes dead letters of one target and counts them. A row is written once per process."""

    def __init__(
        self,
        producer: Producer,
        topic: str,
        *,
        conflicts: str,
        stage: str,
        target: str,
        target_topic: str,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._conflicts = conflicts
        self._stage = stage
        self._target = target
        self._target_topic = target_topic
        self._known: set[tuple[int, int, int]] = set()

    def set_aside(self, partition: int, refusals: Sequence[Refusal]) -> None:
        """Returns once all of them are durable in the topic.

        Raises:
            FatalError: more than DEAD_MAX rows were refused since the process began.
            TransientError: the topic can't be written at present.
        """
        fresh = [r for r in refusals if (partition, r.message.offset, r.number) not in self._known]
        if len(self._known) + len(fresh) > DEAD_MAX:
            first = fresh[0]
            raise FatalError(
                f"more than {DEAD_MAX} rows were refused; the last: {first.code} {first.reason}",
                where=f"target {self._target}, table {first.message.header.routed.table}",
                remedy=f"mend the target; the rows set aside are in topic {self._topic}",
            )
        for refusal in fresh:
            key = f"{self._target}/{partition}/{refusal.message.offset}/{refusal.number}"
            self._producer.send(self._topic, 0, self._letter(partition, refusal), key=key.encode())
            conflict = self._conflict(partition, refusal)
            if conflict is not None:
                self._producer.send(self._conflicts, 0, conflict)
        if fresh:
            self._producer.flush()
            self._known.update((partition, r.message.offset, r.number) for r in fresh)

    def tell_schema_conflict(
        self, partition: int, message: Admitted, error: SchemaConflictError
    ) -> None:
        """Records that a source's column does not fit the target's; returns once that is durable.

        The target's is what the tables of the other sources have come to. The sink halts behind it, and says
        so each time that it is started while they do not fit.
        """
        routed = message.header.routed
        change = SchemaChange.decode(message.value)
        opinions = [
            (routed.source, change.position, change.ets, error.type_here),
            (TARGET, "", 0, error.type_there),
        ]
        record = {
            "target": self._target,
            "table": routed.table,
            "key": "[]",
            "kind": "schema",
            "strategy": "",
            "outcome": "hold",
            "winner": "",
            "source": routed.source,
            "seq": routed.seq,
            "row": 0,
            "plan": routed.plan,
            "opinions": [
                {
                    "source": source,
                    "position": position,
                    "ets": ets,
                    "row": readable_json({"column": error.column, "type": column_type}),
                }
                for source, position, ets, column_type in opinions
            ],
            "partition": partition,
        }
        self._producer.send(self._conflicts, 0, encode_record("conflict", record))
        self._producer.flush()

    def _letter(self, partition: int, refusal: Refusal) -> bytes:
        message, row = refusal.message, refusal.row
        routed, batch = message.header.routed, message.batch
        whole = batch is None
        return encode_record(
            "dead_letter",
            {
                "stage": self._stage,
                "target": self._target,
                "source": routed.source,
                "table": routed.table,
                "reason": refusal.reason,
                "code": refusal.code,
                "topic": self._target_topic,
                "partition": partition,
                "offset": message.offset,
                "row": -1 if whole else refusal.number,
                "origin_seq": routed.seq,
                "origin_row": -1 if batch is None else batch.origin_of(row),
                "position": str(routed.from_ if batch is None else batch.position_of(row)),
                "gtid": "" if batch is None else batch.transactions[batch.tx[row]].gtid,
                "schema": routed.schema,
                "time_us": now_us(),
                "value": message.value if batch is None else encode_batch(batch.take([row])),
            },
        )

    def _conflict(self, partition: int, refusal: Refusal) -> bytes | None:
        """The conflict of a row with the target's constraints; None for a message without rows."""
        routed, batch, row = refusal.message.header.routed, refusal.message.batch, refusal.row
        if batch is None:
            return None
        names = [column.name for column in batch.schema.columns]
        cells = zip(names, map(cell_to_json, batch.rows()[row]), strict=True)
        source = batch.row_source[row] if batch.row_source else batch.source
        return encode_record(
            "conflict",
            {
                "target": self._target,
                "table": routed.table,
                "key": key_json([batch.columns[index][row] for index in batch.schema.key]),
                "kind": kind_of(refusal.code),
                "strategy": "",
                "outcome": "dead_letter",
                "winner": "",
                "source": source,
                "seq": routed.seq,
                "row": batch.origin_of(row),
                "plan": routed.plan,
                "opinions": [
                    {
                        "source": source,
                        "position": str(batch.position_of(row)),
                        "ets": batch.transactions[batch.tx[row]].ets,
                        "row": None
                        if batch.ops[row] in REMOVES_ROW
                        else readable_json(dict(cells)),
                    }
                ],
                "partition": partition,
                "key_columns": batch.schema.key_names,
            },
        )
