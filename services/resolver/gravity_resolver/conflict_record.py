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
from gravity.plan import Resolution
from gravity.resolution.cell import cells_to_json, key_json, readable_json
from gravity.resolution.register import Register, Registers, Row
from gravity.resolution.strategy import Hold, Outcome, Verdict
from gravity_resolver.judgement import Judgement

_NULL, _PRESENT = b"\x00", b"\x02"
_FALSE, _TRUE = b"\x00", b"\x01"
_FORMAT = count_bytes(FORMAT_VERSIONS["conflict"])
_long = lru_cache(maxsize=1024)(long_bytes)


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
    outcome = judged.verdict
    stands = outcome if isinstance(outcome, Outcome) else None
    registers = judged.registers
    key = key_json([batch.columns[i][index] for i in batch.schema.key])
    return b"".join((
        _FORMAT, word(target), word(header.table), framed(key.encode()), word(kind), word(rule.strategy),
        word(outcome_name(outcome)), word("" if stands is None else stands.winner), word(batch.source),
        _long(header.seq), _long(batch.origin_of(index)), _long(header.plan),
        count_bytes(len(registers)) if registers else b"",
        *[
            word(source) + (reg.told_as or _told_as(reg))
            for source, reg in sorted(registers.items())
        ],
        END, word(judged.state), framed(judged.hold.encode()), _long(partition), _words(batch.schema.key_names),
        _NULL if stands is None else _result(stands, registers), _TRUE if late else _FALSE,
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
