"""Operators' requests for existing rows: from control to the source's thread, and their ends back.

The ingest log is the truth: a request that it has is begun, and is never begun again. Control only
carries the wish there and the result back (docs/adr/0010).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

import structlog

from gravity.ingest_log import Checkpoint, Fences
from gravity.snapshot_request import RequestResult, SnapshotRequest
from gravity.topic import numbered, snapshot_request_key, snapshot_result_key
from gravity_collector.cut_desk import CutDesk
from gravity_collector.owner import Control

log = structlog.get_logger()

REQUESTS_MAX: Final = 8
"""Requests of one source that are worked on at the same time; others wait in control."""


class Desk:
    """Between the keeper's thread, which reads and writes control, and the source's, which does the work."""

    def __init__(
        self, source: str, owner: int, fences: Fences, known: Iterable[SnapshotRequest] = ()
    ) -> None:
        """`known`: the requests that the log has."""
        self._source = source
        self._owner = owner
        self._fences = fences
        self._lock = threading.Lock()
        self._open = {request.request_id: request for request in known}
        """Requests that the log has, or that wait in the inbox, until control has their results."""
        self._inbox: list[SnapshotRequest] = []
        self._results: dict[int, RequestResult] = {}
        self._settled: list[SnapshotRequest] = []
        self.cuts = CutDesk(source, owner, fences)

    def look(self, records: Mapping[str, Any]) -> None:
        """The keeper has read control: new requests go into the inbox, told results are settled.

        What an owner writes that was overtaken counts as little here as it does in the log.
        """
        self.cuts.look(records)
        requests = numbered(records, snapshot_request_key(self._source, 0))
        results = {
            request_id
            for request_id, record in numbered(
                records, snapshot_result_key(self._source, 0)
            ).items()
            if not self._fences.is_void(record["offset"], record["owner"])
        }
        with self._lock:
            for request_id in [number for number in self._open if number in results]:
                self._results.pop(request_id, None)
                self._settled.append(self._open.pop(request_id))
            for request_id in sorted(requests):
                if len(self._open) >= REQUESTS_MAX:
                    break
                if request_id in results or request_id in self._open:
                    continue
                request = SnapshotRequest.of_record(requests[request_id])
                self._open[request_id] = request
                self._inbox.append(request)

    def write(self, control: Control, acknowledged: Checkpoint | None) -> None:
        """The keeper writes what has ended, as far as the broker has it."""
        self.cuts.write(control, acknowledged)
        with self._lock:
            results = list(self._results.values())
        for result in results:
            if acknowledged is not None and result.seq <= acknowledged.seq:
                record = result.record(self._owner, acknowledged.offset)
                control.write(snapshot_result_key(self._source, result.request_id), record)

    def arrived(self) -> list[SnapshotRequest]:
        """Requests that the source's thread has not seen yet."""
        if not self._inbox:
            return []
        with self._lock:
            inbox, self._inbox = self._inbox, []
        return inbox

    def end(self, request: SnapshotRequest, *, rows: int, seq: int) -> None:
        """The request is done, or failed: the log says so up to message `seq`, and control will."""
        result = RequestResult(request.request_id, rows, request.error, seq)
        with self._lock:
            self._results[request.request_id] = result
        log.info(
            "snapshot_request_ended",
            source=self._source,
            request=request.request_id,
            rows=rows,
            error=request.error,
        )

    def settled(self) -> list[SnapshotRequest]:
        """Requests of whose end control knows since the last call."""
        if not self._settled:
            return []
        with self._lock:
            settled, self._settled = self._settled, []
        return settled
