"""Where a partition's state lives: RocksDB on this disk, and the changelog that outlives the disk.

The changelog comes first: one transaction of a producer that only one process can hold
(`transactional.id` per partition), then one atomic batch into RocksDB with the changelog offset. So
the local copy is never ahead of the log, and a resolver that was frozen can't write any more.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import structlog
from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from gravity.errors import TransientError
from gravity.fault import FaultPoint, is_armed, reach
from gravity.kafka.producer import LogProducer
from gravity.kafka.reader import LogReader
from gravity.topic import changelog_transactional_id

if TYPE_CHECKING:
    from gravity.kafka.client import Cluster

log = structlog.get_logger()

_OFFSET_KEY = b"\x00offset"
_TOPIC_KEY = b"\x00topic"
_WRITE_BUFFER_BYTES = 16 * 1024 * 1024
_RESTORE_RECORDS = 5000
COPIES_MAX = 8
"""Local copies of one partition: one, and one more for every frozen process that holds on to its own."""


class PartitionStore:
    """The saved state of one partition. `get` makes it a StateView."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        topic: str,
        topic_id: str,
        partition: int,
        group: str,
        folder: Path,
    ) -> None:
        self._cluster, self._topic, self._partition = cluster, topic, partition
        self._topic_id = topic_id.encode()
        self._where = f"{group}.{topic}.{partition}"
        self._folder = folder
        self._producer = LogProducer(
            cluster,
            f"{group}.state",
            transactional_id=changelog_transactional_id(group, topic, partition),
        )
        self._lock: IO[bytes] | None = None
        self._copy = folder
        self._db: Rdict | None = None
        self._next_offset = 0

    def open(self) -> int:
        """Fences every earlier writer, then brings the local copy up to the changelog's end.

        Returns how many changelog records were read.
        """
        self._producer.init_transactions()
        reach(FaultPoint.RESOLVER_FENCED_NOT_RESTORED)
        self._lock, self._copy = _claim_copy(self._folder)
        self._open_local()
        reader = LogReader(self._cluster, f"{self._where}.restore")
        try:
            low, high = reader.bounds(self._topic, self._partition)
            if self._next_offset > high or self._next_offset < low:
                # Of a changelog that was cut, or so old that deleted keys have been compacted away.
                self._wipe("its offset is not in the changelog")
            return self._restore(reader, max(self._next_offset, low), high)
        finally:
            reader.close()

    def _open_local(self) -> None:
        try:
            self._db = self._open_database()
        except Exception as error:  # noqa: BLE001 - rocksdict has no error type of its own
            self._wipe(str(error))
            return
        known = self._db.get(_TOPIC_KEY)
        if known is not None and bytes(known) != self._topic_id:
            self._wipe("it is of another changelog")
            return
        offset = self._db.get(_OFFSET_KEY)
        self._next_offset = int(offset) if offset else 0

    def _open_database(self) -> Rdict:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(2)
        return Rdict(str(self._copy), options)

    def _wipe(self, reason: str) -> None:
        log.warning("local_state_dropped", folder=str(self._copy), reason=reason)
        if self._db is not None:
            self._db.close()
        shutil.rmtree(self._copy, ignore_errors=True)
        self._db = self._open_database()
        self._next_offset = 0

    def _restore(self, reader: LogReader, start: int, end: int) -> int:
        assert self._db is not None
        records = 0
        pending: dict[bytes, bytes | None] = {}
        # What a crash takes is in the changelog still, and offset and rows go into one batch: so RocksDB's own
        # log would only double the writing.
        unlogged = WriteOptions()
        # A property, whatever the library's type stub says.
        unlogged.disable_wal = True  # type: ignore[method-assign, assignment]
        for message in reader.read(self._topic, self._partition, start, end):
            pending[message.key or b""] = message.value
            records += 1
            if len(pending) >= _RESTORE_RECORDS or is_armed(FaultPoint.RESOLVER_RESTORED_IN_PART):
                self._write(pending, message.offset + 1, unlogged)
                pending.clear()
                reach(FaultPoint.RESOLVER_RESTORED_IN_PART)
        if records:
            self._write(pending, end, unlogged)
            # Before anything is logged again: a crash must not keep what came later and lose this.
            self._db.flush()
        else:
            self._write(pending, end)
        return records

    def get(self, key: bytes) -> bytes | None:
        """The saved value under `key`."""
        assert self._db is not None
        value = self._db.get(key)
        return None if value is None else bytes(value)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every saved key that begins with `prefix` and its value, in the order of keys, as of this call."""
        assert self._db is not None
        found: Any = self._db.items(from_key=prefix)
        return takewhile(
            lambda item: item[0].startswith(prefix),
            ((bytes(key), bytes(value)) for key, value in found),
        )

    def save(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Makes `changes` durable: all of them or none. None deletes a key.

        Raises FencedError when another process has taken the partition.
        """
        offsets: list[int] = []
        self._producer.begin()
        for key, value in changes.items():
            self._producer.send(
                self._topic, self._partition, value, key=key, delivered=offsets.append
            )
        if is_armed(FaultPoint.RESOLVER_WRITTEN_NOT_COMMITTED):
            self._producer.flush()
        reach(FaultPoint.RESOLVER_WRITTEN_NOT_COMMITTED)
        self._producer.commit()
        reach(FaultPoint.RESOLVER_SAVED_NOT_STORED)
        self._write(changes, max(offsets) + 1)

    def _write(
        self,
        changes: Mapping[bytes, bytes | None],
        next_offset: int,
        how: WriteOptions | None = None,
    ) -> None:
        assert self._db is not None
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(_TOPIC_KEY, self._topic_id)
        batch.put(_OFFSET_KEY, b"%d" % next_offset)
        self._db.write(batch, how)
        self._next_offset = next_offset

    def close(self) -> None:
        """Gives the local copy up, so that another process on this machine may have it."""
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _claim_copy(folder: Path) -> tuple[IO[bytes], Path]:
    """The first local copy that no process holds, and the lock on it.

    A frozen process keeps its lock; whoever takes the partition over on the same machine must not
    wait for it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(COPIES_MAX):
        lock = (folder / f"{number}.lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return lock, folder / str(number)
    raise TransientError(
        f"{COPIES_MAX} processes hold a copy of this state", where=str(folder),
        remedy="end the resolvers that hang",
    )  # fmt: skip
