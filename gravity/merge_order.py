"""In which order rows of several sources leave the resolver, where it is not as they come. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True, slots=True)
class MergeOrder:
    """What a plan says about `merge`; a plan without it has every row leave as it comes."""

    strategy: Literal["by-table", "time-ordered"]
    ranks: Mapping[str, int]
    """Every source; of rows of one commit time that of the smaller rank comes first. No two are equal."""
    targets: tuple[str, ...] = ()
    """The targets it is for; empty: all."""
    max_wait_ms: int = 5000
    """Log time without a word of a source after which it is down."""
    on_down: Literal["release", "stall"] = "release"
    """Whether others' rows go on without a source that is down."""
    max_ahead_rows: int = 100_000
    """Rows that wait in one partition before the oldest go out unawaited; `max_ahead_bytes` likewise."""
    max_ahead_bytes: int = 256 * 1024 * 1024

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The order in a plan's JSON."""
        return cls(**{**record, "targets": tuple(record["targets"])})
