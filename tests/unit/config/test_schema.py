"""The generated schema and page are fresh, complete, and accept what the loader accepts."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from gravity.config import load_config, parse_config
from gravity.config.model import Model
from gravity.config.schema import editor_schema, files
from gravity.config.walk import spelt_fields

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
FORMS = sorted((Path(__file__).parent / "written_forms").glob("*.yaml"))
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


def accepts(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """A judge of JSON schema, as far as ours goes: it knows every keyword that ours uses."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        return accepts(root["$defs"][name], value, root)
    checks: dict[str, Callable[[Any], bool]] = {
        "anyOf": lambda rule: any(accepts(choice, value, root) for choice in rule),
        "oneOf": lambda rule: sum(accepts(choice, value, root) for choice in rule) == 1,
        "enum": lambda rule: value in rule,
        "const": lambda rule: value == rule,
        "type": lambda rule: (
            isinstance(value, TYPES[rule])
            and not (rule in ("integer", "number") and isinstance(value, bool))
        ),
        "pattern": lambda rule: not isinstance(value, str) or re.search(rule, value) is not None,
        "minLength": lambda rule: not isinstance(value, str) or len(value) >= rule,
        "maxLength": lambda rule: not isinstance(value, str) or len(value) <= rule,
        "minimum": lambda rule: not isinstance(value, (int, float)) or value >= rule,
        "maximum": lambda rule: not isinstance(value, (int, float)) or value <= rule,
        "exclusiveMinimum": lambda rule: not isinstance(value, (int, float)) or value > rule,
        "minItems": lambda rule: not isinstance(value, list) or len(value) >= rule,
        "required": lambda rule: not isinstance(value, dict) or all(key in value for key in rule),
        "propertyNames": lambda rule: (
            not isinstance(value, dict) or all(accepts(rule, key, root) for key in value)
        ),
        "items": lambda rule: (
            not isinstance(value, list) or all(accepts(rule, item, root) for item in value)
        ),
    }
    silent = {
        "description",
        "examples",
        "title",
        "default",
        "format",
        "writeOnly",
        "$schema",
        "$defs",
    }
    objects = {"properties", "patternProperties", "additionalProperties"}
    unknown = set(schema) - set(checks) - silent - objects
    assert not unknown, f"the judge must learn {unknown}"
    if isinstance(value, dict):
        for key, child in value.items():
            rules = [schema["properties"][key]] if key in schema.get("properties", {}) else []
            rules += [
                r for p, r in schema.get("patternProperties", {}).items() if re.search(p, key)
            ]
            for rule in rules or [schema.get("additionalProperties", True)]:
                if not accepts(rule, child, root):
                    return False
    return all(check(schema[key]) for key, check in checks.items() if key in schema)


def plain(text: str) -> Any:
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text)))


@pytest.mark.parametrize("name", sorted(files()))
def test_generated_files_are_fresh(name: str) -> None:
    message = "run: python -m gravity.config.schema docs"
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == files()[name], message


def models(model: type[BaseModel] = Model) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from models(child)


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.__name__)
def test_every_key_is_described_and_stands_on_the_page(model: type[BaseModel]) -> None:
    page = files()["config.md"]
    assert model.__doc__
    for key, field in spelt_fields(model).items():
        assert field.description, f"{model.__name__}.{key}"
        assert f"| `{key}` |" in page, f"{model.__name__}.{key}"


@pytest.mark.parametrize("path", [*EXAMPLES, *FORMS], ids=lambda path: path.stem)
def test_the_editor_schema_accepts_every_example_and_form(path: Path) -> None:
    schema = editor_schema()
    assert accepts(schema, plain(path.read_text()), schema)


@pytest.mark.parametrize(
    "text",
    [
        "routng: []",
        "sources: [{host: a}]",
        "sources: [{name: a, prot: 1}]",
        "sources: {a: {prot: 1}}",
        "targets: {a: {type: mysq}}",
        "gravity: {batch: {rows-max: many}}",
        "failover: {retry-interval: 60}",
    ],
)
def test_the_editor_schema_refuses_what_the_loader_refuses(text: str) -> None:
    schema = editor_schema()
    assert not accepts(schema, plain(text), schema)


@pytest.mark.parametrize(
    "text",
    [
        "merge: time-ordered",
        "merge: {strategy: by-table}",
        "conflict-resolution: {rules: [{strategy: merge, constraint: {fk-parent-missing: hold}}]}",
    ],
)
def test_the_editor_schema_takes_short_forms(text: str) -> None:
    schema = editor_schema()
    assert accepts(schema, plain(text), schema)
    parse_config(text)


def test_there_is_an_example_of_every_form() -> None:
    assert len(EXAMPLES) >= 1 + len(FORMS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_could_run(path: Path) -> None:
    load_config(path, {}).config.require_runnable()
