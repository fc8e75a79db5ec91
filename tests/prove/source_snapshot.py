"""A large table copied under writes by a collector that is killed again and again: equal, and hardly read twice."""

from __future__ import annotations

import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gravity_collector.chunk import Chunk
from gravity_devstack import Stack

from gravity.batch import DELETE, READ
from gravity.codec import decode_batch
from gravity.header import IngestHeader, IngestKind
from gravity.position import Position
from gravity.testing.waiting import wait_until
from tests.integration.collector.installation import Installation, installation
from tests.prove.report import Report

ROWS, WRITES_PER_S, KILLS = 1_000_000, 500, 5
REREADS_MAX = 2
"""Chunks that may be read again for each kill, with one reader."""
_TICK_S = 0.02
_PATIENCE_S = 1200.0


@dataclass(frozen=True)
class Found:
    """What came of one copy."""

    rows: int
    """Rows at the source in the end."""
    writes: int
    kills: int
    chunks: int
    rereads: int
    """SELECTs of chunks beyond one for each chunk that was published."""
    wrong: list[str]
    seconds: float


def _fill(made: Installation, rows: int) -> None:
    made.sql("CREATE TABLE big (id INT PRIMARY KEY, n INT NOT NULL, note VARCHAR(40))")
    made.sql("INSERT INTO big VALUES (0, 0, 'row 0')")
    there = 1
    while there < rows:
        more = min(there, rows - there)
        # Every third id is free for rows that come later.
        made.sql(
            f"INSERT INTO big SELECT id + {there} * 3, n + {there}, CONCAT('row ', n + {there}) FROM big"
            f" WHERE n < {more}"
        )
        there += more


@contextmanager
def _writing(made: Installation, rows: int, per_s: int) -> Iterator[list[int]]:
    """Inserts, updates, deletes and moved keys all over the table; the list holds how many so far."""
    stop, count, rng = threading.Event(), [0], random.Random(rows)
    client = made.server.connect(made.database, autocommit=False)

    def write() -> None:
        began = time.monotonic()
        with client.cursor() as cursor:
            while not stop.wait(_TICK_S):
                due = int((time.monotonic() - began) * per_s) - count[0]
                for number in range(count[0], count[0] + due):
                    _one_write(cursor, rng, rows * 3, number)
                client.commit()
                count[0] += due

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()
        client.close()


def _one_write(cursor: Any, rng: random.Random, ids: int, number: int) -> None:
    key, kind = rng.randrange(ids), rng.random()
    if kind < 0.2:
        cursor.execute(f"INSERT IGNORE INTO big VALUES ({key}, {number}, 'new {number}')")
    elif kind < 0.4:
        cursor.execute(f"DELETE FROM big WHERE id >= {key} LIMIT 1")
    elif kind < 0.5:
        cursor.execute(
            f"UPDATE IGNORE big SET id = {rng.randrange(ids)} WHERE id = {key - key % 3}"
        )
    else:
        cursor.execute(f"UPDATE big SET note = 'w{number}' WHERE id = {key - key % 3}")


def _valid(made: Installation) -> Iterator[tuple[IngestHeader, bytes]]:
    """What counts in the log: nothing behind the fence of a greater owner. The proof's own reading."""
    top = 0
    for _, header, value in made.messages():
        if header.kind is IngestKind.FENCE:
            top = max(top, header.owner)
        elif header.owner >= top:
            yield header, value


def _folded(made: Installation) -> dict[int, tuple[Any, ...]]:
    """The table as the log's positions give it, whatever the order of its messages."""
    newest: dict[int, tuple[Position, tuple[Any, ...] | None]] = {}

    def say(key: int, position: Position, row: tuple[Any, ...] | None) -> None:
        if key not in newest or newest[key][0] <= position:
            newest[key] = position, row

    for header, value in _valid(made):
        if header.kind not in (IngestKind.ROWS, IngestKind.CHUNK):
            continue
        batch = decode_batch(value)
        old_ids = batch.before[batch.before_columns.index(0)]
        for number, row in enumerate(batch.rows()):
            position, old = batch.position_of(number), old_ids[number]
            if batch.ops[number] != READ and isinstance(old, int):
                say(old, position, None)
            say(int(str(row[0])), position, None if batch.ops[number] == DELETE else row)
    return {key: row for key, (_, row) in newest.items() if row is not None}


def _done(made: Installation) -> list[Chunk]:
    return [Chunk.parse(h.chunk) for h, _ in _valid(made) if h.kind is IngestKind.CHUNK_DONE]


def _is_copied(made: Installation) -> bool:
    """Whether the chunks done reach from the first key to the last."""
    through = {chunk.after: chunk.through for chunk in _done(made)}
    if None not in through:
        return False
    at = through[None]
    while at is not None:
        if at not in through:
            return False
        at = through[at]
    return True


def _selects(made: Installation) -> int:
    """How often a chunk was read, by the server's own log of statements."""
    return int(
        made.rows(
            "SELECT COUNT(*) FROM mysql.general_log WHERE command_type = 'Query'"
            f" AND argument LIKE 'SELECT %FROM `{made.database}`.`big`%ORDER BY `id`'"
        )[0][0]
    )


def copy_under_fire(made: Installation, *, rows: int, per_s: int, kills: int) -> Found:
    """Copies a table of so many rows under so many writes a second, and kills the collector so often."""
    began = time.monotonic()
    _fill(made, rows)
    made.sql("SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
    wanted = rows // made.config.snapshot.chunk_rows
    wrong: list[str] = []
    with _writing(made, rows, per_s) as writes:
        process = made.start()
        for number in range(1, kills + 1):
            enough = wanted * number // (kills + 1)
            wait_until(
                lambda enough=enough: len(_done(made)) >= enough, _PATIENCE_S, what=f"kill {number}"
            )
            if _is_copied(made):
                wrong.append(f"the copy was over before kill {number}: nothing is tested")
            process.send(signal.SIGKILL)
            process.wait()
            process = made.start()
        wait_until(lambda: _is_copied(made), _PATIENCE_S, what="the copy")
    rereads = _selects(made) - len(_done(made))
    made.sql("SET GLOBAL general_log = OFF")
    made.sql("INSERT INTO big VALUES (-1, 0, 'last')")
    wait_until(lambda: _last_is_there(made), _PATIENCE_S, what="the last write")
    truth = {row[0]: row for row in made.rows("SELECT * FROM big")}
    have = _folded(made)
    wrong += [
        f"id {key}: the log says {have.get(key)}, the source {truth.get(key)}"
        for key in truth.keys() | have.keys()
        if truth.get(key) != have.get(key)
    ]
    if rereads > REREADS_MAX * kills:
        wrong.append(f"{rereads} chunks were read again for {kills} kills")
    chunks = len(_done(made))
    return Found(len(truth), writes[0], kills, chunks, rereads, wrong, time.monotonic() - began)


def _last_is_there(made: Installation) -> bool:
    rows = [(h, v) for h, v in _valid(made) if h.kind is IngestKind.ROWS][-20:]
    return any(-1 in decode_batch(value).columns[0] for _, value in rows)


def run(report: Report) -> None:
    """The full proof; `--scale` gives part of the rows."""
    rows = report.scaled(ROWS)
    with Stack() as stack, tempfile.TemporaryDirectory() as folder:
        stack.start_all(["kafka", "mariadb:collected"])
        server = stack.mariadb("collected")
        with installation(stack, server, Path(folder)) as made:
            found = copy_under_fire(made, rows=rows, per_s=WRITES_PER_S, kills=KILLS)
    note = (
        f"rows={rows} writes={found.writes} kills={found.kills} chunks={found.chunks}"
        f" read_again={found.rereads} seconds={found.seconds:.0f}"
    )
    report.line(
        "snapshot under writes, killed",
        pairs=found.rows,
        differences=len(found.wrong),
        examples=found.wrong[:3],
        note=note,
    )
