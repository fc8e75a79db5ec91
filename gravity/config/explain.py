"""What pydantic found wrong, as problems with a line and the nearest known name."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gravity.config.elsewhere import elsewhere
from gravity.config.problem import Place, Problem, nearest_name
from gravity.config.target import TARGET_TYPES, UNTYPED
from gravity.config.tree import Path, Tree
from gravity.config.walk import form_at, known_keys, known_values

_EXPECTED = {
    "string_type": "must be text; put the value in quotes",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "model_attributes_type": "must be a mapping of keys",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "path_type": "must be the path of a file",
    "none_required": "must be left out",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
_OF_ANOTHER_FORM = frozenset({"tuple_type", "dict_type", "model_type", "model_attributes_type"})
"""Errors that an example answers best."""
_KEYS_LISTED_MAX = 6


def explain(error: ValidationError, model: type[BaseModel], tree: Tree) -> list[Problem]:
    """One problem per error of validating `tree` as `model`. No problem shows a value."""
    errors = error.errors(include_url=False, include_input=True)
    locations = {details["loc"] for details in errors}
    problems = []
    for details in errors:
        here = details["loc"]
        # Pydantic counts only the items that are right, so a bad item makes a list too short.
        if details["type"] == "too_short" and any(
            here == loc[: len(here)] != loc for loc in locations
        ):
            continue
        problems.append(_problem(details, model, tree))
    return problems


def _problem(details: ErrorDetails, model: type[BaseModel], tree: Tree) -> Problem:
    location: Path = details["loc"]
    kind, context = details["type"], details.get("ctx", {})
    if kind == "gravity" and context.get("key"):
        steps = str(context["key"]).split(".")
        location = (*location, *(int(step) if step.isdecimal() else step for step in steps))
    here = tree.find(location)
    if kind == "extra_forbidden":
        return Problem(here.place, *_unknown_key(model, location))
    if kind == "missing":
        key = str(location[-1])
        place = here.place
        name = f"{place.key}.{key}" if place.key else key
        return Problem(Place(place.file, place.line, place.column, name), "missing")
    message, nearest = _message(details), str(context.get("nearest", ""))
    if kind in _OF_ANOTHER_FORM and (form := form_at(model, location)):
        message = f"{message}, such as {form}"
    if kind in ("gravity", "value_error") and here.from_environment:
        # These messages quote the value.
        message, nearest = "the value that comes from outside the file does not fit here", ""
    if kind == "union_tag_invalid" and isinstance(here.value, dict):
        place = here.mapping["type"].place
        known = [str(tag).strip("'") for tag in str(context.get("expected_tags")).split(", ")]
        known.remove(UNTYPED)
        message = f"must be one of {', '.join(known)}"
        return Problem(place, message, nearest_name(str(context.get("tag")), known))
    if kind == "literal_error":
        known = [str(value) for value in known_values(model, location)]
        message = f"must be one of {', '.join(known)}"
        nearest = nearest_name(str(details.get("input")), known)
    return Problem(here.place, message, nearest)


def _unknown_key(model: type[BaseModel], path: Path) -> tuple[str, str]:
    """What to say of a key that is not known where it stands, and the nearest one that is."""
    key, known = str(path[-1]), known_keys(model, path[:-1])
    if path[-2:-1] == (UNTYPED,):
        return f"unknown key as long as type is not given: {', '.join(TARGET_TYPES)}", ""
    homes = _homes(model, path)
    if len(homes) == 1:
        return f"unknown key; it stands under {homes[0]}", ""
    if place := elsewhere(model, path):
        return f"unknown key; {place}", ""
    nearest = nearest_name(key, known)
    if nearest or len(known) > _KEYS_LISTED_MAX:
        return "unknown key", nearest
    # What it stands in may have a namesake that takes any key: `rename` of a table, and of its columns.
    others = "".join(f"; or say {home}" for home in _homes(model, path[:-1]))
    return f"unknown key; known here: {', '.join(known)}{others}", ""


def _homes(model: type[BaseModel], path: Path) -> list[str]:
    """Where the key at the end of `path` would be known, one level below: each with the form to copy."""
    above, key = path[:-1], str(path[-1]) if path else ""
    return [
        f"{home}: {{{key}: {form}}}"
        for home in known_keys(model, above)
        if key in known_keys(model, (*above, home))
        and (form := form_at(model, (*above, home, key)))
    ]


def _message(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind == "string_pattern_mismatch":
        return "may only hold letters, digits, dot, underscore and hyphen, and starts with a letter or digit"
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    return details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
