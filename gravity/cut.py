"""Consistent cuts of a MySQL target: how one is asked for, and what a partition does that meets it. Pure.

A cut's marker reaches every partition of its target. Each writes what lies before it, notes at the target
that it stands there, and writes nothing more while the cut is open. All of them stand: that is the point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gravity.errors import FormatError

BOUND_MS_MAX: Final = 600_000
"""Longest time that a partition may stand."""
_MARK: Final = re.compile(r"([0-9]+)/([0-9]+)/(.+)")


@dataclass(frozen=True, slots=True)
class CutMark:
    """What the marker of a cut carries in its header `cut`."""

    cut_id: int
    """Names the cut within its target; greater than 0."""
    bound_ms: int
    """No partition stands longer."""
    target: str

    def __str__(self) -> str:
        return f"{self.cut_id}/{self.bound_ms}/{self.target}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The mark that `text` was made of. Raises FormatError for anything else."""
        found = _MARK.fullmatch(text)
        if found is None:
            raise FormatError(f"not the mark of a cut: {text[:200]!r}")
        return cls(int(found[1]), int(found[2]), found[3])


@dataclass(frozen=True, slots=True)
class CutRequest:
    """An operator's request for the marker of a cut, as it stands in control under `cut_request_key`."""

    mark: CutMark

    @property
    def record(self) -> dict[str, Any]:
        """The JSON value."""
        mark = self.mark
        return {"id": mark.cut_id, "bound_ms": mark.bound_ms, "target": mark.target}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The request that a record of control holds."""
        return cls(CutMark(int(record["id"]), int(record["bound_ms"]), str(record["target"])))


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """What the collector did about a request, as it stands in control under `cut_result_key`."""

    cut_id: int
    seq: int
    """Of the last message before the answer; with no error, that of the marker."""
    error: str = ""
    """Why no marker was sent."""

    def record(self, owner: int, offset: int) -> dict[str, Any]:
        """The JSON value: void exactly when a message at that offset by that owner would be."""
        return {"id": self.cut_id, "error": self.error, "owner": owner, "offset": offset}
