"""The parked rows of a lane as the target keeps them: they move in the rows' own transactions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gravity import target_table
from gravity.codec import decode_batch, encode_batch
from gravity.errors import FatalError
from gravity.header import TargetHeader
from gravity.sink import Admitted, Refusal
from gravity_sink_mysql.connection import Session
from gravity_sink_mysql.fence import Fence
from gravity_sink_mysql.parking import Draft, Parked, ParkedRow, blocker_of, single_row
from gravity_sink_mysql.statement import (
    STATEMENT_BYTES_MAX,
    Layout,
    quote_text,
    spans,
)

PARKED: Final = target_table.quoted(target_table.PARKED)
CREATE_PARKED_TABLE: Final = f"""CREATE TABLE IF NOT EXISTS {PARKED} (
  target VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  part INT UNSIGNED NOT NULL,
  resolver_epoch INT UNSIGNED NOT NULL,
  message_offset BIGINT UNSIGNED NOT NULL,
  row_no INT UNSIGNED NOT NULL,
  name VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  row_key LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
  op CHAR(1) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  source VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  origin VARCHAR(250) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  code VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  waits_for VARCHAR(250) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  since_us BIGINT UNSIGNED NOT NULL,
  reason LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
  header LONGTEXT CHARACTER SET utf8mb4 NOT NULL,
  payload LONGBLOB NOT NULL,
  PRIMARY KEY (target, part, resolver_epoch, message_offset, row_no)
) ENGINE=InnoDB"""
_KEY: Final = ("target", "part", "resolver_epoch", "message_offset", "row_no")
_LAYOUT: Final = Layout(PARKED, (), _KEY, ())
_ROWS_MAX = 500
"""Rows of one statement."""
_PAYLOAD_SPARE_BYTES = 64 * 1024
"""For what stands beside the values in a statement."""


def row_to_park(refusal: Refusal, key: str) -> ParkedRow:
    """What is stored of a refused row. `refusal.message` is as it was admitted."""
    message, row = refusal.message, refusal.row
    batch, routed = message.batch, message.header.routed
    assert batch is not None
    payload = encode_batch(single_row(batch, row))
    header = {name: value.decode() for name, value in message.header.to_kafka()}
    parked = Parked(
        offset=message.offset,
        row=refusal.number,
        table=routed.table,
        key=key,
        source=routed.source,
        origin=f"{batch.schema.database}.{batch.schema.table}",
        code=refusal.code,
        since=routed.ets,
        waits_for=blocker_of(refusal.code, refusal.reason, routed.table),
        size=len(payload),
    )
    return ParkedRow(parked, batch.ops[row], json.dumps(header), payload, refusal.reason)


def fits(row: ParkedRow, packet_bytes_max: int) -> bool:
    """Whether the row can be stored in one statement; its bytes are written as hexadecimal digits."""
    texts = len(row.header) + 4 * (len(row.parked.key) + len(row.reason))
    return 2 * len(row.payload) + texts + _PAYLOAD_SPARE_BYTES < packet_bytes_max


class ParkedTable:
    """The parked rows of one lane."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence
        self._lane = f"{quote_text(fence.target)}, {fence.partition}, {fence.resolver_epoch}"
        self._where = (
            f" WHERE target={quote_text(fence.target)} AND part={fence.partition}"
            f" AND resolver_epoch={fence.resolver_epoch}"
        )

    def load(self, session: Session, *, next_offset: int, count: int) -> list[Parked]:
        """All rows that wait, without their values.

        Rows of messages that are yet to come are dropped: somebody has set the lane back. `count` is how
        many there are by the progress row.

        Raises:
            FatalError: there are not that many.
        """
        session.execute(f"DELETE FROM {PARKED}{self._where} AND message_offset>={next_offset}")
        rows = session.rows(
            "SELECT message_offset, row_no, name, row_key, source, origin, code, since_us, waits_for, "
            f"LENGTH(payload) FROM {PARKED}{self._where}"
        )
        if len(rows) != count:
            raise FatalError(
                f"{len(rows)} rows are parked, but the progress row says {count}",
                where=f"target {self._fence.target}, partition {self._fence.partition}, table {PARKED}",
                remedy="rows were taken out or put in by hand: put it right, as the sink alone writes there",
            )
        return [
            Parked(
                int(offset), int(row), str(table), str(key), str(source), str(origin), str(code),
                int(since), str(waits_for), int(size),
            )
            for offset, row, table, key, source, origin, code, since, waits_for, size in rows
        ]  # fmt: skip

    def read(self, session: Session, chosen: Sequence[Parked]) -> list[Admitted]:
        """The messages of these rows, each of its row alone, in the same order.

        Raises FencedError when one is there no more: another owner has let it go.
        """
        found: dict[tuple[int, int], Admitted] = {}
        for where in self._spans(chosen):
            for offset, row, header, payload in session.rows(
                f"SELECT message_offset, row_no, header, payload FROM {PARKED}{where}"
            ):
                fields: Mapping[str, str] = json.loads(header)
                admitted = Admitted(
                    TargetHeader.from_kafka([(n, text.encode()) for n, text in fields.items()]),
                    int(offset),
                    payload,
                    decode_batch(payload),
                )
                found[int(offset), int(row)] = admitted
        if len(found) < len(chosen):
            raise self._fence.fenced("it has let parked rows go")
        return [found[parked.place] for parked in chosen]

    def store(self, session: Session, draft: Draft) -> None:
        """Writes what the open transaction changes."""
        for where in self._spans(list(draft.left.values())):
            session.execute(f"DELETE FROM {PARKED}{where}")
        texts = [self._text(row) for row in draft.entered.values()]
        limit = min(STATEMENT_BYTES_MAX, session.packet_bytes_max // 2)
        for start, end in spans([len(t) for t in texts], rows_max=_ROWS_MAX, bytes_max=limit):
            session.execute(f"INSERT INTO {PARKED} VALUES " + ",".join(texts[start:end]))
        for parked in draft.restamped:
            (where,) = self._spans([parked])
            session.execute(f"UPDATE {PARKED} SET since_us={parked.since}{where}")

    def _spans(self, rows: Sequence[Parked]) -> Iterator[str]:
        """`WHERE …` for some of the rows after the other."""
        fence = self._fence
        lane = (fence.target, fence.partition, fence.resolver_epoch)
        for start in range(0, len(rows), _ROWS_MAX):
            part = rows[start : start + _ROWS_MAX]
            yield _LAYOUT.where_keys([(*lane, *parked.place) for parked in part])

    def _text(self, row: ParkedRow) -> str:
        parked = row.parked
        texts = [
            parked.table, parked.key, chr(row.op), parked.source, parked.origin, parked.code,
            parked.waits_for,
        ]  # fmt: skip
        return (
            f"({self._lane}, {parked.offset}, {parked.row}, {', '.join(map(quote_text, texts))}, "
            f"{parked.since}, {quote_text(row.reason)}, {quote_text(row.header)}, X'{row.payload.hex()}')"
        )
