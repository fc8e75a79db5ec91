"""Consistent cuts of a MySQL target: how one is asked for, and what a partition does that meets it. Pure.

A cut's marker reaches every partition of its target. Each writes what lies before it, notes at the target
that it stands there, and writes nothing more while the cut is open. All of them stand: that is the point.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Final, Self

from gravity.errors import FatalError, FormatError
from gravity.header import RoutedHeader

BOUND_MS_MAX: Final = 600_000
"""Longest time that a partition may stand."""
_MARK: Final = re.compile(r"([0-9]+)/([0-9]+)/(.+)")


class CutRefusedError(FatalError):
    """A cut that can never be: no such source or target, or a target of another type."""


@dataclass(frozen=True, slots=True)
class CutMark:
    """What the marker of a cut carries in its header `cut`, and who asks for it writes to control."""

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

    @property
    def record(self) -> dict[str, Any]:
        """The request for the marker, as it stands in control under `cut_request_key`: a JSON value."""
        return {"id": self.cut_id, "bound_ms": self.bound_ms, "target": self.target}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The mark that a request in control asks for."""
        return cls(int(record["id"]), int(record["bound_ms"]), str(record["target"]))


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


@dataclass(frozen=True, slots=True)
class Arrival:
    """A partition is at the marker of a cut: everything before it is written, nothing behind it."""

    mark: CutMark
    source: str
    position: str
    """Of the source: everything before it is in the cut."""
    gtids: str
    """The source's transactions before `position`."""
    ets: int
    """Commit time of the last of them, microseconds by the source's clock."""
    held: int
    """Rows of the partition on hold, which are not in the cut."""

    @classmethod
    def of(cls, marker: RoutedHeader) -> Self:
        """What the marker of a cut says. Raises FormatError for another message."""
        mark = CutMark.parse(marker.cut)
        return cls(mark, marker.source, str(marker.to), marker.gtids, marker.ets, marker.held)


class CutState(StrEnum):
    """How far a cut is. OPEN and REACHED are left once and never entered again: on that all else rests."""

    OPEN = "open"
    """Asked for. Partitions that meet the marker stand."""
    REACHED = "reached"
    """All stood together, and where the target was then is recorded. They stand until who asked lets go."""
    DONE = "done"
    """A point; the partitions have gone on."""
    GIVEN_UP = "given up"
    """No point: what it says of places is not to be believed."""


@dataclass(frozen=True, slots=True)
class CutView:
    """A cut as the target shows it to a partition that stands."""

    state: CutState
    is_late: bool
    """Whether its time is over, by the target's clock."""
    arrived: int
    """Partitions that stand."""
    places: int
    """Different places of the source where they stand."""


class Step(Enum):
    """What a partition that stands does next."""

    STAND = auto()
    RECORD = auto()
    """All stand: write down where the target is, if the cut is still open."""
    GIVE_UP = auto()
    """End the cut, if nobody has; then look again."""
    GO = auto()


def next_step(view: CutView | None, *, partitions: int, is_overdue: bool) -> Step:
    """What a partition does that stands at a cut; `view`: None when the target knows of no such cut.

    `is_overdue`: it has stood for as long as it may, by its own clock.

    A partition goes only when the target says that the cut is over, and it is over for all at once: so none
    goes on while another believes that all stand.
    """
    if view is None or view.state in (CutState.DONE, CutState.GIVEN_UP):
        return Step.GO
    if view.is_late or is_overdue or view.places > 1:
        return Step.GIVE_UP
    if view.state is CutState.OPEN and view.arrived >= partitions:
        return Step.RECORD
    return Step.STAND


def why_given_up(view: CutView, *, partitions: int) -> str:
    """The reason to be told, for a cut whose next step is GIVE_UP."""
    if view.places > 1:
        return "partitions met markers at different places: two collectors sent one each; ask again"
    if view.state is CutState.REACHED:
        return "the partitions stood for as long as they may, and the command had not ended"
    return (
        f"{view.arrived} of {partitions} partitions had come to the marker when the time was over"
    )
