"""The fences of an ingest log, as a reader that starts somewhere in it must know them."""

from __future__ import annotations

from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import PENDING, Fences, fences_of
from gravity.kafka.control import ControlTopic
from gravity.kafka.reader import LogReader
from gravity.topic import owner_key


def owner_records(control: ControlTopic, source: str) -> dict[int, int]:
    """Owner to the offset of its fence (PENDING where not recorded), from the records read so far."""
    prefix = owner_key(source, 0).removesuffix("0")
    return {
        int(key.removeprefix(prefix)): int(record["offset"])
        for key, record in control.records.items()
        if key.startswith(prefix)
    }


def known_fences(control: ControlTopic, reader: LogReader, topic: str, source: str) -> Fences:
    """Every fence up to the present end of `topic` that control names or that stands in the log.

    Reads control to its end first. An owner whose record is pending may have written its fence: it
    is looked for between the last recorded fence and the end.
    """
    control.refresh()
    records = owner_records(control, source)
    fences = fences_of(records.items())
    if PENDING in records.values():
        low, high = reader.bounds(topic, 0)
        start = max([low, *fences.offsets])
        for message in reader.read(topic, 0, start, high):
            header = IngestHeader.from_kafka(message.headers)
            if header.kind is IngestKind.FENCE:
                fences.add(message.offset, header.owner)
    return fences
