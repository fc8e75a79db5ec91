"""The model as a JSON schema for editors and as a page for readers.

`python -m gravity.config.schema FOLDER` writes both into FOLDER (docs/).
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from gravity.config.document import Config
from gravity.config.inactive import INACTIVE
from gravity.config.model import DURATION_PATTERN, format_duration

Schema = dict[str, Any]

SCHEMA_FILE = "config.schema.json"
PAGE_FILE = "config.md"

_REFERENCE = "#/$defs/"
_SECRET_OWNERS = ("Source", "MysqlTarget", "ClickhouseTarget", "Sasl")
_INTRODUCTION = """# Configuration

One YAML file, read by every stage. Everything may stand under one root key `gravity:`, or without it.
This page and `config.schema.json` are made from the model by `make docs`; editors that know JSON schemas
offer keys and values if the file begins with
`# yaml-language-server: $schema=docs/config.schema.json`.

- Keys are spelt with hyphens; underscores are read as hyphens.
- `${NAME}` is the environment variable NAME, `${NAME:-text}` has a default, `$${` is a literal `${`.
- `password-file: PATH` stands for `password:` with the file's text, such as `/run/secrets/name`; a
  relative path starts at the configuration file.
- Lists are `[users, orders]`; one item may stand alone: `users`.
- Table patterns: `users` (in every database), `shop.users`, `temp_*`, `user?`, `orders_[0-9]`, `[!_]*`.
- Conditions are SQL expressions over one row, decided as MySQL would: columns, texts, numbers, dates,
  comparisons, NULL logic, arithmetic and common functions; `docs/routing.md` lists all of it.
- Keys at the top that begin with `x-` are ignored, so YAML anchors can stand there.
- All errors are reported at once, each with line, key and nearest known name.
- A file that declares no targets may name some all the same; it loads, but `run` refuses it.
"""
_SECTIONS: Mapping[str, str] = {
    "Config": "The document",
    "Source": "`sources`",
    "MysqlTarget": "`targets`, type `mysql`",
    "ClickhouseTarget": "`targets`, type `clickhouse`",
    "KafkaTarget": "`targets`, type `kafka`",
    "Event": "`targets`, type `kafka`: `events`",
    "EventTypes": "`events`: `event-type`",
    "EventTimestamp": "`events`: `timestamp`",
    "Transform": "`targets`: `transforms`",
    "NewName": "`transforms`: `rename`",
    "ColumnChanges": "`transforms`: `columns`",
    "NewColumn": "`transforms`: `columns`: `add`",
    "NewType": "`transforms`: `columns`: `cast`",
    "Route": "`routing`",
    "ConditionalTargets": "`routing`: `conditions`",
    "DistributionRule": "`distribution-rules`",
    "RoutingRule": "`routing-rules`",
    "ShardTarget": "`routing-rules`: `targets`",
    "Range": "`routing-rules`: `ranges`",
    "ConflictResolution": "`conflict-resolution`",
    "ConflictRule": "`conflict-resolution`: `rules`",
    "Constraint": "`conflict-resolution`: `rules`: `constraint`",
    "Park": "`fk-parent-missing`, `unique-secondary`",
    "KafkaCluster": "`kafka`",
    "KafkaSecurity": "`security`",
    "Sasl": "`security`: `sasl`",
    "Tls": "`tls`",
    "Batch": "`batch`",
    "Collector": "`collector`",
    "Snapshot": "`snapshot`",
    "Sink": "`sink`",
    "State": "`state`",
    "Merge": "`merge`",
    "Failover": "`failover`",
    "Monitoring": "`monitoring`",
    "Metric": "`monitoring`: `metrics`",
    "Alert": "`alerts`",
    "RateLimit": "`rate-limit`",
    "SemiSync": "`semi-sync`",
}
"""Every part of the model and the heading it stands under, in the page's order."""


def model_schema() -> Schema:
    """The JSON schema of the one form that the model itself reads."""
    schema = Config.model_json_schema(by_alias=True, mode="validation")
    _spell_durations(schema)
    return schema


def _spell_durations(node: Any) -> None:
    """Writes default durations as a file would (`30s`), not as ISO 8601 does (`PT30S`)."""
    for child in _children(node):
        _spell_durations(child)
    if isinstance(node, dict) and node.get("pattern") == DURATION_PATTERN and "default" in node:
        span = TypeAdapter(timedelta).validate_python(node["default"])
        node["default"] = format_duration(span)


def _children(node: Any) -> Iterator[Any]:
    yield from node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def editor_schema() -> Schema:
    """The JSON schema of everything that a file may say, the other spellings included."""
    schema = model_schema()
    parts: dict[str, Schema] = schema.pop("$defs")
    document: Schema = {key: schema[key] for key in ("properties", "type", "additionalProperties")}
    for name in _SECRET_OWNERS:
        _allow_secret_file(parts[name])
    parts["ConflictResolution"]["properties"] |= {
        "strategy": parts["ConflictResolution"]["properties"]["default-strategy"],
        "custom-rules": parts["ConflictResolution"]["properties"]["rules"],
        "special-rules": parts["ConflictResolution"]["properties"]["rules"],
    }
    rule = parts["ConflictRule"]["properties"]
    rule["table"] = rule["tables"]
    rule["match"] = {
        "type": "object",
        "properties": {"target": rule["target"], "table": rule["tables"]},
        "additionalProperties": False,
    }
    # The word alone stands for the mapping.
    order = parts["Merge"]["properties"]["strategy"]["enum"]
    merge = document["properties"]["merge"]
    document["properties"]["merge"] = {
        "anyOf": [{"enum": order}, {"$ref": merge.pop("$ref")}],
        **merge,
    }
    parts["RoutingRule"]["properties"]["targets"]["items"] = {
        "anyOf": [{"type": "string"}, {"$ref": f"{_REFERENCE}ShardTarget"}]
    }
    for key in ("fk-parent-missing", "unique-secondary"):
        park = parts["Constraint"]["properties"][key]
        park["anyOf"] = [{"enum": ["hold", "dlq"]}, {"$ref": park.pop("$ref")}]
    transform = parts["Transform"]
    transform["properties"]["table"] = transform["properties"]["tables"]
    del transform["required"]  # Either of the two; the loader says so.
    columns = parts["ColumnChanges"]["properties"]
    columns["add"]["additionalProperties"] = {
        "anyOf": [
            *({"type": name} for name in ("string", "number", "boolean")),
            {"$ref": f"{_REFERENCE}NewColumn"},
        ]
    }
    columns["cast"]["additionalProperties"] = {
        "anyOf": [{"type": "string"}, {"$ref": f"{_REFERENCE}NewType"}]
    }
    parts["Monitoring"]["properties"]["alerts"] = document["properties"]["alerts"]
    parts["MysqlTarget"]["properties"]["type"] = {"enum": ["mysql", "mariadb"]}
    properties = document["properties"]
    for key in ("sources", "targets", "routing-rules"):
        properties[key] = _list_or_mapping(properties[key], parts)
    roles = {role: {"type": "array", "items": {"type": "string"}} for role in ("primary", "backup")}
    properties["targets"]["anyOf"][1]["properties"] = roles
    document["patternProperties"] = {"^x-": {}}
    parts["Document"] = document
    _allow_references(parts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Gravity configuration",
        "anyOf": [
            {
                "type": "object",
                "required": ["gravity"],
                "properties": {"gravity": {"$ref": f"{_REFERENCE}Document"}},
                "patternProperties": {"^x-": {}},
                "additionalProperties": False,
            },
            {"$ref": f"{_REFERENCE}Document"},
        ],
        "$defs": dict(sorted(parts.items())),
    }


def _allow_secret_file(part: Schema) -> None:
    part["properties"]["password-file"] = {
        "type": "string",
        "description": "File that holds the password, such as /run/secrets/name.",
    }
    if "password" in part.get("required", []):
        part["required"] = [key for key in part["required"] if key != "password"]


def _list_or_mapping(listed: Schema, parts: Mapping[str, Schema]) -> Schema:
    """A list of named parts, or a mapping from names to parts without one."""
    item = copy.deepcopy(listed["items"])
    choices = item.get("oneOf", [item])
    nameless = []
    for choice in choices:
        part = copy.deepcopy(parts[choice["$ref"].removeprefix(_REFERENCE)])
        part["required"] = [key for key in part.get("required", []) if key != "name"]
        nameless.append(part)
    return {
        "description": listed["description"],
        "anyOf": [
            {"type": "array", "items": {"anyOf": choices}},
            {"type": "object", "additionalProperties": {"anyOf": [*nameless, {"type": "null"}]}},
        ],
    }


def _allow_references(node: Any) -> None:
    """Lets `${NAME}` stand where a number or a boolean is asked for."""
    for child in _children(node):
        _allow_references(child)
    if isinstance(node, dict) and node.get("type") in ("integer", "number", "boolean"):
        keep = {key: node.pop(key) for key in ("description", "title", "default") if key in node}
        plain = dict(node)
        node.clear()
        node |= {**keep, "anyOf": [plain, {"type": "string", "pattern": r"\$\{"}]}


def page() -> str:
    """The reference of all keys, as Markdown."""
    schema = model_schema()
    parts: dict[str, Schema] = {**schema["$defs"], "Config": schema}
    lines = [_INTRODUCTION]
    for name, heading in _SECTIONS.items():
        lines += [f"## {heading}", "", parts[name].get("description", ""), ""]
        lines += ["| Key | Value | Default | Meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in _rows(parts[name], parts)]
        lines.append("")
    lines += [
        "## Accepted, not yet active",
        "",
        "These are checked, and named in a notice when a file that uses them is loaded.",
        "",
        "| Part | For now |",
        "| --- | --- |",
    ]
    lines += [f"| `{_dotted(part.path)}` | {part.meanwhile} |" for part in INACTIVE]
    lines.append("")
    return "\n".join(lines)


def _dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(str(step) for step in path).replace(".*", "[]")


def _rows(part: Schema, parts: Mapping[str, Schema]) -> Iterator[tuple[str, str, str, str]]:
    required = part.get("required", [])
    for key, value in part["properties"].items():
        default = "required" if key in required else _default(value)
        # Pydantic drops a description that is also the docstring of the part it refers to.
        part_of_value = parts.get(str(value.get("$ref", "")).removeprefix(_REFERENCE), {})
        meaning = value.get("description") or part_of_value.get("description", "")
        meaning = str(meaning).replace("|", "\\|")
        yield f"`{key}`", _kind(value, parts), default, meaning


def _default(value: Schema) -> str:
    default = value.get("default")
    if default is None or default in ([], {}, "") or isinstance(default, dict):
        return ""
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _kind(value: Schema, parts: Mapping[str, Schema]) -> str:
    """What may stand there, in a few words."""
    if "$ref" in value:
        name = value["$ref"].removeprefix(_REFERENCE)
        return "" if name == "UntypedTarget" else _SECTIONS[name]
    if "enum" in value:
        return ", ".join(f"`{choice}`" for choice in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    for key in ("anyOf", "oneOf"):
        if key in value:
            kinds = [_kind(choice, parts) for choice in value[key] if choice.get("type") != "null"]
            return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    kind = value.get("type", "")
    if kind == "array":
        inner = _kind(value.get("items", {}), parts)
        return f"list of {inner}" if inner else "list"
    if kind == "object":
        return "mapping"
    if kind == "string":
        formats = {"password": "secret text", "path": "path"}
        is_duration = value.get("pattern") == DURATION_PATTERN
        return "duration" if is_duration else formats.get(value.get("format", ""), "text")
    return {"integer": "integer", "number": "number", "boolean": "true or false"}.get(kind, "")


def files() -> dict[str, str]:
    """The generated files by name, with their content."""
    schema = json.dumps(editor_schema(), indent=2, ensure_ascii=False, sort_keys=False)
    return {SCHEMA_FILE: schema + "\n", PAGE_FILE: page()}


def main(arguments: list[str]) -> int:
    """Writes the generated files into the folder given. Returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gravity.config.schema FOLDER\n")
        return 2
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files().items():
        (folder / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
