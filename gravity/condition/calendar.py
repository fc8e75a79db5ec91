"""MySQL's calendar over dates and times as texts: parts, days apart, shifting by intervals.

A function gives None (NULL) for a date that does not exist, such as `0000-00-00`, unless it only takes
a part of the text.
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Final

DAYS_BEFORE_YEAR_1: Final = 365
"""`TO_DAYS('0001-01-01') - 1`: MySQL counts from the year 0, Python from the year 1."""
_MONTHS_PER_YEAR: Final = 12
_DAYS_PER_WEEK: Final = 7


def day_of(text: str) -> date | None:
    """The day of a DATE or DATETIME cell, None if there is no such day."""
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def part_function(name: str) -> Callable[[str], int]:
    """YEAR, QUARTER, MONTH, DAY, HOUR, MINUTE or SECOND of a date or moment."""
    if name == "QUARTER":
        return lambda text: (int(text[5:7]) + 2) // 3
    start, end = {
        "YEAR": (0, 4),
        "MONTH": (5, 7),
        "DAY": (8, 10),
        "HOUR": (11, 13),
        "MINUTE": (14, 16),
        "SECOND": (17, 19),
    }[name]
    return lambda text: int(text[start:end] or 0)


def time_part_function(name: str) -> Callable[[str], int]:
    """HOUR, MINUTE or SECOND of a TIME cell; its sign does not count."""
    index = ("HOUR", "MINUTE", "SECOND").index(name)
    return lambda text: int(text.removeprefix("-").partition(".")[0].split(":")[index])


def _of_day(function: Callable[[date], int | str]) -> Callable[[str], int | str | None]:
    def apply(text: str) -> int | str | None:
        day = day_of(text)
        return None if day is None else function(day)

    return apply


def _last_day(day: date) -> str:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1]).isoformat()


DAY_FUNCTIONS: Mapping[str, Callable[[str], int | str | None]] = {
    # Sunday is 1; Python's isoweekday has Sunday at 7.
    "DAYOFWEEK": _of_day(lambda day: day.isoweekday() % _DAYS_PER_WEEK + 1),
    "WEEKDAY": _of_day(date.weekday),
    "DAYOFYEAR": _of_day(lambda day: day.timetuple().tm_yday),
    "TO_DAYS": _of_day(lambda day: day.toordinal() + DAYS_BEFORE_YEAR_1),
    "LAST_DAY": _of_day(_last_day),
}
"""Functions of a whole day."""


def days_apart(left: str, right: str) -> int | None:
    """`DATEDIFF(left, right)`: days from `right` to `left`, times of day left out."""
    later, earlier = day_of(left), day_of(right)
    return None if later is None or earlier is None else later.toordinal() - earlier.toordinal()


def shift(text: str, amount: int, unit: str, digits: int) -> str | None:
    """`text` moved by `amount` units; a moment with `digits` digits of fraction, a day if -1.

    None where the calendar ends (years 1 to 9999).
    """
    try:
        moment = datetime.fromisoformat(text)
        if unit in ("MONTH", "QUARTER", "YEAR"):
            months = amount * {"MONTH": 1, "QUARTER": 3, "YEAR": _MONTHS_PER_YEAR}[unit]
            moment = _shift_months(moment, months)
        else:
            moment += timedelta(**{f"{unit.lower()}s": amount})
    except (ValueError, OverflowError):
        return None
    if digits < 0:
        return moment.date().isoformat()
    whole = moment.isoformat(sep=" ", timespec="seconds")
    return f"{whole}.{moment.microsecond:06}"[: len(whole) + digits + 1] if digits else whole


def _shift_months(moment: datetime, months: int) -> datetime:
    """The same day of another month, or that month's last day where it has no such day."""
    year, month = divmod(
        moment.year * _MONTHS_PER_YEAR + moment.month - 1 + months, _MONTHS_PER_YEAR
    )
    if not 1 <= year <= 9999:  # noqa: PLR2004 - the calendar's own ends
        raise ValueError("the calendar ends before")
    last = calendar.monthrange(year, month + 1)[1]
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))


def round_moment(text: str, digits: int) -> str | None:
    """A moment rounded to `digits` digits of the second's fraction, halves up."""
    try:
        moment = datetime.fromisoformat(text)
        step = 10 ** (6 - digits)
        moment += timedelta(
            microseconds=(moment.microsecond + step // 2) // step * step - moment.microsecond
        )
    except (ValueError, OverflowError):
        # A zero date has no fraction to round.
        return text.partition(".")[0] + (f".{'0' * digits}" if digits else "")
    whole = moment.isoformat(sep=" ", timespec="seconds")
    return f"{whole}.{moment.microsecond:06}"[: len(whole) + digits + 1] if digits else whole
