"""Conflicts and dead letters as an operator sees them: one entry each, the newest record of it."""

from __future__ import annotations

from typing import Any

import pytest

from gravity.batch import INSERT, ChangeBatch, Column, TableSchema, Transaction
from gravity.codec import encode_batch
from gravity.errors import FatalError
from gravity.record_log import conflicts, dead_letters, letter_name, require, row_of_letter


def conflict(state: str, hold: str = "") -> dict[str, Any]:
    return {"state": state, "hold": hold, "target": "t"}


def letter(offset: int, state: str = "open", value: bytes = b"") -> dict[str, Any]:
    return {"topic": "target.t", "partition": 1, "offset": offset, "row": 2, "state": state,
            "target": "t", "table": "s.users", "value": value}  # fmt: skip


def test_a_hold_is_one_entry_and_ends() -> None:
    told = [
        conflict("open", "h1"),
        conflict("met"),
        conflict("open", "h2"),
        conflict("cleared", "h1"),
    ]
    entries = conflicts(enumerate(told))
    assert list(entries) == ["met.1", "h2", "h1"]
    assert [entry.name for entry in entries.values() if entry.open] == ["h2"]
    assert entries["h2"].fits({"target": "t"})
    assert not entries["h2"].fits({"target": "u"})


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("users", True),
        ("s.users", True),
        ("s.*", True),
        ("'s.users'", False),
        ("user", False),
        ("t.users", False),
        ("s", False),
    ],
)
def test_a_table_is_meant_by_its_name_alone_or_with_its_database(
    pattern: str, *, means: bool
) -> None:
    (entry,) = dead_letters(enumerate([letter(5)])).values()
    assert entry.fits({"target": "t", "table": pattern}) is means
    assert not entry.fits({"target": "u", "table": pattern})


def test_what_an_operator_made_of_a_letter_stands_though_it_be_written_again() -> None:
    told = [letter(5), letter(6), letter(5, "discarded"), letter(5)]
    entries = dead_letters(enumerate(told))
    assert [(name, entry.open) for name, entry in entries.items()] == [
        ("target.t/1/5/2", False),
        ("target.t/1/6/2", True),
    ]
    assert letter_name({**letter(5), "row": -1}) == "target.t/1/5"


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(FatalError, match="no conflict is called h9"):
        require({}, "h9", "conflict")


def test_a_letter_names_the_row_that_it_holds() -> None:
    schema = TableSchema("s", "users", (Column("id", "int"), Column("raw", "binary(2)")), (1, 0))
    batch = ChangeBatch("a", 1, schema, [Transaction("", 1, 4, 5, 5)], bytes([INSERT]), [0], [0],
                        [[7], [b"\x00\x01"]])  # fmt: skip
    row = row_of_letter(letter(5, value=encode_batch(batch)))
    assert row is not None
    assert (row.key, row.key_columns) == ('[{"b":"AAE="},7]', ("raw", "id"))
    assert row_of_letter(letter(5, value=b"junk")) is None
