"""What may stand at a place in a document of a model: keys, values, an example."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from gravity.config.form import flow_text
from gravity.config.tree import Path


def known_keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys that a mapping at `path` in a document of `model` may have."""
    return [
        key
        for part in _walk(model, path)
        if isinstance(part.type, type) and issubclass(part.type, BaseModel)
        for key in spelt_fields(part.type)
    ]


def known_values(model: type[BaseModel], path: Path) -> list[object]:
    """The literal values allowed at `path`."""
    return [value for part in _walk(model, path) for value in get_args(part.type)]


def form_at(model: type[BaseModel], path: Path) -> str:
    """An example of what may stand at `path`, as YAML on one line; empty where the model has none."""
    examples = [part.example for part in _walk(model, path) if part.example is not None]
    return flow_text(examples[0]) if examples else ""


def spelt_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of `model` by the key they are written with."""
    return {
        str(field.validation_alias or name): field for name, field in model.model_fields.items()
    }


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the types that may stand at a place."""

    tag: object
    """In a union whose members are told apart by one."""
    type: Any
    example: Any = None


def _walk(model: type[BaseModel], path: Path) -> list[_Part]:
    found = [_Part(None, model)]
    for step in path:
        # A step may be the tag of a union's member, which is not part of the document.
        tagged = [part for part in found if part.tag == step]
        if tagged:
            found = [inner for part in tagged for inner in _members(part.type, part.example)]
            continue
        found = [
            inner
            for part in found
            for child, example in _children(part, step)
            for inner in _members(child, example)
        ]
    return found


def _members(annotation: Any, example: Any, tag: object = None) -> Iterator[_Part]:
    """The plain types behind unions and annotations, each with its union tag."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [part.tag for part in metadata if isinstance(part, Tag)]
        yield from _members(inner, example, tags[0] if tags else tag)
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member, example, tag)
    else:
        yield _Part(tag, annotation, example)


def _children(part: _Part, step: str | int) -> Iterator[tuple[Any, Any]]:
    """What may stand a step below, and the example of it."""
    annotation, example = part.type, part.example
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = spelt_fields(annotation).get(str(step))
        if field is not None:
            inherited = example.get(str(step)) if isinstance(example, dict) else None
            yield field.annotation, field.examples[0] if field.examples else inherited
    elif origin is tuple and isinstance(step, int):
        yield get_args(annotation)[0], example[0] if example else None
    elif origin is dict:
        yield get_args(annotation)[1], next(iter(example.values())) if example else None
