"""Where the first reading of a source begins: what can be said, and what makes no sense."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gravity.config.source import Source
from gravity.config.start import AfterGtids, AtFile, AtTime, Earliest, Latest, parse_start

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("latest", Latest()),
        ("earliest", Earliest()),
        (f"gtid:{UUID}:1-5, {UUID}:7", AfterGtids(f"{UUID}:1-5,{UUID}:7")),
        ("gtid:0-1-5", AfterGtids("0-1-5")),
        ("file:binlog.000003:4", AtFile("binlog.000003", 4)),
        ("timestamp:1970-01-01T00:00:01.5Z", AtTime(1_500_000)),
        ("timestamp:1970-01-01T01:00:00+01:00", AtTime(0)),
    ],
)
def test_each_way_to_say_it(text: str, start: object) -> None:
    assert parse_start(text) == start


@pytest.mark.parametrize(
    "text",
    ["", "now", "latest:1", "gtid:", "file:binlog.000003", "file:binlog:4", "file:b.1:3",
     "timestamp:yesterday", "timestamp:2026-01-31T12:00:00"],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be|needs its time zone"):
        parse_start(text)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"start": "earliest"}, "say snapshot: never"),
        ({"start": "file:b.1:4", "snapshot": "never", "hosts": ("a", "b")}, "one server's"),
        ({"start": "gtid:0-1-5", "snapshot": "never"}, "no GTID set of mysql"),
        ({"start": f"gtid:{UUID}:1", "snapshot": "never", "type": "mariadb"}, "of mariadb"),
    ],
)
def test_what_makes_no_sense_together_is_refused(
    settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Source(name="s", **settings)  # type: ignore[arg-type]


def test_what_makes_sense_loads() -> None:
    assert Source(name="s").start_point == Latest()
    source = Source(name="s", type="mariadb", start="gtid:0-1-5,1-1-3", snapshot="never")
    assert source.start_point == AfterGtids("0-1-5,1-1-3")
