"""What pydantic found wrong, as problems with a line and the nearest known name."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from gravity.config.problem import Place, Problem, nearest_name
from gravity.config.tree import Path, Tree

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
        key = str(location[-1])
        return Problem(
            here.place, "unknown key", nearest_name(key, known_keys(model, location[:-1]))
        )
    if kind == "missing":
        key = str(location[-1])
        place = here.place
        name = f"{place.key}.{key}" if place.key else key
        return Problem(Place(place.file, place.line, place.column, name), "missing")
    message, nearest = _message(details), str(context.get("nearest", ""))
    if kind in ("gravity", "value_error") and here.from_environment:
        # These messages quote the value.
        message, nearest = "the value that comes from outside the file does not fit here", ""
    if kind == "union_tag_invalid" and isinstance(here.value, dict):
        place = here.mapping["type"].place
        known = [str(tag).strip("'") for tag in str(context.get("expected_tags")).split(", ")]
        known.remove("untyped")
        message = f"must be one of {', '.join(known)}"
        return Problem(place, message, nearest_name(str(context.get("tag")), known))
    if kind == "literal_error":
        known = [str(value) for value in known_values(model, location)]
        message = f"must be one of {', '.join(known)}"
        nearest = nearest_name(str(details.get("input")), known)
    return Problem(here.place, message, nearest)


def _message(details: ErrorDetails) -> str:
    kind = details["type"]
    if kind == "string_pattern_mismatch":
        return "may only hold letters, digits, dot, underscore and hyphen, and starts with a letter or digit"
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    return details["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that a mapping at `path` in a document of `model` may have."""
    return [
        key
        for found in _walk(model, path)
        if isinstance(found, type) and issubclass(found, BaseModel)
        for key in spelt_fields(found)
    ]


def known_values(model: type[BaseModel], path: Path) -> list[object]:
    """The literal values allowed at `path`."""
    return [value for found in _walk(model, path) for value in get_args(found)]


def spelt_fields(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of `model` by the key they are written with."""
    return {
        str(field.validation_alias or name): field for name, field in model.model_fields.items()
    }


def _walk(model: type[BaseModel], path: Path) -> list[Any]:
    found: list[tuple[Any, Any]] = [(None, model)]
    for step in path:
        # A step may be the tag of a union's member, which is not part of the document.
        tagged = [member for tag, member in found if tag == step]
        if tagged:
            found = [part for member in tagged for part in _members(member)]
            continue
        found = [
            part
            for _, member in found
            for child in _children(member, step)
            for part in _members(child)
        ]
    return [member for _, member in found]


def _members(annotation: Any, tag: object = None) -> Iterator[tuple[object, Any]]:
    """The plain types behind unions and annotations, each with its union tag."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [part.tag for part in metadata if isinstance(part, Tag)]
        yield from _members(inner, tags[0] if tags else tag)
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member, tag)
    else:
        yield tag, annotation


def _children(annotation: Any, step: str | int) -> Iterator[Any]:
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = spelt_fields(annotation).get(str(step))
        if field is not None:
            yield field.annotation
    elif origin is tuple and isinstance(step, int):
        yield get_args(annotation)[0]
    elif origin is dict:
        yield get_args(annotation)[1]
