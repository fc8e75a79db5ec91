"""What one input of the resolver causes, and how its rows are counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gravity.header import RoutedHeader, TargetHeader


@dataclass(frozen=True, slots=True)
class Output:
    """A message for the same partition of the target topic."""

    header: TargetHeader
    value: bytes


@dataclass(slots=True)
class Effects:
    """Everything one input causes."""

    outputs: list[Output] = field(default_factory=list)
    conflicts: list[bytes] = field(default_factory=list)
    """Records for the conflicts topic (schemas/conflict.avsc)."""
    too_late: list[tuple[int, bytes]] = field(default_factory=list)
    """Rows, by their number and as change batches of one, that are older than what has been forgotten of their table; they
    belong into the dead letters."""
    damage: str = ""
    """Why the message can't be read; it belongs into the dead letters, and the log goes on."""
    rest: Iterator[Effects] | None = None
    """More, made as it is asked for. The state must not be saved before all of it has been."""
    cause: tuple[RoutedHeader, int] | None = None
    """Header and offset of the earlier input that had waited and causes this; None: the input at hand."""


@dataclass(frozen=True, slots=True)
class Caused:
    """What an input comes to, before it is known whether any of it has to wait."""

    messages: Sequence[tuple[RoutedHeader, bytes]] = ()
    conflicts: list[bytes] = field(default_factory=list)
    too_late: list[tuple[int, bytes]] = field(default_factory=list)
    rest: Iterable[Caused] | None = None
    """More, made as it is asked for."""


@dataclass(slots=True)
class Counters:
    """Rows of one source by how they ended; first sights only, half a key move not counted."""

    applied: int = 0
    superseded: int = 0
    """Resolved without a difference to the target."""
    filtered: int = 0
    held: int = 0
    """Met a disagreement that waits for the sources or for an operator (error-stop); also, until they go
    out and are counted as applied, rows that wait behind such a one (`scope: table`, `scope: job`)."""
    parked: int = 0
    """Wait until the other sources are as far (`merge`); afterwards they are counted as what becomes of them."""
    dead: int = 0
    """Of messages that can't be read, or older than what has been forgotten."""
    duplicates: int = 0
    """Rows seen again: counted apart, they ended when they were first seen."""
    conflicts: dict[str, int] = field(default_factory=dict)
    """Kind to number; a row with a conflict is counted above as well."""
    late: int = 0
    """Of the conflicts: changes that came after a newer one of another source had been resolved."""
    truncated: int = 0
    """Rows that TRUNCATE or DROP took from the target, counted apart: they are no rows of a message."""
    overtaken: int = 0
    """Rows that went out marked `late`: later ones of another source had gone before (`merge`); counted above as well."""
    unawaited: int = 0
    """Rows that went out although a source was not known to be as far: it was down, or too much waited (`merge`);
    counted above as well."""
