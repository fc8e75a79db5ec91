"""Requests to read existing rows again: as they stand in control, and in the ingest log's headers. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

from gravity.errors import FormatError

REREAD: Final = "reread"
"""What a schema change's header says in `chunk` when the table's rows are read again because of it."""
RESULTS_MAX: Final = 50
"""Finished requests of a source that control remembers."""


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Which request it is, and which rows it asks for."""

    request_id: int
    """Names the request within its source; 0: no operator asked."""
    database: str = ""
    table: str = ""
    where: str = ""
    """SQL that chooses the rows; empty: the whole table."""
    error: str = ""
    """Why the request was given up; a second message of the same request says so."""

    @property
    def is_of_table(self) -> bool:
        """Whether it asks for the whole table, and was not given up."""
        return not (self.where or self.error)

    @property
    def text(self) -> str:
        """The value of the header `chunk` of a message of kind `snapshot`."""
        record = asdict(self)
        return json.dumps({"id": record.pop("request_id"), **record}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The request that `text` was made for. Raises FormatError for anything else."""
        try:
            return cls.of_record(json.loads(text))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(f"not a snapshot request: {text[:200]!r}") from error

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The request that a record of control, or a header's JSON, holds."""
        text = [str(record.get(name, "")) for name in ("database", "table", "where", "error")]
        return cls(int(record["id"]), *text)

    def failed(self, error: str) -> SnapshotRequest:
        """The same, given up because of `error`."""
        return replace(self, error=error[:1000] or "failed")


@dataclass(frozen=True, slots=True)
class RequestResult:
    """How a request ended."""

    request_id: int
    rows: int
    """Rows sent for it, as far as the collector that ended it knows."""
    error: str = ""
    """Why it was given up; empty: all its rows were sent."""
    seq: int = 0
    """Of the last message that was sent for it."""

    def record(self, owner: int, offset: int) -> dict[str, Any]:
        """The JSON value under `snapshot_result_key`: void exactly when a message there by that owner would be."""
        fields = {"id": self.request_id, "rows": self.rows, "error": self.error}
        return {**fields, "owner": owner, "offset": offset}


def is_chunk_of(chunk_id: str, table: str) -> bool:
    """Whether a snapshot chunk is one of the table `database.table` itself, not of a request for some rows.

    Raises FormatError for a text that is no chunk's id.
    """
    try:
        database, name, _, _, *more = json.loads(chunk_id)
    except (ValueError, TypeError) as error:
        raise FormatError(f"not the id of a snapshot chunk: {chunk_id[:200]!r}") from error
    return f"{database}.{name}" == table and not (more and more[0])
