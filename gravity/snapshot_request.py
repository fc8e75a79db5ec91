"""A request to read existing rows again, as it stands in the ingest log's headers. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, Self

from gravity.errors import FormatError

REREAD: Final = "reread"
"""What a schema change's header says in `chunk` when the table's rows are read again because of it."""


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    """Which request it is, and which rows it asks for."""

    request_id: int
    """Names the request within its source and grows from one to the next; 0: no operator asked."""
    where: str = ""
    """SQL that chooses the rows; empty: the whole table."""

    @property
    def text(self) -> str:
        """The value of the header `chunk` of a message of kind `snapshot`."""
        return json.dumps({"id": self.request_id, "where": self.where}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The request that `text` was made for. Raises FormatError for anything else."""
        try:
            record = json.loads(text)
            return cls(int(record["id"]), str(record["where"]))
        except (ValueError, TypeError, KeyError) as error:
            raise FormatError(f"not a snapshot request: {text[:200]!r}") from error


def is_chunk_of(chunk_id: str, table: str) -> bool:
    """Whether a snapshot chunk is one of the table `database.table` itself, not of a request for some rows.

    Raises FormatError for a text that is no chunk's id.
    """
    try:
        database, name, _, _, *more = json.loads(chunk_id)
    except (ValueError, TypeError) as error:
        raise FormatError(f"not the id of a snapshot chunk: {chunk_id[:200]!r}") from error
    return f"{database}.{name}" == table and not (more and more[0])
