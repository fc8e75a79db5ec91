"""What is known about a change beside the row: the same for every format. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from gravity.batch import ChangeBatch
from gravity.header import TargetHeader, row_version
from gravity.schema_change import SchemaChange

OPERATIONS: Final = {
    ord("I"): "insert",
    ord("U"): "update",
    ord("D"): "delete",
    ord("R"): "read",
    ord("M"): "delete",
    ord("L"): "delete",
}
Headers = tuple[tuple[str, bytes], ...]


class Meta(NamedTuple):
    """About one change.

    `version` grows with every change of a key (a consumer may drop what is not greater than it has
    seen); `position` is epoch:file:offset:row at the source, `commit_us` the source's commit time in
    microseconds since 1970 UTC.
    """

    op: str
    """insert, update, delete or read; of a whole table truncate or drop."""
    source: str
    gtid: str
    position: str
    commit_us: int
    version: int
    late: bool = False
    """Whether rows that were committed later have gone before it (`merge`)."""

    @property
    def headers(self) -> Headers:
        """As headers of a Kafka message, all of them text."""
        return (
            ("gravity.op", self.op.encode()),
            ("gravity.source", self.source.encode()),
            ("gravity.gtid", self.gtid.encode()),
            ("gravity.position", self.position.encode()),
            ("gravity.commit-us", b"%d" % self.commit_us),
            ("gravity.version", b"%d" % self.version),
            *((("gravity.late", b"true"),) if self.late else ()),
        )


def metas(batch: ChangeBatch, header: TargetHeader) -> list[Meta]:
    """About each of the batch's rows."""
    row_version(header.resolver_epoch, header.out_seq, max(0, len(batch) - 1))
    first = row_version(header.resolver_epoch, header.out_seq, 0)
    sources = batch.row_source or [batch.source] * len(batch)
    starts = [
        (t.gtid, f"{batch.epoch}:{t.file_index}:{t.offset}", t.commit_us)
        for t in batch.transactions
    ]
    found = []
    for row, (op, tx, ordinal, source) in enumerate(
        zip(batch.ops, batch.tx, batch.ordinal, sources, strict=True)
    ):
        gtid, start, commit_us = starts[tx]
        found.append(
            Meta(
                OPERATIONS[op],
                source,
                gtid,
                f"{start}:{ordinal}",
                commit_us,
                first + row,
                header.routed.late,
            )
        )
    return found


def meta_of_table(change: SchemaChange, header: TargetHeader) -> Meta:
    """About a change that empties or drops a table."""
    return Meta(
        str(change.action),
        header.routed.source,
        change.gtid,
        change.position,
        change.ets,
        row_version(header.resolver_epoch, header.out_seq, 0),
    )
