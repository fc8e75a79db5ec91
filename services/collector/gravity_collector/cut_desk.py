"""Requests for the markers of cuts: from control to the source's thread, and the answers back.

The log does not remember them. Who takes a source over may send a marker of the same cut once more: the
target takes the first, and the second when the cut is over and it says nothing (docs/adr/0023).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import structlog

from gravity.cut import CutAnswer, CutMark
from gravity.ingest_log import Checkpoint, Fences
from gravity.topic import cut_request_key, cut_result_key, numbered
from gravity_collector.owner import Control

log = structlog.get_logger()

CUTS_MAX: Final = 16
"""Requests of one source that are answered between two looks at control; others wait there."""


class CutDesk:
    """Between the keeper's thread, which reads and writes control, and the source's, which sends markers."""

    def __init__(self, source: str, owner: int, fences: Fences) -> None:
        self._source = source
        self._owner = owner
        self._fences = fences
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        """Requests in control that the source's thread has, or has answered."""
        self._inbox: list[CutMark] = []
        self._answers: dict[int, CutAnswer] = {}

    def look(self, records: Mapping[str, Any]) -> None:
        """The keeper has read control: new requests go into the inbox.

        What an owner answered that was overtaken counts as little here as it does in the log.
        """
        requests = numbered(records, cut_request_key(self._source, 0))
        answered = {
            cut_id
            for cut_id, record in numbered(records, cut_result_key(self._source, 0)).items()
            if not self._fences.is_void(record["offset"], record["owner"])
        }
        with self._lock:
            self._taken &= requests.keys()
            for cut_id in answered | (self._answers.keys() - requests.keys()):
                self._answers.pop(cut_id, None)
            for cut_id in sorted(requests.keys() - answered - self._taken)[:CUTS_MAX]:
                self._taken.add(cut_id)
                self._inbox.append(CutMark.of_record(requests[cut_id]))

    def write(self, control: Control, acknowledged: Checkpoint | None) -> None:
        """The keeper writes the answers, as far as the broker has the markers."""
        with self._lock:
            answers = list(self._answers.values())
        for answer in answers:
            if acknowledged is not None and answer.seq <= acknowledged.seq:
                record = answer.record(self._owner, acknowledged.offset)
                control.write(cut_result_key(self._source, answer.cut_id), record)

    def arrived(self) -> list[CutMark]:
        """Requests that the source's thread has not seen yet."""
        if not self._inbox:
            return []
        with self._lock:
            inbox, self._inbox = self._inbox, []
        return inbox

    def answer(self, mark: CutMark, *, seq: int, error: str = "") -> None:
        """The marker was sent, as message `seq`; or none was, because of `error`."""
        with self._lock:
            self._answers[mark.cut_id] = CutAnswer(mark.cut_id, seq, error)
        log.info(
            "cut_refused" if error else "cut_marked",
            source=self._source,
            target=mark.target,
            cut=mark.cut_id,
            error=error,
        )
