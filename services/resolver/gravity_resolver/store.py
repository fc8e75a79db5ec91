"""Where a partition's state lives: RocksDB on this disk, and the changelog that outlives the disk.

The changelog comes first: one transaction of a producer that only one process can hold
(`transactional.id` per partition), then one atomic batch into RocksDB with the changelog offset. So
the local copy is never ahead of the log, and a resolver that was frozen can't write any more.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rocksdict import Options, Rdict, WriteBatch

from gravity.fault import FaultPoint, reach
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.topic import changelog_transactional_id

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster

_OFFSET_KEY = b"\x00offset"
_WRITE_BUFFER_BYTES = 16 * 1024 * 1024
_RESTORE_RECORDS = 5000


class PartitionStore:
    """The saved state of one partition. `get` makes it a StateView."""

    def __init__(
        self, cluster: Cluster, *, topic: str, partition: int, group: str, folder: Path
    ) -> None:
        self._cluster, self._topic, self._partition = cluster, topic, partition
        self._where = f"{group}.{topic}.{partition}"
        self._folder = folder
        self._producer = LogProducer(
            cluster,
            f"{group}.state",
            transactional_id=changelog_transactional_id(group, topic, partition),
        )
        self._db: Rdict | None = None
        self._next_offset = 0

    def open(self) -> int:
        """Fences every earlier writer, then brings the local copy up to the changelog's end.

        Returns how many changelog records were read.
        """
        self._producer.init_transactions()
        self._db = self._open_local()
        reader = LogReader(self._cluster, f"{self._where}.restore")
        try:
            low, high = reader.bounds(self._topic, self._partition)
            if self._next_offset > high or self._next_offset < low:
                # Of another changelog, or so old that deleted keys have been compacted away.
                self._wipe()
            return self._restore(reader, max(self._next_offset, low), high)
        finally:
            reader.close()

    def _open_local(self) -> Rdict:
        self._folder.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(2)
        db = Rdict(str(self._folder), options)
        offset = db.get(_OFFSET_KEY)
        self._next_offset = int(offset) if offset else 0
        return db

    def _wipe(self) -> None:
        assert self._db is not None
        self._db.close()
        shutil.rmtree(self._folder)
        self._db = self._open_local()

    def _restore(self, reader: LogReader, start: int, end: int) -> int:
        records = 0
        pending: dict[bytes, bytes | None] = {}
        for message in reader.read(self._topic, self._partition, start, end):
            pending[message.key or b""] = message.value
            records += 1
            if len(pending) >= _RESTORE_RECORDS:
                self._write(pending, message.offset + 1)
                pending.clear()
        self._write(pending, end)
        return records

    def get(self, key: bytes) -> bytes | None:
        """The saved value under `key`."""
        assert self._db is not None
        value = self._db.get(key)
        return None if value is None else bytes(value)

    def save(self, changes: Mapping[bytes, bytes]) -> None:
        """Makes `changes` durable: all of them or none.

        Raises FencedError when another process has taken the partition.
        """
        offsets: list[int] = []
        self._producer.begin()
        for key, value in changes.items():
            self._producer.send(
                self._topic, self._partition, value, key=key, delivered=offsets.append
            )
        self._producer.commit()
        reach(FaultPoint.RESOLVER_SAVED_NOT_STORED)
        self._write(changes, max(offsets) + 1)

    def _write(self, changes: Mapping[bytes, bytes | None], next_offset: int) -> None:
        assert self._db is not None
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_OFFSET_KEY, b"%d" % next_offset)
        self._db.write(batch)
        self._next_offset = next_offset

    def close(self) -> None:
        """Closes the local copy, so that another process on this machine may open it."""
        if self._db is not None:
            self._db.close()
            self._db = None
