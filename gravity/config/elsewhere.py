"""Where in a configuration a key is known that is not known where it was written."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from gravity.config.target import TARGET_TYPES
from gravity.config.tree import Path
from gravity.config.walk import form_at, known_keys

_PLACES_MAX = 3
"""Places that are named; a key that more of them know says nothing about what was meant."""
_ITEMS = {
    "sources": "at a source",
    "routing": "at a rule under `routing`",
    "routing-rules": "at a rule under `routing-rules`",
    "distribution-rules": "at a rule under `distribution-rules`",
}


def elsewhere(model: type[BaseModel], path: Path) -> str:
    """Where the key at the end of `path` stands instead, with the form to copy; empty where nowhere."""
    key, above = str(path[-1]), path[:-1]
    here = _alike(above)
    places = [
        (name, place)
        for name, place in _places(model)
        if _alike(place) != here and key in known_keys(model, place)
    ]
    types = [place[2] for _, place in places if place[:1] == ("targets",)]
    if set(TARGET_TYPES) <= {*types}:
        first = next(place for _, place in places if place[:1] == ("targets",))
        places = [(n, p) for n, p in places if p[:1] != ("targets",)]
        places.append(("at a target", first))
    if not 0 < len(places) <= _PLACES_MAX:
        return ""
    forms = (form_at(model, (*place, key)) for _, place in places)
    form = next(filter(None, forms), "")
    names = " or ".join(name for name, _ in places)
    return f"it stands {names}" + (f": {{{key}: {form}}}" if form else "")


def _alike(path: Path) -> Path:
    """The path without the numbers of list items."""
    return tuple(step for step in path if not isinstance(step, int))


def _places(model: type[BaseModel]) -> Iterator[tuple[str, Path]]:
    """(its name, path) of each mapping that a key may have been meant for."""
    yield "at the top of the file", ()
    for key in known_keys(model, ()):
        if key == "targets":
            for kind in TARGET_TYPES:
                yield f"at a target of type {kind}", (key, 0, kind)
        elif key in _ITEMS:
            yield _ITEMS[key], (key, 0)
        else:
            yield f"under `{key}`", (key,)
    yield "at a target of a rule under `routing-rules`", ("routing-rules", 0, "targets", 0)
    yield "at a rule under `conflict-resolution.rules`", ("conflict-resolution", "rules", 0)
