"""The parts of a configuration that are accepted and checked, but that nothing acts on yet.

The one list of them: a part that starts to work is taken out here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gravity.config.problem import Notice
from gravity.config.tree import Path, Tree


def _always(_tree: Tree) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class InactivePart:
    """A part of the document that has no effect yet."""

    path: Path
    """Where it stands; "*" stands for every child."""
    meanwhile: str
    """What happens instead."""
    applies: Callable[[Tree], bool] = _always
    """Whether a value at `path` is one that has no effect."""


INACTIVE: tuple[InactivePart, ...] = (
    InactivePart(("failover",), "primary and backup targets are all fed alike"),
    InactivePart(("monitoring", "metrics"), "thresholds are not watched"),
    InactivePart(("alerts",), "nobody is told"),
)


def inactive_notices(tree: Tree) -> Iterator[Notice]:
    """A notice for each part of `tree` that has no effect yet, in the order of `INACTIVE`."""
    for part in INACTIVE:
        for found in tree.select(*part.path):
            empty = found.value in (None, [], {})
            if not empty and part.applies(found):
                yield Notice(found.place, f"accepted, not yet active: for now {part.meanwhile}")
