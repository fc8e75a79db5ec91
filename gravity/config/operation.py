"""Running it: failover, monitoring, alerts, and how the sources are merged."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from gravity.config.model import Duration, Model, Names, at, parse_duration
from gravity.config.problem import did_you_mean, nearest_name

METRIC_UNITS = {
    "sync_throughput": ("records/second",),
    "sync_latency": ("milliseconds", "seconds"),
    "conflict_rate": ("percentage",),
    "error_rate": ("percentage",),
    "memory_usage": ("percentage",),
    "connection_pool_usage": ("percentage",),
}
"""Metrics that can be watched, and the units each may be given in."""

_ALERT = re.compile(r"\s*(\w+)\s*(<=|>=|<|>|=)\s*([\d.]+\s*[a-z%/]*)\s*", re.IGNORECASE)
_PERCENT_METRICS = frozenset(name for name, units in METRIC_UNITS.items() if "percentage" in units)


class Failover(Model):
    """When a backup takes over from a primary target, and how the primary comes back."""

    primary: Names = Field((), description="Targets in normal use.")
    backup: Names = Field((), description="Targets that take over, best first. Always fed.")
    detection_timeout: Duration = Field(
        timedelta(seconds=30), description="Longest time until a dead target is noticed."
    )
    retry_interval: Duration = Field(
        timedelta(seconds=60), description="Pause between attempts to reach it again."
    )
    max_retries: NonNegativeInt = Field(3, description="Attempts before the backup takes over.")
    auto_failback: bool = Field(True, description="Whether a caught-up primary takes back over.")

    @model_validator(mode="after")
    def _no_target_backs_itself(self) -> Self:
        for index, name in enumerate(self.backup):
            if name in self.primary:
                raise at(f"backup.{index}", f"{name} is a primary as well")
        return self


class Metric(Model):
    """A measurement to watch."""

    name: str = Field(description="Which one: " + ", ".join(f"`{name}`" for name in METRIC_UNITS))
    unit: str | None = Field(None, description="Unit of the threshold.")
    alert_threshold: NonNegativeFloat | None = Field(
        None, description="Value, in `unit`, from which it is reported as unhealthy."
    )

    @model_validator(mode="after")
    def _name_and_unit_are_known(self) -> Self:
        units = METRIC_UNITS.get(self.name)
        if units is None:
            known = tuple(METRIC_UNITS)
            raise at("name", "no such metric", nearest_name(self.name, known))
        if self.unit is not None and self.unit not in units:
            nearest = nearest_name(self.unit, units) or units[0]
            raise at("unit", f"{self.name} is measured in {' or '.join(units)}", nearest)
        return self


class Monitoring(Model):
    """What is watched."""

    metrics: tuple[Metric, ...] = Field(
        (),
        description="The measurements.",
        examples=[[{"name": "sync_latency", "unit": "milliseconds"}]],
    )


def _alert_condition(text: str) -> str:
    match = _ALERT.fullmatch(text)
    if match is None:
        raise ValueError("must be a metric, a comparison and a value, such as sync_latency > 10s")
    name, value = match[1], match[3].strip()
    if name not in METRIC_UNITS:
        raise ValueError(f"no metric {name}{did_you_mean(name, tuple(METRIC_UNITS))}")
    if name == "sync_latency":
        parse_duration(value)
    elif not re.fullmatch(r"\d+(\.\d+)?\s*%?", value) or (
        value.endswith("%") and name not in _PERCENT_METRICS
    ):
        raise ValueError(f"{value} is not a value of {name}")
    return text


class Alert(Model):
    """Who is told when a measurement passes a bound."""

    condition: Annotated[str, AfterValidator(_alert_condition)] = Field(
        description="Metric, comparison, value: `sync_latency > 10s`, `error_rate > 5%`."
    )
    action: Literal["send_email", "send_sms", "webhook", "log"] = Field(
        "log", description="What is done."
    )
    recipients: tuple[str, ...] = Field(
        (), description="Addresses or numbers to tell.", examples=[["admin@example.com"]]
    )
    url: str | None = Field(None, description="Where a `webhook` is sent to.")
    message: str | None = Field(None, description="Text to send; unset = made from the condition.")


_MERGE_WAIT_MIN = timedelta(seconds=3)
"""A collector gives a sign of life every second: less is no silence yet."""


class Merge(Model):
    """In which order rows of different sources reach a target."""

    strategy: Literal["parallel", "by-table", "time-ordered"] = Field(
        "parallel",
        description=(
            "`parallel`: as they come; `by-table`: by commit time within each table; `time-ordered`: by "
            "commit time across all tables of a target, which then lie in one partition."
        ),
    )
    targets: Names = Field(
        (), description="The targets it is for; the others stay `parallel`. Unset = all."
    )
    max_wait: Duration = Field(
        timedelta(seconds=5),
        description="How long a source may be silent before it is down; 3s at least.",
    )
    on_down: Literal["release", "stall"] = Field(
        "release",
        description=(
            "What happens to others' rows while a source is down. `release`: they go on, and what it has to "
            "say later is marked `late`; `stall`: they wait for it, `state.waiting-rows-max` rows at most."
        ),
    )
    max_ahead_rows: PositiveInt = Field(
        100_000,
        description=(
            "`release`: rows that wait in one partition for a source that is behind; beyond that the oldest "
            "go out without it."
        ),
    )
    max_ahead_bytes: PositiveInt = Field(
        256 * 1024 * 1024, description="`release`: the same in bytes of their messages."
    )

    @model_validator(mode="after")
    def _says_how(self) -> Self:
        if self.model_fields_set and "strategy" not in self.model_fields_set:
            raise at(
                "",
                "strategy: missing: without it nothing is merged, such as {strategy: time-ordered}",
            )
        return self

    @model_validator(mode="after")
    def _waits_longer_than_a_sign_of_life_takes(self) -> Self:
        if self.max_wait < _MERGE_WAIT_MIN:
            raise at("max-wait", "must be 3s or more: a source gives a sign of life every second")
        return self
