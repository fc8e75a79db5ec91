"""Records for the conflicts topic, put together from bytes that were made once. Pure.

A record holds every source's row, and of those all but one stood in the record before. So the bytes of a row
stay with its register. They are the very bytes that `encode_record` gives
(`test_a_record_has_the_bytes_of_its_schema`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gravity.avro_bytes import END, count_bytes, framed, long_bytes, word
from gravity.batch import ChangeBatch, Column
from gravity.codec import FORMAT_VERSIONS
from gravity.header import RoutedHeader
from gravity.plan_part import Resolution
from gravity.resolution.cell import cells_to_json, key_json, readable_json
from gravity.resolution.register import Register, Registers, Row
from gravity.resolution.strategy import Hold, Outcome, Verdict
from gravity_resolver.judgement import Judgement

_NULL, _PRESENT = b"\x00", b"\x02"
_FALSE, _TRUE = b"\x00", b"\x01"
_FORMAT = count_bytes(FORMAT_VERSIONS["conflict"])


def outcome_name(outcome: Verdict | None) -> str:
    """`row`, `delete` or `hold`."""
    if isinstance(outcome, Hold):
        return "hold"
    return "row" if outcome is not None and outcome.row is not None else "delete"


def conflict_record(
    target: str,
    *,
    header: RoutedHeader,
    batch: ChangeBatch,
    index: int,
    kind: str,
    rule: Resolution,
    judged: Judgement,
    partition: int,
    late: bool = False,
) -> bytes:
    """The conflict that row `index` met, for the conflicts topic (schemas/conflict.avsc)."""
    return ConflictRecords(target, partition, header, batch, rule).record(
        index, kind, judged, late=late
    )


class ConflictRecords:
    """Records of the conflicts that a batch's rows meet."""

    def __init__(
        self,
        target: str,
        partition: int,
        header: RoutedHeader,
        batch: ChangeBatch,
        rule: Resolution,
    ) -> None:
        self._batch = batch
        self._keys = [batch.columns[i] for i in batch.schema.key]
        self._head = _FORMAT + word(target) + word(header.table)
        self._strategy = word(rule.strategy)
        self._change = word(batch.source) + long_bytes(header.seq)
        self._plan = long_bytes(header.plan)
        self._tail = long_bytes(partition) + _words(batch.schema.key_names)

    def record(self, index: int, kind: str, judged: Judgement, *, late: bool) -> bytes:
        """The conflict of kind `kind` that row `index` met."""
        outcome = judged.verdict
        registers = judged.registers
        key = key_json([column[index] for column in self._keys]).encode()
        if isinstance(outcome, Outcome):
            name, winner, result = (
                outcome_name(outcome),
                outcome.winner,
                _result(outcome, registers),
            )
        else:
            name, winner, result = outcome_name(outcome), "", _NULL
        opinions = [
            word(source) + (reg.told_as or _told_as(reg))
            for source, reg in sorted(registers.items())
        ]
        return b"".join((
            self._head, count_bytes(len(key)), key, word(kind), self._strategy, word(name), word(winner),
            self._change, count_bytes(self._batch.origin_of(index)), self._plan,
            count_bytes(len(registers)) if registers else b"", *opinions, END,
            word(judged.state), framed(judged.hold.encode()) if judged.hold else END, self._tail,
            result, _TRUE if late else _FALSE,
        ))  # fmt: skip


def _told_as(reg: Register) -> bytes:
    """What a record says of a register behind its source's name; made once."""
    place = b"%d:%d:%d:%d" % reg.position
    made = framed(place) + long_bytes(reg.ets) + (reg.row_as or _row_as(reg))
    reg.told_as = made
    return made


def _row_as(reg: Register) -> bytes:
    made = reg.row_as = _row(reg.row, reg.shape.columns)
    return made


def note_row(reg: Register, text: str) -> None:
    """Remembers with a register its row as a readable JSON object, as it stands in records."""
    reg.row_as = _PRESENT + framed(text.encode())


def _result(stands: Outcome, registers: Registers) -> bytes:
    reg = registers.get(stands.winner)
    if reg is not None and stands.row is reg.row and stands.columns is reg.shape.columns:
        return reg.row_as or _row_as(reg)
    return _row(stands.row, stands.columns)


def _row(row: Row | None, columns: Sequence[Column]) -> bytes:
    if row is None:
        return _NULL
    names = (column.name for column in columns)
    text = readable_json(dict(zip(names, cells_to_json(row), strict=True)))
    return _PRESENT + framed(text.encode())


@lru_cache(maxsize=1024)
def _words(texts: tuple[str, ...]) -> bytes:
    return count_bytes(len(texts)) + b"".join(map(word, texts)) + END if texts else END
