"""Writes many changes of one table with few statements, or one with its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from gravity.errors import PoisonError
from gravity.sink import Admitted, Refusal
from gravity_sink_mysql.catalog import Fit
from gravity_sink_mysql.connection import Session, code_of
from gravity_sink_mysql.error_code import ORDER_DEPENDENT
from gravity_sink_mysql.statement import (
    STATEMENT_BYTES_MAX,
    STATEMENT_ROWS_MAX,
    Key,
    Row,
    latest_per_key,
    spans,
)


@dataclass(slots=True)
class Run:
    """Messages of one table and one shape that are written together."""

    fit: Fit
    messages: list[tuple[int, Admitted]] = field(default_factory=list)
    """Each with its number in the write."""
    rows: int = 0

    @property
    def table(self) -> str:
        """`database.table` at the target."""
        return self.messages[0][1].header.routed.table


class NeedsOrderError(Exception):
    """The changes have to be applied one by one, as the source made them."""


def apply_one(session: Session, fit: Fit, image: Row, *, removes: bool) -> None:
    """Applies one change by itself. Raises PoisonError when the target refuses it: nothing was changed."""
    layout = fit.layout
    if removes:
        session.execute(layout.delete([layout.key_of(image)]))
        return
    if not session.execute(layout.update(image)):
        session.execute(layout.insert() + layout.texts([image])[0])
    for statement in layout.repairs([image]):
        session.execute(statement)


class RunWriter:
    """Writes the final state of one run's keys with few statements."""

    def __init__(self, session: Session, run: Run) -> None:
        self._session = session
        self._fit = run.fit
        self._run = run
        self._messages = dict(run.messages)
        self._final = latest_per_key(
            (
                (number, m.batch, run.fit.wanted)
                for number, m in run.messages
                if m.batch is not None
            ),
            run.fit.key_index,
        )
        # Some bytes of a packet are the protocol's own; characters may take four bytes.
        self._bytes_max = min(STATEMENT_BYTES_MAX, session.packet_bytes_max) // 2
        self._refusals: list[Refusal] = []

    def last_changes(self) -> list[tuple[int, int, Key]]:
        """(number of the message, row in it, key) of each key's last change."""
        return [
            (number, row, key if isinstance(key, tuple) else (key,))
            for key, (number, row, _) in self._final.last.items()
        ]

    def apply(self) -> list[Refusal]:
        """Returns the rows that the target refuses."""
        layout = self._fit.layout
        removed = [key for _, _, key in self._final.removed()]
        for start in range(0, len(removed), STATEMENT_ROWS_MAX):
            self._execute(layout.delete(removed[start : start + STATEMENT_ROWS_MAX]))
        origins, rows = self._final.upserted()
        if not rows:
            return self._refusals
        if self._fit.primary_only:
            self._insert(origins, rows, layout.on_duplicate())
        elif not self._fit.key_is_primary:
            # Which unique key an upsert would meet is not known.
            raise NeedsOrderError
        else:
            self._update_or_insert(origins, rows)
        return self._refusals

    def _update_or_insert(self, origins: list[tuple[int, int]], rows: list[Row]) -> None:
        """Beside other unique keys an upsert may hit another row, so only keys that exist are upserted."""
        layout = self._fit.layout
        keys = [layout.key_of(row) for row in rows]
        existing: set[tuple[object, ...]] = set()
        for start in range(0, len(keys), STATEMENT_ROWS_MAX):
            found = self._session.rows(
                layout.lock_existing(keys[start : start + STATEMENT_ROWS_MAX])
            )
            existing.update(found)
        # A key that the server prints otherwise than we do counts as absent: its INSERT then fails,
        # and the changes are applied one by one.
        is_there = [
            tuple(str(v) if isinstance(v, int) else v for v in key) in existing for key in keys
        ]
        there = [index for index, known in enumerate(is_there) if known]
        absent = [index for index, known in enumerate(is_there) if not known]
        for chosen, suffix in ((there, layout.on_duplicate()), (absent, "")):
            if chosen:
                self._insert([origins[i] for i in chosen], [rows[i] for i in chosen], suffix)

    def _insert(self, origins: list[tuple[int, int]], rows: list[Row], suffix: str) -> None:
        texts = self._fit.layout.texts(rows)
        sizes = list(map(len, texts))
        for start, end in spans(sizes, rows_max=STATEMENT_ROWS_MAX, bytes_max=self._bytes_max):
            self._insert_some(origins[start:end], rows[start:end], texts[start:end], suffix)

    def _insert_some(
        self, origins: list[tuple[int, int]], rows: list[Row], texts: list[str], suffix: str
    ) -> None:
        """Inserts these rows; halves them until those that the target refuses stand alone."""
        try:
            self._execute(self._fit.layout.insert() + ",".join(texts) + suffix)
            for statement in self._fit.layout.repairs(rows):
                self._execute(statement)
        except PoisonError as error:
            if len(self._final.last) < self._run.rows:
                # An earlier change of the same key might have been taken.
                raise NeedsOrderError from error
            if len(texts) == 1:
                number, row = origins[0]
                refusal = Refusal(self._messages[number], row, str(code_of(error)), error.what)
                self._refusals.append(refusal)
                return
            half = len(texts) // 2
            self._insert_some(origins[:half], rows[:half], texts[:half], suffix)
            self._insert_some(origins[half:], rows[half:], texts[half:], suffix)

    def _execute(self, sql: str) -> None:
        try:
            self._session.execute(sql)
        except PoisonError as error:
            if code_of(error) in ORDER_DEPENDENT:
                raise NeedsOrderError from error
            raise
