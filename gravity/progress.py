"""What a sink has applied of one target partition, and what it must do with the next message. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from gravity.errors import HoleError
from gravity.header import RoutedKind, TargetHeader


class Admission(Enum):
    """What to do with a message of a target topic."""

    APPLY = auto()
    REPEAT = auto()
    """Seen before: a stage in front sent it again. Skip it, count it apart."""
    VOID = auto()
    """Written by a resolver that another version has replaced. Skip it."""
    FENCE = auto()
    """Begins a new term; carries no rows."""


@dataclass(frozen=True, slots=True)
class SinkProgress:
    """Progress of one partition, stored at the target with the rows themselves."""

    next_offset: int = 0
    last_seq: int = 0
    term: int = 0

    def admit(
        self, header: TargetHeader, *, offset: int, where: str
    ) -> tuple[Admission, SinkProgress]:
        """What to do with the message at `offset`, and the progress once that is done.

        Raises HoleError when a number is missing: something in front of the sink lost a message.
        """
        moved = replace(self, next_offset=offset + 1)
        if header.term < self.term:
            return Admission.VOID, moved
        moved = replace(moved, term=header.term)
        if header.routed.kind is RoutedKind.CODE:
            return Admission.FENCE, moved
        if header.out_seq <= self.last_seq:
            return Admission.REPEAT, moved
        if header.out_seq > self.last_seq + 1:
            raise HoleError(
                f"a hole in the sequence: message {header.out_seq} follows {self.last_seq}",
                where=f"{where}, offset {offset}",
                remedy="messages were lost in front of this sink; do not skip: see docs/what-if.md",
            )
        return Admission.APPLY, replace(moved, last_seq=header.out_seq)
