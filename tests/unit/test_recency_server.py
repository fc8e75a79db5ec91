"""What the server of waits does with questions whose askers have gone, and with too many of them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from gravity import recency_reader, recency_server
from gravity.config import Config, parse_config
from gravity.errors import FatalError, GravityError, TransientError
from gravity.recency_reader import Answer, Record
from gravity.recency_server import RecencyServer

ANSWER_S = 30.0


def config() -> Config:
    document = {
        "sources": [{"name": "s", "type": "mysql", "host": "h", "username": "u"}],
        "targets": [{"name": "t", "type": "mysql", "host": "h", "username": "u"}],
        "kafka": {"brokers": ["127.0.0.1:1"], "partitions": 1},
    }
    return parse_config(json.dumps(document)).config


class Progress:
    """The progress topic of a target that has everything."""

    def __init__(self, _config: Config) -> None:
        self._quiet = threading.Event()

    def records(self, timeout_s: float) -> list[Record]:
        self._quiet.wait(timeout_s)
        point = {"position": "1:1:100:0", "gtids": "0-1-99", "time_us": 10}
        copy = {"done": 1, "total": 1}
        return [
            ("collector/s", {"gtids": "0-1-99", "snapshot": copy, "at_us": 10}),
            ("sink/t/0", {"frontier": {"s": point}}),
        ]

    def close(self) -> None:
        """Nothing is open."""


class Reads:
    """The reading of logs, which takes until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.count = 0
        self.let_go = threading.Event()

    def __call__(self, _config: Config, found: Answer, _timeout_s: float) -> Answer:
        self.count += 1
        self.begun.release()
        assert self.let_go.wait(ANSWER_S)
        return replace(found, untold="read")

    async def have_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=ANSWER_S)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    made = Reads()
    monkeypatch.setattr(recency_server, "ProgressFollower", Progress)
    monkeypatch.setattr(recency_server, "with_disposition", made)
    monkeypatch.setattr(recency_server, "LEAST_S", 0.1)
    monkeypatch.setattr(recency_server, "_POLL_S", 0.05)
    return made


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[RecencyServer, Any]]:
    server = RecencyServer(config(), waits_max=9)
    host, port = await server.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:

        async def ask(timeout_s: float = ANSWER_S, gtid: str = "0-1-5") -> dict[str, Any]:
            body = {"source": "s", "target": "t", "gtid": gtid, "timeout": timeout_s,
                    "disposition": True}  # fmt: skip
            async with session.post(f"http://{host}:{port}/wait", json=body) as response:
                found: dict[str, Any] = await response.json()
                return found

        try:
            yield server, ask
        finally:
            await server.stop()


def test_a_reading_whose_asker_has_gone_keeps_its_place_until_it_has_ended(reads: Reads) -> None:
    async def story() -> None:
        async with serving() as (server, ask):
            asked = [asyncio.create_task(ask()) for _ in range(2)]
            for _ in asked:
                await reads.have_begun()
            for task in asked:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            while server._waiting:  # noqa: ASYNC110 - only it knows when it has seen that they are gone
                await asyncio.sleep(0.01)
            answer = await ask(0.05)
            assert (answer["status"], reads.count) == ("applied", 2)
            assert "read for others" in answer["untold"]
            reads.let_go.set()
            assert (await ask())["untold"] == "read"

    asyncio.run(story())


def test_a_wait_that_ends_without_the_transactions_waits_for_no_reading(reads: Reads) -> None:
    async def story() -> None:
        async with serving() as (_, ask):
            asked = [asyncio.create_task(ask()) for _ in range(2)]
            for _ in asked:
                await reads.have_begun()
            answer = await ask(0.05, gtid="0-1-100")
            assert (answer["status"], "untold" in answer) == ("timeout", False)
            reads.let_go.set()
            await asyncio.gather(*asked)

    asyncio.run(story())


@pytest.mark.parametrize("kind", [FatalError, TransientError])
def test_what_keeps_the_logs_from_being_read_changes_nothing_about_the_wait(
    kind: type[GravityError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise kind("refused")

    monkeypatch.setattr(recency_reader, "read_disposition", refused)
    question = recency_reader.ask(config(), "s", "t", "0-1-5", disposition=True)
    found = Answer(question, "applied", None, 0.1, "", 0)
    told = recency_reader.with_disposition(config(), found, 1.0)
    assert (told.status, told.disposition, told.untold) == ("applied", None, "refused")
