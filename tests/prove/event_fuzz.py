"""Damaged events: what real servers sent, changed at random, must end in a named error or in equal values.

Four laws, each on the bytes of one transaction in which one event is damaged:

- with checksums off, what comes out is a GravityError or values, within a time and within memory, and it is the
  same whether the bytes come at once or in pieces, and whether rows are read by compiled code or column by column;
- a row event that is cut short gives no row that was not written;
- with checksums on, what comes out before an error is a beginning of what the undamaged bytes give;
- nothing else is ever raised.
"""

from __future__ import annotations

import random
import resource
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import zstandard
from gravity_collector.decoder import TableDecoder, TableDecoders
from gravity_collector.event import Event, Rows
from gravity_collector.event_parser import EventParser
from gravity_collector.xa import HeldTransactions

from gravity.batch import UPDATE
from gravity.errors import GravityError
from tests.unit.collector.captured import COLLATIONS, STREAMS, packet

SECONDS_MAX: Final = 2.0
"""Processor time for one damaged transaction; a whole one takes a thousandth of it."""
MEGABYTES_MAX: Final = 256
"""Growth of the process over all of them."""
_WRONG_MAX: Final = 1000
_HEAD, _HEADER, _CHECKSUM = 24, 19, 4
_FORMAT, _GTIDS, _PAYLOAD = 15, frozenset((33, 42, 162)), 40
_COMPRESSED: Final = range(165, 172)
_ROWS: Final = frozenset((23, 24, 25, 30, 31, 32))
_INTERESTING: Final = (0, 1, 2, 0x7F, 0x80, 0xFA, 0xFB, 0xFC, 0xFD, 0xFE, 0xFF)
_EXTREMES: Final = (
    0,
    1,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
    (1 << 64) - 1,
)

Body = bytes
Mutator = Callable[[random.Random, Body], Body]


@dataclass
class Context:
    """One transaction: the packets before it that it needs, and its own."""

    stream: str
    head: list[bytes]
    packets: list[bytes]
    truth: list[tuple[int, Any]] = field(default_factory=list)


@dataclass
class Outcome:
    """What bytes gave: changes in order, then perhaps an error by its class."""

    changes: list[tuple[int, Any]]
    error: str = ""


@dataclass
class Tally:
    """What all damaged events together gave."""

    events: int = 0
    errors: int = 0
    compared: int = 0
    summed: int = 0
    cut: int = 0
    seconds_max: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Case:
    """One damaged event in its transaction: the packet of that index."""

    name: str
    number: int
    context: Context
    packets: list[bytes]
    index: int


def packets_of(stream: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(stream):
        stop = at + 4 + int.from_bytes(stream[at : at + 3], "little")
        found.append(stream[at:stop])
        at = stop
    return found


def kind_of(packet_bytes: bytes) -> int:
    return packet_bytes[9] if len(packet_bytes) > _HEAD else 0


def contexts() -> list[Context]:
    """Every transaction of every captured stream."""
    found = []
    for name, stream in STREAMS.items():
        packets = packets_of(stream)
        head = packets[:2]
        starts = [i for i, one in enumerate(packets) if kind_of(one) in _GTIDS]
        for start, stop in zip(starts, [*starts[1:], len(packets)], strict=True):
            context = Context(name, head, packets[start:stop])
            context.truth = outcome_of(context.head + context.packets, verify=True).changes
            found.append(context)
    return found


def nothing_before(*_: object) -> Iterator[Event]:
    return iter(())


def outcome_of(
    packets: list[bytes],
    *,
    verify: bool,
    decoders: TableDecoders | None = None,
    cuts: random.Random | None = None,
    patterns_max: int | None = None,
) -> Outcome:
    """What the packets give; in pieces, and with as many compiled readers a table, where asked for."""
    reader = EventParser(
        "fuzz", decoders or TableDecoders(COLLATIONS), verify_checksums=verify, piece_bytes=1000
    )
    held = HeldTransactions(nothing_before)
    outcome = Outcome([])
    data = b"".join(packets)
    try:
        for piece in pieces(data, cuts):
            take(outcome, held, reader.feed(piece), patterns_max)
            while reader.has_more:
                take(outcome, held, reader.feed(b""), patterns_max)
        if reader.has_failed:
            reader.feed(b"")
    except GravityError as error:
        outcome.error = type(error).__name__ if str(error) else "an error without words"
    return outcome


def pieces(data: bytes, cuts: random.Random | None) -> Iterator[bytes]:
    if cuts is None:
        yield data
        return
    at = 0
    while at < len(data):
        size = cuts.choice((1, 3, 20, 300))
        yield data[at : at + size]
        at += size


def take(
    outcome: Outcome, held: HeldTransactions, events: list[Event], patterns_max: int | None
) -> None:
    for event in held.settle(events):
        if not isinstance(event, Rows):
            continue
        table = event.table
        if patterns_max is not None:
            table = TableDecoder(table.table_map, patterns_max=patterns_max)
        read = table.updates if event.op == UPDATE else table.rows
        outcome.changes += [(event.op, row) for row in read(event.body, event.at)]


def flip(chance: random.Random, body: Body) -> Body:
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def poke(chance: random.Random, body: Body) -> Body:
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 3))):
        changed[chance.randrange(len(changed))] = chance.choice(_INTERESTING)
    return bytes(changed)


def overwrite(chance: random.Random, body: Body) -> Body:
    size = chance.choice((2, 3, 4, 8))
    number = (chance.choice(_EXTREMES) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    at = chance.randrange(len(body))
    return body[:at] + number + body[at + size :]


def truncate(chance: random.Random, body: Body) -> Body:
    return body[: chance.randrange(len(body))]


def drop(chance: random.Random, body: Body) -> Body:
    at = chance.randrange(len(body))
    return body[:at] + body[at + chance.randrange(1, 9) :]


def repeat(chance: random.Random, body: Body) -> Body:
    at = chance.randrange(len(body))
    part = body[at : at + chance.randrange(1, 40)]
    return body[:at] + part * chance.choice((2, 2, 50)) + body[at + len(part) :]


def splice(chance: random.Random, body: Body) -> Body:
    other = STREAMS[chance.choice(sorted(STREAMS))]
    start = chance.randrange(len(other))
    at = chance.randrange(len(body))
    return body[:at] + other[start : start + chance.randrange(1, 60)] + body[at:]


MUTATORS: Final[tuple[Mutator, ...]] = (
    flip, flip, poke, poke, overwrite, truncate, drop, repeat, splice,
)  # fmt: skip


def damaged(chance: random.Random, original: bytes) -> bytes:
    """The packet with its event damaged: inside what is compressed, in its body, or anywhere."""
    kind = kind_of(original)
    body, tail = original[_HEAD:-_CHECKSUM], original[-_CHECKSUM:]
    how = chance.random()
    mutate = chance.choice(MUTATORS)
    if not body or how < 0.1:
        return original[:4] + mutate(chance, original[4:])
    if kind == _PAYLOAD and how < 0.7:
        changed = packed_again(chance, body, mutate)
    elif kind in _COMPRESSED and how < 0.7:
        changed = deflated_again(chance, body, mutate)
    else:
        changed = mutate(chance, body)
    event = bytearray(original[5:_HEAD] + changed + tail)
    # The header fits again, so that the damage reaches whoever reads the body.
    struct.pack_into("<I", event, 9, len(event))
    return packet(b"\x00" + bytes(event))


def packed_again(chance: random.Random, body: Body, mutate: Mutator) -> Body:
    """A compressed transaction with damage inside."""
    at = body.index(b"\x28\xb5\x2f\xfd")
    inner = zstandard.ZstdDecompressor().decompressobj().decompress(body[at:])
    changed = mutate(chance, inner)
    packed = zstandard.compress(changed)
    fields = b"\x02\x01\x00\x03\x03\xfc" + len(changed).to_bytes(3, "little")[:2]
    return fields + b"\x01\x03\xfc" + len(packed).to_bytes(2, "little") + b"\x00" + packed


def deflated_again(chance: random.Random, body: Body, mutate: Mutator) -> Body:
    """A compressed event with damage inside."""
    at = body.find(b"\x78\x9c")
    mark = next((i for i in range(max(0, at - 5), at) if body[i] & 0xF8 == 0x80), -1)
    if at < 0 or mark < 0:
        return mutate(chance, body)
    changed = mutate(chance, zlib.decompress(body[at:]))
    return body[:mark] + b"\x84" + len(changed).to_bytes(4) + zlib.compress(changed)


def fuzz(events: int, seed: int) -> Tally:
    """Damages so many events, one transaction each."""
    tally, chance = Tally(), random.Random(seed)
    known = contexts()
    decoders = TableDecoders(COLLATIONS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    number = -1
    while tally.events < events and len(tally.wrong) < _WRONG_MAX:
        number += 1
        if number % 500 == 0:  # As after a reconnection; and what damaged shapes left is gone.
            decoders = TableDecoders(COLLATIONS)
        context = chance.choice(known)
        packets = [*context.head, *context.packets]
        # The description of the format is damaged too, now and then; the made-up change of file is not.
        index = chance.randrange(2, len(packets)) if chance.random() < 0.98 else 1
        if not kind_of(packets[index]):
            continue
        packets[index] = damaged(chance, packets[index])
        name = f"seed {seed}, event {number} ({context.stream}, type {kind_of(context.packets[index - 2])})"
        try:
            _try(tally, Case(name, number, context, packets, index), decoders)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what must not be raised
            tally.wrong.append(f"{name}: {type(error).__name__} {error}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    if grown > MEGABYTES_MAX:
        tally.wrong.append(f"the process grew by {grown} MB")
    return tally


def _try(tally: Tally, case: Case, decoders: TableDecoders) -> None:
    started = time.process_time()
    outcome = outcome_of(case.packets, verify=False, decoders=decoders)
    seconds = time.process_time() - started
    tally.events += 1
    tally.errors += bool(outcome.error)
    tally.seconds_max = max(tally.seconds_max, seconds)
    if seconds > SECONDS_MAX:
        tally.wrong.append(f"{case.name}: took {seconds:.1f} s")
    if case.number % 4 == 0:
        tally.compared += 1
        cuts = random.Random(case.number)
        other = outcome_of(case.packets, verify=False, cuts=cuts, patterns_max=0)
        if repr(other) != repr(outcome):
            tally.wrong.append(f"{case.name}: {outcome!r:.300} but in pieces {other!r:.300}")
    if case.number % 4 == 2:
        rows = [i for i, one in enumerate(case.context.packets) if kind_of(one) in _ROWS]
        if rows:
            tally.cut += 1
            _try_cut(tally, case, rows[case.number % len(rows)])
    if case.number % 4 == 1 and case.index != 1:
        tally.summed += 1
        summed = outcome_of(case.packets, verify=True, decoders=decoders)
        if repr(summed.changes) != repr(case.context.truth[: len(summed.changes)]):
            tally.wrong.append(f"{case.name}: with checksums {summed!r:.300}")


def _try_cut(tally: Tally, case: Case, index: int) -> None:
    packets = list(case.context.packets)
    one = packets[index]
    length = random.Random(case.number).randrange(len(one) - _HEAD - _CHECKSUM)
    event = bytearray(one[5 : _HEAD + length] + bytes(_CHECKSUM))
    struct.pack_into("<I", event, 9, len(event))
    packets[index] = packet(b"\x00" + bytes(event))
    found = outcome_of([*case.context.head, *packets], verify=False)
    # An event that is cut before its first row is one without rows; those after it are read.
    written = iter(map(repr, case.context.truth))
    if not all(repr(change) in written for change in found.changes):
        tally.wrong.append(
            f"{case.name}: event {index} cut after {length} bytes gave {found!r:.300}"
        )
