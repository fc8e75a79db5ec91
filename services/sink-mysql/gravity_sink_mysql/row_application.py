"""Applies the rows of one transaction, and notes what becomes of each: taken, parked or set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gravity.batch import REMOVES_ROW
from gravity.dead_letter import kind_of
from gravity.errors import PoisonError
from gravity.sink import Admitted, Refusal
from gravity_sink_mysql.connection import Session, code_of
from gravity_sink_mysql.parked_table import fits, row_to_park
from gravity_sink_mysql.parking import Draft, Parked, blocker_of, is_over, key_text
from gravity_sink_mysql.run_writer import Run, RunWriter, apply_one

if TYPE_CHECKING:
    from gravity.config.conflict import ConflictResolution, Park
    from gravity_sink_mysql.catalog import Fit
    from gravity_sink_mysql.statement import Row

Clock = Callable[[str], int | None]
"""The commit time of a source that every lane has passed; None = not known."""


class Policy:
    """What a refusal leads to at one target."""

    def __init__(self, target: str, conflicts: ConflictResolution) -> None:
        self._target = target
        self._conflicts = conflicts
        self._known: dict[tuple[str, str], Park] = {}

    def park(self, origin: str, code: str) -> Park:
        """How long a row of `origin` (`database.table` at the source) waits that is refused with `code`."""
        kind = kind_of(code)
        park = self._known.get((origin, kind))
        if park is None:
            park = self._conflicts.park_for(self._target, origin, kind)
            self._known[origin, kind] = park
        return park


class RowApplication:
    """The rows of one write, or of one round of parked rows, in one open transaction."""

    def __init__(self, session: Session, draft: Draft, policy: Policy) -> None:
        self._session = session
        self._draft = draft
        self._policy = policy

    def apply_runs(self, runs: Sequence[Run], admitted: Sequence[Admitted]) -> None:
        """With few statements. `admitted` are the write's messages as they came.

        Raises NeedsOrderError when `apply_in_order` has to do it instead, after a ROLLBACK.
        """
        for run in runs:
            self._draft.tables.add(run.table)
            writer = RunWriter(self._session, run)
            refusals = writer.apply()
            if not refusals and not self._draft.concerns(run.table):
                continue
            refused = {(refusal.message.offset, refusal.row): refusal for refusal in refusals}
            messages = dict(run.messages)
            for number, row, key in writer.last_changes():
                refusal = refused.get((messages[number].offset, row))
                if refusal is None:
                    self._draft.took(run.table, key_text(key))
                else:
                    self._refused(refusal, admitted[number], key_text(key))

    def apply_in_order(self, runs: Sequence[Run], admitted: Sequence[Admitted]) -> None:
        """Each change by itself, in the order of the messages: slow, but as the source did it."""
        for number, message, fit in _in_order(runs):
            table = message.header.routed.table
            self._draft.tables.add(table)
            for row, (image, removes) in enumerate(_images(message, fit)):
                try:
                    apply_one(self._session, fit, image, removes=removes)
                except PoisonError as error:
                    refusal = Refusal(message, row, str(code_of(error)), error.what)
                    self._refused(refusal, admitted[number], key_text(fit.layout.key_of(image)))
                else:
                    if self._draft.concerns(table):
                        self._draft.took(table, key_text(fit.layout.key_of(image)))

    def try_again(
        self, chosen: Sequence[Parked], runs: Sequence[Run], clock: Clock
    ) -> list[Parked]:
        """Tries parked rows, one message each. Returns those that wait on, as they were refused now.

        A row whose table was dropped since is in no run, and is done with.
        """
        waiting: list[Parked] = []
        tried: set[int] = set()
        for number, message, fit in _in_order(runs):
            tried.add(number)
            parked = chosen[number]
            ((image, removes),) = _images(message, fit)
            try:
                apply_one(self._session, fit, image, removes=removes)
            except PoisonError as error:
                code = str(code_of(error))
                refusal = Refusal(message, 0, code, error.what, sent_as=parked.row)
                if (still := self._again(parked, refusal, clock)) is not None:
                    waiting.append(still)
            else:
                self._draft.released(parked)
                self._draft.tables.add(parked.table)
        for number, parked in enumerate(chosen):
            if number not in tried:
                self._draft.released(parked)
        return waiting

    def _again(self, parked: Parked, refusal: Refusal, clock: Clock) -> Parked | None:
        waits_us = self._policy.park(parked.origin, refusal.code).waits_us
        now = clock(parked.source) if waits_us else None
        if is_over(waits_us, parked.since, now):
            self._draft.expired(parked, refusal)
            return None
        waits_for = blocker_of(refusal.code, refusal.reason, parked.table)
        still = replace(parked, code=refusal.code, waits_for=waits_for)
        if parked.since == 0 and now:
            # A row that was copied before the source's first commit: its time begins with that.
            still = replace(still, since=now)
            self._draft.restamped.append(still)
        return still

    def _refused(self, refusal: Refusal, admitted: Admitted, key: str) -> None:
        """Parks the row as it was admitted: by the time it is tried again its table may have changed."""
        batch = admitted.batch
        assert batch is not None
        origin = f"{batch.schema.database}.{batch.schema.table}"
        if self._policy.park(origin, refusal.code).waits_us == 0:
            self._draft.give_up(refusal)
            return
        row = row_to_park(replace(refusal, message=admitted), key)
        if fits(row, self._session.packet_bytes_max):
            self._draft.park(row)
        else:
            reason = f"{refusal.reason} (and too large to be parked)"
            self._draft.give_up(replace(refusal, reason=reason))


def _in_order(runs: Sequence[Run]) -> list[tuple[int, Admitted, Fit]]:
    found = [(number, message, run.fit) for run in runs for number, message in run.messages]
    return sorted(found, key=lambda item: item[0])


def _images(message: Admitted, fit: Fit) -> list[tuple[Row, bool]]:
    """(row image, whether it is removed) of each change."""
    batch = message.batch
    assert batch is not None
    images = zip(*(batch.columns[index] for index in fit.wanted), strict=True)
    return [(image, op in REMOVES_ROW) for op, image in zip(batch.ops, images, strict=True)]
