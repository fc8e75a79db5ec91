"""Where reading begins in a source's binlog, the first time it is read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

_GTIDS = {
    "mysql": re.compile(
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?::[a-z_][a-z0-9_]*)?(?::\d+(?:-\d+)?)+",
        re.IGNORECASE,
    ),
    "mariadb": re.compile(r"\d+-\d+-\d+"),
}


@dataclass(frozen=True, slots=True)
class Latest:
    """Changes from now on."""


@dataclass(frozen=True, slots=True)
class Earliest:
    """From the oldest binlog that the server has."""


@dataclass(frozen=True, slots=True)
class AfterGtids:
    """What comes after these transactions, as the server prints them."""

    gtids: str


@dataclass(frozen=True, slots=True)
class AtFile:
    """From a byte of a binlog file on, where no transaction is cut."""

    file_name: str
    offset: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """From the first transaction in the binlog on that was committed at this time or later."""

    time_us: int


StartPoint = Latest | Earliest | AfterGtids | AtFile | AtTime


def parse_start(text: str) -> StartPoint:
    """`latest`, `earliest`, `gtid:SET`, `file:NAME:OFFSET` or `timestamp:ISO`. Raises ValueError."""
    kind, _, rest = text.strip().partition(":")
    rest = rest.strip()
    match kind, bool(rest):
        case "latest", False:
            return Latest()
        case "earliest", False:
            return Earliest()
        case "gtid", True:
            return AfterGtids(re.sub(r"\s", "", rest))
        case "file", True:
            return _at_file(rest)
        case "timestamp", True:
            return _at_time(rest)
    raise ValueError(
        "must be latest, earliest, gtid:SET, file:NAME:OFFSET or timestamp:2026-01-31T12:00:00Z"
    )


def _at_file(text: str) -> AtFile:
    name, _, offset = text.rpartition(":")
    if not re.fullmatch(r".+\.\d+", name) or not offset.isdecimal() or int(offset) < 4:  # noqa: PLR2004 - the magic number
        raise ValueError("must be file:NAME:OFFSET, such as file:binlog.000003:4")
    return AtFile(name, int(offset))


def _at_time(text: str) -> AtTime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be an ISO time, such as timestamp:2026-01-31T12:00:00Z") from None
    if time.tzinfo is None:
        raise ValueError("needs its time zone: end it with Z, or +01:00")
    seconds = time.astimezone(UTC) - datetime.fromtimestamp(0, UTC)
    return AtTime(
        seconds.days * 86_400_000_000 + seconds.seconds * 1_000_000 + seconds.microseconds
    )


def gtids_problem(gtids: str, flavor: Literal["mysql", "mariadb"]) -> str:
    """What is wrong with a set for a server of that kind; empty when nothing is."""
    wrong = [item for item in gtids.split(",") if not _GTIDS[flavor].fullmatch(item)]
    example = "uuid:1-5,uuid:1-3" if flavor == "mysql" else "0-1-5,1-1-3"
    return f"{wrong[0]!r} is no GTID set of {flavor}, such as {example}" if wrong else ""
