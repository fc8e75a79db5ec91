"""The errors of gravity, sorted by what the caller must do next.

GravityError
├── TransientError            try the same thing again, after a pause
├── PoisonError               this record can never succeed: dead-letter it, go on
└── FatalError                halt by name and wait for an operator
    ├── PositionLostError     the source no longer has the binlog we need
    ├── OffsetLostError       Kafka's retention took the messages we need
    ├── HoleError             a number is missing in a sequence that has no holes
    ├── SchemaConflictError   sources' columns of one name have no common type
    ├── FencedError           another process has taken over; this one must end
    ├── FormatError           a message can't be read: it was damaged, or is foreign
    │   └── NewerFormatError  a message was written by a newer version than this reader
    └── SourceSettingError    the source's settings make a truthful read impossible
"""

from __future__ import annotations

BEGIN_ANEW = (
    "begin anew: another kafka.topic-prefix, new target names, emptied tables (docs/what-if.md)"
)
"""The way out where order, partitions or registers can't be changed under rows that flow already."""
EXIT_RESTART = 70
"""Exit code of a stage that failed and wants to be started again (EX_SOFTWARE)."""
EXIT_HALTED = 78
"""Exit code of a stage that halted by name: an operator must act (EX_CONFIG)."""


class GravityError(Exception):
    """Anything gravity reports to its user.

    `what` names the trouble, `where` the place (source, table, position, topic, file), `remedy` what
    to do. The text of the error is the three in one sentence each.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" [{self.where}]"
        if self.remedy:
            text += f" — {self.remedy}"
        return text


class TransientError(GravityError):
    """Nothing was done; the same call may succeed later."""


class PoisonError(GravityError):
    """This record can never be applied. `row` is its index in the batch, if one row is to blame."""

    def __init__(
        self, what: str, *, where: str = "", remedy: str = "", row: int | None = None
    ) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.row = row


class FatalError(GravityError):
    """The stage must stop; going on would lose or invent data."""


class PositionLostError(FatalError):
    """The source has purged, reset or never had the binlog position we would resume from."""


class OffsetLostError(FatalError):
    """A topic no longer holds the offset we would resume from."""


class HoleError(FatalError):
    """A sequence that is written without holes has one: something was lost."""


class SchemaConflictError(FatalError):
    """A column of one source does not fit what the other sources' tables have come to at a target."""

    def __init__(
        self, what: str, *, column: str, type_here: str, type_there: str, where: str, remedy: str
    ) -> None:
        """`type_here` is the source's, `type_there` the target's."""
        super().__init__(what, where=where, remedy=remedy)
        self.column = column
        self.type_here = type_here
        self.type_there = type_there


class FencedError(FatalError):
    """Another process owns what this one was writing."""


class FormatError(FatalError):
    """A message can't be read: written by a newer version, or damaged."""


class NewerFormatError(FormatError):
    """A message was written by a newer version of gravity: only an upgrade of this reader helps."""


class SourceSettingError(FatalError):
    """A source's server settings make a truthful read impossible."""
