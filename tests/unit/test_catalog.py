"""The source's catalog, from rows as information_schema gives them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gravity.catalog import CatalogTable, read_catalog
from gravity.errors import FatalError, TransientError

ID = ("d", "t", "id", "int", "int", None, 10, 0, None, "NO", None, None)
MOOD = ("d", "t", "mood", "enum", "enum('?','a','?')", 1, None, None, None, "NO", "utf8mb4", "utf8mb4_bin")  # fmt: skip


def catalog(*keys: str) -> dict[tuple[str, str], CatalogTable]:
    def query(sql: str) -> Sequence[Sequence[object]]:
        if "STATISTICS" in sql:
            return [("d", "t", "PRIMARY", key, None, "") for key in keys]
        return [ID, MOOD]

    return read_catalog(query, lambda *_: True, repr)


def test_labels_that_the_catalog_may_have_lost_make_a_column_of_text() -> None:
    column = catalog("id")["d", "t"].schema.columns[1]
    assert (column.type, column.charset) == ("varchar(1)", "utf8mb4")


def test_in_a_key_such_labels_are_refused_by_name() -> None:
    with pytest.raises(FatalError, match=r"key column mood .*not known \[table d\.t\]"):
        catalog("id", "mood")


def answers(*readings: tuple[Sequence[Sequence[object]], Sequence[Sequence[object]]]) -> list[str]:
    """The key of d.t by these columns and keys, one reading after the other; `gone` where it is not there."""
    left = [answer for reading in readings for answer in reading]
    found = read_catalog(lambda _: left.pop(0), lambda *_: True, repr)
    assert not left
    return list(found["d", "t"].schema.key_names) if found else ["gone"]


NAME = ("d", "t", "name", "varchar", "varchar(9)", 9, None, None, None, "NO", "utf8mb4", "utf8mb4_bin")  # fmt: skip
BY_ID = ("d", "t", "PRIMARY", "id", None, "")
BY_NAME = ("d", "t", "PRIMARY", "name", None, "")


def test_a_table_dropped_between_its_columns_and_its_key_is_not_one_without_a_key() -> None:
    assert answers(([ID], []), ([], [])) == ["gone"]


def test_a_key_of_columns_that_were_not_there_yet_is_read_again_with_them() -> None:
    assert answers(([ID], [BY_NAME]), ([ID, NAME], [BY_NAME])) == ["name"]


def test_a_table_without_a_key_is_believed_when_it_is_so_twice() -> None:
    assert answers(([ID], []), ([ID], [])) == []
    assert answers(([ID], []), ([ID, NAME], []), ([ID, NAME], [])) == []


def test_what_is_another_with_every_reading_is_given_up_for_now() -> None:
    readings = [([ID], []), ([NAME], [])] * 5
    with pytest.raises(TransientError, match=r"another each of the 10 times .*\[d\.t\]"):
        answers(*readings)


def test_where_every_table_has_its_key_the_catalog_is_read_once() -> None:
    assert answers(([ID], [BY_ID])) == ["id"]
