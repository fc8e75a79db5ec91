"""How the bytes of single cells in row events become values: dates, times, decimals, sets.

Each value is the text that the server prints for it in a session with time zone +00:00, zero and
partial dates included. Lookup tables stand in for formatting wherever the range is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final

_EPOCH: Final = date(1970, 1, 1)
_CACHE_ENTRIES_MAX: Final = 100_000

HOURS, MINUTES, MONTHS = 24, 60, 13

DAY_HOUR: Final[Mapping[int, str]] = {
    bits: f"{bits >> 5:02d} {bits & 31:02d}:" for bits in range(1 << 10) if bits & 31 < HOURS
}
"""`DD HH:` by the ten bits of day and hour; impossible hours are not there."""
MINUTE_SECOND: Final[Mapping[int, str]] = {
    bits: f"{bits >> 6:02d}:{bits & 63:02d}" for bits in range(60 << 6) if bits & 63 < MINUTES
}
"""`MM:SS` by the twelve bits of minute and second; impossible ones are not there."""
PADDED: Final[Mapping[int, tuple[str, ...]]] = {
    digits: tuple(f"{number:0{digits}d}" for number in range(10**digits)) for digits in range(1, 4)
}
"""Numbers as text with leading zeros: by digits, then by number."""
SECOND_OF_DAY: Final[tuple[str, ...]] = tuple(
    f"{hour:02d}:{minute:02d}:{second:02d}"
    for hour in range(HOURS)
    for minute in range(MINUTES)
    for second in range(MINUTES)
)
"""`HH:MM:SS` by seconds since midnight."""


class YearMonths(dict[int, str]):
    """`YYYY-MM-` by year * 13 + month."""

    def __missing__(self, year_month: int) -> str:
        if not 0 <= year_month < 10_000 * MONTHS:
            message = f"{year_month} is no year and month"
            raise ValueError(message)
        text = self[year_month] = f"{year_month // MONTHS:04d}-{year_month % MONTHS:02d}-"
        return text


class Days(dict[int, str]):
    """`YYYY-MM-DD ` by days since 1970."""

    def __missing__(self, day: int) -> str:
        text = self[day] = f"{(_EPOCH + timedelta(days=day)).isoformat()} "
        return text


class Dates(dict[bytes, str]):
    """`YYYY-MM-DD` by the three bytes of a DATE: 15 bits of year, 4 of month, 5 of day."""

    def __missing__(self, raw: bytes) -> str:
        bits = int.from_bytes(raw, "little")
        year, month = bits >> 9, bits >> 5 & 15
        if len(raw) != 3 or year > 9999 or month >= MONTHS:  # noqa: PLR2004 - bytes of a DATE, its last year
            message = f"{raw.hex()} is no date"
            raise ValueError(message)
        if len(self) >= _CACHE_ENTRIES_MAX:
            self.clear()
        text = self[raw] = f"{year:04d}-{month:02d}-{bits & 31:02d}"
        return text


YEAR_MONTH: Final = YearMonths()
DAY: Final = Days()
DATE: Final = Dates()


class SetLabels(dict[int, str]):
    """The comma-joined labels of a SET by its bits."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__()
        self._labels = labels

    def __missing__(self, bits: int) -> str:
        if bits >> len(self._labels):
            message = f"bits {bits:#x} of a set of {len(self._labels)} labels"
            raise ValueError(message)
        if len(self) >= _CACHE_ENTRIES_MAX:
            self.clear()
        text = self[bits] = ",".join(label for i, label in enumerate(self._labels) if bits >> i & 1)
        return text


def fraction_bytes(digits: int) -> int:
    """How many bytes the fraction of a second takes."""
    return (digits + 1) // 2


def time_text(raw: bytes, digits: int) -> str:
    """`[-]HH:MM:SS[.digits]` of a TIME in the format of MySQL 5.6 and later."""
    size = fraction_bytes(digits)
    bits = int.from_bytes(raw) - (1 << (8 * len(raw) - 1))
    sign = ""
    if bits < 0:
        sign, bits = "-", -bits
    whole, fraction = bits >> 8 * size, bits & ((1 << 8 * size) - 1)
    text = f"{sign}{whole >> 12:02d}:{MINUTE_SECOND[whole & 0xFFF]}"
    if not digits:
        return text
    return f"{text}.{fraction // 10 if digits % 2 else fraction:0{digits}d}"


def packed_datetime_text(packed: int) -> str:
    """`YYYY-MM-DD HH:MM:SS.ffffff` of the 64-bit form that JSON documents hold."""
    whole = packed >> 24
    hours = whole & 0x1FFFF
    text = f"{YEAR_MONTH[whole >> 22]}{whole >> 17 & 31:02d}"
    return (
        f"{text} {hours >> 12:02d}:{hours >> 6 & 63:02d}:{hours & 63:02d}.{packed & 0xFFFFFF:06d}"
    )


def packed_time_text(packed: int) -> str:
    """`[-]HH:MM:SS.ffffff` of the 64-bit form that JSON documents hold."""
    sign = "-" if packed < 0 else ""
    packed = abs(packed)
    whole = packed >> 24
    return f"{sign}{whole >> 12 & 0x3FF:02d}:{whole >> 6 & 63:02d}:{whole & 63:02d}.{packed & 0xFFFFFF:06d}"


_DIGITS_IN_GROUP: Final = 9
_BYTES_OF_DIGITS: Final = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)


def decimal_groups(
    precision: int, scale: int
) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """How DECIMAL(precision, scale) is stored: (digits, bytes) of the groups before and after the point."""
    whole, fraction = precision - scale, scale
    first, last = whole % _DIGITS_IN_GROUP, fraction % _DIGITS_IN_GROUP
    before = [(first, _BYTES_OF_DIGITS[first])] if first else []
    before += [(_DIGITS_IN_GROUP, 4)] * (whole // _DIGITS_IN_GROUP)
    after = [(_DIGITS_IN_GROUP, 4)] * (fraction // _DIGITS_IN_GROUP)
    after += [(last, _BYTES_OF_DIGITS[last])] if last else []
    return tuple(before), tuple(after)


def decimal_bytes(precision: int, scale: int) -> int:
    """How many bytes a DECIMAL(precision, scale) takes."""
    before, after = decimal_groups(precision, scale)
    return sum(size for _, size in before + after)


def decimal_text(raw: bytes, precision: int, scale: int) -> str:
    """A DECIMAL as MySQL prints it. Row events use generated code instead; this serves JSON documents."""
    before, after = decimal_groups(precision, scale)
    bits, top = int.from_bytes(raw), 1 << (8 * len(raw) - 1)
    sign = "" if bits & top else "-"
    bits ^= top if bits & top else top - 1
    left = 8 * len(raw)
    texts: list[str] = []
    for digits, size in before + after:
        left -= 8 * size
        texts.append(f"{bits >> left & ((1 << 8 * size) - 1):0{digits}d}")
    whole = "".join(texts[: len(before)]).lstrip("0") or "0"
    fraction = "".join(texts[len(before) :])
    return f"{sign}{whole}.{fraction}" if scale else f"{sign}{whole}"
