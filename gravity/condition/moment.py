"""Dates and times as texts whose order is the order in time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

_MOMENT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?)?"
)
_TIME = re.compile(r"(-?)(\d{1,3}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6}))?)?")
_HOURS, _SIXTIETHS, _TIME_HOURS = 24, 60, 839


@dataclass(frozen=True, slots=True)
class Moment:
    """A day or a moment as written in a condition."""

    day: str
    """`YYYY-MM-DD`."""
    clock: str
    """`HH:MM:SS`."""
    fraction: str
    """Digits of the second's fraction without zeros at the end."""
    is_day: bool
    """No time of day was written."""

    def text(self, digits: int) -> str:
        """`YYYY-MM-DD HH:MM:SS` with `digits` digits of fraction, at least those it has."""
        point = "." if digits else ""
        return f"{self.day} {self.clock}{point}{self.fraction.ljust(digits, '0')}"


def parse_moment(text: str) -> Moment | None:
    """The day or moment that `text` says, None if it says none (or none that exists)."""
    match = _MOMENT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction = match.groups()
    numbers = (int(year), int(month), int(day))
    if numbers != (0, 0, 0):
        try:
            date(*numbers)
        except ValueError:
            return None
    clock = (int(hour or 0), int(minute or 0), int(second or 0))
    if clock[0] >= _HOURS or clock[1] >= _SIXTIETHS or clock[2] >= _SIXTIETHS:
        return None
    return Moment(
        "{:04}-{:02}-{:02}".format(*numbers),
        "{:02}:{:02}:{:02}".format(*clock),
        (fraction or "").rstrip("0"),
        is_day=hour is None,
    )


def pad_day(text: str, digits: int) -> str:
    """A DATE cell as the moment at which the day begins."""
    return f"{text} 00:00:00.{'0' * digits}" if digits else f"{text} 00:00:00"


def pad_moment(text: str, digits: int) -> str:
    """A DATETIME cell with `digits` digits of fraction, which must be at least those it has."""
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction.ljust(digits, '0')}" if digits else whole


def time_to_us(text: str) -> int | None:
    """A TIME (`-838:59:59.000000`) in microseconds, None if `text` says none."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    sign, hours, minutes, seconds, fraction = match.groups()
    if int(hours) >= _TIME_HOURS or int(minutes) >= _SIXTIETHS or int(seconds or 0) >= _SIXTIETHS:
        return None
    total = (int(hours) * 60 + int(minutes)) * 60 + int(seconds or 0)
    microseconds = total * 1_000_000 + int((fraction or "").ljust(6, "0"))
    return -microseconds if sign else microseconds
