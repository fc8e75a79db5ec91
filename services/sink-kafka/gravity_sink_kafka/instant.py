"""Dates and times, as the server prints them, as numbers. Pure.

A day that does not exist (0000-00-00, 2024-02-31, any in the year 0) has no number.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

SECOND_US: Final = 1_000_000
_DAY_US: Final = 86_400 * SECOND_US
_FIRST_DAY: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - a clock on a wall
_DAY_LENGTH = len("1970-01-01")
_FRACTION_AT = len("1970-01-01 00:00:00.")


@lru_cache(maxsize=65536)
def day_number(text: str) -> int | None:
    """Days from 1970-01-01 to the day `YYYY-MM-DD`; None if there is no such day."""
    try:
        return date.fromisoformat(text).toordinal() - _FIRST_DAY
    except ValueError:
        return None


def wall_us(text: str) -> int | None:
    """Microseconds from 1970-01-01 00:00:00 to a DATE, DATETIME or TIMESTAMP, all on one clock."""
    day = day_number(text[:_DAY_LENGTH])
    if day is None:
        return None
    if len(text) == _DAY_LENGTH:
        return day * _DAY_US
    seconds = int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    return day * _DAY_US + seconds * SECOND_US + int(text[_FRACTION_AT:].ljust(6, "0"))


def instant_us(text: str, zone: tzinfo) -> int | None:
    """Microseconds since 1970 UTC of a DATE or DATETIME read from a clock in `zone`.

    Of an hour that the clock showed twice the first is meant; one that it left out counts on from
    before the gap.
    """
    wall = wall_us(text)
    if wall is None or zone is UTC:
        return wall
    return wall - _offset_us(wall // SECOND_US, zone)


@lru_cache(maxsize=65536)
def _offset_us(wall_s: int, zone: tzinfo) -> int:
    offset = (_EPOCH + timedelta(seconds=wall_s)).replace(tzinfo=zone).utcoffset()
    assert offset is not None
    return offset // timedelta(microseconds=1)


def time_us(text: str) -> int:
    """Microseconds of a TIME, which may be negative and longer than a day."""
    hours, minutes, seconds = text.lstrip("-").split(":")
    whole, _, fraction = seconds.partition(".")
    total = (int(hours) * 60 + int(minutes)) * 60 + int(whole)
    us = total * SECOND_US + int(fraction.ljust(6, "0"))
    return -us if text.startswith("-") else us
