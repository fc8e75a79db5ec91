"""Answers programs over HTTP whether a target has what they wrote: POST /wait.

One thread follows the progress topic for all questions; a waiting question costs a task and no connection.
"""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from gravity.clock import monotonic_s
from gravity.config.model import parse_duration
from gravity.errors import GravityError, TransientError
from gravity.recency import Frontiers, QuestionError
from gravity.recency_reader import (
    LEAST_S,
    Answer,
    ProgressFollower,
    Question,
    Record,
    answer,
    ask,
    with_disposition,
)

if TYPE_CHECKING:
    from gravity.config import Config

log = structlog.get_logger()

WAIT_S_MAX: Final = 600.0
_WAIT_S: Final = 30.0
_POLL_S: Final = 0.5
_AGAIN_S: Final = 1.0
"""Pause before the progress topic is read anew after a failure."""
_BODY_BYTES_MAX: Final = 256 * 1024
_DISPOSITIONS_MAX: Final = 2
"""Questions for which the logs are read at one time."""
_KEYS: Final = {"source", "target", "gtid", "timeout", "processed", "disposition"}


class RecencyServer:
    """The HTTP interface. Made and used inside one event loop."""

    def __init__(self, config: Config, *, waits_max: int) -> None:
        """`waits_max` bounds the questions that wait at one time; one more is refused at once."""
        self._config = config
        self._waits_max = waits_max
        self._waiting = 0
        self._reads = asyncio.Semaphore(_DISPOSITIONS_MAX)
        self._frontiers = Frontiers(config.kafka.partitions)
        self._moved = asyncio.Event()
        """Set, and replaced, whenever a record has come."""
        self._trouble = ""
        """Why the progress topic can't be read; empty while it is."""
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listens; the address that it listens at (`port` 0 takes a free one). Raises OSError."""
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_post("/wait", self._wait)
        # A client that has gone gives its place to another.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self._thread.start()
        bound = self._runner.addresses[0]
        return bound[0], bound[1]

    async def stop(self) -> None:
        """Ends; questions that wait are cut off, never answered `applied`."""
        self._stop.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                follower = ProgressFollower(self._config)
                try:
                    first = True
                    while not self._stop.is_set():
                        records = follower.records(_POLL_S)
                        if records or first:
                            self._tell(records, anew=first)
                        first = False
                finally:
                    follower.close()
            except Exception as error:  # noqa: BLE001 - the outermost loop of this thread
                log.warning("progress_not_read", reason=str(error))
                self._call(self._fail, str(error))
                self._stop.wait(_AGAIN_S)

    def _tell(self, records: list[Record], *, anew: bool) -> None:
        self._call(self._take, records, anew)

    def _call(self, function: Any, *arguments: Any) -> None:
        with suppress(RuntimeError):  # The loop has ended: nobody asks any more.
            self._loop.call_soon_threadsafe(function, *arguments)

    def _take(self, records: list[Record], anew: bool) -> None:  # noqa: FBT001 - by the loop, which passes no keywords
        if anew:
            # The topic may have been made again: what was known is of another one.
            self._frontiers = Frontiers(self._config.kafka.partitions)
        for record in records:
            self._frontiers.add(*record)
        self._trouble = ""
        self._wake()

    def _fail(self, reason: str) -> None:
        self._trouble = reason

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _wait(self, request: web.Request) -> web.Response:
        if self._waiting >= self._waits_max:
            error = f"{self._waiting} questions wait already: ask again, or raise --waits-max"
            return web.json_response({"error": error}, status=429, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            found = await self._answer(await _body(request))
            status = 200 if found.status == "applied" else 504
            return web.json_response(found.to_json(), status=status)
        except QuestionError as error:
            return web.json_response({"error": str(error)}, status=400)
        except GravityError as error:
            status = 503 if isinstance(error, TransientError) else 500
            return web.json_response({"error": str(error)}, status=status)
        finally:
            self._waiting -= 1

    async def _answer(self, body: dict[str, Any]) -> Answer:
        began_s = monotonic_s()
        timeout_s = _seconds(body.get("timeout", _WAIT_S))
        source, target, gtid = (body.get(name) for name in ("source", "target", "gtid"))
        processed, disposition = (body.get(name, False) for name in ("processed", "disposition"))
        if not isinstance(source, str) or not isinstance(target, str):
            raise QuestionError("source and target are needed, each a text")
        if not isinstance(gtid, str | None):
            raise QuestionError("gtid is a text")
        if not isinstance(processed, bool) or not isinstance(disposition, bool):
            raise QuestionError("processed and disposition are true or false")
        # In a thread, since a source may be asked, which takes as long as its server does.
        question = await asyncio.to_thread(
            ask,
            self._config,
            source,
            target,
            gtid,
            processed=processed,
            disposition=disposition,
        )
        found = await self._until_there(question, began_s, timeout_s)
        if not disposition or found.status != "applied":
            return found
        return await self._told(found, began_s + timeout_s)

    async def _told(self, found: Answer, deadline_s: float) -> Answer:
        """The answer with what became of the rows."""
        try:
            left_s = max(LEAST_S, deadline_s - monotonic_s())
            await asyncio.wait_for(self._reads.acquire(), left_s)
        except TimeoutError:
            return replace(found, untold=f"the logs were being read for others for {left_s:.0f} s")
        left_s = deadline_s - monotonic_s()
        reading = asyncio.ensure_future(
            asyncio.to_thread(with_disposition, self._config, found, left_s)
        )
        # The thread goes on where the client has gone: its place is free when it has ended, not before.
        reading.add_done_callback(self._read)
        return await asyncio.shield(reading)

    def _read(self, reading: asyncio.Future[Answer]) -> None:
        self._reads.release()
        if not reading.cancelled():
            reading.exception()  # Told to the client, if it is still there.

    async def _until_there(self, question: Question, began_s: float, timeout_s: float) -> Answer:
        while True:
            moved = self._moved
            self._frontiers.check(question.source, question.wanted)
            look = self._frontiers.look(
                question.source, question.target, question.wanted, processed=question.processed
            )
            left_s = began_s + timeout_s - monotonic_s()
            if not look.is_there and left_s <= 0 and self._trouble:
                raise TransientError(f"progress can't be read: {self._trouble}")
            if look.is_there or left_s <= 0:
                return answer(question, look, began_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(moved.wait(), left_s)


async def _body(request: web.Request) -> dict[str, Any]:
    # Forms of foreign web pages can't send this type without asking first.
    if request.content_type != "application/json":
        raise QuestionError("the body must be JSON", remedy="Content-Type: application/json")
    try:
        body = json.loads(await request.text())
    except ValueError as error:
        raise QuestionError(f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise QuestionError("the body must be a JSON object")
    if unknown := sorted(body.keys() - _KEYS):
        raise QuestionError(
            f"unknown: {', '.join(unknown)[:100]}", remedy=f"known: {', '.join(sorted(_KEYS))}"
        )
    return body


def _seconds(timeout: object) -> float:
    """Seconds of `30`, `1.5` or `30s`."""
    try:
        if isinstance(timeout, str):
            seconds = parse_duration(timeout).total_seconds()
        elif isinstance(timeout, int | float) and not isinstance(timeout, bool):
            seconds = float(timeout)
        else:
            raise QuestionError("timeout must be seconds, or a span such as 30s")
    except ValueError as error:
        raise QuestionError(f"timeout: {error}") from error
    if not 0 <= seconds <= WAIT_S_MAX:
        raise QuestionError(f"timeout must be from 0 to {WAIT_S_MAX:.0f} seconds")
    return seconds


async def serve(
    config: Config, host: str, port: int, *, waits_max: int, announce: Callable[[str, int], None]
) -> None:
    """Serves until SIGTERM or SIGINT; `announce` is told where, once questions are heard there.

    Raises OSError when it can't listen there.
    """
    server = RecencyServer(config, waits_max=waits_max)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    try:
        bound = await server.start(host, port)
        log.info("waits_served", host=bound[0], port=bound[1], waits_max=waits_max)
        announce(host, bound[1])
        await ended.wait()
    finally:
        await server.stop()
