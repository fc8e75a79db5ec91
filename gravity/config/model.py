"""What all parts of the configuration model share: the base class and the kinds of values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta
from string import Formatter
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from gravity.condition import ConditionError, compile_condition
from gravity.config.problem import ConfigError, Place, Problem
from gravity.pattern import PatternError, parse_glob, parse_table_pattern

UNDERSCORED = frozenset({"alert_threshold"})
"""Keys that keep their underscore; all others are spelt with hyphens."""


def spelling(name: str) -> str:
    """The key under which the field `name` stands in YAML."""
    return name if name in UNDERSCORED else name.replace("_", "-")


class Model(BaseModel):
    """A part of the configuration: frozen, unknown keys refused, keys spelt with hyphens."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=spelling,
        validate_by_name=True,
        validate_by_alias=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=False,
        validate_default=False,
    )


def at(key: str, message: str, nearest: str = "") -> PydanticCustomError:
    """The error of a validator that looks at a whole part but blames its `key` (dots go deeper)."""
    context = {"key": key, "text": message, "nearest": nearest}
    return PydanticCustomError("gravity", "{text}", context)


def missing(part: str, key: str, remedy: str) -> Problem:
    """The problem that something is about to be used although its `key` was left out."""
    return Problem(
        Place("configuration", 0, 0, f"{part}: {key}" if key else part), f"missing: {remedy}"
    )


def require(problems: Iterable[Problem]) -> None:
    """Raises `ConfigError` if there are any problems."""
    found = tuple(problems)
    if found:
        raise ConfigError(found)


DURATION_PATTERN = r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str) -> timedelta:
    """The span of time that `text` says: a number and one of ms, s, m, h, d.

    Raises:
        ValueError: another form.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            "a span of time needs a number and a unit, such as 500ms, 30s, 10m, 2h or 7d"
        )
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def format_duration(span: timedelta) -> str:
    """`span` as text that `parse_duration` reads back."""
    milliseconds = round(span.total_seconds() * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_SECONDS[unit] * 1000)
        if milliseconds and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        # Pydantic collects value errors only.
        raise ValueError("a span of time needs a unit, such as 500ms, 30s, 10m, 2h or 7d")  # noqa: TRY004
    return parse_duration(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN}),
]
"""A span of time, written with its unit: `500ms`, `30s`, `10m`, `2h`, `7d`."""


def require_one_pattern(text: str) -> None:
    """Returns if `text` is not several patterns with commas between them.

    Raises:
        PatternError: it is; a name that has a comma is written with `[,]`.
    """
    if "," in re.sub(r"\[[^]]*\]", "", text):
        listed = ", ".join(part.strip() for part in text.split(","))
        raise PatternError(
            f"a comma: several patterns are a list, [{listed}]; a comma in a name is [,]"
        )


def _pattern(text: str) -> str:
    try:
        require_one_pattern(text)
        parse_table_pattern(text)
    except PatternError as error:
        raise PydanticCustomError("gravity", "{text}", {"text": f"bad pattern: {error}"}) from None
    return text


def _database_pattern(text: str) -> str:
    try:
        require_one_pattern(text)
        parse_glob(text)
    except PatternError as error:
        raise PydanticCustomError("gravity", "{text}", {"text": f"bad pattern: {error}"}) from None
    return text


def _condition(text: str) -> str:
    try:
        compile_condition(text)
    except ConditionError as error:
        raise PydanticCustomError("gravity", "{text}", {"text": str(error)}) from None
    return text


TOPIC_FIELDS = frozenset({"source", "database", "table", "target"})
"""Names that a topic template may use."""


def require_known_fields(text: str, known: frozenset[str]) -> None:
    """Returns if the template `text` uses no other fields than `known`.

    Raises:
        ValueError: naming the one that is not.
    """
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text)]
    except ValueError:
        raise PydanticCustomError("gravity", "braces do not match") from None
    for name, spec, conversion in fields:
        if name is not None and (name not in known or spec or conversion):
            names = ", ".join(f"{{{field}}}" for field in sorted(known))
            raise ValueError(f"{{{name}}} is not known here; use {names}")


def _topic_template(text: str) -> str:
    require_known_fields(text, TOPIC_FIELDS)
    literal = re.sub(r"\{[a-z]*\}", "", text)
    if not text or not re.fullmatch(r"[A-Za-z0-9._-]*", literal):
        raise ValueError("a topic name is made of letters, digits, dot, underscore and hyphen")
    return text


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


NAME_LENGTH_MAX = 100
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=NAME_LENGTH_MAX),
]
"""The name of a source or target. It becomes part of topic names, hence the few characters."""
Pattern = Annotated[str, AfterValidator(_pattern)]
"""Tables by name: `users`, `shop.users`, `temp_*`, `orders_[0-9]*`."""
TopicTemplate = Annotated[str, AfterValidator(_topic_template)]
"""A topic's name, with `{source}`, `{target}`, `{database}`, `{table}`."""
Condition = Annotated[str, AfterValidator(_condition)]
"""An SQL expression over the columns of one row."""


def _list_of(item: Any, description: str) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item}], "description": description}


_TEXT = {"type": "string"}
Patterns = Annotated[
    tuple[Pattern, ...],
    BeforeValidator(_one_or_many),
    WithJsonSchema(_list_of(_TEXT, "one pattern or a list of them")),
]
"""One pattern, or a list of them."""
DatabasePatterns = Annotated[
    tuple[Annotated[str, AfterValidator(_database_pattern)], ...],
    BeforeValidator(_one_or_many),
    WithJsonSchema(_list_of(_TEXT, "one pattern or a list of them")),
]
"""One pattern over database names, or a list of them."""
Names = Annotated[
    tuple[Name, ...],
    BeforeValidator(_one_or_many),
    WithJsonSchema(_list_of(_TEXT, "one name or a list of them")),
]
"""One name, or a list of them."""
Addresses = Annotated[
    tuple[str, ...],
    BeforeValidator(_comma_separated),
    WithJsonSchema(_list_of(_TEXT, "host:port, several separated by commas or as a list")),
]
"""Addresses `host:port`: a list, or one text with commas."""
Port = Annotated[int, Field(ge=1, le=65535)]
"""A TCP port."""
