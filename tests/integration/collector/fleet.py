"""Many sources on few servers, and the collectors that share them."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from gravity_devstack.database import DatabaseServer
from gravity_devstack.kafka import KafkaServer

from gravity.codec import decode_batch
from gravity.config import load_config
from gravity.header import IngestHeader, IngestKind
from gravity.ingest_log import Fences
from gravity.kafka.admin import TopicAdmin
from gravity.kafka.control import ControlTopic
from gravity.kafka.reader import LogMessage, LogReader
from gravity.plan_compiler import compile_plan
from gravity.testing.waiting import wait_until
from gravity.topic import Topics, plan_key
from tests.integration.collector.ingest import IngestLog
from tests.integration.collector.installation import Process


class FleetLog(IngestLog):
    """One of many logs that one reader reads side by side."""

    def __init__(self, reader: LogReader, topic: str, read_on: Callable[[], None]) -> None:
        super().__init__(reader, topic)
        self._read_on = read_on
        self._fences = Fences()
        self.newest = 0
        """The greatest key of `t` that counts."""

    def take(self, message: LogMessage) -> None:
        header = IngestHeader.from_kafka(message.headers)
        value = message.value or b""
        self._messages.append((message.offset, header, value))
        if header.kind is IngestKind.FENCE:
            self._fences.add(message.offset, header.owner)
        elif header.kind is IngestKind.ROWS and not self._fences.is_void(
            message.offset, header.owner
        ):
            ids = decode_batch(value).columns[0]
            self.newest = max(self.newest, *(int(str(cell)) for cell in ids))

    def messages(self) -> list[tuple[int, IngestHeader, bytes]]:
        self._read_on()
        return self._messages


class Fleet:
    """`count` sources, each a database with a table `t` (id, v); writes are made here and counted."""

    def __init__(
        self,
        kafka: KafkaServer,
        servers: Sequence[DatabaseServer],
        folder: Path,
        *,
        count: int,
        session_s: float = 2,
        extra: str = "",
    ) -> None:
        self.prefix = f"f_{uuid.uuid4().hex[:8]}"
        self.names = [f"s{number}" for number in range(count)]
        self._folder = folder
        self.processes: list[Process] = []
        self._server_of = [servers[number % len(servers)] for number in range(count)]
        self._clients = {server.port: server.connect() for server in servers}
        self.written = [0] * count
        for number in range(count):
            self.sql(number, f"CREATE DATABASE {self.database(number)}")
            self.sql(
                number,
                f"CREATE TABLE {self.database(number)}.t (id INT PRIMARY KEY, v VARCHAR(99))",
            )
        self.path = folder / f"{self.prefix}.yaml"
        self.path.write_text(self._configuration(kafka, session_s, extra))
        self.config = load_config(self.path).config
        self.topics = Topics(self.config.kafka.topic_prefix)
        self.admin = TopicAdmin(self.config.kafka)
        self.admin.ensure(self.topics.all_specs(self.names, ["t"], 1))
        self._control = ControlTopic(self.config.kafka, self.topics.control, "test")
        self._control.write(plan_key(1), compile_plan(self.config, []).to_json() | {"version": 1})
        self._reader = LogReader(self.config.kafka, "test")
        self.logs = [
            FleetLog(self._reader, self.topics.ingest(name), self.read_on) for name in self.names
        ]
        self._log_of = {
            self.topics.ingest(name): log for name, log in zip(self.names, self.logs, strict=True)
        }
        self._reader.assign({(topic, 0): 0 for topic in self._log_of})

    def _configuration(self, kafka: KafkaServer, session_s: float, extra: str) -> str:
        sources = "".join(
            f"""
  - name: {name}
    type: {self._server_of[number].flavor}
    host: {self._server_of[number].host}
    port: {self._server_of[number].port}
    username: gravity
    password: gravity-dev
    databases: [{self.database(number)}]
    snapshot: never
"""
            for number, name in enumerate(self.names)
        )
        return f"""
sources: {sources}
targets:
  - name: t
    type: kafka
    brokers: {kafka.host}:{kafka.port}
kafka:
  brokers: {kafka.host}:{kafka.port}
  topic-prefix: {self.prefix}.
collector:
  session-timeout: {session_s}s
{extra}
"""

    def database(self, number: int) -> str:
        return f"{self.prefix}_{number}"

    def sql(self, number: int, statement: str) -> list[tuple[Any, ...]]:
        with self._clients[self._server_of[number].port].cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def write(self, number: int) -> None:
        """One transaction of one row at source `number`; now and then an older row is changed."""
        self.written[number] += 1
        value, table = self.written[number], f"{self.database(number)}.t"
        self.sql(number, f"INSERT INTO {table} VALUES ({value}, 'n{value}')")
        if value % 4 == 0:
            self.sql(number, f"UPDATE {table} SET v = 'u{value}' WHERE id = {value // 2}")

    def start(self, *options: str) -> Process:
        log = self._folder / f"{self.prefix}.{len(self.processes)}.log"
        process = Process(self.path, log, "", *options)
        self.processes.append(process)
        return process

    def shares(self) -> list[int]:
        """How many sources each collector holds, by the broker's word; the smallest first."""
        members = self.admin.members(self.topics.group("collector"))
        return sorted(len(member.topics) for member in members)

    def wait_shared(self, collectors: int, timeout_s: float = 60.0) -> None:
        """Returns when every source is held, and each of so many collectors has a fair share."""
        least = len(self.names) // collectors

        def is_fair() -> bool:
            shares = self.shares()
            return (
                len(shares) == collectors
                and sum(shares) == len(self.names)
                and shares[0] >= least
                and shares[-1] <= least + 1
            )

        wait_until(is_fair, timeout_s, what=f"{len(self.names)} sources on {collectors} collectors")

    def wait_flowing(self, numbers: Sequence[int] | None = None, timeout_s: float = 60.0) -> None:
        """Returns when a row written from now on is in the log of every source (of `numbers`)."""
        chosen = range(len(self.names)) if numbers is None else numbers
        written = {number: self.written[number] for number in chosen}

        def has_all() -> bool:
            self.read_on()
            return all(self.logs[number].newest > seen for number, seen in written.items())

        try:
            wait_until(has_all, timeout_s, what="new rows of every source")
        except TimeoutError as error:
            newest = [log.newest for log in self.logs]
            raise TimeoutError(f"{error}: of {self.written} it has {newest}") from None

    def wait_has(self, numbers: Sequence[int], timeout_s: float = 60.0) -> None:
        """Returns when everything that was written to these sources is in their logs."""
        wait_until(
            lambda: all(self.backlog(number) == 0 for number in numbers),
            timeout_s,
            what=f"all rows of sources {numbers}",
        )

    def backlog(self, number: int) -> int:
        """How many keys of a source are still to come."""
        self.read_on()
        return self.written[number] - self.logs[number].newest

    def wait_begun(self, timeout_s: float = 60.0, *, numbers: Sequence[int] | None = None) -> None:
        """Returns when every log (of `numbers`) says where its source was begun: what follows must come."""
        logs = self.logs if numbers is None else [self.logs[number] for number in numbers]

        def have_begun() -> bool:
            self.read_on()
            return all(
                any(header.kind is IngestKind.MARKER for _, header, _ in log.messages())
                for log in logs
            )

        wait_until(have_begun, timeout_s, what="all sources begun")

    def flood(self, number: int, *, rows: int, step: int = 5000) -> None:
        """Many rows at once, `step` in a transaction."""
        table = f"{self.database(number)}.t"
        for _ in range(0, rows, step):
            ids = range(self.written[number] + 1, self.written[number] + 1 + step)
            values = ",".join(f"({value}, 'f{value}{'x' * 80}')" for value in ids)
            self.sql(number, f"INSERT INTO {table} VALUES {values}")
            self.written[number] += step

    def read_on(self) -> None:
        """Takes in what is there; a bounded piece of it, since there may always be more."""
        for _ in range(20):
            messages = self._reader.poll(0.02, 2000)
            if not messages:
                return
            for message in messages:
                self._log_of[message.topic].take(message)

    def wait_equal(self, timeout_s: float = 60.0) -> None:
        """Returns when every log says what its source holds."""
        for number, log in enumerate(self.logs):
            truth = sorted(self.sql(number, f"SELECT * FROM {self.database(number)}.t"))
            wait_until(
                lambda log=log, truth=truth: log.replay("t") == truth,
                timeout_s,
                what=f"{self.names[number]} equal",
            )

    def takeovers(self) -> int:
        """Fences in all logs: how often a source got an owner."""
        return sum(
            header.kind is IngestKind.FENCE for log in self.logs for _, header, _ in log.messages()
        )

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for number in range(len(self.names)):
            self.sql(number, f"DROP DATABASE IF EXISTS {self.database(number)}")
        for client in self._clients.values():
            client.close()
        self._control.close()
        self._reader.close()


@contextmanager
def written(write: Callable[[int], None], pause_s: float) -> Iterator[None]:
    """Calls `write` with 0, 1, 2 ... in a thread, until the block ends."""
    ended = threading.Event()

    def run() -> None:
        for number in count():
            if ended.wait(pause_s):
                return
            write(number)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
