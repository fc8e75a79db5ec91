"""Events: what a target is told of a change in words of its own instead of the row's."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from gravity.config.model import Model, Patterns, TopicTemplate, at, require_known_fields

EVENT_TYPE = "event_type"
"""The field that says what happened; always the first."""
_TYPE_FIELDS = frozenset({"table", "database", "source"})


def _event_name(text: str) -> str:
    require_known_fields(text, _TYPE_FIELDS)
    return text


def _columns_as_they_are(value: object) -> object:
    """A list of columns as the mapping of each to itself."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        for index, item in enumerate(value):
            if item in value[:index]:
                raise ValueError(f"column {item} is given twice")
        return {item: item for item in value}
    return value


def _zone(text: str) -> str:
    try:
        zone_of(text)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"no time zone is called {text!r}; say one such as UTC or Asia/Shanghai"
        ) from None
    return text


def zone_of(name: str) -> tzinfo:
    """The time zone of that name. UTC needs no database of zones."""
    return UTC if name == "UTC" else ZoneInfo(name)


EventName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_event_name)]
"""An event's type, with `{table}`, `{database}`, `{source}`."""
FieldName = Annotated[str, StringConstraints(min_length=1)]
Fields = Annotated[
    dict[FieldName, FieldName],
    BeforeValidator(_columns_as_they_are),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "object", "additionalProperties": {"type": "string"}},
                {"type": "array", "items": {"type": "string"}},
            ]
        }
    ),
]


class EventTypes(Model):
    """What each kind of change is called. `{table}` is the table's name."""

    insert: EventName = Field("{table}_created", description="A row was inserted.")
    update: EventName = Field("{table}_updated", description="A row was changed.")
    delete: EventName = Field("{table}_deleted", description="A row is gone.")
    read: EventName | None = Field(
        None, description="A row that was there before copying began; unset = as `insert`."
    )
    truncate: EventName = Field("{table}_truncated", description="The whole table was emptied.")
    drop: EventName = Field("{table}_dropped", description="The table is gone.")


class EventTimestamp(Model):
    """The field that says when."""

    field: FieldName = Field("timestamp", description="Its name in the event.")
    from_: FieldName | None = Field(
        None,
        alias="from",
        description=(
            "Column of type DATE, DATETIME or TIMESTAMP; unset = when the source committed the change. A "
            "day that does not exist, such as 0000-00-00, gives null."
        ),
    )
    as_: Literal["epoch-seconds", "epoch-millis", "epoch-micros"] = Field(
        "epoch-seconds", alias="as", description="Unit, counted from 1970-01-01 UTC, rounded down."
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC",
        description=(
            "Where the clock stood that a DATE or DATETIME was read from. A TIMESTAMP needs none."
        ),
    )


class Event(Model):
    """How changes of some tables appear as events."""

    tables: Patterns = Field(
        min_length=1, description="Source tables; the first entry that names a table is used."
    )
    topic: TopicTemplate | None = Field(
        None, description="Topic of these events; unset = the target's `topic`."
    )
    event_type: EventTypes = Field(
        EventTypes(),
        description="What the changes are called, in the field `event_type`.",
        examples=[{"insert": "user_created"}],
    )
    fields: Fields = Field(
        {},
        description=(
            "Field of the event → column, in this order; or a list of columns that keep their names. "
            "Unset = all columns under their names."
        ),
        examples=[{"user_id": "id"}],
    )
    timestamp: EventTimestamp | None = Field(
        None,
        description="The last field, as a number; unset = there is none.",
        examples=[{"from": "created_at", "as": "epoch-seconds"}],
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if EVENT_TYPE in self.fields:
            raise at("fields", f"{EVENT_TYPE} is the field that says what happened; choose another")
        if self.timestamp is not None and self.timestamp.field in {EVENT_TYPE, *self.fields}:
            raise at("timestamp.field", f"{self.timestamp.field} is the name of another field")
        return self


def event_without_entry(**more: Any) -> Event:
    """The event of a table that no entry names."""
    return Event(tables=("*",), **more)
