"""Sources whose copy was all there was to do (`snapshot: only`), begun again for a newer plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol

import structlog

from gravity.errors import GravityError
from gravity.placed_anew import settled_under
from gravity.topic import newest_plan
from gravity_collector.crew import Crew

log = structlog.get_logger()


class ControlRead(Protocol):
    """The control topic, as it is read by others."""

    records: dict[str, Any]
    """All records, as of the last `refresh`; replaced, never changed."""

    def refresh(self) -> Mapping[str, Any]:
        """All records, up to the present end."""


class Recall:
    """Looks at the plans for sources that have ended: rows that a newer one moves must be read again.

    Without it `gravity reload` would wait for them in vain, and no earlier routing would ever be forgotten.
    """

    def __init__(self, control: ControlRead, crew: Crew) -> None:
        self._control = control
        self._crew = crew
        self._seen: Mapping[str, Any] = {}
        self._recalled: dict[str, int] = {}
        """The plan for which each source was begun again last: for each once, however that ends."""

    def look(self) -> None:
        """Starts again what has ended under an older plan than control had when it was read last."""
        records, done = self._control.records, self._crew.done
        # Sources end seldom, records change every few seconds.
        if done and records is not self._seen:
            self._seen = records
            if self._older(done, records):
                self._start(done)

    def are_all_done(self, names: Collection[str]) -> bool:
        """Whether all of `names` are held here, have ended, and go by the newest plan."""
        return self._crew.are_all_done(names) and not self._start(names)

    def _start(self, names: Collection[str]) -> bool:
        """Whether any had to be started again."""
        records: Mapping[str, Any] = {}
        # What was read last may lack the checkpoint that a source ended with. If control can't be read now it
        # is later, or when the collector is started again.
        with suppress(GravityError):
            records = self._control.refresh()
        older = self._older(names, records)
        for name in older:
            self._recalled[name] = newest_plan(records)
            log.info("source_begun_for_plan", source=name, plan=self._recalled[name])
        self._crew.start(older)
        return bool(older)

    def _older(self, names: Collection[str], records: Mapping[str, Any]) -> list[str]:
        newest = newest_plan(records)
        return [
            name
            for name in names
            if self._recalled.get(name, 0) < newest and settled_under(records, [name]) < newest
        ]
